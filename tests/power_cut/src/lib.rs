//! Preloaded into a process (LD_PRELOAD), this stands between it and the files of one directory. It keeps, in another
//! directory, what a power cut would leave: of each file the bytes that an fsync or fdatasync of the file covered, and of each
//! directory every change with the fsyncs of the directory that cover it. And it lets calls fail where a file says so.
//!
//! Environment: `POWER_CUT_DIR` is the directory, `POWER_CUT_RECORD` where to keep the record, `POWER_CUT_FAULTS` the file
//! that is read before each call (see [`faults`]). Without the first two it does nothing.
//!
//! It sees calls of the C library, which Rust's standard library makes. Raw system calls and mapped memory go past it: what
//! they write counts as never written, so a store that used them would fail the tests rather than pass them.

mod faults;
mod hooks;
mod record;

use record::Record;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

thread_local! {
    /// This thread is inside the library, whose own calls are not watched.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Watch {
    faults: Option<PathBuf>,
    record: Mutex<Record>,
}

static WATCH: LazyLock<Option<Watch>> = LazyLock::new(|| {
    let directory = PathBuf::from(std::env::var_os("POWER_CUT_DIR")?);
    let record = PathBuf::from(std::env::var_os("POWER_CUT_RECORD")?);
    Some(Watch {
        faults: std::env::var_os("POWER_CUT_FAULTS").map(PathBuf::from),
        record: Mutex::new(Record::begin(directory, record).expect("the directory can be read and the record written")),
    })
});

/// Run before `main`: what is there then is on the disk, and nothing else.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    watched(|_| Some(()));
}

impl Watch {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a hook does beside the call itself, with errno as the call left it; `None` where nothing is watched.
fn watched<T>(look: impl FnOnce(&Watch) -> Option<T>) -> Option<T> {
    if INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true) {
        return None;
    }
    // SAFETY: the pointer to this thread's errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    let answer = WATCH.as_ref().and_then(look);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    INSIDE.with(|inside| inside.set(false));
    answer
}
