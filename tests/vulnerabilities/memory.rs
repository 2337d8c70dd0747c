//! What strangers and clients make the broker keep.

use crate::support::*;
use crate::{is_alive, thrown_out, variable};
use std::io::Write;
use std::net::TcpStream;

/// Far more than a connection takes, far less than what was announced or repeated.
const GROWTH_KIB: u64 = 32 * 1024;

/// CVE-2017-7651, CVE-2023-0809: memory was taken for what a stranger announced.
#[test]
fn what_a_stranger_announces_takes_no_memory() {
    const STRANGERS: usize = 300;
    let broker = Setup::new().start();
    is_alive(&broker);
    let before = broker.resident_kib();
    let announcements: [&[u8]; 5] = [
        &[0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, b'M'], // A CONNECT of 256 MiB.
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't'], // A PUBLISH of 256 MiB.
        &[0x30, 0xFF, 0xFF, 0x3F, 0, 1, b't'],       // One of 1 MiB, which would be allowed after a CONNECT.
        &[0x82, 0xFF, 0xFF, 0x3F, 0, 1],
        &[
            0x10, 0xFF, 0xFF, 0x3F, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0xFF, 0xFF,
        ], // A CONNECT of 1 MiB.
    ];
    let strangers: Vec<_> = (0..STRANGERS)
        .map(|n| {
            let mut stream = TcpStream::connect(broker.address()).expect("connect");
            let _ = stream.write_all(announcements[n % announcements.len()]);
            stream
        })
        .collect();
    is_alive(&broker);
    let with = broker.resident_kib();
    assert!(
        with < before + GROWTH_KIB,
        "{before} KiB before, {with} KiB with {STRANGERS} strangers"
    );
    drop(strangers);
    for announcement in &announcements[..4] {
        thrown_out(&broker, announcement);
    }
    is_alive(&broker);
}

/// CVE-2023-28366: a QoS 2 identifier that came again and again took memory each time.
#[test]
fn repeated_qos_2_identifiers_take_no_memory() {
    const ROUNDS: usize = 40;
    const REPEATED: usize = 500;
    let broker = Setup::new().start();
    for version in [Version::V311, Version::V5] {
        let mut client = Client::new(&broker, version, &format!("{version:?}"));
        let mut round = || {
            for _ in 0..REPEATED {
                let publish = Publish {
                    packet_id: PacketId::new(7),
                    ..message("t", vec![b'x'; 4_096], QoS::ExactlyOnce)
                };
                client.send(Packet::Publish(publish));
            }
            for _ in 0..REPEATED {
                assert!(matches!(client.recv(), Packet::PubRec(_)));
            }
        };
        round();
        let before = broker.resident_kib();
        (0..ROUNDS).for_each(|_| round());
        let after = broker.resident_kib();
        assert!(
            after < before + GROWTH_KIB,
            "{version:?}: {before} KiB before, {after} KiB after"
        );
    }
}

/// CVE-2023-3592: a CONNECT with will properties that are none left them behind.
#[test]
fn broken_will_properties_leave_nothing_behind() {
    const CONNECTIONS: usize = 400;
    let broker = Setup::new().start();
    // A will of 16 KiB of properties, the last of which is none.
    let connect = |last: &[u8]| {
        let property = [&[0x26, 0, 1, b'n'][..], &[0x10, 0], &[b'v'; 0x1000]].concat();
        let properties = [property.repeat(4), last.to_vec()].concat();
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0x06, 0, 60, 0, 0, 1, b'c'];
        body.extend(variable(properties.len()));
        body.extend(properties);
        body.extend([0, 1, b'w', 0, 1, b'x']);
        [vec![0x10], variable(body.len()), body].concat()
    };
    let broken: [&[u8]; 4] = [&[0x01, 2], &[0x11, 0, 0, 0, 1], &[0x18, 0], &[0x26, 0xFF, 0xFF]];
    let all = || broken.iter().for_each(|last| thrown_out(&broker, &connect(last)));
    all();
    let before = broker.resident_kib();
    (0..CONNECTIONS / broken.len()).for_each(|_| all());
    let after = broker.resident_kib();
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");
    // The same without the last property is a will like any other.
    let mut client = Client::open(&broker, Version::V5);
    client.send_bytes(&connect(&[]));
    assert_eq!(client.expect_connack().reason, ReasonCode::Success);
}

