//! A published message on its way through routing, queues and retention.

use crate::hook::{AppMessage, Client};
use crate::time::Millis;
use bytes::Bytes;
use nervewire_codec::{Properties, QoS, Utf8Ref, Utf8String};
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
    /// Client identifier of the publisher, for No Local; `None`: published by the broker.
    pub publisher: Option<Arc<str>>,
    /// Name space of the topic.
    pub tenant: Option<Arc<str>>,
    /// Whose right it is to have it retained. `None`: it is not to be retained, or a plugin's grant let it be published.
    pub source: Option<Source>,
}

/// Whoever has a message retained, as a client, and which policy has judged that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its facts at that time.
    pub client: Arc<Client>,
    /// See [`noted`].
    judged: u32,
}

/// No policy of this process has judged it.
const UNJUDGED: u32 = u32::MAX;

/// A generation as it is noted where many are: there are never so many that two would be alike.
pub(crate) fn noted(generation: u64) -> u32 {
    (generation % u64::from(UNJUDGED)) as u32
}

impl Source {
    /// A client whose message the policy of a generation has let in.
    pub fn new(client: Arc<Client>, generation: u64) -> Self {
        let judged = noted(generation);
        Self { client, judged }
    }

    /// One that an earlier process has let in.
    pub fn unjudged(client: Arc<Client>) -> Self {
        let judged = UNJUDGED;
        Self { client, judged }
    }

    /// Whether the policy of this generation has let it in.
    pub(crate) fn is_judged_by(&self, generation: u64) -> bool {
        self.judged == noted(generation)
    }

    /// Bytes of the facts, which mostly are shared with other messages of the client.
    pub(crate) fn bytes(&self) -> usize {
        let Client {
            client_id,
            username,
            attributes,
            ..
        } = &*self.client;
        let attributes = attributes.iter().map(|(name, value)| name.len() + value.len());
        client_id.len() + username.as_ref().map_or(0, |name| name.len()) + attributes.sum::<usize>()
    }
}

/// Shard number in the upper 16 bits, a counter below.
pub type MessageId = u64;

impl Message {
    /// Bytes that a queue accounts for it: topic, payload, properties and bookkeeping.
    pub fn queue_bytes(&self) -> usize {
        self.content().queue_bytes()
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What is read of it on its way.
    #[inline]
    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            id: self.id,
            accepted_at: self.accepted_at,
            expires_at: self.expires_at,
            topic: self.app.topic.borrowed(),
            payload: &self.app.payload,
            shared_payload: Some(&self.app.payload),
            qos: self.app.qos,
            retain: self.app.retain,
            properties: self.app.properties.as_ref(),
            publisher: self.publisher.as_ref(),
            tenant: self.tenant.as_ref(),
            source: self.source.as_ref().map(|source| (&source.client, source.judged)),
        }
    }
}

/// A message by reference: one that exists, or one whose parts are still in the buffer that they were read into.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content<'a> {
    pub(crate) id: MessageId,
    pub(crate) accepted_at: Millis,
    pub(crate) expires_at: Option<Millis>,
    pub(crate) topic: Utf8Ref<'a>,
    pub(crate) payload: &'a [u8],
    /// The payload where it can be shared.
    pub(crate) shared_payload: Option<&'a Bytes>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Option<&'a Arc<Properties>>,
    pub(crate) publisher: Option<&'a Arc<str>>,
    pub(crate) tenant: Option<&'a Arc<str>>,
    /// As [`Message::source`].
    pub(crate) source: Option<(&'a Arc<Client>, u32)>,
}

impl Content<'_> {
    /// As [`Message::queue_bytes`].
    #[inline]
    pub(crate) fn queue_bytes(&self) -> usize {
        const BOOKKEEPING_BYTES: usize = 96;
        self.topic.len() + self.payload.len() + self.properties.map_or(0, |p| property_bytes(p)) + BOOKKEEPING_BYTES
    }

    /// As [`Message::is_expired`].
    #[inline]
    pub(crate) fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Seconds left, rounded up so that a live message never says 0 [MQTT-3.3.2-6].
    pub(crate) fn seconds_left(&self, now: Millis) -> Option<u32> {
        let left_ms = self.expires_at?.saturating_sub(now);
        Some(u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// A message of its own, which keeps no read buffer alive. `topic` is its topic where somebody has it already.
    pub(crate) fn to_message(self, topic: Option<Utf8String>) -> Message {
        let payload = self.shared_payload.cloned();
        Message {
            id: self.id,
            accepted_at: self.accepted_at,
            app: AppMessage {
                topic: topic.unwrap_or_else(|| self.topic.to_utf8_string()),
                payload: payload.unwrap_or_else(|| Bytes::copy_from_slice(self.payload)),
                qos: self.qos,
                retain: self.retain,
                properties: self.properties.cloned(),
            },
            expires_at: self.expires_at,
            publisher: self.publisher.cloned(),
            tenant: self.tenant.cloned(),
            source: self.source.map(|(client, judged)| Source {
                client: client.clone(),
                judged,
            }),
        }
    }
}

fn property_bytes(p: &Properties) -> usize {
    p.content_type.as_ref().map_or(0, |s| s.len())
        + p.response_topic.as_ref().map_or(0, |s| s.len())
        + p.correlation_data.as_ref().map_or(0, Bytes::len)
        + p.user_properties.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
}

impl AppMessage {
    /// Bytes of topic, payload and properties.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_deref().map_or(0, property_bytes)
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
