//! The segment file that is written to.

use super::segments::{Segment, path, sync_dir};
use crate::fail_point;
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// See the module.
#[derive(Debug)]
pub(super) struct Writing {
    file: File,
    segment: Segment,
}

impl Writing {
    /// A new, empty segment whose header is durable, as is its name. Its file has its full length from the start: a sync is faster
    /// where the length does not change, and waits for nobody else's writes.
    pub(super) fn create(dir: &Path, room: u64, header: SegmentHeader) -> io::Result<Self> {
        let path = path(dir, header.number);
        let created = Self::write_header(&path, room, &header).and_then(|file| sync_dir(dir).map(|()| file));
        let file = created.inspect_err(|_| {
            // What is left of it says nothing, and the next attempt has another name.
            let _ = std::fs::remove_file(&path);
        })?;
        let segment = Segment {
            header,
            end: SEGMENT_HEADER_BYTES as u64,
            partitions: 0,
            sealed: false,
        };
        Ok(Self { file, segment })
    }

    fn write_header(path: &Path, room: u64, header: &SegmentHeader) -> io::Result<File> {
        let file = File::create_new(path)?;
        file.set_len(room.max(SEGMENT_HEADER_BYTES as u64))?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        Ok(file)
    }

    pub(super) fn number(&self) -> u64 {
        self.segment.header.number
    }

    pub(super) fn salt(&self) -> u32 {
        self.segment.header.salt
    }

    pub(super) fn segment(&self) -> Segment {
        self.segment
    }

    /// Cuts what was not committed, and makes everything else durable: nothing more is written to it.
    pub(super) fn seal(&self) -> io::Result<Segment> {
        self.file.set_len(self.segment.end)?;
        self.file.sync_all()?;
        Ok(self.sealed())
    }

    fn sealed(&self) -> Segment {
        Segment {
            sealed: true,
            ..self.segment
        }
    }

    /// Whether a batch of so many bytes belongs here and not into the next segment. The first always does.
    pub(super) fn has_room(&self, bytes: u64, most_bytes: u64) -> bool {
        self.is_empty() || self.segment.end + bytes <= most_bytes
    }

    /// Writes a batch behind the last one that was committed.
    pub(super) fn write(&self, batch: &[u8]) -> io::Result<()> {
        if fail_point::is_due("mid-write") {
            self.file.write_all_at(&batch[..batch.len() / 2], self.segment.end)?;
            std::process::abort();
        }
        self.file.write_all_at(batch, self.segment.end)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What was written is as durable as it is to be; answers where it begins.
    pub(super) fn commit(&mut self, bytes: u64, partitions: u64) -> u64 {
        let at = self.segment.end;
        self.segment.end += bytes;
        self.segment.partitions |= partitions;
        at
    }

    /// Cuts what was not committed, as far as the disk lets us: recovery passes over what is left. Answers the segment, unless it is
    /// empty and gone.
    pub(super) fn abandon(self, dir: &Path) -> Option<Segment> {
        if self.is_empty() && std::fs::remove_file(path(dir, self.number())).is_ok() {
            return None;
        }
        let _ = self.file.set_len(self.segment.end);
        Some(self.sealed())
    }

    fn is_empty(&self) -> bool {
        self.segment.end == SEGMENT_HEADER_BYTES as u64
    }
}

/// A number that nobody outside can know.
pub(super) fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
