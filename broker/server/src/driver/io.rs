//! Connected clients: coming, being written to, and going. How they are read is in `read`.

use super::handshake::{Adopted, Stage};
use super::inbox::bounds;
use super::socket::Socket;
use super::worker::Worker;
use nervewire_codec::{ReasonCode, Version};
use nervewire_core::limits::OUTPUT_HIGH_WATER_BYTES;
use nervewire_core::outbuf::OutBuf;
use nervewire_core::shard::ConnId;
use nervewire_core::time::Millis;

/// The socket of a connected client.
pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) version: Version,
    /// What its listener takes; `u32::MAX`: what the shard does.
    pub(super) max_packet_bytes: u32,
    /// The start of a packet that is not complete, or packets that may not be fed yet.
    pub(super) unread: Vec<u8>,
    /// Its bytes as the memory counts them.
    pub(super) counted: u64,
    /// The kernel may have more.
    pub(super) readable: bool,
    /// On the list of those that are served in the next pass.
    pub(super) listed: bool,
    /// Closing: what waits is written until this moment.
    closing_until: Option<Millis>,
}

impl Worker {
    /// A client that another shard let in.
    pub(super) fn adopt(&mut self, mut adopted: Adopted) {
        let slot = self.numbers.vacant_key();
        if !self.watch(&mut adopted.socket, slot) {
            return;
        }
        self.numbers.insert(Stage::LetIn);
        self.let_in(slot, adopted);
    }

    /// From now on the shard knows the connection.
    pub(super) fn let_in(&mut self, slot: usize, adopted: Adopted) {
        let Adopted {
            mut socket,
            readable,
            accepted,
            unread,
        } = adopted;
        let id = ConnId(slot as u32);
        if !self.may_enter(&mut socket) {
            let _ = self.poll.registry().deregister(socket.stream()); // It is dropped next.
            self.numbers.try_remove(slot);
            return;
        }
        let client = Client {
            socket,
            version: accepted.connect.version,
            max_packet_bytes: accepted.max_packet_bytes,
            unread: unread.into(),
            counted: 0,
            readable,
            listed: false,
            closing_until: None,
        };
        self.clients.insert(slot, client);
        match self.shared.defence.bans_client(&accepted.client, self.now) {
            // Counted as a CONNECT that was refused.
            true => self.shard.turn_away(self.now, id, &accepted, ReasonCode::Banned),
            false => self.shard.connect(self.now, id, accepted),
        }
        self.run_calls();
        self.list(id);
    }

    /// Serves a client in the next round of this pass.
    pub(super) fn list(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(id.0 as usize)
            && !client.listed
        {
            client.listed = true;
            self.ready.push_back(id);
        }
    }

    /// A client that is still there.
    pub(super) fn client(&mut self, id: ConnId) -> Option<&mut Client> {
        self.clients.get_mut(id.0 as usize)
    }

    pub(super) fn client_event(&mut self, id: ConnId, readable: bool, writable: bool) {
        let Some(client) = self.clients.get_mut(id.0 as usize) else {
            return;
        };
        client.readable |= readable;
        // Most often the edge only says again that there is room.
        let waits = |out: &OutBuf| !out.is_empty() || !client.socket.is_flushed();
        if writable && self.shard.output(id).is_some_and(|out| waits(out)) {
            self.touched.push(id);
        }
        if readable {
            self.list(id);
        }
    }

    /// Writes what a touched connection has, and lets its session go on.
    pub(super) fn flush(&mut self, id: ConnId) {
        let slot = id.0 as usize;
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let Some(out) = self.shard.output(id) else { return };
        let before = out.len();
        let written = client.socket.write(out);
        let left = out.len();
        self.shard.settle_output(id);
        self.driver.bytes_sent += (before - left) as u64;
        self.shard.count_bytes_out(id, before - left);
        if written.is_err() {
            return self.gone(id);
        }
        if client.closing_until.is_some() {
            if left == 0 && client.socket.is_flushed() {
                client.socket.finish();
                self.gone(id);
            }
            return;
        }
        self.shard.written(self.now, id);
        // A client that was not read because it did not read is read again.
        let stopped = before > OUTPUT_HIGH_WATER_BYTES && left <= OUTPUT_HIGH_WATER_BYTES;
        if stopped || !client.unread.is_empty() {
            self.list(id);
        }
    }

    /// The core has said its last word to this connection.
    pub(super) fn close(&mut self, id: ConnId) {
        let until = self.now + bounds::LINGER_MS;
        let Some(client) = self.clients.get_mut(id.0 as usize) else {
            return self.shard.closed(self.now, id);
        };
        client.closing_until = Some(until);
        client.unread = Vec::new();
        self.memory.recount_client(&mut client.counted, 0);
        self.lingering.push_back((until, id));
        self.touched.push(id);
    }

    /// Ends connections whose last bytes do not get through.
    pub(super) fn end_lingering(&mut self) {
        while let Some((until, id)) = self.lingering.front().copied().filter(|(until, _)| *until <= self.now) {
            self.lingering.pop_front();
            if let Some(client) = self.clients.get(id.0 as usize)
                && client.closing_until == Some(until)
            {
                self.gone(id);
            }
        }
    }

    /// The transport ended.
    pub(super) fn gone(&mut self, id: ConnId) {
        if let Some(mut client) = self.clients.remove(id.0 as usize) {
            let _ = self.poll.registry().deregister(client.socket.stream()); // It is dropped next.
            self.memory.recount_client(&mut client.counted, 0);
            self.numbers.try_remove(id.0 as usize);
            self.shard.closed(self.now, id);
        }
    }

    /// Connections that are still there.
    pub(super) fn open_clients(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.clients.iter().map(|(slot, _)| ConnId(slot as u32))
    }
}
