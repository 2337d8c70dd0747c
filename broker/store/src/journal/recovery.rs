//! Opening: reads every segment, says what the records are, cuts what a crash has torn.
//!
//! Batches are numbered. A number that was seen is a second copy, which a failed write has left, and passed over. A number that is
//! missing before a batch that says that everything before it was durable is damage, and nothing that opening may pass over.
//! Whatever else is not whole was never durable: it is cut and counted.

use super::segments::{self, Segment, path, position};
use crate::format::{AFTER_GAP, Batch, HeaderError, Piece, SEGMENT_HEADER_BYTES, SYNCED_BEFORE, Scan, SegmentHeader};
use crate::log::Epoch;
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::{Partition, Position, Record};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses {}", dir.display())]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// The operating system says why.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// Records that were durable are not there any more. [`Journal::repair`](super::Journal::repair) sets the damage aside.
    #[error(
        "{} is damaged at byte {offset}: at least {lost_batches} batches of records that had been stored are lost \
         ({damaged_bytes} bytes cannot be read); restore the directory from a backup, or have the damage set aside and go on without these records",
        path.display()
    )]
    Damaged {
        /// The segment file that is damaged, or before which a file is missing.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// How many writes are lost at least, each of one record or many.
        lost_batches: u64,
        /// Bytes of the file that belong to no batch.
        damaged_bytes: u64,
    },
    /// A later version of the broker has written it.
    #[error("{} has version {version}, which this version of the broker does not know", path.display())]
    Version {
        /// The segment file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were replayed.
    pub done_bytes: u64,
    /// Bytes that there are.
    pub total_bytes: u64,
}

/// What opening has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segment files.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Records that were replayed.
    pub records: u64,
    /// Bytes that belonged to no whole batch and were cut.
    pub cut_bytes: u64,
    /// Records of an owner that had lost its partition before.
    pub stale_records: u64,
    /// Batches that were there a second time.
    pub repeated_batches: u64,
}

/// Where the journal goes on.
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    pub(super) recovery: Recovery,
    pub(super) next_number: u64,
    pub(super) next_sequence: u64,
    /// The highest there was.
    pub(super) epoch: Epoch,
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        Self::Io { path, source }
    }
}

/// See the module.
pub(super) fn recover(
    dir: &Path,
    replay: &mut dyn FnMut(Partition, Position, Record),
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, OpenError> {
    let mut replaying = Replaying::new(dir, replay);
    let last = replaying.all(progress)?;
    replaying.cut()?;
    Ok(replaying.recovered(last + 1))
}

/// What opening would find. Nothing is changed.
pub(super) fn check(dir: &Path) -> Result<Recovery, OpenError> {
    let mut replay = |_, _, _| {};
    let mut replaying = Replaying::new(dir, &mut replay);
    let last = replaying.all(&mut |_| {})?;
    Ok(replaying.recovered(last + 1).recovery)
}

/// The segments of a directory, and their bytes.
fn list(dir: &Path) -> io::Result<(Vec<u64>, u64)> {
    let numbers = segments::list(dir)?;
    let sizes = numbers.iter().map(|number| Ok(path(dir, *number).metadata()?.len()));
    let bytes = sizes.sum::<io::Result<u64>>()?;
    Ok((numbers, bytes))
}

/// Into a buffer that is used again.
pub(super) fn read(path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    File::open(path)?.read_to_end(bytes).map(|_| ())
}

struct Replaying<'a> {
    dir: &'a Path,
    replay: &'a mut dyn FnMut(Partition, Position, Record),
    epochs: [Epoch; PARTITIONS as usize],
    /// `None` before the first segment, which begins with whatever it says.
    next_sequence: Option<u64>,
    /// Where the first batch is missing that may have been torn: whatever comes behind it was never durable.
    torn: Option<Torn>,
    segments: Vec<(Segment, u64)>,
    recovery: Recovery,
}

#[derive(Clone, Copy)]
struct Torn {
    segment: u64,
    offset: u64,
    bytes: u64,
}

impl<'a> Replaying<'a> {
    fn new(dir: &'a Path, replay: &'a mut dyn FnMut(Partition, Position, Record)) -> Self {
        Self {
            dir,
            replay,
            epochs: [Epoch::default(); PARTITIONS as usize],
            next_sequence: None,
            torn: None,
            segments: Vec::new(),
            recovery: Recovery::default(),
        }
    }

