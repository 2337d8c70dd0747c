//! PUBLISH and its acknowledgements (3.3 to 3.7).

use super::properties::properties;
use super::reader::Reader;
use crate::topic::TopicError;
use crate::utf8::{Utf8Ref, share};
use crate::{Ack, DecodeError, PacketId, PacketType, Properties, PropertyOwner, Publish, QoS, ReasonCode, Version};
use bytes::Bytes;

/// A PUBLISH whose topic and payload are still where they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRef<'a> {
    /// DUP flag.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic Name without wildcards; empty only under 5.0 beside a Topic Alias.
    pub topic: Utf8Ref<'a>,
    /// Present exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// PUBLISH properties.
    pub properties: Option<Box<Properties>>,
    /// Application Message.
    pub payload: &'a [u8],
}

impl PublishRef<'_> {
    /// The packet with parts that share `source`, which it was read from.
    pub(super) fn shared_by(self, source: Option<&Bytes>) -> Publish {
        Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.shared_by(source),
            packet_id: self.packet_id,
            properties: self.properties,
            payload: share(self.payload, source),
        }
    }
}

impl<'a> From<&'a Publish> for PublishRef<'a> {
    fn from(publish: &'a Publish) -> Self {
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.borrowed(),
            packet_id: publish.packet_id,
            properties: publish.properties.clone(),
            payload: &publish.payload,
        }
    }
}

#[inline]
pub(super) fn publish<'a>(r: &mut Reader<'a>, flags: u8, version: Version) -> Result<PublishRef<'a>, DecodeError> {
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
    Ok(PublishRef {
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
