//! Every refusal that the specifications name, one row each: version, first byte, body, what is said about it.

use super::*;
use crate::DecodeError as E;
use crate::topic::TopicError;
use crate::{PropertyId as Id, PropertyOwner, ReasonCode, StringError};
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];
const LIMIT: u32 = 1_000_000;

/// The packet with a fixed header that fits its body.
fn frame(first: u8, body: &[u8]) -> Bytes {
    assert!(body.len() < 0x4000, "a two-byte length is enough here");
    let mut bytes = vec![first];
    if body.len() > 0x7F {
        bytes.push(body.len() as u8 | 0x80);
        bytes.push((body.len() >> 7) as u8);
    } else {
        bytes.push(body.len() as u8);
    }
    bytes.extend_from_slice(body);
    bytes.into()
}

fn refused(versions: &[Version], first: u8, body: &[u8], expected: E) {
    for &version in versions {
        let got = decode(&frame(first, body), 0, Some(version), LIMIT);
        assert_eq!(got, Err(expected), "{version}: {first:#04x} {body:02x?}");
    }
}

fn accepted(versions: &[Version], first: u8, body: &[u8]) -> Packet {
    let mut last = None;
    for &version in versions {
        let bytes = frame(first, body);
        match decode(&bytes, 0, Some(version), LIMIT) {
            Ok(Some((packet, len))) if len == bytes.len() => last = Some(packet),
            other => panic!("{version}: {first:#04x} {body:02x?}: {other:?}"),
        }
    }
    last.expect("at least one version")
}

fn of(packet: PacketType) -> PropertyOwner {
    PropertyOwner::Packet(packet)
}

#[test]
fn fixed_headers_are_refused_from_their_first_byte() {
    let check = |first: u8, expected: Result<(), E>| {
        assert_eq!(frame_len(&[first], LIMIT), expected.map(|()| None), "{first:#04x}");
    };
    let flags = |packet, flags| Err(E::HeaderFlags { packet, flags });
    check(0x00, Err(E::ReservedPacketType));
    check(0x0F, Err(E::ReservedPacketType));
    check(0x36, flags(PacketType::Publish, 0b0110)); // [MQTT-3.3.1-4]
    check(0x38, flags(PacketType::Publish, 0b1000)); // [MQTT-3.3.1-2]
    check(0x3D, Ok(()));
    for (packet, first) in [
        (PacketType::PubRel, 0x60),
        (PacketType::Subscribe, 0x80),
        (PacketType::Unsubscribe, 0xA0),
    ] {
        check(first, flags(packet, 0)); // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
        check(first | 0b0011, flags(packet, 0b0011));
        check(first | 0b0010, Ok(()));
        check(first | 0b1010, Ok(())); // 3.1; the version decides
    }
    for first in [0x10, 0x20, 0x40, 0x50, 0x70, 0x90, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0] {
        check(first, Ok(()));
        check(first | 1, flags(PacketType::of_first_byte(first).expect("a type"), 1)); // [MQTT-2.1.3-1]
    }
}

#[test]
fn lengths_are_read_and_limited_from_the_header() {
    let check = |length: &[u8], limit: u32, expected: Result<Option<usize>, E>| {
        let bytes = [&[0x30], length].concat();
        assert_eq!(frame_len(&bytes, limit), expected, "{length:02x?} within {limit}");
    };
    let over = |bytes, limit_bytes| Err(E::PacketTooLarge { bytes, limit_bytes });
    check(&[], LIMIT, Ok(None));
    check(&[0], LIMIT, Ok(Some(2)));
    check(&[0x7F], LIMIT, Ok(Some(129)));
    check(&[0x80], LIMIT, Ok(None));
    check(&[0x80, 0x01], LIMIT, Ok(Some(131)));
    check(&[0xFF, 0xFF, 0x7F], u32::MAX, Ok(Some(2_097_155)));
    check(&[0xFF, 0xFF, 0xFF], LIMIT, Ok(None));
    check(&[0xFF, 0xFF, 0xFF, 0x7F], u32::MAX, Ok(Some(268_435_460)));
    check(&[0xFF, 0xFF, 0xFF, 0x7F], LIMIT, over(268_435_460, LIMIT));
    check(&[0x7F], 129, Ok(Some(129)));
    check(&[0x7F], 128, over(129, 128));
    check(&[0x80, 0x80, 0x80, 0x80], u32::MAX, Err(E::VariableByteInteger)); // more than four bytes
    check(&[0x80, 0x00], LIMIT, Err(E::VariableByteInteger)); // [MQTT-1.5.5-1]
    check(&[0xFF, 0x80, 0x00], LIMIT, Err(E::VariableByteInteger));
}

