//! Topic names and filters taken apart: their levels, the hashes of these, and the shape of a filter.

use hashbrown::DefaultHashBuilder;
use nervewire_codec::topic::MAX_TOPIC_LEVELS;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Hashes levels. The index does it with a secret seed, because topics come from strangers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LevelHasher {
    seeds: [u64; 2],
}

impl Default for LevelHasher {
    fn default() -> Self {
        let state = DefaultHashBuilder::default();
        LevelHasher::with_seeds([state.hash_one(0), state.hash_one(1)])
    }
}

/// Levels up to this length are hashed by one multiplication.
const MAX_SHORT_LEVEL_BYTES: usize = 16;

/// `+` as the first half of a short level.
const PLUS: u64 = b'+' as u64;

impl LevelHasher {
    /// The same hashes for the same seeds, everywhere.
    pub(crate) const fn with_seeds(seeds: [u64; 2]) -> Self {
        LevelHasher { seeds }
    }

    /// Hash of a level of up to 16 bytes, given as two numbers filled up with zeros, which no text contains.
    #[inline]
    fn short(&self, halves: [u64; 2], position: usize) -> u64 {
        // The position is in the factors: `a/b` and `b/a` must not have the same sum.
        let at = position as u64;
        let low = halves[0] ^ self.seeds[0].wrapping_add(at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let high = halves[1] ^ self.seeds[1].wrapping_add(at.wrapping_mul(0xD1B5_4A32_D192_ED03));
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    }

    /// Hash of a level of any length: its parts of 16 bytes, each mixed into the next.
    fn long(&self, words: &Words<'_>, start: usize, len: usize, position: usize) -> u64 {
        (0..len).step_by(MAX_SHORT_LEVEL_BYTES).fold(len as u64, |hash, at| {
            let part = (len - at).min(MAX_SHORT_LEVEL_BYTES);
            let [low, high] = words.halves(start + at, part);
            self.short([low ^ hash, high], position)
        })
    }

    /// Hash of the level `+` at its position.
    #[inline]
    pub(super) fn plus(&self, position: usize) -> u64 {
        self.short([PLUS, 0], position)
    }
}

/// A text that is read by words of eight bytes, little-endian; behind its end are zeros, which no text contains.
#[derive(Clone, Copy)]
struct Words<'a> {
    text: &'a [u8],
    /// The last word, whose last byte is the text's.
    last: u64,
}

impl<'a> Words<'a> {
    #[inline]
    fn new(text: &'a [u8]) -> Self {
        let last = match text.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => text.iter().fold(0, |last, byte| last >> 8 | u64::from(*byte) << 56),
        };
        Words { text, last }
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        match self.text.get(at..).and_then(<[u8]>::first_chunk) {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let beyond = (at + 8).saturating_sub(self.text.len());
                self.last.checked_shr(8 * beyond as u32).unwrap_or(0)
            }
        }
    }

    /// The first `len` bytes from `at` on, of which there are at most 16.
    #[inline]
    fn halves(&self, at: usize, len: usize) -> [u64; 2] {
        let low = self.word(at) & first_bytes(len);
        let high = self.word(at + 8) & first_bytes(len.saturating_sub(8));
        [low, high]
    }

    /// One bit for each `/` among the 64 bytes from `at` on.
    #[inline]
    fn separators(&self, at: usize) -> u64 {
        let end = self.text.len().min(at + 64);
        let words = (at..end).step_by(8).zip((0..).step_by(8));
        words.fold(0, |mask, (at, bit)| mask | separators(self.word(at)) << bit)
    }
}

/// One bit for each `/`.
#[inline]
fn separators(word: u64) -> u64 {
    const SEPARATORS: u64 = u64::from_ne_bytes([b'/'; 8]);
    const LOW_BITS: u64 = u64::from_ne_bytes([0x7F; 8]);
    /// Moves the lowest bit of each byte to the highest byte, side by side.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let difference = word ^ SEPARATORS;
    let is_zero = !(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS);
    (is_zero >> 7).wrapping_mul(GATHER) >> 56
}

