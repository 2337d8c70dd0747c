//! The contract suite sees what it is for: a slow log passes it, and each broken one does not.

use nervewire_core::store::{Partition, Record};
use nervewire_store::{Entry, Epoch, Log, LogError, MemoryLog, Position, contract};
use std::collections::BTreeMap;

/// A log that completes one record at a time, as it is asked.
struct Slow {
    log: MemoryLog,
    durable: BTreeMap<Partition, u64>,
}

impl Slow {
    fn new() -> Self {
        Self {
            log: MemoryLog::new(contract::MOST_BYTES),
            durable: BTreeMap::new(),
        }
    }
}

impl Log for Slow {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        self.durable.insert(partition, self.log.durable(partition)?.0);
        self.log.fence(partition)
    }

    fn append(&mut self, partition: Partition, epoch: Epoch, records: Vec<Record>) -> Result<Position, LogError> {
        self.log.append(partition, epoch, records)
    }

    fn durable(&mut self, partition: Partition) -> Result<Position, LogError> {
        let end = self.log.durable(partition)?.0;
        let durable = self.durable.entry(partition).or_default();
        *durable = end.min(*durable + 1);
        Ok(Position(*durable))
    }

    fn read(&mut self, partition: Partition, from: Position, most: usize) -> Result<Vec<Entry>, LogError> {
        let durable = self.durable.get(&partition).copied().unwrap_or(0);
        let mut entries = self.log.read(partition, from, most)?;
        entries.retain(|entry| entry.position.0 < durable);
        Ok(entries)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        self.log.truncate(partition, epoch, before)
    }
}

#[test]
fn a_slow_log_keeps_the_contract() {
    contract::check(&mut Slow::new);
}

#[derive(Clone, Copy)]
enum Fault {
    /// Says that more is durable than was appended.
    Boasts,
    /// Takes records of any owner.
    Obeys,
    /// Puts the records of one append in the wrong order.
    Reorders,
    /// Loses the last record of an append.
    Loses,
    /// Truncates one record too many.
    CutsTooMuch,
    /// Has no bound.
    Grows,
    /// One epoch for everybody.
    OneEpoch,
    /// What is durable falls back.
    FallsBack,
}

struct Broken {
    log: MemoryLog,
    fault: Fault,
    epoch: Option<Epoch>,
    asked: u64,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        let most_bytes = match fault {
            Fault::Grows => u64::MAX,
            _ => contract::MOST_BYTES,
        };
        Self {
            log: MemoryLog::new(most_bytes),
            fault,
            epoch: None,
            asked: 0,
        }
    }
}

impl Log for Broken {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        match (self.fault, self.epoch) {
            (Fault::OneEpoch, Some(epoch)) => return Ok(epoch),
            _ => self.epoch = Some(self.log.fence(partition)?),
        }
        self.epoch.ok_or(LogError::Doubtful)
    }

    fn append(&mut self, partition: Partition, epoch: Epoch, mut records: Vec<Record>) -> Result<Position, LogError> {
        match self.fault {
            Fault::Obeys => return self.log.append(partition, self.epoch.unwrap_or(epoch), records),
            Fault::Reorders => records.reverse(),
            Fault::Loses if records.len() == 3 => _ = records.pop(),
            _ => {}
        }
        self.log.append(partition, epoch, records)
    }

    fn durable(&mut self, partition: Partition) -> Result<Position, LogError> {
        self.asked += 1;
        let durable = self.log.durable(partition)?.0;
        Ok(Position(match self.fault {
            Fault::Boasts if durable > 0 => durable + 1,
            Fault::FallsBack if self.asked == 20 => 1,
            _ => durable,
        }))
    }

    fn read(&mut self, partition: Partition, from: Position, most: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read(partition, from, most)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        let more = u64::from(matches!(self.fault, Fault::CutsTooMuch));
        self.log.truncate(partition, epoch, Position(before.0 + more))
    }
}

fn refused(fault: Fault) {
    let checked = std::panic::catch_unwind(|| contract::check(&mut || Broken::new(fault)));
    assert!(checked.is_err(), "fault {} passes", fault as u8);
}

#[test]
fn each_broken_log_is_seen() {
    let faults = [
        Fault::Boasts,
        Fault::Obeys,
        Fault::Reorders,
        Fault::Loses,
        Fault::CutsTooMuch,
        Fault::Grows,
        Fault::OneEpoch,
        Fault::FallsBack,
    ];
    faults.into_iter().for_each(refused);
}
