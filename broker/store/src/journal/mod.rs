//! The journal: all partitions of a machine in one sequence of segment files.
//!
//! Shards encode their records and put them into one queue; one thread writes everything that waits and syncs it once (group
//! commit); the completions name the records' positions, by which another thread reads single records back. What is appended stays
//! in memory until it is durable: when the disk fails, the writer goes on trying with a new file, and shards are told that there is
//! trouble. Checkpoints free the oldest segments.

mod checkpoint;
mod counters;
#[cfg(test)]
mod fault;
mod files;
mod handle;
mod log;
mod pace;
mod queue;
mod reader;
mod reading;
mod recovery;
mod repair;
mod segments;
mod shared;
mod trouble;
mod work;
mod writer;

use crate::lock::Lock;
use crate::log::{Completion, Epoch};
use checkpoint::Checkpoint;
pub use counters::{COMMIT_SECONDS, Counters};
pub use handle::Handle;
pub use log::JournalLog;
use nervewire_core::store::{AppendFailed, FetchFailed, FetchTicket, Partition, Position, Record};
use reader::Reader;
use reading::Window;
pub use recovery::{OpenError, Progress, Recovery};
pub use repair::Repaired;
use segments::Segments;
use shared::Shared;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use writer::Writer;

/// How long closing waits for a disk that does not answer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// What a journal is to be.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Directory of the segments. Its parent exists.
    pub dir: PathBuf,
    /// When a record counts as durable.
    pub sync: SyncPolicy,
    /// A segment is begun when this many bytes would be exceeded. Debug builds take the environment variable
    /// `NERVEWIRE_SEGMENT_BYTES` instead, where it is set.
    pub segment_bytes: u64,
    /// Beyond this many bytes there is trouble: the store is full.
    pub most_bytes: u64,
}

/// When a record counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When the disk has confirmed it: it survives a power cut.
    Fsync,
    /// When the operating system has it: it survives the end of the process, not that of the machine.
    Os,
}

/// What a shard is told.
#[derive(Debug)]
pub enum StoreEvent {
    /// Appends are durable, in their order.
    Completed(Vec<Completion>),
    /// Nothing completes at present, or nothing more should be appended; `None`: it works again.
    Trouble(Option<AppendFailed>),
    /// The answer to a fetch, in the order of its positions.
    Fetched(FetchTicket, Vec<Result<Record, FetchFailed>>),
    /// Append again what is still true of these, and answer with [`Handle::examined`].
    Examine(Vec<(Partition, Position, Record)>),
}

/// Takes the events of one shard, in their order. It returns at once and calls nothing of the journal.
pub type Sink = Arc<dyn Fn(StoreEvent) + Send + Sync>;

/// See the module. When it is dropped, it is closed.
pub struct Journal {
    shared: Arc<Shared>,
    /// Until it is started.
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Lock,
}

impl JournalOptions {
    /// Fsync, segments of 64 MiB, 16 GiB at most.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: SyncPolicy::Fsync,
            segment_bytes: 64 << 20,
            most_bytes: 16 << 30,
        }
    }

    /// The bound holds eight segments at least, so that freeing one makes a difference.
    fn sound(mut self) -> Self {
        if let Some(bytes) = crate::fail_point::segment_bytes() {
            self.segment_bytes = bytes;
        }
        self.segment_bytes = self.segment_bytes.min(self.most_bytes / 8).max(4096);
        self
    }

    /// Beyond the bound, for what makes room again.
    fn reserve_bytes(&self) -> u64 {
        2 * self.segment_bytes
    }
}

impl Journal {
    /// Opens the journal in a directory, or begins one, and replays every record in its order.
    ///
    /// # Errors
    /// Where another process has it, where it cannot be read or written, and where it is damaged before records that were durable.
    pub fn open(
        options: JournalOptions,
        replay: &mut dyn FnMut(Partition, Position, Record),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Recovery), OpenError> {
        let options = options.sound();
        let lock = Lock::take(&options.dir)?;
        let recovered = recovery::recover(&options.dir, replay, progress)?;
        let epoch = Epoch(recovered.epoch.0 + 1);
        let shared = Arc::new(Shared {
            queue: queue::Queue::new(epoch),
            segments: Segments::new(options.dir.clone(), recovered.segments),
            options,
            work: work::Work::default(),
            trouble: trouble::Trouble::default(),
            sinks: trouble::Sinks::new(),
            counting: counters::Counting::default(),
            watch: shared::Watch::default(),
            last_error: Mutex::default(),
            #[cfg(test)]
            fault: fault::Switch::default(),
        });
        let writer = Writer {
            shared: shared.clone(),
            segment: None,
            next_number: recovered.next_number,
            next_sequence: recovered.next_sequence,
            epoch,
        };
        let journal = Self {
            shared,
            writer: Mutex::new(Some(writer)),
            threads: Mutex::default(),
            _lock: lock,
        };
        Ok((journal, recovered.recovery))
    }

    /// What [`Journal::open`] would find in a directory. Nothing is changed.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn check(dir: &Path) -> Result<Recovery, OpenError> {
        let _lock = Lock::take(dir)?;
        recovery::check(dir)
    }

    /// Makes a damaged journal one that can be opened, with everything that can still be read. The files that were damaged are kept
    /// beside it, under names that end with `.damaged`. A journal that can be opened is left as it is.
    ///
    /// # Errors
    /// As [`Journal::open`], but for [`OpenError::Damaged`].
    pub fn repair(dir: &Path) -> Result<Repaired, OpenError> {
        let _lock = Lock::take(dir)?;
        match recovery::check(dir) {
            Err(OpenError::Damaged { .. }) => repair::repair(dir),
            found => found.map(|_| Repaired::default()),
        }
    }

    /// Starts to write, with one sink for each shard, in the order of their numbers.
    ///
    /// # Errors
    /// Where no thread can be started, and where it was started before.
    pub fn start(&self, sinks: Vec<Sink>) -> io::Result<()> {
        let writer = lock(&self.writer).take();
        let writer = writer.filter(|_| self.shared.sinks.set(sinks.into()).is_ok());
        let writer = writer.ok_or_else(|| io::Error::other("the journal was started before"))?;
        let reader = Reader {
            shared: self.shared.clone(),
            window: Window::default(),
            checkpoint: Checkpoint::default(),
        };
        self.spawn("store-write", move || writer.run())?;
        self.spawn("store-read", move || reader.run())
    }

    /// The end that a shard is given.
    pub fn handle(&self, shard: u16) -> Handle {
        Handle::new(self.shared.clone(), shard)
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Why nothing completes at present, or why nothing more should be appended.
    pub fn trouble(&self) -> Option<AppendFailed> {
        self.shared.trouble.present()
    }

    /// What was said when something failed the last time.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.shared.last_error).clone()
    }

    /// Writes everything that was appended, and ends; answers whether it did. While the disk fails it is given up at once, while the
    /// disk does not answer after some seconds: none of it was acknowledged.
    pub fn close(&self) -> bool {
        self.shared.queue.stop();
        self.shared.work.stop();
        let gave_up = Instant::now() + CLOSE_PATIENCE;
        for thread in lock(&self.threads).drain(..) {
            while !thread.is_finished() && Instant::now() < gave_up {
                std::thread::sleep(CLOSE_LOOK);
            }
            if thread.is_finished() {
                // One that panicked has said so.
                let _ = thread.join();
            }
        }
        counters::get(&self.shared.counting.pending_bytes) == 0
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        lock(&self.threads).push(thread);
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
