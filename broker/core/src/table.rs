//! Items by small numbers, in chunks that never move.

/// Items of one chunk.
const CHUNK_ITEMS: usize = 64;

/// What a number stands for. A vector that doubles holds the old half and the new whole at once and leaves the old one to an
/// allocator that may keep it: here growing moves and copies nothing, and a chunk that is empty is given back.
#[derive(Debug)]
pub struct Table<T> {
    chunks: Vec<Option<Chunk<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    items: Box<[Option<T>; CHUNK_ITEMS]>,
    used: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Table<T> {
    /// The item of a number.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&T> {
        let chunk = self.chunks.get(number / CHUNK_ITEMS)?.as_ref()?;
        chunk.items[number % CHUNK_ITEMS].as_ref()
    }

    /// The item of a number.
    #[inline]
    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(number / CHUNK_ITEMS)?.as_mut()?;
        chunk.items[number % CHUNK_ITEMS].as_mut()
    }

    /// Gives a number to an item, and answers the one that had it. Numbers should be small: memory is in proportion to the
    /// largest.
    pub fn insert(&mut self, number: usize, item: T) -> Option<T> {
        let at = number / CHUNK_ITEMS;
        if self.chunks.len() <= at {
            self.chunks.resize_with(at + 1, || None);
        }
        let chunk = self.chunks[at].get_or_insert_with(Chunk::new);
        let replaced = chunk.items[number % CHUNK_ITEMS].replace(item);
        let added = usize::from(replaced.is_none());
        chunk.used += added;
        self.len += added;
        replaced
    }

    /// The item of a number; made where there is none.
    pub fn get_or_insert_default(&mut self, number: usize) -> &mut T
    where
        T: Default,
    {
        let at = number / CHUNK_ITEMS;
        if self.chunks.len() <= at {
            self.chunks.resize_with(at + 1, || None);
        }
        let chunk = self.chunks[at].get_or_insert_with(Chunk::new);
        let item = &mut chunk.items[number % CHUNK_ITEMS];
        if item.is_none() {
            chunk.used += 1;
            self.len += 1;
        }
        item.get_or_insert_default()
    }

    /// Takes the item of a number.
    pub fn remove(&mut self, number: usize) -> Option<T> {
        let slot = self.chunks.get_mut(number / CHUNK_ITEMS)?;
        let chunk = slot.as_mut()?;
        let removed = chunk.items[number % CHUNK_ITEMS].take()?;
        self.len -= 1;
        chunk.used -= 1;
        if chunk.used == 0 {
            *slot = None;
        }
        Some(removed)
    }

    /// All items with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let chunks = self.chunks.iter().enumerate();
        chunks
            .filter_map(|(at, chunk)| Some((at * CHUNK_ITEMS, chunk.as_ref()?)))
            .flat_map(|(first, chunk)| {
                let items = chunk.items.iter().enumerate();
                items.filter_map(move |(at, item)| Some((first + at, item.as_ref()?)))
            })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self {
            items: Box::new([const { None }; CHUNK_ITEMS]),
            used: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_holds(changes in prop::collection::vec((0..300usize, any::<Option<u8>>()), 0..500)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (number, item) in changes {
                match item {
                    Some(item) => prop_assert_eq!(table.insert(number, item), map.insert(number, item)),
                    None => prop_assert_eq!(table.remove(number), map.remove(&number)),
                }
                prop_assert_eq!(table.get(number), map.get(&number));
                prop_assert_eq!(table.len(), map.len());
                prop_assert_eq!(table.is_empty(), map.is_empty());
            }
            prop_assert!(table.iter().eq(map.iter().map(|(number, item)| (*number, item))));
        }
    }

    #[test]
    fn an_empty_chunk_is_given_back() {
        let mut table = Table::default();
        table.insert(0, 'a');
        table.insert(CHUNK_ITEMS, 'b');
        table.remove(CHUNK_ITEMS);
        assert!(table.chunks[0].is_some() && table.chunks[1].is_none());
    }
}
