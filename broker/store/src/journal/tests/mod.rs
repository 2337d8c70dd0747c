//! What the tests of the journal share: records that say which they are, and shards that write down what they hear.

mod checkpoint;
mod crash;
mod damage;
mod handle;
mod log;

use super::*;
use crate::contract;
use nervewire_core::store::{Append, ClientKey, Ticket};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A small journal in a temporary directory.
fn options(dir: &TempDir) -> JournalOptions {
    JournalOptions {
        segment_bytes: 8 * 1024,
        most_bytes: contract::MOST_BYTES,
        ..JournalOptions::new(dir.path().join("store"))
    }
}

type Replayed = Vec<(Partition, Position, Record)>;

fn open(options: JournalOptions) -> Result<(Journal, Recovery, Replayed), OpenError> {
    let mut replayed = Vec::new();
    let mut replay = |partition, position, record| replayed.push((partition, position, record));
    let (journal, recovery) = Journal::open(options, &mut replay, &mut |_| {})?;
    Ok((journal, recovery, replayed))
}

fn numbers(replayed: &Replayed) -> Vec<u64> {
    replayed.iter().map(|(_, _, record)| number(record)).collect()
}

fn gone(number: u64) -> Record {
    let client_id = format!("client-{number}").into();
    Record::Gone(ClientKey {
        tenant: None,
        client_id,
    })
}

fn number(record: &Record) -> u64 {
    let Record::Gone(key) = record else {
        panic!("{record:?} was never appended");
    };
    key.client_id["client-".len()..].parse().unwrap()
}

/// A record of the partition that its number says.
fn append(ticket: u64, number: u64) -> Append {
    Append {
        ticket: Ticket(ticket),
        partition: Partition((number % 64) as u16),
        records: vec![gone(number)],
    }
}

/// Shards that write down what they hear.
struct Heard(Receiver<(u16, StoreEvent)>);

impl Heard {
    fn start(journal: &Journal, shards: u16) -> Self {
        let (tell, heard) = channel();
        let sink = |shard| -> Sink {
            let tell = tell.clone();
            Arc::new(move |event| drop(tell.send((shard, event))))
        };
        journal.start((0..shards).map(sink).collect()).unwrap();
        Self(heard)
    }

    fn next(&self) -> (u16, StoreEvent) {
        self.0.recv_timeout(PATIENCE).unwrap()
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

/// Appends records one after the other, each in a batch of its own; answers their positions.
fn write_each(options: JournalOptions, numbers: std::ops::Range<u64>) -> Replayed {
    let (journal, _, _) = open(options).unwrap();
    let heard = Heard::start(&journal, 1);
    let mut handle = journal.handle(0);
    let write = |number| {
        handle.append(vec![append(number, number)]);
        let completed = heard.completions(0, 1).remove(0);
        (append(0, number).partition, completed.positions[0], gone(number))
    };
    numbers.map(write).collect()
}
