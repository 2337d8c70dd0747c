//! fjall: one keyspace, the key is the partition and the place in it, so that a partition lies together and in order.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engine::Engine;
use crate::workload::Record;

const REMOVE_BATCH: usize = 10_000;

pub(crate) struct Fjall {
    database: Database,
    records: Keyspace,
}

impl Fjall {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir).open()?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
        Ok(Self { database, records })
    }
}

fn key(record: &Record) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = record.partition;
    key[1..].copy_from_slice(&record.index.to_be_bytes());
    key
}

impl Engine for Fjall {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for record in records {
            batch.insert(&self.records, key(record), record.bytes.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn replay(&self, each: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
        for entry in self.records.iter() {
            let (key, bytes) = entry.into_inner()?;
            each(key[0], &bytes);
        }
        Ok(())
    }

    fn reclaim(&self, is_live: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let mut dead = Vec::new();
        for entry in self.records.iter() {
            let (key, bytes) = entry.into_inner()?;
            if !is_live(&bytes) {
                dead.push(key);
            }
        }
        for some in dead.chunks(REMOVE_BATCH) {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
            for key in some {
                batch.remove(&self.records, key.clone());
            }
            batch.commit()?;
        }
        self.records.rotate_memtable_and_wait()?;
        Ok(self.records.major_compact()?)
    }

    /// What is only in the journal and in memory is also written into tables sooner or later.
    fn settle(&self) -> Result<()> {
        self.records.rotate_memtable_and_wait()?;
        while self.database.outstanding_flushes() > 0 || self.database.active_compactions() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }
}
