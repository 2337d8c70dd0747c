//! The wildcard filters: one table per shape, the populous shapes probed on sight, the others through the trie.

use super::levels::{LevelHasher, Shape, TopicHashes};
use super::prefixes::Prefixes;
use super::table::FilterTable;
use hashbrown::HashMap;
use slab::Slab;

/// Shapes with `#` that are probed on sight.
pub const MAX_HOT_OPEN_SHAPES: usize = 16;

/// Shapes without `#` that are probed on sight, per number of levels.
pub const MAX_HOT_EXACT_SHAPES_PER_DEPTH: usize = 16;

/// Filters that one change of a shape between hot and cold may move.
const MAX_MOVED_FILTERS: usize = 4_096;

#[derive(Debug)]
struct ShapeTable<V> {
    shape: Shape,
    hot: bool,
    filters: FilterTable<V>,
}

#[derive(Debug)]
pub(super) struct Shapes<V> {
    tables: Slab<ShapeTable<V>>,
    by_shape: HashMap<Shape, usize>,
    /// Hot shapes with `#`.
    hot_open: Vec<usize>,
    /// Hot shapes without it, by their number of levels.
    hot_exact: HashMap<usize, Vec<usize>>,
    /// Every filter of a cold shape.
    cold: Prefixes,
}

impl<V> Default for Shapes<V> {
    fn default() -> Self {
        Shapes {
            tables: Slab::new(),
            by_shape: HashMap::new(),
            hot_open: Vec::new(),
            hot_exact: HashMap::new(),
            cold: Prefixes::default(),
        }
    }
}

impl<V> Shapes<V> {
    pub(super) fn matches(
        &self,
        hasher: &LevelHasher,
        hashes: &TopicHashes,
        topic: &str,
        found: &mut impl FnMut(u32, &V),
    ) {
        let exact = self.hot_exact.get(&hashes.levels()).map_or(&[][..], Vec::as_slice);
        for &id in exact.iter().chain(&self.hot_open) {
            let table = &self.tables[id];
            if table.shape.levels() <= hashes.levels() {
                table.filters.find(hashes.in_shape(hasher, table.shape), topic, found);
            }
        }
        if !self.cold.is_empty() {
            self.cold.walk(hasher, hashes, &mut |shape, hash| {
                if let Some(&id) = self.by_shape.get(&shape) {
                    self.tables[id].filters.find(hash, topic, found);
                }
            });
        }
    }

    /// The value it replaces.
    pub(super) fn insert(
        &mut self,
        hasher: &LevelHasher,
        shape: Shape,
        hash: u64,
        filter: &str,
        subscriber: u32,
        value: V,
    ) -> Option<V> {
        let id = self.table_of(shape);
        let inserted = self.tables[id].filters.insert(hash, filter, subscriber, value);
        if inserted.new_filter && !self.tables[id].hot {
            self.cold.add(hasher, filter);
            self.warm_up(hasher, id);
        }
        inserted.replaced
    }

    pub(super) fn remove(
        &mut self,
        hasher: &LevelHasher,
        shape: Shape,
        hash: u64,
        filter: &str,
        subscriber: u32,
    ) -> Option<V> {
        let id = *self.by_shape.get(&shape)?;
        let removed = self.tables[id].filters.remove(hash, filter, subscriber)?;
        if removed.filter_gone {
            if !self.tables[id].hot {
                self.cold.remove(hasher, filter);
            }
            self.drop_if_empty(id);
        }
        Some(removed.value)
    }

    /// Number of filters.
    pub(super) fn filters(&self) -> usize {
        self.tables.iter().map(|(_, table)| table.filters.len()).sum()
    }

    /// Live shapes, hot shapes, and prefixes in the trie.
    #[cfg(test)]
    pub(super) fn live(&self) -> (usize, usize, usize) {
        let hot = self.hot_open.len() + self.hot_exact.values().map(Vec::len).sum::<usize>();
        (self.tables.len(), hot, self.cold.len())
    }

    fn table_of(&mut self, shape: Shape) -> usize {
        if let Some(&id) = self.by_shape.get(&shape) {
            return id;
        }
        let hot = self.hot_peers(shape).len() < max_hot(shape);
        let id = self.tables.insert(ShapeTable {
            shape,
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
    fn warm_up(&mut self, hasher: &LevelHasher, id: usize) {
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
                    self.make_cold(hasher, peer);
                    self.make_hot(hasher, id);
                }
            }
            _ => self.make_hot(hasher, id),
        }
    }

    fn make_hot(&mut self, hasher: &LevelHasher, id: usize) {
        let table = &mut self.tables[id];
        table.hot = true;
        table.filters.texts().for_each(|text| self.cold.remove(hasher, text));
        let shape = table.shape;
        self.hot_peers_mut(shape).push(id);
    }

    fn make_cold(&mut self, hasher: &LevelHasher, id: usize) {
        let table = &mut self.tables[id];
        table.hot = false;
        table.filters.texts().for_each(|text| self.cold.add(hasher, text));
        let shape = table.shape;
        self.forget_hot(shape, id);
    }

    /// The hot shapes that this one competes with.
    fn hot_peers(&self, shape: Shape) -> &[usize] {
        match shape.open {
            true => &self.hot_open,
            false => self.hot_exact.get(&shape.levels()).map_or(&[], Vec::as_slice),
        }
    }

    fn hot_peers_mut(&mut self, shape: Shape) -> &mut Vec<usize> {
        match shape.open {
            true => &mut self.hot_open,
            false => self.hot_exact.entry(shape.levels()).or_default(),
        }
    }

    fn forget_hot(&mut self, shape: Shape, id: usize) {
        let peers = self.hot_peers_mut(shape);
        peers.retain(|&peer| peer != id);
        if peers.is_empty() && !shape.open {
            self.hot_exact.remove(&shape.levels());
        }
    }
}

fn max_hot(shape: Shape) -> usize {
    match shape.open {
        true => MAX_HOT_OPEN_SHAPES,
        false => MAX_HOT_EXACT_SHAPES_PER_DEPTH,
    }
}
