//! Messages to clients: windows, redelivery, sizes, aliases (MQTT 5.0 sections 3.3.4, 4.4, 4.6, 4.9).

use super::scene::{ack, client, payloads, publish, v5};
use super::{Broker, C, each, each_version};
use crate::limits::OUTPUT_HIGH_WATER_BYTES;
use nervewire_codec::{Packet, ReasonCode, Version};

fn send(b: &mut Broker, p: C, level: u8, texts: &[&str]) {
    for text in texts {
        b.publish(p, "t", level, text);
    }
}

// [MQTT-3.3.4-9]
#[test]
fn the_clients_receive_maximum_is_kept_until_acknowledgements_come() {
    for level in [1, 2] {
        each(|b| {
            let (s, p) = (
                b.connect(v5("s").with(|p| p.receive_maximum = Some(2))),
                b.connect(v5("pub")),
            );
            b.manual(s);
            b.subscribe(s, "t", 2);
            send(b, p, level, &["1", "2", "3", "4"]);
            let first = b.messages(s);
            assert_eq!(payloads(&first), ["1", "2"]);
            let packet_id = first[0].packet_id.unwrap().get();
            if level == 1 {
                b.send(s, Packet::PubAck(ack(packet_id, ReasonCode::Success)));
            } else {
                b.send(s, Packet::PubRec(ack(packet_id, ReasonCode::Success)));
                assert!(b.messages(s).is_empty(), "it counts until PUBCOMP");
                b.send(s, Packet::PubComp(ack(packet_id, ReasonCode::Success)));
            }
            assert_eq!(b.payloads(s), ["3"]);
        });
    }
}

#[test]
fn qos_0_needs_no_window_but_keeps_its_place() {
    each(|b| {
        let (s, p) = (
            b.connect(v5("s").with(|p| p.receive_maximum = Some(1))),
            b.connect(v5("pub")),
        );
        b.manual(s);
        b.subscribe(s, "t", 2);
        send(b, p, 1, &["1"]);
        send(b, p, 0, &["0"]);
        assert_eq!(b.payloads(s), ["1", "0"]);
        send(b, p, 1, &["2"]);
        send(b, p, 0, &["00"]);
        assert!(b.payloads(s).is_empty(), "behind a message that waits");
        b.send(s, Packet::PubAck(ack(1, ReasonCode::Success)));
        assert_eq!(b.payloads(s), ["2", "00"]);
    });
}

// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1]
#[test]
fn unacknowledged_messages_are_sent_again_in_order_after_a_reconnection() {
    each_version(|b, version| {
        let s = b.connect(client(version, "s").lasting());
        let p = b.connect(client(version, "pub"));
        b.manual(s);
        b.subscribe(s, "t", 2);
        send(b, p, 1, &["1"]);
        send(b, p, 2, &["2", "3"]);
        send(b, p, 1, &["4"]);
        let first = b.messages(s);
        assert!(first.iter().all(|m| !m.dup));
        let ids: Vec<_> = first.iter().map(|m| m.packet_id.unwrap()).collect();
        b.send(s, Packet::PubRec(ack(ids[1].get(), ReasonCode::Success)));
        b.lose(s);
        send(b, p, 1, &["5"]);
        let s = b.open(client(version, "s").lasting());
        let received = b.take(s);
        let seen: Vec<_> = received
            .iter()
            .skip(1)
            .map(|packet| match packet {
                Packet::Publish(m) => (payloads(std::slice::from_ref(m))[0].clone(), m.dup, m.packet_id),
                Packet::PubRel(release) => ("release".into(), false, Some(release.packet_id)),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("1".to_owned(), true, Some(ids[0])),
            ("release".to_owned(), false, Some(ids[1])),
            ("3".to_owned(), true, Some(ids[2])),
            ("4".to_owned(), true, Some(ids[3])),
        ];
        assert_eq!(seen[..4], expected);
        assert_eq!((seen[4].0.as_str(), seen[4].1), ("5", false));
    });
}

#[test]
fn a_smaller_receive_maximum_holds_for_what_is_sent_again() {
    each(|b| {
        b.manual_clients = true;
        let s = b.connect(v5("s").lasting());
        let p = b.connect(v5("pub"));
        b.subscribe(s, "t", 1);
        send(b, p, 1, &["1", "2", "3"]);
        b.lose(s);
        send(b, p, 1, &["4"]);
        let s = b.connect(v5("s").lasting().with(|p| p.receive_maximum = Some(1)));
        for text in ["1", "2", "3", "4"] {
            let messages = b.messages(s);
            assert_eq!(payloads(&messages), [text]);
            let packet_id = messages[0].packet_id.unwrap().get();
            b.send(s, Packet::PubAck(ack(packet_id, ReasonCode::Success)));
        }
    });
}

// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
#[test]
fn a_message_over_the_clients_maximum_packet_size_is_dropped_and_the_next_goes_on() {
    for level in 0..3 {
        each(|b| {
            let (s, p) = (
                b.connect(v5("s").with(|p| p.maximum_packet_size = Some(100))),
                b.connect(v5("pub")),
            );
            b.subscribe(s, "t", 2);
            send(b, p, level, &["1", &"x".repeat(100), "2"]);
            assert_eq!(b.payloads(s), ["1", "2"]);
            assert_eq!(b.total(|c| c.dropped.too_large), 1);
        });
    }
}

#[test]
fn a_queued_message_over_a_smaller_maximum_packet_size_is_dropped_too() {
    each(|b| {
        let s = b.connect(v5("s").lasting());
        let p = b.connect(v5("pub"));
        b.manual(s);
        b.subscribe(s, "t", 1);
        send(b, p, 1, &[&"x".repeat(100), "sent"]);
        b.lose(s);
        send(b, p, 1, &[&"y".repeat(100), "queued"]);
        let s = b.connect(v5("s").lasting().with(|p| p.maximum_packet_size = Some(100)));
        assert_eq!(b.payloads(s), ["sent", "queued"]);
        assert_eq!(b.total(|c| c.dropped.too_large), 2);
        assert_eq!(b.total(|c| c.queued_messages), 0);
    });
}

#[test]
fn topics_get_an_alias_where_the_client_allows_it() {
    each(|b| {
        let s = b.connect(v5("s").with(|p| p.topic_alias_maximum = Some(1)));
        let p = b.connect(v5("pub"));
        b.subscribe(s, "#", 1);
        for topic in ["first", "first", "second", "second"] {
            b.publish(p, topic, 1, "x");
        }
        let seen: Vec<_> = b
            .messages(s)
            .iter()
            .map(|m| {
                (
                    m.topic.as_str().to_owned(),
                    m.properties.as_ref().and_then(|p| p.topic_alias),
                )
            })
            .collect();
        let expected = [("first", Some(1)), ("", Some(1)), ("second", None), ("second", None)];
        assert_eq!(seen, expected.map(|(topic, alias)| (topic.to_owned(), alias)));
    });
}

#[test]
fn an_alias_never_makes_a_packet_too_large() {
    each(|b| {
        // A PUBLISH at QoS 0 to "t": 2 bytes of header, 3 of topic, 1 of property length, and the payload.
        let fits = |extra: usize| "x".repeat(30 - 6 - extra);
        let s = b.connect(v5("s").with(|p| {
            p.topic_alias_maximum = Some(10);
            p.maximum_packet_size = Some(30);
        }));
        assert_eq!(b.subscribe(s, "t", 0), ReasonCode::Success);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 0, &fits(0));
        b.publish(p, "t", 0, &fits(3));
        b.publish(p, "t", 0, &fits(0));
        let aliases: Vec<_> = b
            .messages(s)
            .iter()
            .map(|m| m.properties.as_ref().and_then(|p| p.topic_alias))
            .collect();
        assert_eq!(aliases, [None, Some(1), None]);
        assert_eq!(b.total(|c| c.dropped.too_large), 0);
    });
}

