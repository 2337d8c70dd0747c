//! What is encoded decodes to the same, for every packet and version, however the bytes arrive.

mod packets;

use bytes::Bytes;
use nervewire_codec::{Packet, PublishHeader, Version, decode, encode, encoded_publish_len, frame_len};
use packets::{VERSIONS, changes, encoded, mutated, packet, publish, reduced};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: u32 = 1_000_000;

fn decoded(bytes: &[u8], version: Version) -> Packet {
    let source = Bytes::copy_from_slice(bytes);
    match decode(&source, 0, Some(version), LIMIT) {
        Ok(Some((packet, len))) if len == bytes.len() => packet,
        other => panic!("{version} {bytes:02x?}: {other:?}"),
    }
}

/// All packets at the front of `source`, and how many bytes they took.
fn drain(source: &Bytes, version: Version) -> (Vec<Packet>, usize) {
    let (mut packets, mut at) = (Vec::new(), 0);
    while let Some((packet, len)) = decode(source, at, Some(version), LIMIT).expect("valid packets") {
        packets.push(packet);
        at += len;
    }
    (packets, at)
}

/// Whatever decodes can be written again and means the same.
fn decodes_to_something_stable(source: &Bytes, version: Version) {
    let Ok(Some((packet, len))) = decode(source, 0, Some(version), LIMIT) else {
        return;
    };
    assert_eq!(frame_len(source, LIMIT), Ok(Some(len)));
    let mut out = Vec::new();
    encode(&packet, version, &mut out).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
    assert_eq!(decoded(&out, version), packet);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_survives_every_version(packet in packet()) {
        for version in VERSIONS {
            let mut out = Vec::new();
            match reduced(&packet, version) {
                Some(expected) => {
                    encode(&packet, version, &mut out).expect("the version has it");
                    prop_assert_eq!(decoded(&out, version), expected);
                }
                None => {
                    prop_assert!(encode(&packet, version, &mut out).is_err());
                    prop_assert!(out.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_announced_length_of_a_publish_is_its_length(publish in publish()) {
        for version in VERSIONS {
            let packet = Packet::Publish(publish.clone());
            if reduced(&packet, version).is_some() {
                let len = encoded_publish_len(&PublishHeader::of(&publish), version);
                prop_assert_eq!(len, encoded(&packet, version).len());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let source = Bytes::from(bytes);
        let _ = decode(&source, 0, None, LIMIT);
        let _ = Version::of_connect(&source);
        for version in VERSIONS {
            decodes_to_something_stable(&source, version);
        }
    }

    #[test]
    fn broken_packets_never_panic(packet in packet(), changes in changes()) {
        for version in VERSIONS {
            if reduced(&packet, version).is_some() {
                let source = Bytes::from(mutated(encoded(&packet, version), &changes));
                let _ = Version::of_connect(&source);
                decodes_to_something_stable(&source, version);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_way_the_bytes_arrive_does_not_matter(packets in vec(packet(), 1..8), cuts in vec(1..30usize, 1..100)) {
        let stream: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, Version::V5)).collect();
        let (mut received, mut buffer, mut sent) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.into_iter().cycle() {
            let chunk = &stream[sent..stream.len().min(sent + cut)];
            sent += chunk.len();
            buffer.extend_from_slice(chunk);
            let (mut some, taken) = drain(&Bytes::copy_from_slice(&buffer), Version::V5);
            buffer.drain(..taken);
            received.append(&mut some);
            if chunk.is_empty() {
                break;
            }
        }
        prop_assert_eq!(buffer, b"");
        let expected: Vec<_> = packets.iter().filter_map(|packet| reduced(packet, Version::V5)).collect();
        prop_assert_eq!(received, expected);
    }

    #[test]
    fn no_proper_prefix_of_a_packet_decodes(packet in packet()) {
        let bytes = Bytes::from(encoded(&packet, Version::V5));
        for cut in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes.slice(..cut), 0, Some(Version::V5), LIMIT), Ok(None));
        }
    }
}
