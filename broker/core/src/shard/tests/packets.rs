//! Packets that a client may not send, and bytes that are none.

use super::scene::{ack, client, id, v5};
use super::{each, each_version};
use nervewire_codec::{ConnAck, DecodeError, Packet, ReasonCode, SubAck, UnsubAck, Version};

#[test]
fn packets_that_only_servers_send_end_the_connection() {
    each_version(|b, version| {
        let packet_id = id(1);
        let reasons = vec![ReasonCode::Success];
        let connack = ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: None,
        };
        let packets = [
            Packet::ConnAck(Box::new(connack)),
            Packet::SubAck(SubAck {
                packet_id,
                properties: None,
                reasons: reasons.clone(),
            }),
            Packet::PingResp,
        ];
        for packet in packets {
            let c = b.connect(client(version, "a"));
            b.send(c, packet);
            let told = (version == Version::V5).then_some(ReasonCode::ProtocolError);
            assert_eq!(b.farewell(c), told);
        }
        if version == Version::V5 {
            let c = b.connect(client(version, "a"));
            b.send(
                c,
                Packet::UnsubAck(UnsubAck {
                    packet_id,
                    properties: None,
                    reasons,
                }),
            );
            assert_eq!(b.farewell(c), Some(ReasonCode::ProtocolError));
        }
    });
}

#[test]
fn acknowledgements_of_unknown_messages_change_nothing() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        b.send(c, Packet::PubAck(ack(5, ReasonCode::Success)));
        b.send(c, Packet::PubComp(ack(5, ReasonCode::Success)));
        assert!(b.is_open(c) && b.take(c).is_empty());
    });
}

#[test]
fn a_pubrec_for_an_unknown_message_is_answered_with_the_reason() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        b.manual(c);
        b.send(c, Packet::PubRec(ack(5, ReasonCode::Success)));
        let reason = match version {
            Version::V5 => ReasonCode::PacketIdentifierNotFound,
            _ => ReasonCode::Success,
        };
        assert_eq!(b.take(c), [Packet::PubRel(ack(5, reason))]);
    });
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    each_version(|b, version| {
        let told = (version == Version::V5).then_some(ReasonCode::ProtocolError);
        for (level, wrong) in [(1, Packet::PubRec as fn(_) -> _), (2, Packet::PubAck as fn(_) -> _)] {
            let c = b.connect(client(version, "a"));
            b.manual(c);
            b.subscribe(c, "t", 2);
            let p = b.connect(client(version, "pub"));
            b.publish(p, "t", level, "x");
            let packet_id = b.messages(c)[0].packet_id.unwrap().get();
            b.send(c, wrong(ack(packet_id, ReasonCode::Success)));
            assert_eq!(b.farewell(c), told);
        }
    });
}

#[test]
fn bytes_that_are_no_packet_end_the_connection_with_their_reason() {
    each(|b| {
        let c = b.connect(v5("a"));
        let (shard, link) = (b.links[c].shard, b.links[c].id);
        let error = DecodeError::PacketTooLarge {
            bytes: 9,
            limit_bytes: 8,
        };
        let now = b.now;
        b.shards[shard].malformed(now, link, &error);
        b.settle();
        assert_eq!(b.farewell(c), Some(ReasonCode::PacketTooLarge));
        assert_eq!(b.total(|c| c.disconnects_protocol_error), 1);
    });
}

// [MQTT-3.1.2-29], [MQTT-3.14.2-3]
#[test]
fn a_reason_string_is_sent_only_to_those_who_want_it_and_have_room_for_it() {
    each(|b| {
        let goodbye = |b: &mut super::Broker, c| {
            b.send(c, Packet::PingResp);
            match b.take(c).pop() {
                Some(Packet::Disconnect(d)) => d.properties.and_then(|p| p.reason_string),
                other => panic!("{other:?}"),
            }
        };
        let c = b.connect(v5("a"));
        assert!(goodbye(b, c).is_some());
        let c = b.connect(v5("a").with(|p| p.request_problem_information = Some(false)));
        assert_eq!(goodbye(b, c), None);
        let c = b.connect(v5("a").with(|p| p.maximum_packet_size = Some(30)));
        assert_eq!(goodbye(b, c), None);
    });
}

#[test]
fn nothing_is_taken_from_a_connection_that_is_being_closed() {
    each(|b| {
        let c = b.connect(v5("a"));
        b.send_later(c, Packet::PingResp);
        b.send_later(c, Packet::PingReq);
        b.settle();
        assert!(b.take(c).iter().all(|packet| matches!(packet, Packet::Disconnect(_))));
    });
}
