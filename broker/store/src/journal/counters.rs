//! What the journal counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in seconds of [`Counters::commit_seconds`]; one more counts what took longer.
pub const COMMIT_SECONDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];

/// A snapshot of what the journal has counted since it was opened, and of its size now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Batches that became durable.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Batches by how long they took to become durable once they were taken up; not cumulative.
    pub commit_seconds: [u64; COMMIT_SECONDS.len() + 1],
    /// Sum of these times in nanoseconds.
    pub commit_nanos: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes that are appended and not durable yet.
    pub pending_bytes: u64,
    /// Writes, syncs and new segments that failed.
    pub failures: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes in them.
    pub journal_bytes: u64,
    /// Segments that checkpoints have freed.
    pub freed_segments: u64,
    /// Bytes of records that checkpoints have appended again.
    pub relocated_bytes: u64,
    /// Records that were to be read and could not be.
    pub unreadable_records: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) commits: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) commit_seconds: [AtomicU64; COMMIT_SECONDS.len() + 1],
    pub(super) commit_nanos: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) pending_bytes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) freed_segments: AtomicU64,
    pub(super) relocated_bytes: AtomicU64,
    pub(super) unreadable_records: AtomicU64,
}

impl Counting {
    pub(super) fn commit(&self, took: Duration, bytes: u64, records: u64) {
        let seconds = took.as_secs_f64();
        let bucket = COMMIT_SECONDS.partition_point(|bound| *bound < seconds);
        add(&self.commit_seconds[bucket], 1);
        add(&self.commit_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        add(&self.commits, 1);
        add(&self.written_bytes, bytes);
        add(&self.records, records);
    }

    pub(super) fn not_pending(&self, bytes: u64) {
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Without the size, which the segments know.
    pub(super) fn snapshot(&self) -> Counters {
        Counters {
            commits: get(&self.commits),
            records: get(&self.records),
            commit_seconds: std::array::from_fn(|bucket| get(&self.commit_seconds[bucket])),
            commit_nanos: get(&self.commit_nanos),
            written_bytes: get(&self.written_bytes),
            pending_bytes: get(&self.pending_bytes),
            failures: get(&self.failures),
            freed_segments: get(&self.freed_segments),
            relocated_bytes: get(&self.relocated_bytes),
            unreadable_records: get(&self.unreadable_records),
            ..Counters::default()
        }
    }
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
