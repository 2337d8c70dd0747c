//! Connections that are not let in yet: CONNECT, the authenticators, and the way to the shard that owns the session.

use super::accept::ListenerSettings;
use super::inbox::{ShardEvent, bounds};
use super::socket::{Readable, Socket};
use super::worker::{Kind, Worker};
use crate::auth_pool::{Job, ReplyTo};
use bytes::{Bytes, BytesMut};
use mio::Interest;
use nervewire_codec::{Packet, ReasonCode, Version, decode, encode};
use nervewire_core::handshake::{Accepted, ChainOutcome, Handshake, Peer, Step};
use nervewire_core::hook::{Authentication, Certificate};
use nervewire_core::outbuf::OutBuf;
use nervewire_core::shard::home_shard;
use nervewire_core::time::Millis;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A connection before CONNACK.
pub(super) struct Pending {
    serial: u64,
    socket: Socket,
    settings: Arc<ListenerSettings>,
    peer: SocketAddr,
    /// Made when TLS is done, because the certificate belongs to it.
    handshake: Option<Handshake>,
    version: Option<Version>,
    unread: BytesMut,
    out: OutBuf,
    deadline: Millis,
    /// The authenticators are at work.
    deciding: bool,
    /// Refused: close when the last bytes are written.
    closing: bool,
}

/// A connection on its way to the shard that owns its session.
pub(crate) struct Adopted {
    pub(super) socket: Socket,
    pub(super) accepted: Box<Accepted>,
    /// What the client sent behind its CONNECT.
    pub(super) unread: BytesMut,
}

