//! From a shard's appends to their outcomes.

use crate::log::{Epoch, Log, LogError};
use nervewire_core::store::{Append, AppendFailed, Partition, Position, Ticket};
use std::collections::{BTreeMap, VecDeque};

/// Carries the appends of the partitions it has fenced. Outcomes of one partition come in the order of its appends; once one
/// has failed, all that follow fail until the partition is fenced again, because a log with a gap is a lie.
#[derive(Debug, Default)]
pub struct Writer {
    partitions: BTreeMap<Partition, Owned>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Of the append.
    pub ticket: Ticket,
    /// Durable, or not.
    pub outcome: Result<(), AppendFailed>,
}

#[derive(Debug)]
struct Owned {
    epoch: Epoch,
    failed: Option<AppendFailed>,
    waiting: VecDeque<(Ticket, Result<Position, AppendFailed>)>,
}

impl Writer {
    /// Becomes the owner of a partition. Appends of an earlier term that have no outcome yet are doubtful: whoever fences again
    /// after a failure reads the log first, and makes the shard what that says.
    pub fn fence(&mut self, log: &mut impl Log, partition: Partition) -> Result<(), LogError> {
        let epoch = log.fence(partition)?;
        let owned = self.partitions.entry(partition).or_insert_with(|| Owned::new(epoch));
        owned.doubt(AppendFailed::Doubtful);
        owned.epoch = epoch;
        owned.failed = None;
        Ok(())
    }

    /// Appends; the outcome comes from [`Writer::completions`], that of a partition that was never fenced too.
    pub fn append(&mut self, log: &mut impl Log, append: Append) {
        let Append {
            ticket,
            partition,
            records,
        } = append;
        let owned = self.partitions.entry(partition).or_insert_with(Owned::never_fenced);
        let position = match owned.failed {
            Some(failed) => Err(failed),
            None => log.append(partition, owned.epoch, records).map_err(AppendFailed::from),
        };
        owned.failed = position.err();
        owned.waiting.push_back((ticket, position));
    }

    /// Every outcome that is known by now.
    pub fn completions(&mut self, log: &mut impl Log) -> Vec<Completion> {
        let mut completions = Vec::new();
        for (partition, owned) in &mut self.partitions {
            owned.complete(log, *partition, &mut completions);
        }
        completions
    }
}

impl Owned {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            failed: None,
            waiting: VecDeque::new(),
        }
    }

    fn never_fenced() -> Self {
        Self {
            failed: Some(AppendFailed::StaleOwner),
            ..Self::new(Epoch(0))
        }
    }

    fn complete(&mut self, log: &mut impl Log, partition: Partition, completions: &mut Vec<Completion>) {
        if self.waiting.is_empty() {
            return;
        }
        let durable = log.durable(partition).unwrap_or_else(|error| {
            self.doubt(error.into());
            Position::default()
        });
        while let Some((ticket, outcome)) = self.first_outcome(durable) {
            self.waiting.pop_front();
            completions.push(Completion { ticket, outcome });
        }
    }

    fn first_outcome(&self, durable: Position) -> Option<(Ticket, Result<(), AppendFailed>)> {
        let (ticket, position) = *self.waiting.front()?;
        match position {
            Ok(position) => (position <= durable).then_some((ticket, Ok(()))),
            Err(failed) => Some((ticket, Err(failed))),
        }
    }

    /// What waits may or may not be durable, and nothing can follow it.
    fn doubt(&mut self, failed: AppendFailed) {
        self.failed = self.failed.or(Some(failed));
        for (_, position) in &mut self.waiting {
            *position = position.and(Err(AppendFailed::Doubtful));
        }
    }
}
