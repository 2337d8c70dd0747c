//! What gives way when the memory of a shard is used up: who has most waiting, first of all their QoS 0 messages.
//!
//! A subscriber that never reads, or many of them, thereby lose their own messages, and nobody else's.

use super::{ConnId, Shard};
use crate::limits::{QueuePolicy, SHED_RETRY_MS, SHED_SHARE};
use crate::time::Millis;
use nervewire_codec::QoS;
use std::cmp::Reverse;

impl Shard {
    /// Bytes that connections of this shard hold outside of it: what was read from them and cannot be fed yet.
    pub fn set_read_bytes(&mut self, bytes: u64) {
        self.read_bytes = bytes;
    }

    /// How many bytes this shard may have in memory because of clients.
    pub fn memory_bytes(&self) -> u64 {
        self.config.memory_bytes
    }

    /// By how many bytes this shard is over its memory.
    pub fn over_memory(&self) -> u64 {
        self.used_bytes().saturating_sub(self.config.memory_bytes)
    }

    /// A client that holds too much memory outside of its session goes.
    pub fn end_for_memory(&mut self, now: Millis, id: ConnId) {
        self.counters.memory_disconnected += 1;
        self.counters.disconnects_server += 1;
        let reason = nervewire_codec::ReasonCode::QuotaExceeded;
        self.disconnect(
            now,
            id,
            reason,
            Some("the broker is out of memory for unfinished packets"),
        );
    }

    /// What waits in a connection's output counts from now on as it is.
    pub(super) fn count_output(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0 as usize) else {
            return;
        };
        let waiting = u32::try_from(conn.out.len()).unwrap_or(u32::MAX);
        self.output_bytes = self.output_bytes + u64::from(waiting) - u64::from(conn.counted_output);
        conn.counted_output = waiting;
    }

    /// A connection is gone with its output.
    pub(super) fn forget_output(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0 as usize) {
            self.output_bytes -= u64::from(std::mem::take(&mut conn.counted_output));
        }
    }

    /// Makes room for so many bytes and some more, so that this is seldom to be done. What cannot be had is tried again later.
    pub(super) fn shed(&mut self, now: Millis, bytes: u64) {
        if now < self.shed_again_at {
            return;
        }
        let spare = self.config.memory_bytes / SHED_SHARE;
        let target = self.config.memory_bytes.saturating_sub(spare.saturating_add(bytes));
        let slow = self.slowest();
        for (_, session) in &slow {
            if self.used_bytes() <= target {
                return;
            }
            self.drop_qos_0(*session);
        }
        if self.config.queue_policy == QueuePolicy::DropOldest {
            for (waiting, session) in &slow {
                self.halve(*session, *waiting, target);
            }
        }
        if self.used_bytes() > target {
            self.shed_again_at = now + SHED_RETRY_MS;
        }
    }

    /// Sessions by the bytes that wait for them in memory, those with most first.
    fn slowest(&self) -> Vec<(u64, u32)> {
        let sessions = self.sessions.iter().map(|(slot, s)| {
            let waiting = s.queue_bytes.saturating_sub(s.queue_absent_bytes);
            (waiting, slot as u32)
        });
        let mut slow: Vec<(u64, u32)> = sessions.filter(|(waiting, _)| *waiting > 0).collect();
        slow.sort_unstable_by_key(|(waiting, _)| Reverse(*waiting));
        slow
    }

    fn drop_qos_0(&mut self, session: u32) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let before = s.queue.len();
        let mut bytes = 0;
        s.queue.retain(|queued| {
            let goes = queued.qos == QoS::AtMostOnce;
            bytes += if goes { queued.bytes() } else { 0 };
            !goes
        });
        let dropped = (before - s.queue.len()) as u64;
        s.queue_bytes -= bytes;
        self.counters.queued_messages -= dropped;
        self.counters.queued_bytes -= bytes;
        self.counters.dropped.memory_bytes += dropped;
    }

    /// The older half of a queue goes, as far as that is needed.
    fn halve(&mut self, session: u32, waiting: u64, target: u64) {
        let half = waiting / 2;
        let is_long = |shard: &Self| {
            let s = shard.sessions.get(session as usize);
            s.is_some_and(|s| s.queue_bytes.saturating_sub(s.queue_absent_bytes) > half)
        };
        while self.used_bytes() > target && is_long(self) && self.drop_head(session) {
            self.counters.dropped.memory_bytes += 1;
        }
    }
}
