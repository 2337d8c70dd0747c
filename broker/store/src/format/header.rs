//! The first bytes of a segment file.

use super::{MOST_COUNTED, checksum, u32_at, u64_at};
use crate::log::Epoch;

/// Magic (8), version (4), flags (4), number (8), first sequence (8), epoch (8), salt (4), checksum (4).
pub(crate) const SEGMENT_HEADER_BYTES: usize = 48;

const MAGIC: [u8; 8] = *b"nervewir";

/// Of segment, batch, frame and record together.
const VERSION: u32 = 1;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Only [`AFTER_GAP`](super::AFTER_GAP).
    pub(crate) flags: u32,
    pub(crate) number: u64,
    /// All batches before this one had reached the disk when the segment was begun.
    pub(crate) first_sequence: u64,
    /// No partition's epoch is below it from here on.
    pub(crate) epoch: Epoch,
    /// Of the batches' checksums.
    pub(crate) salt: u32,
}

/// Why these are not the first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It was never written to the end, or was damaged.
    Damaged,
    /// It is sound, and of another version.
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.salt.to_le_bytes());
        let sum = checksum(0, [&bytes[..44], &[]]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let content = bytes.get(..44).ok_or(HeaderError::Damaged)?;
        if !content.starts_with(&MAGIC) || u32_at(bytes, 44) != Some(checksum(0, [content, &[]])) {
            return Err(HeaderError::Damaged);
        }
        match u32_at(content, 8) {
            Some(VERSION) => Self::fields(content).ok_or(HeaderError::Damaged),
            version => Err(HeaderError::Version(version.unwrap_or_default())),
        }
    }

    fn fields(content: &[u8]) -> Option<Self> {
        Some(Self {
            flags: u32_at(content, 12)?,
            number: u64_at(content, 16)?,
            first_sequence: u64_at(content, 24).filter(|sequence| *sequence < MOST_COUNTED)?,
            epoch: Epoch(u64_at(content, 32).filter(|epoch| *epoch < MOST_COUNTED)?),
            salt: u32_at(content, 40)?,
        })
    }
}
