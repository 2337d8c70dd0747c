//! A message on its way through a shard.

use crate::limits::shared_payload_bytes;
use crate::message::{Content, Message};
use nervewire_codec::Utf8String;
use std::sync::Arc;

/// A message that nobody may want to keep: most go from the buffer they were read into straight to the output of those who
/// subscribed, and need no memory of their own. The first place that keeps it makes it an `Arc<Message>` for all.
#[derive(Debug)]
pub(super) struct Arriving<'a> {
    pub(super) content: Content<'a>,
    /// Its topic as the last message to the same one had it.
    topic: Option<Utf8String>,
    kept: Option<Arc<Message>>,
}

impl<'a> Arriving<'a> {
    /// From a packet whose parts are still in the read buffer.
    #[inline]
    pub(super) fn in_place(content: Content<'a>) -> Self {
        Self {
            content,
            topic: None,
            kept: None,
        }
    }

    /// One that exists.
    #[inline]
    pub(super) fn kept(message: &'a Arc<Message>) -> Self {
        Self {
            content: message.content(),
            topic: None,
            kept: Some(message.clone()),
        }
    }

    /// To be kept.
    #[inline]
    pub(super) fn keep(&mut self) -> &Arc<Message> {
        let (content, topic) = (&self.content, &mut self.topic);
        let own = || Arc::new(content.to_message(topic.take()));
        self.kept.get_or_insert_with(own)
    }

    /// Shares the topic with other messages where it is kept.
    pub(super) fn share_topic(&mut self, topic: Utf8String) {
        self.topic = Some(topic);
    }

    /// A payload that is worth sharing is copied out of the read buffer once, and not into the output of each receiver.
    pub(super) fn share_payload(&mut self, receivers: usize) {
        if receivers > 0 && self.content.payload.len() >= shared_payload_bytes(receivers > 1) {
            self.keep();
        }
    }

    /// What receivers are sent.
    #[inline]
    pub(super) fn shared(&self) -> Content<'_> {
        Content {
            shared_payload: self.kept.as_ref().map(|message| &message.app.payload),
            ..self.content
        }
    }
}
