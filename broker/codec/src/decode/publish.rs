//! PUBLISH and its acknowledgements (3.3 to 3.7).

use super::properties::properties;
use super::reader::Reader;
use crate::topic::TopicError;
use crate::{Ack, DecodeError, PacketType, PropertyOwner, Publish, QoS, ReasonCode, Version};

#[inline]
pub(super) fn publish(r: &mut Reader<'_>, flags: u8, version: Version) -> Result<Publish, DecodeError> {
    let packet = PacketType::Publish;
    let qos = QoS::from_bits(flags >> 1).ok_or(DecodeError::HeaderFlags { packet, flags })?;
    let topic = r.topic_name()?;
    let packet_id = if qos == QoS::AtMostOnce {
        None
    } else {
        Some(r.packet_id()?)
    };
    let properties = properties(r, PropertyOwner::Packet(packet), version)?;
    if topic.is_empty() {
        let alias = properties.as_ref().and_then(|p| p.topic_alias);
        empty_topic(version, alias)?;
    }
    let (dup, retain) = (flags & 0b1000 != 0, flags & 0b0001 != 0);
    Ok(Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        properties,
        payload: r.rest(),
    })
}

/// An empty topic name stands for a Topic Alias (3.3.2.1), which is 5.0's.
#[cold]
fn empty_topic(version: Version, alias: Option<u16>) -> Result<(), DecodeError> {
    match (version, alias) {
        (Version::V5, Some(_)) => Ok(()),
        (Version::V5, None) => Err(DecodeError::TopicNameMissing),
        _ => Err(DecodeError::TopicName(TopicError::Empty)),
    }
}

/// Reason and properties may be left out from the end (3.4.2.1).
#[inline]
pub(super) fn ack(r: &mut Reader<'_>, packet: PacketType, version: Version) -> Result<Ack, DecodeError> {
    let packet_id = r.packet_id()?;
    if version != Version::V5 || r.is_empty() {
        return Ok(Ack {
            packet_id,
            reason: ReasonCode::Success,
            properties: None,
        });
    }
    let reason = super::outcome::reason(r, packet)?;
    let properties = if r.is_empty() {
        None
    } else {
        properties(r, PropertyOwner::Packet(packet), version)?
    };
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}
