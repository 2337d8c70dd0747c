//! The log: standard error, written by a thread of its own, so that whoever reads it too slowly delays no shard.

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait for the reader of standard error; above, lines are dropped and counted.
const LOG_LINES: usize = 32_768;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts the log; what waits is written when the guard is dropped.
///
/// Readable on a terminal, one JSON object per line with `NERVEWIRE_LOG_FORMAT=json`. `NERVEWIRE_LOG` takes a level or a
/// filter, as `info,plugin=debug`.
pub(crate) fn start() -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let _ = DROPPED.set(writer.error_counter()); // Set once, at start.
    let filter = EnvFilter::try_from_env("NERVEWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match std::env::var("NERVEWIRE_LOG_FORMAT").as_deref() {
        Ok("json") => builder.json().init(),
        _ => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    guard
}

/// Lines dropped since the start.
pub(crate) fn lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}
