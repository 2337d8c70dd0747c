//! What waits to be written: shards append to it, the writer takes it.

use super::lock;
use crate::format::{BATCH_HEADER_BYTES, append_frame};
use crate::log::{Completion, Epoch, LogError};
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::Partition;
use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A batch of this many bytes is not added to: what follows it must not wait for so much.
const MOST_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Records that are written and synced together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Room for the header, then the frames.
    pub(super) bytes: Vec<u8>,
    /// Number of frames.
    pub(super) count: u32,
    /// Bytes of frames that no shard has appended.
    pub(super) fence_bytes: u64,
    /// Who waits for such a frame.
    pub(super) fenced: Vec<Sender<()>>,
    /// A bit for each partition that has a frame here.
    pub(super) partitions: u64,
    /// By shard. Positions are offsets in the batch.
    pub(super) completions: Vec<Vec<Completion>>,
}

/// The records of one shard, encoded, to be appended as a whole.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// Frames only.
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    /// Each partition with the epoch that its frames have.
    pub(super) owners: Vec<(Partition, Epoch)>,
    /// Positions are offsets in `bytes`.
    pub(super) completions: Vec<Completion>,
}

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Next {
    Write(Batch),
    /// Nothing to write, but something has changed: there may be room again.
    Look,
    Stop,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Batch>,
    epochs: [Epoch; PARTITIONS as usize],
    look: bool,
    stop: bool,
}

impl Batch {
    fn add(&mut self, shard: u16, encoded: &mut Encoded) {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEADER_BYTES, 0);
        }
        let base = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&encoded.bytes);
        self.count += encoded.count;
        for (partition, _) in &encoded.owners {
            self.partitions |= bit(*partition);
        }
        let completions = self.of_shard(shard);
        completions.extend(encoded.completions.drain(..).map(|mut completion| {
            completion.positions.iter_mut().for_each(|position| position.0 += base);
            completion
        }));
    }

    fn of_shard(&mut self, shard: u16) -> &mut Vec<Completion> {
        let shard = usize::from(shard);
        if self.completions.len() <= shard {
            self.completions.resize_with(shard + 1, Vec::new);
        }
        &mut self.completions[shard]
    }
}

impl Queue {
    /// All partitions belong to whoever took over the journal, in this epoch.
    pub(super) fn new(epoch: Epoch) -> Self {
        let state = State {
            batches: VecDeque::new(),
            epochs: [epoch; PARTITIONS as usize],
            look: false,
            stop: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Puts what a shard has encoded behind everything else, and leaves `encoded` empty.
    pub(super) fn add(&self, shard: u16, encoded: &mut Encoded) -> Result<(), LogError> {
        let mut state = self.state();
        for (partition, epoch) in &encoded.owners {
            state.check(*partition, *epoch)?;
        }
        state.last().add(shard, encoded);
        drop(state);
        encoded.clear();
        self.changed.notify_all();
        Ok(())
    }

    /// Begins a new epoch of a partition; what is heard says that it and everything before it is durable.
    pub(super) fn fence(&self, partition: Partition) -> Result<(Epoch, Receiver<()>), LogError> {
        let mut state = self.state();
        let highest = state.epochs.iter().max().copied().unwrap_or_default();
        let epoch = Epoch(highest.0 + 1);
        let index = usize::from(partition.0);
        *state.epochs.get_mut(index).ok_or(LogError::StaleOwner)? = epoch;
        let mut fence = Encoded::default();
        append_frame(&mut fence.bytes, partition, epoch, |_| {});
        fence.count = 1;
        fence.owners.push((partition, epoch));
        let batch = state.last();
        batch.fence_bytes += fence.bytes.len() as u64;
        let (durable, heard) = mpsc::channel();
        batch.fenced.push(durable);
        batch.add(0, &mut fence);
        drop(state);
        self.changed.notify_all();
        Ok((epoch, heard))
    }

    /// Whether this is the present epoch of a partition.
    pub(super) fn check(&self, partition: Partition, epoch: Epoch) -> Result<(), LogError> {
        self.state().check(partition, epoch)
    }

    /// The present epochs.
    pub(super) fn epochs(&self) -> [Epoch; PARTITIONS as usize] {
        self.state().epochs
    }

    /// Waits until there is something to do.
    pub(super) fn next(&self) -> Next {
        let mut state = self.state();
        loop {
            if let Some(batch) = state.batches.pop_front() {
                return Next::Write(batch);
            }
            if std::mem::take(&mut state.look) {
                return Next::Look;
            }
            if state.stop {
                return Next::Stop;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits that long, or until something else than appends has changed; answers whether it is to go on.
    pub(super) fn pause(&self, at_most: Duration) -> bool {
        let idle = |state: &mut State| !state.look && !state.stop;
        let waited = self.changed.wait_timeout_while(self.state(), at_most, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.look = false;
        !state.stop
    }

    /// Something has changed that the writer should look at.
    pub(super) fn look(&self) {
        self.state().look = true;
        self.changed.notify_all();
    }

    /// The writer ends when everything that waits is written.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn check(&self, partition: Partition, epoch: Epoch) -> Result<(), LogError> {
        let present = self.epochs.get(usize::from(partition.0));
        if present == Some(&epoch) {
            Ok(())
        } else {
            Err(LogError::StaleOwner)
        }
    }

    /// The batch that is added to.
    fn last(&mut self) -> &mut Batch {
        let full = self
            .batches
            .back()
            .is_none_or(|batch| batch.bytes.len() >= MOST_BATCH_BYTES);
        if full {
            self.batches.push_back(Batch::default());
        }
        let last = self.batches.len() - 1;
        &mut self.batches[last]
    }
}

impl Encoded {
    pub(super) fn clear(&mut self) {
        const MOST_KEPT_BYTES: usize = 1024 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(MOST_KEPT_BYTES);
        self.count = 0;
        self.owners.clear();
        self.completions.clear();
    }
}

pub(super) fn bit(partition: Partition) -> u64 {
    1 << (u64::from(partition.0) % PARTITIONS)
}
