//! Retained messages of one shard and one tenant (MQTT 5.0 section 3.3.1.3).
//!
//! A literal filter is one probe of a hash table by topic. A wildcard filter walks a tree of levels and enters only what can
//! match. Expired messages are never found; their space comes back a few at a time by [`Retained::purge_expired`].

mod tree;

#[cfg(test)]
mod tests;

use crate::message::Message;
use crate::time::Millis;
use std::collections::BTreeSet;
use std::sync::Arc;
use tree::{LEVEL_BYTES, NodeId, Tree};

/// What became of a message that was to be retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// The first of its topic.
    Added,
    /// Instead of an earlier one.
    Replaced,
    /// Not retained, because a bound would be exceeded; an earlier one stays.
    Full,
}

/// At most one message per topic, bounded in messages and bytes.
#[derive(Debug)]
pub struct Retained {
    tree: Tree,
    expiries: BTreeSet<(Millis, NodeId)>,
    max_messages: usize,
    max_bytes: usize,
    bytes: usize,
}

impl Retained {
    /// Empty, and never to hold more than this many messages and bytes.
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Retained {
            tree: Tree::default(),
            expiries: BTreeSet::new(),
            max_messages,
            max_bytes,
            bytes: 0,
        }
    }

    /// Other bounds from now on; what is there stays.
    pub fn set_bounds(&mut self, max_messages: usize, max_bytes: usize) {
        (self.max_messages, self.max_bytes) = (max_messages, max_bytes);
    }

    /// Retains a message under its topic. Its payload is not empty: that would be a [`Retained::remove`] [MQTT-3.3.1-6].
    pub fn set(&mut self, message: Arc<Message>) -> SetOutcome {
        let old_bytes = self.tree.get(&message.app.topic).map(|old| retained_bytes(old));
        let bytes = self.bytes - old_bytes.unwrap_or(0) + retained_bytes(&message);
        if bytes > self.max_bytes || (old_bytes.is_none() && self.len() >= self.max_messages) {
            return SetOutcome::Full;
        }
        self.bytes = bytes;
        let expires_at = message.expires_at;
        let (node, old) = self.tree.insert(message);
        if let Some(at) = old.as_ref().and_then(|old| old.expires_at) {
            self.expiries.remove(&(at, node));
        }
        self.expiries.extend(expires_at.map(|at| (at, node)));
        old.map_or(SetOutcome::Added, |_| SetOutcome::Replaced)
    }

    /// The message of a topic, expired or not.
    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.tree.get(topic)
    }

    /// Forgets the message of a topic; whether there was one.
    pub fn remove(&mut self, topic: &str) -> bool {
        self.tree.find(topic).is_some_and(|node| self.remove_node(node))
    }

    fn remove_node(&mut self, node: NodeId) -> bool {
        let Some(message) = self.tree.remove(node) else {
            return false;
        };
        self.bytes -= retained_bytes(&message);
        if let Some(at) = message.expires_at {
            self.expiries.remove(&(at, node));
        }
        true
    }

    /// Calls `found` for each message whose topic matches and which has not expired. `$` topics are hidden from filters that
    /// start with a wildcard [MQTT-4.7.2-1].
    pub fn matching(&self, filter: &str, now: Millis, found: &mut impl FnMut(&Arc<Message>)) {
        let found = &mut |message: &Arc<Message>| {
            if !message.is_expired(now) {
                found(message);
            }
        };
        if filter.contains(['+', '#']) {
            self.tree.matching(filter, found);
        } else {
            self.tree.get(filter).into_iter().for_each(found);
        }
    }

    /// Removes expired messages, at most `budget` of them; how many it removed.
    pub fn purge_expired(&mut self, now: Millis, budget: usize) -> usize {
        let mut purged = 0;
        while purged < budget
            && let Some(&(at, node)) = self.expiries.first()
            && at <= now
        {
            self.remove_node(node);
            purged += 1;
        }
        purged
    }

    /// Number of messages, expired ones included until they are purged.
    pub fn len(&self) -> usize {
        self.tree.messages()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes accounted for: messages, and the tree's share of each as if it shared no level with another.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn retained_bytes(message: &Message) -> usize {
    let source = message.source.as_ref().map_or(0, |source| source.bytes());
    source + message.queue_bytes() + message.app.topic.split('/').count() * LEVEL_BYTES
}
