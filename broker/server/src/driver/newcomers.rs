//! The turn of those who are not let in yet: connections to accept, handshakes to go on with, deadlines that have come.
//!
//! A TLS handshake takes as long as a thousand messages, and anybody may begin one. So newcomers get slices of a pass, and those who are
//! let in wait no longer than these for them, however many come.

use super::handshake::{Pending, Stage};
use super::inbox::bounds;
use super::worker::Worker;
use nervewire_core::shard::ConnId;
use std::time::{Duration, Instant};

impl Worker {
    /// A slice for each: whoever accepts a lot still goes on with what it has accepted.
    pub(super) fn serve_newcomers(&mut self) {
        let cut = [
            self.drop_overdue(Slice::begin()),
            self.accept_all(Slice::begin()),
            self.serve_pending(Slice::begin()),
        ];
        self.driver.newcomer_slices_over_bound += cut.into_iter().filter(|cut| *cut).count() as u64;
    }

    /// Newcomers wait for the next pass.
    pub(super) fn have_newcomers(&self) -> bool {
        !self.accepting.is_empty() || !self.newcomers.is_empty()
    }

    /// A connection's socket is ready. What it says is looked at when it is its turn.
    pub(super) fn pending_ready(&mut self, slot: usize) {
        let Some(pending) = self.pending(slot) else { return };
        if pending.becomes_ready() {
            self.newcomers.push_back(slot);
        }
    }

    /// Goes on with those who are ready; `true`: the slice was too short.
    fn serve_pending(&mut self, slice: Slice) -> bool {
        for _ in 0..self.newcomers.len() {
            if slice.is_over() {
                return true;
            }
            let Some(slot) = self.newcomers.pop_front() else { break };
            match self.numbers.get_mut(slot) {
                Some(Stage::Pending(pending)) => {
                    pending.has_its_turn();
                    self.flush_pending(slot);
                    self.read_pending(slot);
                }
                // Its authenticator was faster; what its socket was ready for must not be lost.
                Some(Stage::LetIn) => self.client_event(ConnId(slot as u32), true, true),
                None => {}
            }
        }
        false
    }

    /// Accepts from each listener, the one that was cut short last; `true`: there may be more.
    fn accept_all(&mut self, slice: Slice) -> bool {
        if self.accept_again_at.is_some_and(|at| at <= self.now) {
            self.accept_again_at = None;
            self.accepting = (0..self.listeners.len()).collect();
        }
        for _ in 0..self.accepting.len() {
            let Some(number) = self.accepting.pop_front() else {
                break;
            };
            if self.accept(number, &slice) {
                self.accepting.push_back(number);
            }
        }
        !self.accepting.is_empty()
    }

    /// Closes those whose CONNECT did not come in time; `true`: there are more. A decision under way is not the client's delay.
    fn drop_overdue(&mut self, slice: Slice) -> bool {
        while let Some((deadline, slot, serial)) = self.deadlines.first().copied() {
            let pending = self.pending(slot).filter(|pending| pending.serial() == serial);
            let timeout_ms = |pending: &mut Pending| pending.socket.seat().listener().connect_timeout_ms;
            let pending = pending.map(|pending| (pending.is_decided_about(), timeout_ms(pending)));
            if pending.is_some() && deadline > self.now {
                return false;
            }
            if slice.is_over() {
                return true;
            }
            self.deadlines.pop_first();
            match pending {
                Some((true, timeout_ms)) => {
                    self.deadlines.insert((self.now + timeout_ms, slot, serial));
                }
                Some((false, _)) => {
                    self.driver.connect_timeouts += 1;
                    self.drop_pending(slot);
                }
                None => {}
            }
        }
        false
    }
}

/// A part of a pass.
pub(super) struct Slice {
    began: Instant,
}

impl Slice {
    fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// The others have their turn.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() >= Duration::from_micros(bounds::NEWCOMERS_US_PER_PASS)
    }
}
