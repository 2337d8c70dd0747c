//! What let a client in runs out: the token of `builtin:jwt`, which denies everything of its client from then on. Certificates that
//! run out are in tls.rs, a connection's longest life is here, too.

use super::support::*;
use super::{VERSIONS, await_denial, await_end, denied, leave_unacknowledged, setup, until_end};
use serde_json::json;

/// Seconds that a token of these tests holds: enough to say everything that must be said before.
const LIFE_S: u64 = 6;

fn start() -> Broker {
    setup(&format!(
        "[[plugin]]\nname = \"jwt\"\ncomponent = \"builtin:jwt\"\nfiles = {{ secret = \"secret\" }}\n{PATIENT}\
         config.username_claim = \"sub\"\nconfig.leeway_s = 0\n\
         config.rules = [{{ allow = \"both\", topics = [\"${{claim.area}}/#\"] }}]\n"
    ))
    .file("secret", SECRET)
    .start()
}

/// A CONNECT of ann, who may do everything in `area/#` for so many seconds.
fn ann(connect: Connect, area: &str, seconds: u64) -> Connect {
    let token = hs256(&json!({"sub": "ann", "area": area, "exp": now_s() + seconds}));
    Connect {
        username: Some(text("ann")),
        password: Some(token.into()),
        ..connect
    }
}

/// A client whose token holds for the whole test.
fn lasting(broker: &Broker, version: Version, id: &str) -> Client {
    Client::connect(broker, ann(hello(version, id), "a", 3_600)).0
}

/// Waits until the tokens that were made before are over.
fn outlive_tokens() {
    let end = now_s() + LIFE_S;
    wait_for("the token is over", || (now_s() > end).then_some(()));
}

fn each_version(test: impl Fn(&Broker, Version) + Sync) {
    let broker = start();
    // Side by side, because they mostly wait.
    std::thread::scope(|scope| {
        for (version, _) in VERSIONS {
            let (broker, test) = (&broker, &test);
            scope.spawn(move || test(broker, version));
        }
    });
}

fn id(name: &str, version: Version) -> String {
    format!("{name}-{version:?}")
}

#[test]
fn a_live_subscription_hears_nothing_after_its_identity_has_run_out() {
    each_version(|broker, version| {
        let mut publisher = lasting(broker, version, &id("p", version));
        let mut subscriber = Client::connect(broker, ann(hello(version, &id("s", version)), "a", LIFE_S)).0;
        let topic = format!("a/{version:?}");
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        publisher.publish(&topic, "while it lasts", QoS::AtLeastOnce);
        subscriber.expect_payload("while it lasts");
        outlive_tokens();
        publisher.publish(&topic, "afterwards", QoS::AtLeastOnce);
        subscriber.expect_idle();
    });
}

/// The session stays, and belongs to whoever comes with a token that holds: it hears what that allows.
#[test]
fn a_durable_subscription_hears_nothing_after_its_identity_has_run_out() {
    each_version(|broker, version| {
        let (name, topic) = (id("s", version), format!("a/{version:?}"));
        let mut publisher = lasting(broker, version, &id("p", version));
        let connect = ann(durable(version, &name), "a", LIFE_S);
        let mut subscriber = Client::connect(broker, connect.clone()).0;
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        subscriber.disconnect();
        publisher.publish(&topic, "queued", QoS::AtLeastOnce);
        outlive_tokens();
        let (mut refused, answer) = Client::try_connect(broker, connect);
        assert_ne!(answer.reason as u8, 0);
        refused.expect_end();
        let (mut elsewhere, answer) = Client::connect(broker, ann(durable(version, &name), "b", 3_600));
        assert!(answer.session_present);
        publisher.publish(&topic, "later", QoS::AtLeastOnce);
        elsewhere.expect_idle();
    });
}

/// The subscriber's identity is what counts: that of a publisher is about its connection, and what it has said while it held
/// stays said.
#[test]
fn a_retained_message_is_not_delivered_after_the_identity_has_run_out() {
    each_version(|broker, version| {
        let topic = format!("a/{version:?}");
        let mut publisher = Client::connect(broker, ann(hello(version, &id("p", version)), "a", LIFE_S)).0;
        publisher.retain(&topic, "retained", QoS::AtLeastOnce);
        let mut subscriber = Client::connect(broker, ann(hello(version, &id("s", version)), "a", LIFE_S)).0;
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        subscriber.expect_payload("retained");
        outlive_tokens();
        let answer = subscriber.subscribe_with(vec![filter(&topic, QoS::AtLeastOnce)], None);
        assert!(codes(&answer.reasons)[0] >= 0x80);
        subscriber.expect_idle();
        let mut other = lasting(broker, version, &id("o", version));
        other.subscribe(&topic, QoS::AtLeastOnce);
        other.expect_payload("retained");
    });
}

#[test]
fn a_will_is_not_sent_after_its_identity_has_run_out() {
    each_version(|broker, version| {
        let topic = format!("a/{version:?}");
        let mut subscriber = lasting(broker, version, &id("s", version));
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        let connect = Connect {
            will: Some(Box::new(will(&topic, "will", QoS::AtLeastOnce))),
            ..ann(hello(version, &id("w", version)), "a", LIFE_S)
        };
        let dying = Client::connect(broker, connect).0;
        outlive_tokens();
        let before = denied(broker, "publish");
        drop(dying);
        await_end(broker, &id("w", version));
        assert!(denied(broker, "publish") > before);
        subscriber.publish(&topic, "end", QoS::AtLeastOnce);
        subscriber.expect_payload("end");
    });
}

