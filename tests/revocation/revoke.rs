//! A rule or an identity is taken away by a reload.

use super::support::*;
use super::{VERSIONS, acl, await_denial, await_end, denied, leave_unacknowledged, setup, until_end};

const EVERYTHING: &str = "{ allow = \"both\", topics = [\"secret/#\", \"open/#\"] }";
const PUBLISH: &str = "{ allow = \"publish\", topics = [\"secret/#\", \"open/#\"] }";
const HEAR_OPEN: &str = "{ allow = \"subscribe\", topics = [\"open/#\"] }";

fn grant(broker: &Broker) {
    broker.replace_toml(&acl(&[EVERYTHING]));
    broker.reloaded();
}

/// Nobody may hear `secret/#` any more.
fn revoke_hearing(broker: &Broker) {
    broker.replace_toml(&acl(&[PUBLISH, HEAR_OPEN]));
    broker.reloaded();
}

/// These clients may no longer publish to `secret/#`.
fn revoke_publishing(broker: &Broker, client: &str) {
    let deny = format!("{{ deny = \"publish\", client = \"{client}\", topics = [\"secret/#\"] }}");
    broker.replace_toml(&acl(&[&deny, EVERYTHING]));
    broker.reloaded();
}

fn each_version(test: impl Fn(&Broker, Version, &str)) {
    let broker = setup(&acl(&[EVERYTHING])).start();
    for (version, name) in VERSIONS {
        eprintln!("-- {name}");
        grant(&broker);
        test(&broker, version, name);
    }
}

#[test]
fn a_live_subscription_hears_nothing_after_its_rule_is_revoked() {
    each_version(|broker, version, name| {
        let mut subscriber = Client::new(broker, version, &format!("s-{name}"));
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        for qos in QOS {
            subscriber.subscribe("secret/#", qos);
            subscriber.subscribe("open/#", qos);
            publisher.publish("secret/1", "before", qos);
            subscriber.expect_payload("before");
            revoke_hearing(broker);
            publisher.publish("secret/1", "afterwards", qos);
            publisher.publish("open/1", "end", qos);
            subscriber.expect_payload("end");
            grant(broker);
            publisher.publish("secret/1", "again", qos);
            subscriber.expect_payload("again");
        }
    });
}

/// CVE-2021-34434.
#[test]
fn a_durable_subscription_hears_nothing_after_its_rule_is_revoked() {
    for (version, name) in VERSIONS {
        let broker = setup(&acl(&[EVERYTHING])).start();
        let id = format!("s-{name}");
        let mut subscriber = Client::connect(&broker, durable(version, &id)).0;
        subscriber.subscribe("secret/#", QoS::AtLeastOnce);
        subscriber.subscribe("open/#", QoS::AtLeastOnce);
        subscriber.disconnect();
        let mut publisher = Client::new(&broker, version, "p");
        publisher.publish("secret/1", "while it may", QoS::AtLeastOnce);
        revoke_hearing(&broker);
        publisher.publish("secret/1", "afterwards", QoS::AtLeastOnce);
        publisher.publish("open/1", "end", QoS::AtLeastOnce);
        let (mut subscriber, answer) = Client::connect(&broker, durable(version, &id));
        assert!(answer.session_present);
        subscriber.expect_payload("end");
        publisher.publish("secret/1", "later", QoS::AtLeastOnce);
        publisher.publish("open/1", "end", QoS::AtLeastOnce);
        subscriber.expect_payload("end");
        // The subscription is in the store, and the next process judges it before it sends anything.
        publisher.publish("open/1", "not acknowledged", QoS::AtLeastOnce);
        subscriber.expect_publish();
        drop(subscriber);
        publisher.publish("secret/1", "before the crash", QoS::AtLeastOnce);
        let (setup, _) = broker.kill9();
        let broker = setup.tables(&acl(&[PUBLISH, HEAR_OPEN])).start();
        let mut publisher = Client::new(&broker, version, "p");
        publisher.publish("secret/1", "after the crash", QoS::AtLeastOnce);
        publisher.publish("open/1", "end", QoS::AtLeastOnce);
        let (mut subscriber, answer) = Client::connect(&broker, durable(version, &id));
        assert!(answer.session_present);
        subscriber.expect_payload("not acknowledged");
        subscriber.expect_payload("end");
    }
}

