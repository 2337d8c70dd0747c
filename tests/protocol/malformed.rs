//! What a client must not send: each ends the connection with its reason (4.13), and harms nobody else.

use crate::support::*;

/// Malformed Packet, Protocol Error.
const MALFORMED: &[u8] = &[0x81];
const PROTOCOL_ERROR: &[u8] = &[0x82];
/// Where the specification leaves it to the server which of the two it is.
const EITHER: &[u8] = &[0x81, 0x82];

type Row = (&'static str, &'static [u8], &'static [u8]);

/// What is wrong, the bytes, and the reason codes that are right.
const UNDER_5_0: &[Row] = &[
    ("packet type 0", &[0x00, 0], EITHER),
    (
        "remaining length of five bytes",
        &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        MALFORMED,
    ),
    ("PINGREQ with flags [MQTT-2.1.3-1]", &[0xC1, 0], MALFORMED),
    ("PINGREQ with a body", &[0xC0, 1, 0], EITHER),
    ("QoS 3 [MQTT-3.3.1-4]", &[0x36, 6, 0, 1, b'a', 0, 1, 0], MALFORMED),
    ("DUP with QoS 0 [MQTT-3.3.1-2]", &[0x38, 4, 0, 1, b'a', 0], EITHER),
    (
        "PUBLISH with packet identifier 0 [MQTT-2.2.1-3]",
        &[0x32, 6, 0, 1, b'a', 0, 0, 0],
        EITHER,
    ),
    (
        "wildcard # in a topic name [MQTT-3.3.2-2]",
        &[0x30, 4, 0, 1, b'#', 0],
        &[0x81, 0x82, 0x90],
    ),
    (
        "wildcard + in a topic name [MQTT-3.3.2-2]",
        &[0x30, 6, 0, 3, b'a', b'/', b'+', 0],
        &[0x81, 0x82, 0x90],
    ),
    (
        "topic that is not UTF-8 [MQTT-1.5.4-1]",
        &[0x30, 5, 0, 2, 0xC3, 0x28, 0],
        MALFORMED,
    ),
    (
        "topic with a surrogate [MQTT-1.5.4-1]",
        &[0x30, 6, 0, 3, 0xED, 0xA0, 0x80, 0],
        MALFORMED,
    ),
    (
        "topic with U+0000 [MQTT-1.5.4-2]",
        &[0x30, 5, 0, 2, b'a', 0, 0],
        MALFORMED,
    ),
    ("topic longer than the packet", &[0x30, 4, 0, 9, b'a', 0], MALFORMED),
    ("empty topic without an alias", &[0x30, 3, 0, 0, 0], EITHER),
    (
        "topic alias 0 [MQTT-3.3.2-8]",
        &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0],
        &[0x81, 0x82, 0x94],
    ),
    ("unknown topic alias", &[0x30, 6, 0, 0, 3, 0x23, 0, 1], &[0x82, 0x94]),
    (
        "a property twice",
        &[0x30, 8, 0, 1, b'a', 4, 0x01, 0, 0x01, 0],
        PROTOCOL_ERROR,
    ),
    (
        "a property of another packet",
        &[0x30, 9, 0, 1, b'a', 5, 0x11, 0, 0, 0, 1],
        EITHER,
    ),
    ("an unknown property", &[0x30, 6, 0, 1, b'a', 2, 0x7F, 0], MALFORMED),
    (
        "a boolean property that is 2",
        &[0x30, 6, 0, 1, b'a', 2, 0x01, 2],
        EITHER,
    ),
    (
        "properties longer than the packet",
        &[0x30, 6, 0, 1, b'a', 9, 0x01, 0],
        MALFORMED,
    ),
    (
        "response topic with a wildcard [MQTT-3.3.2-14]",
        &[0x30, 8, 0, 1, b'a', 4, 0x08, 0, 1, b'#'],
        EITHER,
    ),
    (
        "a subscription identifier from a client [MQTT-3.3.4-6]",
        &[0x30, 6, 0, 1, b'a', 2, 0x0B, 1],
        PROTOCOL_ERROR,
    ),
    ("PUBREL with flags 0 [MQTT-3.6.1-1]", &[0x60, 2, 0, 1], MALFORMED),
    ("PUBACK with packet identifier 0", &[0x40, 2, 0, 0], EITHER),
    (
        "SUBSCRIBE with flags 0 [MQTT-3.8.1-1]",
        &[0x80, 7, 0, 1, 0, 0, 1, b'a', 0],
        MALFORMED,
    ),
    ("SUBSCRIBE without filters [MQTT-3.8.3-2]", &[0x82, 3, 0, 1, 0], EITHER),
    (
        "SUBSCRIBE with packet identifier 0",
        &[0x82, 7, 0, 0, 0, 0, 1, b'a', 0],
        EITHER,
    ),
    (
        "SUBSCRIBE with reserved option bits [MQTT-3.8.3-5]",
        &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40],
        EITHER,
    ),
    ("SUBSCRIBE with QoS 3", &[0x82, 7, 0, 1, 0, 0, 1, b'a', 3], EITHER),
    (
        "SUBSCRIBE with retain handling 3",
        &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30],
        EITHER,
    ),
    (
        "subscription identifier 0",
        &[0x82, 9, 0, 1, 2, 0x0B, 0, 0, 1, b'a', 0],
        EITHER,
    ),
    (
        "SUBSCRIBE with an empty filter [MQTT-4.7.3-1]",
        &[0x82, 6, 0, 1, 0, 0, 0, 0],
        &[0x81, 0x82, 0x8F],
    ),
    (
        "# before the end of a filter [MQTT-4.7.1-1]",
        &[0x82, 9, 0, 1, 0, 0, 3, b'#', b'/', b'a', 0],
        &[0x81, 0x82, 0x8F],
    ),
    (
        "+ within a level of a filter [MQTT-4.7.1-2]",
        &[0x82, 8, 0, 1, 0, 0, 2, b'a', b'+', 0],
        &[0x81, 0x82, 0x8F],
    ),
    (
        "No Local on a shared subscription [MQTT-3.8.3-4]",
        b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04",
        PROTOCOL_ERROR,
    ),
    (
        "UNSUBSCRIBE without filters [MQTT-3.10.3-2]",
        &[0xA2, 3, 0, 1, 0],
        EITHER,
    ),
    (
        "UNSUBSCRIBE with flags 0 [MQTT-3.10.1-1]",
        &[0xA0, 6, 0, 1, 0, 0, 1, b'a'],
        MALFORMED,
    ),
    ("DISCONNECT with flags [MQTT-3.14.1-1]", &[0xE1, 0], MALFORMED),
    ("AUTH without a method", &[0xF0, 2, 0x18, 0], EITHER),
    ("CONNACK from a client", &[0x20, 3, 0, 0, 0], PROTOCOL_ERROR),
    ("SUBACK from a client", &[0x90, 4, 0, 1, 0, 0], PROTOCOL_ERROR),
    ("PINGRESP from a client", &[0xD0, 0], PROTOCOL_ERROR),
];

