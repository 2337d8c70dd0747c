//! PUBLISH (3.3), the broker's hot path: the header apart from the payload, so that one encoding serves many receivers.

use super::MAX_VARIABLE;
use super::properties::{subscription_identifiers, user_properties};
use super::sink::{Count, Sink};
use crate::{EncodeError, MAX_STRING_BYTES, PacketId, Properties, PropertyId as Id, Publish, QoS, Version};

/// Everything of a PUBLISH but its payload.
#[derive(Clone, Copy, Debug)]
pub struct PublishHeader<'a> {
    /// DUP flag.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic Name; empty only under 5.0 with a Topic Alias.
    pub topic: &'a str,
    /// Present exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// Topic Alias, 5.0 only.
    pub topic_alias: Option<u16>,
    /// What is left of the Message Expiry Interval in seconds, 5.0 only.
    pub message_expiry_interval: Option<u32>,
    /// Subscription Identifiers of the subscriptions that matched, 5.0 only.
    pub subscription_identifiers: &'a [u32],
    /// The other properties of the message, 5.0 only; what the three fields above say is not taken from here.
    pub properties: Option<&'a Properties>,
    /// Length in bytes of the payload that the caller will send behind the header.
    pub payload_len: usize,
}

impl<'a> PublishHeader<'a> {
    /// The header of a whole packet.
    pub fn of(publish: &'a Publish) -> Self {
        let properties = publish.properties.as_deref();
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: &publish.topic,
            packet_id: publish.packet_id,
            topic_alias: properties.and_then(|p| p.topic_alias),
            message_expiry_interval: properties.and_then(|p| p.message_expiry_interval),
            subscription_identifiers: properties.map_or(&[], |p| &p.subscription_identifiers),
            properties,
            payload_len: publish.payload.len(),
        }
    }

    /// Bytes of the properties without the length before them.
    #[inline]
    fn properties_len(&self) -> Result<usize, EncodeError> {
        let mut count = Count::default();
        self.write_properties(&mut count)?;
        Ok(count.bytes)
    }

    #[inline]
    fn write_properties<S: Sink>(&self, out: &mut S) -> Result<(), EncodeError> {
        if let Some(alias) = self.topic_alias {
            out.u8(Id::TopicAlias as u8);
            out.u16(alias);
        }
        if let Some(seconds) = self.message_expiry_interval {
            out.u8(Id::MessageExpiryInterval as u8);
            out.u32(seconds);
        }
        subscription_identifiers(self.subscription_identifiers, out)?;
        match self.properties {
            Some(properties) => write_message_properties(properties, out),
            None => Ok(()),
        }
    }

    /// Bytes behind the fixed header without the properties, which 3.x has not.
    #[inline]
    fn plain_len(&self) -> usize {
        let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        self.payload_len.saturating_add(2 + self.topic.len() + packet_id)
    }

    #[inline]
    fn check(&self, version: Version) -> Result<(), EncodeError> {
        if self.packet_id.is_some() != (self.qos != QoS::AtMostOnce) {
            return Err(EncodeError::PacketIdentifier);
        }
        if self.topic.len() > MAX_STRING_BYTES {
            return Err(EncodeError::FieldTooLong {
                bytes: self.topic.len(),
            });
        }
        if self.topic.is_empty() && (version != Version::V5 || self.topic_alias.is_none()) {
            return Err(EncodeError::TopicNameMissing);
        }
        Ok(())
    }

    /// DUP is never set for QoS 0 [MQTT-3.3.1-2].
    #[inline]
    fn first_byte(&self) -> u8 {
        let dup = self.dup && self.qos != QoS::AtMostOnce;
        0x30 | u8::from(dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain)
    }
}

/// The properties that travel with the message unchanged [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20].
fn write_message_properties<S: Sink>(p: &Properties, out: &mut S) -> Result<(), EncodeError> {
    if let Some(utf8) = p.payload_format_indicator {
        out.u8(Id::PayloadFormatIndicator as u8);
        out.u8(u8::from(utf8));
    }
    if let Some(text) = &p.content_type {
        out.u8(Id::ContentType as u8);
        out.field(text.as_bytes())?;
    }
    if let Some(topic) = &p.response_topic {
        out.u8(Id::ResponseTopic as u8);
        out.field(topic.as_bytes())?;
    }
    if let Some(data) = &p.correlation_data {
        out.u8(Id::CorrelationData as u8);
        out.field(data)?;
    }
    user_properties(&p.user_properties, out)
}

/// Appends everything of a PUBLISH but its payload, and returns where in `out` the packet identifier stands (`None` at QoS 0),
/// so that copies of one encoding can be given other identifiers.
///
/// # Errors
/// Where the packet cannot be expressed; `out` is as it was then.
#[inline]
pub fn encode_publish_header(
    h: &PublishHeader<'_>,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, EncodeError> {
    h.check(version)?;
    let properties_len = if version == Version::V5 {
        Some(h.properties_len()?)
    } else {
        None
    };
    let remaining = h
        .plain_len()
        .saturating_add(properties_len.map_or(0, |len| variable_len(len) + len));
    if remaining > MAX_VARIABLE {
        return Err(EncodeError::PacketTooLarge { bytes: remaining });
    }
    out.reserve(1 + 4 + remaining - h.payload_len);
    out.push(h.first_byte());
    out.variable(remaining as u32);
    out.field(h.topic.as_bytes())?;
    let packet_id_at = h.packet_id.map(|id| {
        out.u16(id.get());
        out.len() - 2
    });
    if let Some(len) = properties_len {
        out.variable(len as u32);
        h.write_properties(out)?;
    }
    Ok(packet_id_at)
}

/// Size in bytes of the whole packet with its payload, to be held against the receiver's Maximum Packet Size. What cannot be
/// encoded has the size `usize::MAX`.
#[inline]
pub fn encoded_publish_len(h: &PublishHeader<'_>, version: Version) -> usize {
    let properties_len = match version {
        Version::V5 => h.properties_len().map(|len| variable_len(len) + len),
        _ => Ok(0),
    };
    let Ok(properties_len) = properties_len else {
        return usize::MAX;
    };
    let remaining = h.plain_len().saturating_add(properties_len);
    remaining.saturating_add(1 + variable_len(remaining))
}

/// Bytes of `value` as a Variable Byte Integer.
#[inline]
const fn variable_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
