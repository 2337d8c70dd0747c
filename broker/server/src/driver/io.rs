//! Connected clients: bytes in, bytes out.

use super::handshake::Adopted;
use super::inbox::bounds;
use super::socket::{Readable, Socket};
use super::worker::{Kind, Worker};
use bytes::{Bytes, BytesMut};
use mio::Interest;
use nervewire_codec::{Version, decode, frame_len};
use nervewire_core::limits::OUTPUT_HIGH_WATER_BYTES;
use nervewire_core::shard::{ConnId, Feed};
use nervewire_core::time::Millis;
use std::sync::atomic::Ordering;

/// The socket of a connected client.
pub(super) struct Client {
    socket: Socket,
    version: Version,
    /// The start of a packet that is not complete, or packets that may not be fed yet.
    unread: BytesMut,
    /// The kernel may have more.
    readable: bool,
    /// On the list of those that are served in the next pass.
    listed: bool,
    /// Closing: what waits is written until this moment.
    closing_until: Option<Millis>,
}

impl Worker {
    /// A client that was let in, from this shard or another.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted {
            socket,
            accepted,
            unread,
        } = adopted;
        let version = accepted.connect.version;
        let id = self.shard.connect(self.now, accepted);
        let slot = id.0 as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
        }
        let readable = true; // An edge may have passed while the socket was between two polls.
        let mut client = Client {
            socket,
            version,
            unread,
            readable,
            listed: false,
            closing_until: None,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self
            .poll
            .registry()
            .register(client.socket.stream(), Kind::Client.token(slot), interest);
        self.clients[slot] = Some(client);
        self.run_calls();
        match registered {
            Ok(()) => self.list(id),
            Err(error) => {
                tracing::error!(%error, "cannot watch a connection");
                self.gone(id);
            }
        }
    }

    /// Serves a client in the next round of this pass.
    pub(super) fn list(&mut self, id: ConnId) {
        if let Some(Some(client)) = self.clients.get_mut(id.0 as usize)
            && !client.listed
        {
            client.listed = true;
            self.ready.push_back(id);
        }
    }

    pub(super) fn client_event(&mut self, id: ConnId, readable: bool, writable: bool) {
        let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
            return;
        };
        client.readable |= readable;
        if writable {
            self.touched.push(id);
        }
        if readable {
            self.list(id);
        }
    }

    /// Reads and feeds one client, up to its share of a pass.
    pub(super) fn serve(&mut self, id: ConnId) {
        if let Some(Some(client)) = self.clients.get_mut(id.0 as usize) {
            client.listed = false;
        }
        if !self.feed_unread(id) {
            return;
        }
        let mut budget = bounds::READ_BYTES_PER_PASS;
        loop {
            let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
                return;
            };
            if !client.readable {
                return;
            }
            if budget == 0 {
                return self.list(id); // Others first.
            }
            match client.socket.read(&mut self.scratch) {
                Readable::Bytes(n) => {
                    budget = budget.saturating_sub(n);
                    self.driver.bytes_received += n as u64;
                    // A short read of a plain socket emptied it: the next bytes bring a new edge.
                    client.readable = n == self.scratch.len() || client.socket.is_secured();
                    if !self.feed_bytes(id, n) {
                        return;
                    }
                }
                Readable::Empty => {
                    client.readable = false;
                    return;
                }
                Readable::Closed => return self.gone(id),
            }
        }
    }

    /// Whether the connection may be fed: it waits for nothing, and reads what we write.
    fn may_feed(&mut self, id: ConnId) -> bool {
        let backlog = self.shard.output(id).map_or(0, |out| out.len());
        self.shard.feed(self.now, id) == Feed::More && backlog <= OUTPUT_HIGH_WATER_BYTES
    }

    fn feed_unread(&mut self, id: ConnId) -> bool {
        let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
            return false;
        };
        let unread = std::mem::take(&mut client.unread);
        if unread.is_empty() {
            return self.may_feed(id);
        }
        self.feed_chunk(id, unread.freeze())
    }

    /// Feeds the first `n` bytes of the scratch buffer behind what was unread.
    fn feed_bytes(&mut self, id: ConnId, n: usize) -> bool {
        let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
            return false;
        };
        if client.unread.is_empty() {
            let chunk = Bytes::copy_from_slice(&self.scratch[..n]);
            return self.feed_chunk(id, chunk);
        }
        client.unread.extend_from_slice(&self.scratch[..n]);
        // A large packet is put together before it is looked at again.
        if let Ok(Some(length)) = frame_len(&client.unread, self.max_packet_bytes)
            && length > client.unread.len()
        {
            return true;
        }
        let chunk = std::mem::take(&mut client.unread).freeze();
        self.feed_chunk(id, chunk)
    }

    /// Feeds every complete packet; keeps the rest. `false`: read no more now.
    fn feed_chunk(&mut self, id: ConnId, chunk: Bytes) -> bool {
        let Some(Some(version)) = self.clients.get(id.0 as usize).map(|c| c.as_ref().map(|c| c.version)) else {
            return false;
        };
        let mut at = 0;
        let mut more = self.may_feed(id);
        while more {
            match decode(&chunk, at, Some(version), self.max_packet_bytes) {
                Ok(Some((packet, used))) => {
                    at += used;
                    let feed = self.shard.packet(self.now, id, packet);
                    self.run_calls();
                    self.write_full();
                    more = feed == Feed::More || self.may_feed(id);
                }
                Ok(None) => break,
                Err(error) => {
                    self.shard.malformed(self.now, id, &error);
                    return false;
                }
            }
        }
        if at < chunk.len()
            && let Some(Some(client)) = self.clients.get_mut(id.0 as usize)
        {
            client.unread = BytesMut::from(&chunk[at..]);
        }
        more
    }

    /// Writes what a touched connection has, and lets its session go on.
    pub(super) fn flush(&mut self, id: ConnId) {
        let slot = id.0 as usize;
        let Some(Some(client)) = self.clients.get_mut(slot) else {
            return;
        };
        let Some(out) = self.shard.output(id) else { return };
        let before = out.len();
        let written = client.socket.write(out);
        let left = out.len();
        out.release_idle();
        self.driver.bytes_sent += (before - left) as u64;
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
        let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
            return self.shard.closed(self.now, id);
        };
        client.closing_until = Some(until);
        client.unread.clear();
        self.lingering.push_back((until, id));
        self.touched.push(id);
    }

    /// Ends connections whose last bytes do not get through.
    pub(super) fn end_lingering(&mut self) {
        while let Some((until, id)) = self.lingering.front().copied().filter(|(until, _)| *until <= self.now) {
            self.lingering.pop_front();
            if let Some(Some(client)) = self.clients.get(id.0 as usize)
                && client.closing_until == Some(until)
            {
                self.gone(id);
            }
        }
    }

    /// The transport ended.
    pub(super) fn gone(&mut self, id: ConnId) {
        if let Some(mut client) = self.clients.get_mut(id.0 as usize).and_then(Option::take) {
            let _ = self.poll.registry().deregister(client.socket.stream()); // It is dropped next.
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.shard.closed(self.now, id);
        }
    }

    /// Connections that are still there.
    pub(super) fn open_clients(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.clients
            .iter()
            .enumerate()
            .filter_map(|(slot, client)| client.as_ref().map(|_| ConnId(slot as u32)))
    }
}