#[test]
fn a_delayed_will_is_not_sent_after_its_identity_has_run_out() {
    let broker = start();
    let mut subscriber = lasting(&broker, Version::V5, "s");
    subscriber.subscribe("a/w", QoS::AtLeastOnce);
    let delayed = Will {
        properties: props(|p| p.will_delay_interval = Some(LIFE_S as u32 + 2)),
        ..will("a/w", "will", QoS::AtLeastOnce)
    };
    let connect = Connect {
        will: Some(Box::new(delayed)),
        ..ann(durable(Version::V5, "w"), "a", LIFE_S)
    };
    drop(Client::connect(&broker, connect).0);
    outlive_tokens();
    await_denial(&broker, "publish", 0.0);
    subscriber.publish("a/w", "end", QoS::AtLeastOnce);
    subscriber.expect_payload("end");
}

#[test]
fn a_message_in_flight_is_not_sent_again_after_its_identity_has_run_out() {
    each_version(|broker, version| {
        let (name, topic) = (id("s", version), format!("a/{version:?}"));
        let mut publisher = lasting(broker, version, &id("p", version));
        let connect = ann(durable(version, &name), "a", LIFE_S);
        let ids = leave_unacknowledged(broker, connect.clone(), &topic, &mut publisher);
        outlive_tokens();
        assert_ne!(Client::try_connect(broker, connect).1.reason as u8, 0);
        let mut elsewhere = Client::connect(broker, ann(durable(version, &name), "b", 3_600)).0;
        elsewhere.subscribe("b/#", QoS::AtLeastOnce);
        elsewhere.publish("b/1", "end", QoS::AtLeastOnce);
        assert_eq!(until_end(&mut elsewhere), (vec![], vec![ids[1]]));
    });
}

/// It waits for a connected client to acknowledge another one. 3.1.1 has no such bound: there the queue is that of a durable
/// session.
#[test]
fn a_queued_message_is_not_sent_after_its_identity_has_run_out() {
    let broker = start();
    let mut publisher = lasting(&broker, Version::V5, "p");
    let connect = Connect {
        properties: props(|p| p.receive_maximum = Some(1)),
        ..ann(hello(Version::V5, "s"), "a", LIFE_S)
    };
    let mut subscriber = Client::connect(&broker, connect).0;
    subscriber.subscribe("a/#", QoS::AtLeastOnce);
    publisher.publish("a/1", "first", QoS::AtLeastOnce);
    let first = subscriber.expect_publish().packet_id.expect("an identifier");
    publisher.publish("a/1", "queued", QoS::AtLeastOnce);
    outlive_tokens();
    let before = denied(&broker, "deliver");
    subscriber.send(Packet::PubAck(ack(first)));
    await_denial(&broker, "deliver", before);
    subscriber.expect_idle();
}

#[test]
fn a_shared_subscription_serves_no_member_whose_identity_has_run_out() {
    each_version(|broker, version| {
        let (group, topic) = (format!("$share/{version:?}/a/{version:?}"), format!("a/{version:?}"));
        let mut ending = Client::connect(broker, ann(hello(version, &id("e", version)), "a", LIFE_S)).0;
        let mut other = lasting(broker, version, &id("o", version));
        ending.subscribe(&group, QoS::AtLeastOnce);
        other.subscribe(&group, QoS::AtLeastOnce);
        outlive_tokens();
        let mut publisher = lasting(broker, version, &id("p", version));
        for number in 0..4 {
            publisher.publish(&topic, number.to_string(), QoS::AtLeastOnce);
        }
        let mut got: Vec<_> = (0..4).map(|_| other.receive().payload).collect();
        got.sort();
        assert_eq!(got, ["0", "1", "2", "3"]);
        ending.expect_idle();
    });
}

#[test]
fn a_takeover_needs_an_identity_that_has_not_run_out() {
    each_version(|broker, version| {
        let (name, topic) = (id("s", version), format!("a/{version:?}"));
        let old = ann(durable(version, &name), "a", LIFE_S);
        let mut first = Client::connect(broker, ann(durable(version, &name), "a", 3_600)).0;
        first.subscribe(&topic, QoS::AtLeastOnce);
        outlive_tokens();
        let (mut refused, answer) = Client::try_connect(broker, old);
        assert_ne!(answer.reason as u8, 0);
        refused.expect_end();
        // Who was there is there still, and hears what it has subscribed to.
        first.publish(&topic, "still here", QoS::AtLeastOnce);
        first.expect_payload("still here");
    });
}

/// `auth.max_connection_s`: every kind of credential runs out, whatever the authenticator knows.
#[test]
fn a_connection_that_must_be_made_again_ends_and_its_credentials_are_looked_at_again() {
    let setup = Setup::new();
    let file = setup.path("passwd").display().to_string();
    assert!(
        nervewire_with_input(&["passwd", &file, "ann"], "secret\n")
            .status
            .success()
    );
    let password = format!(
        "[[plugin]]\nname = \"password\"\ncomponent = \"builtin:password\"\nfiles = {{ users = \"passwd\" }}\n{PATIENT}"
    );
    let broker = setup
        .auth("anonymous = \"deny\"\ndefault = \"allow\"\nmax_connection_s = 3")
        .toml(&password)
        .start();
    for (version, name) in VERSIONS {
        let mut client = Client::connect(&broker, login(version, name, "ann", "secret")).0;
        broker.replace_file("passwd", "");
        broker.reloaded();
        client.expect_idle();
        client.expect_disconnect(0xA0);
        let answer = Client::try_connect(&broker, login(version, name, "ann", "secret")).1;
        assert_ne!(answer.reason as u8, 0);
        assert!(
            nervewire_with_input(&["passwd", &file, "ann"], "secret\n")
                .status
                .success()
        );
        broker.reloaded();
    }
}
