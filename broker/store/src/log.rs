//! The log seam: what the owner of partitions may ask of the medium that keeps their records.

use nervewire_core::store::{Append, AppendFailed, Partition, Position, Record, Ticket};
use smallvec::SmallVec;

/// A term of one owner of a partition. Each fencing begins a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A record as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it is.
    pub position: Position,
    /// The term in which it was appended.
    pub epoch: Epoch,
    /// What it says.
    pub record: Record,
}

/// An append is durable: hand it to [`Shard::stored`](nervewire_core::shard::Shard::stored).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Of the append.
    pub ticket: Ticket,
    /// Where its records are, in their order.
    pub positions: SmallVec<[Position; 1]>,
}

/// Why a log did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The epoch is not the partition's present one. Nothing was done.
    #[error("the partition belongs to another owner")]
    StaleOwner,
    /// Whether everything that was appended before is durable could not be found out in time. The partition has a new owner all the
    /// same.
    #[error("whether it was done is not known")]
    Doubtful,
    /// What was to be read has been truncated.
    #[error("truncated")]
    Truncated,
    /// There is no record at that position, or none that can be read.
    #[error("no record can be read there")]
    Unreadable,
}

/// One ordered log of records per partition, as one owner of partitions sees it. A partition that was never fenced is empty and
/// belongs to nobody.
///
/// What was appended is never forgotten while the process lives: it completes sooner or later, in the order of the appends of this
/// owner, each exactly once, and never with a gap. While nothing completes, [`Log::trouble`] says why.
pub trait Log {
    /// Makes the caller the owner of a partition: every earlier epoch is refused from now on, and what was appended in one is
    /// durable when this returns.
    ///
    /// # Errors
    /// [`LogError::Doubtful`] where it is not durable within the medium's patience.
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError>;

    /// Appends all records or none, after everything appended before.
    ///
    /// # Errors
    /// [`LogError::StaleOwner`]; nothing else keeps it from completing.
    fn append(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError>;

    /// Takes what has completed since it was last asked.
    fn completions(&mut self, into: &mut Vec<Completion>);

    /// Why nothing completes at present, or why nothing more should be appended.
    fn trouble(&self) -> Option<AppendFailed>;

    /// At most so many durable records at and behind a position, in order.
    ///
    /// # Errors
    /// [`LogError::Truncated`] and [`LogError::Unreadable`].
    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError>;

    /// The record at a position that a completion named.
    ///
    /// # Errors
    /// [`LogError::Truncated`] and [`LogError::Unreadable`].
    fn get(&mut self, partition: Partition, position: Position) -> Result<Entry, LogError>;

    /// Forgets the records before a position. Positions stay as they were, and room comes back at the medium's pace.
    ///
    /// # Errors
    /// [`LogError::StaleOwner`].
    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError>;
}
