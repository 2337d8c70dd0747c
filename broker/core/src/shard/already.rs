//! QoS 2 across partitions: a message whose identifier was stored, but not that it is with all its targets, is routed again after
//! a crash. Whoever has it already passes it over, whether its copies still wait or were acknowledged since.

use super::{Shard, SharedKey};
use crate::limits::MAX_REMEMBERED_MESSAGES;
use crate::message::{Content, Message, MessageId};
use crate::store::{EnqueuedFor, Partition};
use hashbrown::HashSet;
use nervewire_codec::QoS;
use std::sync::Arc;

/// The QoS 2 messages that the logs mention. Which of them were under way is known only when all logs are read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    enqueued: Vec<(MessageId, Partition)>,
    shared: Vec<(MessageId, Arc<SharedKey>)>,
    retained: Vec<MessageId>,
    forgotten: u64,
}

/// Messages that are routed again, and where they need not go any more. Numbers are never used twice, so it does no harm that
/// this stays; it is as large as what was under way at the crash.
#[derive(Debug, Default)]
pub(super) struct Already {
    partitions: HashSet<(MessageId, Partition)>,
    groups: HashSet<(MessageId, Arc<SharedKey>)>,
    retained: HashSet<MessageId>,
    under_way: HashSet<MessageId>,
}

impl Seen {
    pub(super) fn enqueued(&mut self, partition: Partition, message: &Message, targets: &[EnqueuedFor]) {
        if message.app.qos != QoS::ExactlyOnce {
            return;
        }
        if targets.iter().any(|target| target.shared.is_none()) {
            self.forgotten += remember(&mut self.enqueued, (message.id, partition));
        }
        for key in targets.iter().filter_map(|target| target.shared.as_ref()) {
            self.forgotten += remember(&mut self.shared, (message.id, key.clone()));
        }
    }

    pub(super) fn retained(&mut self, message: &Message) {
        if message.app.qos == QoS::ExactlyOnce {
            self.forgotten += remember(&mut self.retained, message.id);
        }
    }

    /// Whatever its QoS, which its record does not say.
    pub(super) fn retained_deleted(&mut self, message: MessageId) {
        self.forgotten += remember(&mut self.retained, message);
    }

    /// What had to be forgotten to stay within the bound.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// The youngest are kept: what was under way at the crash is at the end of the logs.
fn remember<T>(list: &mut Vec<T>, item: T) -> u64 {
    let mut forgotten = 0;
    if list.len() >= 2 * MAX_REMEMBERED_MESSAGES {
        list.drain(..MAX_REMEMBERED_MESSAGES);
        forgotten = MAX_REMEMBERED_MESSAGES as u64;
    }
    list.push(item);
    forgotten
}

impl Shard {
    /// A member of a group of ours has a message.
    pub(super) fn group_has(&mut self, id: MessageId, key: Arc<SharedKey>) {
        self.already.groups.insert((id, key));
    }
}

impl Already {
    /// What is known of the messages that were under way: for this shard's partitions, and for the owners of groups.
    pub(super) fn of(seen: Seen, under_way: HashSet<MessageId>) -> (Self, Vec<(MessageId, Arc<SharedKey>)>) {
        let is_meant = |id: &MessageId| under_way.contains(id);
        let partitions = seen.enqueued.into_iter().filter(|(id, _)| is_meant(id)).collect();
        let retained = seen.retained.into_iter().filter(is_meant).collect();
        let shared = seen.shared.into_iter().filter(|(id, _)| is_meant(id)).collect();
        let already = Self {
            partitions,
            groups: HashSet::new(), // Their owners hear of them.
            retained,
            under_way,
        };
        (already, shared)
    }

    /// What owners of groups have heard so far.
    pub(super) fn into_groups(self) -> HashSet<(MessageId, Arc<SharedKey>)> {
        self.groups
    }

    /// Whether the message is routed again and may be older than what is retained by now.
    pub(super) fn is_routed_again(&self, message: &Content<'_>) -> bool {
        message.qos == QoS::ExactlyOnce && self.under_way.contains(&message.id)
    }

    /// Whether the message was retained before, or has deleted what was.
    pub(super) fn is_retained(&self, message: &Content<'_>) -> bool {
        message.qos == QoS::ExactlyOnce && self.retained.contains(&message.id)
    }

    /// Whether a member of the group has it.
    pub(super) fn has_group(&self, message: &Content<'_>, key: &Arc<SharedKey>) -> bool {
        message.qos == QoS::ExactlyOnce && !self.groups.is_empty() && self.groups.contains(&(message.id, key.clone()))
    }

    /// Whether the sessions of the partition that it was for have it.
    pub(super) fn has_partition(&self, message: &Content<'_>, partition: Partition) -> bool {
        message.qos == QoS::ExactlyOnce && self.partitions.contains(&(message.id, partition))
    }
}
