//! The wildcard filters by shape: one hash table for each, the populous shapes probed on sight, the others through the trie.

use super::filters::{FilterId, Filters};
use super::levels::{LevelHasher, Levels, Shape, ShapeLevels};
use super::prefixes::Prefixes;
use super::table::{FilterTable, Guess};
use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;

/// Shapes with `#` that are probed on sight.
pub const MAX_HOT_OPEN_SHAPES: usize = 64;

/// Shapes without `#` that are probed on sight, per number of levels.
pub const MAX_HOT_EXACT_SHAPES_PER_DEPTH: usize = 64;

/// Probes that are prepared at once.
const MAX_TOUCHED: usize = 128;

/// Filters that one change of a shape between hot and cold may move.
const MAX_MOVED_FILTERS: usize = 4_096;

#[derive(Debug)]
struct ShapeTable {
    shape: Shape,
    levels: ShapeLevels,
    hot: bool,
    filters: FilterTable,
}

/// Numbers of filters, by shape and text.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    tables: Slab<ShapeTable>,
    by_shape: HashMap<Shape, usize>,
    /// Hot shapes with `#`.
    hot_open: Vec<usize>,
    /// Hot shapes without it, by their number of levels.
    hot_exact: Vec<Vec<usize>>,
    /// Every filter of a cold shape.
    cold: Prefixes,
}

impl Shapes {
    /// Calls `found` for each filter that selects the topic.
    #[inline]
    pub(super) fn matches<V>(
        &self,
        hasher: &LevelHasher,
        filters: &Filters<V>,
        topic: &Levels<'_>,
        found: &mut impl FnMut(FilterId),
    ) {
        self.for_each_probe(topic, |table, hash| {
            table.find(filters, hash, topic).into_iter().for_each(&mut *found);
        });
        if !self.cold.is_empty() {
            self.cold.walk(hasher, topic, &mut |shape, hash| {
                let table = self.by_shape.get(&shape).map(|&id| &self.tables[id]);
                let id = table.and_then(|table| table.find(filters, hash, topic));
                id.into_iter().for_each(&mut *found);
            });
        }
    }

