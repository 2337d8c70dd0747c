//! What to do about a journal that is damaged: keep every batch that is whole, and write down in the file itself that others are
//! missing.

use super::recovery::{OpenError, read};
use super::segments::{self, path, sync_dir};
use crate::format::{AFTER_GAP, Batch, BatchHeader, HeaderError, Piece, SEGMENT_HEADER_BYTES, Scan, SegmentHeader};
use nervewire_core::limits::PARTITIONS;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a repair has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Bytes that belonged to no batch that can be read.
    pub damaged_bytes: u64,
    /// Copies of the files that held them, as they were.
    pub files: Vec<PathBuf>,
}

/// See the module.
pub(super) fn repair(dir: &Path) -> Result<Repaired, OpenError> {
    let numbers = segments::list(dir).map_err(|source| OpenError::io(dir, source))?;
    let mut repaired = Repaired::default();
    let (mut bytes, mut next) = (Vec::new(), None);
    for number in numbers {
        let path = path(dir, number);
        let io_error = |source| OpenError::io(&path, source);
        read(&path, &mut bytes).map_err(io_error)?;
        let header = match SegmentHeader::parse(&bytes) {
            Ok(header) => header,
            Err(HeaderError::Version(version)) => return Err(OpenError::Version { path, version }),
            Err(HeaderError::Damaged) => {
                repaired.damaged_bytes += bytes.len() as u64;
                repaired.files.push(set_aside(dir, &path, None).map_err(io_error)?);
                continue;
            }
        };
        let copy = Copy::of(&bytes, header, &mut next);
        repaired.damaged_bytes += copy.damaged_bytes;
        if !copy.is_all_of(&bytes) {
            let aside = set_aside(dir, &path, Some(&copy.bytes)).map_err(io_error)?;
            repaired.files.push(aside);
        }
    }
    Ok(repaired)
}

/// A segment without what is damaged in it.
struct Copy {
    bytes: Vec<u8>,
    damaged_bytes: u64,
}

impl Copy {
    /// `next`: the number of the batch that is to come.
    fn of(bytes: &[u8], mut header: SegmentHeader, next: &mut Option<u64>) -> Self {
        if header.first_sequence > *next.get_or_insert(header.first_sequence) {
            header.flags |= AFTER_GAP;
            *next = Some(header.first_sequence);
        }
        let mut copy = Self {
            bytes: header.encode().to_vec(),
            damaged_bytes: 0,
        };
        for piece in Scan::new(bytes, &header) {
            match piece {
                Piece::Batch(_, batch) if is_readable(&batch) => copy.add(&batch, header.salt, next),
                Piece::Batch(_, batch) => copy.damaged_bytes += batch.bytes() as u64,
                Piece::Damage(range) => copy.damaged_bytes += range.len() as u64,
            }
        }
        copy
    }

    /// Whether the file holds nothing else.
    fn is_all_of(&self, bytes: &[u8]) -> bool {
        let rest = bytes.strip_prefix(&*self.bytes);
        rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }

    fn add(&mut self, batch: &Batch<'_>, salt: u32, next: &mut Option<u64>) {
        let sequence = batch.header.sequence;
        let gap = *next < Some(sequence);
        let flags = batch.header.flags | if gap { AFTER_GAP } else { 0 };
        let header = BatchHeader { flags, ..batch.header };
        batch.copy_to(&mut self.bytes, header, salt);
        *next = (*next).max(Some(sequence + 1));
    }
}

fn is_readable(batch: &Batch<'_>) -> bool {
    let readable = |(_, frame, _): (_, crate::format::Frame<'_>, _)| {
        u64::from(frame.partition.0) < PARTITIONS && frame.record().is_ok()
    };
    batch.frames().all(readable)
}

/// Keeps a file under another name, and puts other content in its place. Whenever this ends, one of the two is there.
fn set_aside(dir: &Path, path: &Path, content: Option<&[u8]>) -> io::Result<PathBuf> {
    let aside = with_suffix(path, ".damaged");
    match content.filter(|content| content.len() > SEGMENT_HEADER_BYTES) {
        None => std::fs::rename(path, &aside)?,
        Some(content) => {
            let new = with_suffix(path, ".new");
            let mut file = File::create(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::copy(path, &aside)?;
            File::open(&aside)?.sync_all()?;
            std::fs::rename(&new, path)?;
        }
    }
    sync_dir(dir)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
