//! Which shards may be interested in a topic: what each shard announces of its filters, and what it knows of the others.
//!
//! A filter is announced by its prefix, the levels before its first wildcard, as a depth and some bits of a hash; a topic
//! concerns a shard that has announced one of the topic's prefixes. That is never wrong in the negative, and seldom in the
//! positive. A subscription whose prefix has been announced before costs no message.
//!
//! **Known before acknowledged.** Announcements are numbered, and each shard confirms them in order. A SUBACK waits until all
//! others know everything that was announced before it.
//!
//! **Bounds.** A shard announces at most [`MAX_ANNOUNCED_PREFIXES`] prefixes; beyond them, that everything interests it. What
//! it knows of another one has a fixed size. Prefixes without filters are taken back now and then, which needs no confirmation.

use crate::index::{LevelHasher, Levels};
use crate::limits::MAX_ANNOUNCED_PREFIXES;
use hashbrown::HashMap;

#[cfg(test)]
mod tests;

/// Depth and hash of a prefix within its name space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    depth: u8,
    bit: u32,
}

/// Bits that are kept for each other shard: four for each prefix it may announce.
const BITS: u32 = 4 * MAX_ANNOUNCED_PREFIXES as u32;

/// The same on every shard. Whoever makes prefixes collide makes shards be asked for nothing, and no more.
const HASHER: LevelHasher = LevelHasher::with_seeds([0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344]);

/// Prefixes are compared down to this depth; a longer one is announced by its beginning.
const MAX_DEPTH: usize = u128::BITS as usize - 1;

impl Prefix {
    /// What a filter is announced by.
    pub(crate) fn of_filter(tenant: Option<&str>, filter: &str) -> Self {
        let levels = Levels::new(&HASHER, filter);
        Self::at(tenant_hash(tenant), &levels, levels.literal_levels().min(MAX_DEPTH))
    }

    fn at(tenant: u64, levels: &Levels<'_>, depth: usize) -> Self {
        let hash = levels.literal(depth).wrapping_add(tenant);
        let mixed = (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            depth: depth as u8,
            bit: (mixed >> 32) as u32 % BITS,
        }
    }
}

/// Nothing for clients without a tenant.
fn tenant_hash(tenant: Option<&str>) -> u64 {
    tenant.map_or(0, |tenant| crate::shard::hash(&[tenant.as_bytes()]))
}

/// A change of what interests a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// These prefixes, too.
    Added(Vec<Prefix>),
    /// These no more.
    Removed(Vec<Prefix>),
    /// Everything, whatever its prefix is, or no longer everything.
    Everything(bool),
}

/// What one shard has announced of its own filters.
#[derive(Debug, Default)]
pub(crate) struct OwnInterest {
    /// Filters by prefix; each prefix here is announced or about to be.
    filters: HashMap<Prefix, u32>,
    /// To be announced before the next SUBACK.
    fresh: Vec<Prefix>,
    /// Perhaps without filters, to be looked at when prefixes are taken back.
    idle: Vec<Prefix>,
    /// Filters whose prefixes had no room.
    beyond: u64,
    /// It was announced that everything is of interest.
    everything: bool,
}

impl OwnInterest {
    /// A filter comes. Answers `false` where it has met the bound.
    pub(crate) fn enter(&mut self, prefix: Prefix) -> bool {
        if let Some(filters) = self.filters.get_mut(&prefix) {
            *filters += 1;
        } else if self.filters.len() < MAX_ANNOUNCED_PREFIXES && self.beyond == 0 {
            self.filters.insert(prefix, 1);
            self.fresh.push(prefix);
        } else {
            self.beyond += 1;
            return false;
        }
        true
    }

    /// A filter that has come goes.
    pub(crate) fn leave(&mut self, prefix: Prefix) {
        match self.filters.get_mut(&prefix) {
            Some(filters) => {
                *filters -= 1;
                if *filters == 0 {
                    self.idle.push(prefix);
                }
            }
            None => self.beyond = self.beyond.saturating_sub(1),
        }
    }

