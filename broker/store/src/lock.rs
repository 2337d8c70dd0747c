//! One process per journal.

use crate::journal::OpenError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Held until it is dropped, and by nobody when the process has ended in whatever way.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] File);

impl Lock {
    /// Makes the directory where there is none, and takes its lock.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        make_dir(dir).map_err(|source| OpenError::io(dir, source))?;
        let path = dir.join("lock");
        let file = File::create(&path).map_err(|source| OpenError::io(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.into() }),
            Err(TryLockError::Error(source)) => Err(OpenError::io(&path, source)),
        }
    }
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
