//! The bounds of session queues.

use super::Shard;
use crate::limits::QueuePolicy;
use crate::time::Millis;

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
            let counter = match bound {
                Bound::Messages => &mut self.counters.dropped.queue_messages,
                Bound::Bytes | Bound::MessageTooLarge => &mut self.counters.dropped.queue_bytes,
                Bound::Memory => &mut self.counters.dropped.memory_bytes,
            };
            *counter += 1;
            let oldest_goes = self.config.queue_policy == QueuePolicy::DropOldest;
            let in_vain = matches!(bound, Bound::MessageTooLarge);
            if in_vain || !oldest_goes || self.dequeue(session).is_none() {
                return false;
            }
        }
        true
    }

    /// Drops the next message of a queue where it has expired [MQTT-3.3.2-5].
    pub(super) fn drop_expired_head(&mut self, now: Millis, session: u32) -> bool {
        let head = self.sessions.get(session as usize).and_then(|s| s.queue.front());
        let expired = head.is_some_and(|head| head.message.is_expired(now));
        if expired {
            self.counters.dropped.expired += 1;
            self.dequeue(session);
        }
        expired
    }

    fn bound_hit(&self, session: u32, bytes: u64) -> Option<Bound> {
        let s = self.sessions.get(session as usize)?;
        let most_messages = s.quotas.queue_messages.unwrap_or(self.config.queue_messages);
        let most_bytes = s.quotas.queue_bytes.unwrap_or(self.config.queue_bytes);
        if bytes > most_bytes {
            Some(Bound::MessageTooLarge)
        } else if s.queue.len() >= most_messages as usize {
            Some(Bound::Messages)
        } else if s.queue_bytes.saturating_add(bytes) > most_bytes {
            Some(Bound::Bytes)
        } else if self.counters.queued_bytes.saturating_add(bytes) > self.config.memory_bytes {
            Some(Bound::Memory)
        } else {
            None
        }
    }
}
