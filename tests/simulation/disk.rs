//! The store under the simulation: a log whose batches become durable late, not at all while there is trouble, or are lost in a
//! crash.
//!
//! Appends wait; a write makes a batch of the first of them; a sync makes all batches durable. A crash keeps what is durable and
//! some of the batches behind it, whole ones, in order. Of the others some may still arrive when the next owner has begun: late
//! writes of a stale owner, which replay has to leave out.

use crate::random::Random;
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::{Append, AppendFailed, Partition, Position, Record};
use nervewire_store::contract::{Fails, MOST_BYTES, check};
use nervewire_store::{Completion, Entry, Epoch, Log, LogError};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// What all shards append to.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    epochs: BTreeMap<Partition, Epoch>,
    waiting: VecDeque<Written>,
    batches: VecDeque<Vec<Written>>,
    /// In the order of the log, all partitions together; a position counts from the beginning.
    durable: VecDeque<Durable>,
    /// Position of the first that is left.
    first: u64,
    /// What was truncated.
    floors: BTreeMap<Partition, Position>,
    /// By owner.
    completions: BTreeMap<usize, Vec<Completion>>,
    trouble: Option<AppendFailed>,
    /// Bytes of records from which it is full; `None`: it is said to be, or not.
    most_bytes: Option<u64>,
    /// Batches of owners that are no more.
    late: Vec<Vec<Written>>,
}

/// A record and where it is.
#[derive(Clone, Debug)]
struct Durable {
    partition: Partition,
    entry: Entry,
    /// Its term had ended when it arrived: replay leaves it out.
    is_stale: bool,
}

/// An append, who made it, and in which term.
#[derive(Clone, Debug)]
struct Written {
    owner: usize,
    epoch: Epoch,
    append: Append,
}

/// One shard's way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    disk: Rc<RefCell<Disk>>,
    owner: usize,
    /// Writes and syncs whenever it is asked what is complete.
    prompt: bool,
}

impl Disk {
    /// Makes a batch of some of what waits. Whether anything did.
    pub(crate) fn write(&mut self, random: &mut Random) -> bool {
        let most = 1 + random.index(self.waiting.len().max(1));
        self.write_first(most)
    }

    fn write_first(&mut self, most: usize) -> bool {
        let count = most.min(self.waiting.len());
        if count > 0 {
            self.batches.push_back(self.waiting.drain(..count).collect());
        }
        count > 0
    }

    /// Makes all batches durable, unless there is trouble. A full disk goes on with what it has taken.
    pub(crate) fn sync(&mut self) -> bool {
        if self.trouble.is_some_and(|trouble| trouble != AppendFailed::Full) {
            return false;
        }
        let any = !self.batches.is_empty();
        for written in std::mem::take(&mut self.batches).into_iter().flatten() {
            let positions = self.keep(&written);
            let ticket = written.append.ticket;
            let completions = self.completions.entry(written.owner).or_default();
            completions.push(Completion { ticket, positions });
        }
        any
    }

    fn keep(&mut self, written: &Written) -> smallvec::SmallVec<[Position; 1]> {
        let (partition, epoch) = (written.append.partition, written.epoch);
        let records = written.append.records.iter();
        records
            .map(|record| self.push(partition, epoch, record.clone()))
            .collect()
    }

    fn push(&mut self, partition: Partition, epoch: Epoch, record: Record) -> Position {
        let position = self.end();
        let is_stale = epoch < self.epoch(partition);
        let entry = Entry {
            position,
            epoch,
            record,
        };
        self.durable.push_back(Durable {
            partition,
            entry,
            is_stale,
        });
        position
    }

    fn end(&self) -> Position {
        Position(self.first + self.durable.len() as u64)
    }

    pub(crate) fn set_trouble(&mut self, trouble: Option<AppendFailed>) {
        self.trouble = trouble;
    }

    /// The owners are gone. What waited in memory may have been written a moment before. Answers how many batches were kept, and
    /// of how many.
    pub(crate) fn crash(&mut self, random: &mut Random) -> (usize, usize) {
        while self.write(random) {}
        let count = self.batches.len();
        let kept = random.index(count + 1);
        let lost = self.batches.split_off(kept);
        for written in std::mem::take(&mut self.batches).into_iter().flatten() {
            self.keep(&written);
        }
        self.late.extend(lost.into_iter().filter(|_| random.percent(80)));
        self.completions.clear();
        self.trouble = None;
        (kept, count)
    }

    /// Every partition has a new owner.
    pub(crate) fn fence_all(&mut self) {
        (0..PARTITIONS as u16).for_each(|partition| _ = self.begin_epoch(Partition(partition)));
    }

    fn begin_epoch(&mut self, partition: Partition) -> Epoch {
        let epoch = self.epochs.entry(partition).or_default();
        epoch.0 += 1;
        *epoch
    }

