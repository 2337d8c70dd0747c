//! The journal's bytes: segment files, the batches in them, the record frames in those. All numbers are little endian.

mod batch;
mod frame;
mod header;
mod scan;

pub(crate) use batch::{AFTER_GAP, BATCH_HEADER_BYTES, Batch, BatchHeader, SYNCED_BEFORE};
pub(crate) use frame::{FRAME_HEADER_BYTES, Frame, append_frame, frame_bytes};
pub(crate) use header::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader};
pub(crate) use scan::{Piece, Scan};

/// The checksum of everything: CRC-32, begun with a number that a sender of messages does not know where it matters.
#[allow(unexpected_cfgs)] // `fuzzing` is set where the fuzz targets are built.
fn checksum(initial: u32, parts: [&[u8]; 2]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(initial);
    parts.iter().for_each(|part| hasher.update(part));
    // A fuzzer would find no checksum that is right; it is to find what comes behind them.
    if cfg!(fuzzing) { 0 } else { hasher.finalize() }
}

/// Sequences and epochs stay below: each of them has a next one, whatever a damaged file says.
const MOST_COUNTED: u64 = 1 << 62;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
