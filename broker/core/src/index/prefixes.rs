//! The trie for filters whose shapes are too many to probe each: a counted set of prefix hashes.

use super::levels::{LevelHasher, Levels, Next, Shape};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use smallvec::SmallVec;

/// Maps smaller than this are not worth shrinking.
const MIN_SHRINK_CAPACITY: usize = 64;

/// Prefixes of cold filters by their hash. Two prefixes that collide share their counts, which costs a needless visit and is
/// otherwise harmless: what is found is verified, and counts go up and down by the same filters.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    counts: HashMap<u64, Counts>,
}

/// Cold filters with one prefix, by what follows it.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// A literal level.
    literal: u32,
    /// `+`
    plus: u32,
    /// Nothing.
    exact: u32,
    /// `/#`, behind no prefix `#`
    open: u32,
}

impl Counts {
    fn of(&mut self, next: Next) -> &mut u32 {
        match next {
            Next::Plus => &mut self.plus,
            Next::Literal => &mut self.literal,
            Next::End => &mut self.exact,
            Next::Open => &mut self.open,
        }
    }

    fn is_zero(&self) -> bool {
        self.literal == 0 && self.plus == 0 && self.exact == 0 && self.open == 0
    }
}

impl Prefixes {
    /// Calls `end` with shape and hash of every filter that ends where the topic does or in a `#`. Visits only prefixes that
    /// exist and agree with the topic.
    pub(super) fn walk(&self, hasher: &LevelHasher, topic: &Levels<'_>, end: &mut impl FnMut(Shape, u64)) {
        let mut prefixes: SmallVec<[(Shape, u64); 16]> = SmallVec::new();
        prefixes.push((Shape::ROOT, 0));
        while let Some((shape, hash)) = prefixes.pop() {
            let Some(counts) = self.counts.get(&hash) else { continue };
            if counts.open > 0 {
                end(shape.opened(), hash);
            }
            let depth = shape.levels();
            if depth == topic.len() {
                if counts.exact > 0 {
                    end(shape, hash);
                }
                continue;
            }
            if counts.plus > 0 {
                prefixes.push((shape.deeper(true), hash.wrapping_add(hasher.plus(depth))));
            }
            if counts.literal > 0 {
                prefixes.push((shape.deeper(false), hash.wrapping_add(topic.level(depth))));
            }
        }
    }

    pub(super) fn add(&mut self, filter: &Levels<'_>) {
        filter.for_each_prefix(|hash, next| *self.counts.entry(hash).or_default().of(next) += 1);
    }

    /// The filter was added before.
    pub(super) fn remove(&mut self, filter: &Levels<'_>) {
        filter.for_each_prefix(|hash, next| {
            if let Entry::Occupied(mut entry) = self.counts.entry(hash) {
                *entry.get_mut().of(next) -= 1;
                if entry.get().is_zero() {
                    entry.remove();
                }
            }
        });
        self.give_space_back();
    }

    fn give_space_back(&mut self) {
        let (len, capacity) = (self.counts.len(), self.counts.capacity());
        if len == 0 || (capacity >= MIN_SHRINK_CAPACITY && len * 4 < capacity) {
            self.counts.shrink_to(len * 2);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}
