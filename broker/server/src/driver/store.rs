//! A shard's end of the journal. What the shard wants kept or read goes there once per pass; what became of it comes back
//! through the inbox. Without a store none of this costs more than a look.

use super::inbox::{ShardEvent, bounds};
use super::worker::{Shared, Worker};
use nervewire_core::shard::Shard;
use nervewire_core::store::{Append, AppendFailed, Partition, Position, Record};
use nervewire_core::time::Millis;
use nervewire_store::{Handle, Sink, StoreEvent};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a shard's thread has of the journal.
pub(crate) struct ShardStore {
    handle: Handle,
    /// When the journal was told last how much of it is alive.
    reported_at: Millis,
    /// That may be something else by now.
    has_changed: bool,
    /// Why nothing is stored at present.
    trouble: Option<AppendFailed>,
}

impl ShardStore {
    /// The end of one shard that has stored nothing in this process.
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            handle,
            reported_at: 0,
            has_changed: true,
            trouble: None,
        }
    }

    /// When the journal is to be told how much is alive, which is not known without counting; `None`: it knows.
    fn report_due_at(&self) -> Option<Millis> {
        const INTERVAL_MS: u64 = 1_000;
        self.has_changed.then_some(self.reported_at + INTERVAL_MS)
    }

    fn report(&mut self, now: Millis, shard: &Shard) {
        self.reported_at = now;
        self.has_changed = false;
        self.handle.report_live_bytes(shard.live_bytes());
    }
}

/// What the journal calls to reach each shard.
pub(crate) fn store_sinks(shared: &Arc<Shared>) -> Vec<Sink> {
    let sink = |shard: u16| -> Sink {
        // Weak, because the shards share the journal.
        let shared = Arc::downgrade(shared);
        Arc::new(move |event| {
            if let Some(shared) = shared.upgrade() {
                shared.mesh.send(shard, ShardEvent::Store(event));
            }
        })
    };
    (0..shared.mesh.shards()).map(sink).collect()
}

impl Worker {
    /// Hands over everything that is to be stored or read.
    pub(super) fn hand_to_store(&mut self) {
        if self.store.is_none() {
            return;
        }
        let appends = self.take_appends();
        let Some(store) = &mut self.store else { return };
        if !appends.is_empty() {
            store.has_changed = true;
            store.handle.append(appends);
        }
        while let Some(fetch) = self.shard.next_fetch() {
            store.handle.fetch(fetch);
        }
        if store.report_due_at().is_some_and(|at| at <= self.now) {
            store.report(self.now, &self.shard);
        }
    }

    /// When the journal is to be told something though nothing else happens.
    pub(super) fn store_deadline(&self) -> Option<Millis> {
        self.store.as_ref()?.report_due_at()
    }

    fn take_appends(&mut self) -> Vec<Append> {
        std::iter::from_fn(|| self.shard.next_append()).collect()
    }

    /// What the journal has to say.
    pub(super) fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Completed(completions) => {
                for completion in completions {
                    self.shard.stored(self.now, completion.ticket, &completion.positions);
                    self.attend();
                }
                self.store_caught_up();
            }
            StoreEvent::Fetched(ticket, records) => {
                self.shard.fetched(self.now, ticket, records);
                self.attend();
            }
            StoreEvent::Trouble(trouble) => self.store_trouble(trouble),
            StoreEvent::Examine(records) => self.examine(records),
        }
    }

    fn attend(&mut self) {
        if self.shard.wants_attention() {
            self.run_calls();
            self.write_full();
        }
    }

    fn store_trouble(&mut self, trouble: Option<AppendFailed>) {
        if let Some(store) = &mut self.store {
            store.trouble = trouble;
        }
        if self.number == 0 {
            self.log_trouble(trouble);
        }
        self.shard.store_trouble(self.now, trouble);
        self.attend();
    }

    /// One shard speaks for all.
    fn log_trouble(&self, trouble: Option<AppendFailed>) {
        let journal = self.shared.journal.as_ref();
        match trouble {
            Some(full @ AppendFailed::Full) => tracing::error!(
                "{full}: what would add to it is refused; raise limits.store_bytes, or let clients fetch what they have queued"
            ),
            Some(trouble) => tracing::error!(
                error = journal.and_then(|journal| journal.last_error()),
                "the store cannot be written ({trouble}): nothing is acknowledged that must be stored, and it is tried again all the \
                 time; free space, or see to the disk"
            ),
            None => tracing::info!("the store works again"),
        }
    }

    /// A checkpoint asks which of its oldest records still hold: they are stored again, behind everything else.
    fn examine(&mut self, records: Vec<(Partition, Position, Record)>) {
        self.hand_to_store();
        for (partition, position, record) in records {
            self.shard.examine(self.now, partition, position, record);
        }
        let appends = self.take_appends();
        if let Some(store) = &mut self.store {
            store.has_changed |= !appends.is_empty();
            store.handle.examined(appends);
        }
    }

    /// Whether so much waits for the disk that publishers must wait, too. In trouble they need not: the shard refuses what it
    /// cannot store, and serves what it can without.
    pub(super) fn is_store_congested(&self) -> bool {
        let Some(store) = self.store.as_ref().filter(|store| store.trouble.is_none()) else {
            return false;
        };
        let behind = || store.handle.pending_bytes() > bounds::STORE_PENDING_BYTES;
        if !behind() {
            return false;
        }
        self.shared.journal_waited_for.store(true, Ordering::SeqCst);
        behind() // It may have caught up between the two looks.
    }

    /// Wakes the shards that wait for the journal, when it has caught up.
    fn store_caught_up(&self) {
        let waited_for = &self.shared.journal_waited_for;
        if waited_for.load(Ordering::SeqCst) && !self.is_store_congested() && waited_for.swap(false, Ordering::SeqCst) {
            self.shared.mesh.wake_all();
        }
    }
}