impl Worker {
    /// A new connection.
    pub(super) fn greet(&mut self, mut socket: Socket, peer: SocketAddr, settings: Arc<ListenerSettings>) {
        self.serial += 1;
        let entry = self.pending.vacant_entry();
        let slot = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self
            .poll
            .registry()
            .register(socket.stream(), Kind::Pending.token(slot), interest)
        {
            tracing::error!(%error, "cannot watch a connection");
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let deadline = self.now + self.connect_timeout_ms;
        entry.insert(Pending {
            serial: self.serial,
            socket,
            settings,
            peer,
            handshake: None,
            version: None,
            unread: BytesMut::new(),
            out: OutBuf::default(),
            deadline,
            deciding: false,
            closing: false,
        });
        self.deadlines.push_back((deadline, slot, self.serial));
    }

    /// The socket of a pending connection is ready.
    pub(super) fn pending_ready(&mut self, slot: usize) {
        self.flush_pending(slot);
        loop {
            let Some(pending) = self.pending.get_mut(slot) else {
                return;
            };
            if pending.closing || pending.deciding {
                return;
            }
            match pending.socket.read(&mut self.scratch) {
                Readable::Bytes(n) => {
                    pending.unread.extend_from_slice(&self.scratch[..n]);
                    self.pending_bytes(slot);
                }
                Readable::Empty => return,
                Readable::Closed => return self.drop_pending(slot),
            }
        }
    }

    /// Feeds the handshake what was read. CONNECT may be followed by more, which waits for the CONNACK.
    fn pending_bytes(&mut self, slot: usize) {
        loop {
            let Some(pending) = self.pending.get_mut(slot) else {
                return;
            };
            if pending.deciding || pending.closing || pending.unread.is_empty() {
                return;
            }
            if pending.handshake.is_none() {
                let anonymous = self.shared.anonymous.load(Ordering::Relaxed);
                pending.handshake = Some(Handshake::new(
                    peer_of(pending),
                    super::worker::anonymous_from(anonymous),
                ));
            }
            let limit = self.max_packet_bytes.min(bounds::HANDSHAKE_PACKET_BYTES);
            // Copied once: CONNECT is small and rare.
            let source = Bytes::copy_from_slice(&pending.unread);
            let Some(handshake) = &mut pending.handshake else {
                return;
            };
            let step = match decode(&source, 0, pending.version, limit) {
                Ok(None) => return,
                Ok(Some((packet, used))) => {
                    bytes::Buf::advance(&mut pending.unread, used);
                    if let Packet::Connect(connect) = &packet {
                        pending.version = Some(connect.version);
                    }
                    handshake.packet(packet, random_u128())
                }
                Err(error) => {
                    // What the refusal is written in.
                    pending.version = pending.version.or_else(|| Version::of_connect(&source));
                    handshake.malformed(&error, pending.version)
                }
            };
            self.step(slot, step);
        }
    }

    fn step(&mut self, slot: usize, step: Step) {
        match step {
            Step::Authenticate {
                client,
                credentials,
                only,
            } => {
                let Some(pending) = self.pending.get_mut(slot) else {
                    return;
                };
                pending.deciding = true;
                let reply_to = ReplyTo::Pending {
                    shard: self.number,
                    slot,
                    serial: pending.serial,
                };
                let job = Job {
                    client,
                    credentials,
                    only,
                    reply_to,
                };
                if let Some(outcome) = self.shared.authenticators.submit(job) {
                    self.pending_decided(slot, outcome);
                }
            }
            Step::Send(packet) => {
                self.send_pending(slot, &packet);
            }
            Step::Refuse(packet, reason) => self.refuse(slot, packet, reason),
            Step::Accept(accepted) => self.hand_over(slot, accepted),
        }
    }

    /// The authenticators decided about a connection, if it is still there.
    pub(super) fn authenticated(&mut self, slot: usize, serial: u64, outcome: ChainOutcome) {
        if self
            .pending
            .get(slot)
            .is_some_and(|pending| pending.serial == serial && pending.deciding)
        {
            self.pending_decided(slot, outcome);
            // What came meanwhile.
            self.pending_bytes(slot);
            self.pending_ready(slot);
        }
    }

    fn pending_decided(&mut self, slot: usize, outcome: ChainOutcome) {
        let Some(pending) = self.pending.get_mut(slot) else {
            return;
        };
        pending.deciding = false;
        let Some(handshake) = &mut pending.handshake else {
            return;
        };
        let step = handshake.outcome(outcome);
        self.step(slot, step);
    }

    fn send_pending(&mut self, slot: usize, packet: &Packet) {
        let Some(pending) = self.pending.get_mut(slot) else {
            return;
        };
        let version = pending.version.unwrap_or(Version::V311);
        let encoded = pending.out.append(|out| encode(packet, version, out));
        if let Err(error) = encoded {
            tracing::error!(%error, "a packet of the handshake could not be encoded");
        }
        self.flush_pending(slot);
    }

    fn flush_pending(&mut self, slot: usize) {
        let Some(pending) = self.pending.get_mut(slot) else {
            return;
        };
        if pending.socket.write(&mut pending.out).is_err() {
            return self.drop_pending(slot);
        }
        if pending.closing && pending.out.is_empty() && pending.socket.is_flushed() {
            pending.socket.finish();
            self.drop_pending(slot);
        }
    }

    fn refuse(&mut self, slot: usize, packet: Option<Packet>, reason: ReasonCode) {
        self.driver.refused(reason);
        let Some(pending) = self.pending.get_mut(slot) else {
            return;
        };
        tracing::info!(peer = %pending.peer, listener = &*pending.settings.name, ?reason, "connection refused");
        pending.closing = true;
        match packet {
            Some(packet) => self.send_pending(slot, &packet),
            None => self.flush_pending(slot),
        }
    }

    /// To the shard that owns the session, which may be this one.
    fn hand_over(&mut self, slot: usize, accepted: Box<Accepted>) {
        let Some(mut pending) = self.pending.try_remove(slot) else {
            return;
        };
        let _ = self.poll.registry().deregister(pending.socket.stream()); // It is registered anew, here or elsewhere.
        let home = home_shard(
            accepted.client.tenant.as_deref(),
            &accepted.client.client_id,
            self.shared.mesh.shards(),
        );
        let adopted = Box::new(Adopted {
            socket: pending.socket,
            accepted,
            unread: pending.unread,
        });
        if home == self.number {
            self.adopt(*adopted);
        } else {
            self.shared.mesh.send(home, ShardEvent::Adopt(adopted));
        }
    }

    pub(super) fn drop_pending(&mut self, slot: usize) {
        if let Some(mut pending) = self.pending.try_remove(slot) {
            let _ = self.poll.registry().deregister(pending.socket.stream()); // It is dropped next.
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Closes those whose CONNECT did not come in time. A decision under way is not the client's delay.
    pub(super) fn drop_overdue(&mut self) {
        while let Some((deadline, slot, serial)) = self.deadlines.front().copied() {
            let Some(pending) = self.pending.get_mut(slot).filter(|pending| pending.serial == serial) else {
                self.deadlines.pop_front();
                continue;
            };
            if deadline > self.now {
                return;
            }
            self.deadlines.pop_front();
            if pending.deciding {
                pending.deadline = self.now + self.connect_timeout_ms;
                self.deadlines.push_back((pending.deadline, slot, serial));
            } else {
                self.driver.connect_timeouts += 1;
                self.drop_pending(slot);
            }
        }
    }
}

fn peer_of(pending: &Pending) -> Peer {
    let certificate = pending.socket.peer_certificate().and_then(|der| {
        // Verified by rustls; facts that cannot be read are treated as no certificate, which never lets anybody in.
        crate::tls::certificate_facts(&der)
            .inspect_err(|error| tracing::warn!(%error, "client certificate"))
            .ok()
    });
    let name = |certificate: &Certificate| {
        let kind = pending.settings.identity?;
        crate::tls::identity_name(certificate, kind).map(|name| Arc::from(name.as_str()))
    };
    Peer {
        address: pending.peer.ip().to_canonical(),
        port: pending.peer.port(),
        listener: pending.settings.name.clone(),
        listener_is_loopback: pending.settings.address.ip().to_canonical().is_loopback(),
        certificate_name: certificate.as_ref().and_then(name),
        certificate: certificate.map(Arc::new),
    }
}

/// For assigned client identifiers, which nobody must be able to guess.
fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no random numbers from the system");
    }
    u128::from_le_bytes(bytes)
}

/// The outcome when the pool cannot take a job.
pub(crate) fn busy() -> ChainOutcome {
    ChainOutcome {
        answer: Authentication::Deny(ReasonCode::ServerBusy),
        authenticator: 0,
    }
}
