//! A shard's end of the journal.

use super::StoreEvent;
use super::counters::{Counters, add, get};
use super::queue::Encoded;
use super::shared::Shared;
use crate::format::append_frame;
use crate::log::{Completion, Epoch, LogError};
use crate::record;
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::{Append, AppendFailed, Fetch, Position, Ticket};
use std::sync::Arc;

/// What a shard says to the journal. It encodes on the shard's thread and never waits for the disk; what becomes of it, the shard's
/// sink is told.
pub struct Handle {
    shared: Arc<Shared>,
    shard: u16,
    /// Of its partitions, when it became their owner.
    epochs: [Epoch; PARTITIONS as usize],
    last: Option<Ticket>,
    encoded: Encoded,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, shard: u16) -> Self {
        Self {
            epochs: shared.queue.epochs(),
            shared,
            shard,
            last: None,
            encoded: Encoded::default(),
        }
    }

    /// Appends everything, in this order. It completes in this order, sooner or later. A shard that is not the owner any more is told
    /// so as trouble, and nothing is appended.
    pub fn append(&mut self, appends: Vec<Append>) {
        self.append_each(&appends);
    }

    /// Asks for records; the answer is a [`StoreEvent::Fetched`].
    pub fn fetch(&self, fetch: Fetch) {
        self.shared.work.fetch(self.shard, fetch);
    }

    /// The answer to a [`StoreEvent::Examine`], exactly one for each, also for an empty one: appends what is still true. Whatever the
    /// shard has put out before (appends and fetches) was handed over already.
    pub fn examined(&mut self, appends: Vec<Append>) {
        let bytes = self.append_each(&appends);
        add(&self.shared.counting.relocated_bytes, bytes);
        self.shared.work.answer(self.shard, self.last);
    }

    /// What this shard would need in a fresh log. Before every shard has said so once, no checkpoint begins.
    pub fn report_live_bytes(&self, bytes: u64) {
        self.shared.work.report_live_bytes(self.shard, bytes);
    }

    /// Bytes that all shards have appended and that are not durable yet. They are in memory: beyond a bound, clients should not be
    /// read.
    pub fn pending_bytes(&self) -> u64 {
        get(&self.shared.counting.pending_bytes)
    }

    /// What the journal has counted.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Appends in a given epoch.
    pub(super) fn append_in(&mut self, epoch: Epoch, append: &Append) -> Result<(), LogError> {
        self.encode(epoch, append);
        self.hand_over().map(|_| ())
    }

    fn append_each(&mut self, appends: &[Append]) -> u64 {
        for append in appends {
            let epoch = self.epochs.get(usize::from(append.partition.0)).copied();
            self.encode(epoch.unwrap_or_default(), append);
        }
        let handed_over = if appends.is_empty() { Ok(0) } else { self.hand_over() };
        handed_over.unwrap_or_else(|_| {
            let trouble = StoreEvent::Trouble(Some(AppendFailed::StaleOwner));
            self.shared.tell(self.shard.into(), trouble);
            0
        })
    }

    fn encode(&mut self, epoch: Epoch, append: &Append) {
        let encoded = &mut self.encoded;
        let positions = append.records.iter().map(|record| {
            let at = Position(encoded.bytes.len() as u64);
            append_frame(&mut encoded.bytes, append.partition, epoch, |out| {
                record::encode(record, out)
            });
            at
        });
        let positions = positions.collect();
        let ticket = append.ticket;
        encoded.count += append.records.len() as u32;
        encoded.completions.push(Completion { ticket, positions });
        let owner = (append.partition, epoch);
        if !encoded.owners.contains(&owner) {
            encoded.owners.push(owner);
        }
        self.last = Some(ticket);
    }

    fn hand_over(&mut self) -> Result<u64, LogError> {
        let bytes = self.encoded.bytes.len() as u64;
        // Before the writer can take it, which subtracts.
        add(&self.shared.counting.pending_bytes, bytes);
        let added = self.shared.queue.add(self.shard, &mut self.encoded);
        if added.is_err() {
            self.shared.counting.not_pending(bytes);
            self.encoded.clear();
        }
        added.map(|()| bytes)
    }
}
