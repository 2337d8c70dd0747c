//! The thread that reads: bodies that shards ask for, and the records that a checkpoint has examined.

use super::StoreEvent;
use super::checkpoint::Checkpoint;
use super::counters::add;
use super::reading::Window;
use super::shared::Shared;
use nervewire_core::store::{Fetch, FetchFailed, Record};
use std::sync::Arc;
use std::time::Duration;

/// How often it looks whether the writer is stuck.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) window: Window,
    pub(super) checkpoint: Checkpoint,
}

impl Reader {
    /// Until it is stopped.
    pub(super) fn run(mut self) {
        let mut wait = LOOK;
        while let Some(fetches) = self.shared.work.next(wait) {
            for (shard, fetch) in fetches {
                self.fetch(shard, &fetch);
            }
            self.shared.judge_patience();
            let goes_on = self.checkpoint.step(&self.shared);
            wait = if goes_on { Duration::ZERO } else { LOOK };
        }
    }

    fn fetch(&mut self, shard: u16, fetch: &Fetch) {
        let records = fetch.positions.iter().map(|position| {
            let entry = self.window.get(&self.shared.segments, fetch.partition, *position);
            entry.map(|entry| entry.record).map_err(|_| FetchFailed)
        });
        let records: Vec<Result<Record, FetchFailed>> = records.collect();
        let unreadable = records.iter().filter(|record| record.is_err()).count();
        add(&self.shared.counting.unreadable_records, unreadable as u64);
        self.shared
            .tell(shard.into(), StoreEvent::Fetched(fetch.ticket, records));
    }
}
