//! Certificates that are taken back, whose authority is not trusted any more, or whose time is over: nobody gets in with them,
//! and who is in must go.

use crate::connect;
use crate::support::*;
use rcgen::SerialNumber;

fn device(certificates: &Certificates, name: &str, serial: u64) -> Identity {
    certificates.issue_with(name, |params| params.serial_number = Some(SerialNumber::from(serial)))
}

fn enter(broker: &Broker, certificates: &Certificates, identity: &Identity, version: Version, id: &str) -> Client {
    let (client, answer) = connect(broker, certificates, Some(identity), hello(version, id)).expect("an answer");
    assert_eq!(answer.reason, ReasonCode::Success);
    client
}

fn ended(broker: &Broker, reason: &str) -> f64 {
    metric(broker, "nervewire_tls_disconnects_total", &[("reason", reason)])
}

fn failed(broker: &Broker, reason: &str) -> f64 {
    metric(broker, "nervewire_tls_handshakes_failed_total", &[("reason", reason)])
}

#[test]
fn a_certificate_on_the_list_does_not_get_in() {
    let certificates = Certificates::new();
    let broker = certificates.setup_with_list(&[7]).start();
    let (good, bad) = (device(&certificates, "good", 6), device(&certificates, "bad", 7));
    enter(&broker, &certificates, &good, Version::V5, "good");
    assert!(connect(&broker, &certificates, Some(&bad), hello(Version::V5, "bad")).is_none());
    wait_for("the count", || {
        (failed(&broker, "certificate_revoked") >= 1.0).then_some(())
    });
}

/// DISCONNECT 0x87 for MQTT 5.0, the end for 3.1.1; everybody else stays, and is not disturbed.
#[test]
fn a_reload_drops_connections_whose_certificate_is_revoked_now() {
    let certificates = Certificates::new();
    for shards in SHARD_COUNTS {
        let broker = certificates.setup_with_list(&[]).shards(shards).start();
        let mut stays: Vec<Client> = (0..20)
            .map(|n| {
                let identity = device(&certificates, &format!("good-{n}"), 100 + n);
                enter(&broker, &certificates, &identity, Version::V5, &format!("good-{n}"))
            })
            .collect();
        let mut v5 = enter(&broker, &certificates, &device(&certificates, "a", 7), Version::V5, "a");
        let mut v311 = enter(
            &broker,
            &certificates,
            &device(&certificates, "b", 8),
            Version::V311,
            "b",
        );
        broker.replace_file("ca.crl", certificates.revokes(&[7, 8], 3_600));
        broker.reloaded();
        v5.expect_disconnect(0x87);
        v5.expect_end();
        v311.expect_end();
        for client in &mut stays {
            client.publish("t", "x", QoS::AtLeastOnce);
        }
        assert_eq!(ended(&broker, "revoked"), 2.0);
        assert_eq!(ended(&broker, "untrusted"), 0.0);
    }
}

/// Not only its own certificate counts: its authority's does, too.
#[test]
fn the_whole_chain_is_checked() {
    let root = Certificates::new();
    let intermediate = root.intermediate("Plant authority", 50);
    let server = root.issue("broker");
    let broker = Setup::new()
        .file("ca.pem", format!("{}{}", root.authority(), intermediate.authority()))
        .file("root.crl", root.revokes(&[], 3_600))
        .file("plant.crl", intermediate.revocation_list(&[7], 3_600).der())
        .file("server.pem", server.certificate)
        .file("server.key", server.key)
        .listener(
            "tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", client_cert = \"required\", \
             identity = \"cn\", crl = [\"root.crl\", \"plant.crl\"] }",
        )
        .start();
    let (good, bad) = (device(&intermediate, "good", 6), device(&intermediate, "bad", 7));
    let mut client = enter(&broker, &root, &good, Version::V5, "good");
    assert!(connect(&broker, &root, Some(&bad), hello(Version::V5, "bad")).is_none());
    // The root takes back the authority, and with it all of its certificates.
    broker.replace_file("root.crl", root.revokes(&[50], 3_600));
    broker.reloaded();
    client.expect_disconnect(0x87);
    assert!(connect(&broker, &root, Some(&good), hello(Version::V5, "good")).is_none());
}

#[test]
fn who_was_let_in_by_an_authority_that_is_gone_must_go() {
    let (old, new) = (Certificates::named("Old"), Certificates::named("New"));
    let broker = old.setup("required").start();
    broker.replace_file("ca.pem", format!("{}{}", old.authority(), new.authority()));
    broker.reloaded();
    let mut of_old = enter(&broker, &old, &old.issue("a"), Version::V5, "a");
    let mut of_new = enter(&broker, &old, &new.issue("b"), Version::V5, "b");
    broker.replace_file("ca.pem", new.authority());
    broker.reloaded();
    of_old.expect_disconnect(0x87);
    of_new.publish("t", "x", QoS::AtLeastOnce);
    assert_eq!(ended(&broker, "untrusted"), 1.0);
}

