//! The contract suite sees what it is for: a slow log passes it, and each broken one does not.

use nervewire_core::store::{Append, AppendFailed, Partition, Position};
use nervewire_store::contract::{self, Fails};
use nervewire_store::{Completion, Entry, Epoch, Log, LogError, MemoryLog};
use std::collections::VecDeque;

/// What a log does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing; it only completes one append at a time, as it is asked.
    Slow,
    /// Takes records of any owner.
    Obeys,
    /// One epoch for everybody.
    OneEpoch,
    /// Puts the records of one append in the wrong order.
    Reorders,
    /// Loses the last record of an append.
    Loses,
    /// Leaves out a completion.
    Gap,
    /// Completes an append twice.
    Twice,
    /// Completes the last first.
    Backwards,
    /// Says that everything is at the position of the first.
    Misplaces,
    /// Forgets what was appended while nothing completed.
    Forgets,
    /// Completes while it says that nothing does.
    Boasts,
    /// Truncates one record too many.
    CutsTooMuch,
    /// Has no bound.
    Grows,
    /// Is full for ever.
    StaysFull,
}

struct Broken {
    log: MemoryLog,
    fault: Fault,
    epoch: Option<Epoch>,
    completed: VecDeque<Completion>,
    fails: bool,
    was_full: bool,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        let most_bytes = if fault == Fault::Grows {
            u64::MAX
        } else {
            contract::MOST_BYTES
        };
        Self {
            log: MemoryLog::new(most_bytes),
            fault,
            epoch: None,
            completed: VecDeque::new(),
            fails: false,
            was_full: false,
        }
    }

    fn hand_out(&mut self, into: &mut Vec<Completion>) {
        match self.fault {
            Fault::Gap if self.completed.len() > 1 => drop(self.completed.pop_front()),
            Fault::Twice => into.extend(self.completed.front().cloned()),
            Fault::Backwards => self.completed.make_contiguous().reverse(),
            _ => {}
        }
        let at_once = if self.fault == Fault::Slow {
            1
        } else {
            self.completed.len()
        };
        into.extend(self.completed.drain(..at_once.min(self.completed.len())));
    }
}

impl Log for Broken {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        match (self.fault, self.epoch) {
            (Fault::OneEpoch, Some(epoch)) => Ok(epoch),
            _ => self.log.fence(partition).inspect(|epoch| self.epoch = Some(*epoch)),
        }
    }

    fn append(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError> {
        let mut append = append.clone();
        match self.fault {
            Fault::Obeys => return self.log.append(self.epoch.unwrap_or(epoch), &append),
            Fault::Reorders => append.records.reverse(),
            Fault::Loses if append.records.len() == 3 => drop(append.records.pop()),
            Fault::Forgets if self.fails => return Ok(()),
            _ => {}
        }
        self.log.append(epoch, &append)
    }

    fn completions(&mut self, into: &mut Vec<Completion>) {
        let mut more = Vec::new();
        self.log.completions(&mut more);
        if self.fault == Fault::Misplaces {
            more.iter_mut()
                .flat_map(|done| &mut done.positions)
                .for_each(|position| *position = Position(0));
        }
        self.completed.extend(more);
        self.hand_out(into);
    }

    fn trouble(&self) -> Option<AppendFailed> {
        match self.fault {
            Fault::StaysFull if self.was_full => Some(AppendFailed::Full),
            Fault::Boasts if self.fails => Some(AppendFailed::Doubtful),
            _ => self.log.trouble(),
        }
    }

    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read(partition, from, most_records)
    }

    fn get(&mut self, partition: Partition, position: Position) -> Result<Entry, LogError> {
        self.log.get(partition, position)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        self.was_full |= self.log.trouble() == Some(AppendFailed::Full);
        let more = u64::from(self.fault == Fault::CutsTooMuch);
        self.log
            .truncate(partition, epoch, Position(before.0.saturating_add(more)))
    }
}

impl Fails for Broken {
    fn fail(&mut self, fails: bool) {
        self.fails = fails;
        let fails = fails && self.fault != Fault::Boasts;
        self.log.fail(fails.then_some(AppendFailed::Doubtful));
    }

    /// What it does not do in a moment, it never does.
    fn patience(&self) -> std::time::Duration {
        std::time::Duration::from_millis(200)
    }
}

#[test]
fn a_slow_log_keeps_the_contract() {
    contract::check(&mut || Broken::new(Fault::Slow));
}

#[test]
fn each_broken_log_is_seen() {
    let faults = [
        Fault::Obeys,
        Fault::OneEpoch,
        Fault::Reorders,
        Fault::Loses,
        Fault::Gap,
        Fault::Twice,
        Fault::Backwards,
        Fault::Misplaces,
        Fault::Forgets,
        Fault::Boasts,
        Fault::CutsTooMuch,
        Fault::Grows,
        Fault::StaysFull,
    ];
    for fault in faults {
        let checked = std::panic::catch_unwind(|| contract::check(&mut || Broken::new(fault)));
        assert!(checked.is_err(), "{fault:?} passes");
    }
}