/// CVE-2018-12546. It stays retained, and is delivered again when its publisher may publish it again.
#[test]
fn a_retained_message_is_not_delivered_after_its_publishers_rule_is_revoked() {
    let hears = |broker: &Broker, version| {
        let mut subscriber = Client::new(broker, version, "s");
        subscriber.subscribe("secret/#", QoS::AtLeastOnce);
        subscriber.expect_payload("retained");
    };
    let hears_nothing = |broker: &Broker, version| {
        let before = denied(broker, "deliver");
        let mut subscriber = Client::new(broker, version, "s");
        subscriber.subscribe("secret/#", QoS::AtLeastOnce);
        await_denial(broker, "deliver", before);
        subscriber.expect_idle();
    };
    for (version, _) in VERSIONS {
        let broker = setup(&acl(&[EVERYTHING])).start();
        let mut publisher = Client::new(&broker, version, "p");
        publisher.retain("secret/1", "retained", QoS::AtLeastOnce);
        publisher.disconnect();
        hears(&broker, version);
        revoke_publishing(&broker, "p");
        hears_nothing(&broker, version);
        grant(&broker);
        hears(&broker, version);
        revoke_publishing(&broker, "someone-else");
        hears(&broker, version);
        let (setup, _) = broker.kill9();
        let deny = "{ deny = \"publish\", client = \"p\", topics = [\"secret/#\"] }";
        let broker = setup.tables(&acl(&[deny, EVERYTHING])).start();
        hears_nothing(&broker, version);
    }
}

#[test]
fn a_will_is_not_sent_after_its_rule_is_revoked() {
    each_version(|broker, version, name| {
        let mut subscriber = Client::new(broker, version, &format!("s-{name}"));
        subscriber.subscribe("secret/#", QoS::AtLeastOnce);
        let connect = Connect {
            will: Some(Box::new(will("secret/w", "will", QoS::AtLeastOnce))),
            ..hello(version, &format!("w-{name}"))
        };
        let dying = Client::connect(broker, connect).0;
        revoke_publishing(broker, "w-*");
        let before = denied(broker, "publish");
        drop(dying);
        await_end(broker, &format!("w-{name}"));
        assert!(denied(broker, "publish") > before);
        Client::new(broker, version, &format!("p-{name}")).publish("secret/1", "end", QoS::AtLeastOnce);
        subscriber.expect_payload("end");
    });
}

/// Delays are of MQTT 5.0 alone.
#[test]
fn a_delayed_will_is_not_sent_after_its_rule_is_revoked() {
    let broker = setup(&acl(&[EVERYTHING])).start();
    let mut subscriber = Client::new(&broker, Version::V5, "s");
    subscriber.subscribe("secret/#", QoS::AtLeastOnce);
    let delayed = Will {
        properties: props(|p| p.will_delay_interval = Some(3)),
        ..will("secret/w", "will", QoS::AtLeastOnce)
    };
    let connect = Connect {
        will: Some(Box::new(delayed)),
        ..durable(Version::V5, "w")
    };
    drop(Client::connect(&broker, connect).0);
    wait_for("the connection to end", || {
        (get(&broker, "/v1/clients/w").json()["connected"] == false).then_some(())
    });
    revoke_publishing(&broker, "w");
    await_denial(&broker, "publish", 0.0);
    Client::new(&broker, Version::V5, "p").publish("secret/1", "end", QoS::AtLeastOnce);
    subscriber.expect_payload("end");
}

/// At QoS 2 the identifier that the client may remember is given up with PUBREL, and nothing of the message is sent.
#[test]
fn a_message_in_flight_is_not_sent_again_after_its_rule_is_revoked() {
    each_version(|broker, version, name| {
        let id = format!("s-{name}");
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        let ids = leave_unacknowledged(broker, durable(version, &id), "secret/1", &mut publisher);
        revoke_hearing(broker);
        let mut subscriber = Client::connect(broker, durable(version, &id)).0;
        subscriber.subscribe("open/#", QoS::AtLeastOnce);
        publisher.publish("open/1", "end", QoS::AtLeastOnce);
        assert_eq!(until_end(&mut subscriber), (vec![], vec![ids[1]]));
    });
}

