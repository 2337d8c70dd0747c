//! The subscription index of one shard and one tenant: which subscriptions does a topic name match?
//!
//! Filters lie in one hash table per *shape* (number of levels, positions of `+`, whether a `#` ends it); literal filters are
//! shapes without wildcard. Within a shape at most one filter can match a given topic, so a shape costs one probe, which reads
//! one cache line where it fails and one more where it hits. The hash of a filter is the sum of the hashes of its levels, so
//! the probe for a shape is made from the topic's sum by exchanging the levels under a `+`; nothing is allocated and no text is
//! built. A hit is verified against the filter's text.
//!
//! **Growth.** Neither the tables nor the filters are ever moved as a whole: a million subscriptions come and go in steps of some
//! ten microseconds at most, and give their space back.
//!
//! **Bound.** Shapes are chosen by whoever subscribes, so only [`MAX_HOT_OPEN_SHAPES`] shapes with `#` and
//! [`MAX_HOT_EXACT_SHAPES_PER_DEPTH`] without it per depth, the most populous ones, are probed on sight. The filters of all
//! others also enter a trie (a counted set of prefix hashes), which is walked instead: it visits only prefixes that exist
//! and agree with the topic, at most two children each. A match thus costs the topic's length, that many probes, and the
//! prefixes of cold filters that agree with the topic. The prefixes make the memory of a cold filter proportional to its levels.

mod filters;
mod levels;
mod prefixes;
mod shapes;
mod subscribers;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use filters::FilterId;
pub use shapes::{MAX_HOT_EXACT_SHAPES_PER_DEPTH, MAX_HOT_OPEN_SHAPES};

use filters::{Filter, Filters};
pub(crate) use levels::{LevelHasher, Levels};
use shapes::Shapes;
use subscribers::Subscribers;

/// Subscriptions by topic filter. A subscriber is a number of the caller's choice; `V` is what it wants to find again
/// (subscription options, identifier). Filters are valid and carry neither `$share/group/` nor a tenant.
#[derive(Debug)]
pub struct Index<V> {
    hasher: LevelHasher,
    filters: Filters<V>,
    shapes: Shapes,
    subscriptions: usize,
    changes: u64,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        Index {
            hasher: LevelHasher::default(),
            filters: Filters::default(),
            shapes: Shapes::default(),
            subscriptions: 0,
            changes: 0,
        }
    }
}

/// Filters that a processor's second level cache has room for.
const MAX_CACHED_FILTERS: usize = 8_192;

/// What an insertion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted<V> {
    /// The filter's number, which stays the same until its last subscription goes.
    pub filter: FilterId,
    /// The value of the subscription that the subscriber had already.
    pub replaced: Option<V>,
}

impl<V> Index<V> {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `found` once for each (filter, subscriber) whose filter matches the topic name, in no particular order. Topics
    /// that start with `$` are hidden from filters that start with a wildcard [MQTT-4.7.2-1].
    pub fn matches(&self, topic: &str, found: &mut impl FnMut(u32, &V)) {
        if self.is_empty() {
            return;
        }
        let levels = Levels::new(&self.hasher, topic);
        self.shapes.matches(&self.hasher, &self.filters, &levels, &mut |id| {
            if let Some(filter) = self.filters.get(id) {
                filter.subscribers.for_each(found);
            }
        });
    }

    /// Whether a lookup most likely waits for memory.
    pub fn is_larger_than_caches(&self) -> bool {
        self.filters.len() > MAX_CACHED_FILTERS
    }

    /// Lets the memory that matches of these topics will read come nearer, for all of them together. They need not be valid.
    pub fn prepare<'a>(&self, topics: impl Iterator<Item = &'a [u8]>) {
        std::hint::black_box(self.shapes.touch(&self.hasher, &self.filters, topics));
    }

    /// Adds a subscription, or replaces the one that the subscriber had of this filter.
    pub fn insert(&mut self, filter: &str, subscriber: u32, value: V) -> Inserted<V> {
        self.changes += 1;
        let levels = Levels::new(&self.hasher, filter);
        let (shape, hash) = levels.shape();
        let known = self.shapes.get(&self.filters, shape, hash, filter);
        if let Some(id) = known
            && let Some(known) = self.filters.get_mut(id)
        {
            let replaced = known.subscribers.insert(subscriber, value);
            self.subscriptions += usize::from(replaced.is_none());
            return Inserted { filter: id, replaced };
        }
        let id = self.filters.insert(Filter {
            text: filter.into(),
            subscribers: Subscribers::One(subscriber, value),
        });
        self.shapes
            .insert(&self.hasher, &self.filters, (&levels, shape, hash), id);
        self.subscriptions += 1;
        Inserted {
            filter: id,
            replaced: None,
        }
    }

    /// Takes a subscription out; its value if there was one.
    pub fn remove(&mut self, filter: &str, subscriber: u32) -> Option<V> {
        self.changes += 1;
        let levels = Levels::new(&self.hasher, filter);
        let (shape, hash) = levels.shape();
        let id = self.shapes.get(&self.filters, shape, hash, filter)?;
        let subscribers = &mut self.filters.get_mut(id)?.subscribers;
        let removed = if subscribers.is_only(subscriber) {
            self.shapes.remove(&levels, shape, hash, id);
            self.filters.remove(id)?.subscribers.into_only()?
        } else {
            subscribers.remove(subscriber)?
        };
        self.subscriptions -= 1;
        Some(removed)
    }

    /// The value of a subscription.
    pub fn get(&self, filter: &str, subscriber: u32) -> Option<&V> {
        let (shape, hash) = Levels::new(&self.hasher, filter).shape();
        let id = self.shapes.get(&self.filters, shape, hash, filter)?;
        self.filters.get(id)?.subscribers.get(subscriber)
    }

    /// The value of a subscription to a filter whose number is known.
    pub fn value_mut(&mut self, filter: FilterId, subscriber: u32) -> Option<&mut V> {
        self.changes += 1;
        self.filters.get_mut(filter)?.subscribers.get_mut(subscriber)
    }

    /// The text of a filter; empty where the number is none.
    pub fn text(&self, filter: FilterId) -> &str {
        self.filters.text(filter)
    }

    /// Counts every insertion, removal and value given out to be changed: while it stays, so does what a topic matches.
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
        self.filters.len()
    }
}
