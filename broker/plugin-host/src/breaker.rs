//! The breaker: a plugin that keeps failing is left alone for a while, then probed. Time is passed in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Failures within [`FAILURE_WINDOW_MS`] that open the breaker.
pub const FAILURES_TO_OPEN: usize = 5;
/// How long a failure counts, in milliseconds.
pub const FAILURE_WINDOW_MS: u64 = 10_000;
/// How long the breaker stays open the first time, in milliseconds; doubled by each probe that fails.
pub const FIRST_OPEN_MS: u64 = 1_000;
/// The longest time that the breaker stays open, in milliseconds.
pub const MAX_OPEN_MS: u64 = 30_000;

/// What becomes of a call that wants to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Make it.
    Pass,
    /// Make it: it is the one that decides whether the breaker closes.
    Probe,
    /// Do not make it.
    Refuse,
}

/// What the breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// One call is out to see whether the plugin works again; others are refused.
    HalfOpen,
}

/// The state machine.
#[derive(Debug)]
pub struct Breaker {
    state: BreakerState,
    /// When the breaker may be probed, while open; when the probe is given up, while half open.
    until_ms: u64,
    open_ms: u64,
    /// Times of the latest failures, a ring; `None`: not that many yet.
    failures: [Option<u64>; FAILURES_TO_OPEN],
    next: usize,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: BreakerState::Closed,
            until_ms: 0,
            open_ms: FIRST_OPEN_MS,
            failures: [None; FAILURES_TO_OPEN],
            next: 0,
        }
    }
}

impl Breaker {
    /// What it is doing.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a call may be made at `now_ms`. A [`Admission::Probe`] must be answered by [`Breaker::success`] or
    /// [`Breaker::failure`]; one that never is makes room for another after [`MAX_OPEN_MS`].
    pub fn admit(&mut self, now_ms: u64) -> Admission {
        if self.state == BreakerState::Closed {
            return Admission::Pass;
        }
        if now_ms < self.until_ms {
            return Admission::Refuse;
        }
        self.state = BreakerState::HalfOpen;
        self.until_ms = now_ms.saturating_add(MAX_OPEN_MS);
        Admission::Probe
    }

    /// A call that was admitted as `admission` succeeded. Late successes of calls made before it opened change nothing.
    pub fn success(&mut self, admission: Admission) {
        if admission == Admission::Probe {
            *self = Self::default();
        }
    }

    /// A call that was admitted as `admission` failed.
    pub fn failure(&mut self, admission: Admission, now_ms: u64) {
        match (self.state, admission) {
            (BreakerState::HalfOpen, Admission::Probe) => {
                self.open(now_ms, self.open_ms.saturating_mul(2).min(MAX_OPEN_MS))
            }
            (BreakerState::Closed, Admission::Pass) => self.count(now_ms),
            _ => {}
        }
    }

    fn count(&mut self, now_ms: u64) {
        self.failures[self.next] = Some(now_ms);
        self.next = (self.next + 1) % FAILURES_TO_OPEN;
        // The slot to be written next holds the oldest of the latest five.
        if self.failures[self.next].is_some_and(|oldest| now_ms.saturating_sub(oldest) <= FAILURE_WINDOW_MS) {
            self.open(now_ms, FIRST_OPEN_MS);
        }
    }

    fn open(&mut self, now_ms: u64, open_ms: u64) {
        self.state = BreakerState::Open;
        self.open_ms = open_ms;
        self.until_ms = now_ms.saturating_add(open_ms);
        self.failures = [None; FAILURES_TO_OPEN];
    }
}

/// One breaker for the instances of all threads. While it is closed a call reads one shared flag and writes nothing.
#[derive(Debug, Default)]
pub(crate) struct SharedBreaker {
    tripped: AtomicBool,
    breaker: Mutex<Breaker>,
}

impl SharedBreaker {
    pub(crate) fn is_closed(&self) -> bool {
        !self.tripped.load(Ordering::Acquire)
    }

    /// `now_ms` is called only where the time matters.
    pub(crate) fn admit(&self, now_ms: impl FnOnce() -> u64) -> Admission {
        if self.is_closed() {
            return Admission::Pass;
        }
        self.lock().admit(now_ms())
    }

    pub(crate) fn success(&self, admission: Admission) {
        if admission == Admission::Probe {
            self.update(|breaker| breaker.success(admission));
        }
    }

    pub(crate) fn failure(&self, admission: Admission, now_ms: u64) {
        self.update(|breaker| breaker.failure(admission, now_ms));
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.lock().state()
    }

