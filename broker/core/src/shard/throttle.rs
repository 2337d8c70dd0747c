//! Bounds on the publish rate of single clients that a detector asked for. They outlive the connection: who comes back is still
//! bounded.

use super::conn::Bucket;
use super::{SessionInfo, Shard};
use crate::hook::Client;
use crate::limits::MAX_THROTTLED_CLIENTS;
use crate::store::ClientKey;
use crate::time::Millis;
use hashbrown::HashMap;
use nervewire_codec::ReasonCode;
use std::sync::Arc;

/// Who may publish how fast, until when.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    clients: HashMap<ClientKey, Throttle>,
    /// No entry ends before this.
    next_end: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Throttle {
    messages_per_s: u32,
    until: Millis,
}

impl Throttles {
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }
}

impl Shard {
    /// Bounds a client's publish rate until a moment, in place of an earlier bound of this kind. Its connection need not be
    /// there. `false`: too many clients are bounded already.
    pub fn throttle(&mut self, key: ClientKey, messages_per_s: u32, until: Millis) -> bool {
        let is_known = self.throttles.clients.contains_key(&key);
        if !is_known && self.throttles.clients.len() >= MAX_THROTTLED_CLIENTS {
            self.counters.throttles_over_bound += 1;
            return false;
        }
        // 0 would be no bound at all.
        let messages_per_s = messages_per_s.max(1);
        let throttle = Throttle { messages_per_s, until };
        self.throttles.next_end = match self.throttles.clients.is_empty() {
            true => until,
            false => self.throttles.next_end.min(until),
        };
        let normal = self.normal_rate(&key);
        self.set_publish_rate(&key, lower(normal, messages_per_s));
        self.throttles.clients.insert(key, throttle);
        true
    }

    /// Ends such a bound before its time; whether there was one.
    pub fn lift_throttle(&mut self, key: &ClientKey) -> bool {
        let was_bound = self.throttles.clients.remove(key).is_some();
        if was_bound {
            let normal = self.normal_rate(key);
            self.set_publish_rate(key, normal);
        }
        was_bound
    }

    /// Ends the connection of a client that does something odd; whether there was one.
    pub fn end_odd(&mut self, now: Millis, key: &ClientKey) -> bool {
        let slot = self.sessions.find(key.tenant.as_deref(), &key.client_id);
        let session = slot.and_then(|slot| self.sessions.get(slot as usize));
        let Some(id) = session.and_then(|s| s.conn) else {
            return false;
        };
        self.counters.disconnects_server += 1;
        self.disconnect(now, id, ReasonCode::QuotaExceeded, Some("its traffic is unusual"));
        true
    }

    /// The bound of one client, in messages per second, as the operator sees it.
    pub fn throttle_of(&self, info: &SessionInfo) -> Option<u32> {
        if self.throttles.clients.is_empty() {
            return None;
        }
        let throttle = self.throttles.clients.get(&ClientKey::of(&info.client))?;
        Some(throttle.messages_per_s)
    }

    /// The publish rate of a connection that begins.
    pub(super) fn throttled_rate(&self, now: Millis, client: &Arc<Client>, rate: u32) -> u32 {
        if self.throttles.clients.is_empty() {
            return rate;
        }
        let throttle = self.throttles.clients.get(&ClientKey::of(client));
        match throttle.filter(|throttle| throttle.until > now) {
            Some(throttle) => lower(rate, throttle.messages_per_s),
            None => rate,
        }
    }

    /// Those whose time is over.
    pub(super) fn end_throttles(&mut self, now: Millis) {
        if self.throttles.clients.is_empty() || self.throttles.next_end > now {
            return;
        }
        let over = self.throttles.clients.iter();
        let over: Vec<ClientKey> = over
            .filter(|(_, throttle)| throttle.until <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.lift_throttle(&key);
        }
        let ends = self.throttles.clients.values().map(|throttle| throttle.until);
        self.throttles.next_end = ends.min().unwrap_or(0);
    }

    fn normal_rate(&self, key: &ClientKey) -> u32 {
        let session = self.sessions.find(key.tenant.as_deref(), &key.client_id);
        let session = session.and_then(|slot| self.sessions.get(slot as usize));
        let given = session.and_then(|s| s.given_quotas().publish_rate_per_s);
        given.unwrap_or(self.config.publish_rate_per_s)
    }

    fn set_publish_rate(&mut self, key: &ClientKey, messages_per_s: u32) {
        let session = self.sessions.find(key.tenant.as_deref(), &key.client_id);
        let session = session.and_then(|slot| self.sessions.get(slot as usize));
        let Some(id) = session.and_then(|s| s.conn) else { return };
        if let Some(conn) = self.conn_mut(id) {
            conn.publish_bucket = Bucket::new(messages_per_s);
        }
    }
}

/// The lower of two rates, of which 0 is none.
fn lower(rate: u32, bound: u32) -> u32 {
    match rate {
        0 => bound,
        rate => rate.min(bound),
    }
}
