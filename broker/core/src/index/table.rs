//! One hash table of filters with their subscribers.

use super::subscribers::Subscribers;
use super::text::Text;
use hashbrown::HashTable;
use nervewire_codec::topic;

/// Tables below this capacity are not worth shrinking.
const MIN_SHRINK_CAPACITY: usize = 64;

#[derive(Debug)]
struct Filter<V> {
    /// Kept so that growing the table does not read a million texts again.
    hash: u64,
    text: Text,
    subscribers: Subscribers<V>,
}

/// Filters by the sum of the hashes of their levels.
#[derive(Debug)]
pub(super) struct FilterTable<V> {
    filters: HashTable<Filter<V>>,
}

impl<V> Default for FilterTable<V> {
    fn default() -> Self {
        FilterTable {
            filters: HashTable::new(),
        }
    }
}

/// What an insertion did.
pub(super) struct Inserted<V> {
    pub(super) replaced: Option<V>,
    pub(super) new_filter: bool,
}

/// What a removal did.
pub(super) struct Removed<V> {
    pub(super) value: V,
    pub(super) filter_gone: bool,
}

impl<V> FilterTable<V> {
    /// Calls `found` for the subscribers of the filter with this hash, if it matches the topic.
    pub(super) fn find(&self, hash: u64, name: &str, found: &mut impl FnMut(u32, &V)) {
        // The hash is a sum that a lucky stranger may hit: the text decides, and it also hides `$` topics.
        if let Some(filter) = self.filters.find(hash, |filter| {
            filter.hash == hash && topic::matches(filter.text.as_str(), name)
        }) {
            filter.subscribers.for_each(found);
        }
    }

    pub(super) fn insert(&mut self, hash: u64, text: &str, subscriber: u32, value: V) -> Inserted<V> {
        match self.filters.find_mut(hash, |filter| filter.text.as_str() == text) {
            Some(filter) => Inserted {
                replaced: filter.subscribers.insert(subscriber, value),
                new_filter: false,
            },
            None => {
                let filter = Filter {
                    hash,
                    text: text.into(),
                    subscribers: Subscribers::One(subscriber, value),
                };
                self.filters.insert_unique(hash, filter, |filter| filter.hash);
                Inserted {
                    replaced: None,
                    new_filter: true,
                }
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u64, text: &str, subscriber: u32) -> Option<Removed<V>> {
        let mut entry = self
            .filters
            .find_entry(hash, |filter| filter.text.as_str() == text)
            .ok()?;
        if !entry.get().subscribers.is_only(subscriber) {
            let value = entry.get_mut().subscribers.remove(subscriber)?;
            return Some(Removed {
                value,
                filter_gone: false,
            });
        }
        let (filter, _) = entry.remove();
        self.give_space_back();
        match filter.subscribers {
            Subscribers::One(_, value) => Some(Removed {
                value,
                filter_gone: true,
            }),
            Subscribers::Few(_) | Subscribers::Many(_) => None,
        }
    }

    fn give_space_back(&mut self) {
        let (len, capacity) = (self.filters.len(), self.filters.capacity());
        if len == 0 || (capacity >= MIN_SHRINK_CAPACITY && len * 4 < capacity) {
            self.filters.shrink_to(len * 2, |filter| filter.hash);
        }
    }

    /// Number of filters.
    pub(super) fn len(&self) -> usize {
        self.filters.len()
    }

    /// Their texts.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|filter| filter.text.as_str())
    }
}
