//! What a record costs: as bytes, on its way to the disk, and when the broker starts.
//!
//!     cargo bench -p nervewire-store --bench journal

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use nervewire_codec::{QoS, Utf8String};
use nervewire_core::hook::AppMessage;
use nervewire_core::message::Message;
use nervewire_core::store::{Append, ClientKey, EnqueuedFor, Partition, Record, Ticket};
use nervewire_store::{Handle, Journal, JournalOptions, Sink, StoreEvent, SyncPolicy, record};
use smallvec::smallvec;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

/// What a client may have in flight is stored together.
const APPENDS: u64 = 100;
const REPLAYED: u64 = 100_000;

fn main() {
    divan::main();
}

/// A message of 100 bytes for one session.
fn enqueued(order: u64) -> Record {
    let message = Message {
        id: order,
        accepted_at: 1_780_000_000_000,
        app: AppMessage {
            topic: Utf8String::from_static("plant/7/line/3/sensor/temperature"),
            payload: Bytes::from_static(&[b'x'; 100]),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
        },
        expires_at: None,
        publisher: Some("sensor-3".into()),
        tenant: None,
        source: None,
    };
    let target = EnqueuedFor {
        session: ClientKey {
            tenant: None,
            client_id: "historian-1".into(),
        },
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: smallvec![],
        shared: None,
    };
    Record::Enqueued {
        order,
        message: Arc::new(message),
        targets: vec![target],
    }
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (record, mut bytes) = (enqueued(1), Vec::new());
    bencher.counter(ItemsCount::new(1_u64)).bench_local(|| {
        bytes.clear();
        record::encode(black_box(&record), &mut bytes);
    });
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let mut bytes = Vec::new();
    record::encode(&enqueued(1), &mut bytes);
    bencher
        .counter(ItemsCount::new(1_u64))
        .bench_local(|| record::decode(black_box(&bytes)));
}

/// A journal, its shards and what they hear.
struct Scene {
    shards: Vec<(Handle, Receiver<StoreEvent>)>,
    ticket: u64,
    _journal: Journal,
    _dir: TempDir,
}

impl Scene {
    fn new(sync: SyncPolicy, shards: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = open(&dir, sync);
        let (sinks, heard): (Vec<Sink>, Vec<Receiver<StoreEvent>>) = (0..shards).map(|_| sink()).unzip();
        journal.start(sinks).expect("threads");
        let handles = (0..shards).map(|shard| journal.handle(shard));
        Self {
            shards: handles.zip(heard).collect(),
            ticket: 0,
            _journal: journal,
            _dir: dir,
        }
    }

    /// Every shard appends, one record in each append, and waits until all of it is durable.
    fn commit(&mut self, appends: u64) {
        for (shard, (handle, _)) in self.shards.iter_mut().enumerate() {
            let append = |number| Append {
                ticket: Ticket(self.ticket + number),
                partition: Partition(shard as u16),
                records: vec![enqueued(number)],
            };
            handle.append((0..appends).map(append).collect());
        }
        self.ticket += appends;
        let last = Ticket(self.ticket - 1);
        for (_, heard) in &self.shards {
            while let Ok(StoreEvent::Completed(completions)) = heard.recv()
                && completions.last().is_none_or(|completion| completion.ticket < last)
            {}
        }
    }
}

fn sink() -> (Sink, Receiver<StoreEvent>) {
    let (tell, heard) = channel();
    (Arc::new(move |event| drop(tell.send(event))), heard)
}

fn open(dir: &TempDir, sync: SyncPolicy) -> Journal {
    let options = JournalOptions {
        sync,
        ..JournalOptions::new(dir.path().join("store"))
    };
    let opened = Journal::open(options, &mut |_, _, record| drop(black_box(record)), &mut |_| {});
    opened.expect("a journal").0
}

#[divan::bench(args = [1, 2], sample_count = 200)]
fn append_100_with_fsync(bencher: Bencher<'_, '_>, shards: u16) {
    append(bencher, SyncPolicy::Fsync, shards, APPENDS);
}

#[divan::bench(args = [1, 2], sample_count = 200)]
fn append_100_without_fsync(bencher: Bencher<'_, '_>, shards: u16) {
    append(bencher, SyncPolicy::Os, shards, APPENDS);
}

#[divan::bench(sample_count = 200)]
fn append_1_with_fsync(bencher: Bencher<'_, '_>) {
    append(bencher, SyncPolicy::Fsync, 1, 1);
}

fn append(bencher: Bencher<'_, '_>, sync: SyncPolicy, shards: u16, appends: u64) {
    let mut scene = Scene::new(sync, shards);
    bencher
        .counter(ItemsCount::new(appends * u64::from(shards)))
        .bench_local(|| scene.commit(appends));
}

#[divan::bench(sample_count = 10)]
fn replay(bencher: Bencher<'_, '_>) {
    let mut scene = Scene::new(SyncPolicy::Os, 1);
    scene.commit(REPLAYED);
    let Scene {
        _journal, _dir, shards, ..
    } = scene;
    drop((_journal, shards));
    bencher
        .counter(ItemsCount::new(REPLAYED))
        .bench_local(|| open(&_dir, SyncPolicy::Os));
}
