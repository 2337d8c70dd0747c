//! From what the store holds to shards that know what they knew: before the first listener is bound.

use crate::config::{Config, Durability};
use crate::driver::Clock;
use crate::numbers::grouped;
use crate::run::{create_private_dir, shard_config};
use crate::store_command::explained;
use anyhow::{Context, Result, anyhow};
use nervewire_core::limits::ShardConfig;
use nervewire_core::policy::Policy;
use nervewire_core::shard::Shard;
use nervewire_core::time::Millis;
use nervewire_store::{Journal, JournalOptions, Progress, Recovery, SyncPolicy};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shards of a broker that starts, and the journal behind them.
pub(crate) struct Restored {
    pub(crate) shards: Vec<Shard>,
    /// `None`: everything ends with the process.
    pub(crate) journal: Option<Arc<Journal>>,
    /// Bytes of an unfinished write that were cut off its end.
    pub(crate) cut_bytes: u64,
}

/// Makes the shards, and gives them what is stored.
///
/// # Errors
/// Another broker has the store, it cannot be read, or it is corrupt; in words, with what to do.
pub(crate) fn restore(config: &Config, policy: &Arc<Policy>, count: u16, clock: Clock) -> Result<Restored> {
    let restore = || {
        let mut shards = new_shards(config, policy, count, clock.now());
        let replayed = journal_options(config).map(|options| replay(options, &mut shards, clock));
        let (journal, recovery) = replayed.transpose()?.unzip();
        Ok(Restored {
            shards,
            journal: journal.map(Arc::new),
            cut_bytes: recovery.map_or(0, |recovery| recovery.cut_bytes),
        })
    };
    // What a thread has allocated and others free is used again only when that thread has ended: it must not be the main one.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("restore".to_owned());
        let restoring = thread
            .spawn_scoped(scope, restore)
            .context("the store cannot be read")?;
        restoring
            .join()
            .unwrap_or_else(|_| Err(anyhow!("restoring has panicked")))
    })
}

/// Where the store is.
pub(crate) fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

fn new_shards(config: &Config, policy: &Arc<Policy>, count: u16, now: Millis) -> Vec<Shard> {
    let shard = |shard| {
        let bounds = shard_config(config, count);
        Shard::new(ShardConfig { shard, ..bounds }, policy.clone(), now)
    };
    (0..count).map(shard).collect()
}

fn journal_options(config: &Config) -> Option<JournalOptions> {
    let sync = match config.broker.durability {
        Durability::Fsync => SyncPolicy::Fsync,
        Durability::Os => SyncPolicy::Os,
        Durability::Memory => return None,
    };
    let most_bytes = config.limits.store_bytes.map(|bytes| bytes.get());
    Some(JournalOptions {
        dir: store_dir(config.broker.data_dir.as_deref()?),
        sync,
        segment_bytes: segment_bytes(most_bytes),
        most_bytes: most_bytes.unwrap_or(u64::MAX),
    })
}

/// A segment is freed as a whole: a small store has small ones.
fn segment_bytes(most_bytes: Option<u64>) -> u64 {
    const LEAST_BYTES: u64 = 64 * 1024;
    const MOST_BYTES: u64 = 64 * 1024 * 1024;
    const SEGMENTS: u64 = 16;
    most_bytes.map_or(MOST_BYTES, |bytes| (bytes / SEGMENTS).clamp(LEAST_BYTES, MOST_BYTES))
}

fn replay(options: JournalOptions, shards: &mut [Shard], clock: Clock) -> Result<(Journal, Recovery)> {
    let started = Instant::now();
    let dir = &options.dir;
    create_private_dir(dir).with_context(|| format!("the store {} cannot be made", dir.display()))?;
    let count = shards.len() as u16;
    let mut shown = ShownProgress(started);
    let records = Cell::new(0);
    let opened = Journal::open(
        options,
        &mut |partition, position, record| {
            records.set(records.get() + 1);
            if let Some(shard) = shards.get_mut(usize::from(partition.owner(count))) {
                shard.restore(partition, position, record);
            }
        },
        &mut |progress| shown.show(&progress, records.get()),
    );
    let (journal, recovery) = opened.map_err(explained)?;
    settle(shards, clock.now());
    report(shards, &recovery, started.elapsed());
    Ok((journal, recovery))
}

/// Lets the shards tell one another what they have to know of each other's sessions.
fn settle(shards: &mut [Shard], now: Millis) {
    let first_number = shards.iter().map(Shard::first_free_number).max().unwrap_or_default();
    for shard in &mut *shards {
        shard.restored(now, first_number);
    }
    while exchange(shards, now) {}
}

/// Whether there was anything to tell.
fn exchange(shards: &mut [Shard], now: Millis) -> bool {
    let mut any = false;
    for from in 0..shards.len() {
        for to in (0..shards.len()).filter(|to| *to != from) {
            for message in shards[from].take_mesh(to as u16) {
                any = true;
                shards[to].mesh(now, message);
            }
        }
    }
    any
}

/// A line per second.
struct ShownProgress(Instant);

impl ShownProgress {
    fn show(&mut self, progress: &Progress, records: u64) {
        const INTERVAL: Duration = Duration::from_secs(1);
        if self.0.elapsed() < INTERVAL {
            return;
        }
        self.0 = Instant::now();
        tracing::info!("restoring: {}", described(progress, records));
    }
}

fn described(progress: &Progress, records: u64) -> String {
    let percent = progress.done_bytes.saturating_mul(100) / progress.total_bytes.max(1);
    format!("{percent} %, {} records", grouped(records))
}

fn report(shards: &[Shard], recovery: &Recovery, took: Duration) {
    let sum = |pick: fn(&Shard) -> u64| shards.iter().map(pick).sum::<u64>();
    tracing::info!(
        sessions = sum(|shard| shard.counters().sessions),
        messages = sum(|shard| shard.counters().queued_messages),
        retained = sum(|shard| shard.info_totals().retained_messages as u64),
        records = recovery.records,
        cut_bytes = recovery.cut_bytes,
        seconds = took.as_secs_f64(),
        "restored"
    );
    if recovery.cut_bytes > 0 {
        tracing::warn!(
            cut_bytes = recovery.cut_bytes,
            "the store ended in the middle of a write, which was cut off; nothing of that had been acknowledged"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_of_what_there_is() {
        let check = |done_bytes, total_bytes, records, expected| {
            let progress = Progress {
                done_bytes,
                total_bytes,
            };
            assert_eq!(described(&progress, records), expected);
        };
        check(0, 0, 0, "0 %, 0 records");
        check(43, 100, 512_000, "43 %, 512,000 records");
        check(1 << 40, 1 << 40, 1, "100 %, 1 records");
    }

    #[test]
    fn a_small_store_has_small_segments() {
        assert_eq!(segment_bytes(None), 64 << 20);
        assert_eq!(segment_bytes(Some(1 << 20)), 64 << 10);
        assert_eq!(segment_bytes(Some(4 << 20)), 256 << 10);
        assert_eq!(segment_bytes(Some(1 << 50)), 64 << 20);
    }
}
