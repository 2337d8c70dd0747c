//! A log in memory: durable at once, gone with the process.

use crate::log::{Completion, Entry, Epoch, Log, LogError};
use hashbrown::HashMap;
use nervewire_core::store::{Append, AppendFailed, Partition, Position, Record};
use std::collections::VecDeque;

/// See the module. Its bound counts the records of all partitions.
#[derive(Debug)]
pub struct MemoryLog {
    partitions: HashMap<Partition, Kept>,
    completed: Vec<Completion>,
    bytes: u64,
    most_bytes: u64,
    failing: Option<AppendFailed>,
}

#[derive(Debug, Default)]
struct Kept {
    epoch: u64,
    /// Position of the first entry.
    first: u64,
    entries: VecDeque<(Entry, u64)>,
}

impl MemoryLog {
    /// An empty log; beyond so many bytes of records there is trouble.
    pub fn new(most_bytes: u64) -> Self {
        Self {
            partitions: HashMap::new(),
            completed: Vec::new(),
            bytes: 0,
            most_bytes,
            failing: None,
        }
    }

    /// Completes nothing until it is told `None`, as a medium does that fails.
    pub fn fail(&mut self, why: Option<AppendFailed>) {
        self.failing = why;
    }

    /// Bytes of the records it keeps.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn owned(&mut self, partition: Partition, epoch: Epoch) -> Result<&mut Kept, LogError> {
        let kept = self.partitions.get_mut(&partition);
        kept.filter(|kept| kept.epoch == epoch.0).ok_or(LogError::StaleOwner)
    }

    /// What a partition has from a position on.
    fn from(&self, partition: Partition, from: Position) -> Result<impl Iterator<Item = &Entry>, LogError> {
        let kept = self.partitions.get(&partition);
        let skipped = from.0.checked_sub(kept.map_or(0, |kept| kept.first));
        let skipped = usize::try_from(skipped.ok_or(LogError::Truncated)?).unwrap_or(usize::MAX);
        let entries = kept.into_iter().flat_map(|kept| &kept.entries);
        Ok(entries.skip(skipped).map(|(entry, _)| entry))
    }
}

impl Kept {
    fn push(&mut self, record: Record, bytes: u64) -> Position {
        let position = Position(self.first + self.entries.len() as u64);
        let epoch = Epoch(self.epoch);
        let entry = Entry {
            position,
            epoch,
            record,
        };
        self.entries.push_back((entry, bytes));
        position
    }
}

impl Log for MemoryLog {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        let kept = self.partitions.entry(partition).or_default();
        kept.epoch += 1;
        Ok(Epoch(kept.epoch))
    }

    fn append(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError> {
        let kept = self.owned(append.partition, epoch)?;
        let sized = |record: &Record| (record.clone(), record.bytes() as u64);
        let records = append.records.iter().map(sized).collect::<Vec<_>>();
        let bytes = records.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let positions = records
            .into_iter()
            .map(|(record, bytes)| kept.push(record, bytes))
            .collect();
        let ticket = append.ticket;
        self.completed.push(Completion { ticket, positions });
        self.bytes += bytes;
        Ok(())
    }

    fn completions(&mut self, into: &mut Vec<Completion>) {
        if self.failing.is_none() {
            into.append(&mut self.completed);
        }
    }

    fn trouble(&self) -> Option<AppendFailed> {
        let full = (self.bytes > self.most_bytes).then_some(AppendFailed::Full);
        self.failing.or(full)
    }

    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError> {
        Ok(self.from(partition, from)?.take(most_records).cloned().collect())
    }

    fn get(&mut self, partition: Partition, position: Position) -> Result<Entry, LogError> {
        let entry = self.from(partition, position)?.next().cloned();
        entry.ok_or(LogError::Unreadable)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        let kept = self.owned(partition, epoch)?;
        let mut freed = 0;
        while kept.first < before.0
            && let Some((_, bytes)) = kept.entries.pop_front()
        {
            kept.first += 1;
            freed += bytes;
        }
        self.bytes -= freed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Fails};

    impl Fails for MemoryLog {
        fn fail(&mut self, fails: bool) {
            self.fail(fails.then_some(AppendFailed::Doubtful));
        }
    }

    #[test]
    fn it_is_a_log() {
        contract::check(&mut || MemoryLog::new(contract::MOST_BYTES));
    }
}
