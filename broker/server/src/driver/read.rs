//! Bytes in: from a client's socket into the shard's read buffer, and from there packet by packet to the shard.
//!
//! Packets are decoded where they were read. What is not complete yet, or may not be fed yet, is copied out: a client that sends
//! nothing owns no buffer.

use super::inbox::bounds;
use super::io::Client;
use super::socket::Readable;
use super::worker::Worker;
use nervewire_codec::{PacketRef, decode_in_place, frame_len};
use nervewire_core::limits::OUTPUT_HIGH_WATER_BYTES;
use nervewire_core::shard::{ConnId, Feed};

impl Worker {
    /// Reads and feeds one client, up to its share of a pass.
    pub(super) fn serve(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else { return };
        client.listed = false;
        if !self.unjudged.is_empty() {
            self.judge_client(id);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.serve_through(id, &mut scratch);
        self.scratch = scratch;
        self.count_read(id);
    }

    fn serve_through(&mut self, id: ConnId, scratch: &mut [u8]) {
        if !self.feed_unread(id) {
            return;
        }
        let mut budget = bounds::READ_BYTES_PER_PASS;
        loop {
            let max_packet_bytes = self.max_packet_bytes;
            let Some(client) = self.client(id) else { return };
            let max_packet_bytes = max_packet_bytes.min(client.max_packet_bytes);
            if !client.readable {
                return;
            }
            if budget == 0 {
                return self.list(id); // Others first.
            }
            let start = client.lay_out(scratch, max_packet_bytes);
            match client.socket.read(&mut scratch[start..]) {
                Readable::Bytes(n) => {
                    // A short read of a plain socket emptied it: the next bytes bring a new edge.
                    client.readable = start + n == scratch.len() || client.socket.is_layered();
                    // Frames that carry nothing take their time, too.
                    budget = budget.saturating_sub(n.max(bounds::READ_BYTES_AT_LEAST));
                    self.driver.bytes_received += n as u64;
                    self.shard.count_bytes_in(id, n);
                    if !self.feed_read(id, &scratch[..start + n]) {
                        return;
                    }
                }
                Readable::Empty => {
                    client.readable = false;
                    return client.take_back(&scratch[..start]);
                }
                Readable::Closed => return self.gone(id),
            }
        }
    }

    /// Whether the connection may be fed: it waits for nothing, and reads what we write.
    pub(super) fn may_feed(&mut self, id: ConnId) -> bool {
        let backlog = self.shard.output(id).map_or(0, |out| out.len());
        self.shard.feed(self.now, id) == Feed::More && backlog <= OUTPUT_HIGH_WATER_BYTES
    }

    fn feed_unread(&mut self, id: ConnId) -> bool {
        let Some(client) = self.client(id) else { return false };
        let unread = std::mem::take(&mut client.unread);
        if unread.is_empty() {
            return self.may_feed(id);
        }
        self.feed(id, unread)
    }

    /// Feeds what was read: behind a large packet's beginning, or as it stands in the read buffer.
    fn feed_read(&mut self, id: ConnId, read: &[u8]) -> bool {
        let max_packet_bytes = self.max_packet_bytes;
        let Some(client) = self.client(id) else { return false };
        let max_packet_bytes = max_packet_bytes.min(client.max_packet_bytes);
        if client.unread.is_empty() {
            let (used, more) = self.feed_packets(id, read);
            if let Some(client) = self.client(id) {
                client.take_back(&read[used..]);
            }
            return more;
        }
        client.unread.extend_from_slice(read);
        // A large packet is put together before it is looked at again.
        if let Ok(Some(length)) = frame_len(&client.unread, max_packet_bytes)
            && length > client.unread.len()
        {
            return true;
        }
        let unread = std::mem::take(&mut client.unread);
        self.feed(id, unread)
    }

    fn feed(&mut self, id: ConnId, bytes: Vec<u8>) -> bool {
        let (used, more) = self.feed_packets(id, &bytes);
        if let Some(client) = self.client(id) {
            // Most often nothing was used, because the client is not to be fed, or everything.
            client.unread = if used == 0 { bytes } else { bytes[used..].to_vec() };
        }
        more
    }

    /// Feeds complete packets, as many as the shard takes: how many bytes they had, and whether to read on.
    fn feed_packets(&mut self, id: ConnId, bytes: &[u8]) -> (usize, bool) {
        let Some(client) = self.client(id) else {
            return (bytes.len(), false);
        };
        let (version, max_packet_bytes) = (client.version, client.max_packet_bytes);
        let max_packet_bytes = max_packet_bytes.min(self.max_packet_bytes);
        let mut at = 0;
        let mut prepared = 0;
        let mut more = self.may_feed(id);
        while more {
            if at >= prepared {
                prepared = at + self.shard.look_ahead(id, &bytes[at..]);
            }
            if std::mem::take(&mut self.plugins.batch_is_worth_it)
                && let Some((used, goes_on)) = self.feed_run(id, &bytes[at..], version, max_packet_bytes)
            {
                at += used;
                more = goes_on;
                continue;
            }
            match decode_in_place(&bytes[at..], Some(version), max_packet_bytes) {
                Ok(Some((packet, used))) => {
                    at += used;
                    let feed = match packet {
                        PacketRef::Publish(publish) => self.shard.publish(self.now, id, publish, &mut self.plugins),
                        PacketRef::Other(packet) => self.shard.packet(self.now, id, packet),
                    };
                    more = self.goes_on(id, feed);
                }
                Ok(None) => break,
                Err(error) => {
                    self.shard.malformed(self.now, id, &error);
                    return (bytes.len(), false);
                }
            }
        }
        (at, more)
    }
}

impl Client {
    /// Puts the start of a packet back to the front of the read buffer, where it is completed without being copied again;
    /// answers where to read behind it. A packet that the buffer is too small for grows in a buffer of its own.
    fn lay_out(&mut self, scratch: &mut [u8], max_packet_bytes: u32) -> usize {
        let held = self.unread.len();
        if held == 0 {
            return 0;
        }
        let known = frame_len(&self.unread, max_packet_bytes);
        // An error is found again by decoding.
        let packet_bytes = known.ok().flatten().unwrap_or(held);
        if packet_bytes > scratch.len() || held >= scratch.len() {
            return 0;
        }
        scratch[..held].copy_from_slice(&self.unread);
        self.unread = Vec::new();
        held
    }

    /// Keeps what was read and cannot be fed yet.
    fn take_back(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.unread = rest.to_vec();
        }
    }
}
