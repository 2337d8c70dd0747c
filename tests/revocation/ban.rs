//! A client is banned, by an operator or by the broker itself, and the ban is lifted again.

use super::support::*;
use super::{VERSIONS, acl, leave_unacknowledged, setup};

const EVERYTHING: &str = "{ allow = \"both\", topics = [\"#\"] }";

fn ban(broker: &Broker, client: &str) {
    let output = broker.cli(&["bans", "add", "--client", client, "--reason", "test"]);
    assert!(output.status.success(), "{output:?}");
}

fn lift(broker: &Broker, client: &str) {
    let output = broker.cli(&["bans", "lift", "--client", client]);
    assert!(output.status.success(), "{output:?}");
}

/// A broker for both versions, whose clients have names of their own.
fn each_version(test: impl Fn(&Broker, Version, &str)) {
    let broker = setup(&acl(&[EVERYTHING])).start();
    for (version, name) in VERSIONS {
        eprintln!("-- {name}");
        test(&broker, version, name);
    }
}

/// A banned client's connection ends, and the next CONNECT is refused.
#[track_caller]
fn expect_banned(broker: &Broker, connect: Connect) {
    let (mut client, answer) = Client::try_connect(broker, connect);
    assert_ne!(answer.reason, ReasonCode::Success);
    client.expect_end();
}

/// Everything of a connection that was ended is done: the client is away, or its session gone.
fn await_away(broker: &Broker, client: &str) {
    wait_for("the client to be away", || {
        let answer = get(broker, &format!("/v1/clients/{client}"));
        (answer.status == 404 || answer.json()["connected"] == false).then_some(())
    });
}

#[test]
fn a_live_subscription_ends_with_a_ban() {
    each_version(|broker, version, name| {
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        let (id, topic) = (format!("s-{name}"), format!("t/{name}"));
        let mut subscriber = Client::new(broker, version, &id);
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        ban(broker, &id);
        publisher.publish(&topic, "afterwards", QoS::AtLeastOnce);
        subscriber.expect_disconnect(0x98);
        expect_banned(broker, hello(version, &id));
        lift(broker, &id);
        Client::new(broker, version, &id).expect_idle();
    });
}

/// It stays as it was, and goes on when the ban is lifted.
#[test]
fn a_durable_subscription_delivers_nothing_while_its_client_is_banned() {
    each_version(|broker, version, name| {
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        let (id, topic) = (format!("s-{name}"), format!("t/{name}"));
        let mut subscriber = Client::connect(broker, durable(version, &id)).0;
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        subscriber.disconnect();
        ban(broker, &id);
        publisher.publish(&topic, "meanwhile", QoS::AtLeastOnce);
        expect_banned(broker, durable(version, &id));
        lift(broker, &id);
        let (mut subscriber, answer) = Client::connect(broker, durable(version, &id));
        assert!(answer.session_present);
        subscriber.expect_payload("meanwhile");
    });
}

#[test]
fn a_retained_message_is_withheld_while_its_publisher_is_banned() {
    each_version(|broker, version, name| {
        let (id, topic) = (format!("p-{name}"), format!("t/{name}"));
        Client::new(broker, version, &id).retain(&topic, "retained", QoS::AtLeastOnce);
        ban(broker, &id);
        let before = super::denied(broker, "deliver");
        let mut subscriber = Client::new(broker, version, &format!("s-{name}"));
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        super::await_denial(broker, "deliver", before);
        subscriber.expect_idle();
        lift(broker, &id);
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        subscriber.expect_payload("retained");
    });
}

#[test]
fn a_banned_clients_will_is_not_sent() {
    each_version(|broker, version, name| {
        let (id, topic) = (format!("w-{name}"), format!("t/{name}"));
        let mut subscriber = Client::new(broker, version, &format!("s-{name}"));
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        let connect = Connect {
            will: Some(Box::new(will(&topic, "will", QoS::AtLeastOnce))),
            ..hello(version, &id)
        };
        let mut banned = Client::connect(broker, connect).0;
        ban(broker, &id);
        banned.expect_disconnect(0x98);
        await_away(broker, &id);
        subscriber.publish(&topic, "end", QoS::AtLeastOnce);
        subscriber.expect_payload("end");
    });
}

