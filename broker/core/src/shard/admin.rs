//! What an operator may see and do.

use super::connect::Connecting;
use super::{ConnId, Shard, Waiter};
use crate::hook::Client;
use crate::retained::Retained;
use crate::session::Session;
use crate::time::Millis;
use nervewire_codec::{ReasonCode, Utf8String};
use std::sync::Arc;

/// One session, as of now.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Its client's facts, of the present or the last connection.
    pub client: Arc<Client>,
    /// It has a connection.
    pub connected: bool,
    /// When that was made.
    pub connected_at: Option<Millis>,
    /// Keep alive in seconds as it holds, 0: off.
    pub keep_alive_s: u64,
    /// Session Expiry Interval; `u32::MAX`: never.
    pub session_expiry_s: u32,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Filters whose right was taken away: what only they match is not delivered.
    pub suspended: usize,
    /// The first of them.
    pub suspended_filters: Vec<Utf8String>,
    /// Messages in its queue.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages sent and not acknowledged.
    pub in_flight_messages: usize,
    /// Generation of the policy that gave its rules; 0 before the first.
    pub generation: u64,
}

/// Totals that are not counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardInfo {
    /// Retained messages this shard owns.
    pub retained_messages: usize,
    /// Their bytes.
    pub retained_bytes: usize,
}

impl ShardInfo {
    pub(super) fn of(retained: &Retained) -> Self {
        Self {
            retained_messages: retained.len(),
            retained_bytes: retained.bytes(),
        }
    }

    /// One part of the sum has changed.
    pub(super) fn exchange(&mut self, before: Self, after: Self) {
        self.retained_messages = self.retained_messages + after.retained_messages - before.retained_messages;
        self.retained_bytes = self.retained_bytes + after.retained_bytes - before.retained_bytes;
    }
}

impl Shard {
    /// Up to `limit` sessions behind the first `skip`, in an order that stays as long as no session comes or goes.
    pub fn sessions(&self, skip: usize, limit: usize) -> Vec<SessionInfo> {
        self.sessions
            .iter()
            .skip(skip)
            .take(limit)
            .map(|(_, s)| self.info(s))
            .collect()
    }

    /// One session.
    pub fn session(&self, tenant: Option<&str>, client_id: &str) -> Option<SessionInfo> {
        self.named_session(tenant, client_id).map(|s| self.info(s))
    }

    /// Disconnects a client, and answers whether it was connected.
    pub fn kick(&mut self, now: Millis, tenant: Option<&str>, client_id: &str) -> bool {
        let Some(id) = self.named_session(tenant, client_id).and_then(|s| s.conn) else {
            return false;
        };
        self.counters.disconnects_server += 1;
        self.disconnect(now, id, ReasonCode::AdministrativeAction, None);
        true
    }

    /// Disconnects every client of which this holds, also those whose CONNECT is still being judged; answers how many. MQTT 5.0
    /// clients that are connected hear of an administrative action: 0x8A is a code of CONNACK alone (section 2.4).
    pub fn banish(&mut self, now: Millis, is_banned: impl Fn(&Client) -> bool) -> usize {
        let found: Vec<(ConnId, u64)> = self.connecting(&is_banned);
        for (id, serial) in &found {
            if self.same_conn(*id, *serial).is_some() {
                self.refuse_connect(*id, ReasonCode::Banned);
            }
        }
        let sessions = self
            .sessions
            .iter()
            .filter(|(_, s)| s.conn.is_some() && is_banned(&s.client));
        let connected: Vec<ConnId> = sessions.filter_map(|(_, s)| s.conn).collect();
        for id in &connected {
            self.counters.disconnects_server += 1;
            self.disconnect(now, *id, ReasonCode::AdministrativeAction, Some("banned"));
        }
        found.len() + connected.len()
    }

    fn connecting(&self, is_meant: impl Fn(&Client) -> bool) -> Vec<(ConnId, u64)> {
        let flows = self.waiters.iter().filter_map(|(_, waiter)| match waiter {
            Waiter::Connect(flow) => Some(flow),
            _ => None,
        });
        let flows = flows.map(|flow| &**flow).chain(self.takeovers.waiting());
        flows
            .filter(|flow| is_meant(flow.client()))
            .map(Connecting::conn)
            .collect()
    }

    fn named_session(&self, tenant: Option<&str>, client_id: &str) -> Option<&Session> {
        let slot = self.sessions.find(tenant, client_id)?;
        self.sessions.get(slot as usize)
    }

    /// Totals.
    pub fn info_totals(&self) -> ShardInfo {
        self.retained
    }

    fn info(&self, s: &Session) -> SessionInfo {
        let conn = s.conn.and_then(|id| self.conn(id));
        SessionInfo {
            client: s.client.clone(),
            connected: conn.is_some(),
            connected_at: conn.map(|conn| conn.connected_at),
            keep_alive_s: conn.map_or(0, |conn| u64::from(conn.keep_alive_ms / 1_500)),
            session_expiry_s: s.expiry_interval_s,
            subscriptions: s.subscriptions.len(),
            suspended: s.suspensions.len(),
            suspended_filters: Self::suspended_filters(s, |_| true),
            queued_messages: s.queue.len(),
            queued_bytes: s.queue_bytes,
            in_flight_messages: s.in_flight.len(),
            generation: s.rules.as_ref().map_or(0, |rules| rules.generation),
        }
    }
}
