//! raft-engine: a partition is a raft group, a record one of its entries. Entries are protobuf messages and numbered without a gap.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine as Log, LogBatch, MessageExt, ReadableSize};

use crate::engine::Engine;
use crate::workload::{PARTITIONS, Record};

/// So many entries are read at once.
const READ_ENTRIES: u64 = 4_096;
const REWRITE_ENTRIES: usize = 1_000;

pub(crate) struct Raft {
    log: Log,
    reclaiming: Mutex<()>,
}

/// The index stands in the first eight bytes: the message has no field for it.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

fn entry(index: u64, bytes: &[u8]) -> BytesValue {
    let mut entry = BytesValue::new();
    entry.value = [&index.to_le_bytes(), bytes].concat();
    entry
}

impl Raft {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let log = Log::open(Config {
            dir: dir.to_str().context("a path in UTF-8")?.into(),
            target_file_size: ReadableSize::mb(64),
            purge_threshold: ReadableSize::mb(64),
            // The records do not compress.
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        })?;
        Ok(Self {
            log,
            reclaiming: Mutex::default(),
        })
    }

    /// The entries of a partition from `from` to before `to`.
    fn entries(&self, partition: u64, from: u64, to: u64) -> Result<Vec<BytesValue>> {
        let mut entries = Vec::new();
        self.log
            .fetch_entries_to::<Indexed>(partition, from, to, None, &mut entries)?;
        Ok(entries)
    }

    fn span(&self, partition: u64) -> Option<(u64, u64)> {
        Some((self.log.first_index(partition)?, self.log.last_index(partition)? + 1))
    }
}

impl Engine for Raft {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let mut by_partition = vec![Vec::new(); PARTITIONS as usize];
        for record in records {
            by_partition[record.partition as usize].push(entry(record.index, &record.bytes));
        }
        let mut batch = LogBatch::with_capacity(PARTITIONS as usize);
        for (partition, entries) in by_partition.iter().enumerate() {
            batch.add_entries::<Indexed>(partition as u64, entries)?;
        }
        self.log.write(&mut batch, true)?;
        Ok(())
    }

    fn replay(&self, each: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
        for partition in 0..PARTITIONS {
            let Some((first, end)) = self.span(partition) else {
                continue;
            };
            for from in (first..end).step_by(READ_ENTRIES as usize) {
                for entry in self.entries(partition, from, end.min(from + READ_ENTRIES))? {
                    each(partition as u8, &entry.value[8..]);
                }
            }
        }
        Ok(())
    }

    /// It forgets only the beginning of a group. What is live there has to be appended again first, as in any log.
    fn reclaim(&self, is_live: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let _one = self.reclaiming.lock().expect("no one panics");
        for partition in 0..PARTITIONS {
            let Some((first, end)) = self.span(partition) else {
                continue;
            };
            let mut next = end;
            for from in (first..end).step_by(READ_ENTRIES as usize) {
                let old = self.entries(partition, from, end.min(from + READ_ENTRIES))?;
                let live: Vec<_> = old
                    .iter()
                    .map(|entry| &entry.value[8..])
                    .filter(|bytes| is_live(bytes))
                    .collect();
                for some in live.chunks(REWRITE_ENTRIES) {
                    let again: Vec<_> = some
                        .iter()
                        .zip(next..)
                        .map(|(bytes, index)| entry(index, bytes))
                        .collect();
                    next += again.len() as u64;
                    let mut batch = LogBatch::default();
                    batch.add_entries::<Indexed>(partition, &again)?;
                    self.log.write(&mut batch, true)?;
                }
            }
            self.log.compact_to(partition, end);
        }
        self.log.sync()?;
        self.log.purge_expired_files()?;
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
