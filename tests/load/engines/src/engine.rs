//! What the store asks of a medium, as far as it costs something.

use std::path::Path;

use anyhow::{Result, bail};

use crate::workload::Record;

/// One log of 64 partitions. Both producers call it at the same time.
pub(crate) trait Engine: Send + Sync {
    /// Returns when all of these records are durable.
    fn commit(&self, records: &[Record]) -> Result<()>;

    /// Every record, in the order of its partition.
    fn replay(&self, each: &mut dyn FnMut(u8, &[u8])) -> Result<()>;

    /// Gives the space of the dead records back, which are spread over the whole log.
    fn reclaim(&self, is_live: &dyn Fn(&[u8]) -> bool) -> Result<()>;

    /// Ends what goes on in the background, so that it is in the figures of this engine.
    fn settle(&self) -> Result<()>;
}

/// The engines by name, in the order of the table.
pub(crate) const ENGINES: [&str; 4] = ["write + fdatasync", "segmented log", "raft-engine", "fjall"];

pub(crate) fn open(name: &str, dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(match name {
        "write + fdatasync" => Box::new(crate::bare::Bare::open(dir)?),
        "segmented log" => Box::new(crate::segmented::Segmented::open(dir)?),
        "raft-engine" => Box::new(crate::raft::Raft::open(dir)?),
        "fjall" => Box::new(crate::fjall::Fjall::open(dir)?),
        _ => bail!("{name} is no engine"),
    })
}
