//! Packets, topics and moments that were not thought of.

use crate::support::*;
use crate::{is_alive, subscribe_bytes, thrown_out, variable};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// CVE-2026-21888: a length of five bytes was read beyond what was there.
#[test]
fn a_length_of_five_bytes_is_malformed_wherever_it_comes() {
    let broker = Setup::new().start();
    for first in [0x10, 0x30, 0x82, 0xE0] {
        for length in [
            [0x80, 0x80, 0x80, 0x80, 0x01],
            [0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            [0xFF; 5],
        ] {
            let bytes = [&[first], length.as_slice()].concat();
            thrown_out(&broker, &bytes);
            let mut client = Client::new(&broker, Version::V5, "c");
            client.send_bytes(&bytes);
            client.expect_disconnect(0x81);
        }
    }
    is_alive(&broker);
}

/// CVE-2018-12543: a topic that begins with `$` hit an assertion.
#[test]
fn topics_that_begin_with_a_dollar_hurt_nobody() {
    let rules = "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = [{ allow = \"both\", topics = [\"#\"] }]\n";
    for toml in ["", rules] {
        let broker = Setup::new()
            .auth("anonymous = \"allow\"\ndefault = \"allow\"")
            .toml(toml)
            .start();
        let topics = [
            "$",
            "$/",
            "$x",
            "$SYS",
            "$SYS/",
            "$SYS/broker/x",
            "$share",
            "$share/",
            "$share/g",
            "$share/g/t",
            "$queue/t",
            "$$",
        ];
        for topic in topics {
            for version in [Version::V311, Version::V5] {
                let mut client = Client::new(&broker, version, "c");
                client.send_publish(Publish {
                    retain: true,
                    ..message(topic, "x", QoS::AtMostOnce)
                });
                client.expect_idle();
                client.deliver(message(topic, "x", QoS::AtLeastOnce));
                client.deliver(message(topic, "x", QoS::ExactlyOnce));
                let mut will_of = hello(version, "w");
                will_of.will = Some(Box::new(will(topic, "x", QoS::AtLeastOnce)));
                drop(Client::try_connect(&broker, will_of));
                // A shared subscription without a group or filter is malformed and ends the connection; any other is answered.
                let mut subscriber = Client::new(&broker, version, "s");
                subscriber.send(Packet::PingReq);
                let raw = subscribe_bytes(version, topic);
                subscriber.send_bytes(&raw);
                while let Ok(Some(packet)) = subscriber.try_next() {
                    if matches!(packet, Packet::SubAck(_)) {
                        break;
                    }
                }
            }
        }
        is_alive(&broker);
    }
}

/// CVE-2021-28166: a client that sent what only servers send crashed the broker.
#[test]
fn packets_of_a_server_end_the_connection_of_who_sends_them() {
    let broker = Setup::new().start();
    let packets: [&[u8]; 6] = [
        &[0x20, 2, 0, 0],       // CONNACK
        &[0x20, 3, 0, 0, 0],    // CONNACK of 5.0
        &[0x90, 3, 0, 1, 0],    // SUBACK
        &[0xB0, 2, 0, 1],       // UNSUBACK
        &[0xB0, 4, 0, 1, 0, 0], // UNSUBACK of 5.0
        &[0xD0, 0],             // PINGRESP
    ];
    for packet in packets {
        thrown_out(&broker, packet);
        for version in [Version::V311, Version::V5] {
            let mut client = Client::new(&broker, version, "c");
            client.send_bytes(packet);
            while client.next().is_some() {}
        }
    }
    is_alive(&broker);
}

/// CVE-2025-59946, CVE-2026-22040: subscriptions and kicks, takeovers and publications at the same moment used what was freed.
#[test]
fn subscriptions_and_kicks_at_the_same_moment_hurt_nobody() {
    const ROUNDS: usize = 60;
    for shards in SHARD_COUNTS {
        // They take each other over as fast as they can.
        let limits = "[limits]\ntakeovers_per_minute = 0\n";
        let broker = Setup::new().shards(shards).toml(limits).start();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (broker, stop) = (&broker, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Two of each name: they take each other over.
                        let Ok(stream) = TcpStream::connect(broker.address()) else {
                            continue;
                        };
                        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
                        let mut stream = stream;
                        let mut bytes = Vec::new();
                        let connect = durable(Version::V5, &format!("victim{}", n % 2));
                        nervewire_codec::encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut bytes)
                            .expect("encode");
                        for topic in ["t/#", "+/a", "$share/g/t/a"] {
                            bytes.extend(subscribe_bytes(Version::V5, topic));
                        }
                        for _ in 0..20 {
                            bytes.extend([0x30, 7, 0, 3, b't', b'/', b'a', 0, b'x']);
                        }
                        let _ = stream.write_all(&bytes);
                        let _ = stream.read(&mut [0; 256]);
                    }
                });
            }
            for _ in 0..ROUNDS {
                for victim in ["victim0", "victim1"] {
                    post_json(&broker, &format!("/v1/clients/{victim}/kick"), "");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        is_alive(&broker);
        // What they subscribed to is as it should be: one more of them gets what is published.
        let mut victim = Client::connect(&broker, durable(Version::V5, "victim0")).0;
        victim.subscribe("end", QoS::AtLeastOnce);
        Client::new(&broker, Version::V5, "p").publish("end", "end", QoS::AtLeastOnce);
        while &*victim.receive().topic != "end" {}
    }
}

/// Seen in one broker: a filter of 20,000 levels overflowed the stack.
#[test]
fn the_deepest_topics_and_filters_are_taken_or_refused() {
    let deep = |level: &str, last: &str| format!("{}{last}", level.repeat(20_000));
    let broker = Setup::new().auth("anonymous = \"allow\"\ndefault = \"allow\"").start();
    for filter in [
        deep("a/", "#"),
        deep("/", ""),
        deep("+/", "+"),
        deep("+/", "#"),
        format!("$share/g/{}", deep("a/", "#")),
    ] {
        for version in [Version::V311, Version::V5] {
            deep_packet(&broker, version, |version| {
                let mut body = vec![0, 1];
                if version == Version::V5 {
                    body.push(0);
                }
                body.extend(u16::try_from(filter.len()).expect("it fits").to_be_bytes());
                body.extend(filter.as_bytes());
                body.push(1);
                [vec![0x82], variable(body.len()), body].concat()
            });
        }
    }
    for topic in [deep("a/", "a"), deep("/", "")] {
        for (version, retain) in [(Version::V311, 0), (Version::V5, 1)] {
            deep_packet(&broker, version, |version| {
                let mut body = u16::try_from(topic.len()).expect("it fits").to_be_bytes().to_vec();
                body.extend(topic.as_bytes());
                if version == Version::V5 {
                    body.push(0);
                }
                body.push(b'x');
                [vec![0x30 | retain], variable(body.len()), body].concat()
            });
        }
    }
    is_alive(&broker);
}

/// Sends it and a PINGREQ: either that is answered, or the connection has ended.
fn deep_packet(broker: &Broker, version: Version, packet: impl Fn(Version) -> Vec<u8>) {
    let mut client = Client::new(broker, version, "deep");
    client.send_bytes(&packet(version));
    client.send_bytes(&[0xC0, 0]);
    while let Some(packet) = client.next() {
        if packet == Packet::PingResp {
            break;
        }
    }
    is_alive(broker);
}