#[test]
fn an_oversized_packet_is_refused_before_its_body_arrives() {
    let header = Bytes::from_static(&[0x30, 0xFF, 0xFF, 0x7F]);
    let expected = E::PacketTooLarge {
        bytes: 2_097_155,
        limit_bytes: LIMIT,
    };
    assert_eq!(decode(&header, 0, Some(V5), LIMIT), Err(expected));
    assert_eq!(expected.reason(), ReasonCode::PacketTooLarge);
}

#[test]
fn only_a_connect_may_be_first() {
    for first in [0x20, 0x30, 0x82, 0xC0, 0xE0, 0xF0] {
        let packet = PacketType::of_first_byte(first).expect("a type");
        let got = decode(&Bytes::from(vec![first]), 0, None, LIMIT);
        assert_eq!(got, Err(E::ConnectExpected { packet }), "{first:#04x}"); // [MQTT-3.1.0-1]
    }
    assert_eq!(decode(&Bytes::from_static(&[0x10]), 0, None, LIMIT), Ok(None));
}

#[test]
fn incomplete_packets_are_waited_for() {
    let bytes = frame(0x30, b"\x00\x01tpayload");
    for cut in 0..bytes.len() {
        assert_eq!(
            decode(&bytes.slice(..cut), 0, Some(V311), LIMIT),
            Ok(None),
            "{cut} bytes"
        );
    }
    assert_eq!(decode(&bytes, bytes.len(), Some(V311), LIMIT), Ok(None));
    assert_eq!(decode(&bytes, bytes.len() + 1, Some(V311), LIMIT), Ok(None));
}

#[test]
fn versions_differ_in_packets_and_header_flags() {
    let packet = PacketType::Auth;
    refused(&[V31], 0xF0, b"", E::PacketNotInVersion { packet, version: V31 });
    refused(&[V311], 0xF0, b"", E::PacketNotInVersion { packet, version: V311 });
    accepted(&[V5], 0xF0, b"");
    let dup = |packet| E::HeaderFlags { packet, flags: 0b1010 };
    accepted(&[V31], 0x6A, b"\0\x01"); // 3.1 section 2.1: DUP with QoS 1
    refused(&[V311, V5], 0x6A, b"\0\x01", dup(PacketType::PubRel)); // [MQTT-3.6.1-1]
    accepted(&[V31], 0x8A, b"\0\x01\0\x01a\0");
    refused(&[V311, V5], 0x8A, b"\0\x01\0\x01a\0", dup(PacketType::Subscribe)); // [MQTT-3.8.1-1]
    accepted(&[V31], 0xAA, b"\0\x01\0\x01a");
    refused(&[V311, V5], 0xAA, b"\0\x01\0\x01a", dup(PacketType::Unsubscribe)); // [MQTT-3.10.1-1]
}

#[test]
fn topics_of_a_publish_are_checked() {
    let topic = |error| E::TopicName(error);
    refused(&[V31, V311], 0x30, b"\0\0", topic(TopicError::Empty)); // [MQTT-4.7.3-1]
    refused(&[V5], 0x30, b"\0\0\0", E::TopicNameMissing); // 3.3.2.1
    accepted(&[V5], 0x30, b"\0\0\x03\x23\0\x01");
    refused(&[V5], 0x30, b"\0\x01t\x03\x23\0\0", E::TopicAlias); // [MQTT-3.3.2-8]
    refused(&ALL, 0x30, b"\0\x03a/+\0", topic(TopicError::WildcardInName)); // [MQTT-3.3.2-2]
    refused(&ALL, 0x30, b"\0\x01#\0", topic(TopicError::WildcardInName));
    refused(&ALL, 0x30, b"\0\x02\xC3\x28\0", E::String(StringError::NotUtf8)); // [MQTT-1.5.4-1]
    refused(&ALL, 0x30, b"\0\x03\xED\xA0\x80\0", E::String(StringError::NotUtf8)); // surrogates
    refused(&ALL, 0x30, b"\0\x03a\0b\0", E::String(StringError::NullCharacter)); // [MQTT-1.5.4-2]
    let deep = [&[0, 129, b'x'], "/".repeat(128).as_bytes(), b"\0"].concat();
    refused(&ALL, 0x30, &deep, topic(TopicError::TooManyLevels));
}

