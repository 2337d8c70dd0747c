//! One connection of a client, which never blocks: packets in, packets out, and that it was lost.

use crate::support::{Packet, Version};
use bytes::{Bytes, BytesMut};
use mio::{Interest, Registry, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// No packet of this load is larger.
const PACKET_LIMIT: u32 = 1 << 20;

#[derive(Default)]
pub(crate) struct Link {
    stream: Option<mio::net::TcpStream>,
    read: BytesMut,
    unsent: Vec<u8>,
}

impl Link {
    /// Connects; `false` where nobody listens.
    pub(crate) fn open(&mut self, address: SocketAddr, registry: &Registry) -> bool {
        self.close();
        let Ok(stream) = std::net::TcpStream::connect(address) else {
            return false;
        };
        stream.set_nodelay(true).expect("set nodelay");
        stream.set_nonblocking(true).expect("set nonblocking");
        let mut stream = mio::net::TcpStream::from_std(stream);
        // Which one is ready is of no interest: all are looked at whenever one is.
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry
            .register(&mut stream, Token(0), interest)
            .expect("register a socket");
        self.stream = Some(stream);
        true
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Closes without a word.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }

    /// Written with the next [`Link::flush`].
    pub(crate) fn send(&mut self, packet: &Packet, version: Version) {
        nervewire_codec::encode(packet, version, &mut self.unsent).expect("encode");
    }

    /// Writes what can be written; a lost connection shows when it is read.
    pub(crate) fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Reads all there is into `packets`. At the end of the connection it is closed, after its last whole packet.
    pub(crate) fn receive(&mut self, version: Version, packets: &mut Vec<Packet>) {
        let ended = self.fill();
        let bytes = self.read.split().freeze();
        let mut at = 0;
        while let Some((packet, end)) = next_packet(&bytes, at, version) {
            packets.push(packet);
            at += end;
        }
        self.read.extend_from_slice(&bytes[at..]);
        if ended {
            self.close();
        }
    }

    /// Reads until there is no more; `true` at the end of the connection.
    fn fill(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut chunk = [0; 65536];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return true,
                Ok(count) => self.read.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }
}

fn next_packet(bytes: &Bytes, at: usize, version: Version) -> Option<(Packet, usize)> {
    nervewire_codec::decode(bytes, at, Some(version), PACKET_LIMIT).expect("a valid packet from the broker")
}
