//! The journal as a [`Log`]: for an owner of partitions that asks instead of being told.

use super::handle::Handle;
use super::reading::Window;
use super::segments::{Segment, position};
use super::shared::Shared;
use super::{Journal, JournalOptions, OpenError, StoreEvent, checkpoint, lock};
use crate::format::{Piece, Scan};
use crate::log::{Completion, Entry, Epoch, Log, LogError};
use nervewire_core::store::{Append, AppendFailed, Partition, Position};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long fencing waits for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// A journal of its own, with everything in it.
pub struct JournalLog {
    journal: Journal,
    handle: Handle,
    completed: Arc<Mutex<Vec<Completion>>>,
    window: Window,
}

impl JournalLog {
    /// Opens a journal and starts it. No checkpoint runs: room is made by [`Log::truncate`].
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open(options: JournalOptions) -> Result<Self, OpenError> {
        let dir = options.dir.clone();
        let (journal, _) = Journal::open(options, &mut |_, _, _| {}, &mut |_| {})?;
        let completed: Arc<Mutex<Vec<Completion>>> = Arc::default();
        let heard = completed.clone();
        let sink = move |event| {
            if let StoreEvent::Completed(completions) = event {
                lock(&heard).extend(completions);
            }
        };
        let started = journal.start(vec![Arc::new(sink)]);
        started.map_err(|source| OpenError::io(&dir, source))?;
        Ok(Self {
            handle: journal.handle(0),
            journal,
            completed,
            window: Window::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn fail(&self, fault: super::fault::Fault) {
        self.shared().fault.set(fault);
        self.shared().queue.look();
    }

    fn shared(&self) -> &Shared {
        &self.journal.shared
    }

    fn entries(&self, segment: &Segment) -> io::Result<Vec<(Partition, Entry)>> {
        let file = self.shared().segments.open(segment.header.number)?;
        let mut bytes = vec![0; segment.end as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let mut entries = Vec::new();
        for piece in Scan::new(&bytes, &segment.header) {
            let Piece::Batch(at, batch) = piece else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            for (offset, frame, _) in batch.frames() {
                let Some(record) = frame.record().map_err(io::Error::other)? else {
                    continue;
                };
                let position = position(segment.header.number, (at + offset) as u64);
                let epoch = frame.epoch;
                entries.push((
                    frame.partition,
                    Entry {
                        position,
                        epoch,
                        record,
                    },
                ));
            }
        }
        Ok(entries)
    }

    fn not_truncated(&self, partition: Partition, position: Position) -> Result<(), LogError> {
        if position < self.shared().segments.floor(partition.0) {
            return Err(LogError::Truncated);
        }
        Ok(())
    }
}

impl Log for JournalLog {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        let (epoch, durable) = self.shared().queue.fence(partition)?;
        durable.recv_timeout(PATIENCE).map_err(|_| LogError::Doubtful)?;
        Ok(epoch)
    }

    fn append(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError> {
        self.handle.append_in(epoch, append)
    }

    fn completions(&mut self, into: &mut Vec<Completion>) {
        into.append(&mut lock(&self.completed));
    }

    fn trouble(&self) -> Option<AppendFailed> {
        self.shared().trouble.present()
    }

    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError> {
        self.not_truncated(partition, from)?;
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(segment) = self.shared().segments.next(next)
            && found.len() < most_records
        {
            let entries = self.entries(&segment).map_err(|_| LogError::Unreadable)?.into_iter();
            let wanted = entries.filter(|(of, entry)| *of == partition && entry.position >= from);
            found.extend(wanted.map(|(_, entry)| entry).take(most_records - found.len()));
            next = segment.header.number + 1;
        }
        Ok(found)
    }

    fn get(&mut self, partition: Partition, position: Position) -> Result<Entry, LogError> {
        self.not_truncated(partition, position)?;
        self.window.get(&self.journal.shared.segments, partition, position)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        let shared = self.shared();
        shared.queue.check(partition, epoch)?;
        let before = before.min(shared.segments.end());
        shared.segments.raise_floor(partition.0, before);
        checkpoint::delete_obsolete(shared);
        Ok(())
    }
}
