//! Reads single records back, by their positions.

use super::segments::{Segments, place};
use crate::format::{FRAME_HEADER_BYTES, Frame, frame_bytes};
use crate::log::{Entry, LogError};
use crate::record;
use nervewire_core::store::{Partition, Position};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once: records of one append lie one behind the other.
const WINDOW_BYTES: usize = 8 * 1024;

/// Remembers what it read last.
#[derive(Debug, Default)]
pub(super) struct Window {
    segment: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The record at a position that is durable.
    pub(super) fn get(
        &mut self,
        segments: &Segments,
        partition: Partition,
        position: Position,
    ) -> Result<Entry, LogError> {
        let frame = self.frame(segments, position).ok().flatten();
        let (frame, _) = frame.and_then(Frame::parse).ok_or(LogError::Unreadable)?;
        if frame.partition != partition {
            return Err(LogError::Unreadable);
        }
        Ok(Entry {
            position,
            epoch: frame.epoch,
            record: record::decode(frame.body).map_err(|_| LogError::Unreadable)?,
        })
    }

    fn frame(&mut self, segments: &Segments, position: Position) -> io::Result<Option<&[u8]>> {
        let (segment, at) = place(position);
        if self.whole_frame(segment, at).is_none() {
            let Some(end) = segments.get(segment).map(|segment| segment.end) else {
                return Ok(None);
            };
            let file = segments.open(segment)?;
            self.read(&file, segment, at, WINDOW_BYTES, end)?;
            if let Some(len) = frame_bytes(&self.bytes).filter(|len| *len > WINDOW_BYTES) {
                self.read(&file, segment, at, len, end)?;
            }
        }
        Ok(self.whole_frame(segment, at))
    }

    fn whole_frame(&self, segment: u64, at: u64) -> Option<&[u8]> {
        let skipped = usize::try_from(at.checked_sub(self.start)?).ok()?;
        let rest = self.bytes.get(skipped..).filter(|_| self.segment == segment)?;
        let fits = rest.len() >= FRAME_HEADER_BYTES && frame_bytes(rest)? <= rest.len();
        fits.then_some(rest)
    }

    fn read(&mut self, file: &File, segment: u64, at: u64, len: usize, end: u64) -> io::Result<()> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        (self.segment, self.start) = (segment, at);
        // Nothing of a longer record is kept, and nothing is believed that was not read.
        self.bytes.clear();
        self.bytes.shrink_to(WINDOW_BYTES);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(len.min(left), 0);
        file.read_exact_at(&mut bytes, at)?;
        self.bytes = bytes;
        Ok(())
    }
}
