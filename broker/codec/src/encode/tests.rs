use super::*;
use crate::{ConnAck, PacketId, Publish, QoS, Utf8String};
use Version::{V5, V31, V311};
use bytes::Bytes;

fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

/// Writes behind other bytes, so that an encoder which touches them or leaves something behind after an error is caught.
fn encoded(packet: &Packet, version: Version) -> Result<Vec<u8>, EncodeError> {
    let mut out = b"before".to_vec();
    let result = encode(packet, version, &mut out);
    let written = out.split_off(6);
    assert_eq!(out, b"before");
    assert!(result.is_ok() || written.is_empty(), "an error leaves nothing behind");
    result.map(|()| written)
}

fn check(packet: &Packet, version: Version, expected: Result<&[u8], EncodeError>) {
    assert_eq!(
        encoded(packet, version).as_deref(),
        expected.as_ref().map(|bytes| *bytes),
        "{version}: {packet:?}"
    );
}

fn reason_string(text: &'static str) -> Option<Box<Properties>> {
    Some(Box::new(Properties {
        reason_string: Some(Utf8String::from_static(text)),
        ..Properties::default()
    }))
}

#[test]
fn acknowledgements_are_as_short_as_they_can_be() {
    let ack = |reason, properties| {
        Packet::PubAck(Ack {
            packet_id: id(0x102),
            reason,
            properties,
        })
    };
    for version in [V31, V311, V5] {
        check(&ack(ReasonCode::Success, None), version, Ok(b"\x40\x02\x01\x02"));
    }
    check(&ack(ReasonCode::NotAuthorized, None), V5, Ok(b"\x40\x03\x01\x02\x87"));
    check(
        &ack(ReasonCode::NotAuthorized, reason_string("no")),
        V311,
        Ok(b"\x40\x02\x01\x02"),
    );
    check(
        &ack(ReasonCode::NotAuthorized, reason_string("no")),
        V5,
        Ok(b"\x40\x09\x01\x02\x87\x05\x1F\0\x02no"),
    );
    check(
        &ack(ReasonCode::Success, reason_string("")),
        V5,
        Ok(b"\x40\x07\x01\x02\0\x03\x1F\0\0"),
    );
    check(
        &ack(ReasonCode::Success, Some(Box::default())),
        V5,
        Ok(b"\x40\x02\x01\x02"),
    );
    let (packet, reason) = (PacketType::PubAck, ReasonCode::GrantedQoS1);
    check(&ack(reason, None), V5, Err(EncodeError::ReasonCode { packet, reason }));
    let release = Ack {
        packet_id: id(1),
        reason: ReasonCode::Success,
        properties: None,
    };
    check(&Packet::PubRel(release), V5, Ok(b"\x62\x02\0\x01"));
}

#[test]
fn disconnects_say_what_the_version_can() {
    let disconnect = |reason, properties| Packet::Disconnect(Disconnect { reason, properties });
    let not = |version| {
        Err(EncodeError::PacketNotInVersion {
            packet: PacketType::Disconnect,
            version,
        })
    };
    check(&disconnect(ReasonCode::Success, None), V311, Ok(b"\xE0\0"));
    check(&disconnect(ReasonCode::Success, None), V5, Ok(b"\xE0\0"));
    check(
        &disconnect(ReasonCode::ServerShuttingDown, None),
        V5,
        Ok(b"\xE0\x01\x8B"),
    );
    check(
        &disconnect(ReasonCode::ServerShuttingDown, reason_string("x")),
        V5,
        Ok(b"\xE0\x06\x8B\x04\x1F\0\x01x"),
    );
    check(&disconnect(ReasonCode::ServerShuttingDown, None), V311, not(V311));
    check(&disconnect(ReasonCode::DisconnectWithWillMessage, None), V31, not(V31));
}

#[test]
fn authentication_exists_in_5_only() {
    let auth = |reason| {
        Packet::Auth(Auth {
            reason,
            properties: None,
        })
    };
    check(&auth(ReasonCode::Success), V5, Ok(b"\xF0\0"));
    check(&auth(ReasonCode::ContinueAuthentication), V5, Ok(b"\xF0\x02\x18\0"));
    for version in [V31, V311] {
        let error = EncodeError::PacketNotInVersion {
            packet: PacketType::Auth,
            version,
        };
        check(&auth(ReasonCode::Success), version, Err(error));
    }
}