#[test]
fn a_receiver_that_does_not_read_queues_and_goes_on_in_order() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        let fast = b.connect(client(version, "fast"));
        b.subscribe(s, "t", 1);
        b.subscribe(fast, "t", 1);
        b.links[s].stuck = true;
        let body = "x".repeat(5_000);
        let texts: Vec<String> = (0..100).map(|n| format!("{n}:{body}")).collect();
        for text in &texts {
            b.publish(p, "t", 0, text);
        }
        assert!(b.total(|c| c.queued_messages) > 0);
        assert_eq!(b.payloads(fast), texts, "others do not wait");
        b.unstick(s);
        assert_eq!(b.payloads(s), texts);
        assert_eq!((b.total(|c| c.queued_messages), b.total(|c| c.queued_bytes)), (0, 0));
    });
}

#[test]
fn acknowledgements_with_an_error_discard_the_message() {
    for (level, kind) in [(1, Packet::PubAck as fn(_) -> _), (2, Packet::PubRec as fn(_) -> _)] {
        each(|b| {
            let (s, p) = (b.connect(v5("s").lasting()), b.connect(v5("pub")));
            b.manual(s);
            b.subscribe(s, "t", 2);
            send(b, p, level, &["x"]);
            let packet_id = b.messages(s)[0].packet_id.unwrap().get();
            b.send(s, kind(ack(packet_id, ReasonCode::UnspecifiedError)));
            b.lose(s);
            let s = b.open(v5("s").lasting());
            assert_eq!(b.take(s).len(), 1, "nothing but the CONNACK");
        });
    }
}

#[test]
fn versions_meet() {
    each(|b| {
        let (old, new) = (b.connect(client(Version::V311, "old")), b.connect(v5("new")));
        let older = b.connect(client(Version::V31, "older"));
        for c in [old, new, older] {
            b.subscribe(c, "t", 2);
        }
        b.publish_with(new, publish("t", 2, "x"), |p| {
            p.content_type = Some(super::scene::text("a/b"))
        });
        b.publish(old, "t", 1, "y");
        b.publish(older, "t", 0, "z");
        for c in [old, new, older] {
            assert_eq!(b.payloads(c), ["x", "y", "z"]);
        }
    });
}

#[test]
fn a_connection_whose_output_fills_up_is_named_once_until_it_was_written() {
    each(|b| {
        let (p, s) = (b.connect(v5("p")), b.connect(v5("s")));
        b.subscribe(s, "t", 0);
        b.links[s].stuck = true;
        let (shard, id) = (b.links[s].shard, b.links[s].id);
        let payload = "x".repeat(1_000);
        let half = OUTPUT_HIGH_WATER_BYTES / 2_000;
        for _ in 0..half {
            b.publish(p, "t", 0, &payload);
        }
        assert_eq!(b.shards[shard].take_full(), []);
        for _ in 0..2 * half {
            b.publish(p, "t", 0, &payload);
        }
        assert_eq!(b.shards[shard].take_full(), [id]);
        assert_eq!(b.shards[shard].take_full(), []);
        b.unstick(s);
        assert_eq!(b.payloads(s).len(), 3 * half, "nothing was lost meanwhile");
    });
}
