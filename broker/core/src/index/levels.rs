//! Levels, their hashes, and the shape of a filter.

use hashbrown::DefaultHashBuilder;
use nervewire_codec::topic::MAX_TOPIC_LEVELS;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher};

/// Hashes levels with a secret seed, because topics come from strangers.
#[derive(Debug)]
pub(super) struct LevelHasher {
    state: DefaultHashBuilder,
    plus: u64,
}

impl Default for LevelHasher {
    fn default() -> Self {
        let state = DefaultHashBuilder::default();
        let plus = hash_bytes(&state, b"+");
        LevelHasher { state, plus }
    }
}

impl LevelHasher {
    /// Hash of a level at its position. Filters and topics are hashed as the wrapping sum of these.
    pub(super) fn level(&self, level: &str, position: usize) -> u64 {
        at_position(hash_bytes(&self.state, level.as_bytes()), position)
    }

    /// Hash of the level `+` at its position.
    pub(super) fn plus(&self, position: usize) -> u64 {
        at_position(self.plus, position)
    }
}

fn hash_bytes(state: &DefaultHashBuilder, bytes: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// SplitMix64's finalizer: sums must not depend on the levels alone, or `a/b` and `b/a` would collide.
fn at_position(hash: u64, position: usize) -> u64 {
    let mut x = hash.wrapping_add((position as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Levels of a filter or topic that are kept without allocating.
const INLINE_LEVELS: usize = 16;

/// The hashes of a topic's prefixes.
pub(super) struct TopicHashes {
    /// `sums[d]` is the hash of the first `d` levels.
    sums: SmallVec<[u64; INLINE_LEVELS + 1]>,
}

impl TopicHashes {
    pub(super) fn new(hasher: &LevelHasher, topic: &str) -> Self {
        let mut sums = SmallVec::new();
        let mut sum = 0u64;
        sums.push(sum);
        for (position, level) in topic.split('/').enumerate() {
            sum = sum.wrapping_add(hasher.level(level, position));
            sums.push(sum);
        }
        TopicHashes { sums }
    }

    /// Number of levels of the topic.
    pub(super) fn levels(&self) -> usize {
        self.sums.len() - 1
    }

    /// Hash of the first `depth` levels.
    pub(super) fn literal(&self, depth: usize) -> u64 {
        self.sums[depth]
    }

    /// Hash of the level at `position`.
    pub(super) fn level(&self, position: usize) -> u64 {
        self.sums[position + 1].wrapping_sub(self.sums[position])
    }

    /// Hash that a filter of this shape has if it matches. The shape is at most as deep as the topic.
    pub(super) fn in_shape(&self, hasher: &LevelHasher, shape: Shape) -> u64 {
        let mut hash = self.literal(shape.levels());
        let mut plus = shape.plus;
        while plus != 0 {
            let position = plus.trailing_zeros() as usize;
            hash = hash
                .wrapping_sub(self.level(position))
                .wrapping_add(hasher.plus(position));
            plus &= plus - 1;
        }
        hash
    }
}

/// What filters of one hash table have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// One bit per `+`, by its position.
    pub(super) plus: u128,
    /// Levels before the `#`.
    pub(super) levels: u16,
    /// Ends with `#`.
    pub(super) open: bool,
}

// A valid filter has no more levels than `Shape::plus` has bits.
const _: () = assert!(MAX_TOPIC_LEVELS <= u128::BITS as usize);

impl Shape {
    /// The shape of a filter, and its hash.
    pub(super) fn parse(hasher: &LevelHasher, filter: &str) -> (Shape, u64) {
        let mut shape = Shape {
            plus: 0,
            levels: 0,
            open: false,
        };
        let mut hash = 0u64;
        for level in filter.split('/') {
            if level == "#" {
                shape.open = true;
                break;
            }
            let position = shape.levels();
            hash = hash.wrapping_add(hasher.level(level, position));
            shape = shape.deeper(level == "+");
        }
        (shape, hash)
    }

    /// The shape with one level more.
    pub(super) fn deeper(self, by_plus: bool) -> Shape {
        let bit = u128::from(by_plus).checked_shl(u32::from(self.levels)).unwrap_or(0);
        Shape {
            plus: self.plus | bit,
            levels: self.levels + 1,
            open: self.open,
        }
    }

    pub(super) fn levels(self) -> usize {
        usize::from(self.levels)
    }

    pub(super) fn is_literal(self) -> bool {
        self.plus == 0 && !self.open
    }
}
