//! Records as bytes: compact, written by hand, and read with every bound checked.
//!
//! A record is one byte that says which kind it is, and its fields in the order of their declaration. Numbers of more than a
//! byte are variable (LEB128), texts and blobs have their length before them, what may be absent has a byte before it. The format's
//! version stands in the header of the segment that holds the record.

mod decode;
mod encode;
mod message;
mod read;
mod write;

pub use decode::decode;
pub use encode::encode;
pub use read::Malformed;

/// The first byte of a record. The numbers are the format: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Session = 1,
    Gone = 2,
    Subscribed = 3,
    Unsubscribed = 4,
    Enqueued = 5,
    Acknowledged = 6,
    Received = 7,
    Routed = 8,
    Released = 9,
    Sent = 10,
    HandedOver = 11,
    Completed = 12,
    Retained = 13,
    RetainedDeleted = 14,
    /// A session with bounds of its own, which come before the fields of [`Kind::Session`].
    BoundedSession = 15,
    /// A retained message with the facts of who has published it, which come before the fields of [`Kind::Retained`].
    SourcedRetained = 16,
    Banned = 17,
    Lifted = 18,
}

/// The first byte of whom a ban concerns.
const SUBJECT_CLIENT_ID: u8 = 1;
const SUBJECT_USER: u8 = 2;
const SUBJECT_NETWORK: u8 = 3;

impl Kind {
    const ALL: [Self; 18] = [
        Self::Session,
        Self::Gone,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::Enqueued,
        Self::Acknowledged,
        Self::Received,
        Self::Routed,
        Self::Released,
        Self::Sent,
        Self::HandedOver,
        Self::Completed,
        Self::Retained,
        Self::RetainedDeleted,
        Self::BoundedSession,
        Self::SourcedRetained,
        Self::Banned,
        Self::Lifted,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}