#[test]
fn connacks_are_mapped_for_3x() {
    let connack = |session_present, reason, properties| {
        Packet::ConnAck(Box::new(ConnAck {
            session_present,
            reason,
            properties,
        }))
    };
    check(&connack(true, ReasonCode::Success, None), V31, Ok(b"\x20\x02\0\0"));
    check(
        &connack(true, ReasonCode::Success, reason_string("x")),
        V311,
        Ok(b"\x20\x02\x01\0"),
    );
    check(&connack(true, ReasonCode::Success, None), V5, Ok(b"\x20\x03\x01\0\0"));
    check(&connack(true, ReasonCode::Banned, None), V311, Ok(b"\x20\x02\0\x05"));
    check(&connack(true, ReasonCode::Banned, None), V5, Ok(b"\x20\x03\0\x8A\0"));
    let (packet, reason) = (PacketType::ConnAck, ReasonCode::KeepAliveTimeout);
    check(
        &connack(false, reason, None),
        V5,
        Err(EncodeError::ReasonCode { packet, reason }),
    );
    check(&connack(false, reason, None), V311, Ok(b"\x20\x02\0\x05"));
}

#[test]
fn subscription_answers_are_mapped_for_3x() {
    let reasons = vec![ReasonCode::GrantedQoS2, ReasonCode::NotAuthorized];
    let suback = Packet::SubAck(SubAck {
        packet_id: id(1),
        properties: None,
        reasons,
    });
    check(&suback, V311, Ok(b"\x90\x04\0\x01\x02\x80"));
    check(&suback, V5, Ok(b"\x90\x05\0\x01\0\x02\x87"));
    let unsuback = |reasons| {
        Packet::UnsubAck(UnsubAck {
            packet_id: id(1),
            properties: None,
            reasons,
        })
    };
    check(
        &unsuback(vec![ReasonCode::NoSubscriptionExisted]),
        V311,
        Ok(b"\xB0\x02\0\x01"),
    );
    check(
        &unsuback(vec![ReasonCode::NoSubscriptionExisted]),
        V5,
        Ok(b"\xB0\x04\0\x01\0\x11"),
    );
    check(
        &unsuback(vec![]),
        V5,
        Err(EncodeError::EmptyList {
            packet: PacketType::UnsubAck,
        }),
    );
    let empty = Packet::Subscribe(Subscribe {
        packet_id: id(1),
        properties: None,
        filters: vec![],
    });
    check(
        &empty,
        V5,
        Err(EncodeError::EmptyList {
            packet: PacketType::Subscribe,
        }),
    );
}

#[test]
fn foreign_properties_are_not_written() {
    let properties = Some(Box::new(Properties {
        will_delay_interval: Some(1),
        session_expiry_interval: Some(2),
        payload_format_indicator: Some(true),
        ..Properties::default()
    }));
    let ack = Ack {
        packet_id: id(1),
        reason: ReasonCode::Success,
        properties: properties.clone(),
    };
    check(&Packet::PubComp(ack), V5, Ok(b"\x70\x02\0\x01"));
    check(
        &publish(QoS::AtMostOnce, None, properties),
        V5,
        Ok(b"\x30\x07\0\x01t\x02\x01\x01p"),
    );
}

fn publish(qos: QoS, packet_id: Option<PacketId>, properties: Option<Box<Properties>>) -> Packet {
    let (topic, payload) = (Utf8String::from_static("t"), Bytes::from_static(b"p"));
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id,
        properties,
        payload,
    })
}

#[test]
fn what_cannot_be_expressed_is_an_error() {
    check(
        &publish(QoS::AtLeastOnce, None, None),
        V5,
        Err(EncodeError::PacketIdentifier),
    ); // [MQTT-2.2.1-3]
    check(
        &publish(QoS::AtMostOnce, Some(id(1)), None),
        V5,
        Err(EncodeError::PacketIdentifier),
    ); // [MQTT-2.2.1-2]
    let with = |properties| publish(QoS::AtMostOnce, None, Some(Box::new(properties)));
    let zero = with(Properties {
        subscription_identifiers: vec![0],
        ..Properties::default()
    });
    check(&zero, V5, Err(EncodeError::SubscriptionIdentifier(0)));
    check(&zero, V311, Ok(b"\x30\x04\0\x01tp"));
    let large = with(Properties {
        subscription_identifiers: vec![1 << 28],
        ..Properties::default()
    });
    check(&large, V5, Err(EncodeError::SubscriptionIdentifier(1 << 28)));
    let data = Bytes::from(vec![0; 65_536]);
    let long = with(Properties {
        correlation_data: Some(data),
        ..Properties::default()
    });
    check(&long, V5, Err(EncodeError::FieldTooLong { bytes: 65_536 }));
}