    /// What the others must know before the next SUBACK.
    pub(crate) fn take_fresh(&mut self) -> impl Iterator<Item = Announcement> + use<> {
        let fresh = std::mem::take(&mut self.fresh);
        let added = (!fresh.is_empty()).then_some(Announcement::Added(fresh));
        let all = (self.beyond > 0 && !self.everything).then_some(Announcement::Everything(true));
        self.everything |= all.is_some();
        added.into_iter().chain(all)
    }

    /// What the others need not know any more.
    pub(crate) fn take_stale(&mut self) -> impl Iterator<Item = Announcement> + use<> {
        let mut stale = std::mem::take(&mut self.idle);
        stale.retain(|prefix| {
            let gone = self.filters.get(prefix) == Some(&0);
            if gone {
                self.filters.remove(prefix);
            }
            gone
        });
        let removed = (!stale.is_empty()).then_some(Announcement::Removed(stale));
        let not_all = (self.everything && self.beyond == 0).then_some(Announcement::Everything(false));
        self.everything &= not_all.is_none();
        removed.into_iter().chain(not_all)
    }
}

/// What one shard knows of another.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherInterest {
    /// Nothing, or [`BITS`] bits.
    bits: Vec<u64>,
    /// Prefixes by bit, where there are several: they are taken back one by one.
    shared_bits: HashMap<u32, u32>,
    /// Prefixes by depth.
    depths: HashMap<u8, u32>,
    /// One bit for each depth that has prefixes.
    used_depths: u128,
    everything: bool,
}

impl OtherInterest {
    pub(crate) fn apply(&mut self, announcement: &Announcement) {
        match announcement {
            Announcement::Added(prefixes) => prefixes.iter().for_each(|prefix| self.add(*prefix)),
            Announcement::Removed(prefixes) => prefixes.iter().for_each(|prefix| self.remove(*prefix)),
            Announcement::Everything(everything) => self.everything = *everything,
        }
    }

    fn add(&mut self, prefix: Prefix) {
        if self.bits.is_empty() {
            self.bits = vec![0; BITS as usize / 64];
        }
        let word = &mut self.bits[prefix.bit as usize / 64];
        let bit = 1 << (prefix.bit % 64);
        if *word & bit != 0 {
            *self.shared_bits.entry(prefix.bit).or_insert(0) += 1;
        }
        *word |= bit;
        *self.depths.entry(prefix.depth).or_insert(0) += 1;
        self.used_depths |= 1 << prefix.depth;
    }

    fn remove(&mut self, prefix: Prefix) {
        match self.shared_bits.get_mut(&prefix.bit) {
            Some(1) => _ = self.shared_bits.remove(&prefix.bit),
            Some(others) => *others -= 1,
            None => {
                if let Some(word) = self.bits.get_mut(prefix.bit as usize / 64) {
                    *word &= !(1 << (prefix.bit % 64));
                }
            }
        }
        if let Some(prefixes) = self.depths.get_mut(&prefix.depth) {
            *prefixes -= 1;
            if *prefixes == 0 {
                self.depths.remove(&prefix.depth);
                self.used_depths &= !(1 << prefix.depth);
            }
        }
        if self.depths.is_empty() {
            self.bits = Vec::new();
        }
    }

    fn has(&self, prefix: Prefix) -> bool {
        let word = self.bits.get(prefix.bit as usize / 64);
        word.is_some_and(|word| word >> (prefix.bit % 64) & 1 == 1)
    }
}

/// A topic, prepared for asking which shards it may interest.
pub(crate) struct Interesting<'a> {
    tenant: u64,
    levels: Levels<'a>,
}

impl<'a> Interesting<'a> {
    pub(crate) fn new(tenant: Option<&str>, topic: &'a str) -> Self {
        Self {
            tenant: tenant_hash(tenant),
            levels: Levels::new(&HASHER, topic),
        }
    }

    /// Whether a shard has announced a prefix of the topic.
    pub(crate) fn to(&self, shard: &OtherInterest) -> bool {
        if shard.everything {
            return true;
        }
        let deepest = self.levels.len().min(MAX_DEPTH);
        let mut depths = shard.used_depths & (u128::MAX >> (MAX_DEPTH - deepest));
        while depths != 0 {
            let depth = depths.trailing_zeros() as usize;
            if shard.has(Prefix::at(self.tenant, &self.levels, depth)) {
                return true;
            }
            depths &= depths - 1;
        }
        false
    }
}
