//! What one session has subscribed to, without the texts of its filters: the index has those.

use crate::index::FilterId;
use crate::shard::Entry;
use hashbrown::HashMap;
use nervewire_codec::Utf8String;

/// A subscription as the index keeps it for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) entry: Entry,
    /// Where the session's list has it, so that it is found there without a search.
    pub(crate) position: u32,
}

/// The subscriptions of one session, each named once.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    filters: Vec<FilterId>,
    /// As subscribed, with `$share/group/`: their groups may live on other shards.
    shared: HashMap<Utf8String, Entry>,
}

/// Lists of a capacity below this are not worth shrinking.
const MIN_SHRINK_CAPACITY: usize = 64;

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.filters.len() + self.shared.len()
    }

    /// The filters that are not shared, by their numbers in the index.
    pub(crate) fn filters(&self) -> &[FilterId] {
        &self.filters
    }

    /// The shared ones.
    pub(crate) fn shared(&self) -> &HashMap<Utf8String, Entry> {
        &self.shared
    }

    /// Where the next filter will be.
    pub(crate) fn next_position(&self) -> u32 {
        self.filters.len() as u32
    }

    /// Adds a filter at [`Subscriptions::next_position`].
    pub(crate) fn push(&mut self, filter: FilterId) {
        self.filters.push(filter);
    }

    /// Takes out what is at a position; what is there now instead.
    pub(crate) fn remove(&mut self, position: u32) -> Option<FilterId> {
        let position = position as usize;
        if position < self.filters.len() {
            self.filters.swap_remove(position);
        }
        if self.filters.capacity() >= MIN_SHRINK_CAPACITY && self.filters.len() * 4 < self.filters.capacity() {
            self.filters.shrink_to(self.filters.len() * 2);
        }
        self.filters.get(position).copied()
    }

    /// Adds a shared one, or changes it.
    pub(crate) fn insert_shared(&mut self, filter: Utf8String, entry: Entry) {
        self.shared.insert(filter, entry);
    }

    /// Whether the shared one was there.
    pub(crate) fn remove_shared(&mut self, filter: &str) -> bool {
        self.shared.remove(filter).is_some()
    }
}
