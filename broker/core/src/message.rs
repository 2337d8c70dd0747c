//! A published message on its way through routing, queues and retention.

use crate::hook::AppMessage;
use crate::time::Millis;
use bytes::Bytes;
use nervewire_codec::Utf8String;
use std::sync::Arc;

/// One accepted message. Shared by every queue that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique in this broker: packet identifiers do not identify messages, these do. Ordered per shard.
    pub id: MessageId,
    /// When it was accepted, to tell a stale retained answer from a newer live message.
    pub accepted_at: Millis,
    /// What was published; `app.properties` never holds the expiry, which is [`Message::expires_at`].
    pub app: AppMessage,
    /// When it expires, counted from its arrival (MQTT 5.0 section 3.3.2.3.3).
    pub expires_at: Option<Millis>,
    /// Client identifier of the publisher, for No Local; `None`: published by the broker or a plugin.
    pub publisher: Option<Arc<str>>,
    /// Name space of the topic.
    pub tenant: Option<Arc<str>>,
}

/// Shard number in the upper 16 bits, a counter below.
pub type MessageId = u64;

impl Message {
    /// Bytes that a queue accounts for it: topic, payload, properties and bookkeeping.
    pub fn queue_bytes(&self) -> usize {
        const BOOKKEEPING_BYTES: usize = 96;
        self.app.bytes() + BOOKKEEPING_BYTES
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Seconds left, rounded up so that a live message never says 0 [MQTT-3.3.2-6].
    pub fn seconds_left(&self, now: Millis) -> Option<u32> {
        let left_ms = self.expires_at?.saturating_sub(now);
        Some(u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

impl AppMessage {
    /// Bytes of topic, payload and properties.
    pub(crate) fn bytes(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, |p| {
            p.content_type.as_ref().map_or(0, |s| s.len())
                + p.response_topic.as_ref().map_or(0, |s| s.len())
                + p.correlation_data.as_ref().map_or(0, Bytes::len)
                + p.user_properties.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
        });
        self.topic.len() + self.payload.len() + properties
    }

    /// Copies everything out of the buffer it was read into, which a message that may stay must not keep alive.
    pub(crate) fn detach(&mut self) {
        self.payload = Bytes::copy_from_slice(&self.payload);
        self.topic = detached(&self.topic);
        if let Some(properties) = &mut self.properties {
            let properties = Arc::make_mut(properties);
            if let Some(data) = &mut properties.correlation_data {
                *data = Bytes::copy_from_slice(data);
            }
            let texts = properties
                .user_properties
                .iter_mut()
                .flat_map(|(name, value)| [name, value]);
            for text in texts
                .chain(&mut properties.content_type)
                .chain(&mut properties.response_topic)
            {
                *text = detached(text);
            }
        }
    }
}

/// A copy that keeps no larger buffer alive.
pub(crate) fn detached(text: &Utf8String) -> Utf8String {
    Utf8String::try_from(text.as_str()).unwrap_or_default()
}
