//! Numbers that a seed decides (SplitMix64): a failing run is run again with the same choices.

use std::ops::Range;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// # Panics
    /// Where the range is empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn per_thousand(&mut self, chance: u64) -> bool {
        self.next() % 1000 < chance
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.within(0..len as u64) as usize
    }

    /// Another sequence, which this one decides.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