#[test]
fn fields_do_not_run_over_the_packet() {
    refused(&ALL, 0x30, b"", E::Truncated);
    refused(&ALL, 0x30, b"\0", E::Truncated);
    refused(&ALL, 0x30, b"\0\x05topi", E::Truncated);
    refused(&ALL, 0x32, b"\0\x01t\0", E::Truncated);
    refused(&[V5], 0x30, b"\0\x01t", E::Truncated); // property length
    refused(&[V5], 0x30, b"\0\x01t\x05\x01\x01", E::Truncated); // property block
    refused(&[V5], 0x30, b"\0\x01t\x02\x02\0\0\0\x01", E::Truncated); // property over its block
    refused(&[V5], 0x30, b"\0\x01t\x80", E::Truncated);
    refused(&ALL, 0x40, b"\0", E::Truncated);
    refused(&ALL, 0x82, b"\0", E::Truncated);
    refused(&[V31, V311], 0x82, b"\0\x01\0\x01a", E::Truncated); // options
    refused(&[V31, V311], 0xA2, b"\0\x01\0\x05a", E::Truncated);
    refused(&ALL, 0x20, b"\0", E::Truncated);
    refused(&[V5], 0x20, b"\0\0", E::Truncated);
    refused(&ALL, 0x10, b"\0\x04MQTT\x04\x02\0", E::Truncated);
    refused(&ALL, 0x10, b"", E::Truncated);
    refused(&[V5], 0xF0, b"\x18", E::Truncated); // 3.15.2.1: no form without a property length
}

#[test]
fn nothing_follows_the_last_field() {
    let trailing = |packet, bytes| E::TrailingBytes { packet, bytes };
    refused(&ALL, 0xC0, b"\0", trailing(PacketType::PingReq, 1));
    refused(&ALL, 0xD0, b"\0\0", trailing(PacketType::PingResp, 2));
    refused(&[V31, V311], 0xE0, b"\0", trailing(PacketType::Disconnect, 1));
    refused(&[V31, V311], 0x40, b"\0\x01\0", trailing(PacketType::PubAck, 1));
    refused(&[V31, V311], 0x62, b"\0\x01\0", trailing(PacketType::PubRel, 1));
    refused(&[V31, V311], 0xB0, b"\0\x01\0", trailing(PacketType::UnsubAck, 1));
    refused(&[V5], 0x40, b"\0\x01\0\0\0", trailing(PacketType::PubAck, 1));
    refused(&[V31, V311], 0x20, b"\0\0\0", trailing(PacketType::ConnAck, 1));
    refused(
        &ALL,
        0x10,
        b"\0\x04MQTT\x04\x02\0\0\0\x01cX",
        trailing(PacketType::Connect, 1),
    );
}

#[test]
fn packet_identifiers_are_not_zero() {
    for first in [0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0] {
        refused(&ALL, first, b"\0\0\0\x01a\0", E::PacketIdentifier); // [MQTT-2.2.1-3]
    }
    refused(&ALL, 0x32, b"\0\x01t\0\0\0", E::PacketIdentifier);
}