/// CVE-2020-13849: half a connection, or one with the longest keep alive, held its slot as long as it liked.
#[test]
fn half_a_connection_does_not_hold_its_slot() {
    let broker = Setup::new()
        .toml("[limits]\nconnect_timeout_ms = 300\nmax_keep_alive_s = 1\n")
        .start();
    let whole = connect_bytes();
    for sent in [0, 1, 2, 9, whole.len() - 1] {
        // It is closed without being asked.
        thrown_out(&broker, &whole[..sent]);
    }
    // Who asks for 18 hours is told what it gets, and gets no more.
    let mut patient = hello(Version::V5, "patient");
    patient.keep_alive = u16::MAX;
    let (mut client, answer) = Client::connect(&broker, patient);
    assert_eq!(properties(&answer.properties).server_keep_alive, Some(1));
    client.expect_disconnect(0x8D);
    is_alive(&broker);
}

fn connect_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    nervewire_codec::encode(
        &Packet::Connect(Box::new(hello(Version::V5, "half"))),
        Version::V5,
        &mut bytes,
    )
    .expect("encode");
    bytes
}

/// CVE-2021-33175, CVE-2021-33176: memory grew with what was sent until the broker was killed.
#[test]
fn what_nobody_takes_is_bounded_in_memory() {
    const SENT: usize = 4_000;
    let broker = Setup::new()
        .toml("[limits]\nmemory_bytes = 16_777_216\nqueue_messages = 1_000_000\n")
        .start();
    let mut absent = Vec::new();
    for n in 0..4 {
        let (mut client, _) = Client::connect(&broker, durable(Version::V5, &format!("absent{n}")));
        client.subscribe("t/#", QoS::AtLeastOnce);
        absent.push(client);
    }
    absent.into_iter().for_each(Client::disconnect);
    let mut publisher = Client::new(&broker, Version::V5, "p");
    publisher.publish("t", "x", QoS::AtLeastOnce);
    let before = broker.resident_kib();
    for _ in 0..SENT {
        // Refused or taken: what it takes is bounded.
        publisher.deliver(message("t", vec![b'x'; 32 * 1024], QoS::AtLeastOnce));
    }
    let after = broker.resident_kib();
    assert!(
        after < before + 16 * 1024 + GROWTH_KIB,
        "{before} KiB before, {after} KiB after"
    );
    assert!(metric(&broker, "nervewire_bounds_hit_total", &[("bound", "memory_bytes")]) > 0.0);
    is_alive(&broker);
}

/// CVE-2026-42209: deferring retained messages divided by a bound that was zero.
#[test]
fn bounds_of_zero_and_one_serve_retained_messages() {
    let broker = Setup::new()
        .toml("[limits]\npublish_rate_per_s = 0\nmax_keep_alive_s = 0\nqueue_messages = 1\nqueue_bytes = 1024\nmemory_bytes = 0\n")
        .start();
    let mut publisher = Client::new(&broker, Version::V5, "p");
    for n in 0..50 {
        let properties = props(|p| p.message_expiry_interval = Some([0, 1, u32::MAX][n % 3]));
        publisher.deliver(Publish {
            retain: true,
            properties,
            ..message(&format!("r/{n}"), "x", QoS::ExactlyOnce)
        });
    }
    for window in [1, 2, 65_535] {
        let connect = Connect {
            properties: props(|p| {
                p.receive_maximum = Some(window);
                p.maximum_packet_size = Some(64);
                p.session_expiry_interval = Some(0);
            }),
            ..hello(Version::V5, "s")
        };
        let (mut client, _) = Client::connect(&broker, connect);
        client.subscribe("r/#", QoS::ExactlyOnce);
        // At least those that do not expire come, one by one.
        for _ in 0..16 {
            client.receive();
        }
    }
    is_alive(&broker);
}
