//! The journal as a log, and what it finds when it is opened again.

use super::fault::Fault;
use super::*;
use crate::contract;
use crate::log::{Entry, Epoch, Log, LogError};
use nervewire_core::store::Append;
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

fn options(dir: &TempDir) -> JournalOptions {
    JournalOptions {
        segment_bytes: 8 * 1024,
        most_bytes: contract::MOST_BYTES,
        ..JournalOptions::new(dir.path().join("store"))
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

/// What a journal replays, and how it was opened.
fn reopen(dir: &TempDir) -> (Journal, Recovery, Vec<Replayed>) {
    let mut replayed = Vec::new();
    let mut replay = |partition, position, record| replayed.push((partition, position, record));
    let (journal, recovery) = Journal::open(options(dir), &mut replay, &mut |_| {}).unwrap();
    (journal, recovery, replayed)
}

type Replayed = (Partition, Position, Record);

fn gone(number: u64) -> Record {
    let client_id = format!("client-{number}").into();
    Record::Gone(nervewire_core::store::ClientKey {
        tenant: None,
        client_id,
    })
}

fn append(ticket: u64, partition: u16, record: Record) -> Append {
    Append {
        ticket: nervewire_core::store::Ticket(ticket),
        partition: Partition(partition),
        records: vec![record],
    }
}

/// Two shards that write down what they hear.
struct Heard(std::sync::mpsc::Receiver<(u16, StoreEvent)>);

impl Heard {
    fn start(journal: &Journal, shards: u16) -> Self {
        let (tell, heard) = std::sync::mpsc::channel();
        let sink = |shard| -> Sink {
            let tell = tell.clone();
            Arc::new(move |event| drop(tell.send((shard, event))))
        };
        journal.start((0..shards).map(sink).collect()).unwrap();
        Self(heard)
    }

    fn next(&self) -> (u16, StoreEvent) {
        self.0.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    /// Waits until a shard has so many completions more.
    fn completions(&self, of: u16, count: usize) -> Vec<Completion> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next() {
                (shard, StoreEvent::Completed(completions)) if shard == of => all.extend(completions),
                (_, StoreEvent::Completed(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        all
    }
}

#[test]
fn what_was_completed_is_replayed_with_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let mut completed = Vec::new();
    for run in 0..3_u64 {
        let (journal, recovery, replayed) = reopen(&dir);
        assert_eq!(recovery.records, run * 100);
        assert_eq!(replayed, completed);
        let heard = Heard::start(&journal, 1);
        let mut handle = journal.handle(0);
        let numbers = run * 100..run * 100 + 100;
        let appends = numbers
            .clone()
            .map(|number| append(number, (number % 64) as u16, gone(number)));
        handle.append(appends.collect());
        let completions = heard.completions(0, 100);
        for (number, completion) in numbers.zip(completions) {
            let partition = Partition((number % 64) as u16);
            completed.push((partition, completion.positions[0], gone(number)));
        }
    }
}
