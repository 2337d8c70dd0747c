//! Rates, of one client and shared by several, and failures that are forgotten with time. Nothing here reads a clock.

use crate::time::Millis;

const MINUTE_MS: u64 = 60_000;
const SECOND_NS: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// How fast a token bucket fills. All that a bucket keeps beside it is the moment when it is full again, in nanoseconds. It holds
/// what comes back within a second, and may go into debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds until a token is back; 0: no bound.
    token_ns: u32,
}

impl Pace {
    /// So many tokens, at most a billion; 0: no bound.
    pub fn per_second(tokens: u32) -> Self {
        let token_ns = SECOND_NS.checked_div(u64::from(tokens)).unwrap_or(0);
        Self {
            token_ns: token_ns as u32, // At most a second.
        }
    }

    /// Whether it bounds nothing.
    pub fn is_unbounded(self) -> bool {
        self.token_ns == 0
    }

    /// When a bucket is full again, after so many tokens were taken.
    pub fn take(self, full_at_ns: u64, now: Millis, tokens: u64) -> u64 {
        let taken_ns = tokens.saturating_mul(u64::from(self.token_ns));
        full_at_ns.max(now.saturating_mul(NS_PER_MS)).saturating_add(taken_ns)
    }

    /// When the debt of a bucket is paid; `None`: it has none.
    pub fn paid_at(full_at_ns: u64, now: Millis) -> Option<Millis> {
        let paid_at_ns = full_at_ns - SECOND_NS.min(full_at_ns);
        (paid_at_ns > now.saturating_mul(NS_PER_MS)).then(|| paid_at_ns.div_ceil(NS_PER_MS))
    }

    /// Whether a bucket is full.
    pub fn is_full(full_at_ns: u64, now: Millis) -> bool {
        full_at_ns <= now.saturating_mul(NS_PER_MS)
    }

    /// As a number, for those who keep it in an atomic.
    pub fn to_bits(self) -> u32 {
        self.token_ns
    }

    /// From [`Pace::to_bits`].
    pub fn from_bits(token_ns: u32) -> Self {
        Self { token_ns }
    }
}

/// A rate that several connections share, on whatever shards they are. The driver has it, because it is changed by many threads.
pub trait SharedRate: std::fmt::Debug + Send + Sync {
    /// Takes tokens; where that leaves a debt, answers when it is paid.
    fn take(&self, now: Millis, tokens: u64) -> Option<Millis>;
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
