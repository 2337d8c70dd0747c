//! Bounds hold after a restart, and a full store refuses what it cannot keep, until there is room again.

use crate::support::*;
use crate::*;

/// Bytes of a message that fills a small store soon.
const LARGE_BYTES: usize = 10_000;

#[test]
fn the_oldest_makes_room_after_a_restart_too() {
    check_queue_over_restart("", 5..10);
}

#[test]
fn the_newest_is_refused_after_a_restart_too() {
    check_queue_over_restart("queue_policy = \"refuse-new\"", 0..5);
}

/// The bound of a queue holds over both lives of the broker, and what it drops is counted.
#[track_caller]
fn check_queue_over_restart(policy: &str, left: std::ops::Range<u32>) {
    each_shard_count(|setup| {
        let broker = setup.toml(&format!("[limits]\nqueue_messages = 5\n{policy}")).start();
        leave_subscribed(&broker, Version::V5, "d", "a");
        publish_numbers(&broker, 0..8);
        assert_eq!(dropped(&broker), 3);
        let broker = killed(broker);
        publish_numbers(&broker, 8..10);
        assert_eq!(dropped(&broker), 2);
        expect_numbers(&broker, left.clone());
    });
}

/// 0x97 under 5.0, no acknowledgement under 3.1.1; whoever needs no store is served; what was acknowledged is there; and when the
/// client has fetched it there is room again.
#[test]
fn a_full_store_refuses_and_goes_on_when_a_client_has_fetched_its_messages() {
    each_shard_count(|setup| {
        let broker = full(setup);
        let acknowledged = fill(&broker);
        wait_for("trouble", || {
            (metric(&broker, "nervewire_store_trouble", &[]) == 1.0).then_some(())
        });
        broker.logs("the store is full");
        refuses(&broker);
        serves_without_store(&broker);
        let broker = killed(broker);
        let mut client = resume(&broker, Version::V5, "d");
        for number in 0..acknowledged {
            assert!(
                client.receive().payload.starts_with(format!("{number} ").as_bytes()),
                "{number}"
            );
        }
        client.expect_idle();
        wait_for_room(&broker);
    });
}

/// The space of a session that has expired is given back.
#[test]
fn a_full_store_goes_on_when_a_session_has_expired() {
    each_shard_count(|setup| {
        let broker = full(setup);
        let expiry = |seconds| Connect {
            properties: props(|p| p.session_expiry_interval = Some(seconds)),
            ..durable(Version::V5, "d")
        };
        Client::connect(&broker, expiry(5)).0.disconnect();
        assert!(fill(&broker) > 10);
        wait_for_room(&broker);
    });
}

/// A broker whose store fits some ten messages, with a durable session that is away.
fn full(setup: Setup) -> Broker {
    let broker = setup
        .toml("[limits]\nstore_bytes = 1_048_576\nqueue_messages = 10_000")
        .start();
    leave_subscribed(&broker, Version::V5, "d", "a");
    broker
}

/// Publishes to the session until that is refused and stays so: how many were acknowledged.
#[track_caller]
fn fill(broker: &Broker) -> usize {
    /// A checkpoint may make some room yet.
    const REFUSALS: usize = 20;
    let mut publisher = Client::new(broker, Version::V5, "filler");
    let (mut acknowledged, mut refusals) = (0, 0);
    wait_for("the store to be full", || {
        let payload = format!("{acknowledged} {}", "x".repeat(LARGE_BYTES));
        match publisher.deliver(message("a", payload, QoS::AtLeastOnce)) {
            0 => (acknowledged, refusals) = (acknowledged + 1, 0),
            0x97 => refusals += 1,
            other => panic!("{other:#x}"),
        }
        (refusals == REFUSALS).then_some(acknowledged)
    })
}

#[track_caller]
fn refuses(broker: &Broker) {
    let mut publisher = Client::new(broker, Version::V5, "p5");
    let large = || message("a", "x".repeat(LARGE_BYTES), QoS::ExactlyOnce);
    assert_eq!(publisher.deliver(large()), 0x97, "QoS 2");
    let retained = Publish {
        retain: true,
        qos: QoS::AtLeastOnce,
        ..large()
    };
    assert_eq!(publisher.deliver(retained), 0x97, "retained");
    let mut old = Client::new(broker, Version::V311, "p3");
    old.send_publish(large());
    old.expect_end();
    let (_, answer) = Client::try_connect(broker, durable(Version::V5, "new"));
    assert_eq!(answer.reason as u8, 0x97, "5.0");
    let (_, answer) = Client::try_connect(broker, durable(Version::V311, "new"));
    // Return code 3, as the codec reads it.
    assert_eq!(answer.reason, ReasonCode::ServerUnavailable, "3.1.1");
}

#[track_caller]
fn serves_without_store(broker: &Broker) {
    let mut subscriber = Client::new(broker, Version::V5, "clean");
    subscriber.subscribe("b", QoS::ExactlyOnce);
    let mut publisher = Client::new(broker, Version::V311, "p");
    for qos in QOS {
        publisher.publish("b", "x", qos);
        assert_eq!(subscriber.expect_payload("x").qos, qos);
    }
    publisher.publish("a", "to the durable session", QoS::AtMostOnce);
    publisher.expect_idle();
}

/// Publishing to the durable session works again.
#[track_caller]
fn wait_for_room(broker: &Broker) {
    let mut publisher = Client::new(broker, Version::V5, "again");
    wait_for("room", || {
        let answer = publisher.deliver(Publish {
            retain: true,
            ..message("a", "x".repeat(LARGE_BYTES), QoS::AtLeastOnce)
        });
        (answer == 0).then_some(())
    });
    broker.logs("the store works again");
    wait_for("the end of trouble", || {
        (metric(broker, "nervewire_store_trouble", &[]) == 0.0).then_some(())
    });
}

#[track_caller]
fn publish_numbers(broker: &Broker, numbers: std::ops::Range<u32>) {
    let mut publisher = Client::new(broker, Version::V5, "p");
    for number in numbers {
        publisher.publish("a", number.to_string(), QoS::AtLeastOnce);
    }
}

#[track_caller]
fn expect_numbers(broker: &Broker, numbers: std::ops::Range<u32>) {
    let mut client = resume(broker, Version::V5, "d");
    for number in numbers {
        client.expect_payload(&number.to_string());
    }
    client.expect_idle();
}

fn dropped(broker: &Broker) -> u64 {
    metric(
        broker,
        "nervewire_messages_dropped_total",
        &[("reason", "queue_messages")],
    ) as u64
}