/// Until the end of the second that it names, RFC 5280 section 4.1.2.5.
#[test]
fn a_connection_ends_with_its_certificate() {
    let certificates = Certificates::new();
    let broker = certificates.setup("required").start();
    let soon = certificates.issue_with("a", |params| params.not_after = moment(4).into());
    let mut client = enter(&broker, &certificates, &soon, Version::V5, "a");
    let mut other = enter(&broker, &certificates, &certificates.issue("b"), Version::V311, "b");
    client.expect_disconnect(0x87);
    assert_eq!(ended(&broker, "expired"), 1.0);
    assert!(connect(&broker, &certificates, Some(&soon), hello(Version::V5, "a")).is_none());
    other.publish("t", "x", QoS::AtLeastOnce);
}

/// Nobody knows what was revoked since: new connections are refused, those that are there stay.
#[test]
fn a_list_that_gets_too_old_lets_nobody_in() {
    let certificates = Certificates::new();
    let broker = certificates
        .setup_with_list(&[])
        .file("ca.crl", certificates.revokes(&[], 6))
        .start();
    broker.logs("the revocation list in");
    let device = certificates.issue("d");
    let mut client = enter(&broker, &certificates, &device, Version::V5, "a");
    wait_for("the end of the list", || {
        connect(&broker, &certificates, Some(&device), hello(Version::V5, "b"))
            .is_none()
            .then_some(())
    });
    assert!(failed(&broker, "revocation_unknown") >= 1.0);
    client.publish("t", "x", QoS::AtLeastOnce);
    broker.replace_file("ca.crl", certificates.revokes(&[], 3_600));
    broker.reloaded();
    client.publish("t", "x", QoS::AtLeastOnce);
    enter(&broker, &certificates, &device, Version::V5, "b");
}

/// An intermediate authority that only the client knows has no list: whether its certificates are good is unknown.
#[test]
fn who_is_on_no_list_because_there_is_none_is_refused() {
    let root = Certificates::new();
    let intermediate = root.intermediate("Elsewhere", 50);
    let mut device = device(&intermediate, "d", 7);
    device.certificate.push_str(&intermediate.authority());
    let broker = root.setup_with_list(&[]).start();
    assert!(connect(&broker, &root, Some(&device), hello(Version::V5, "d")).is_none());
    wait_for("the count", || {
        (failed(&broker, "revocation_unknown") >= 1.0).then_some(())
    });
    let broker = root.setup("required").start();
    enter(&broker, &root, &device, Version::V5, "d");
}

/// A client of this authority that is gone, whose will has still to come.
fn leave_a_will(broker: &Broker, certificates: &Certificates, identity: &Identity, id: &str, delay_s: u32) {
    let delayed = Will {
        properties: props(|p| p.will_delay_interval = Some(delay_s)),
        ..will("wills", id, QoS::AtLeastOnce)
    };
    let with_will = Connect {
        will: Some(Box::new(delayed)),
        ..durable(Version::V5, id)
    };
    drop(connect(broker, certificates, Some(identity), with_will).expect("an answer"));
    wait_for("it is gone", || {
        let client = get(broker, &format!("/v1/clients/{id}"));
        (client.status == 200 && client.json()["connected"] == false).then_some(())
    });
}

/// Who is connected is judged by its certificate, who is gone by its number and its authority's name.
#[test]
fn what_is_left_of_a_client_is_judged_by_its_certificate() {
    let (old, new) = (Certificates::named("Old"), Certificates::named("New"));
    let both = |serials: &[u64]| format!("{}{}", old.revokes(&[], 3_600), new.revokes(serials, 3_600));
    let broker = old
        .setup_with_list(&[])
        .file("ca.pem", format!("{}{}", old.authority(), new.authority()))
        .file("ca.crl", both(&[]))
        .start();
    let (of_old, revoked, good) = (device(&old, "a", 7), device(&new, "b", 7), device(&new, "c", 8));
    let mut subscriber = enter(&broker, &old, &good, Version::V5, "subscriber");
    subscriber.subscribe("wills", QoS::AtLeastOnce);
    let denied = || {
        metric(
            &broker,
            "nervewire_authorization_denied_total",
            &[("action", "publish")],
        )
    };
    leave_a_will(&broker, &old, &of_old, "not-trusted", 3);
    leave_a_will(&broker, &old, &revoked, "revoked", 3);
    leave_a_will(&broker, &old, &good, "trusted", 3);
    broker.replace_file("ca.pem", new.authority());
    broker.replace_file("ca.crl", new.revokes(&[7], 3_600));
    broker.reloaded();
    subscriber.expect_payload("trusted");
    wait_for("the other wills", || (denied() == 2.0).then_some(()));
    subscriber.publish("wills", "end", QoS::AtLeastOnce);
    subscriber.expect_payload("end");
    // Nor does anybody get what is queued for them.
    for identity in [&of_old, &revoked] {
        let back = durable(Version::V5, "revoked");
        assert!(connect(&broker, &old, Some(identity), back).is_none());
    }
}