/// The same for 3.1.1, which only closes.
const UNDER_3_1_1: &[(&str, &[u8])] = &[
    ("packet type 0", &[0x00, 0]),
    ("packet type 15", &[0xF0, 0]),
    ("remaining length of five bytes", &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
    ("PINGREQ with flags [MQTT-2.2.2-2]", &[0xC1, 0]),
    ("QoS 3 [MQTT-3.3.1-4]", &[0x36, 5, 0, 1, b'a', 0, 1]),
    ("DUP with QoS 0 [MQTT-3.3.1-2]", &[0x38, 3, 0, 1, b'a']),
    (
        "PUBLISH with packet identifier 0 [MQTT-2.3.1-1]",
        &[0x32, 5, 0, 1, b'a', 0, 0],
    ),
    ("empty topic [MQTT-4.7.3-1]", &[0x30, 2, 0, 0]),
    ("wildcard in a topic name [MQTT-3.3.2-2]", &[0x30, 3, 0, 1, b'#']),
    ("topic that is not UTF-8 [MQTT-1.5.3-1]", &[0x30, 4, 0, 2, 0xC3, 0x28]),
    ("topic with U+0000 [MQTT-1.5.3-2]", &[0x30, 4, 0, 2, b'a', 0]),
    ("topic longer than the packet", &[0x30, 3, 0, 9, b'a']),
    ("PUBREL with flags 0 [MQTT-3.6.1-1]", &[0x60, 2, 0, 1]),
    ("SUBSCRIBE with flags 0 [MQTT-3.8.1-1]", &[0x80, 6, 0, 1, 0, 1, b'a', 0]),
    ("SUBSCRIBE without filters [MQTT-3.8.3-3]", &[0x82, 2, 0, 1]),
    (
        "SUBSCRIBE with packet identifier 0 [MQTT-2.3.1-1]",
        &[0x82, 6, 0, 0, 0, 1, b'a', 0],
    ),
    ("SUBSCRIBE with QoS 3 [MQTT-3.8.3-4]", &[0x82, 6, 0, 1, 0, 1, b'a', 3]),
    (
        "SUBSCRIBE with options of 5.0 [MQTT-3.8.3-4]",
        &[0x82, 6, 0, 1, 0, 1, b'a', 4],
    ),
    ("UNSUBSCRIBE without filters [MQTT-3.10.3-2]", &[0xA2, 2, 0, 1]),
    ("DISCONNECT with flags [MQTT-3.14.1-1]", &[0xE1, 0]),
    ("CONNACK from a client", &[0x20, 2, 0, 0]),
];

#[test]
fn a_malformed_packet_is_answered_by_its_reason() {
    each_broker(|broker| {
        let mut bystander = Client::new(broker, Version::V5, "bystander");
        let wrong: Vec<_> = UNDER_5_0.iter().filter_map(|row| wrong_answer(broker, row)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        bystander.expect_idle();
    });
}

/// What came in place of the DISCONNECT that this row wants, if anything did.
fn wrong_answer(broker: &Broker, (what, bytes, reasons): &Row) -> Option<String> {
    let mut client = Client::new(broker, Version::V5, "c");
    client.send_bytes(bytes);
    match client.try_next() {
        Ok(Some(Packet::Disconnect(answer))) if reasons.contains(&(answer.reason as u8)) => client.expect_end(),
        other => return Some(format!("{what}: expected one of {reasons:02x?}, got {other:?}")),
    }
    None
}

#[test]
fn a_malformed_packet_closes_a_connection_of_3_1_1() {
    each_broker(|broker| {
        let mut bystander = Client::new(broker, Version::V311, "bystander");
        let answer = |bytes: &[u8]| {
            let mut client = Client::new(broker, Version::V311, "c");
            client.send_bytes(bytes);
            client.try_next()
        };
        let closed = |bytes: &[u8]| matches!(answer(bytes), Ok(None));
        let ignored: Vec<_> = UNDER_3_1_1
            .iter()
            .filter(|(_, bytes)| !closed(bytes))
            .map(|(what, _)| what)
            .collect();
        assert!(ignored.is_empty(), "{ignored:#?}");
        bystander.expect_idle();
    });
}

/// 3.3.2.3.4: an alias over the broker's maximum is 0x94.
#[test]
fn a_topic_alias_over_the_maximum_is_refused() {
    each_broker(|broker| {
        let (mut client, answer) = Client::connect(broker, hello(Version::V5, "c"));
        let maximum = properties(&answer.properties).topic_alias_maximum.unwrap_or(0);
        let over = props(|p| p.topic_alias = Some(maximum + 1));
        client.send_publish(Publish {
            properties: over,
            ..message("t", "x", QoS::AtMostOnce)
        });
        client.expect_disconnect(0x94);
    });
}

/// The body of a CONNECT after its protocol name and level: flags, keep alive, and the rest.
fn connect_bytes(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60];
    body.extend_from_slice(rest);
    let mut packet = vec![0x10, u8::try_from(body.len()).expect("short")];
    packet.extend(body);
    packet
}

/// Section 3.1: the connection ends, with or without a CONNACK that refuses.
#[test]
fn a_malformed_connect_is_refused() {
    let rows: &[(&str, Vec<u8>)] = &[
        ("reserved flag [MQTT-3.1.2-3]", connect_bytes(4, 3, &[0, 1, b'c'])),
        (
            "will QoS 3 [MQTT-3.1.2-14]",
            connect_bytes(4, 0x1E, &[0, 1, b'c', 0, 1, b'w', 0, 0]),
        ),
        (
            "will QoS without a will [MQTT-3.1.2-13]",
            connect_bytes(4, 0x0A, &[0, 1, b'c']),
        ),
        (
            "will retain without a will [MQTT-3.1.2-15]",
            connect_bytes(4, 0x22, &[0, 1, b'c']),
        ),
        (
            "password without user name [MQTT-3.1.2-22]",
            connect_bytes(4, 0x42, &[0, 1, b'c', 0, 1, b'p']),
        ),
        (
            "announced user name missing [MQTT-3.1.2-19]",
            connect_bytes(4, 0x82, &[0, 1, b'c']),
        ),
        ("bytes after the payload", connect_bytes(4, 2, &[0, 1, b'c', 0, 0])),
        (
            "will topic with a wildcard",
            connect_bytes(4, 6, &[0, 1, b'c', 0, 1, b'#', 0, 0]),
        ),
        (
            "client identifier that is not UTF-8",
            connect_bytes(4, 2, &[0, 2, 0xC3, 0x28]),
        ),
        (
            "5.0: reserved flag [MQTT-3.1.2-3]",
            connect_bytes(5, 3, &[0, 0, 1, b'c']),
        ),
        (
            "5.0: receive maximum 0",
            connect_bytes(5, 2, &[3, 0x21, 0, 0, 0, 1, b'c']),
        ),
        (
            "5.0: maximum packet size 0",
            connect_bytes(5, 2, &[5, 0x27, 0, 0, 0, 0, 0, 1, b'c']),
        ),
        (
            "5.0: session expiry twice",
            connect_bytes(5, 2, &[10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1, 0, 1, b'c']),
        ),
        (
            "5.0: authentication data without method",
            connect_bytes(5, 2, &[4, 0x16, 0, 1, 1, 0, 1, b'c']),
        ),
        (
            "protocol name",
            vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'X', 4, 2, 0, 60, 0, 1, b'c'],
        ),
        (
            "flags [MQTT-2.1.3-1]",
            vec![0x11, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'c'],
        ),
    ];
    each_broker(|broker| {
        let accepted: Vec<_> = rows
            .iter()
            .filter(|(_, bytes)| !is_refused(broker, bytes))
            .map(|(what, _)| what)
            .collect();
        assert!(accepted.is_empty(), "{accepted:#?}");
    });
}

fn is_refused(broker: &Broker, connect: &[u8]) -> bool {
    // A CONNACK of 5.0 and one of 3.1.1 are told apart by the level that was sent.
    let mut client = Client::open(broker, if connect[8] == 5 { Version::V5 } else { Version::V311 });
    client.send_bytes(connect);
    match client.next() {
        None => true,
        Some(Packet::ConnAck(answer)) if answer.reason as u8 >= 0x80 => client.next().is_none(),
        Some(_) => false,
    }
}
