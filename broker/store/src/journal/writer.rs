//! The one thread that writes: takes everything that waits, writes it, syncs it, and says so.

use super::files::{Writing, random};
use super::queue::{Batch, Next};
use super::segments::position;
use super::shared::Shared;
use super::{StoreEvent, SyncPolicy};
use crate::fail_point;
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, SYNCED_BEFORE, SegmentHeader};
use crate::log::{Completion, Epoch};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failure the writer tries again this often.
const RETRY: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// `None` after a failure: a file whose sync failed once may claim success the next time, without what was lost.
    pub(super) segment: Option<Writing>,
    pub(super) next_number: u64,
    pub(super) next_sequence: u64,
    pub(super) epoch: Epoch,
}

impl Writer {
    /// Until it is stopped and nothing waits any more.
    pub(super) fn run(mut self) {
        loop {
            match self.shared.queue.next() {
                Next::Write(batch) => {
                    if !self.store(batch) {
                        return;
                    }
                }
                Next::Look => self.shared.judge_size(),
                Next::Stop => {
                    if let Err(error) = self.seal() {
                        self.failed(&error);
                    }
                    return;
                }
            }
        }
    }

    /// Comes back when the batch is durable, however often it takes. `false`: the journal is being closed while the disk fails, and
    /// nothing may be written behind what was given up.
    fn store(&mut self, mut batch: Batch) -> bool {
        let started = Instant::now();
        self.shared.watch.begin(started);
        if batch.count > 0 && !self.store_frames(&mut batch) {
            return false;
        }
        let (bytes, records) = (batch.bytes.len() as u64, u64::from(batch.count));
        self.shared.counting.commit(started.elapsed(), bytes, records);
        self.shared.watch.end();
        self.complete(batch);
        self.shared
            .change_trouble(|causes| (causes.disk_fails, causes.stuck) = (false, false));
        self.shared.judge_size();
        fail_point::pass("after-complete");
        true
    }

    fn store_frames(&mut self, batch: &mut Batch) -> bool {
        loop {
            match self.try_to_store(batch) {
                Ok(at) => {
                    self.next_sequence += 1;
                    place(&mut batch.completions, at);
                    return true;
                }
                Err(error) => self.failed(&error),
            }
            if !self.shared.queue.pause(RETRY) {
                return false;
            }
        }
    }

    fn complete(&mut self, batch: Batch) {
        let pending = batch.bytes.len().saturating_sub(BATCH_HEADER_BYTES) as u64 - batch.fence_bytes;
        self.shared.counting.not_pending(pending);
        for (shard, completions) in batch.completions.into_iter().enumerate() {
            if let Some(last) = completions.last() {
                let ticket = last.ticket;
                self.shared.tell(shard, StoreEvent::Completed(completions));
                self.shared.work.durable(shard, ticket);
            }
        }
        for waiting in batch.fenced {
            // Who does not wait any more does not mind.
            let _ = waiting.send(());
        }
    }

    /// Writes and syncs a batch; answers the position of its first byte.
    fn try_to_store(&mut self, batch: &mut Batch) -> io::Result<u64> {
        self.shared.make_sure_of_room(batch.bytes.len() as u64)?;
        let (shared, sync) = (self.shared.clone(), self.shared.options.sync);
        let header = BatchHeader {
            flags: if sync == SyncPolicy::Fsync { SYNCED_BEFORE } else { 0 },
            sequence: self.next_sequence,
            bytes: (batch.bytes.len() - BATCH_HEADER_BYTES) as u64,
            count: batch.count,
        };
        let segment = self.segment_for(batch.bytes.len() as u64)?;
        batch.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(segment.salt()));
        fail_point::pass("before-write");
        #[cfg(test)]
        shared.fault.before_write(segment, &batch.bytes)?;
        segment.write(&batch.bytes)?;
        #[cfg(test)]
        shared.fault.before_sync()?;
        fail_point::pass("after-write");
        if sync == SyncPolicy::Fsync {
            segment.sync()?;
        }
        fail_point::pass("after-sync");
        let at = segment.commit(batch.bytes.len() as u64, batch.partitions);
        shared.segments.put(segment.segment());
        Ok(position(segment.number(), at).0)
    }

    /// The segment that has room for so many bytes, or takes any number because it is new.
    fn segment_for(&mut self, bytes: u64) -> io::Result<&mut Writing> {
        let most_bytes = self.shared.options.segment_bytes;
        if self.segment.as_ref().is_some_and(|s| !s.has_room(bytes, most_bytes)) {
            self.seal()?;
        }
        if self.segment.is_none() {
            let segment = self.new_segment()?;
            fail_point::pass("after-new-segment");
            self.shared.segments.put(segment.segment());
            return Ok(self.segment.insert(segment));
        }
        self.segment.as_mut().ok_or_else(|| io::Error::other("no segment"))
    }

    fn new_segment(&mut self) -> io::Result<Writing> {
        let number = self.next_number;
        self.next_number += 1;
        let header = SegmentHeader {
            flags: 0,
            number,
            first_sequence: self.next_sequence,
            epoch: self.epoch,
            salt: random(),
        };
        Writing::create(self.shared.segments.dir(), self.shared.options.segment_bytes, header)
    }

    /// A full segment is durable before the next is begun, also where batches are not: then only the last can be torn.
    fn seal(&mut self) -> io::Result<()> {
        if let Some(segment) = &self.segment {
            let sealed = segment.seal()?;
            self.shared.segments.put(sealed);
            self.segment = None;
            self.shared.work.look();
        }
        Ok(())
    }

    /// The file is never synced again: the next attempt writes the batch to a new one.
    fn failed(&mut self, error: &io::Error) {
        self.shared.disk_failed(error);
        if let Some(segment) = self.segment.take() {
            let number = segment.number();
            match segment.abandon(self.shared.segments.dir()) {
                Some(kept) => self.shared.segments.put(kept),
                None => self.shared.segments.remove(number),
            }
        }
    }
}

/// Offsets in the batch become positions.
fn place(completions: &mut [Vec<Completion>], at: u64) {
    for completion in completions.iter_mut().flatten() {
        completion.positions.iter_mut().for_each(|position| position.0 += at);
    }
}
