//! Queues of offline and slow sessions and their bounds.

use super::scene::{ack, client, v5};
use super::{Broker, C, each_version, each_with};
use crate::hook::Quotas;
use crate::limits::QueuePolicy;
use crate::store::Durability;
use nervewire_codec::{Packet, ReasonCode, Version};

/// A session "s" that is away, subscribed to `t`, and a publisher.
fn away(b: &mut Broker, version: Version) -> C {
    let s = b.connect(client(version, "s").lasting());
    b.subscribe(s, "t", 1);
    b.lose(s);
    b.connect(client(version, "pub"))
}

fn back(b: &mut Broker) -> Vec<String> {
    let s = b.connect(v5("s").lasting());
    let got = b.payloads(s);
    assert_eq!((b.total(|c| c.queued_messages), b.total(|c| c.queued_bytes)), (0, 0));
    got
}

#[test]
fn messages_wait_for_a_session_that_is_away() {
    each_version(|b, version| {
        let p = away(b, version);
        for n in ["1", "2", "3"] {
            b.publish(p, "t", 2, n);
        }
        assert_eq!(b.total(|c| c.queued_messages), 3);
        assert_eq!(back(b), ["1", "2", "3"]);
    });
}

#[test]
fn qos_0_does_not_wait() {
    each_version(|b, version| {
        let p = away(b, version);
        b.publish(p, "t", 0, "x");
        assert_eq!(b.total(|c| c.dropped.offline_qos0), 1);
        assert!(back(b).is_empty());
    });
}

fn check(queue_policy: QueuePolicy, config: impl Fn(&mut crate::limits::ShardConfig), expected: [&str; 2]) {
    let bounded = |c: &mut crate::limits::ShardConfig| {
        c.queue_policy = queue_policy;
        config(c);
    };
    each_with(bounded, |b| {
        let p = away(b, Version::V5);
        for n in ["1", "2", "3", "4"] {
            assert_eq!(b.publish(p, "t", 1, n), Some(ReasonCode::Success));
        }
        let dropped = b.total(|c| c.dropped.queue_messages + c.dropped.queue_bytes + c.dropped.memory_bytes);
        assert_eq!(dropped, 2);
        assert_eq!(back(b), expected);
    });
}

#[test]
fn a_full_queue_gives_way_as_configured() {
    let two_messages = 2 * (1 + 1 + 96);
    for (policy, expected) in [
        (QueuePolicy::DropOldest, ["3", "4"]),
        (QueuePolicy::RefuseNew, ["1", "2"]),
    ] {
        check(policy, |c| c.queue_messages = 2, expected);
        check(policy, |c| c.queue_bytes = two_messages, expected);
        let memory = |c: &mut crate::limits::ShardConfig| {
            c.durability = Durability::Memory; // What is stored waits on disk.
            c.memory_bytes = two_messages;
        };
        check(policy, memory, expected);
    }
}

#[test]
fn each_bound_has_its_counter() {
    type Configure = fn(&mut crate::limits::ShardConfig);
    type Pick = fn(&crate::counters::Dropped) -> u64;
    let rows: [(Configure, Pick); 3] = [
        (|c| c.queue_messages = 1, |d| d.queue_messages),
        (|c| c.queue_bytes = 100, |d| d.queue_bytes),
        (
            |c| (c.memory_bytes, c.durability) = (100, Durability::Memory),
            |d| d.memory_bytes,
        ),
    ];
    for (config, pick) in rows {
        each_with(config, |b| {
            let p = away(b, Version::V5);
            b.publish(p, "t", 1, "1");
            b.publish(p, "t", 1, "2");
            assert_eq!(b.total(|c| pick(&c.dropped)), 1);
        });
    }
}

#[test]
fn a_message_larger_than_the_queue_is_dropped_alone() {
    each_with(
        |c| c.queue_bytes = 150,
        |b| {
            let p = away(b, Version::V5);
            b.publish(p, "t", 1, &"x".repeat(200));
            b.publish(p, "t", 1, "small");
            assert_eq!(back(b), ["small"]);
            assert_eq!(b.total(|c| c.dropped.queue_bytes), 1);
        },
    );
}

#[test]
fn a_message_that_can_never_fit_does_not_empty_the_queue() {
    each_with(
        |c| c.queue_bytes = 250,
        |b| {
            let p = away(b, Version::V5);
            b.publish(p, "t", 1, "small");
            b.publish(p, "t", 1, &"x".repeat(300));
            assert_eq!(back(b), ["small"]);
        },
    );
}

#[test]
fn quotas_of_the_identity_bound_the_queue() {
    super::each(|b| {
        for quotas in [
            Quotas {
                queue_messages: Some(1),
                ..Quotas::default()
            },
            Quotas {
                queue_bytes: Some(100),
                ..Quotas::default()
            },
        ] {
            let s = b.connect(v5("s").lasting().quotas(quotas));
            b.subscribe(s, "t", 1);
            b.lose(s);
            let p = b.connect(v5("pub"));
            b.publish(p, "t", 1, "1");
            b.publish(p, "t", 1, "2");
            assert_eq!(back(b), ["2"]);
        }
    });
}

#[test]
fn nothing_is_counted_of_sessions_that_ended() {
    super::each(|b| {
        let p = away(b, Version::V5);
        b.publish(p, "t", 1, "x");
        b.connect(v5("s"));
        assert_eq!((b.total(|c| c.queued_messages), b.total(|c| c.queued_bytes)), (0, 0));
        assert_eq!(b.total(|c| c.dropped.session_ended), 1);
    });
}

#[test]
fn messages_in_flight_are_bounded_in_bytes_too() {
    each_with(
        |c| c.queue_bytes = 1_000,
        |b| {
            let s = b.connect(v5("s"));
            b.manual(s);
            b.subscribe(s, "t", 1);
            let p = b.connect(v5("pub"));
            let body = "x".repeat(300);
            for n in 0..6 {
                b.publish(p, "t", 1, &format!("{n}{body}"));
            }
            let mut seen = Vec::new();
            for _ in 0..3 {
                let messages = b.messages(s);
                assert!(messages.len() <= 2, "two of them are more than 700 bytes");
                for message in messages {
                    seen.push(message.payload[0]);
                    let packet_id = message.packet_id.unwrap().get();
                    b.send(s, Packet::PubAck(ack(packet_id, ReasonCode::Success)));
                }
            }
            assert_eq!(seen, b"0145", "two in flight, two queued, two gave way");
            assert_eq!(b.total(|c| c.dropped.queue_bytes), 2);
        },
    );
}

#[test]
fn messages_in_flight_count_in_the_memory_of_all_queues() {
    each_with(
        |c| c.memory_bytes = 1_000,
        |b| {
            let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
            b.manual(s);
            b.subscribe(s, "t", 2);
            let body = "x".repeat(300);
            for n in 0..3 {
                b.publish(p, "t", 2, &format!("{n}{body}"));
            }
            let messages = b.messages(s);
            assert_eq!((messages.len(), b.total(|c| c.dropped.memory_bytes)), (2, 1));
            // PUBREC makes the message the client's.
            b.send(
                s,
                Packet::PubRec(ack(messages[0].packet_id.unwrap().get(), ReasonCode::Success)),
            );
            b.publish(p, "t", 2, &body);
            assert_eq!(b.messages(s).len(), 1);
            b.lose(s);
            assert_eq!(b.shards.iter().map(|shard| shard.in_flight_bytes).sum::<u64>(), 0);
        },
    );
}