/// A mask for the first bytes of a little-endian number.
#[inline]
fn first_bytes(count: usize) -> u64 {
    u64::MAX.checked_shl(8 * count as u32).map_or(u64::MAX, |rest| !rest)
}

/// Levels that are kept without allocating.
const INLINE_LEVELS: usize = 16;

/// A topic name or filter taken apart.
pub(crate) struct Levels<'a> {
    text: &'a [u8],
    /// One for each level, and one behind the last.
    levels: SmallVec<[Level; INLINE_LEVELS + 1]>,
}

#[derive(Clone, Copy, Default)]
struct Level {
    /// First byte of the level.
    start: usize,
    /// Hash of all levels before this one: the wrapping sum of their hashes.
    sum: u64,
    /// What the sum of a topic changes by when `+` takes the place of this level.
    exchange: u64,
}

impl<'a> Levels<'a> {
    #[inline]
    pub(crate) fn new(hasher: &LevelHasher, text: &'a str) -> Self {
        Self::of_bytes(hasher, text.as_bytes())
    }

    #[inline]
    pub(super) fn of_bytes(hasher: &LevelHasher, text: &'a [u8]) -> Self {
        let mut levels = Levels {
            text,
            levels: SmallVec::new(),
        };
        let words = Words::new(text);
        let mut next = Level::default();
        // All ends of a block are found before the first is looked at: levels of different length would mislead branch prediction.
        for block in (0..text.len()).step_by(64) {
            let mut ends = words.separators(block);
            while ends != 0 {
                next = levels.push(hasher, &words, next, block + ends.trailing_zeros() as usize);
                ends &= ends - 1;
            }
        }
        next = levels.push(hasher, &words, next, text.len());
        levels.levels.push(next);
        levels
    }

    /// Adds a level that starts where `next` says; what starts behind it.
    #[inline]
    fn push(&mut self, hasher: &LevelHasher, words: &Words<'_>, next: Level, end: usize) -> Level {
        let (position, len) = (self.levels.len(), end - next.start);
        let hash = if len <= MAX_SHORT_LEVEL_BYTES {
            hasher.short(words.halves(next.start, len), position)
        } else {
            hasher.long(words, next.start, len, position)
        };
        self.levels.push(Level {
            exchange: hasher.plus(position).wrapping_sub(hash),
            ..next
        });
        Level {
            start: end + 1,
            sum: next.sum.wrapping_add(hash),
            exchange: 0,
        }
    }

