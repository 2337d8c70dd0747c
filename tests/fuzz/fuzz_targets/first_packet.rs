//! Arbitrary bytes from a client that has not connected: only a CONNECT decodes, it is waited for as long as it may become one,
//! and the version it asks for is known before.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nervewire_codec::{Packet, Version, decode};

const MAX_PACKET_BYTES: u32 = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let source = Bytes::copy_from_slice(data);
    let version = Version::of_connect(&source);
    match decode(&source, 0, None, MAX_PACKET_BYTES) {
        Ok(Some((Packet::Connect(connect), len))) => {
            assert_eq!(version, Some(connect.version));
            arrives_in_parts(&source.slice(..len));
        }
        Ok(Some((other, _))) => panic!("not a CONNECT: {other:?}"),
        Ok(None) => assert!(source.is_empty() || source[0] == 0x10),
        Err(error) => assert!(error.reason().is_error() && !error.to_string().is_empty()),
    }
});

fn arrives_in_parts(packet: &Bytes) {
    for cut in [0, 1, 2, packet.len() / 2, packet.len() - 1] {
        assert_eq!(decode(&packet.slice(..cut), 0, None, MAX_PACKET_BYTES), Ok(None));
    }
}
