//! What an instance's store holds beside the guest: its memory limit, what it printed, and what its imports reach.

use crate::clock::{Clock, World};
use crate::engine::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::epochs::Epochs;
use crate::log::PluginLog;
use crate::outside::{Gate, Outside};
use crate::stats::PluginStats;
use crate::watch::Watch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Bytes of standard output and error kept per call; what a guest prints beyond is discarded.
pub const MAX_OUTPUT_BYTES: usize = 16 * 1024;
/// Host objects (streams, pollables) that an instance may hold at a time: the runtime's table for them has no bound of its own.
pub const MAX_HANDLES: u32 = 64;
/// Handles of any kind, its own resources among them, that all parts of an instance may hold at a time: the runtime keeps its tables of
/// them outside of the guest's memory.
pub const MAX_COMPONENT_HANDLES: usize = 1024;

/// What all instances under one plugin name share, over threads and swaps.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) stats: Arc<PluginStats>,
    pub(crate) log: PluginLog,
    pub(crate) clock: Clock,
    pub(crate) world: World,
    epochs: Arc<Epochs>,
    /// When the log was last told of a refused grant; 0: never.
    complained_at_ms: AtomicU64,
}

/// Milliseconds between two lines about refused grants.
const COMPLAIN_EVERY_MS: u64 = 60_000;

impl Shared {
    pub(crate) fn new(
        name: Arc<str>,
        stats: Arc<PluginStats>,
        log: PluginLog,
        clock: Clock,
        world: World,
        epochs: Arc<Epochs>,
    ) -> Self {
        Self {
            name,
            stats,
            log,
            clock,
            world,
            epochs,
            complained_at_ms: AtomicU64::new(0),
        }
    }

    /// Whether it is time for another line about something that happens again and again.
    pub(crate) fn may_complain(&self, now_ms: u64) -> bool {
        let now = now_ms.saturating_add(COMPLAIN_EVERY_MS); // So that the first one is never too early.
        let due = |last: u64| (now >= last.saturating_add(COMPLAIN_EVERY_MS)).then_some(now);
        self.complained_at_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due)
            .is_ok()
    }
}

/// The data of a store.
pub(crate) struct Guest {
    pub(crate) memory: MemoryLimit,
    pub(crate) shared: Arc<Shared>,
    pub(crate) noise: Noise,
    output: Vec<u8>,
    handles: u32,
    /// Of an instance in the pool of an asynchronous plugin.
    outside: Option<Box<Outside>>,
    /// Epochs that such an instance may still compute in this call.
    computing_epochs: u64,
}

impl Guest {
    pub(crate) fn new(shared: Arc<Shared>, max_memory_bytes: usize) -> Self {
        let memory = MemoryLimit::new(Arc::clone(&shared.stats), max_memory_bytes);
        let noise = Noise::of(&shared.world);
        Self {
            memory,
            shared,
            noise,
            output: Vec::new(),
            handles: 0,
            outside: None,
            computing_epochs: 0,
        }
    }

    /// With a way outside, which its gate watches.
    pub(crate) fn with_outside(self, gate: Gate) -> Self {
        Self {
            outside: Some(Box::new(Outside::new(gate, &self.shared.world))),
            ..self
        }
    }

    /// Only the functions of asynchronous plugins ask for it; were another ever to, it would get one that leads nowhere.
    pub(crate) fn outside(&mut self) -> &mut Outside {
        let (stats, world) = (&self.shared.stats, &self.shared.world);
        self.outside
            .get_or_insert_with(|| Box::new(Outside::new(Gate::new([].into(), None, stats.clone()), world)))
    }

    /// Whoever listens to the call that begins also sees its requests.
    pub(crate) fn watch(&mut self, watch: Option<&Watch>) {
        if let Some(outside) = &mut self.outside {
            outside.watch(watch);
        }
    }

    /// A call begins, whose deadline is to be set next.
    pub(crate) fn begin_call(&mut self) {
        self.memory.refused = false;
        self.shared.epochs.call_begins();
    }

    /// A call begins that may compute for so many epochs.
    pub(crate) fn begin_computing(&mut self, epochs: u64) {
        self.computing_epochs = epochs;
    }

    /// Another epoch began while it computed: may it go on?
    pub(crate) fn may_go_on(&mut self) -> bool {
        self.computing_epochs = self.computing_epochs.saturating_sub(1);
        self.computing_epochs > 0
    }

    /// Keeps what was printed, up to [`MAX_OUTPUT_BYTES`].
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES.saturating_sub(self.output.len());
        self.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Writes what was printed to the log.
    pub(crate) fn flush_output(&mut self) {
        if let Some(outside) = &self.outside {
            let printed = outside.take_printed();
            self.print(&printed);
        }
        if !self.output.is_empty() {
            self.shared.log.output(&self.output);
            self.output.clear();
        }
    }

    /// Counts a handle the guest is about to get.
    pub(crate) fn take_handle(&mut self) -> Result<(), HostRefusal> {
        if self.handles >= MAX_HANDLES {
            return Err(HostRefusal("it holds too many streams and pollables"));
        }
        self.handles += 1;
        Ok(())
    }

    pub(crate) fn give_handle_back(&mut self) {
        self.handles = self.handles.saturating_sub(1);
    }
}

/// A guest asked for something that plugins cannot do; the call ends as a trap with these words.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostRefusal(pub(crate) &'static str);

/// Bounds an instance's linear memories, and remembers whether it wanted more.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    stats: Arc<PluginStats>,
    max_bytes: usize,
    bytes: usize,
    pub(crate) refused: bool,
}

impl MemoryLimit {
    /// Of a new instance, which is counted until this is dropped.
    fn new(stats: Arc<PluginStats>, max_bytes: usize) -> Self {
        stats.instance_made();
        Self {
            stats,
            max_bytes,
            bytes: 0,
            refused: false,
        }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.stats.instance_gone(self.bytes as u64);
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let bytes = self.bytes.saturating_add(more);
        let allowed = bytes <= self.max_bytes;
        if allowed {
            self.bytes = bytes;
            self.stats.memory_grew(more as u64);
        }
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }
}

/// Numbers for `wasi:random/insecure` and hash seeds: different in every instance, secret to nobody (SplitMix64).
#[derive(Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    fn of(world: &World) -> Self {
        let mut seed = [0; 8];
        // Without an entropy source hash maps are seeded alike; that is what "insecure" promises no more than.
        let _ = world.random(&mut seed);
        Self::seeded(u64::from_le_bytes(seed))
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_over_all_memories_of_an_instance() {
        let mut limit = MemoryLimit::new(Arc::default(), 100);
        let mut check = |current, desired, expected| {
            assert_eq!(
                limit.memory_growing(current, desired, None).unwrap(),
                expected,
                "{current} to {desired}"
            );
            limit.refused
        };
        assert!(!check(0, 60, true));
        assert!(!check(0, 40, true));
        assert!(check(60, 61, false));
        assert!(check(60, usize::MAX, false));
        assert_eq!(limit.stats.memory_bytes(), 100);
    }
}
