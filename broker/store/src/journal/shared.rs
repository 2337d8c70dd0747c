//! What the writer, the reader and the handles of the shards share.

use super::counters::{Counters, Counting, add};
use super::queue::Queue;
use super::segments::Segments;
use super::trouble::{Causes, Sinks, Trouble};
use super::work::Work;
use super::{JournalOptions, StoreEvent, lock};
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A write or a sync that takes longer is trouble: clients are told rather than left to wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Shared {
    pub(super) options: JournalOptions,
    pub(super) queue: Queue,
    pub(super) segments: Segments,
    pub(super) work: Work,
    pub(super) trouble: Trouble,
    pub(super) sinks: Sinks,
    pub(super) counting: Counting,
    pub(super) watch: Watch,
    /// What the operating system said last when something failed.
    pub(super) last_error: Mutex<Option<String>>,
    /// Where a test has the writer fail.
    #[cfg(test)]
    pub(super) fault: super::fault::Switch,
}

/// Since when the writer has been at its present batch.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<Instant>>);

impl Shared {
    pub(super) fn tell(&self, shard: usize, event: StoreEvent) {
        if let Some(sink) = self.sinks.get().and_then(|sinks| sinks.get(shard)) {
            sink(event);
        }
    }

    pub(super) fn change_trouble(&self, change: impl FnOnce(&mut Causes)) {
        self.trouble.change(&self.sinks, change);
    }

    /// Beyond its bound the journal still takes what makes room again, the records of checkpoints and of messages that are done
    /// with; the shards put out nothing else then.
    pub(super) fn make_sure_of_room(&self, bytes: u64) -> io::Result<()> {
        let (_, journal_bytes) = self.segments.size();
        let most_bytes = self.options.most_bytes.saturating_add(self.options.reserve_bytes());
        if journal_bytes + bytes > most_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the journal has reached its bound",
            ));
        }
        Ok(())
    }

    /// Nothing completes until it has worked again.
    pub(super) fn disk_failed(&self, error: &io::Error) {
        add(&self.counting.failures, 1);
        *lock(&self.last_error) = Some(error.to_string());
        self.change_trouble(|causes| causes.disk_fails = true);
    }

    pub(super) fn judge_size(&self) {
        let over_bound = self.is_over_bound();
        self.change_trouble(|causes| causes.over_bound = over_bound);
    }

    pub(super) fn is_over_bound(&self) -> bool {
        self.segments.size().1 > self.options.most_bytes
    }

    pub(super) fn judge_patience(&self) {
        // Looked at inside: the writer clears the cause after it has ended its batch.
        self.change_trouble(|causes| causes.stuck |= self.watch.is_longer_than(PATIENCE));
    }

    pub(super) fn counters(&self) -> Counters {
        let (segments, journal_bytes) = self.segments.size();
        Counters {
            segments,
            journal_bytes,
            ..self.counting.snapshot()
        }
    }
}

impl Watch {
    pub(super) fn begin(&self, now: Instant) {
        *lock(&self.0) = Some(now);
    }

    pub(super) fn end(&self) {
        *lock(&self.0) = None;
    }

    fn is_longer_than(&self, patience: Duration) -> bool {
        let began = *lock(&self.0);
        began.is_some_and(|began| began.elapsed() > patience)
    }
}
