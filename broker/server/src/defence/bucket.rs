//! A token bucket of many connections.

use nervewire_core::rate::SharedRate;
use nervewire_core::time::Millis;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// A token bucket of several connections, on whatever shards: all that is kept is when it will be full again. It holds what
/// comes back within a second, and may go into debt.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    full_at_ns: AtomicU64,
    /// Nanoseconds until a token is back; 0: no bound.
    token_ns: AtomicU32,
}

impl SharedBucket {
    /// Full, with so many tokens, at most a billion; 0: no bound.
    pub(crate) fn new(tokens_per_s: u32) -> Self {
        let bucket = Self {
            full_at_ns: AtomicU64::new(0),
            token_ns: AtomicU32::new(0),
        };
        bucket.set_rate(tokens_per_s);
        bucket
    }

    /// Another rate from now on.
    pub(crate) fn set_rate(&self, tokens_per_s: u32) {
        let token_ns = SECOND_NS.checked_div(u64::from(tokens_per_s)).unwrap_or(0);
        self.token_ns.store(token_ns as u32, Ordering::Relaxed); // At most a second.
    }

    /// Takes one token unless that would leave a debt; whether it did.
    pub(crate) fn try_take(&self, now: Millis) -> bool {
        let token_ns = u64::from(self.token_ns.load(Ordering::Relaxed));
        if token_ns == 0 {
            return true;
        }
        let now_ns = now.saturating_mul(NS_PER_MS);
        let after = |full_at_ns: u64| full_at_ns.max(now_ns).saturating_add(token_ns);
        let fits = |full_at_ns: u64| Some(after(full_at_ns)).filter(|after| *after <= now_ns.saturating_add(SECOND_NS));
        self.full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    /// Whether nothing would be lost if it were forgotten.
    pub(crate) fn is_full(&self, now: Millis) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= now.saturating_mul(NS_PER_MS)
    }
}

impl SharedRate for SharedBucket {
    fn take(&self, now: Millis, tokens: u64) -> Option<Millis> {
        let token_ns = u64::from(self.token_ns.load(Ordering::Relaxed));
        if token_ns == 0 {
            return None;
        }
        let now_ns = now.saturating_mul(NS_PER_MS);
        let taken_ns = tokens.saturating_mul(token_ns);
        let after = |full_at_ns: u64| full_at_ns.max(now_ns).saturating_add(taken_ns);
        let taken = self
            .full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
                Some(after(full_at_ns))
            });
        let full_at_ns = taken.map_or(now_ns, after);
        let paid_at_ns = full_at_ns - SECOND_NS.min(full_at_ns);
        (paid_at_ns > now_ns).then(|| paid_at_ns.div_ceil(NS_PER_MS))
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
