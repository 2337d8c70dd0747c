use crate::DecodeError as E;
use crate::topic::TopicError;
use crate::{Connect, Packet, PacketType, PropertyId as Id, PropertyOwner, QoS, StringError, Version, decode};
use Version::{V5, V31, V311};
use bytes::Bytes;

/// A CONNECT of `version` with these flags and everything behind the Keep Alive.
fn connect(version: Version, flags: u8, rest: &[u8]) -> Result<Connect, E> {
    let name: &[u8] = if version == V31 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" };
    body(&[name, &[version as u8, flags, 0, 60], rest].concat())
}

fn body(body: &[u8]) -> Result<Connect, E> {
    let packet = Bytes::from([&[0x10, body.len() as u8], body].concat());
    match decode(&packet, 0, None, 1000)? {
        Some((Packet::Connect(connect), len)) if len == packet.len() => Ok(*connect),
        other => panic!("{body:02x?}: {other:?}"),
    }
}

#[test]
fn protocol_names_and_levels_go_together() {
    let check = |start: &[u8], expected: Result<Version, E>| {
        let properties: &[u8] = if start.last() == Some(&5) { b"\0" } else { b"" };
        let bytes = [start, &[2, 0, 60], properties, b"\0\x01c"].concat();
        assert_eq!(body(&bytes).map(|connect| connect.version), expected, "{start:02x?}");
        let packet = [&[0x10, bytes.len() as u8], &bytes[..]].concat();
        assert_eq!(Version::of_connect(&packet), expected.ok(), "{start:02x?}");
    };
    check(b"\0\x06MQIsdp\x03", Ok(V31));
    check(b"\0\x04MQTT\x04", Ok(V311));
    check(b"\0\x04MQTT\x05", Ok(V5));
    check(b"\0\x04MQTT\x03", Err(E::ProtocolVersion { level: 3 })); // [MQTT-3.1.2-2]
    check(b"\0\x04MQTT\x06", Err(E::ProtocolVersion { level: 6 }));
    check(b"\0\x06MQIsdp\x04", Err(E::ProtocolVersion { level: 4 }));
    check(b"\0\x04mqtt\x04", Err(E::ProtocolName)); // [MQTT-3.1.2-1]
    check(b"\0\x03MQT\x04", Err(E::ProtocolName));
    check(b"\0\0\x04", Err(E::ProtocolName));
}

#[test]
fn the_version_of_a_malformed_connect_can_be_told() {
    let check = |bytes: &[u8], expected| assert_eq!(Version::of_connect(bytes), expected, "{bytes:02x?}");
    check(b"\x10\x0A\0\x04MQTT\x05\xFF", Some(V5)); // reserved flag, incomplete
    check(b"\x10\x0A\0\x04MQTT", None);
    check(b"\x10\x80\0\0\x04MQTT\x05", None);
    check(b"\x30\x0A\0\x04MQTT\x05", None);
    check(b"\x10", None);
    check(b"", None);
}

#[test]
fn connect_flags_are_consistent() {
    let refused = |versions: &[Version], flags: u8, expected: E| {
        for &version in versions {
            assert_eq!(
                connect(version, flags, b"\0\0\0\0\0\0\0\0"),
                Err(expected),
                "{version} {flags:#010b}"
            );
        }
    };
    let all = [V31, V311, V5];
    refused(&all, 0b0000_0011, E::ConnectFlagReserved); // [MQTT-3.1.2-3]
    refused(&all, 0b0000_1010, E::WillFlags); // [MQTT-3.1.2-11]
    refused(&all, 0b0010_0010, E::WillFlags); // [MQTT-3.1.2-13]
    refused(&all, 0b0001_1110, E::WillQoS); // [MQTT-3.1.2-12]
    refused(&all, 0b0001_1010, E::WillQoS);
    refused(&[V31, V311], 0b0100_0010, E::PasswordWithoutUserName); // [MQTT-3.1.2-22] of 3.1.1
    let alone = connect(V5, 0b0100_0010, b"\0\0\x01c\0\x02pw").expect("5.0 allows it");
    assert_eq!((alone.username, alone.password.as_deref()), (None, Some(&b"pw"[..])));
}

#[test]
fn empty_client_identifiers_depend_on_the_version() {
    let check = |version, flags, expected: Result<(), E>| {
        let rest: &[u8] = if version == V5 { b"\0\0\0" } else { b"\0\0" };
        assert_eq!(
            connect(version, flags, rest).map(|_| ()),
            expected,
            "{version} {flags:#04x}"
        );
    };
    check(V31, 2, Err(E::ClientIdentifier)); // 3.1 section 3.1: at least one character
    check(V311, 2, Ok(())); // [MQTT-3.1.3-6]
    check(V311, 0, Err(E::ClientIdentifier)); // [MQTT-3.1.3-8] of 3.1.1
    check(V5, 0, Ok(())); // [MQTT-3.1.3-6]
    check(V5, 2, Ok(()));
    assert!(
        connect(V31, 2, b"\0\x1Eabcdefghijklmnopqrstuvwxyz0123").is_ok(),
        "30 characters"
    );
}

