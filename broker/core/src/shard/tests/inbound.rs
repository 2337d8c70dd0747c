//! Messages from clients (MQTT 5.0 sections 3.3, 4.3).

use super::scene::{ack, client, id, publish, text, v5, v311};
use super::{each, each_version};
use crate::limits::{RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM};
use nervewire_codec::{Packet, Publish, ReasonCode, Version};

#[test]
fn each_qos_arrives_and_is_acknowledged() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe(s, "t", 2);
        assert_eq!(b.publish(p, "t", 0, "0"), None);
        assert_eq!(b.publish(p, "t", 1, "1"), Some(ReasonCode::Success));
        assert_eq!(b.publish(p, "t", 2, "2"), Some(ReasonCode::Success));
        let messages = b.messages(s);
        let seen: Vec<_> = messages.iter().map(|m| (m.qos as u8, &m.payload[..])).collect();
        assert_eq!(seen, [(0, &b"0"[..]), (1, b"1"), (2, b"2")]);
        assert_eq!(b.total(|c| c.received_messages.iter().sum()), 3);
        assert_eq!(b.total(|c| c.sent_messages.iter().sum()), 3);
    });
}

// [MQTT-4.3.3-10]
#[test]
fn a_qos_2_message_sent_again_is_acknowledged_and_not_routed_again() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe(s, "t", 2);
        b.manual(p);
        let packet = Publish {
            packet_id: Some(id(9)),
            ..publish("t", 2, "once")
        };
        b.publish_packet(p, packet.clone());
        assert_eq!(
            b.publish_packet(p, Publish { dup: true, ..packet }),
            Some(ReasonCode::Success)
        );
        assert_eq!(b.payloads(s), ["once"]);
    });
}

#[test]
fn a_qos_2_message_sent_again_after_a_reconnection_is_not_routed_again() {
    each_version(|b, version| {
        let (s, p) = (
            b.connect(client(version, "s")),
            b.connect(client(version, "pub").lasting()),
        );
        b.subscribe(s, "t", 2);
        b.manual(p);
        let packet = Publish {
            packet_id: Some(id(9)),
            ..publish("t", 2, "once")
        };
        b.publish_packet(p, packet.clone());
        b.lose(p);
        let p = b.connect(client(version, "pub").lasting());
        b.publish_packet(
            p,
            Publish {
                dup: true,
                ..packet.clone()
            },
        );
        assert_eq!(b.payloads(s), ["once"]);
        // Released by the PUBREL that followed: the identifier is free for a new message.
        b.publish_packet(
            p,
            Publish {
                payload: "twice".into(),
                ..packet
            },
        );
        assert_eq!(b.payloads(s), ["twice"]);
    });
}

#[test]
fn an_unknown_pubrel_is_completed_with_the_reason() {
    each_version(|b, version| {
        let p = b.connect(client(version, "pub"));
        b.send(p, Packet::PubRel(ack(7, ReasonCode::Success)));
        let reason = match version {
            Version::V5 => ReasonCode::PacketIdentifierNotFound,
            _ => ReasonCode::Success,
        };
        assert_eq!(b.take(p), [Packet::PubComp(ack(7, reason))]);
    });
}

// [MQTT-3.3.4-7]
#[test]
fn more_qos_2_messages_than_our_receive_maximum_end_the_connection() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.manual(p);
        for packet_id in 1..=RECEIVE_MAXIMUM {
            let packet = Publish {
                packet_id: Some(id(packet_id)),
                ..publish("t", 2, "")
            };
            assert_eq!(b.publish_packet(p, packet), Some(ReasonCode::Success));
        }
        b.publish_packet(
            p,
            Publish {
                packet_id: Some(id(RECEIVE_MAXIMUM + 1)),
                ..publish("t", 2, "")
            },
        );
        assert_eq!(b.farewell(p), Some(ReasonCode::ReceiveMaximumExceeded));
        assert_eq!(b.total(|c| c.receive_maximum_exceeded), 1);
    });
}

#[test]
fn a_3_1_1_client_knows_no_receive_maximum() {
    each(|b| {
        let p = b.connect(v311("pub"));
        b.manual(p);
        for packet_id in 1..=RECEIVE_MAXIMUM + 10 {
            b.publish_packet(
                p,
                Publish {
                    packet_id: Some(id(packet_id)),
                    ..publish("t", 2, "")
                },
            );
        }
        assert!(b.is_open(p));
    });
}