    /// Answers the number of the last segment.
    fn all(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<u64, OpenError> {
        let dir = self.dir;
        let (numbers, total_bytes) = list(dir).map_err(|source| OpenError::io(dir, source))?;
        let (mut bytes, mut done_bytes) = (Vec::new(), 0);
        for number in &numbers {
            let path = path(dir, *number);
            read(&path, &mut bytes).map_err(|source| OpenError::io(&path, source))?;
            self.segment(*number, &bytes)?;
            done_bytes += bytes.len() as u64;
            progress(Progress {
                done_bytes,
                total_bytes,
            });
        }
        Ok(numbers.last().copied().unwrap_or_default())
    }

    fn segment(&mut self, number: u64, bytes: &[u8]) -> Result<(), OpenError> {
        let header = match SegmentHeader::parse(bytes) {
            Ok(header) => header,
            Err(HeaderError::Version(version)) => {
                let path = path(self.dir, number);
                return Err(OpenError::Version { path, version });
            }
            Err(HeaderError::Damaged) => return self.headless(number, bytes),
        };
        self.begins(&header, number)?;
        let mut segment = Segment {
            header,
            end: SEGMENT_HEADER_BYTES as u64,
            partitions: 0,
            sealed: true,
        };
        for piece in Scan::new(bytes, &header) {
            match piece {
                Piece::Batch(at, batch) => self.batch(&mut segment, at as u64, &batch)?,
                Piece::Damage(range) => self.tear(number, range.start as u64, range.len() as u64),
            }
        }
        self.segments.push((segment, bytes.len() as u64));
        Ok(())
    }

    /// A crash may have come before the header was durable, and then nothing is behind it but the zeros of the file's length.
    fn headless(&mut self, number: u64, file: &[u8]) -> Result<(), OpenError> {
        let written = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.tear(number, 0, written as u64);
        if written > SEGMENT_HEADER_BYTES {
            return Err(self.damaged(number, 1));
        }
        let header = SegmentHeader {
            flags: 0,
            number,
            first_sequence: 0,
            epoch: Epoch::default(),
            salt: 0,
        };
        let segment = Segment {
            header,
            end: 0,
            partitions: 0,
            sealed: true,
        };
        self.segments.push((segment, file.len() as u64));
        Ok(())
    }

    /// What a segment's header says of everything before it.
    fn begins(&mut self, header: &SegmentHeader, number: u64) -> Result<(), OpenError> {
        let next = *self.next_sequence.get_or_insert(header.first_sequence);
        if header.first_sequence > next {
            if header.flags & AFTER_GAP == 0 {
                return Err(self.damaged(number, header.first_sequence - next));
            }
            self.goes_on_at(header.first_sequence);
        }
        self.epochs
            .iter_mut()
            .for_each(|epoch| *epoch = (*epoch).max(header.epoch));
        Ok(())
    }

    fn goes_on_at(&mut self, sequence: u64) {
        self.next_sequence = Some(sequence);
        self.torn = None;
    }

    fn batch(&mut self, segment: &mut Segment, at: u64, batch: &Batch<'_>) -> Result<(), OpenError> {
        let (header, next) = (batch.header, self.next_sequence.unwrap_or_default());
        if header.sequence > next && header.flags & AFTER_GAP == 0 {
            if header.flags & SYNCED_BEFORE != 0 {
                return Err(self.damaged(segment.header.number, header.sequence - next));
            }
            self.tear(segment.header.number, at, batch.bytes() as u64);
            return Ok(());
        }
        segment.end = at + batch.bytes() as u64;
        if header.sequence < next {
            self.recovery.repeated_batches += 1;
            return Ok(());
        }
        self.records(segment, at, batch)?;
        self.goes_on_at(header.sequence + 1);
        Ok(())
    }

    fn records(&mut self, segment: &mut Segment, at: u64, batch: &Batch<'_>) -> Result<(), OpenError> {
        for (offset, frame, len) in batch.frames() {
            let number = segment.header.number;
            let offset = at + offset as u64;
            let index = usize::from(frame.partition.0);
            let (Some(epoch), Ok(record)) = (self.epochs.get_mut(index), frame.record()) else {
                self.tear(number, offset, len as u64);
                return Err(self.damaged(number, 1));
            };
            if frame.epoch < *epoch {
                self.recovery.stale_records += 1;
                continue;
            }
            *epoch = frame.epoch;
            segment.partitions |= 1 << index;
            if let Some(record) = record {
                self.recovery.records += 1;
                (self.replay)(frame.partition, position(number, offset), record);
            }
        }
        Ok(())
    }

    fn tear(&mut self, segment: u64, offset: u64, bytes: u64) {
        self.recovery.cut_bytes += bytes;
        let torn = Torn {
            segment,
            offset,
            bytes: 0,
        };
        self.torn.get_or_insert(torn).bytes += bytes;
    }

    fn damaged(&self, number: u64, lost_batches: u64) -> OpenError {
        let missing = Torn {
            segment: number,
            offset: 0,
            bytes: 0,
        };
        let torn = self.torn.unwrap_or(missing);
        OpenError::Damaged {
            path: path(self.dir, torn.segment),
            offset: torn.offset,
            lost_batches,
            damaged_bytes: torn.bytes,
        }
    }

    /// Leaves only whole batches, on the disk too: what follows will say that everything before it is there.
    fn cut(&mut self) -> Result<(), OpenError> {
        let dir = self.dir;
        for (segment, file_bytes) in &self.segments {
            let path = path(dir, segment.header.number);
            cut_file(&path, segment.end, *file_bytes).map_err(|source| OpenError::io(&path, source))?;
        }
        segments::sync_dir(dir).map_err(|source| OpenError::io(dir, source))
    }

    fn recovered(self, next_number: u64) -> Recovered {
        let segments = self.segments.into_iter().map(|(segment, _)| segment);
        let segments: Vec<Segment> = segments
            .filter(|segment| segment.end > SEGMENT_HEADER_BYTES as u64)
            .collect();
        let recovery = Recovery {
            segments: segments.len() as u64,
            bytes: segments.iter().map(|segment| segment.end).sum(),
            ..self.recovery
        };
        Recovered {
            segments,
            recovery,
            next_number,
            next_sequence: self.next_sequence.unwrap_or_default(),
            epoch: self.epochs.into_iter().max().unwrap_or_default(),
        }
    }
}

fn cut_file(path: &Path, end: u64, file_bytes: u64) -> io::Result<()> {
    if end <= SEGMENT_HEADER_BYTES as u64 {
        return std::fs::remove_file(path);
    }
    let file = File::options().write(true).open(path)?;
    if end < file_bytes {
        file.set_len(end)?;
    }
    file.sync_all()
}
