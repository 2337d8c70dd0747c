//! The subscription index of one shard and one tenant: which subscriptions does a topic name match?
//!
//! Literal filters live in one hash table. Wildcard filters live in one hash table per *shape* (number of levels, positions
//! of `+`, whether a `#` ends it): within a shape at most one filter can match a given topic, so a shape costs one probe.
//! The hash of a filter is the sum of the hashes of its levels, so the probe for a shape is made from the topic's sum by
//! exchanging the levels under a `+`; nothing is allocated and no text is built. A hit is verified against the filter's text.
//!
//! **Bound.** Shapes are chosen by whoever subscribes, so only [`MAX_HOT_OPEN_SHAPES`] shapes with `#` and
//! [`MAX_HOT_EXACT_SHAPES_PER_DEPTH`] without it per depth, the most populous ones, are probed on sight. The filters of all
//! others also enter a trie (a counted set of prefix hashes), which is walked instead: it visits only prefixes that exist
//! and agree with the topic, at most two children each. A match thus costs the topic's length, 33 probes, and the
//! prefixes of cold filters that agree with the topic. The prefixes make the memory of a cold filter proportional to its levels.

mod levels;
mod prefixes;
mod shapes;
mod subscribers;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use shapes::{MAX_HOT_EXACT_SHAPES_PER_DEPTH, MAX_HOT_OPEN_SHAPES};

use levels::{LevelHasher, Shape, TopicHashes};
use shapes::Shapes;
use table::FilterTable;

/// Subscriptions by topic filter. A subscriber is a number of the caller's choice; `V` is what it wants to find again
/// (subscription options, identifier). Filters are valid and carry neither `$share/group/` nor a tenant.
#[derive(Debug)]
pub struct Index<V> {
    hasher: LevelHasher,
    literals: FilterTable<V>,
    shapes: Shapes<V>,
    subscriptions: usize,
    changes: u64,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        Index {
            hasher: LevelHasher::default(),
            literals: FilterTable::default(),
            shapes: Shapes::default(),
            subscriptions: 0,
            changes: 0,
        }
    }
}

impl<V> Index<V> {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `found` once for each (filter, subscriber) whose filter matches the topic name, in no particular order. Topics
    /// that start with `$` are hidden from filters that start with a wildcard [MQTT-4.7.2-1].
    pub fn matches(&self, topic: &str, found: &mut impl FnMut(u32, &V)) {
        let hashes = TopicHashes::new(&self.hasher, topic);
        self.literals.find(hashes.literal(hashes.levels()), topic, found);
        self.shapes.matches(&self.hasher, &hashes, topic, found);
    }

    /// Adds a subscription; the value it replaces if the subscriber had this filter already.
    pub fn insert(&mut self, filter: &str, subscriber: u32, value: V) -> Option<V> {
        self.changes += 1;
        let (shape, hash) = Shape::parse(&self.hasher, filter);
        let replaced = if shape.is_literal() {
            self.literals.insert(hash, filter, subscriber, value).replaced
        } else {
            self.shapes.insert(&self.hasher, shape, hash, filter, subscriber, value)
        };
        self.subscriptions += usize::from(replaced.is_none());
        replaced
    }

    /// Takes a subscription out; its value if there was one.
    pub fn remove(&mut self, filter: &str, subscriber: u32) -> Option<V> {
        self.changes += 1;
        let (shape, hash) = Shape::parse(&self.hasher, filter);
        let removed = if shape.is_literal() {
            self.literals
                .remove(hash, filter, subscriber)
                .map(|removed| removed.value)
        } else {
            self.shapes.remove(&self.hasher, shape, hash, filter, subscriber)
        };
        self.subscriptions -= usize::from(removed.is_some());
        removed
    }

    /// Counts every insertion and removal: while it stays, so does what a topic matches.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Number of subscriptions.
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there are no subscriptions.
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }

    /// Number of distinct topic filters.
    pub fn filters(&self) -> usize {
        self.literals.len() + self.shapes.filters()
    }
}
