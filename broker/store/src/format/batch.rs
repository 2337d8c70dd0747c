//! What one write carried: frames behind a header that says how many they are and which batch this is.

use super::{Frame, MOST_COUNTED, checksum, u32_at, u64_at};

/// Magic (4), flags (4), sequence (8), bytes of the frames (8), frames (4), checksum of the header (4).
pub(crate) const BATCH_HEADER_BYTES: usize = 32;

/// Everything before this batch had reached the disk when it was written: what is missing there was lost later.
pub(crate) const SYNCED_BEFORE: u32 = 1;

/// Batches are missing before this one, and a repair has taken note of it.
pub(crate) const AFTER_GAP: u32 = 2;

pub(super) const MAGIC: [u8; 4] = *b"NWba";

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) flags: u32,
    /// Counts up by one from batch to batch, over all segments. A second copy of a batch has the number of the first.
    pub(crate) sequence: u64,
    /// Bytes of the frames.
    pub(crate) bytes: u64,
    /// Number of frames.
    pub(crate) count: u32,
}

/// A batch whose frames are all there and sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) header: BatchHeader,
    frames: &'a [u8],
}

impl BatchHeader {
    /// `salt`: of the segment. Without knowing it nobody can publish a message whose payload passes for a batch.
    pub(crate) fn encode(&self, salt: u32) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        let sum = checksum(salt, [&bytes[..28], &[]]);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8], salt: u32) -> Option<Self> {
        let sound = bytes.starts_with(&MAGIC) && checksum(salt, [bytes.get(..28)?, &[]]) == u32_at(bytes, 28)?;
        sound.then_some(())?;
        Some(Self {
            flags: u32_at(bytes, 4)?,
            sequence: u64_at(bytes, 8).filter(|sequence| *sequence < MOST_COUNTED)?,
            bytes: u64_at(bytes, 16)?,
            count: u32_at(bytes, 24)?,
        })
    }
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes`; `None` where no whole and sound one stands there.
    pub(crate) fn parse(bytes: &'a [u8], salt: u32) -> Option<Self> {
        let header = BatchHeader::parse(bytes, salt)?;
        let len = usize::try_from(header.bytes).ok()?;
        let frames = bytes.get(BATCH_HEADER_BYTES..)?.get(..len)?;
        let batch = Self { header, frames };
        let (count, bytes) = batch
            .frames()
            .fold((0, 0), |(count, bytes), (_, _, len)| (count + 1, bytes + len));
        (count == header.count && bytes == len).then_some(batch)
    }

    /// Length of the batch that starts here, as its header says; `None` where there is no sound header.
    pub(crate) fn announced_bytes(bytes: &[u8], salt: u32) -> Option<u64> {
        let header = BatchHeader::parse(bytes, salt)?;
        header.bytes.checked_add(BATCH_HEADER_BYTES as u64)
    }

    /// The same batch with another header.
    pub(crate) fn copy_to(&self, out: &mut Vec<u8>, header: BatchHeader, salt: u32) {
        out.extend_from_slice(&header.encode(salt));
        out.extend_from_slice(self.frames);
    }

    /// Header and frames.
    pub(crate) fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.frames.len()
    }

    /// Each frame with its offset in the batch and its length.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (usize, Frame<'a>, usize)> + use<'a> {
        let mut rest = self.frames;
        let mut at = BATCH_HEADER_BYTES;
        std::iter::from_fn(move || {
            let (frame, len) = Frame::parse(rest)?;
            let offset = at;
            rest = rest.get(len..)?;
            at += len;
            Some((offset, frame, len))
        })
    }
}
