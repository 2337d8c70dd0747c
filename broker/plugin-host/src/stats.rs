//! What is counted about a plugin, under its name, across swaps. Calls are counted in cells, so that threads rarely share one.

use crate::breaker::BreakerState;
use crate::kv::SharedKv;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

/// Counter names per plugin.
pub const MAX_COUNTER_NAMES: usize = 64;
/// Bytes of a counter's name.
pub const MAX_COUNTER_NAME_BYTES: usize = 64;

/// Upper bounds of the latency histogram's buckets, in nanoseconds; one more bucket holds what is slower.
pub const LATENCY_BUCKETS_NS: [u64; 22] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// A guest function that is called, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Call {
    Authenticate,
    Rules,
    Authorize,
    Transform,
    Tick,
    Detect,
}

impl Call {
    /// Every call.
    pub const ALL: [Call; 6] = [
        Call::Authenticate,
        Call::Rules,
        Call::Authorize,
        Call::Transform,
        Call::Tick,
        Call::Detect,
    ];

    /// The label `hook` of the metrics.
    pub fn label(self) -> &'static str {
        ["authenticate", "rules", "authorize", "transform", "tick", "detect"][self as usize]
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// With an answer.
    Ok,
    /// The guest trapped, or a host function that it called panicked.
    Trap,
    /// It ran into its deadline.
    Timeout,
    /// It asked for more memory than its limit, and did not get over that.
    Memory,
    /// It answered, or told a host function, what nobody may: unreadable, against the contract, or larger than its bounds.
    Invalid,
    /// It was not called: the breaker is open.
    Breaker,
    /// There was no instance to call: the pool is exhausted, or `init` failed.
    Unavailable,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 7] = [
        Outcome::Ok,
        Outcome::Trap,
        Outcome::Timeout,
        Outcome::Memory,
        Outcome::Invalid,
        Outcome::Breaker,
        Outcome::Unavailable,
    ];

    /// The label `outcome` of the metrics.
    pub fn label(self) -> &'static str {
        ["ok", "trap", "timeout", "memory", "invalid", "breaker", "unavailable"][self as usize]
    }
}

/// Numbers of one plugin name.
#[derive(Debug, Default)]
pub struct PluginStats {
    cells: [Cell; CELLS],
    next_cell: AtomicUsize,
    counters: RwLock<BTreeMap<String, AtomicU64>>,
    counters_dropped: AtomicU64,
    log_lines_dropped: AtomicU64,
    instances_replaced: AtomicU64,
    refused_grants: AtomicU64,
    tick_messages_dropped: AtomicU64,
    ticks_skipped: AtomicU64,
    instances: AtomicU64,
    memory_bytes: AtomicU64,
    breaker_state: AtomicU8,
    breaker_opened: AtomicU64,
    queue_over_bound: AtomicU64,
    pub(crate) kv: SharedKv,
}

const CELLS: usize = 8;
const BUCKETS: usize = LATENCY_BUCKETS_NS.len() + 1;

/// Padded to two cache lines, which is what processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    calls: [[AtomicU64; Outcome::ALL.len()]; Call::ALL.len()],
    buckets: [[AtomicU64; BUCKETS]; Call::ALL.len()],
    sum_ns: [AtomicU64; Call::ALL.len()],
}

/// A copy of one call's latency histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Calls per bucket of [`LATENCY_BUCKETS_NS`] and one for slower calls, not accumulated.
    pub buckets: [u64; BUCKETS],
    /// Sum of all latencies, in nanoseconds.
    pub sum_ns: u64,
}

impl PluginStats {
    /// Calls of this function that ended like that.
    pub fn calls(&self, call: Call, outcome: Outcome) -> u64 {
        self.cells
            .iter()
            .map(|cell| load(&cell.calls[call as usize][outcome as usize]))
            .sum()
    }

