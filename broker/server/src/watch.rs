//! Notices that the configuration or a file it names has changed.
//!
//! Polled, not notified: that works for editors that write in place, for renames, for network file systems, and for the
//! symlinks by which Kubernetes swaps a ConfigMap.

use crate::supervisor::Supervisor;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

/// Time between two looks; a change counts when two looks agree, so it is noticed within two seconds.
const POLL: Duration = Duration::from_millis(500);

/// What tells one state of the files from another. `None`: the file cannot be read.
pub(crate) type State = BTreeMap<PathBuf, Option<Stamp>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    modified_ns: i128,
    bytes: u64,
}

/// Reloads whenever the watched files have changed, looks after the plugins of the last reload, and sums up what the log was not
/// told one by one, until the supervisor is gone.
pub(crate) fn run(supervisor: &Weak<Supervisor>) {
    let Some(mut seen) = look(supervisor) else { return };
    let mut before = seen.clone();
    loop {
        std::thread::sleep(POLL);
        let Some(now) = look(supervisor) else { return };
        // Read once stable: a file that is still being written differs from one look to the next.
        if now != seen && now == before {
            let Some(supervisor) = supervisor.upgrade() else { return };
            supervisor.reload_if_changed(); // It has logged why not; the next change is tried again.
            seen = now.clone();
        }
        before = now;
        let Some(supervisor) = supervisor.upgrade() else { return };
        supervisor.judge_probation();
        supervisor.remind();
        let shared = supervisor.shared();
        shared.told.sum_up(shared.clock.now());
    }
}

fn look(supervisor: &Weak<Supervisor>) -> Option<State> {
    Some(stamps(supervisor.upgrade()?.watched_files()))
}

/// The state of these files at this moment.
pub(crate) fn stamps(files: impl IntoIterator<Item = PathBuf>) -> State {
    files.into_iter().map(|file| (file.clone(), stamp(&file))).collect()
}

fn stamp(file: &PathBuf) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        bytes: metadata.size(),
    })
}
