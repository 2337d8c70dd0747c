//! What the reader is to do, and what it knows of the shards.

use super::lock;
use nervewire_core::store::{Fetch, Ticket};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    fetches: Vec<(u16, Fetch)>,
    shards: Vec<Shard>,
    look: bool,
    stop: bool,
}

/// What the checkpoints need to know of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shard {
    /// Everything up to here is durable.
    pub(super) durable: Option<Ticket>,
    /// The last append before its last answer.
    pub(super) answered: Option<Ticket>,
    /// It was given records to examine and has not answered.
    pub(super) is_asked: bool,
    /// What it would need in a fresh log; `None`: it has not said yet.
    pub(super) live_bytes: Option<u64>,
}

impl Shard {
    /// Everything that it appended up to its last answer is durable.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_asked && self.durable >= self.answered
    }
}

impl Work {
    pub(super) fn fetch(&self, shard: u16, fetch: Fetch) {
        self.state().fetches.push((shard, fetch));
        self.changed.notify_all();
    }

    /// Something has changed that a checkpoint may depend on.
    pub(super) fn look(&self) {
        self.state().look = true;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }

    /// The writer has stored everything of a shard up to here.
    pub(super) fn durable(&self, shard: usize, ticket: Ticket) {
        let mut state = self.state();
        let shard = state.shard(shard);
        let was_settled = shard.is_settled();
        shard.durable = Some(ticket);
        if shard.is_settled() != was_settled {
            state.look = true;
            self.changed.notify_all();
        }
    }

    /// A shard is given records to examine.
    pub(super) fn ask(&self, shard: usize) {
        self.state().shard(shard).is_asked = true;
    }

    /// It has examined them, and `last` is the last that it has appended so far.
    pub(super) fn answer(&self, shard: u16, last: Option<Ticket>) {
        let mut state = self.state();
        let shard = state.shard(shard.into());
        (shard.is_asked, shard.answered) = (false, last);
        state.look = true;
        self.changed.notify_all();
    }

    pub(super) fn report_live_bytes(&self, shard: u16, bytes: u64) {
        self.state().shard(shard.into()).live_bytes = Some(bytes);
    }

    /// What is known of so many shards.
    pub(super) fn shards(&self, count: usize) -> Vec<Shard> {
        let state = self.state();
        let known = state.shards.iter().copied().chain(std::iter::repeat(Shard::default()));
        known.take(count).collect()
    }

    /// Waits until there is something to do, but no longer than `at_most`; `None`: to end.
    pub(super) fn next(&self, at_most: Duration) -> Option<Vec<(u16, Fetch)>> {
        let idle = |state: &mut State| state.fetches.is_empty() && !state.look && !state.stop;
        let waited = self.changed.wait_timeout_while(self.state(), at_most, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.look = false;
        if state.stop {
            return None;
        }
        Some(std::mem::take(&mut state.fetches))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn shard(&mut self, shard: usize) -> &mut Shard {
        if self.shards.len() <= shard {
            self.shards.resize_with(shard + 1, Shard::default);
        }
        &mut self.shards[shard]
    }
}
