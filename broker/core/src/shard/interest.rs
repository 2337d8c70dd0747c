//! A shard tells the others what interests it, and asks what interests them before it sends them a message.

use super::mesh::{Confirm, topic_owner};
use super::{CommitId, MeshMessage, Shard};
use crate::interest::{Announcement, Interesting, OtherInterest, OwnInterest, Prefix};
use crate::message::Content;
use crate::time::Millis;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// What interests this shard, what interests the others, and who waits until they know.
#[derive(Debug)]
pub(super) struct Interests {
    own: OwnInterest,
    /// By shard.
    others: Vec<Other>,
    /// Counts what the others have changed.
    changes: u64,
    last: LastAnswer,
    /// Number of the last announcement.
    announced: u64,
    /// Commits that wait until every shard knows the announcement of this number, in order.
    waiting: VecDeque<(u64, CommitId)>,
}

#[derive(Clone, Debug, Default)]
struct Other {
    interest: OtherInterest,
    /// Number of the last announcement of ours that it has confirmed.
    knows: u64,
}

/// The answer about the last message: publishers often stay with a topic.
#[derive(Debug, Default)]
struct LastAnswer {
    changes: u64,
    tenant: Option<Arc<str>>,
    topic: String,
    shards: SmallVec<[u16; 8]>,
}

impl LastAnswer {
    fn is_of(&self, changes: u64, message: &Content<'_>) -> bool {
        self.changes == changes && self.topic == message.topic.as_str() && self.tenant.as_ref() == message.tenant
    }

    fn turn_to(&mut self, changes: u64, message: &Content<'_>) {
        self.changes = changes;
        self.topic.clear();
        self.topic.push_str(&message.topic);
        if self.tenant.as_ref() != message.tenant {
            self.tenant = message.tenant.cloned();
        }
    }
}

impl Interests {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            own: OwnInterest::default(),
            others: vec![Other::default(); shards],
            changes: 0,
            last: LastAnswer::default(),
            announced: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl Shard {
    /// The other shards that a message must be sent to.
    pub(super) fn concerned_shards(&mut self, message: &Content<'_>) -> SmallVec<[u16; 8]> {
        if !self.has_others() {
            return SmallVec::new();
        }
        let mut concerned = self.interested_shards(message);
        if message.retain {
            let owner = topic_owner(message.tenant.map(|t| &**t), &message.topic, self.config.shards);
            if owner != self.config.shard && !concerned.contains(&owner) {
                concerned.push(owner);
            }
        }
        concerned
    }

    fn interested_shards(&mut self, message: &Content<'_>) -> SmallVec<[u16; 8]> {
        let (own, interests) = (self.config.shard, &mut self.interests);
        if !interests.last.is_of(interests.changes, message) {
            let interesting = Interesting::new(message.tenant.map(|t| &**t), &message.topic);
            let others = interests.others.iter().zip(0..).filter(|(_, shard)| *shard != own);
            let interested = others.filter(|(other, _)| interesting.to(&other.interest));
            interests.last.shards = interested.map(|(_, shard)| shard).collect();
            interests.last.turn_to(interests.changes, message);
        }
        interests.last.shards.clone()
    }

    /// A filter is new among those of this shard's sessions and groups. To be followed by [`Shard::announce_interest`].
    pub(super) fn filter_comes(&mut self, tenant: Option<&str>, filter: &str) {
        if self.has_others() && !self.interests.own.enter(Prefix::of_filter(tenant, filter)) {
            self.counters.interest_over_bound += 1;
        }
    }

    /// A filter that came goes. The others are told now and then.
    pub(super) fn filter_goes(&mut self, tenant: Option<&str>, filter: &str) {
        if self.has_others() {
            self.interests.own.leave(Prefix::of_filter(tenant, filter));
        }
    }

    fn has_others(&self) -> bool {
        self.config.shards > 1
    }

    /// Announces what is new. The current commit waits until all others know everything that was announced.
    pub(super) fn announce_interest(&mut self, now: Millis) {
        for announcement in self.interests.own.take_fresh() {
            self.interests.announced += 1;
            let number = Some(self.interests.announced);
            self.tell_others(now, number, &announcement);
        }
        let announced = self.interests.announced;
        if self.known_by_all() < announced
            && let Some(Confirm { commit, .. }) = self.confirm()
        {
            self.interests.waiting.push_back((announced, commit));
        }
    }

    /// Takes back what is of no interest any more. Nobody waits for that.
    pub(super) fn retract_interest(&mut self, now: Millis) {
        for announcement in self.interests.own.take_stale() {
            self.tell_others(now, None, &announcement);
        }
    }

    fn tell_others(&mut self, now: Millis, number: Option<u64>, announcement: &Announcement) {
        let from = self.config.shard;
        for shard in self.other_shards() {
            let announcement = announcement.clone();
            let message = MeshMessage::Interest {
                from,
                number,
                announcement,
            };
            self.send_mesh(now, shard, message);
        }
    }

    /// What interests another shard has changed.
    pub(super) fn interest_changed(&mut self, from: u16, number: Option<u64>, announcement: &Announcement) {
        if let Some(other) = self.interests.others.get_mut(usize::from(from)) {
            other.interest.apply(announcement);
            self.interests.changes += 1;
        }
        let shard = self.config.shard;
        if let (Some(number), Some(late)) = (number, self.mesh_late.get_mut(usize::from(from))) {
            late.push(MeshMessage::InterestKnown { shard, number });
        }
    }

    /// Another shard knows what was announced up to a number.
    pub(super) fn interest_known(&mut self, now: Millis, shard: u16, number: u64) {
        if let Some(other) = self.interests.others.get_mut(usize::from(shard)) {
            other.knows = number;
        }
        let known = self.known_by_all();
        while let Some((number, commit)) = self.interests.waiting.front().copied()
            && number <= known
        {
            self.interests.waiting.pop_front();
            self.part_settled(now, commit, Ok(()));
        }
    }

    fn known_by_all(&self) -> u64 {
        let others = self.interests.others.iter().zip(0..);
        let others = others.filter(|(_, shard)| *shard != self.config.shard);
        others.map(|(other, _)| other.knows).min().unwrap_or(u64::MAX)
    }
}
