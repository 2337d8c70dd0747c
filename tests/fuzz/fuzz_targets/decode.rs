//! A stream of arbitrary bytes on an established connection, in every version: nothing panics, and every packet that decodes
//! can be written again and then decodes to the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nervewire_codec::{Packet, PublishHeader, Version, decode, encode, encoded_publish_len, frame_len};

const MAX_PACKET_BYTES: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let source = Bytes::copy_from_slice(data);
    for version in [Version::V31, Version::V311, Version::V5] {
        stream(&source, version);
    }
});

fn stream(source: &Bytes, version: Version) {
    let mut at = 0;
    while let Ok(Some((packet, len))) = decode(source, at, Some(version), MAX_PACKET_BYTES) {
        assert_eq!(frame_len(&source[at..], MAX_PACKET_BYTES), Ok(Some(len)));
        written_again_it_is_the_same(&packet, version, len);
        at += len;
    }
    assert!(at <= source.len());
}

/// What was read took `len` bytes; our own form never needs more.
fn written_again_it_is_the_same(packet: &Packet, version: Version, len: usize) {
    let mut out = Vec::new();
    encode(packet, version, &mut out).expect("what decodes can be encoded");
    assert!(out.len() <= len);
    if let Packet::Publish(publish) = packet {
        assert_eq!(encoded_publish_len(&PublishHeader::of(publish), version), out.len());
    }
    let again = decode(&Bytes::from(out), 0, Some(version), MAX_PACKET_BYTES);
    let (again, _) = again.expect("what we encode is valid").expect("and complete");
    assert_eq!(again, *packet);
}
