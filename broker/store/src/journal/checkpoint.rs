//! Room comes back: the oldest segment is read in small pieces, the shards append again what is still true in it, and then it is
//! deleted.

use super::StoreEvent;
use super::counters::{add, get};
use super::pace::{Pace, Size};
use super::segments::{Segment, path, position, sync_dir};
use super::shared::Shared;
use crate::fail_point;
use crate::format::{Batch, SEGMENT_HEADER_BYTES};
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::{Partition, Position, Record};
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read and examined at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// See the module. At most one segment at a time.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    phase: Phase,
    pace: Pace,
    /// What all checkpoints had appended again when the present one began.
    relocated_before: u64,
    /// The size when it began.
    size_before: Option<Size>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// The shards are examining what is before this offset.
    Examining(Segment, u64),
    /// Everything was examined and is durable. The shards are asked once more, with nothing: when they have answered, they know the
    /// new positions, and every fetch of the old ones has been answered.
    Leaving(Segment),
}

/// Records by shard.
type Examined = Vec<Vec<(Partition, Position, Record)>>;

impl Checkpoint {
    /// Does the next step if it can be done now; answers whether there is another that can.
    pub(super) fn step(&mut self, shared: &Shared) -> bool {
        let shards = shared.sinks.get().map_or(0, |sinks| sinks.len());
        if !shared.work.shards(shards).iter().all(|shard| shard.is_settled()) {
            return false;
        }
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Idle => match self.begin(shared, shards) {
                Some(segment) => Phase::Examining(segment, SEGMENT_HEADER_BYTES as u64),
                None => return false,
            },
            Phase::Examining(segment, at) if at < segment.end => match examine(shared, shards, &segment, at) {
                Ok(at) => Phase::Examining(segment, at),
                Err(_) => {
                    add(&shared.counting.unreadable_records, 1);
                    return false;
                }
            },
            Phase::Examining(segment, _) => {
                (0..shards).for_each(|shard| ask(shared, shard, Vec::new()));
                Phase::Leaving(segment)
            }
            Phase::Leaving(segment) => {
                forget(shared, &segment);
                self.end(shared, &segment);
                Phase::Idle
            }
        };
        true
    }

    fn begin(&mut self, shared: &Shared, shards: usize) -> Option<Segment> {
        let segment = due(shared, shards)?;
        self.relocated_before = get(&shared.counting.relocated_bytes);
        self.size_before = size(shared, shards);
        let goes_on = self.pace.goes_on(self.size_before?, shared.options.segment_bytes);
        goes_on.then_some(segment)
    }

    fn end(&mut self, shared: &Shared, segment: &Segment) {
        let relocated = get(&shared.counting.relocated_bytes) - self.relocated_before;
        let (segments, _) = shared.segments.size();
        if let Some(size) = self.size_before {
            self.pace.gone_through(segment.end, relocated, segments, size);
        }
    }
}

/// `None` before every shard has said what it needs: nothing is known of that then.
fn size(shared: &Shared, shards: usize) -> Option<Size> {
    let known = shared.work.shards(shards);
    let mut live = known.iter().map(|shard| shard.live_bytes);
    let live_bytes = live.try_fold(0, |sum: u64, bytes| Some(sum.saturating_add(bytes?)))?;
    let (_, journal_bytes) = shared.segments.size();
    Some(Size {
        journal_bytes,
        live_bytes,
    })
}

/// The segment that is to go, if the journal holds enough that is not needed any more.
pub(super) fn due(shared: &Shared, shards: usize) -> Option<Segment> {
    let Size {
        journal_bytes,
        live_bytes,
    } = size(shared, shards)?;
    let segment_bytes = shared.options.segment_bytes;
    let worthwhile = journal_bytes > live_bytes.saturating_mul(2).saturating_add(2 * segment_bytes);
    let necessary = shared.is_over_bound() && journal_bytes > live_bytes.saturating_add(2 * segment_bytes);
    if worthwhile || necessary {
        shared.segments.oldest_sealed()
    } else {
        None
    }
}

/// Gives the shards the records of whole batches from an offset on; answers the offset behind them.
fn examine(shared: &Shared, shards: usize, segment: &Segment, at: u64) -> io::Result<u64> {
    let bytes = read_batches(shared, segment, at)?;
    let mut examined: Examined = Vec::new();
    examined.resize_with(shards, Vec::new);
    let mut read = 0;
    while let Some(batch) = Batch::parse(&bytes[read..], segment.header.salt) {
        collect(&batch, segment, at + read as u64, &mut examined)?;
        read += batch.bytes();
    }
    if read == 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for (shard, records) in examined.into_iter().enumerate() {
        if !records.is_empty() {
            ask(shared, shard, records);
        }
    }
    Ok(at + read as u64)
}

/// So many bytes that at least one batch is whole.
fn read_batches(shared: &Shared, segment: &Segment, at: u64) -> io::Result<Vec<u8>> {
    let file = shared.segments.open(segment.header.number)?;
    let read = |len: u64| {
        let mut bytes = vec![0; len.min(segment.end - at) as usize];
        file.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    let bytes = read(STEP_BYTES)?;
    match Batch::announced_bytes(&bytes, segment.header.salt) {
        Some(len) if len > bytes.len() as u64 => read(len),
        Some(_) => Ok(bytes),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn collect(batch: &Batch<'_>, segment: &Segment, at: u64, examined: &mut Examined) -> io::Result<()> {
    let shards = examined.len() as u16;
    for (offset, frame, _) in batch.frames() {
        let Some(record) = frame.record().map_err(io::Error::other)? else {
            continue;
        };
        let position = position(segment.header.number, at + offset as u64);
        let shard = usize::from(frame.partition.owner(shards));
        examined[shard].push((frame.partition, position, record));
    }
    Ok(())
}

fn ask(shared: &Shared, shard: usize, records: Vec<(Partition, Position, Record)>) {
    shared.work.ask(shard);
    shared.tell(shard, StoreEvent::Examine(records));
}

/// Nobody needs what is in the segment.
fn forget(shared: &Shared, segment: &Segment) {
    let end = position(segment.header.number, segment.end);
    (0..PARTITIONS as u16).for_each(|partition| shared.segments.raise_floor(partition, end));
    delete_obsolete(shared);
}

/// Deletes the segments that nobody needs, from the oldest on: what is left must have no gap. One that cannot be deleted is tried again
/// with the next.
pub(super) fn delete_obsolete(shared: &Shared) {
    let dir = shared.segments.dir();
    while let Some(segment) = shared.segments.take_obsolete() {
        fail_point::pass("before-delete");
        let deleted = std::fs::remove_file(path(dir, segment.header.number)).and_then(|()| sync_dir(dir));
        fail_point::pass("after-delete");
        if deleted.is_err() {
            add(&shared.counting.failures, 1);
            shared.segments.put(segment);
            return;
        }
        add(&shared.counting.freed_segments, 1);
        shared.queue.look();
    }
}
