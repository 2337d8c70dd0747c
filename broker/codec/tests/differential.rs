//! Against an independent codec, the crate `mqtt-protocol-core` (3.1.1 and 5.0): both directions and broken packets.

mod packets;
mod peer;

use bytes::Bytes;
use nervewire_codec::{
    DecodeError, Packet, PacketRef, Properties, PropertyId, ReasonCode, StringError, Version, decode, decode_in_place,
};
use packets::{changes, encoded, mutated, packet, reduced};
use peer::{Peer, build};
use proptest::prelude::*;

const LIMIT: u32 = 1_000_000;
const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

fn ours(bytes: &[u8], version: Version) -> Result<Packet, DecodeError> {
    let decoded = decode(&Bytes::copy_from_slice(bytes), 0, Some(version), LIMIT);
    assert_same_in_place(bytes, version, &decoded);
    match decoded? {
        Some((packet, len)) if len == bytes.len() => Ok(packet),
        other => panic!("not one whole packet: {other:?}"),
    }
}

/// What is decoded in place is what is decoded from shared bytes, errors included.
fn assert_same_in_place(bytes: &[u8], version: Version, decoded: &Result<Option<(Packet, usize)>, DecodeError>) {
    let in_place = decode_in_place(bytes, Some(version), LIMIT);
    let shared = decoded
        .as_ref()
        .map(|whole| whole.as_ref().map(|(packet, used)| (borrowed(packet), *used)));
    assert_eq!(in_place, shared.map_err(Clone::clone));
}

fn borrowed(packet: &Packet) -> PacketRef<'_> {
    match packet {
        Packet::Publish(publish) => PacketRef::Publish(publish.into()),
        other => PacketRef::Other(other.clone()),
    }
}

/// The version in which a packet goes over the wire: a CONNECT chooses its own.
fn wire_version(packet: &Packet, version: Version) -> Version {
    if let Packet::Connect(connect) = packet {
        connect.version
    } else {
        version
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_the_peer_reads(packet in packet()) {
        for version in VERSIONS {
            let version = wire_version(&packet, version);
            let Some(expected) = reduced(&packet, version).filter(|p| version != Version::V31 && !only_we_allow(p)) else { continue };
            let bytes = encoded(&packet, version);
            let peer = Peer::parse(&bytes, version).map_err(|error| TestCaseError::fail(format!("{error:?}: {bytes:02x?}")))?;
            prop_assert_eq!(peer.bytes(), &bytes[..], "the peer writes what it read");
            peer.assert_fields(&expected);
        }
    }

    #[test]
    fn what_the_peer_builds_we_read(packet in packet()) {
        for version in VERSIONS {
            let version = wire_version(&packet, version);
            let Some(expected) = reduced(&packet, version).filter(|p| version != Version::V31 && !only_we_allow(p)) else { continue };
            let Some((bytes, expected)) = built(&expected, version) else { continue };
            prop_assert_eq!(ours(&bytes, version), Ok(expected));
        }
    }

    #[test]
    fn a_broken_packet_is_refused_by_both(packet in packet(), changes in changes()) {
        for version in VERSIONS {
            let version = wire_version(&packet, version);
            if version == Version::V31 || reduced(&packet, version).is_none() {
                continue;
            }
            let valid = encoded(&packet, version);
            // The fixed header stays: the peer's packet parsers get the body only.
            let body_at = valid.len() - body_len(&valid);
            if body_at == valid.len() {
                continue;
            }
            let bytes = [&valid[..body_at], &mutated(valid[body_at..].to_vec(), &changes)].concat();
            agree(&bytes, version);
        }
    }
}

fn body_len(packet: &[u8]) -> usize {
    let length_bytes = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    packet.len() - 1 - length_bytes
}

/// A changed protocol level makes it another protocol; which parser of the peer to ask is then not defined.
fn agree(bytes: &[u8], version: Version) {
    if bytes[0] == 0x10 && Version::of_connect(bytes) != Some(version) {
        return;
    }
    match (ours(bytes, version), Peer::parse(bytes, version)) {
        (Ok(packet), Ok(peer)) => peer.assert_fields(&packet),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => assert!(
            only_we_refuse(&error, bytes[0], version),
            "the peer accepts, we say {error:?}: {bytes:02x?}"
        ),
        (Ok(packet), Err(error)) => assert!(only_we_allow(&packet), "{error:?} for {packet:?}: {bytes:02x?}"),
    }
}

/// Known differences: what the specification forbids and the peer lets through.
fn only_we_refuse(error: &DecodeError, first_byte: u8, version: Version) -> bool {
    match error {
        // U+0000 is not looked for when reading [MQTT-1.5.4-2].
        DecodeError::String(error) => *error == StringError::NullCharacter,
        // Names and filters are checked when packets are built, not when they are read.
        DecodeError::TopicName(_) | DecodeError::TopicFilter(_) | DecodeError::TopicNameMissing => true,
        DecodeError::PropertyValue { property } => *property == PropertyId::ResponseTopic,
        // Reserved flags of CONNECT and CONNACK are not looked at [MQTT-3.1.2-3], [MQTT-3.2.2-1].
        DecodeError::ConnectFlagReserved | DecodeError::WillFlags | DecodeError::ConnAckFlags { .. } => true,
        DecodeError::WillQoS | DecodeError::SessionPresent | DecodeError::ClientIdentifier => true,
        // Packet identifiers are checked in acknowledgements only.
        DecodeError::PacketIdentifier => true,
        DecodeError::NoLocalOnSharedSubscription => true,
        // Integers longer than needed [MQTT-1.5.5-1].
        DecodeError::VariableByteInteger => true,
        // Only a success without properties may leave the method out (3.15.2.2.2).
        DecodeError::AuthenticationMethodMissing { .. } => true,
        // PUBLISH and AUTH without their property length.
        DecodeError::Truncated => version == Version::V5 && matches!(first_byte >> 4, 3 | 15),
        // The options of 5.0 are read in 3.1.1 too, where their bits are reserved.
        DecodeError::SubscriptionOptions { options } => version == Version::V311 && options & 0b1100_0000 == 0,
        _ => false,
    }
}

/// Known differences: what 5.0 allows and the peer refuses.
fn only_we_allow(packet: &Packet) -> bool {
    match packet {
        // 3.1.2.9: "this version of the protocol allows the sending of a Password with no User Name".
        Packet::Connect(connect) => connect.password.is_some() && connect.username.is_none(),
        // In the list of 2.4 for DISCONNECT, not in that of 3.14.2.1.
        Packet::Disconnect(disconnect) => disconnect.reason == ReasonCode::BadAuthenticationMethod,
        _ => false,
    }
}

/// What the peer makes of a packet, and the same packet without the properties that are not passed to it.
fn built(packet: &Packet, version: Version) -> Option<(Vec<u8>, Packet)> {
    let mut plain = packet.clone();
    let bytes = match &mut plain {
        Packet::Connect(connect) => {
            connect.properties = None;
            connect.will.iter_mut().for_each(|will| will.properties = None);
            build::connect(connect)
        }
        Packet::Publish(publish) => {
            let topic_alias = publish.properties.as_ref().and_then(|p| p.topic_alias);
            publish.properties = topic_alias.map(|_| {
                Box::new(Properties {
                    topic_alias,
                    ..Properties::default()
                })
            });
            build::publish(publish, version)
        }
        Packet::Subscribe(subscribe) => {
            subscribe.properties = None;
            build::subscribe(subscribe, version)
        }
        _ => return None,
    };
    Some((bytes, plain))
}
