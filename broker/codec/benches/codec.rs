//! What it costs to decode and encode one packet.
//!
//!     cargo bench -p nervewire-codec --bench codec

mod operation;

use bytes::Bytes;
use divan::{Bencher, black_box};
use nervewire_codec::{
    Ack, Connect, Packet, PacketId, Properties, Publish, PublishHeader, QoS, ReasonCode, SubAck, Subscribe,
    SubscribeFilter, SubscriptionOptions, UserProperty, Utf8String, Version, decode, decode_in_place, encode,
    encode_publish_header,
};
use operation::Operation;

const MAX_PACKET_BYTES: u32 = 1_048_576;

const OPERATIONS: [Operation; 16] = [
    Operation::new("decode in place, PUBLISH QoS 0, 64 B", || in_place(publish(0, 64))),
    Operation::new("decode in place, PUBLISH QoS 0, 1 KiB", || in_place(publish(0, 1_024))),
    Operation::new("decode in place, PUBLISH QoS 1, 64 B", || in_place(publish(1, 64))),
    Operation::new("decode in place, PUBLISH QoS 1, 1 KiB", || in_place(publish(1, 1_024))),
    Operation::new("decode in place, PUBLISH 5.0 with properties", || {
        in_place(with_properties())
    }),
    Operation::new("decode in place, PUBACK", || in_place((puback(), Version::V311))),
    Operation::new("decode, PUBLISH QoS 0, 64 B", || shared(publish(0, 64))),
    Operation::new("decode, PUBLISH QoS 0, 1 KiB", || shared(publish(0, 1_024))),
    Operation::new("decode, PUBLISH QoS 1, 64 B", || shared(publish(1, 64))),
    Operation::new("decode, PUBLISH 5.0 with properties", || shared(with_properties())),
    Operation::new("decode, SUBSCRIBE with 100 filters", || {
        shared((subscribe(), Version::V311))
    }),
    Operation::new("decode, CONNECT", || shared((connect(), Version::V311))),
    Operation::new("encode, header of PUBLISH QoS 1", || header(publish(1, 64))),
    Operation::new("encode, header of PUBLISH 5.0 with properties", || {
        header(with_properties())
    }),
    Operation::new("encode, PUBACK", || encoding((puback(), Version::V311))),
    Operation::new("encode, SUBACK with 100 reasons", || {
        encoding((suback(), Version::V311))
    }),
];

fn main() {
    operation::main(&OPERATIONS);
}

#[divan::bench(args = OPERATIONS)]
fn codec(bencher: Bencher<'_, '_>, operation: &Operation) {
    bencher.bench_local((operation.prepare)());
}

type Case = (Packet, Version);

fn in_place((packet, version): Case) -> Box<dyn FnMut()> {
    let bytes = bytes_of(&packet, version);
    Box::new(move || {
        let found = decode_in_place(black_box(&bytes), Some(version), MAX_PACKET_BYTES);
        assert!(matches!(black_box(found), Ok(Some(_))));
    })
}

fn shared((packet, version): Case) -> Box<dyn FnMut()> {
    let bytes = Bytes::from(bytes_of(&packet, version));
    Box::new(move || {
        let found = decode(black_box(&bytes), 0, Some(version), MAX_PACKET_BYTES);
        assert!(matches!(black_box(found), Ok(Some(_))));
    })
}

/// Into a buffer that is large enough, as a connection's output mostly is.
fn encoding((packet, version): Case) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(4_096);
    Box::new(move || {
        out.clear();
        assert!(encode(black_box(&packet), version, &mut out).is_ok());
        black_box(&out);
    })
}

fn header((packet, version): Case) -> Box<dyn FnMut()> {
    let Packet::Publish(publish) = packet else {
        unreachable!("only a PUBLISH has a header of its own");
    };
    let mut out = Vec::with_capacity(4_096);
    Box::new(move || {
        out.clear();
        let header = PublishHeader::of(black_box(&publish));
        assert!(encode_publish_header(&header, version, &mut out).is_ok());
        black_box(&out);
    })
}

fn bytes_of(packet: &Packet, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).expect("encodable");
    bytes
}

fn text(s: &str) -> Utf8String {
    Utf8String::try_from(s).expect("valid")
}

fn packet_id() -> PacketId {
    PacketId::new(1).expect("not 0")
}

/// Its topic has 20 bytes.
fn publish(qos: u8, payload_bytes: usize) -> Case {
    let publish = Publish {
        dup: false,
        qos: QoS::from_bits(qos).expect("0, 1 or 2"),
        retain: false,
        topic: text("site/7/robot/12/axis"),
        packet_id: (qos > 0).then(packet_id),
        properties: None,
        payload: Bytes::from(vec![b'x'; payload_bytes]),
    };
    (Packet::Publish(publish), Version::V311)
}

fn with_properties() -> Case {
    let properties = Properties {
        message_expiry_interval: Some(60),
        content_type: Some(text("application/json")),
        response_topic: Some(text("site/7/answers")),
        user_properties: vec![(text("unit"), text("mm")) as UserProperty],
        ..Properties::default()
    };
    let (mut packet, _) = publish(1, 64);
    if let Packet::Publish(publish) = &mut packet {
        publish.properties = Some(Box::new(properties));
    }
    (packet, Version::V5)
}

fn puback() -> Packet {
    Packet::PubAck(Ack {
        packet_id: packet_id(),
        reason: ReasonCode::Success,
        properties: None,
    })
}

fn subscribe() -> Packet {
    let filter = |n| SubscribeFilter {
        filter: text(&format!("site/{n}/robot/+/axis")),
        options: SubscriptionOptions::default(),
    };
    Packet::Subscribe(Subscribe {
        packet_id: packet_id(),
        properties: None,
        filters: (0..100).map(filter).collect(),
    })
}

fn suback() -> Packet {
    Packet::SubAck(SubAck {
        packet_id: packet_id(),
        properties: None,
        reasons: vec![ReasonCode::Success; 100],
    })
}

fn connect() -> Packet {
    Packet::Connect(Box::new(Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive: 60,
        client_id: text("robot-12"),
        will: None,
        username: Some(text("robot")),
        password: Some(Bytes::from_static(b"secret")),
        properties: None,
    }))
}
