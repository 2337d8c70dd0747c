//! A hash table of filter numbers, made so that a probe reads one cache line and growing never stalls.
//!
//! Places lie in groups of one cache line, each with 32 bits of the hash: most probes end without looking at a filter. A table
//! with many filters is divided into parts that grow each on its own, and a part needs nothing but itself to grow: a million
//! filters are moved in steps of some thousand, while none of them is read.

use super::filters::FilterId;

/// Parts of a divided table.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 8;

/// Filters from which on a table is divided, and below which it becomes one part again.
const MIN_DIVIDED: usize = 4_096;
const MAX_UNDIVIDED: usize = 1_024;

const GROUP_SLOTS: usize = 7;

/// Filters per group, on average, above which a part doubles.
const MAX_LOAD: usize = 6;

/// Filters per group, on average, below which a part shrinks to half.
const MIN_LOAD: usize = 1;

/// Places for filters, all in one cache line.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Group {
    /// Lower bits of the hashes; 0: free.
    tags: [u32; GROUP_SLOTS],
    ids: [FilterId; GROUP_SLOTS],
    /// Filters that belong here or before, but lie further on because there was no room.
    overflow: u32,
}

/// What [`FilterTable::guess`] says: a filter's number and one, or zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess(u32);

impl Guess {
    pub(super) fn id(self) -> Option<FilterId> {
        self.0.checked_sub(1).map(FilterId)
    }
}

#[derive(Debug, Default)]
struct Part {
    /// None, or a power of two.
    groups: Vec<Group>,
    len: usize,
}

/// Numbers of filters by the hashes of their levels.
#[derive(Debug)]
pub(super) struct FilterTable {
    /// One, or [`PARTS`].
    parts: Vec<Part>,
    len: usize,
}

impl Default for FilterTable {
    fn default() -> Self {
        FilterTable {
            parts: vec![Part::default()],
            len: 0,
        }
    }
}

impl FilterTable {
    /// The filter with this hash for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(FilterId) -> bool) -> Option<FilterId> {
        self.part(tag(hash)).find(tag(hash), is_it)
    }

    /// A filter that may have this hash, found without a branch: the next guess need not wait for the memory that this one
    /// reads. `None`: most likely there is none.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Guess {
        let (tag, part) = (tag(hash), self.part(tag(hash)));
        let Some(group) = part.way_from(tag).next().and_then(|at| part.groups.get(at)) else {
            return Guess(0);
        };
        let places = group.tags.iter().zip(&group.ids);
        Guess(places.fold(0, |guess, (&other, id)| guess | if other == tag { id.0 + 1 } else { 0 }))
    }

    /// The filter is not there yet.
    pub(super) fn insert(&mut self, hash: u64, id: FilterId) {
        if self.len >= MIN_DIVIDED && self.parts.len() == 1 {
            self.divide_into(PARTS);
        }
        self.part_mut(tag(hash)).insert(tag(hash), id);
        self.len += 1;
    }

    /// The filter is there.
    pub(super) fn remove(&mut self, hash: u64, id: FilterId) {
        self.part_mut(tag(hash)).remove(tag(hash), id);
        self.len -= 1;
        if self.len < MAX_UNDIVIDED && self.parts.len() > 1 {
            self.divide_into(1);
        }
    }

    /// Number of filters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = FilterId> {
        let groups = self.parts.iter().flat_map(|part| &part.groups);
        groups.flat_map(Group::occupied).map(|(_, id)| id)
    }

    #[inline]
    fn part(&self, tag: u32) -> &Part {
        &self.parts[tag as usize & (self.parts.len() - 1)]
    }

    fn part_mut(&mut self, tag: u32) -> &mut Part {
        let part = tag as usize & (self.parts.len() - 1);
        &mut self.parts[part]
    }

    fn divide_into(&mut self, parts: usize) {
        let empty = (0..parts).map(|_| Part::default()).collect();
        for part in std::mem::replace(&mut self.parts, empty) {
            for (tag, id) in part.groups.iter().flat_map(Group::occupied) {
                self.part_mut(tag).insert(tag, id);
            }
        }
    }
}

/// What a table knows of a hash: the lowest bits select the part, the next ones the group, and all tell filters apart.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash as u32).max(1)
}

impl Part {
    #[inline]
    fn find(&self, tag: u32, mut is_it: impl FnMut(FilterId) -> bool) -> Option<FilterId> {
        for at in self.way_from(tag) {
            let group = &self.groups[at];
            for slot in group.slots_with(tag) {
                if is_it(group.ids[slot]) {
                    return Some(group.ids[slot]);
                }
            }
            if group.overflow == 0 {
                break;
            }
        }
        None
    }

    /// Groups in the order in which a filter with this tag may lie in them.
    #[inline]
    fn way_from(&self, tag: u32) -> impl Iterator<Item = usize> + use<> {
        let groups = self.groups.len();
        let home = (tag >> PART_BITS) as usize;
        (0..groups).map(move |step| (home + step) & (groups - 1))
    }

    fn insert(&mut self, tag: u32, id: FilterId) {
        // A single group may be filled to its last place: rare filters shall be small.
        let most = if self.groups.len() == 1 {
            GROUP_SLOTS
        } else {
            self.groups.len() * MAX_LOAD
        };
        if self.len >= most {
            self.resize((self.groups.len() * 2).max(1));
        }
        self.place(tag, id);
        self.len += 1;
    }

    fn place(&mut self, tag: u32, id: FilterId) {
        for at in self.way_from(tag) {
            let group = &mut self.groups[at];
            if let Some(slot) = group.slots_with(FREE).next() {
                (group.tags[slot], group.ids[slot]) = (tag, id);
                return;
            }
            group.overflow += 1;
        }
    }

    fn remove(&mut self, tag: u32, id: FilterId) {
        for at in self.way_from(tag) {
            let group = &mut self.groups[at];
            if let Some(slot) = group.slots_with(tag).find(|&slot| group.ids[slot] == id) {
                group.tags[slot] = FREE;
                break;
            }
            group.overflow -= 1;
        }
        self.len -= 1;
        if self.len == 0 {
            self.groups = Vec::new();
        } else if self.groups.len() > 1 && self.len < self.groups.len() * MIN_LOAD {
            self.resize(self.groups.len() / 2);
        }
    }

    fn resize(&mut self, groups: usize) {
        let old = std::mem::replace(&mut self.groups, vec![Group::default(); groups]);
        for (tag, id) in old.iter().flat_map(Group::occupied) {
            self.place(tag, id);
        }
    }
}

/// The tag of a free place.
const FREE: u32 = 0;

impl Group {
    /// The places with a tag.
    #[inline]
    fn slots_with(&self, tag: u32) -> Slots {
        let mut mask = 0;
        for (slot, &other) in self.tags.iter().enumerate() {
            mask |= u32::from(other == tag) << slot;
        }
        Slots { mask }
    }

    fn occupied(&self) -> impl Iterator<Item = (u32, FilterId)> {
        let places = self.tags.iter().copied().zip(self.ids);
        places.filter(|(tag, _)| *tag != FREE)
    }
}

/// Places in a group, one bit for each.
struct Slots {
    mask: u32,
}

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let slot = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask.wrapping_sub(1);
        (slot < GROUP_SLOTS).then_some(slot)
    }
}
