//! More retained messages than a client takes at once: they wait, and what happens meanwhile.

use super::super::MeshMessage;
use super::scene::{ack, filter, id, payloads, publish, qos, text, v5};
use super::script::{deliver_rule, policy, rule, verdict};
use super::{Broker, C, each, each_with};
use crate::hook::{AppMessage, Decision, Effect};
use crate::limits::MAX_GATHER_TOPICS;
use crate::message::{Message, MessageId};
use bytes::Bytes;
use nervewire_codec::{Packet, Publish, ReasonCode, RetainHandling, Subscribe};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Retained messages `{prefix}/0` and so on, as if shards that are not here had published them.
fn fill(b: &mut Broker, prefix: &str, count: usize, level: u8, payload: &[u8]) {
    for n in 0..count {
        let message = Arc::new(Message {
            id: id_of(prefix, n),
            accepted_at: b.now,
            app: AppMessage {
                topic: text(&format!("{prefix}/{n}")),
                payload: Bytes::copy_from_slice(payload),
                qos: qos(level),
                retain: true,
                properties: None,
            },
            expires_at: None,
            publisher: None,
            tenant: None,
            source: None,
        });
        for shard in &mut b.shards {
            let (message, confirm) = (message.clone(), None);
            shard.mesh(b.now, MeshMessage::Publish { message, confirm });
        }
    }
    b.settle();
}

/// Encodings are cached by it: no two messages share one.
fn id_of(prefix: &str, n: usize) -> MessageId {
    let prefix = prefix.bytes().fold(1, |sum, byte| sum * 31 + u64::from(byte));
    prefix << 32 | n as u64
}

fn topics(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(|m| m.topic.to_string()).collect()
}