#[test]
fn subscriptions_are_checked() {
    let packet = PacketType::Subscribe;
    let filter = |error| E::TopicFilter(error);
    refused(&[V31, V311], 0x82, b"\0\x01", E::TopicFilterMissing { packet }); // [MQTT-3.8.3-2]
    refused(&[V5], 0x82, b"\0\x01\0", E::TopicFilterMissing { packet });
    let options = |options| E::SubscriptionOptions { options };
    refused(&[V5], 0x82, b"\0\x01\0\0\x01a\x40", options(0x40)); // [MQTT-3.8.3-5]
    refused(&[V31, V311], 0x82, b"\0\x01\0\x01a\x04", options(0x04)); // [MQTT-3-8.3-4] of 3.1.1
    refused(&[V5], 0x82, b"\0\x01\0\0\x01a\x03", E::SubscriptionQoS);
    refused(&[V31, V311], 0x82, b"\0\x01\0\x01a\x03", E::SubscriptionQoS);
    refused(&[V5], 0x82, b"\0\x01\0\0\x01a\x30", E::RetainHandling);
    refused(
        &[V5],
        0x82,
        b"\0\x01\0\0\x0A$share/g/a\x04",
        E::NoLocalOnSharedSubscription,
    ); // [MQTT-3.8.3-4]
    accepted(&[V5], 0x82, b"\0\x01\0\0\x01a\x2E");
    refused(&[V31, V311], 0x82, b"\0\x01\0\0\0", filter(TopicError::Empty)); // [MQTT-4.7.3-1]
    refused(
        &[V31, V311],
        0x82,
        b"\0\x01\0\x03#/a\0",
        filter(TopicError::MultiLevelNotLast),
    ); // [MQTT-4.7.1-1]
    refused(
        &[V31, V311],
        0x82,
        b"\0\x01\0\x02a+\0",
        filter(TopicError::WildcardInsideLevel),
    ); // [MQTT-4.7.1-2]
    refused(
        &[V31, V311],
        0x82,
        b"\0\x01\0\x09$share//a\0",
        filter(TopicError::ShareName),
    ); // [MQTT-4.8.2-1]
    refused(
        &[V5],
        0x82,
        b"\0\x01\0\0\x0A$share/+/a\0",
        filter(TopicError::ShareName),
    ); // [MQTT-4.8.2-2]
    refused(
        &[V5],
        0x82,
        b"\0\x01\0\0\x09$share/g/\0",
        filter(TopicError::SharedFilterMissing),
    );
    // One bad filter spoils the packet.
    refused(
        &[V311],
        0x82,
        b"\0\x01\0\x01a\0\0\x02a#\0",
        filter(TopicError::WildcardInsideLevel),
    );
}

#[test]
fn unsubscriptions_are_checked() {
    let packet = PacketType::Unsubscribe;
    refused(&[V31, V311], 0xA2, b"\0\x01", E::TopicFilterMissing { packet }); // [MQTT-3.10.3-2]
    refused(&[V5], 0xA2, b"\0\x01\0", E::TopicFilterMissing { packet });
    refused(
        &[V31, V311],
        0xA2,
        b"\0\x01\0\x02a#",
        E::TopicFilter(TopicError::WildcardInsideLevel),
    );
    refused(&[V31, V311], 0xA2, b"\0\x01\0\x01\xFF", E::String(StringError::NotUtf8));
}

#[test]
fn reason_codes_belong_to_their_packets() {
    let code = |packet, code| E::ReasonCode { packet, code };
    refused(&[V5], 0x40, b"\0\x01\x92", code(PacketType::PubAck, 0x92)); // [MQTT-3.4.2-1]
    refused(&[V5], 0x50, b"\0\x01\x05", code(PacketType::PubRec, 0x05)); // [MQTT-3.5.2-1]
    refused(&[V5], 0x62, b"\0\x01\x80", code(PacketType::PubRel, 0x80)); // [MQTT-3.6.2-1]
    refused(&[V5], 0x70, b"\0\x01\x10", code(PacketType::PubComp, 0x10)); // [MQTT-3.7.2-1]
    refused(&[V5], 0x90, b"\0\x01\0\x03", code(PacketType::SubAck, 0x03)); // [MQTT-3.9.3-2]
    refused(&[V31, V311], 0x90, b"\0\x01\x87", code(PacketType::SubAck, 0x87)); // [MQTT-3.9.3-2] of 3.1.1
    accepted(&[V31, V311], 0x90, b"\0\x01\x80\x02");
    refused(&[V5], 0xB0, b"\0\x01\0\x01", code(PacketType::UnsubAck, 0x01)); // [MQTT-3.11.3-2]
    refused(&[V5], 0xE0, b"\x01", code(PacketType::Disconnect, 0x01)); // [MQTT-3.14.2-1]
    refused(&[V5], 0xE0, b"\xFF", code(PacketType::Disconnect, 0xFF));
    refused(&[V5], 0xF0, b"\x80\0", code(PacketType::Auth, 0x80)); // [MQTT-3.15.2-1]
    refused(&[V5], 0x20, b"\0\x01\0", code(PacketType::ConnAck, 0x01)); // [MQTT-3.2.2-8]
    refused(&[V31, V311], 0x20, b"\0\x06", code(PacketType::ConnAck, 6)); // table 3.1 of 3.1.1
    refused(
        &[V31, V311],
        0x90,
        b"\0\x01",
        E::ReasonCodeMissing {
            packet: PacketType::SubAck,
        },
    );
    refused(
        &[V5],
        0xB0,
        b"\0\x01\0",
        E::ReasonCodeMissing {
            packet: PacketType::UnsubAck,
        },
    );
}

