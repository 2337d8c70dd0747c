//! A log in memory: durable at once, gone with the process.

use crate::log::{Entry, Epoch, Log, LogError};
use hashbrown::HashMap;
use nervewire_core::store::{Partition, Position, Record};
use std::collections::VecDeque;

/// See the module. Its bound counts the records of all partitions.
#[derive(Debug)]
pub struct MemoryLog {
    partitions: HashMap<Partition, Kept>,
    bytes: u64,
    most_bytes: u64,
}

#[derive(Debug, Default)]
struct Kept {
    epoch: u64,
    /// Position of the first entry.
    first: u64,
    entries: VecDeque<(Entry, u64)>,
}

impl MemoryLog {
    /// An empty log that keeps at most so many bytes of records.
    pub fn new(most_bytes: u64) -> Self {
        Self {
            partitions: HashMap::new(),
            bytes: 0,
            most_bytes,
        }
    }

    /// Bytes of the records it keeps.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn owned(&mut self, partition: Partition, epoch: Epoch) -> Result<&mut Kept, LogError> {
        let kept = self.partitions.get_mut(&partition);
        kept.filter(|kept| kept.epoch == epoch.0).ok_or(LogError::StaleOwner)
    }
}

impl Kept {
    fn end(&self) -> Position {
        Position(self.first + self.entries.len() as u64)
    }

    fn push(&mut self, record: Record, bytes: u64) {
        let (position, epoch) = (self.end(), Epoch(self.epoch));
        let entry = Entry {
            position,
            epoch,
            record,
        };
        self.entries.push_back((entry, bytes));
    }
}

impl Log for MemoryLog {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        let kept = self.partitions.entry(partition).or_default();
        kept.epoch += 1;
        Ok(Epoch(kept.epoch))
    }

    fn append(&mut self, partition: Partition, epoch: Epoch, records: Vec<Record>) -> Result<Position, LogError> {
        let (bytes, most_bytes) = (self.bytes, self.most_bytes);
        let kept = self.owned(partition, epoch)?;
        let sized = |record: Record| (record.bytes() as u64, record);
        let records: Vec<(u64, Record)> = records.into_iter().map(sized).collect();
        let bytes = records.iter().fold(bytes, |sum, (more, _)| sum.saturating_add(*more));
        if bytes > most_bytes {
            return Err(LogError::Full { most_bytes });
        }
        records.into_iter().for_each(|(bytes, record)| kept.push(record, bytes));
        let end = kept.end();
        self.bytes = bytes;
        Ok(end)
    }

    fn durable(&mut self, partition: Partition) -> Result<Position, LogError> {
        Ok(self.partitions.get(&partition).map(Kept::end).unwrap_or_default())
    }

    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError> {
        let Some(kept) = self.partitions.get(&partition) else {
            return Ok(Vec::new());
        };
        let Some(skipped) = from.0.checked_sub(kept.first) else {
            let first = Position(kept.first);
            return Err(LogError::Truncated { first });
        };
        let rest = kept.entries.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        Ok(rest.take(most_records).map(|(entry, _)| entry.clone()).collect())
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
    use crate::contract;
    use nervewire_core::store::ClientKey;

    #[test]
    fn it_is_a_log() {
        contract::check(&mut || MemoryLog::new(contract::MOST_BYTES));
    }

    #[test]
    fn its_bound_counts_all_partitions_and_truncation_gives_bytes_back() {
        let record = Record::Gone(ClientKey {
            tenant: None,
            client_id: "client".into(),
        });
        let each = record.bytes() as u64;
        let mut log = MemoryLog::new(2 * each);
        let (a, b) = (Partition(0), Partition(1));
        let (in_a, in_b) = (log.fence(a).unwrap(), log.fence(b).unwrap());
        log.append(a, in_a, vec![record.clone()]).unwrap();
        log.append(b, in_b, vec![record.clone()]).unwrap();
        assert_eq!(log.bytes(), 2 * each);
        let full = LogError::Full { most_bytes: 2 * each };
        assert_eq!(log.append(a, in_a, vec![record.clone()]), Err(full));
        log.truncate(b, in_b, Position(1)).unwrap();
        assert_eq!(log.bytes(), each);
        assert_eq!(log.append(a, in_a, vec![record]), Ok(Position(2)));
    }
}