/// Every message arrived, and none twice.
fn check_all(messages: &[Publish], prefix: &str, count: usize) {
    let seen = topics(messages);
    let expected: BTreeSet<String> = (0..count).map(|n| format!("{prefix}/{n}")).collect();
    assert_eq!(seen.len(), count);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// A client that takes one message at a time and acknowledges when the test says so.
fn slow(b: &mut Broker) -> C {
    let s = b.connect(v5("s").with(|p| p.receive_maximum = Some(1)));
    b.manual(s);
    s
}

/// Acknowledges what comes until nothing more comes; everything that came, `first` included.
fn drain(b: &mut Broker, s: C, first: Vec<Publish>) -> Vec<Publish> {
    let mut all = first.clone();
    let mut last = first;
    while let Some(packet_id) = last.last().and_then(|m| m.packet_id) {
        b.send(s, Packet::PubAck(ack(packet_id.get(), ReasonCode::Success)));
        last = b.messages(s);
        all.extend(last.iter().cloned());
    }
    all
}

/// A slow client with ten retained messages under way, and the one that it has got.
fn ten_under_way(b: &mut Broker) -> (C, Vec<Publish>) {
    fill(b, "t", 10, 1, b"old");
    let s = slow(b);
    b.subscribe(s, "t/#", 1);
    let first = b.messages(s);
    assert_eq!(first.len(), 1, "its Receive Maximum");
    (s, first)
}

/// A topic whose retained message has not been sent.
fn waiting_topic(first: &[Publish]) -> String {
    let sent = topics(first);
    (0..10)
        .map(|n| format!("t/{n}"))
        .find(|topic| !sent.contains(topic))
        .unwrap()
}

// [MQTT-3.3.1-9]
#[test]
fn more_retained_messages_than_a_queue_holds_all_arrive() {
    for level in [0, 1, 2] {
        each_with(
            |config| config.queue_messages = 100,
            |b| {
                fill(b, "t", 5_000, level, b"x");
                let s = b.connect(v5("s").with(|p| p.receive_maximum = Some(10)));
                b.subscribe(s, "t/#", level);
                let messages = b.messages(s);
                assert!(messages.iter().all(|m| m.retain && m.qos == qos(level)));
                check_all(&messages, "t", 5_000);
                assert_eq!(b.total(|c| c.dropped.queue_messages), 0);
            },
        );
    }
}

#[test]
fn a_hundred_thousand_retained_messages_arrive() {
    each(|b| {
        fill(b, "t", 100_000, 0, b"x");
        let s = b.connect(v5("s"));
        b.subscribe(s, "#", 0);
        check_all(&b.messages(s), "t", 100_000);
        assert_eq!((b.total(|c| c.queued_messages), b.total(|c| c.queued_bytes)), (0, 0));
    });
}

#[test]
fn a_client_that_reads_again_gets_the_rest() {
    each_with(
        |config| config.queue_messages = 3,
        |b| {
            fill(b, "t", 500, 0, &[b'x'; 4_000]);
            let s = b.connect(v5("s"));
            b.links[s].stuck = true;
            let filters = vec![filter("t/#", 0)];
            let subscribe = Subscribe {
                packet_id: id(1),
                properties: None,
                filters,
            };
            b.send_later(s, Packet::Subscribe(subscribe));
            b.settle();
            assert!(b.messages(s).is_empty());
            b.unstick(s);
            check_all(&b.messages(s), "t", 500);
        },
    );
}

#[test]
fn a_live_message_overtakes_the_retained_one_that_waits() {
    for (live, retain) in [("new", true), ("", true), ("passing", false)] {
        each(|b| {
            let (s, first) = ten_under_way(b);
            let p = b.connect(v5("pub"));
            let topic = waiting_topic(&first);
            let message = Publish {
                retain,
                ..publish(&topic, 1, live)
            };
            b.publish_packet(p, message);
            let all = drain(b, s, first);
            check_all(&all, "t", 10);
            assert_eq!((topics(&all)[1].as_str(), payloads(&all)[1].as_str()), (&*topic, live));
        });
    }
}

#[test]
fn other_live_messages_do_not_wait_for_retained_ones() {
    each(|b| {
        let (s, first) = ten_under_way(b);
        b.subscribe(s, "live", 1);
        let p = b.connect(v5("pub"));
        b.publish(p, "live", 0, "at once");
        b.publish(p, "live", 1, "next");
        let at_once = b.messages(s);
        assert_eq!(payloads(&at_once), ["at once"]);
        let all = drain(b, s, first);
        assert_eq!((all.len(), payloads(&all)[1].as_str()), (11, "next"));
    });
}

// [MQTT-3.8.3-3]: its own message is not sent to it, and the one that it replaced is history.
#[test]
fn a_retained_message_that_the_client_replaced_itself_is_not_sent() {
    each(|b| {
        fill(b, "t", 10, 1, b"old");
        let s = slow(b);
        b.subscribe_with(s, "t/#", 1, |o| o.no_local = true);
        let first = b.messages(s);
        let topic = waiting_topic(&first);
        b.publish_retained(s, &topic, 0, "new");
        let all = drain(b, s, first);
        assert_eq!(all.len(), 9);
        assert!(!topics(&all).contains(&topic));
    });
}

#[test]
fn retained_messages_expire_while_they_wait() {
    each(|b| {
        let p = b.connect(v5("pub"));
        for n in 0..5 {
            let message = Publish {
                retain: true,
                ..publish(&format!("t/{n}"), 1, "x")
            };
            b.publish_with(p, message, |p| p.message_expiry_interval = Some(10));
        }
        let s = slow(b);
        b.subscribe(s, "t/#", 1);
        let first = b.messages(s);
        b.advance(10_000);
        assert_eq!(drain(b, s, first).len(), 1);
        assert_eq!(b.total(|c| c.dropped.expired), 4);
    });
}

#[test]
fn unsubscribing_stops_the_retained_messages_of_that_filter() {
    each(|b| {
        fill(b, "u", 10, 1, b"x");
        let (s, first) = ten_under_way(b);
        b.subscribe(s, "u/#", 1);
        b.unsubscribe(s, &["t/#"]);
        let all = drain(b, s, first);
        check_all(&all[1..], "u", 10);
        assert!(b.shards.iter().all(no_gathers));
    });
}

fn no_gathers(shard: &super::Shard) -> bool {
    shard.sessions.iter().all(|(_, s)| s.gathers.is_none())
}

#[test]
fn retained_messages_that_wait_end_with_the_connection() {
    each(|b| {
        fill(b, "t", 10, 1, b"x");
        b.manual_clients = true;
        let who = || v5("s").lasting().with(|p| p.receive_maximum = Some(1));
        let s = b.connect(who());
        b.subscribe(s, "t/#", 1);
        b.lose(s);
        assert!(b.shards.iter().all(no_gathers));
        let s = b.connect(who());
        let first = b.messages(s);
        let all = drain(b, s, first);
        assert_eq!(all.len(), 1, "the one that was in flight");
    });
}

// [MQTT-3.3.1-9], [MQTT-3.8.4-3]
#[test]
fn subscribing_again_starts_again() {
    let rows = [(RetainHandling::Send, 10), (RetainHandling::DoNotSend, 9)];
    for (handling, expected) in rows {
        each(|b| {
            let (s, _) = ten_under_way(b);
            b.subscribe_with(s, "t/#", 0, |o| o.retain_handling = handling);
            let rest = b.messages(s);
            // The new options hold, and QoS 0 needs no window.
            assert!(rest.iter().all(|m| m.qos == qos(0)));
            assert_eq!(rest.len(), expected, "{handling:?}");
        });
    }
}

#[test]
fn each_waiting_message_is_judged_when_its_turn_comes() {
    each_with(
        |config| config.queue_messages = 3,
        |b| {
            fill(b, "t", 50, 0, b"x");
            b.set_policy(policy(1, 1, 0));
            b.authorize(
                || vec![Ok(Some(vec![deliver_rule(Effect::Ask, "#"), rule(Effect::Allow, "#")]))],
                |_, request| {
                    let denied = request.topic.ends_with('7');
                    verdict(if denied { Decision::Deny } else { Decision::Allow }, 0)
                },
            );
            let s = b.connect(v5("s"));
            b.subscribe(s, "t/#", 0);
            assert_eq!(b.messages(s).len(), 45);
            assert_eq!(b.total(|c| c.dropped.denied), 5);
            assert_eq!(b.verdict_calls(), 50);
        },
    );
}

#[test]
fn topics_remembered_for_waiting_messages_are_bounded() {
    each(|b| {
        let (s, _) = ten_under_way(b);
        fill(b, "t/live", MAX_GATHER_TOPICS + 5, 0, b"");
        assert_eq!(b.messages(s).len(), MAX_GATHER_TOPICS + 5);
        assert_eq!(b.total(|c| c.gather_topics_over_bound), 5);
    });
}
