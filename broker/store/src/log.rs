//! The log seam.

use nervewire_core::store::{AppendFailed, Partition, Position, Record};

/// A term of one owner of a partition. Each fencing begins a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Why a log did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The epoch is not the partition's present one. Nothing was done.
    #[error("the partition belongs to another owner")]
    StaleOwner,
    /// The records would exceed the log's bound. Nothing was done; truncation makes room.
    #[error("the log has reached its bound of {most_bytes} bytes")]
    Full {
        /// The bound.
        most_bytes: u64,
    },
    /// It may have been done. Only fencing and reading the tail tell; until then the log refuses the epoch.
    #[error("whether it was done is not known")]
    Doubtful,
    /// What was to be read has been truncated.
    #[error("truncated before position {}", first.0)]
    Truncated {
        /// The first position that is left.
        first: Position,
    },
}

/// One ordered log of records per partition. A partition that was never fenced is empty and belongs to nobody.
pub trait Log {
    /// Makes the caller the owner of a partition: every earlier epoch is refused from now on, and what was appended in one is
    /// either durable when this returns or never will be.
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError>;

    /// Appends all records or none, after everything appended before; answers the position behind the last. They are durable
    /// when [`Log::durable`] has reached it.
    fn append(&mut self, partition: Partition, epoch: Epoch, records: Vec<Record>) -> Result<Position, LogError>;

    /// Up to where a partition is durable: never with gaps, and never less than it was.
    fn durable(&mut self, partition: Partition) -> Result<Position, LogError>;

    /// At most so many durable records from a position on, in order.
    fn read(&mut self, partition: Partition, from: Position, most_records: usize) -> Result<Vec<Entry>, LogError>;

    /// Forgets the records before a position; one beyond what is durable counts as that. Positions stay as they were.
    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError>;
}

impl From<LogError> for AppendFailed {
    fn from(error: LogError) -> Self {
        match error {
            LogError::StaleOwner => Self::StaleOwner,
            LogError::Full { .. } => Self::Full,
            LogError::Doubtful | LogError::Truncated { .. } => Self::Doubtful,
        }
    }
}
