//! Bytes that connections hold outside of their sessions: what was read and cannot be fed yet, and connections that are not let
//! in. They count for the memory of their shard, and those who are not let in give way first.

use super::handshake::Stage;
use super::worker::Worker;
use nervewire_core::shard::ConnId;
use nervewire_core::time::Millis;

/// Bytes that a connection counts for before it is let in.
const PLAIN_BYTES: u64 = 1_024;
/// With the state of TLS or a WebSocket.
const SECURED_BYTES: u64 = 32 * 1_024;
/// The part of a shard's memory that connections which are not let in may have.
const PENDING_SHARE: u64 = 4;
/// The part that is left to them when memory is used up.
const LEAST_PENDING_SHARE: u64 = 16;
/// Bytes of unfinished packets below which a client is not worth disconnecting.
const LARGE_BYTES: u64 = 64 * 1_024;
const RETRY_MS: u64 = 100;

/// What the connections of a shard hold.
#[derive(Debug, Default)]
pub(super) struct ReadMemory {
    clients: u64,
    pending: u64,
    again_at: Millis,
}

impl ReadMemory {
    /// A client that is let in holds so many bytes now.
    pub(super) fn recount_client(&mut self, counted: &mut u64, bytes: usize) {
        self.clients = self.clients + bytes as u64 - *counted;
        *counted = bytes as u64;
    }

    /// A connection that is not let in does.
    pub(super) fn recount_pending(&mut self, counted: &mut u64, unread: usize, is_layered: bool) {
        let base = if is_layered { SECURED_BYTES } else { PLAIN_BYTES };
        let bytes = base + unread as u64;
        self.pending = self.pending + bytes - *counted;
        *counted = bytes;
    }

    /// It is let in, or gone.
    pub(super) fn forget_pending(&mut self, counted: u64) {
        self.pending -= counted;
    }

    fn pending_over(&self, memory_bytes: u64, over_memory: u64) -> u64 {
        let over_share = self.pending.saturating_sub(memory_bytes / PENDING_SHARE);
        let spare = self.pending.saturating_sub(memory_bytes / LEAST_PENDING_SHARE);
        over_share.max(over_memory.min(spare))
    }
}

impl Worker {
    /// Counts what is held for a client that was served.
    pub(super) fn count_read(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(id.0 as usize) {
            let bytes = client.unread.capacity();
            self.memory.recount_client(&mut client.counted, bytes);
        }
    }

    /// Keeps the shard within its memory, as far as that is about connections: once per pass.
    pub(super) fn shed_connections(&mut self) {
        self.shard.set_read_bytes(self.memory.clients + self.memory.pending);
        let over = self
            .memory
            .pending_over(self.shard.memory_bytes(), self.shard.over_memory());
        if (over == 0 && self.shard.over_memory() == 0) || self.now < self.memory.again_at {
            return;
        }
        self.memory.again_at = self.now + RETRY_MS;
        self.shed_pending(over);
        self.shard.set_read_bytes(self.memory.clients + self.memory.pending);
        self.shed_unfinished(self.shard.over_memory());
        self.shard.set_read_bytes(self.memory.clients + self.memory.pending);
    }

    /// Those who have waited longest go, until so many bytes are free.
    fn shed_pending(&mut self, bytes: u64) {
        let target = self.memory.pending.saturating_sub(bytes);
        while self.memory.pending > target {
            let Some((_, slot, serial)) = self.deadlines.pop_first() else {
                return;
            };
            let is_meant = |pending: &&mut super::handshake::Pending| pending.serial() == serial;
            if self.pending(slot).filter(is_meant).is_some() {
                self.driver.pending_shed += 1;
                self.drop_pending(slot);
            }
        }
    }

    /// Those go who hold the largest unfinished packets.
    fn shed_unfinished(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let held = self
            .clients
            .iter()
            .map(|(slot, client)| (client.counted, ConnId(slot as u32)));
        let mut large: Vec<(u64, ConnId)> = held.filter(|(counted, _)| *counted >= LARGE_BYTES).collect();
        large.sort_unstable_by_key(|(counted, _)| std::cmp::Reverse(*counted));
        let mut freed = 0;
        for (counted, id) in large {
            if freed >= bytes {
                return;
            }
            freed += counted;
            self.shard.end_for_memory(self.now, id);
        }
    }

    /// Counts what is held for a connection that is not let in.
    pub(super) fn count_pending(&mut self, slot: usize) {
        if let Some(Stage::Pending(pending)) = self.numbers.get_mut(slot) {
            pending.count(&mut self.memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_let_in_has_its_share_and_less_when_memory_is_used_up() {
        let mut memory = ReadMemory::default();
        let (mut first, mut second) = (0, 0);
        memory.recount_pending(&mut first, 300_000, false);
        memory.recount_pending(&mut second, 0, true);
        assert_eq!(memory.pending, 300_000 + 1_024 + 32_768);
        let all = memory.pending;
        assert_eq!(memory.pending_over(4 * all, 0), 0);
        assert_eq!(memory.pending_over(4 * all - 4_000, 0), 1_000);
        assert_eq!(memory.pending_over(4 * all, 5_000), 5_000);
        assert_eq!(memory.pending_over(16 * all, 5_000), 0, "as many are always let try");
        memory.recount_pending(&mut first, 0, false);
        memory.forget_pending(first);
        memory.forget_pending(second);
        assert_eq!(memory.pending, 0);
    }
}