    /// Number of levels.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.levels.len() - 1
    }

    /// Hash of the first `depth` levels.
    #[inline]
    pub(crate) fn literal(&self, depth: usize) -> u64 {
        self.levels[depth].sum
    }

    /// Hash of the level at `position`.
    pub(super) fn level(&self, position: usize) -> u64 {
        self.literal(position + 1).wrapping_sub(self.literal(position))
    }

    /// Hash of the first levels with `+` in place of those at these positions.
    #[inline]
    pub(super) fn with_plus_at(&self, depth: usize, positions: &[u8]) -> u64 {
        let mut sum = self.literal(depth);
        for &position in positions {
            sum = sum.wrapping_add(self.levels[usize::from(position)].exchange);
        }
        sum
    }

    /// Whether a filter of this shape selects this topic: it is the topic's levels with `+` and `#` where the shape has them.
    #[inline]
    pub(super) fn are_selected_by(&self, mut filter: &[u8], shape: &ShapeLevels) -> bool {
        // [MQTT-4.7.2-1]
        if self.text.first() == Some(&b'$') && shape.begins_with_wildcard() {
            return false;
        }
        let mut from = 0;
        for &position in &shape.plus_at {
            let position = usize::from(position);
            let Some(rest) = filter.strip_prefix(&self.text[from..self.levels[position].start]) else {
                return false;
            };
            let Some((b'+', rest)) = rest.split_first() else {
                return false;
            };
            filter = rest;
            from = self.end(position);
        }
        let to = shape.levels.checked_sub(1).map_or(0, |last| self.end(last));
        let rest = filter.strip_prefix(&self.text[from..to]);
        match (shape.open, shape.levels) {
            (false, _) => rest == Some(b""),
            (true, 0) => rest == Some(b"#"),
            (true, _) => rest == Some(b"/#"),
        }
    }

    /// Behind the last byte of a level.
    fn end(&self, position: usize) -> usize {
        self.levels[position + 1].start - 1
    }

    fn text_of(&self, position: usize) -> &'a [u8] {
        &self.text[self.levels[position].start..self.end(position)]
    }

    /// Taken as a filter: its shape, and the hash of its levels before a `#`.
    pub(super) fn shape(&self) -> (Shape, u64) {
        let open = self.text.last() == Some(&b'#');
        let mut shape = Shape { open, ..Shape::ROOT };
        for position in 0..self.len() - usize::from(open) {
            shape = shape.deeper(self.text_of(position) == b"+");
        }
        (shape, self.literal(shape.levels()))
    }

    /// Taken as a filter: how many levels stand before the first wildcard.
    pub(crate) fn literal_levels(&self) -> usize {
        let is_wildcard = |position: &usize| matches!(self.text_of(*position), b"+" | b"#");
        (0..self.len()).find(is_wildcard).unwrap_or(self.len())
    }

    /// Taken as a filter: calls `each` with the hash of every prefix, the empty one first, and with what follows it.
    pub(super) fn for_each_prefix(&self, mut each: impl FnMut(u64, Next)) {
        for position in 0..self.len() {
            let hash = self.literal(position);
            match self.text_of(position) {
                b"#" => return each(hash, Next::Open),
                b"+" => each(hash, Next::Plus),
                _ => each(hash, Next::Literal),
            }
        }
        each(self.literal(self.len()), Next::End);
    }
}

/// What follows a prefix of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A level without wildcard.
    Literal,
    /// `+`
    Plus,
    /// `/#`, behind no prefix `#`
    Open,
    /// Nothing.
    End,
}

/// What the filters of one hash table have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// One bit per `+`, by its position.
    plus: u128,
    /// Levels before the `#`.
    levels: u16,
    /// Ends with `#`.
    pub(super) open: bool,
}

// A valid filter has no more levels than `Shape::plus` has bits.
const _: () = assert!(MAX_TOPIC_LEVELS <= u128::BITS as usize);

impl Shape {
    /// No level.
    pub(super) const ROOT: Shape = Shape {
        plus: 0,
        levels: 0,
        open: false,
    };

    /// The shape with one level more.
    pub(super) fn deeper(self, by_plus: bool) -> Shape {
        let bit = u128::from(by_plus).checked_shl(u32::from(self.levels)).unwrap_or(0);
        Shape {
            plus: self.plus | bit,
            levels: self.levels + 1,
            open: self.open,
        }
    }

    /// The shape with a `#` at its end.
    pub(super) fn opened(self) -> Shape {
        Shape { open: true, ..self }
    }

    pub(super) fn levels(self) -> usize {
        usize::from(self.levels)
    }
}

/// A shape, in the form that a match reads quickest.
#[derive(Debug)]
pub(super) struct ShapeLevels {
    /// Positions of `+`.
    pub(super) plus_at: SmallVec<[u8; 16]>,
    /// Levels before the `#`.
    pub(super) levels: usize,
    /// Ends with `#`.
    pub(super) open: bool,
}

impl From<Shape> for ShapeLevels {
    fn from(shape: Shape) -> Self {
        let plus_at = (0..MAX_TOPIC_LEVELS as u8).filter(|position| shape.plus >> position & 1 == 1);
        ShapeLevels {
            plus_at: plus_at.collect(),
            levels: shape.levels(),
            open: shape.open,
        }
    }
}

impl ShapeLevels {
    fn begins_with_wildcard(&self) -> bool {
        self.plus_at.first() == Some(&0) || (self.open && self.levels == 0)
    }
}