/// Under 5.0 also one that waits for a connected client to acknowledge others.
#[test]
fn a_queued_message_is_not_sent_after_its_rule_is_revoked() {
    each_version(|broker, version, name| {
        let connect = Connect {
            properties: (version == Version::V5)
                .then(|| props(|p| p.receive_maximum = Some(1)))
                .flatten(),
            ..hello(version, &format!("s-{name}"))
        };
        let (mut subscriber, mut publisher) = match version {
            Version::V5 => (Client::connect(broker, connect).0, Client::new(broker, version, "p")),
            _ => (
                Client::connect(broker, durable(version, &format!("s-{name}"))).0,
                Client::new(broker, version, "p"),
            ),
        };
        subscriber.subscribe("secret/#", QoS::AtLeastOnce);
        subscriber.subscribe("open/#", QoS::AtLeastOnce);
        if version == Version::V5 {
            publisher.publish("open/1", "first", QoS::AtLeastOnce);
            let first = subscriber.expect_publish().packet_id.expect("an identifier");
            publisher.publish("secret/1", "queued", QoS::AtLeastOnce);
            publisher.publish("open/1", "end", QoS::AtLeastOnce);
            revoke_hearing(broker);
            subscriber.send(Packet::PubAck(ack(first)));
        } else {
            subscriber.disconnect();
            publisher.publish("secret/1", "queued", QoS::AtLeastOnce);
            publisher.publish("open/1", "end", QoS::AtLeastOnce);
            revoke_hearing(broker);
            subscriber = Client::connect(broker, durable(version, &format!("s-{name}"))).0;
        }
        subscriber.expect_payload("end");
    });
}

/// What waited for a member that may not have it any more goes to one that may, and what comes later goes there at once.
#[test]
fn a_shared_subscription_serves_no_member_whose_rule_is_revoked() {
    each_version(|broker, version, name| {
        let ids = ["bad", "good"].map(|member| format!("{member}-{name}"));
        let group = format!("$share/{name}/secret/#");
        for id in &ids {
            let mut member = Client::connect(broker, durable(version, id)).0;
            member.subscribe(&group, QoS::AtLeastOnce);
            member.disconnect();
        }
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        for number in 0..4 {
            publisher.publish("secret/1", number.to_string(), QoS::AtLeastOnce);
        }
        let deny = "{ deny = \"subscribe\", client = \"bad*\", topics = [\"secret/#\"] }";
        broker.replace_toml(&acl(&[deny, EVERYTHING]));
        broker.reloaded();
        let mut bad = Client::connect(broker, durable(version, &ids[0])).0;
        wait_for("what waited for it to go away", || {
            (get(broker, &format!("/v1/clients/{}", ids[0])).json()["queued_messages"] == 0).then_some(())
        });
        bad.expect_idle();
        publisher.publish("secret/1", "4", QoS::AtLeastOnce);
        let mut good = Client::connect(broker, durable(version, &ids[1])).0;
        let mut got: Vec<_> = (0..5).map(|_| good.receive().payload).collect();
        got.sort();
        assert_eq!(got, ["0", "1", "2", "3", "4"]);
        bad.expect_idle();
        good.expect_idle();
    });
}

/// The identity changes: another user under the same client identifier, while the first is away and while it is there.
#[test]
fn a_takeover_by_another_user_gets_nothing_of_the_session() {
    let setup = Setup::new().shards(2).broker(ON_DISK);
    let file = setup.path("passwd").display().to_string();
    for user in ["alice", "bob"] {
        let output = nervewire_with_input(&["passwd", &file, user], "secret\n");
        assert!(output.status.success(), "{output:?}");
    }
    let password = format!(
        "[[plugin]]\nname = \"password\"\ncomponent = \"builtin:password\"\nfiles = {{ users = \"passwd\" }}\n{PATIENT}"
    );
    let broker = setup
        .auth("anonymous = \"loopback\"\ndefault = \"allow\"")
        .toml(&password)
        .start();
    for (version, name) in VERSIONS {
        let user = |user: &str| Connect {
            username: Some(text(user)),
            password: Some("secret".into()),
            ..durable(version, &format!("c-{name}"))
        };
        let mut publisher = Client::new(&broker, version, "p");
        for connected in [false, true] {
            let mut alice = Client::connect(&broker, user("alice")).0;
            alice.subscribe("t", QoS::AtLeastOnce);
            publisher.publish("t", "in flight", QoS::AtLeastOnce);
            alice.expect_publish();
            if !connected {
                drop(alice);
            }
            publisher.publish("t", "queued", QoS::AtLeastOnce);
            let (mut bob, answer) = Client::connect(&broker, user("bob"));
            assert!(!answer.session_present);
            publisher.publish("t", "later", QoS::AtLeastOnce);
            bob.expect_idle();
            drop(bob);
            // His own session he may resume.
            let (bob, answer) = Client::connect(&broker, user("bob"));
            assert!(answer.session_present);
            bob.disconnect();
        }
    }
}
