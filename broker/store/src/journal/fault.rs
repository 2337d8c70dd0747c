//! Disks that fail, for tests.

use super::files::Writing;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// What the disk does with the next writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    None,
    /// Nothing is written.
    Write,
    /// Half of it is.
    Half,
    /// All of it is, but nobody says that it is durable.
    Sync,
}

#[derive(Debug, Default)]
pub(super) struct Switch(AtomicU8);

impl Switch {
    pub(super) fn set(&self, fault: Fault) {
        self.0.store(fault as u8, Ordering::SeqCst);
    }

    pub(super) fn before_write(&self, segment: &Writing, batch: &[u8]) -> io::Result<()> {
        if self.is(Fault::Half) {
            segment.write(&batch[..batch.len() / 2])?;
        }
        self.fail_if(self.is(Fault::Write) || self.is(Fault::Half))
    }

    pub(super) fn before_sync(&self) -> io::Result<()> {
        self.fail_if(self.is(Fault::Sync))
    }

    fn is(&self, fault: Fault) -> bool {
        self.0.load(Ordering::SeqCst) == fault as u8
    }

    fn fail_if(&self, fails: bool) -> io::Result<()> {
        if fails {
            Err(io::Error::other("a test has it fail"))
        } else {
            Ok(())
        }
    }
}
