//! Where the host takes its time from, and what guests see of time and chance: the machine's, or a virtual world's, in which a
//! run can be repeated.

use crate::guest::Noise;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time and random numbers as guests get them.
#[derive(Clone, Debug, Default)]
pub enum World {
    /// The machine's.
    #[default]
    Machine,
    /// Made up.
    Virtual(VirtualWorld),
}

/// A world in which time stands still until somebody moves it, and random numbers follow from a seed. Clones share everything.
#[derive(Clone, Debug)]
pub struct VirtualWorld(Arc<VirtualState>);

#[derive(Debug)]
struct VirtualState {
    unix_ms: AtomicU64,
    random: Mutex<Noise>,
}

impl VirtualWorld {
    /// Time stands at `unix_ms`.
    pub fn new(unix_ms: u64, seed: u64) -> Self {
        Self(Arc::new(VirtualState {
            unix_ms: AtomicU64::new(unix_ms),
            random: Mutex::new(Noise::seeded(seed)),
        }))
    }

    /// Unix time in milliseconds.
    pub fn unix_ms(&self) -> u64 {
        self.0.unix_ms.load(Ordering::Relaxed)
    }

    /// Moves time to `unix_ms`, unless it is later already: it never goes back.
    pub fn move_to(&self, unix_ms: u64) {
        self.0.unix_ms.fetch_max(unix_ms, Ordering::Relaxed);
    }

    /// The clock for breakers, rates and expiry that goes with it.
    pub fn clock(&self) -> Clock {
        let world = self.clone();
        Clock::new(move || world.unix_ms())
    }

    fn next(&self) -> u64 {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl World {
    /// Time since the Unix epoch.
    pub(crate) fn unix_time(&self) -> Duration {
        match self {
            World::Machine => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            World::Virtual(world) => Duration::from_millis(world.unix_ms()),
        }
    }

    /// Unix time in milliseconds.
    pub(crate) fn unix_ms(&self) -> u64 {
        u64::try_from(self.unix_time().as_millis()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds since some fixed moment.
    pub(crate) fn monotonic_ns(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let since = match self {
            World::Machine => START.elapsed(),
            World::Virtual(world) => Duration::from_millis(world.unix_ms()),
        };
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Fills `bytes` with random numbers: the operating system's, which nobody can guess, or those of the seed.
    pub(crate) fn random(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        match self {
            World::Machine => getrandom::fill(bytes),
            World::Virtual(world) => {
                for chunk in bytes.chunks_mut(8) {
                    let word = world.next().to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
                Ok(())
            }
        }
    }
}

/// A monotonic clock in milliseconds, for breaker, rates and expiry; a test passes its own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// Reads the time from `now`, which must not go backwards.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Milliseconds since some fixed moment.
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        let start = Instant::now();
        Self::new(move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({} ms)", self.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(world: &VirtualWorld) -> [u8; 13] {
        let mut bytes = [0; 13];
        World::Virtual(world.clone()).random(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_virtual_world_repeats_itself_by_its_seed() {
        let (one, same, other) = (
            VirtualWorld::new(0, 1),
            VirtualWorld::new(9, 1),
            VirtualWorld::new(0, 2),
        );
        let first = random(&one);
        assert_eq!(random(&same), first);
        assert_ne!(random(&other), first);
        assert_ne!(random(&one), first, "the next numbers are others");
    }

    #[test]
    fn virtual_time_moves_only_when_it_is_moved_and_never_back() {
        let world = VirtualWorld::new(1_000, 0);
        let (clock, seen) = (world.clock(), World::Virtual(world.clone()));
        world.move_to(2_500);
        world.move_to(2_000);
        assert_eq!((world.unix_ms(), clock.now_ms()), (2_500, 2_500));
        assert_eq!((seen.unix_ms(), seen.monotonic_ns()), (2_500, 2_500_000_000));
    }
}
