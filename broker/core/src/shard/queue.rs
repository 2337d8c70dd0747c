//! The bounds of session queues.

use super::Shard;
use super::conn::Conn;
use crate::limits::{PURGE_STEP_MESSAGES, PURGE_STEP_QUEUED_MESSAGES, QueuePolicy};
use crate::session::{InFlight, Session};
use crate::store::Record;
use crate::time::Millis;
use nervewire_codec::QoS;

/// The bound that a message hits.
#[derive(Clone, Copy)]
enum Bound {
    Messages,
    Bytes,
    /// It would not fit into the empty queue.
    MessageTooLarge,
    Memory,
}

impl Shard {
    /// Makes room for a message of so many bytes in a session's queue, or answers that it must go.
    pub(super) fn make_room(&mut self, now: Millis, session: u32, bytes: u64) -> bool {
        while let Some(bound) = self.bound_hit(session, bytes) {
            if self.drop_expired_head(now, session) {
                continue;
            }
            if matches!(bound, Bound::Memory) {
                self.shed(now, bytes);
                if self.memory_allows(bytes) {
                    continue;
                }
            }
            let counter = match bound {
                Bound::Messages => &mut self.counters.dropped.queue_messages,
                Bound::Bytes | Bound::MessageTooLarge => &mut self.counters.dropped.queue_bytes,
                Bound::Memory => &mut self.counters.dropped.memory_bytes,
            };
            *counter += 1;
            let oldest_goes = self.config.queue_policy == QueuePolicy::DropOldest;
            let in_vain = matches!(bound, Bound::MessageTooLarge);
            if in_vain || !oldest_goes || !self.drop_head(session) {
                return false;
            }
        }
        true
    }

    /// Drops expired messages of sessions that are away, step by step; connected sessions drop theirs when their turn comes.
    pub(super) fn purge_queues(&mut self, now: Millis) {
        let sessions = self.sessions.end();
        let (mut looked_at, mut seen) = (0, 0);
        while looked_at < PURGE_STEP_QUEUED_MESSAGES && seen < sessions && !self.is_stuck() {
            let session = self.next_purged % sessions;
            self.next_purged = session + 1;
            seen += 1;
            looked_at += 1 + self.purge_queue(now, session as u32);
        }
    }

    /// Answers how many messages were looked at.
    fn purge_queue(&mut self, now: Millis, session: u32) -> usize {
        let Some(s) = self.sessions.get(session as usize).filter(|s| s.conn.is_none()) else {
            return 0;
        };
        let (looked_at, durable) = (s.queue.len(), self.durable(session));
        let expired = s.queue.iter().enumerate().filter(|(_, queued)| queued.is_expired(now));
        let expired: Vec<usize> = expired.map(|(at, _)| at).take(PURGE_STEP_MESSAGES).collect();
        self.counters.dropped.expired += expired.len() as u64;
        let mut records = Vec::new();
        for at in expired.into_iter().rev() {
            let removed = self.remove_queued(session, at);
            let recorded = removed
                .filter(|queued| queued.qos != QoS::AtMostOnce)
                .zip(durable.clone());
            records.extend(recorded.map(|(queued, (_, session))| Record::Acknowledged {
                session,
                order: queued.order,
            }));
        }
        if let Some((partition, _)) = durable.filter(|_| !records.is_empty()) {
            self.within(None, |shard| shard.append(partition, records));
        }
        looked_at
    }

    /// Drops the next message of a queue; whether there was one.
    pub(super) fn drop_head(&mut self, session: u32) -> bool {
        let dropped = self.dequeue(session);
        if let Some(queued) = &dropped {
            self.record_acknowledged(session, queued.order, queued.qos);
        }
        dropped.is_some()
    }

    /// Drops the next message of a queue where it has expired [MQTT-3.3.2-5].
    pub(super) fn drop_expired_head(&mut self, now: Millis, session: u32) -> bool {
        let head = self.sessions.get(session as usize).and_then(|s| s.queue.front());
        let expired = head.is_some_and(|head| head.is_expired(now));
        if expired {
            self.counters.dropped.expired += 1;
            self.drop_head(session);
        }
        expired
    }

    /// Whether one more message may be in flight: as many as the client takes, and no more bytes than it may queue.
    pub(super) fn window_is_open(&self, s: &Session, conn: &Conn, bytes: u64) -> bool {
        let bytes = || s.in_flight.bytes().saturating_add(bytes);
        s.in_flight.len() < usize::from(conn.window) && (s.in_flight.is_empty() || bytes() <= self.most_bytes(s))
    }

    pub(super) fn memory_allows(&self, bytes: u64) -> bool {
        self.used_bytes().saturating_add(bytes) <= self.config.memory_bytes
    }

    /// Changes what is in flight to a client: a message is its client's now, or no more.
    pub(super) fn change_in_flight<T>(&mut self, session: u32, change: impl FnOnce(&mut InFlight) -> T) -> Option<T> {
        let s = self.sessions.get_mut(session as usize)?;
        let (before, absent_before) = (s.in_flight.bytes(), s.in_flight.absent_bytes());
        let answer = change(&mut s.in_flight);
        self.in_flight_bytes = self.in_flight_bytes + s.in_flight.bytes() - before;
        self.absent_bytes = self.absent_bytes + s.in_flight.absent_bytes() - absent_before;
        Some(answer)
    }

    /// Bytes that are in memory because of clients: messages that are queued or in flight, outputs, and what was read.
    pub(super) fn used_bytes(&self) -> u64 {
        self.held_bytes() + self.output_bytes + self.read_bytes
    }

    /// Bytes of all messages that are in memory because they are queued or in flight.
    pub(super) fn held_bytes(&self) -> u64 {
        (self.counters.queued_bytes + self.in_flight_bytes).saturating_sub(self.absent_bytes)
    }

    fn most_bytes(&self, s: &Session) -> u64 {
        s.quotas().queue_bytes.unwrap_or(self.config.queue_bytes)
    }

    fn bound_hit(&self, session: u32, bytes: u64) -> Option<Bound> {
        let s = self.sessions.get(session as usize)?;
        let most_messages = s.quotas().queue_messages.unwrap_or(self.config.queue_messages);
        let most_bytes = self.most_bytes(s);
        if bytes > most_bytes {
            Some(Bound::MessageTooLarge)
        } else if s.queue.len() >= most_messages as usize {
            Some(Bound::Messages)
        } else if s.queue_bytes.saturating_add(bytes) > most_bytes {
            Some(Bound::Bytes)
        } else if !self.memory_allows(bytes) {
            Some(Bound::Memory)
        } else {
            None
        }
    }
}
