//! The threads on which asynchronous plugins are called. They start with the first such plugin, and end with the host.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::runtime::{Builder, Handle, Runtime};

/// Calls wait for backends, not for processors: what they compute in between fits on two threads.
const THREADS: usize = 2;
/// Host names that are looked up at a time.
const MAX_LOOKUPS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct PoolRuntime(Mutex<Option<Runtime>>);

impl PoolRuntime {
    /// The runtime, started where it does not run yet.
    pub(crate) fn handle(&self) -> std::io::Result<Handle> {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*runtime {
            Some(runtime) => Ok(runtime.handle().clone()),
            None => Ok(runtime.insert(start()?).handle().clone()),
        }
    }
}

impl Drop for PoolRuntime {
    fn drop(&mut self) {
        let runtime = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            // Not by waiting: the last one to let go of the host may be one of these threads.
            runtime.shutdown_background();
        }
    }
}

fn start() -> std::io::Result<Runtime> {
    let started = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(MAX_LOOKUPS)
        .thread_name_fn(move || format!("plugin-http-{}", started.fetch_add(1, Ordering::Relaxed)))
        .enable_all()
        .build()
}