const HEADER: PublishHeader<'static> = PublishHeader {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: "t",
    packet_id: None,
    topic_alias: None,
    message_expiry_interval: None,
    subscription_identifiers: &[],
    properties: None,
    payload_len: 1,
};

#[test]
fn the_packet_identifier_can_be_patched() {
    let mut out = b"before".to_vec();
    let header = PublishHeader {
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(0x0102)),
        ..HEADER
    };
    let at = encode_publish_header(&header, V5, &mut out)
        .expect("valid")
        .expect("QoS 1");
    assert_eq!(out[at..at + 2], [1, 2]);
    out[at..at + 2].copy_from_slice(&[3, 4]);
    assert_eq!(out, b"before\x32\x07\0\x01t\x03\x04\0");
    assert_eq!(encode_publish_header(&HEADER, V311, &mut out), Ok(None));
}

#[test]
fn the_fields_of_the_header_replace_the_message_properties() {
    let properties = Properties {
        topic_alias: Some(9),
        message_expiry_interval: Some(9),
        subscription_identifiers: vec![9],
        content_type: Some(Utf8String::from_static("c")),
        ..Properties::default()
    };
    let header = PublishHeader {
        topic: "",
        topic_alias: Some(2),
        message_expiry_interval: Some(3),
        subscription_identifiers: &[4, 200],
        properties: Some(&properties),
        ..HEADER
    };
    let mut out = Vec::new();
    assert_eq!(encode_publish_header(&header, V5, &mut out), Ok(None));
    assert_eq!(
        out,
        b"\x30\x15\0\0\x11\x23\0\x02\x02\0\0\0\x03\x0B\x04\x0B\xC8\x01\x03\0\x01c"
    );
}

#[test]
fn an_empty_topic_needs_an_alias_that_the_version_has() {
    let check = |topic_alias, version, expected| {
        let header = PublishHeader {
            topic: "",
            topic_alias,
            ..HEADER
        };
        assert_eq!(encode_publish_header(&header, version, &mut Vec::new()), expected);
    };
    check(Some(1), V5, Ok(None));
    check(None, V5, Err(EncodeError::TopicNameMissing));
    check(Some(1), V311, Err(EncodeError::TopicNameMissing));
}

#[test]
fn the_length_is_that_of_the_whole_packet() {
    for payload_len in [0, 1, 120, 121, 122, 123, 124, 16_370, 16_380, 2_097_140, 2_097_150] {
        for version in [V31, V311, V5] {
            let header = PublishHeader {
                payload_len,
                subscription_identifiers: &[1, 128],
                ..HEADER
            };
            let mut out = Vec::new();
            encode_publish_header(&header, version, &mut out).expect("valid");
            assert_eq!(
                encoded_publish_len(&header, version),
                out.len() + payload_len,
                "{version} {payload_len}"
            );
            assert_eq!(crate::frame_len(&out, u32::MAX), Ok(Some(out.len() + payload_len)));
        }
    }
}

#[test]
fn a_packet_longer_than_mqtt_can_say_is_an_error() {
    let mut out = Vec::new();
    let most = PublishHeader {
        payload_len: MAX_VARIABLE - 3,
        ..HEADER
    };
    assert_eq!(encode_publish_header(&most, V311, &mut out), Ok(None));
    out.clear();
    let more = PublishHeader {
        payload_len: MAX_VARIABLE - 2,
        ..HEADER
    };
    let error = EncodeError::PacketTooLarge {
        bytes: MAX_VARIABLE + 1,
    };
    assert_eq!(encode_publish_header(&more, V311, &mut out), Err(error));
    let endless = PublishHeader {
        payload_len: usize::MAX,
        ..HEADER
    };
    assert!(encode_publish_header(&endless, V5, &mut out).is_err());
    assert_eq!((out.len(), encoded_publish_len(&endless, V5)), (0, usize::MAX));
}
