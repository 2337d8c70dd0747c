//! CONNECTs that wait before their credentials are judged, because logins with their user name have failed too often of late.

use super::handshake::Pending;
use super::worker::Worker;
use crate::auth_pool::Job;
use nervewire_core::hook::Client;
use nervewire_core::time::Millis;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Who waits until when: at most one entry for each connection that is not let in, and for some that have gone meanwhile.
#[derive(Default)]
pub(super) struct Held(BinaryHeap<Reverse<(Millis, usize, u64)>>);

impl Held {
    pub(super) fn next(&self) -> Option<Millis> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    fn pop_due(&mut self, now: Millis) -> Option<(usize, u64)> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse((_, slot, serial))| (slot, serial))
    }
}

impl Worker {
    /// For how long this client's credentials are not to be judged.
    pub(super) fn login_wait_ms(&self, client: &Client) -> u64 {
        let defence = &self.shared.defence;
        defence.login_wait_ms(client.address, client.username.as_deref(), self.now)
    }

    /// Keeps what is to be asked about a connection until its time has come.
    pub(super) fn hold(&mut self, slot: usize, job: Job, wait_ms: u64) {
        let at = self.now + wait_ms;
        let Some(pending) = self.pending(slot) else { return };
        pending.held = Some(Box::new(job));
        let serial = pending.serial();
        self.held.0.push(Reverse((at, slot, serial)));
    }

    /// Asks about those whose time has come.
    pub(super) fn release_held(&mut self) {
        while let Some((slot, serial)) = self.held.pop_due(self.now) {
            let is_meant = |pending: &&mut Pending| pending.serial() == serial;
            let job = self
                .pending(slot)
                .filter(is_meant)
                .and_then(|pending| pending.held.take());
            if let Some(job) = job
                && let Some(outcome) = self.shared.authenticators.submit(*job)
            {
                self.authenticated(slot, serial, outcome);
            }
        }
    }
}
