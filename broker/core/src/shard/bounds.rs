//! Bounds of what one packet may say: topics, filters, User Properties. What is over one is counted.

use super::Shard;
use crate::handshake::Accepted;
use nervewire_codec::{Properties, PublishRef, ReasonCode};

/// Why a packet is refused.
type OverBound = (ReasonCode, &'static str);

impl Shard {
    /// Whether a client may publish to such a topic, with so many properties.
    pub(super) fn check_bounds(&mut self, publish: &PublishRef<'_>) -> Result<(), OverBound> {
        if self.is_long(&publish.topic) {
            self.counters.topics_over_bound += 1;
            return Err((
                ReasonCode::TopicNameInvalid,
                "the topic is too long or has too many levels",
            ));
        }
        if self.has_many(publish.properties.as_deref()) {
            self.counters.user_properties_over_bound += 1;
            return Err((ReasonCode::QuotaExceeded, "too many User Properties"));
        }
        Ok(())
    }

    /// The reason to refuse a subscription's filter, if there is one.
    pub(super) fn filter_over_bound(&mut self, filter: &str) -> Option<ReasonCode> {
        let is_long = self.is_long(filter);
        self.counters.topics_over_bound += u64::from(is_long);
        is_long.then_some(ReasonCode::TopicFilterInvalid)
    }

    /// The reason to refuse a CONNECT for what its will or its properties say, if there is one.
    pub(super) fn will_over_bound(&mut self, accepted: &Accepted) -> Option<ReasonCode> {
        let connect = &accepted.connect;
        let will = connect.will.as_deref();
        if will.is_some_and(|will| self.is_long(&will.topic)) {
            self.counters.topics_over_bound += 1;
            return Some(ReasonCode::TopicNameInvalid);
        }
        let will_has_many = will.is_some_and(|will| self.has_many(will.properties.as_deref()));
        if will_has_many || self.has_many(connect.properties.as_deref()) {
            self.counters.user_properties_over_bound += 1;
            return Some(ReasonCode::QuotaExceeded);
        }
        None
    }

    /// A topic of so many bytes has at most one level more: most are not looked at.
    fn is_long(&self, topic: &str) -> bool {
        let (bytes, levels) = (
            self.config.per_client.topic_bytes as usize,
            self.config.per_client.topic_levels as usize,
        );
        topic.len() > bytes || (topic.len() >= levels && topic.bytes().filter(|byte| *byte == b'/').count() >= levels)
    }

    fn has_many(&self, properties: Option<&Properties>) -> bool {
        properties.is_some_and(|properties| {
            properties.user_properties.len() > self.config.per_client.user_properties as usize
        })
    }
}