    /// Calls `probe` with each table that is probed on sight, and the hash.
    #[inline]
    fn for_each_probe<'s>(&'s self, topic: &Levels<'_>, mut probe: impl FnMut(&'s ShapeTable, u64)) {
        let exact = self.hot_exact.get(topic.len()).map_or(&[][..], Vec::as_slice);
        for &id in exact.iter().chain(&self.hot_open) {
            let table = &self.tables[id];
            if table.levels.levels <= topic.len() {
                probe(table, topic.with_plus_at(table.levels.levels, &table.levels.plus_at));
            }
        }
    }

    /// Reads what the next matches of these topics will read; the answer means nothing.
    pub(super) fn touch<'a, V>(
        &self,
        hasher: &LevelHasher,
        filters: &Filters<V>,
        topics: impl Iterator<Item = &'a [u8]>,
    ) -> usize {
        // One kind of memory after the other, so that the reads of each kind do not wait for one another.
        let mut probes: SmallVec<[(&ShapeTable, u64); MAX_TOUCHED]> = SmallVec::new();
        for topic in topics {
            self.for_each_probe(&Levels::of_bytes(hasher, topic), |table, hash| {
                if probes.len() < MAX_TOUCHED {
                    probes.push((table, hash));
                }
            });
        }
        let guesses = probes.iter().map(|(table, hash)| table.filters.guess(*hash));
        let guesses: SmallVec<[Guess; MAX_TOUCHED]> = guesses.collect();
        let ids = guesses.iter().filter_map(|guess| guess.id());
        ids.fold(0, |sum, id| sum ^ filters.touch(id))
    }

    /// The number of a filter.
    pub(super) fn get<V>(&self, filters: &Filters<V>, shape: Shape, hash: u64, text: &str) -> Option<FilterId> {
        let table = &self.tables[*self.by_shape.get(&shape)?];
        table.filters.find(hash, |id| filters.text(id) == text)
    }

    /// A filter that was not there.
    pub(super) fn insert<V>(
        &mut self,
        hasher: &LevelHasher,
        filters: &Filters<V>,
        filter: (&Levels<'_>, Shape, u64),
        id: FilterId,
    ) {
        let (levels, shape, hash) = filter;
        let table = self.table_of(shape);
        self.tables[table].filters.insert(hash, id);
        if !self.tables[table].hot {
            self.cold.add(levels);
            self.warm_up(hasher, filters, table);
        }
    }

    /// A filter that was there.
    pub(super) fn remove(&mut self, levels: &Levels<'_>, shape: Shape, hash: u64, id: FilterId) {
        let Some(&table) = self.by_shape.get(&shape) else {
            return;
        };
        self.tables[table].filters.remove(hash, id);
        if !self.tables[table].hot {
            self.cold.remove(levels);
        }
        self.drop_if_empty(table);
    }

    /// Live shapes, hot shapes, and prefixes in the trie.
    #[cfg(test)]
    pub(super) fn live(&self) -> (usize, usize, usize) {
        let hot = self.hot_open.len() + self.hot_exact.iter().map(Vec::len).sum::<usize>();
        (self.tables.len(), hot, self.cold.len())
    }

    fn table_of(&mut self, shape: Shape) -> usize {
        if let Some(&id) = self.by_shape.get(&shape) {
            return id;
        }
        let hot = self.hot_peers(shape).len() < max_hot(shape);
        let id = self.tables.insert(ShapeTable {
            shape,
            levels: shape.into(),
            hot,
            filters: FilterTable::default(),
        });
        self.by_shape.insert(shape, id);
        if hot {
            self.hot_peers_mut(shape).push(id);
        }
        id
    }

    fn drop_if_empty(&mut self, id: usize) {
        if self.tables[id].filters.len() > 0 {
            return;
        }
        let table = self.tables.remove(id);
        self.by_shape.remove(&table.shape);
        if table.hot {
            self.forget_hot(table.shape, id);
        }
        if self.tables.is_empty() {
            *self = Self::default();
        }
    }

    /// Makes a cold shape hot where there is room, or instead of one that has less than half as many filters: it must double
    /// before it moves again, which pays for the move. Shapes with more filters than [`MAX_MOVED_FILTERS`] stay where they are,
    /// so that one request never waits for a long move; the trie serves them, too.
    fn warm_up<V>(&mut self, hasher: &LevelHasher, filters: &Filters<V>, id: usize) {
        let table = &self.tables[id];
        let peers = self.hot_peers(table.shape);
        let has_room = peers.len() < max_hot(table.shape);
        let coldest = peers
            .iter()
            .copied()
            .min_by_key(|&peer| self.tables[peer].filters.len());
        if table.filters.len() > MAX_MOVED_FILTERS {
            return;
        }
        match coldest {
            Some(peer) if !has_room => {
                if self.tables[peer].filters.len() * 2 < table.filters.len() {
                    self.make_cold(hasher, filters, peer);
                    self.make_hot(hasher, filters, id);
                }
            }
            _ => self.make_hot(hasher, filters, id),
        }
    }

    fn make_hot<V>(&mut self, hasher: &LevelHasher, filters: &Filters<V>, id: usize) {
        let table = &mut self.tables[id];
        table.hot = true;
        for id in table.filters.ids() {
            self.cold.remove(&Levels::new(hasher, filters.text(id)));
        }
        let shape = table.shape;
        self.hot_peers_mut(shape).push(id);
    }

    fn make_cold<V>(&mut self, hasher: &LevelHasher, filters: &Filters<V>, id: usize) {
        let table = &mut self.tables[id];
        table.hot = false;
        for id in table.filters.ids() {
            self.cold.add(&Levels::new(hasher, filters.text(id)));
        }
        let shape = table.shape;
        self.forget_hot(shape, id);
    }

    /// The hot shapes that this one competes with.
    fn hot_peers(&self, shape: Shape) -> &[usize] {
        match shape.open {
            true => &self.hot_open,
            false => self.hot_exact.get(shape.levels()).map_or(&[], Vec::as_slice),
        }
    }

    fn hot_peers_mut(&mut self, shape: Shape) -> &mut Vec<usize> {
        if shape.open {
            return &mut self.hot_open;
        }
        let depths = self.hot_exact.len().max(shape.levels() + 1);
        self.hot_exact.resize(depths, Vec::new());
        &mut self.hot_exact[shape.levels()]
    }

    fn forget_hot(&mut self, shape: Shape, id: usize) {
        self.hot_peers_mut(shape).retain(|&peer| peer != id);
    }
}

impl ShapeTable {
    /// The filter with this hash, if it selects the topic.
    #[inline]
    fn find<V>(&self, filters: &Filters<V>, hash: u64, topic: &Levels<'_>) -> Option<FilterId> {
        self.filters.find(hash, |id| {
            // The hash is a sum that a lucky stranger may hit: the text decides.
            let text = filters.get(id).map(|filter| filter.text.as_bytes());
            text.is_some_and(|text| topic.are_selected_by(text, &self.levels))
        })
    }
}

fn max_hot(shape: Shape) -> usize {
    match shape.open {
        true => MAX_HOT_OPEN_SHAPES,
        false => MAX_HOT_EXACT_SHAPES_PER_DEPTH,
    }
}
