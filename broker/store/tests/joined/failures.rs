//! What is not stored is never acknowledged.

use crate::bench::{Bench, C, ack, each, partition_of};
use nervewire_codec::{Packet, Version};
use nervewire_store::LogError;

const FULL: LogError = LogError::Full { most_bytes: 1 };

fn each_failure(test: impl Fn(&mut Bench, LogError)) {
    for error in [FULL, LogError::StaleOwner, LogError::Doubtful] {
        each(|b| test(b, error));
    }
}

fn subscribed(b: &mut Bench, client_id: &str, topic: &str, level: u8) -> C {
    let c = b.connect_lasting(Version::V5, client_id);
    b.subscribe(c, topic, level);
    assert_eq!(b.received(c).len(), 2);
    c
}

fn publisher(b: &mut Bench, version: Version) -> C {
    let p = b.connect_lasting(version, "pub");
    b.expect(p, &["CONNACK Success"]);
    p
}

#[test]
fn a_publisher_of_5_0_is_told_that_its_message_was_not_stored() {
    each_failure(|b, error| {
        subscribed(b, "s", "t", 1);
        let p = publisher(b, Version::V5);
        b.fail(partition_of("s"), error);
        b.publish(p, 1, 1, "t", "m");
        b.publish(p, 2, 2, "t", "m");
        b.publish(p, 1, 3, "nobody", "m");
        b.expect(
            p,
            &["PUBACK 1 QuotaExceeded", "PUBREC 2 QuotaExceeded", "PUBACK 3 Success"],
        );
    });
}

#[test]
fn a_publisher_of_3_1_1_is_not_acknowledged_but_disconnected() {
    for level in [1, 2] {
        each_failure(|b, error| {
            subscribed(b, "s", "t", 1);
            let p = publisher(b, Version::V311);
            b.fail(partition_of("s"), error);
            b.publish(p, level, 1, "t", "m");
            b.expect(p, &[]);
            assert!(!b.is_open(p));
        });
    }
}

#[test]
fn one_failed_partition_among_several_is_enough() {
    each_failure(|b, error| {
        subscribed(b, "a", "t", 1);
        subscribed(b, "b", "t", 1);
        let p = publisher(b, Version::V5);
        b.fail(partition_of("a"), error);
        b.hold();
        b.publish(p, 1, 1, "t", "m");
        b.expect(p, &[]);
        b.release_all();
        b.expect(p, &["PUBACK 1 QuotaExceeded"]);
    });
}

#[test]
fn a_qos_2_message_whose_identifier_is_not_stored_reaches_nobody_and_may_come_again() {
    each_failure(|b, error| {
        let s = subscribed(b, "s", "t", 0);
        let p = publisher(b, Version::V5);
        b.fail(partition_of("pub"), error);
        b.publish(p, 2, 1, "t", "m");
        b.expect(p, &["PUBREC 1 QuotaExceeded"]);
        b.expect(s, &[]);
        b.repair(partition_of("pub"));
        b.publish(p, 2, 1, "t", "m");
        b.expect(p, &["PUBREC 1 Success"]);
        b.expect(s, &["PUBLISH m at 0"]);
    });
}

/// Sends a packet of a durable session while its partition fails.
fn ends_unacknowledged(send: impl Fn(&mut Bench, C), expected: &[&str]) {
    each_failure(|b, error| {
        let c = subscribed(b, "s", "in", 2);
        b.publish(c, 2, 9, "out", "m");
        b.expect(c, &["PUBREC 9 Success"]);
        b.fail(partition_of("s"), error);
        send(b, c);
        b.expect(c, expected);
        assert!(!b.is_open(c));
    });
}

#[test]
fn whoever_else_waits_in_vain_is_disconnected() {
    let only = &["DISCONNECT QuotaExceeded"];
    ends_unacknowledged(|b, c| b.subscribe(c, "more", 1), only);
    ends_unacknowledged(|b, c| b.unsubscribe(c, "in"), only);
    ends_unacknowledged(|b, c| b.send(c, Packet::PubRel(ack(9))), only);
}

#[test]
fn a_qos_2_message_whose_identifier_is_not_stored_is_not_sent_until_it_is() {
    each_failure(|b, error| {
        let s = subscribed(b, "s", "t", 2);
        let p = b.connect_brief(Version::V5, "pub");
        b.fail(partition_of("s"), error);
        b.publish(p, 2, 1, "t", "m");
        b.expect(p, &["CONNACK Success", "PUBREC 1 QuotaExceeded"]);
        b.expect(s, &["DISCONNECT QuotaExceeded"]);
        b.repair(partition_of("s"));
        let s = b.connect_lasting(Version::V5, "s");
        b.hold();
        b.expect(s, &["CONNACK Success", "PUBLISH m at 2 again"]);
    });
}

#[test]
fn a_session_that_cannot_be_stored_is_not_entered() {
    each_failure(|b, error| {
        for (version, expected) in [
            (Version::V5, "CONNACK QuotaExceeded"),
            (Version::V311, "CONNACK ServerUnavailable"),
        ] {
            b.fail(partition_of("s"), error);
            let s = b.connect_lasting(version, "s");
            b.expect(s, &[expected]);
            assert!(!b.is_open(s));
            b.repair(partition_of("s"));
        }
        let s = b.connect_lasting(Version::V5, "s");
        b.expect(s, &["CONNACK Success"]);
    });
}

#[test]
fn qos_0_and_sessions_that_end_with_their_connection_are_served_on() {
    each_failure(|b, error| {
        let durable = subscribed(b, "s", "t", 0);
        b.fail(partition_of("s"), error);
        b.fail(partition_of("pub"), error);
        let p = b.connect_brief(Version::V311, "pub");
        b.publish(p, 0, 0, "t", "0");
        b.publish(p, 2, 1, "t", "2");
        b.expect(p, &["CONNACK Success", "PUBREC 1 Success"]);
        b.expect(durable, &["PUBLISH 0 at 0", "PUBLISH 2 at 0"]);
    });
}

#[test]
fn what_follows_a_failure_fails_until_the_partition_is_fenced_again() {
    each(|b| {
        subscribed(b, "s", "t", 1);
        let p = publisher(b, Version::V5);
        b.fail(partition_of("s"), FULL);
        b.publish(p, 1, 1, "t", "1");
        b.expect(p, &["PUBACK 1 QuotaExceeded"]);
        let stored = b.records(partition_of("s")).len();
        b.fail(partition_of("s"), LogError::Doubtful);
        b.publish(p, 1, 2, "t", "2");
        b.expect(p, &["PUBACK 2 QuotaExceeded"]);
        assert_eq!(b.records(partition_of("s")).len(), stored);
        b.repair(partition_of("s"));
        b.publish(p, 1, 3, "t", "3");
        b.expect(p, &["PUBACK 3 Success"]);
    });
}
