//! The thread that counts epochs, by which calls are ended. It counts while there may be a call, and sleeps when there was none for
//! longer than any may take: a broker with nothing to do does nothing.

use crate::error::HostError;
use crate::spec::MAX_CALL_MS;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use wasmtime::Engine;

/// An epoch: the unit of deadlines, in milliseconds.
pub(crate) const EPOCH_MS: u64 = 1;
/// Epochs without a new call after which the thread sleeps. No call takes longer than three times the longest deadline (one whose instance is
/// replaced first waits for its `init`, too), and whoever has announced one may be kept from beginning it.
const QUIET_EPOCHS: u64 = 4 * MAX_CALL_MS as u64 / EPOCH_MS;

/// Who calls and the thread that counts know of each other by this.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    /// Since the last epoch a call has begun.
    called: AtomicBool,
    asleep: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Epochs {
    /// A call begins; epochs are counted until it must have ended. To be said before its deadline is set.
    #[inline]
    pub(crate) fn call_begins(&self) {
        if !self.called.load(Ordering::Relaxed) {
            self.announce();
        }
    }

    /// Both this and [`Epochs::sleep`] write one flag and then read the other's, in one order for all: one of the two sees the other.
    fn announce(&self) {
        self.called.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while !self.called.load(Ordering::SeqCst) && !self.is_stopped() {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Counts until it is stopped, or until `count` says that there is nobody to count for.
    fn run(&self, quiet_epochs: u64, mut count: impl FnMut() -> bool) {
        let mut quiet = quiet_epochs;
        while !self.is_stopped() {
            if quiet >= quiet_epochs {
                self.sleep();
                quiet = 0;
            }
            self.wait_for_next();
            if !count() {
                return;
            }
            let called = self.called.swap(false, Ordering::SeqCst);
            quiet = if called { 0 } else { quiet + 1 };
        }
    }

    /// Not shorter where somebody woke it meanwhile: a call's deadline is so many whole epochs.
    fn wait_for_next(&self) {
        let due = Instant::now() + Duration::from_millis(EPOCH_MS);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_stopped() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The thread that advances the engine's epoch every [`EPOCH_MS`]; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    epochs: Arc<Epochs>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> Result<Self, HostError> {
        let engine = engine.weak();
        Self::counting(QUIET_EPOCHS, move || {
            let engine = engine.upgrade();
            engine.inspect(Engine::increment_epoch).is_some()
        })
    }

    fn counting(quiet_epochs: u64, count: impl FnMut() -> bool + Send + 'static) -> Result<Self, HostError> {
        let epochs = Arc::new(Epochs::default());
        let run = {
            let epochs = epochs.clone();
            move || epochs.run(quiet_epochs, count)
        };
        let thread = std::thread::Builder::new()
            .name("plugin-epochs".into())
            .spawn(run)
            .map_err(HostError::Ticker)?;
        // Before anybody can wake it: nobody else has them yet.
        epochs.thread.get_or_init(|| thread.thread().clone());
        Ok(Self {
            epochs,
            thread: Some(thread),
        })
    }

    pub(crate) fn epochs(&self) -> &Arc<Epochs> {
        &self.epochs
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.epochs.stopped.store(true, Ordering::SeqCst);
        self.epochs.wake();
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics, and there is nothing left to save if it did.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// A ticker that counts here, and sleeps after three epochs without a call.
    fn ticker() -> (Ticker, Arc<AtomicU64>) {
        let counted = Arc::new(AtomicU64::new(0));
        let count = {
            let counted = counted.clone();
            move || counted.fetch_add(1, Ordering::SeqCst) < u64::MAX
        };
        (Ticker::counting(3, count).unwrap(), counted)
    }

    fn wait_until_asleep(ticker: &Ticker) {
        while !ticker.epochs.asleep.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn epochs_are_counted_from_a_call_until_it_is_quiet() {
        let (ticker, counted) = ticker();
        wait_until_asleep(&ticker);
        assert_eq!(counted.load(Ordering::SeqCst), 0, "nobody has called yet");
        for _ in 0..3 {
            let before = counted.load(Ordering::SeqCst);
            ticker.epochs.call_begins();
            // One in which it was called, and three without: the thread may have slept in between.
            while counted.load(Ordering::SeqCst) < before + 4 {
                std::thread::yield_now();
            }
            wait_until_asleep(&ticker);
            assert_eq!(counted.load(Ordering::SeqCst), before + 4);
        }
    }

    #[test]
    fn no_call_is_missed_however_it_meets_the_thread_going_to_sleep() {
        let (ticker, counted) = ticker();
        for _ in 0..300 {
            let before = counted.load(Ordering::SeqCst);
            ticker.epochs.call_begins();
            while counted.load(Ordering::SeqCst) == before {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn the_thread_ends_with_its_owner_asleep_or_not() {
        for called in [false, true] {
            let (ticker, _) = ticker();
            let epochs = Arc::downgrade(ticker.epochs());
            if called {
                ticker.epochs.call_begins();
            } else {
                wait_until_asleep(&ticker);
            }
            drop(ticker);
            assert!(epochs.upgrade().is_none(), "the thread still holds its flags");
        }
    }
}