    /// Latencies of calls that ran; those that the breaker refused and that found no instance are not among them.
    pub fn latency(&self, call: Call) -> Latency {
        let mut latency = Latency::default();
        for cell in &self.cells {
            latency.sum_ns += load(&cell.sum_ns[call as usize]);
            for (sum, bucket) in latency.buckets.iter_mut().zip(&cell.buckets[call as usize]) {
                *sum += load(bucket);
            }
        }
        latency
    }

    /// The plugin's own counters.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let counters = self.counters.read().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|(name, value)| (name.clone(), load(value)))
            .collect()
    }

    /// Additions to counters that were dropped: a bad name, or one over [`MAX_COUNTER_NAMES`].
    pub fn counters_dropped(&self) -> u64 {
        load(&self.counters_dropped)
    }

    /// Log lines dropped by the bound on their rate.
    pub fn log_lines_dropped(&self) -> u64 {
        load(&self.log_lines_dropped)
    }

    /// Instances thrown away after a failed call.
    pub fn instances_replaced(&self) -> u64 {
        load(&self.instances_replaced)
    }

    /// Messages of a tick over [`MAX_TICK_MESSAGES`](crate::MAX_TICK_MESSAGES).
    pub fn tick_messages_dropped(&self) -> u64 {
        load(&self.tick_messages_dropped)
    }

    /// Ticks that were left out, because the one before took too long or the plugin's breaker is open.
    pub fn ticks_skipped(&self) -> u64 {
        load(&self.ticks_skipped)
    }

    /// Leaves out so many ticks.
    pub fn skip_ticks(&self, ticks: u64) {
        add(&self.ticks_skipped, ticks);
    }

    /// Instances there are at present, of all generations that have some.
    pub fn instances(&self) -> u64 {
        load(&self.instances)
    }

    /// Linear memory of these instances.
    pub fn memory_bytes(&self) -> u64 {
        load(&self.memory_bytes)
    }

    /// State of the breaker of the generation that was called last.
    pub fn breaker_state(&self) -> BreakerState {
        match self.breaker_state.load(Ordering::Relaxed) {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// How often a breaker opened, probes that failed included.
    pub fn breaker_opened(&self) -> u64 {
        load(&self.breaker_opened)
    }

    /// Messages of `tick` that no `publish:` grant covers, and HTTP requests to origins that it is not granted.
    pub fn refused_grants(&self) -> u64 {
        load(&self.refused_grants)
    }

    /// Calls refused because too many waited.
    pub fn queue_over_bound(&self) -> u64 {
        load(&self.queue_over_bound)
    }

    /// Entries of the key-value store.
    pub fn kv_entries(&self) -> usize {
        self.kv.lock().entries()
    }

    /// Bytes of the key-value store.
    pub fn kv_bytes(&self) -> usize {
        self.kv.lock().bytes()
    }

    /// Writes that the key-value store refused.
    pub fn kv_refused(&self) -> u64 {
        self.kv.lock().refused()
    }

    /// The cell a new instance counts in.
    pub(crate) fn cell(&self) -> usize {
        self.next_cell.fetch_add(1, Ordering::Relaxed) % CELLS
    }

    pub(crate) fn count(&self, cell: usize, call: Call, outcome: Outcome, latency_ns: Option<u64>) {
        self.count_all(cell, call, 1, outcome, latency_ns);
    }

    /// As many calls as one that was made gave answers, at least one, all of them within `latency_ns`.
    pub(crate) fn count_all(&self, cell: usize, call: Call, answers: u64, outcome: Outcome, latency_ns: Option<u64>) {
        let cell = &self.cells[cell % CELLS];
        add(&cell.calls[call as usize][outcome as usize], answers);
        if let Some(ns) = latency_ns {
            add(&cell.buckets[call as usize][bucket(ns / answers.max(1))], answers);
            add(&cell.sum_ns[call as usize], ns);
        }
    }

    /// `nervewire:plugin/counters.add`.
    pub(crate) fn add_to_counter(&self, name: &str, delta: u64) {
        if let Some(value) = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return add(value, delta);
        }
        let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
        if counters.contains_key(name) || (is_counter_name(name) && counters.len() < MAX_COUNTER_NAMES) {
            add(counters.entry(name.to_owned()).or_default(), delta);
        } else {
            add(&self.counters_dropped, 1);
        }
    }

    pub(crate) fn drop_log_line(&self) {
        add(&self.log_lines_dropped, 1);
    }

    pub(crate) fn replace_instance(&self) {
        add(&self.instances_replaced, 1);
    }

    pub(crate) fn exceed_queue(&self) {
        add(&self.queue_over_bound, 1);
    }

    pub(crate) fn refuse_grants(&self, messages: u64) {
        add(&self.refused_grants, messages);
    }

    pub(crate) fn drop_tick_messages(&self, messages: u64) {
        add(&self.tick_messages_dropped, messages);
    }

    pub(crate) fn instance_made(&self) {
        add(&self.instances, 1);
    }

    pub(crate) fn memory_grew(&self, bytes: u64) {
        add(&self.memory_bytes, bytes);
    }

    pub(crate) fn instance_gone(&self, memory_bytes: u64) {
        self.instances.fetch_sub(1, Ordering::Relaxed);
        self.memory_bytes.fetch_sub(memory_bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_breaker_state(&self, state: BreakerState) {
        let old = self.breaker_state.swap(state as u8, Ordering::Relaxed);
        if state == BreakerState::Open && old != state as u8 {
            add(&self.breaker_opened, 1);
        }
    }
}

fn bucket(ns: u64) -> usize {
    LATENCY_BUCKETS_NS.partition_point(|bound| *bound < ns)
}

fn is_counter_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= MAX_COUNTER_NAME_BYTES && name.bytes().all(allowed)
}

fn load(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

fn add(value: &AtomicU64, delta: u64) {
    value.fetch_add(delta, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let check = |ns, expected| assert_eq!(bucket(ns), expected, "{ns}");
        check(0, 0);
        check(100, 0);
        check(101, 1);
        check(1_000_000_000, 21);
        check(1_000_000_001, 22);
        check(u64::MAX, 22);
    }

    #[test]
    fn calls_are_summed_over_the_cells() {
        let stats = PluginStats::default();
        for cell in 0..20 {
            stats.count(cell, Call::Authorize, Outcome::Ok, Some(150));
        }
        stats.count(0, Call::Authorize, Outcome::Breaker, None);
        assert_eq!(stats.calls(Call::Authorize, Outcome::Ok), 20);
        assert_eq!(stats.calls(Call::Authorize, Outcome::Breaker), 1);
        assert_eq!(stats.calls(Call::Transform, Outcome::Ok), 0);
        assert_eq!(stats.latency(Call::Authorize).sum_ns, 3_000);
        assert_eq!(stats.latency(Call::Authorize).buckets[1], 20);
    }

    #[test]
    fn counter_names_are_checked_and_bounded() {
        let check = |name: &str, expected| assert_eq!(is_counter_name(name), expected, "{name}");
        check("seen_2", true);
        check("", false);
        check("Seen", false);
        check("a-b", false);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
        let stats = PluginStats::default();
        for n in 0..70 {
            stats.add_to_counter(&format!("n{n}"), 1);
        }
        stats.add_to_counter("n0", 5);
        assert_eq!(stats.counters().len(), MAX_COUNTER_NAMES);
        assert_eq!(stats.counters_dropped(), 6);
        assert!(stats.counters().contains(&("n0".to_owned(), 6)));
    }

    #[test]
    fn labels_are_the_documented_ones() {
        assert_eq!(
            Call::ALL.map(Call::label),
            ["authenticate", "rules", "authorize", "transform", "tick", "detect"]
        );
        let outcomes = Outcome::ALL.map(Outcome::label);
        assert_eq!(
            outcomes,
            ["ok", "trap", "timeout", "memory", "invalid", "breaker", "unavailable"]
        );
    }
}
