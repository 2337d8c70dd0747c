//! What a plugin under test writes into its log: kept, and shown where it explains something.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes kept between two looks at it.
const MAX_SAID_BYTES: usize = 64 * 1024;

/// The log of this process. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Takes the log of this process over. `NERVEWIRE_LOG` filters it as that of a broker.
    pub(crate) fn listen() -> Self {
        let said = Self::default();
        let filter = EnvFilter::try_from_env("NERVEWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("plugin=debug,off"));
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(said.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        // Only where this process has a log already, and then its lines go there.
        let _ = tracing::subscriber::set_global_default(log.finish());
        said
    }

    /// The lines since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.lock());
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Said {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Said {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = self.lock();
        if kept.len() + line.len() <= MAX_SAID_BYTES {
            kept.extend_from_slice(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