    fn update(&self, change: impl FnOnce(&mut Breaker)) {
        let mut breaker = self.lock();
        change(&mut breaker);
        self.tripped
            .store(breaker.state() != BreakerState::Closed, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Admission::{Pass, Probe, Refuse};

    /// One step of a story: at this time this happens.
    #[derive(Debug)]
    enum Step {
        Admit(u64, Admission),
        Success(Admission),
        Fail(u64, Admission),
        State(BreakerState),
    }
    use Step::{Admit, Fail, State, Success};

    fn check(story: &[Step]) {
        let mut breaker = Breaker::default();
        for (index, step) in story.iter().enumerate() {
            match *step {
                Admit(at, expected) => assert_eq!(breaker.admit(at), expected, "step {index}: {step:?}"),
                Success(admission) => breaker.success(admission),
                Fail(at, admission) => breaker.failure(admission, at),
                State(expected) => assert_eq!(breaker.state(), expected, "step {index}"),
            }
        }
    }

    fn opened_at(at: u64) -> Vec<Step> {
        (0..5).map(|_| Fail(at, Pass)).collect()
    }

    #[test]
    fn four_failures_do_not_open_it() {
        check(&[
            Fail(0, Pass),
            Fail(1, Pass),
            Fail(2, Pass),
            Fail(3, Pass),
            Admit(4, Pass),
            State(BreakerState::Closed),
        ]);
    }

    #[test]
    fn five_failures_within_ten_seconds_open_it() {
        let mut story = vec![
            Fail(0, Pass),
            Fail(2_500, Pass),
            Fail(5_000, Pass),
            Fail(7_500, Pass),
            Admit(9_999, Pass),
        ];
        story.extend([Fail(10_000, Pass), State(BreakerState::Open), Admit(10_001, Refuse)]);
        check(&story);
    }

    #[test]
    fn five_failures_over_a_longer_time_do_not() {
        let mut story: Vec<Step> = (0..50).map(|n| Fail(n * 2_501, Pass)).collect();
        story.push(State(BreakerState::Closed));
        check(&story);
    }

    #[test]
    fn after_a_second_exactly_one_probe_passes() {
        let mut story = opened_at(100);
        story.extend([
            Admit(1_099, Refuse),
            Admit(1_100, Probe),
            Admit(1_101, Refuse),
            State(BreakerState::HalfOpen),
        ]);
        check(&story);
    }

    #[test]
    fn a_probe_that_succeeds_closes_it_and_forgets_the_failures() {
        let mut story = opened_at(0);
        story.extend([
            Admit(1_000, Probe),
            Success(Probe),
            Admit(1_001, Pass),
            Fail(1_002, Pass),
            Admit(1_003, Pass),
        ]);
        story.push(State(BreakerState::Closed));
        check(&story);
    }

    #[test]
    fn probes_that_fail_double_the_wait_up_to_thirty_seconds() {
        let mut story = opened_at(0);
        let mut at = 1_000;
        for wait in [2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            story.extend([Admit(at, Probe), Fail(at, Probe), Admit(at + wait - 1, Refuse)]);
            at += wait;
        }
        story.extend([Admit(at, Probe), Success(Probe)]);
        story.extend(opened_at(at));
        story.extend([Admit(at + 999, Refuse), Admit(at + 1_000, Probe)]);
        check(&story);
    }

    #[test]
    fn late_answers_of_calls_made_before_it_opened_change_nothing() {
        let mut story = opened_at(0);
        story.extend([
            Success(Pass),
            State(BreakerState::Open),
            Fail(500, Pass),
            Admit(999, Refuse),
            Admit(1_000, Probe),
        ]);
        story.extend([Fail(1_001, Pass), Success(Pass), State(BreakerState::HalfOpen)]);
        check(&story);
    }

    #[test]
    fn a_probe_that_never_answers_makes_room_for_another() {
        let mut story = opened_at(0);
        story.extend([Admit(1_000, Probe), Admit(30_999, Refuse), Admit(31_000, Probe)]);
        check(&story);
    }

    #[test]
    fn the_shared_breaker_reads_the_time_only_when_tripped() {
        let shared = SharedBreaker::default();
        assert_eq!(shared.admit(|| panic!("not needed")), Pass);
        (0..5).for_each(|_| shared.failure(Pass, 0));
        assert_eq!(shared.admit(|| 999), Refuse);
        assert_eq!(shared.admit(|| 1_000), Probe);
        shared.success(Probe);
        assert_eq!(shared.state(), BreakerState::Closed);
        assert_eq!(shared.admit(|| panic!("not needed")), Pass);
    }
}
