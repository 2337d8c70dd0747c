//! The journal as a log.

use super::options;
use crate::contract;
use crate::journal::JournalLog;
use crate::journal::fault::Fault;
use crate::log::{Completion, Entry, Epoch, Log, LogError};
use nervewire_core::store::{Append, AppendFailed, Partition, Position};
use tempfile::TempDir;

/// A journal in a directory that goes with it.
struct Temporary {
    log: JournalLog,
    fault: Fault,
    _dir: TempDir,
}

impl Temporary {
    fn new(fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = JournalLog::open(options(&dir)).unwrap();
        Self { log, fault, _dir: dir }
    }
}

impl Log for Temporary {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        self.log.fence(partition)
    }

    fn append(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError> {
        self.log.append(epoch, append)
    }

    fn completions(&mut self, into: &mut Vec<Completion>) {
        self.log.completions(into);
    }

    fn trouble(&self) -> Option<AppendFailed> {
        self.log.trouble()
    }

    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read(partition, from, most_records)
    }

    fn get(&mut self, partition: Partition, position: Position) -> Result<Entry, LogError> {
        self.log.get(partition, position)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        self.log.truncate(partition, epoch, before)
    }
}

impl contract::Fails for Temporary {
    fn fail(&mut self, fails: bool) {
        self.log.fail(if fails { self.fault } else { Fault::None });
    }
}

#[test]
fn it_is_a_log_on_a_disk_that_does_not_write() {
    contract::check(&mut || Temporary::new(Fault::Write));
}

#[test]
fn it_is_a_log_on_a_disk_that_writes_half() {
    contract::check(&mut || Temporary::new(Fault::Half));
}

#[test]
fn it_is_a_log_on_a_disk_that_does_not_sync() {
    contract::check(&mut || Temporary::new(Fault::Sync));
}
