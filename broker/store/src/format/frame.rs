//! One record with its length, checksum, partition and epoch.

use super::{MOST_COUNTED, checksum, u32_at, u64_at};
use crate::log::Epoch;
use crate::record::{self, Malformed};
use nervewire_core::store::{Partition, Record};

/// Length (4), checksum (4), partition (2), epoch (8).
pub(crate) const FRAME_HEADER_BYTES: usize = 18;

/// What the length does not count: itself and the checksum.
const PREFIX_BYTES: usize = 8;

/// The longest frame that is believed in. A record is far below: it holds what came in one packet of MQTT (256 MiB at most), or what
/// a plugin with its bounded memory made of it.
const MOST_FRAME_BYTES: usize = 1 << 31;

/// A frame as it is found. An empty body begins an epoch of its partition and is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    pub(crate) body: &'a [u8],
}

/// Appends a frame whose body is what `write` appends.
pub(crate) fn append_frame(out: &mut Vec<u8>, partition: Partition, epoch: Epoch, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    out.extend_from_slice(&partition.0.to_le_bytes());
    out.extend_from_slice(&epoch.0.to_le_bytes());
    write(out);
    let len = ((out.len() - start - PREFIX_BYTES) as u32).to_le_bytes();
    let sum = checksum(0, [&len, &out[start + PREFIX_BYTES..]]).to_le_bytes();
    out[start..start + 4].copy_from_slice(&len);
    out[start + 4..start + PREFIX_BYTES].copy_from_slice(&sum);
}

/// Length of the frame that starts here, as far as the first bytes say; nothing is verified.
pub(crate) fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let len = PREFIX_BYTES.checked_add(u32_at(bytes, 0)? as usize)?;
    (FRAME_HEADER_BYTES..=MOST_FRAME_BYTES).contains(&len).then_some(len)
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, and its length; `None` where no whole and sound one stands there.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let len = frame_bytes(bytes)?;
        let content = bytes.get(PREFIX_BYTES..len)?;
        if checksum(0, [&bytes[..4], content]) != u32_at(bytes, 4)? {
            return None;
        }
        let frame = Self {
            partition: Partition(u16::from_le_bytes(*content.first_chunk()?)),
            epoch: Epoch(u64_at(content, 2).filter(|epoch| *epoch < MOST_COUNTED)?),
            body: content.get(FRAME_HEADER_BYTES - PREFIX_BYTES..)?,
        };
        Some((frame, len))
    }

    /// What it says; `None` where it only begins an epoch.
    pub(crate) fn record(&self) -> Result<Option<Record>, Malformed> {
        if self.body.is_empty() {
            return Ok(None);
        }
        record::decode(self.body).map(Some)
    }
}