// [MQTT-3.3.2-12]
#[test]
fn a_topic_alias_stands_for_its_topic() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "#", 1);
        b.publish_with(p, publish("a", 0, "1"), |p| p.topic_alias = Some(TOPIC_ALIAS_MAXIMUM));
        b.publish_with(
            p,
            Publish {
                topic: text(""),
                ..publish("x", 0, "2")
            },
            |p| {
                p.topic_alias = Some(TOPIC_ALIAS_MAXIMUM);
            },
        );
        b.publish_with(p, publish("b", 0, "3"), |p| p.topic_alias = Some(TOPIC_ALIAS_MAXIMUM));
        b.publish_with(
            p,
            Publish {
                topic: text(""),
                ..publish("x", 0, "4")
            },
            |p| {
                p.topic_alias = Some(TOPIC_ALIAS_MAXIMUM);
            },
        );
        let messages = b.messages(s);
        let topics: Vec<_> = messages.iter().map(|m| m.topic.as_str()).collect();
        assert_eq!(topics, ["a", "a", "b", "b"]);
        assert!(
            messages.iter().all(|m| m.properties.is_none()),
            "the alias stays on its connection"
        );
    });
}

// [MQTT-3.3.2-8], [MQTT-3.3.2-9], [MQTT-3.3.2-7]
#[test]
fn a_wrong_topic_alias_ends_the_connection() {
    each(|b| {
        let p = b.connect(v5("pub").lasting());
        b.publish_with(p, publish("a", 0, ""), |p| {
            p.topic_alias = Some(TOPIC_ALIAS_MAXIMUM + 1)
        });
        assert_eq!(b.farewell(p), Some(ReasonCode::TopicAliasInvalid));
        let p = b.connect(v5("pub").lasting());
        b.publish_with(p, publish("a", 0, ""), |p| p.topic_alias = Some(1));
        b.lose(p);
        let p = b.connect(v5("pub").lasting());
        b.publish_with(
            p,
            Publish {
                topic: text(""),
                ..publish("x", 0, "")
            },
            |p| p.topic_alias = Some(1),
        );
        assert_eq!(
            b.farewell(p),
            Some(ReasonCode::ProtocolError),
            "aliases end with their connection"
        );
    });
}

#[test]
fn message_properties_travel_unchanged() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        b.publish_with(p, publish("t", 1, "x"), |p| {
            p.payload_format_indicator = Some(true);
            p.content_type = Some(text("text/plain"));
            p.response_topic = Some(text("reply"));
            p.correlation_data = Some("7".into());
            p.user_properties = vec![(text("b"), text("1")), (text("a"), text("2")), (text("b"), text("3"))];
        });
        let messages = b.messages(s);
        let got = messages[0].properties.as_ref().unwrap();
        assert_eq!(
            (got.payload_format_indicator, got.content_type.as_deref()),
            (Some(true), Some("text/plain"))
        );
        assert_eq!(
            (got.response_topic.as_deref(), got.correlation_data.as_deref()),
            (Some("reply"), Some(&b"7"[..]))
        );
        let names: Vec<_> = got
            .user_properties
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(names, [("b", "1"), ("a", "2"), ("b", "3")]);
    });
}

#[test]
fn messages_of_one_publisher_arrive_in_order() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe(s, "t", 2);
        for n in 0..600 {
            b.send_later(
                p,
                Packet::Publish(Publish {
                    packet_id: Some(id(n + 1)),
                    ..publish("t", 1, &n.to_string())
                }),
            );
        }
        b.settle();
        let expected: Vec<_> = (0..600).map(|n| n.to_string()).collect();
        assert_eq!(b.payloads(s), expected);
    });
}

#[test]
fn a_large_payload_arrives_whole() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe(s, "t", 2);
        let large = "x".repeat(300_000);
        for level in 0..3 {
            b.publish(p, "t", level, &large);
        }
        assert_eq!(b.payloads(s), [large.clone(), large.clone(), large]);
    });
}

// [MQTT-3.3.4-6]
#[test]
fn a_subscription_identifier_from_a_client_ends_the_connection() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.publish_with(p, publish("t", 0, ""), |p| p.subscription_identifiers = vec![1]);
        assert_eq!(b.farewell(p), Some(ReasonCode::ProtocolError));
    });
}