/// The ban comes when its client has gone already.
#[test]
fn a_banned_clients_delayed_will_is_not_sent() {
    let broker = setup(&acl(&[EVERYTHING])).start();
    let mut subscriber = Client::new(&broker, Version::V5, "s");
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let delayed = Will {
        properties: props(|p| p.will_delay_interval = Some(2)),
        ..will("t", "will", QoS::AtLeastOnce)
    };
    let connect = Connect {
        will: Some(Box::new(delayed)),
        ..durable(Version::V5, "w")
    };
    drop(Client::connect(&broker, connect).0);
    await_away(&broker, "w");
    ban(&broker, "w");
    super::await_denial(&broker, "publish", 0.0);
    subscriber.publish("t", "end", QoS::AtLeastOnce);
    subscriber.expect_payload("end");
}

#[test]
fn a_message_in_flight_is_not_sent_again_while_its_client_is_banned() {
    each_version(|broker, version, name| {
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        let (id, topic) = (format!("s-{name}"), format!("t/{name}"));
        leave_unacknowledged(broker, durable(version, &id), &topic, &mut publisher);
        ban(broker, &id);
        expect_banned(broker, durable(version, &id));
        lift(broker, &id);
        let mut subscriber = Client::connect(broker, durable(version, &id)).0;
        for _ in 0..2 {
            assert!(subscriber.expect_payload("in flight").dup);
        }
    });
}

/// What waits for a banned client stays where it is; a clean start throws it away as ever.
#[test]
fn a_queued_message_is_not_sent_while_its_client_is_banned() {
    each_version(|broker, version, name| {
        let mut publisher = Client::new(broker, version, &format!("p-{name}"));
        let (id, topic) = (format!("s-{name}"), format!("t/{name}"));
        let mut subscriber = Client::connect(broker, durable(version, &id)).0;
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        drop(subscriber);
        await_away(broker, &id);
        publisher.publish(&topic, "queued", QoS::AtLeastOnce);
        ban(broker, &id);
        expect_banned(broker, durable(version, &id));
        let waiting = get(broker, &format!("/v1/clients/{id}")).json();
        assert_eq!(waiting["queued_messages"], 1);
        lift(broker, &id);
        Client::connect(broker, durable(version, &id))
            .0
            .expect_payload("queued");
    });
}

#[test]
fn a_shared_subscription_serves_no_banned_member() {
    each_version(|broker, version, name| {
        let (bad, topic) = (format!("bad-{name}"), format!("t/{name}"));
        let group = format!("$share/{name}/{topic}");
        let mut banned = Client::new(broker, version, &bad);
        let mut good = Client::new(broker, version, &format!("good-{name}"));
        banned.subscribe(&group, QoS::AtLeastOnce);
        good.subscribe(&group, QoS::AtLeastOnce);
        ban(broker, &bad);
        banned.expect_disconnect(0x98);
        await_away(broker, &bad);
        for number in 0..4 {
            good.publish(&topic, number.to_string(), QoS::AtLeastOnce);
        }
        let mut got: Vec<_> = (0..4).map(|_| good.receive().payload).collect();
        got.sort();
        assert_eq!(got, ["0", "1", "2", "3"]);
    });
}

/// The session stays with who has it, also where it is the same identifier that was banned under another address or user.
#[test]
fn a_takeover_by_a_banned_client_does_not_happen() {
    each_version(|broker, version, name| {
        let (id, topic) = (format!("c-{name}"), format!("t/{name}"));
        let mut first = Client::connect(broker, durable(version, &id)).0;
        first.subscribe(&topic, QoS::AtLeastOnce);
        ban(broker, &id);
        first.expect_disconnect(0x98);
        for connect in [durable(version, &id), hello(version, &id)] {
            expect_banned(broker, connect);
        }
        lift(broker, &id);
        let (mut first, answer) = Client::connect(broker, durable(version, &id));
        assert!(answer.session_present, "what a banned client tried has changed nothing");
        first.publish(&topic, "x", QoS::AtLeastOnce);
        first.expect_payload("x");
    });
}
