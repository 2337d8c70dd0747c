//! The filters themselves, each under a number: its text and its subscribers, in one cache line where both are short.
//!
//! They lie in chunks, because one allocation for all of them would have to be moved as a whole to grow, and would keep its
//! largest size. Free places are taken in the lowest chunk that has one, so that the others can become empty and be given back.

use super::subscribers::Subscribers;
use super::text::Text;
use std::collections::BTreeSet;

/// A filter's number while it has subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterId(pub(super) u32);

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Filter<V> {
    pub(super) text: Text,
    pub(super) subscribers: Subscribers<V>,
}

const CHUNK_FILTERS: usize = 1_024;

/// The end of a list of free places.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Place<V> {
    Filter(Filter<V>),
    /// The next free place of the chunk.
    Free(u32),
}

#[derive(Debug)]
struct Chunk<V> {
    places: Vec<Place<V>>,
    filters: usize,
    first_free: u32,
}

/// Filters by their numbers.
#[derive(Debug)]
pub(super) struct Filters<V> {
    chunks: Vec<Chunk<V>>,
    /// Chunks with a free place.
    with_room: BTreeSet<u32>,
    len: usize,
}

impl<V> Default for Filters<V> {
    fn default() -> Self {
        Filters {
            chunks: Vec::new(),
            with_room: BTreeSet::new(),
            len: 0,
        }
    }
}

impl<V> Filters<V> {
    /// Number of filters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, id: FilterId) -> Option<&Filter<V>> {
        let (chunk, at) = place_of(id);
        match self.chunks.get(chunk)?.places.get(at)? {
            Place::Filter(filter) => Some(filter),
            Place::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: FilterId) -> Option<&mut Filter<V>> {
        let (chunk, at) = place_of(id);
        match self.chunks.get_mut(chunk)?.places.get_mut(at)? {
            Place::Filter(filter) => Some(filter),
            Place::Free(_) => None,
        }
    }

    /// Reads the line that a filter lies in; the answer means nothing.
    #[inline]
    pub(super) fn touch(&self, id: FilterId) -> usize {
        self.get(id).map_or(0, |filter| filter.text.as_bytes().len())
    }

    pub(super) fn text(&self, id: FilterId) -> &str {
        self.get(id).map_or("", |filter| filter.text.as_str())
    }

    pub(super) fn insert(&mut self, filter: Filter<V>) -> FilterId {
        let chunk = match self.with_room.first() {
            Some(&chunk) => chunk,
            None => self.add_chunk(),
        };
        let places = &mut self.chunks[chunk as usize];
        let at = places.insert(filter);
        if places.filters == CHUNK_FILTERS {
            self.with_room.remove(&chunk);
        }
        self.len += 1;
        FilterId(chunk * CHUNK_FILTERS as u32 + at)
    }

    pub(super) fn remove(&mut self, id: FilterId) -> Option<Filter<V>> {
        let (chunk, at) = place_of(id);
        let filter = self.chunks.get_mut(chunk)?.remove(at)?;
        self.with_room.insert(chunk as u32);
        self.len -= 1;
        while self.chunks.last().is_some_and(|chunk| chunk.filters == 0) {
            self.chunks.pop();
            self.with_room.remove(&(self.chunks.len() as u32));
        }
        Some(filter)
    }

    fn add_chunk(&mut self) -> u32 {
        let chunk = self.chunks.len() as u32;
        // The first one grows: most indexes are small.
        let capacity = if chunk == 0 { 0 } else { CHUNK_FILTERS };
        self.chunks.push(Chunk {
            places: Vec::with_capacity(capacity),
            filters: 0,
            first_free: NONE,
        });
        self.with_room.insert(chunk);
        chunk
    }
}

impl<V> Chunk<V> {
    fn insert(&mut self, filter: Filter<V>) -> u32 {
        self.filters += 1;
        let at = self.first_free;
        if let Some(place) = self.places.get_mut(at as usize) {
            if let Place::Free(next) = *place {
                self.first_free = next;
            }
            *place = Place::Filter(filter);
            return at;
        }
        self.places.push(Place::Filter(filter));
        self.places.len() as u32 - 1
    }

    fn remove(&mut self, at: usize) -> Option<Filter<V>> {
        let place = self.places.get_mut(at)?;
        let Place::Filter(_) = place else { return None };
        let Place::Filter(filter) = std::mem::replace(place, Place::Free(self.first_free)) else {
            return None;
        };
        self.first_free = at as u32;
        self.filters -= 1;
        if self.filters == 0 {
            self.places = Vec::new();
            self.first_free = NONE;
        }
        Some(filter)
    }
}

#[inline]
fn place_of(FilterId(id): FilterId) -> (usize, usize) {
    (id as usize / CHUNK_FILTERS, id as usize % CHUNK_FILTERS)
}
