//! What a queue's bound took before the death of the broker is counted, and stays gone after it.

use crate::support::*;

const BOUND: usize = 100;
const PUBLISHED: usize = 250;

/// The payloads that an offline session has got after its queue was over its bound and the broker was killed.
fn left_after_a_kill(policy: &str) -> Vec<String> {
    let setup = Setup::new()
        .shards(2)
        .broker("data_dir = \"data\"\ndurability = \"fsync\"")
        .toml(&format!(
            "[limits]\nqueue_messages = {BOUND}\nqueue_policy = \"{policy}\""
        ));
    let broker = setup.start();
    let (mut subscriber, _) = Client::connect(&broker, durable(Version::V5, "subscriber"));
    subscriber.subscribe("a", QoS::AtLeastOnce);
    subscriber.disconnect();
    let mut publisher = Client::new(&broker, Version::V5, "publisher");
    for number in 0..PUBLISHED {
        publisher.deliver(message("a", number.to_string(), QoS::AtLeastOnce));
    }
    let dropped = metric(
        &broker,
        "nervewire_messages_dropped_total",
        &[("reason", "queue_messages")],
    );
    assert_eq!(dropped as usize, PUBLISHED - BOUND);
    let broker = broker.kill9().0.start();
    let (mut subscriber, _) = Client::connect(&broker, durable(Version::V5, "subscriber"));
    let payloads = (0..BOUND)
        .map(|_| String::from_utf8_lossy(&subscriber.receive().payload).into_owned())
        .collect();
    subscriber.expect_idle();
    payloads
}

#[track_caller]
fn expect_numbers(payloads: &[String], from: usize) {
    let expected: Vec<String> = (from..from + BOUND).map(|number| number.to_string()).collect();
    assert_eq!(payloads, expected);
}

#[test]
fn the_oldest_that_were_dropped_do_not_come_back() {
    expect_numbers(&left_after_a_kill("drop-oldest"), PUBLISHED - BOUND);
}

#[test]
fn the_newest_that_were_refused_do_not_come_back() {
    expect_numbers(&left_after_a_kill("refuse-new"), 0);
}
