//! A token bucket of many connections.

use nervewire_core::rate::{Pace, SharedRate};
use nervewire_core::time::Millis;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A token bucket of several connections, on whatever shards.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    full_at_ns: AtomicU64,
    /// A [`Pace`].
    pace: AtomicU32,
}

impl SharedBucket {
    /// Full, with so many tokens, at most a billion; 0: no bound.
    pub(crate) fn new(tokens_per_s: u32) -> Self {
        Self {
            full_at_ns: AtomicU64::new(0),
            pace: AtomicU32::new(Pace::per_second(tokens_per_s).to_bits()),
        }
    }

    /// Another rate from now on.
    pub(crate) fn set_rate(&self, tokens_per_s: u32) {
        let pace = Pace::per_second(tokens_per_s);
        self.pace.store(pace.to_bits(), Ordering::Relaxed);
    }

    /// Takes one token unless that would leave a debt; whether it did.
    pub(crate) fn try_take(&self, now: Millis) -> bool {
        let pace = self.pace();
        let fits =
            |full_at_ns| Some(pace.take(full_at_ns, now, 1)).filter(|after| Pace::paid_at(*after, now).is_none());
        pace.is_unbounded() || self.update(fits).is_ok()
    }

    /// Whether nothing would be lost if it were forgotten.
    pub(crate) fn is_full(&self, now: Millis) -> bool {
        Pace::is_full(self.full_at_ns.load(Ordering::Relaxed), now)
    }

    fn pace(&self) -> Pace {
        Pace::from_bits(self.pace.load(Ordering::Relaxed))
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
    }
}

impl SharedRate for SharedBucket {
    fn take(&self, now: Millis, tokens: u64) -> Option<Millis> {
        let pace = self.pace();
        if pace.is_unbounded() {
            return None;
        }
        let taken = self.update(|full_at_ns| Some(pace.take(full_at_ns, now, tokens)));
        let (Ok(before) | Err(before)) = taken; // It always is.
        Pace::paid_at(pace.take(before, now, tokens), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_bucket_lets_its_burst_through_and_then_asks_to_wait_for_the_debt() {
        let bucket = SharedBucket::new(10);
        for _ in 0..10 {
            assert_eq!(bucket.take(0, 1), None);
        }
        assert!(!bucket.is_full(0));
        assert_eq!(bucket.take(0, 1), Some(100));
        assert_eq!(bucket.take(100, 1), Some(200));
        assert_eq!(bucket.take(1_100, 1), None);
        assert!(bucket.is_full(10_000));
    }

    #[test]
    fn what_is_refused_costs_no_token() {
        let bucket = SharedBucket::new(2);
        assert!(bucket.try_take(0) && bucket.try_take(0));
        for _ in 0..100 {
            assert!(!bucket.try_take(0));
        }
        assert!(bucket.try_take(500) && !bucket.try_take(500));
    }

    #[test]
    fn a_shared_bucket_without_rate_has_no_bound() {
        let bucket = SharedBucket::new(0);
        assert!(bucket.try_take(0));
        assert_eq!(bucket.take(0, u64::MAX), None);
        bucket.set_rate(1);
        assert_eq!(bucket.take(0, 2), Some(1_000));
    }
}
