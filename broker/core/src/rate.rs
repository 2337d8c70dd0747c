//! Rates that several clients share, and failures that are forgotten with time. Nothing here reads a clock.

use crate::time::Millis;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
const MINUTE_MS: u64 = 60_000;

/// A token bucket of several connections, on whatever shards: all that is kept is when it will be full again. It holds what
/// comes back within a second, and may go into debt.
#[derive(Debug)]
pub struct SharedBucket {
    full_at_ns: AtomicU64,
    /// Nanoseconds until a token is back; 0: no bound.
    token_ns: AtomicU32,
}

impl SharedBucket {
    /// Full, with so many tokens, at most a billion; 0: no bound.
    pub fn new(tokens_per_s: u32) -> Self {
        let bucket = Self {
            full_at_ns: AtomicU64::new(0),
            token_ns: AtomicU32::new(0),
        };
        bucket.set_rate(tokens_per_s);
        bucket
    }

    /// Another rate from now on.
    pub fn set_rate(&self, tokens_per_s: u32) {
        let token_ns = SECOND_NS.checked_div(u64::from(tokens_per_s)).unwrap_or(0);
        self.token_ns.store(token_ns as u32, Ordering::Relaxed); // At most a second.
    }

    /// Takes tokens; where that leaves a debt, answers when it is paid.
    pub fn take(&self, now: Millis, tokens: u64) -> Option<Millis> {
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

    /// Takes one token unless that would leave a debt; whether it did.
    pub fn try_take(&self, now: Millis) -> bool {
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
    pub fn is_full(&self, now: Millis) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= now.saturating_mul(NS_PER_MS)
    }
}

/// Things that count until they are forgotten, one after the other, at a fixed pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leak {
    /// Sixty-thousandths of one, as of `at`.
    level: u64,
    at: Millis,
}

impl Leak {
    /// One more, where so many are forgotten in a minute; answers how many count now.
    pub fn add(&mut self, now: Millis, forgotten_per_minute: u32) -> u64 {
        self.settle(now, forgotten_per_minute);
        self.level = self.level.saturating_add(MINUTE_MS);
        self.level.div_ceil(MINUTE_MS)
    }

    /// How many count now.
    pub fn count(&self, now: Millis, forgotten_per_minute: u32) -> u64 {
        let mut later = *self;
        later.settle(now, forgotten_per_minute);
        later.level.div_ceil(MINUTE_MS)
    }

    /// Milliseconds until no more than so many count.
    pub fn ms_until(&self, now: Millis, forgotten_per_minute: u32, count: u64) -> u64 {
        let mut later = *self;
        later.settle(now, forgotten_per_minute);
        let too_much = later.level.saturating_sub(count.saturating_mul(MINUTE_MS));
        too_much.div_ceil(u64::from(forgotten_per_minute.max(1)))
    }

    fn settle(&mut self, now: Millis, forgotten_per_minute: u32) {
        let forgotten = now
            .saturating_sub(self.at)
            .saturating_mul(u64::from(forgotten_per_minute));
        self.level = self.level.saturating_sub(forgotten);
        self.at = self.at.max(now);
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

    #[test]
    fn failures_are_forgotten_one_after_the_other() {
        let mut failures = Leak::default();
        for count in 1..=10 {
            assert_eq!(failures.add(1_000, 60), count);
        }
        assert_eq!(failures.ms_until(1_000, 60, 8), 2_000);
        assert_eq!(failures.count(2_000, 60), 9);
        assert_eq!(failures.count(11_000, 60), 0);
        assert_eq!(failures.add(60_000, 60), 1);
        assert_eq!(failures.count(500, 60), 1, "a clock that goes back forgets nothing");
    }
}