    /// What a stale owner wrote arrives after all. Answers how many appends that were.
    pub(crate) fn arrive_late(&mut self) -> usize {
        let late = std::mem::take(&mut self.late).into_iter().flatten();
        late.map(|written| self.keep(&written)).count()
    }

    /// What replay makes of the log: everything that was not truncated, in its order, but nothing that a stale owner wrote when
    /// there was another; `stale` asks for that, too.
    pub(crate) fn entries(&self, stale: bool) -> impl Iterator<Item = (Partition, &Entry)> {
        let kept = |durable: &&Durable| durable.entry.position >= self.floor(durable.partition);
        let live = self
            .durable
            .iter()
            .filter(kept)
            .filter(move |durable| stale || !durable.is_stale);
        live.map(|durable| (durable.partition, &durable.entry))
    }

    pub(crate) fn records(&self) -> usize {
        self.durable.len()
    }

    /// The present term of a partition.
    pub(crate) fn epoch(&self, partition: Partition) -> Epoch {
        self.epochs.get(&partition).copied().unwrap_or_default()
    }

    fn floor(&self, partition: Partition) -> Position {
        self.floors.get(&partition).copied().unwrap_or_default()
    }

    fn truncate(&mut self, partition: Partition, before: Position) {
        let before = before.min(self.end());
        let floor = self.floors.entry(partition).or_default();
        *floor = before.max(*floor);
        while self
            .durable
            .front()
            .is_some_and(|durable| durable.entry.position < self.floor(durable.partition))
        {
            self.durable.pop_front();
            self.first += 1;
        }
    }

    fn is_full(&self) -> bool {
        let bytes = |(_, entry): (Partition, &Entry)| entry.record.bytes() as u64;
        self.most_bytes
            .is_some_and(|most| self.entries(false).map(bytes).sum::<u64>() > most)
    }

    /// Nothing is on its way to the disk or back.
    pub(crate) fn is_quiet(&self) -> bool {
        let told = self.completions.values().all(Vec::is_empty);
        self.waiting.is_empty() && self.batches.is_empty() && told
    }
}

impl Handle {
    pub(crate) fn new(disk: Rc<RefCell<Disk>>, owner: usize) -> Self {
        Self {
            disk,
            owner,
            prompt: false,
        }
    }

    fn owned(&self, partition: Partition, epoch: Epoch) -> Result<(), LogError> {
        let is_owner = epoch.0 > 0 && self.disk.borrow().epoch(partition) == epoch;
        if is_owner { Ok(()) } else { Err(LogError::StaleOwner) }
    }
}

impl Log for Handle {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        let mut disk = self.disk.borrow_mut();
        disk.write_first(usize::MAX);
        disk.sync();
        let epoch = disk.begin_epoch(partition);
        if disk.batches.is_empty() {
            Ok(epoch)
        } else {
            Err(LogError::Doubtful)
        }
    }

    fn append(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError> {
        self.owned(append.partition, epoch)?;
        self.disk.borrow_mut().waiting.push_back(Written {
            owner: self.owner,
            epoch,
            append: append.clone(),
        });
        Ok(())
    }

    fn completions(&mut self, into: &mut Vec<Completion>) {
        let mut disk = self.disk.borrow_mut();
        if self.prompt {
            disk.write_first(usize::MAX);
            disk.sync();
        }
        into.append(disk.completions.entry(self.owner).or_default());
    }

    fn trouble(&self) -> Option<AppendFailed> {
        let disk = self.disk.borrow();
        disk.trouble.or_else(|| disk.is_full().then_some(AppendFailed::Full))
    }

    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError> {
        let disk = self.disk.borrow();
        if from < disk.floor(partition) {
            return Err(LogError::Truncated);
        }
        let entries = disk
            .entries(false)
            .filter(|(of, entry)| *of == partition && entry.position >= from);
        Ok(entries.take(most_records).map(|(_, entry)| entry.clone()).collect())
    }

    fn get(&mut self, partition: Partition, position: Position) -> Result<Entry, LogError> {
        let disk = self.disk.borrow();
        if position < disk.floor(partition) {
            return Err(LogError::Truncated);
        }
        let index = position.0.checked_sub(disk.first).map(|index| index as usize);
        let found = index.and_then(|index| disk.durable.get(index));
        let found = found.filter(|durable| durable.partition == partition);
        found.map(|durable| durable.entry.clone()).ok_or(LogError::Unreadable)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        self.owned(partition, epoch)?;
        self.disk.borrow_mut().truncate(partition, before);
        Ok(())
    }
}

impl Fails for Handle {
    fn fail(&mut self, fails: bool) {
        self.disk.borrow_mut().trouble = fails.then_some(AppendFailed::Doubtful);
    }
}

#[test]
fn it_is_a_log() {
    let disk = || Disk {
        most_bytes: Some(MOST_BYTES),
        ..Disk::default()
    };
    check(&mut || Handle {
        prompt: true,
        ..Handle::new(Rc::new(RefCell::new(disk())), 0)
    });
}
