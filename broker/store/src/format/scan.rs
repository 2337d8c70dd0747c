//! Walks through the bytes of a segment: batch after batch, and over what is damaged.

use super::batch::MAGIC;
use super::{Batch, SEGMENT_HEADER_BYTES, SegmentHeader};
use std::ops::Range;

/// A stretch of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Piece<'a> {
    /// A sound batch at this offset.
    Batch(usize, Batch<'a>),
    /// No batch starts here, nor anywhere up to the end of this range.
    Damage(Range<usize>),
}

/// The pieces behind a segment's header. Zeros up to the end are no piece: they are room that nobody has written to.
#[derive(Clone, Debug)]
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    /// Behind it are only zeros.
    used: usize,
    at: usize,
    salt: u32,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(bytes: &'a [u8], header: &SegmentHeader) -> Self {
        Self {
            bytes,
            used: used(bytes),
            at: SEGMENT_HEADER_BYTES,
            salt: header.salt,
        }
    }

    fn batch_at(&self, at: usize) -> Option<Batch<'a>> {
        Batch::parse(self.bytes.get(at..)?, self.salt)
    }

    /// Where the next sound batch starts; the end where there is none.
    fn resume(&self) -> usize {
        let candidates = self.at + 1..self.used;
        let starts = candidates.filter(|at| self.bytes[*at..].starts_with(&MAGIC));
        let mut sound = starts.filter(|at| self.batch_at(*at).is_some());
        sound.next().unwrap_or(self.used)
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let at = self.at;
        if at >= self.used {
            return None;
        }
        if let Some(batch) = self.batch_at(at) {
            self.at += batch.bytes();
            return Some(Piece::Batch(at, batch));
        }
        self.at = self.resume();
        Some(Piece::Damage(at..self.at))
    }
}

/// Length without the zeros at the end.
fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut len = bytes.len();
    while let Some(rest) = bytes[..len].strip_suffix(&ZEROS) {
        len = rest.len();
    }
    let last = bytes[..len].iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}
