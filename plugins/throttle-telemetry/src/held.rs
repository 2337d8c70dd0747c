//! What the store holds about a topic: when its period ends, and the message that waits for that.

use nervewire_plugin_sdk::{Property, prelude::*, serde};

/// Entries of another version of this plugin are as if there were none.
const FORMAT: u8 = 1;

/// The period of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) due_ms: u64,
    pub(crate) held: Option<Held>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) since_ms: u64,
    pub(crate) message: Message,
}

/// Everything but the payload, which follows it, and the topic, which is in the key.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(crate = "nervewire_plugin_sdk::serde")]
struct Head {
    due_ms: u64,
    held: Option<HeldHead>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(crate = "nervewire_plugin_sdk::serde")]
struct HeldHead {
    since_ms: u64,
    qos_level: u8,
    retain: bool,
    payload_is_utf8: bool,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data: Option<Vec<u8>>,
    message_expiry_seconds: Option<u32>,
    user_properties: Vec<(String, String)>,
}

impl Period {
    /// One that begins, with nothing held yet.
    pub(crate) fn until(due_ms: u64) -> Self {
        Self { due_ms, held: None }
    }

    /// `None`: it cannot be written.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let head = Head {
            due_ms: self.due_ms,
            held: self.held.as_ref().map(HeldHead::of),
        };
        let mut bytes = postcard::to_extend(&head, vec![FORMAT]).ok()?;
        let payload = self.held.as_ref().map(|held| held.message.payload.as_slice());
        bytes.extend_from_slice(payload.unwrap_or_default());
        Some(bytes)
    }

    /// `None`: this plugin did not write it.
    pub(crate) fn decode(topic: &str, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(&[FORMAT])?;
        let (head, payload): (Head, _) = postcard::take_from_bytes(bytes).ok()?;
        let held = match head.held {
            Some(held) => Some(held.with(topic, payload)?),
            None => None,
        };
        Some(Self {
            due_ms: head.due_ms,
            held,
        })
    }
}

impl Held {
    /// As it is to be published now; `None`: it has expired meanwhile.
    pub(crate) fn published(mut self, now_ms: u64) -> Option<Message> {
        let held_seconds = now_ms.saturating_sub(self.since_ms) / 1_000;
        if let Some(seconds) = &mut self.message.message_expiry_seconds {
            let held_seconds = u32::try_from(held_seconds).unwrap_or(u32::MAX);
            *seconds = seconds.checked_sub(held_seconds).filter(|left| *left > 0)?;
        }
        Some(self.message)
    }
}

impl HeldHead {
    fn of(held: &Held) -> Self {
        let message = &held.message;
        let pairs = message.user_properties.iter();
        Self {
            since_ms: held.since_ms,
            qos_level: message.qos as u8,
            retain: message.retain,
            payload_is_utf8: message.payload_is_utf8,
            content_type: message.content_type.clone(),
            response_topic: message.response_topic.clone(),
            correlation_data: message.correlation_data.clone(),
            message_expiry_seconds: message.message_expiry_seconds,
            user_properties: pairs.map(|pair| (pair.name.clone(), pair.value.clone())).collect(),
        }
    }

    fn with(self, topic: &str, payload: &[u8]) -> Option<Held> {
        let pairs = self.user_properties.into_iter();
        let message = Message {
            topic: topic.to_owned(),
            payload: payload.to_vec(),
            qos: Qos::from_level(self.qos_level)?,
            retain: self.retain,
            payload_is_utf8: self.payload_is_utf8,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            message_expiry_seconds: self.message_expiry_seconds,
            user_properties: pairs.map(|(name, value)| Property::new(name, value)).collect(),
        };
        Some(Held {
            since_ms: self.since_ms,
            message,
        })
    }
}