#[test]
fn connack_flags_are_checked() {
    refused(&[V311], 0x20, b"\x02\0", E::ConnAckFlags { flags: 2 }); // [MQTT-3.2.2-1]
    refused(&[V5], 0x20, b"\x81\0\0", E::ConnAckFlags { flags: 0x81 });
    refused(&[V311], 0x20, b"\x01\x05", E::SessionPresent); // [MQTT-3.2.2-4] of 3.1.1
    refused(&[V5], 0x20, b"\x01\x87\0", E::SessionPresent); // [MQTT-3.2.2-6]
    accepted(&[V31], 0x20, b"\xFF\0"); // the byte is unused in 3.1
}

#[test]
fn authentication_data_needs_its_method() {
    let missing = |owner| E::AuthenticationMethodMissing { owner };
    refused(&[V5], 0xF0, b"\x18\0", missing(of(PacketType::Auth))); // 3.15.2.2.2
    refused(&[V5], 0xF0, b"\x18\x04\x16\0\x01d", missing(of(PacketType::Auth)));
    refused(&[V5], 0x20, b"\0\0\x04\x16\0\x01d", missing(of(PacketType::ConnAck)));
    accepted(&[V5], 0xF0, b"\x18\x08\x15\0\x01m\x16\0\x01d");
}

#[test]
fn property_blocks_are_checked() {
    let publish = |block: &[u8]| [&b"\0\x01t"[..], &[block.len() as u8], block].concat();
    let connack = |block: &[u8]| [&b"\0\0"[..], &[block.len() as u8], block].concat();
    let bad = |first, body: Vec<u8>, expected| refused(&[V5], first, &body, expected);
    let value = |property| E::PropertyValue { property };
    // 2.2.2.2: unknown or foreign identifiers are malformed.
    bad(0x30, publish(b"\0\0"), E::UnknownProperty { id: 0 });
    bad(0x30, publish(b"\x7F\0"), E::UnknownProperty { id: 0x7F });
    bad(0x30, publish(b"\x81\0\x01"), E::UnknownProperty { id: 0x81 });
    let owner = of(PacketType::Publish);
    bad(
        0x30,
        publish(b"\x11\0\0\0\x01"),
        E::MisplacedProperty {
            property: Id::SessionExpiryInterval,
            owner,
        },
    );
    bad(
        0x30,
        publish(b"\x18\0\0\0\x01"),
        E::MisplacedProperty {
            property: Id::WillDelayInterval,
            owner,
        },
    );
    let owner = of(PacketType::ConnAck);
    bad(
        0x20,
        connack(b"\x23\0\x01"),
        E::MisplacedProperty {
            property: Id::TopicAlias,
            owner,
        },
    );
    // Values out of range.
    bad(0x30, publish(b"\x01\x02"), value(Id::PayloadFormatIndicator)); // 3.3.2.3.2
    bad(0x30, publish(b"\x0B\0"), value(Id::SubscriptionIdentifier)); // 3.3.2.3.8
    bad(0x30, publish(b"\x08\0\x01#"), value(Id::ResponseTopic)); // [MQTT-3.3.2-14]
    bad(0x30, publish(b"\x0B\x80\0"), E::VariableByteInteger); // [MQTT-1.5.5-1]
    bad(0x30, publish(b"\x0B\xFF\xFF\xFF\xFF\x01"), E::VariableByteInteger);
    bad(0x20, connack(b"\x21\0\0"), value(Id::ReceiveMaximum)); // 3.2.2.3.3
    bad(0x20, connack(b"\x27\0\0\0\0"), value(Id::MaximumPacketSize)); // 3.2.2.3.6
    bad(0x20, connack(b"\x24\x02"), value(Id::MaximumQoS)); // 3.2.2.3.4
    bad(0x20, connack(b"\x25\x02"), value(Id::RetainAvailable)); // 3.2.2.3.5
    bad(0x20, connack(b"\x28\x02"), value(Id::WildcardSubscriptionAvailable));
    bad(0x20, connack(b"\x29\x02"), value(Id::SubscriptionIdentifierAvailable));
    bad(0x20, connack(b"\x2A\x02"), value(Id::SharedSubscriptionAvailable));
    // Strings inside.
    bad(0x30, publish(b"\x26\0\x01a\0\x01\xFF"), E::String(StringError::NotUtf8));
    bad(0x30, publish(b"\x03\0\x01\0"), E::String(StringError::NullCharacter));
    // An overlong property length [MQTT-1.5.5-1].
    bad(0x30, b"\0\x01t\x80\0".to_vec(), E::VariableByteInteger);
    accepted(
        &[V5],
        0x30,
        &publish(b"\x0B\x01\x0B\x02\x26\0\x01a\0\x01b\x26\0\x01a\0\x01b"),
    );
}

