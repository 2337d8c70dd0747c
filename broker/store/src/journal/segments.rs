//! The segment files of a journal: which there are, how long they are, and what may be deleted.

use super::lock;
use crate::format::SegmentHeader;
use hashbrown::HashMap;
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::Position;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bits of a position that say where in its segment a record is: 64 GiB, far more than a segment has.
const OFFSET_BITS: u32 = 36;

/// Files that are kept open to be read.
const MOST_OPEN_FILES: usize = 64;

/// What is known of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    /// Up to here its batches are whole and durable.
    pub(super) end: u64,
    /// A bit for each partition that has records here.
    pub(super) partitions: u64,
    /// Nothing is written to it any more.
    pub(super) sealed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    segments: BTreeMap<u64, Segment>,
    open: HashMap<u64, Arc<File>>,
    /// By partition: nobody needs what is before it.
    floors: [Position; PARTITIONS as usize],
}

/// The position of what starts at an offset of a segment.
pub(super) fn position(segment: u64, offset: u64) -> Position {
    Position(segment << OFFSET_BITS | offset)
}

/// Segment and offset.
pub(super) fn place(position: Position) -> (u64, u64) {
    (position.0 >> OFFSET_BITS, position.0 & ((1 << OFFSET_BITS) - 1))
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

/// The numbers of the segment files in a directory, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        // A number that no position can name is not of a segment.
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
        numbers.extend(number.filter(|number| *number < 1 << (u64::BITS - OFFSET_BITS)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes what was created, renamed or deleted in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Segments {
    pub(super) fn new(dir: PathBuf, segments: Vec<Segment>) -> Self {
        let segments = segments.into_iter().map(|segment| (segment.header.number, segment));
        let state = State {
            segments: segments.collect(),
            open: HashMap::new(),
            floors: [Position(0); PARTITIONS as usize],
        };
        Self {
            dir,
            state: Mutex::new(state),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let state = self.state();
        let bytes = state.segments.values().map(|segment| segment.end).sum();
        (state.segments.len() as u64, bytes)
    }

    pub(super) fn put(&self, segment: Segment) {
        self.state().segments.insert(segment.header.number, segment);
    }

    pub(super) fn remove(&self, number: u64) {
        self.state().segments.remove(&number);
    }

    pub(super) fn get(&self, number: u64) -> Option<Segment> {
        self.state().segments.get(&number).copied()
    }

    /// The first segment at or behind a number.
    pub(super) fn next(&self, from: u64) -> Option<Segment> {
        self.state().segments.range(from..).next().map(|(_, segment)| *segment)
    }

    /// The oldest that nothing is written to any more.
    pub(super) fn oldest_sealed(&self) -> Option<Segment> {
        self.next(0).filter(|segment| segment.sealed)
    }

    /// A segment's file, to be read.
    pub(super) fn open(&self, number: u64) -> io::Result<Arc<File>> {
        let mut state = self.state();
        if let Some(file) = state.open.get(&number) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(path(&self.dir, number))?);
        if state.open.len() >= MOST_OPEN_FILES {
            state.open.clear();
        }
        state.open.insert(number, file.clone());
        Ok(file)
    }

    /// Behind everything that is durable; whatever follows is not before it.
    pub(super) fn end(&self) -> Position {
        let state = self.state();
        let last = state.segments.last_key_value();
        last.map_or(Position(0), |(number, segment)| position(*number, segment.end))
    }

    pub(super) fn floor(&self, partition: u16) -> Position {
        let floor = self.state().floors.get(usize::from(partition)).copied();
        floor.unwrap_or(Position(0))
    }

    /// Nobody needs what a partition has before a position.
    pub(super) fn raise_floor(&self, partition: u16, before: Position) {
        if let Some(floor) = self.state().floors.get_mut(usize::from(partition)) {
            *floor = (*floor).max(before);
        }
    }

    /// Takes the oldest segment from the list if nobody needs anything in it.
    pub(super) fn take_obsolete(&self) -> Option<Segment> {
        let mut state = self.state();
        let (number, segment) = state.segments.first_key_value().map(|(n, s)| (*n, *s))?;
        let end = position(number, segment.end);
        let needed = |partition: &usize| segment.partitions >> partition & 1 == 1 && state.floors[*partition] < end;
        if !segment.sealed || (0..PARTITIONS as usize).any(|partition| needed(&partition)) {
            return None;
        }
        state.open.remove(&number);
        state.segments.remove(&number)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