#[test]
fn the_fields_come_in_their_order() {
    let connect = connect(
        V5,
        0b1111_0110,
        b"\0\0\x01c\x05\x18\0\0\0\x07\0\x01w\0\x02wp\0\x01u\0\x01p",
    )
    .expect("valid");
    let will = connect.will.expect("a will");
    assert_eq!(
        (connect.client_id.as_str(), connect.keep_alive, connect.clean_start),
        ("c", 60, true)
    );
    assert_eq!(
        (will.topic.as_str(), &will.payload[..], will.qos, will.retain),
        ("w", &b"wp"[..], QoS::ExactlyOnce, true)
    );
    assert_eq!(will.properties.and_then(|p| p.will_delay_interval), Some(7));
    assert_eq!(
        (connect.username.as_deref(), connect.password.as_deref()),
        (Some("u"), Some(&b"p"[..]))
    );
}

#[test]
fn fields_of_a_connect_are_checked() {
    let check = |version, flags, rest: &[u8], expected| {
        assert_eq!(
            connect(version, flags, rest),
            Err(expected),
            "{version} {flags:#04x} {rest:02x?}"
        );
    };
    let topic = E::TopicName;
    check(V311, 2, b"\0\x01\xFF", E::String(StringError::NotUtf8)); // [MQTT-3.1.3-4]
    check(V311, 6, b"\0\x01c\0\0\0\0", topic(TopicError::Empty)); // [MQTT-4.7.3-1]
    check(V311, 6, b"\0\x01c\0\x01#\0\0", topic(TopicError::WildcardInName));
    check(V311, 6, b"\0\x01c\0\x01\xFF\0\0", E::String(StringError::NotUtf8)); // [MQTT-3.1.3-11]
    check(V311, 0x82, b"\0\x01c\0\x01\0", E::String(StringError::NullCharacter)); // [MQTT-3.1.3-12]
    check(V311, 0x82, b"\0\x01c", E::Truncated);
    check(V311, 0xC2, b"\0\x01c\0\x01u", E::Truncated);
    check(
        V311,
        2,
        b"\0\x01c\0",
        E::TrailingBytes {
            packet: PacketType::Connect,
            bytes: 1,
        },
    );
}

// 3.1 section 3.1: the Remaining Length takes precedence over the User Name and Password flags.
#[test]
fn a_3_1_client_may_announce_credentials_and_leave_them_out() {
    let without = connect(V31, 0xC2, b"\0\x01c").expect("valid under 3.1");
    assert_eq!((without.username, without.password), (None, None));
    let with = connect(V31, 0xC2, b"\0\x01c\0\x01u").expect("valid under 3.1");
    assert_eq!((with.username.as_deref(), with.password), (Some("u"), None));
    assert_eq!(connect(V31, 0xC2, b"\0\x01c\0\x02u"), Err(E::Truncated));
}

#[test]
fn properties_of_a_connect_are_checked() {
    let owner = PropertyOwner::Packet(PacketType::Connect);
    let check = |block: &[u8], expected| {
        let rest = [&[block.len() as u8], block, b"\0\x01c"].concat();
        assert_eq!(connect(V5, 2, &rest), Err(expected), "{block:02x?}");
    };
    let value = |property| E::PropertyValue { property };
    let duplicate = |property| E::DuplicateProperty { property };
    check(b"\x21\0\0", value(Id::ReceiveMaximum)); // 3.1.2.11.3
    check(b"\x27\0\0\0\0", value(Id::MaximumPacketSize)); // 3.1.2.11.4
    check(b"\x17\x02", value(Id::RequestProblemInformation)); // 3.1.2.11.7
    check(b"\x19\x02", value(Id::RequestResponseInformation)); // 3.1.2.11.6
    check(b"\x17\0\x17\0", duplicate(Id::RequestProblemInformation));
    check(b"\x19\0\x19\0", duplicate(Id::RequestResponseInformation));
    check(b"\x15\0\0\x16\0\0\x16\0\0", duplicate(Id::AuthenticationData));
    check(b"\x16\0\x01d", E::AuthenticationMethodMissing { owner }); // 3.1.2.11.10
    check(
        b"\x01\x01",
        E::MisplacedProperty {
            property: Id::PayloadFormatIndicator,
            owner,
        },
    );
    check(
        b"\x24\x01",
        E::MisplacedProperty {
            property: Id::MaximumQoS,
            owner,
        },
    );
}

#[test]
fn properties_of_a_will_are_checked() {
    let owner = PropertyOwner::Will;
    let check = |block: &[u8], expected| {
        let rest = [&b"\0\0\x01c"[..], &[block.len() as u8], block, b"\0\x01w\0\0"].concat();
        assert_eq!(connect(V5, 6, &rest), Err(expected), "{block:02x?}");
    };
    check(
        b"\x01\x02",
        E::PropertyValue {
            property: Id::PayloadFormatIndicator,
        },
    );
    check(
        b"\x18\0\0\0\x01\x18\0\0\0\x01",
        E::DuplicateProperty {
            property: Id::WillDelayInterval,
        },
    );
    check(
        b"\x23\0\x01",
        E::MisplacedProperty {
            property: Id::TopicAlias,
            owner,
        },
    );
    check(
        b"\x0B\x01",
        E::MisplacedProperty {
            property: Id::SubscriptionIdentifier,
            owner,
        },
    );
}