#[test]
fn properties_stand_once() {
    let twice = |first: u8, prefix: &[u8], property: Id, value: &[u8]| {
        let one = [&[property as u8], value].concat();
        let body = [prefix, &[2 * one.len() as u8], &one, &one].concat();
        refused(&[V5], first, &body, E::DuplicateProperty { property });
    };
    for (id, value) in [
        (Id::PayloadFormatIndicator, &b"\x01"[..]),
        (Id::MessageExpiryInterval, b"\0\0\0\x01"),
        (Id::ContentType, b"\0\x01c"),
        (Id::ResponseTopic, b"\0\x01r"),
        (Id::CorrelationData, b"\0\x01d"),
        (Id::TopicAlias, b"\0\x01"),
    ] {
        twice(0x30, b"\0\x01t", id, value);
    }
    for (id, value) in [
        (Id::SessionExpiryInterval, &b"\0\0\0\x01"[..]),
        (Id::AssignedClientIdentifier, b"\0\x01c"),
        (Id::ServerKeepAlive, b"\0\x01"),
        (Id::AuthenticationMethod, b"\0\x01m"),
        (Id::ResponseInformation, b"\0\x01i"),
        (Id::ServerReference, b"\0\x01s"),
        (Id::ReasonString, b"\0\x01r"),
        (Id::ReceiveMaximum, b"\0\x01"),
        (Id::TopicAliasMaximum, b"\0\x01"),
        (Id::MaximumQoS, b"\x01"),
        (Id::RetainAvailable, b"\x01"),
        (Id::MaximumPacketSize, b"\0\0\0\x01"),
        (Id::WildcardSubscriptionAvailable, b"\x01"),
        (Id::SubscriptionIdentifierAvailable, b"\x01"),
        (Id::SharedSubscriptionAvailable, b"\x01"),
    ] {
        twice(0x20, b"\0\0", id, value);
    }
    twice(0x82, b"\0\x01", Id::SubscriptionIdentifier, b"\x01"); // 3.8.2.1.2
}

#[test]
fn blame_has_a_reason_code() {
    let check = |error: E, reason: ReasonCode| assert_eq!(error.reason(), reason, "{error}");
    check(E::Truncated, ReasonCode::MalformedPacket);
    check(E::String(StringError::NotUtf8), ReasonCode::MalformedPacket);
    check(E::PacketIdentifier, ReasonCode::ProtocolError);
    check(E::ProtocolName, ReasonCode::UnsupportedProtocolVersion);
    check(E::ClientIdentifier, ReasonCode::ClientIdentifierNotValid);
    check(E::TopicName(TopicError::Empty), ReasonCode::TopicNameInvalid);
    check(E::TopicFilter(TopicError::Empty), ReasonCode::TopicFilterInvalid);
    check(E::TopicAlias, ReasonCode::TopicAliasInvalid);
    let message = E::MisplacedProperty {
        property: Id::TopicAlias,
        owner: PropertyOwner::Will,
    }
    .to_string();
    assert_eq!(message, "Topic Alias is not a property of the Will Properties");
}

#[test]
fn topics_and_payloads_share_the_source() {
    let source = frame(0x30, b"\0\x05topicpayload");
    let Packet::Publish(publish) = decode(&source, 0, Some(V311), LIMIT)
        .expect("valid")
        .expect("complete")
        .0
    else {
        panic!("a PUBLISH");
    };
    assert_eq!(publish.topic.as_bytes().as_ptr(), source[4..].as_ptr());
    assert_eq!(publish.payload.as_ptr(), source[9..].as_ptr());
}
