//! What other brokers were found vulnerable to, as classes: each is tried against ours. SECURITY.md has the table of them, with the tests
//! of other files that keep the rest.

mod memory;
mod names;
mod packets;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use support::*;

/// Whether a filter is granted.
fn may_subscribe(client: &mut Client, filter_text: &str) -> bool {
    let answer = client.subscribe_with(vec![filter(filter_text, QoS::AtMostOnce)], None);
    answer.reasons.iter().all(|reason| (*reason as u8) < 0x80)
}

fn may_publish(client: &mut Client, topic: &str) -> bool {
    client.deliver(message(topic, "x", QoS::AtLeastOnce)) < 0x80
}

/// Lets a stranger send bytes, waits until it is thrown out, and sees that others are served.
fn thrown_out(broker: &Broker, bytes: &[u8]) {
    let mut stranger = TcpStream::connect(broker.address()).expect("connect");
    stranger.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    // It may be thrown out before it has sent everything.
    let _ = stranger.write_all(bytes);
    let mut rest = Vec::new();
    if let Err(error) = stranger.read_to_end(&mut rest) {
        assert_ne!(
            error.kind(),
            std::io::ErrorKind::WouldBlock,
            "it is still there: {bytes:02x?}"
        );
    }
}

fn is_alive(broker: &Broker) {
    assert!(broker.exited().is_none(), "{}", broker.log());
    let mut client = Client::new(broker, Version::V5, "alive");
    client.expect_idle();
}

/// A SUBSCRIBE that no encoder would write.
fn subscribe_bytes(version: Version, filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    let length = u16::try_from(filter.len()).expect("a short filter");
    body.extend(length.to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    [
        &[0x82, u8::try_from(body.len()).expect("a short packet")],
        body.as_slice(),
    ]
    .concat()
}

/// A variable byte integer.
fn variable(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number % 128) as u8;
        number /= 128;
        bytes.push(if number > 0 { byte | 0x80 } else { byte });
        if number == 0 {
            return bytes;
        }
    }
}
