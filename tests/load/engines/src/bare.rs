//! The floor: the bytes as they are, a write and an fdatasync per commit, one after the other, in a file whose length is set
//! before. It cannot be read or reclaimed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Result, bail};

use crate::engine::Engine;
use crate::workload::Record;

/// More than is ever written, and a hole.
const FILE_BYTES: u64 = 64 << 30;

pub(crate) struct Bare {
    file: File,
    written: Mutex<u64>,
}

impl Bare {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let file = File::create_new(dir.join("bare"))?;
        file.set_len(FILE_BYTES)?;
        Ok(Self {
            file,
            written: Mutex::default(),
        })
    }
}

impl Engine for Bare {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let bytes = records
            .iter()
            .flat_map(|record| &record.bytes)
            .copied()
            .collect::<Vec<_>>();
        let mut written = self.written.lock().expect("no producer panics");
        self.file.write_all_at(&bytes, *written)?;
        *written += bytes.len() as u64;
        Ok(self.file.sync_data()?)
    }

    fn replay(&self, _: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
        bail!("it knows no records")
    }

    fn reclaim(&self, _: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        bail!("it knows no records")
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
