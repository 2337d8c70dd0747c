//! Client identifiers that are taken over again and again: most often two devices with one identifier, each of which ends the
//! other's connection. The second of them waits for its CONNACK, ever longer as they go on, so that both cost little.

use super::connect::Connecting;
use super::{ConnId, Notice, Shard};
use crate::limits::{MAX_TAKEOVER_WAIT_MS, MAX_WATCHED_TAKEOVERS};
use crate::rate::Leak;
use crate::store::ClientKey;
use crate::time::Millis;
use hashbrown::HashMap;
use nervewire_codec::ReasonCode;

/// What is known of takeovers on a shard.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    watched: HashMap<ClientKey, Watched>,
    /// CONNECTs that wait.
    waiting: HashMap<ConnId, (u64, Box<Connecting>)>,
}

#[derive(Debug, Default)]
struct Watched {
    takeovers: Leak,
    /// Who waits to take the session over.
    waiting: Option<(ConnId, u64)>,
    /// It was said since the last quiet minute.
    reported: bool,
}

impl Takeovers {
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Connecting> {
        self.waiting.values().map(|(_, flow)| &**flow)
    }

    /// The connection is gone.
    pub(super) fn forget(&mut self, id: ConnId) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&id);
        }
    }

    /// The entry of a client, if there is room for it.
    fn watch(&mut self, key: ClientKey, now: Millis, per_minute: u32) -> Option<&mut Watched> {
        if self.watched.len() >= MAX_WATCHED_TAKEOVERS && !self.watched.contains_key(&key) {
            self.watched
                .retain(|_, watched| watched.takeovers.count(now, per_minute) > 0);
            if self.watched.len() >= MAX_WATCHED_TAKEOVERS {
                return None;
            }
        }
        Some(self.watched.entry(key).or_default())
    }
}

impl Shard {
    /// Whether this CONNECT would end somebody's connection too soon after others did the same. Then it is kept until its turn.
    pub(super) fn delays_takeover(&mut self, now: Millis, flow: Connecting) -> Option<Connecting> {
        let per_minute = self.config.per_client.takeovers_per_minute;
        let session = self
            .session_of(flow.accepted())
            .and_then(|slot| self.sessions.get(slot as usize));
        let Some(connected) = session.filter(|s| per_minute > 0 && s.conn.is_some()) else {
            return Some(flow);
        };
        let before = connected.client.clone();
        let key = ClientKey::of(&before);
        let Some(watched) = self.takeovers.watch(key.clone(), now, per_minute) else {
            self.counters.takeovers_over_bound += 1;
            return Some(flow);
        };
        let count = watched.takeovers.add(now, per_minute);
        if count <= u64::from(per_minute) {
            watched.reported &= count > 1;
            return Some(flow);
        }
        self.counters.takeovers_delayed += 1;
        let wait_ms = watched.takeovers.ms_until(now, per_minute, u64::from(per_minute));
        let (id, serial) = flow.conn();
        let replaced = watched.waiting.replace((id, serial));
        if !std::mem::replace(&mut watched.reported, true) {
            let after = flow.client();
            self.notices.push_back(Notice::TakenOverOften {
                client: key,
                before: (before.address, before.port),
                after: (after.address, after.port),
            });
        }
        if let Some((earlier, _)) = replaced.filter(|earlier| self.takeovers.is_waiting(*earlier)) {
            self.takeovers.forget(earlier);
            self.refuse_connect(earlier, ReasonCode::ConnectionRateExceeded);
        }
        self.takeovers.waiting.insert(id, (serial, Box::new(flow)));
        self.timers
            .takeover(now + wait_ms.clamp(1, MAX_TAKEOVER_WAIT_MS), id, serial);
        None
    }

    /// A CONNECT has waited long enough.
    pub(super) fn takeover_due(&mut self, now: Millis, id: ConnId, serial: u64) {
        let is_meant = self.takeovers.is_waiting((id, serial));
        let Some((_, flow)) = self.takeovers.waiting.remove(&id).filter(|_| is_meant) else {
            return;
        };
        if let Some(watched) = self.takeovers.watched.get_mut(&ClientKey::of(flow.client())) {
            watched.waiting = watched.waiting.filter(|waiting| *waiting != (id, serial));
        }
        if self.same_conn(id, serial).is_some() {
            self.complete_connect(now, *flow);
        }
    }
}

impl Takeovers {
    fn is_waiting(&self, (id, serial): (ConnId, u64)) -> bool {
        self.waiting.get(&id).is_some_and(|(waiting, _)| *waiting == serial)
    }
}
