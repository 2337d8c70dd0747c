//! WebSocket on the server's side, without a socket: arbitrary bytes as a request and as frames, in pieces of any size, and the same bytes
//! as well-formed frames cut anywhere. What is carried does not depend on how it arrives, and what is answered are frames of a server.
#![no_main]
#![allow(dead_code)]

#[path = "../../../broker/server/src/transport/mod.rs"]
mod transport;

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use transport::frames::{End, Inbound, Outbound};
use transport::upgrade::Rules;
use transport::websocket::{Ended, WebSocket};

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let Some(([kind, piece, seed], rest)) = data.split_first_chunk() else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    match kind % 4 {
        0 => raw_frames(rest, piece),
        1 => well_formed(rest, piece, *seed),
        2 => request(rest, piece),
        _ => request(&[REQUEST, rest].concat(), piece),
    }
});

/// What frames carry, how they end, and what is answered where nothing else waits to be sent.
fn feed(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<End>, Vec<u8>) {
    let (mut inbound, mut outbound) = (Inbound::default(), Outbound::default());
    let (mut carried, mut answers) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let len = inbound.take(&mut chunk, &mut outbound);
        assert!(len <= chunk.len());
        carried.extend_from_slice(&chunk[..len]);
    }
    drain(&mut outbound, &[], usize::MAX, &mut answers);
    (carried, inbound.end(), answers)
}

fn raw_frames(bytes: &[u8], piece: usize) {
    let at_once = feed(bytes, bytes.len().max(1));
    assert_eq!(feed(bytes, piece), at_once, "in pieces of {piece}");
    assert!(at_once.0.len() <= bytes.len());
    check_server_frames(&at_once.2);
}

/// The bytes as messages of several frames, with pings between them.
fn well_formed(payload: &[u8], piece: usize, seed: u8) {
    let cut = usize::from(seed % 64) + 1;
    let mut wire = Vec::new();
    let mut chunks = payload.chunks(cut).peekable();
    let mut begins = true;
    while let Some(chunk) = chunks.next() {
        let ends = chunks.peek().is_none() || chunk[0] % 3 == 0;
        let opcode = if begins { 0x2 } else { 0x0 };
        frame(
            &mut wire,
            opcode | if ends { 0x80 } else { 0 },
            chunk,
            [seed, 7, chunk[0], 0],
        );
        begins = ends;
        if chunk[0] % 5 == 0 {
            frame(&mut wire, 0x89, &chunk[..chunk.len().min(125)], [1, 2, 3, seed]);
        }
    }
    let (carried, end, answers) = feed(&wire, piece);
    assert_eq!((carried.as_slice(), end), (payload, None));
    check_server_frames(&answers);
}

fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A whole conversation, in which something waits to be sent, too.
fn request(bytes: &[u8], piece: usize) {
    let rules = Rules {
        path: "/mqtt".to_owned(),
        allowed_origins: vec!["https://app.example.com".to_owned()],
    };
    let mut websocket = WebSocket::new(Arc::new(rules));
    let (mut said, mut carried) = (Vec::new(), 0);
    for chunk in bytes.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let len = websocket.take(&mut chunk);
        assert!(len <= chunk.len() && (len == 0 || websocket.is_open()));
        carried += len;
        // Nothing waits for who has said nothing yet.
        let mut left = if websocket.is_open() { 40 } else { 0 };
        while !websocket.is_closed() {
            let (before, payload) = websocket.next(left);
            let shown = before.len() + payload;
            said.extend_from_slice(before);
            said.extend(std::iter::repeat_n(b'.', payload));
            if shown == 0 {
                break;
            }
            left -= websocket.wrote(shown);
        }
    }
    assert!(carried <= bytes.len());
    websocket.close();
    loop {
        let (before, payload) = websocket.next(0);
        let shown = before.len() + payload;
        said.extend_from_slice(before);
        if shown == 0 {
            break;
        }
        websocket.wrote(shown);
    }
    match websocket.end() {
        Some(Ended::Refused(refusal)) => {
            assert!((400..=505).contains(&refusal.status) && said.starts_with(b"HTTP/1.1 "));
            assert!(!said.windows(4).any(|window| window == b" 101"));
        }
        _ if websocket.is_open() => {
            assert!(said.starts_with(b"HTTP/1.1 101 "));
            let end = said
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .expect("the end of the answer");
            check_server_frames(&said[end + 4..]);
            assert!(websocket.is_flushed() && websocket.is_closed());
        }
        _ => {}
    }
}

/// Everything that goes out where this waits.
fn drain(outbound: &mut Outbound, waiting: &[u8], piece: usize, into: &mut Vec<u8>) {
    loop {
        let (before, payload) = outbound.next(waiting.len());
        let all = [before, &waiting[..payload]].concat();
        if all.is_empty() {
            return;
        }
        let len = all.len().min(piece);
        into.extend_from_slice(&all[..len]);
        outbound.wrote(len);
    }
}

/// Unmasked, whole, of the kinds that a server of MQTT sends; nothing behind a close.
fn check_server_frames(mut bytes: &[u8]) {
    while let Some(([first, second], rest)) = bytes.split_first_chunk() {
        assert!(matches!(first, 0x82 | 0x88 | 0x8A), "{first:#x}");
        assert_eq!(second & 0x80, 0, "masked");
        let (len, rest) = match second {
            126 => {
                let (len, rest) = rest.split_first_chunk().expect("a length");
                (usize::from(u16::from_be_bytes(*len)), rest)
            }
            127 => panic!("nothing here is as long"),
            short => (usize::from(*short), rest),
        };
        assert!(len <= rest.len(), "cut off");
        if *first == 0x88 {
            assert_eq!((len, rest.len()), (2, 2), "something behind a close");
        }
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
}
