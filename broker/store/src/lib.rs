//! Where records are kept: the log seam below `nervewire-core`'s store seam.
//!
//! A [`Log`] is one ordered log of records per partition; every medium (memory, a disk, a replicated log) is one and passes
//! [`contract::check`]. A [`Writer`] carries a shard's appends to it and tells what became of them, in order and without gaps.
//!
//! Settled here: the seam, its contract, [`MemoryLog`], and the way from an append to its outcome. The broker does not use it
//! yet: its only `durability` is `memory`, with which shards append nothing. The durability issue adds a medium on disk with
//! checksums and one fsync for all partitions (group commit), the index above the log, replay at start and after a failure, and
//! checkpoints that make room by [`Log::truncate`].

pub mod contract;
mod log;
mod memory;
mod writer;

pub use log::{Entry, Epoch, Log, LogError};
pub use memory::MemoryLog;
pub use nervewire_core::store::Position;
pub use writer::{Completion, Writer};
