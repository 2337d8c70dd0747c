//! While the store is full or takes nothing: who waits is told, what is new is refused before anything changes, and what can do
//! without the store goes on. Nothing in memory is undone, because nothing that was appended is forgotten: it is durable some time
//! later.

use super::commit::Then;
use super::connect::expiry_interval_s;
use super::lane::NotStored;
use super::{ConnId, Shard};
use crate::handshake::Accepted;
use crate::session::Session;
use crate::store::{AppendFailed, ClientKey};
use crate::time::Millis;
use nervewire_codec::{Packet, ReasonCode, SubAck, Subscribe};

impl Shard {
    /// What is wrong with the store. [`AppendFailed::Full`]: appends complete, but what grows is refused. Anything else: nothing
    /// becomes durable at present. `None`: all is well again.
    pub fn store_trouble(&mut self, now: Millis, trouble: Option<AppendFailed>) {
        let was_stuck = self.is_stuck();
        self.trouble = trouble;
        if self.is_stuck() {
            self.tell_who_waits(now);
        } else if was_stuck {
            self.pump_durable(now);
        }
    }

    /// What grows is refused.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whatever waits for the store would wait in vain.
    pub(super) fn is_stuck(&self) -> bool {
        self.trouble.is_some_and(|why| why != AppendFailed::Full)
    }

    /// Messages that would need the store wait in this session.
    pub(super) fn is_paused(&self, s: &Session) -> bool {
        self.is_stuck() && !s.ends_with_connection()
    }

    /// Ends the connection of a durable session that asks for something that could not be stored; whether it did.
    #[inline]
    pub(super) fn refuses(&mut self, now: Millis, session: u32, id: ConnId) -> bool {
        self.is_stuck() && self.refuse_durable(now, session, id)
    }

    fn refuse_durable(&mut self, now: Millis, session: u32, id: ConnId) -> bool {
        let refused = self.durable(session).is_some();
        if refused {
            self.counters.appends_failed += 1;
            self.disconnect(now, id, ReasonCode::QuotaExceeded, Some("it could not be stored"));
        }
        refused
    }

    /// Whether a CONNECT would change what is stored of sessions, and that is not possible: something becomes of a session that is
    /// in the store, or is to be, and nothing is stored at all; or a session would come to those in a full store.
    pub(super) fn refuses_session(&mut self, accepted: &Accepted) -> bool {
        if !self.is_in_trouble() {
            return false;
        }
        let existing = self
            .session_of(accepted)
            .and_then(|slot| self.sessions.get(slot as usize));
        let is_stored = existing.is_some_and(|s| s.stored) || self.is_ending(&ClientKey::of(&accepted.client));
        let is_lasting = expiry_interval_s(&accepted.connect) > 0;
        let refused = if self.is_stuck() {
            is_stored || is_lasting
        } else {
            is_lasting && !is_stored
        };
        self.counters.appends_failed += u64::from(refused);
        refused
    }

    /// Refuses all filters of a durable session's SUBSCRIBE, which would be one more to store; whether it did.
    pub(super) fn refuses_filters(&mut self, id: ConnId, session: u32, subscribe: &Subscribe) -> bool {
        let refused = self.is_in_trouble() && self.durable(session).is_some();
        if refused {
            self.counters.appends_failed += 1;
            self.counters.subscriptions_refused += subscribe.filters.len() as u64;
            let suback = SubAck {
                packet_id: subscribe.packet_id,
                properties: None,
                reasons: vec![ReasonCode::QuotaExceeded; subscribe.filters.len()],
            };
            self.send_in_order(id, Packet::SubAck(suback));
        }
        refused
    }

    /// Clients that wait for a commit hear that it is not stored. The commit itself goes on: when its records are durable, what
    /// else was to follow does.
    fn tell_who_waits(&mut self, now: Millis) {
        for then in self.take_clients_that_wait() {
            self.follow(now, then, Err(NotStored::UnderWay));
        }
    }

    /// Sessions whose messages have waited for the store to work again.
    fn pump_durable(&mut self, now: Millis) {
        let waiting = self
            .sessions
            .iter()
            .filter(|(_, s)| s.conn.is_some() && !s.ends_with_connection());
        let waiting: Vec<u32> = waiting.map(|(slot, _)| slot as u32).collect();
        waiting.into_iter().for_each(|session| self.pump(now, session));
    }
}

impl Then {
    /// Whether a client hears of it.
    pub(super) fn tells_client(&self) -> bool {
        matches!(self, Self::Release { .. } | Self::Connected(_))
    }
}
