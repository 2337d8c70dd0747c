//! Where records are kept: the log seam below `nervewire-core`'s store seam.
//!
//! A [`Log`] is one ordered log of records per partition; every medium (memory, a disk, a replicated log) is one and passes
//! [`contract::check`]. The medium of the broker is the [`Journal`]: segment files, one sync for everything that all shards have
//! waiting, and events for what has become of it. Nothing here knows what records mean: which of them are still true, the shards say
//! when a checkpoint asks them.

pub mod contract;
mod fail_point;
mod format;
mod journal;
mod lock;
mod log;
mod memory;
pub mod record;

pub use journal::{
    COMMIT_SECONDS, Counters, Handle, Journal, JournalLog, JournalOptions, OpenError, Progress, Recovery, Repaired,
    Sink, StoreEvent, SyncPolicy,
};
pub use log::{Completion, Entry, Epoch, Log, LogError};
pub use memory::MemoryLog;
