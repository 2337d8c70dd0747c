//! Connections that are not let in yet: CONNECT, the authenticators, and the way to the shard that owns the session.

use super::accept::ListenerSettings;
use super::certificates::certificate_of;
use super::inbox::{ShardEvent, bounds};
use super::memory::ReadMemory;
use super::secure::TlsStream;
use super::socket::{Introduction, Readable, Socket};
use super::told::{About, Told, tell};
use super::worker::{Kind, Worker};
use crate::auth_pool::{Job, ReplyTo};
use crate::shadow::Watched;
use crate::tls::{Failure, is_tls_handshake};
use crate::transport::frames::End;
use crate::transport::proxy::NoHeader;
use crate::transport::upgrade::Refusal;
use crate::transport::websocket::Ended;
use bytes::{Bytes, BytesMut};
use mio::Interest;
use nervewire_codec::{Packet, ReasonCode, Version, decode, encode, frame_len};
use nervewire_core::handshake::{Accepted, ChainOutcome, Handshake, Peer, Step};
use nervewire_core::hook::{Authentication, Certificate, Client};
use nervewire_core::outbuf::OutBuf;
use nervewire_core::shard::home_shard;
use nervewire_core::time::Millis;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// As much of a packet as says what it is and how long.
const FIXED_HEADER_BYTES: usize = 5;

/// How far a connection has come.
pub(super) enum Stage {
    Pending(Box<Pending>),
    /// The shard knows it under its number.
    LetIn,
}

/// A connection before CONNACK.
pub(super) struct Pending {
    serial: u64,
    pub(super) socket: Socket,
    /// The client, once it is known that no proxy speaks for it.
    pub(super) peer: SocketAddr,
    /// The header of the PROXY protocol has not come yet.
    awaits_proxy: bool,
    /// Made when TLS is done, because the certificate belongs to it.
    handshake: Option<Handshake>,
    version: Option<Version>,
    unread: BytesMut,
    /// What it holds as the memory counts it.
    counted: u64,
    readable: bool,
    /// On the list of those whose turn comes.
    listed: bool,
    out: OutBuf,
    /// The client as it calls itself in its CONNECT.
    claimed: Option<Arc<Client>>,
    /// The authenticators are at work, or will be when it has waited.
    deciding: bool,
    /// What they will be asked then.
    pub(super) held: Option<Box<Job>>,
    /// What an authenticator in shadow mode is to be asked, too.
    watched: Option<Box<Watched>>,
    /// Refused: close when the last bytes are written.
    closing: bool,
    /// Reads of an open WebSocket that brought nothing of MQTT.
    frames_without_payload: u32,
}

impl Pending {
    /// Tells it from a later one in its slot.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Its socket is ready; `true`: it is to be put on the list.
    pub(super) fn becomes_ready(&mut self) -> bool {
        self.readable = true;
        !std::mem::replace(&mut self.listed, true)
    }

    /// It was taken from the list.
    pub(super) fn has_its_turn(&mut self) {
        self.listed = false;
    }

    /// The authenticators are at work.
    pub(super) fn is_decided_about(&self) -> bool {
        self.deciding
    }

    /// Counts what it holds.
    pub(super) fn count(&mut self, memory: &mut ReadMemory) {
        memory.recount_pending(&mut self.counted, self.unread.capacity(), self.socket.is_layered());
    }
}

/// A connection on its way to the shard that owns its session.
pub(crate) struct Adopted {
    pub(super) socket: Socket,
    /// The kernel may have more to read.
    pub(super) readable: bool,
    pub(super) accepted: Box<Accepted>,
    /// What the client sent behind its CONNECT.
    pub(super) unread: BytesMut,
}

impl Worker {
    /// A new connection.
    pub(super) fn greet(&mut self, mut socket: Socket, peer: SocketAddr) {
        let slot = self.numbers.vacant_key();
        if !self.watch(&mut socket, slot) {
            return;
        }
        self.serial += 1;
        let (awaits_proxy, timeout_ms) = {
            let listener = socket.seat().listener();
            (listener.is_behind_proxy(), listener.connect_timeout_ms)
        };
        let pending = Pending {
            serial: self.serial,
            socket,
            peer,
            awaits_proxy,
            frames_without_payload: 0,
            handshake: None,
            version: None,
            unread: BytesMut::new(),
            counted: 0,
            readable: true,
            listed: false,
            out: OutBuf::default(),
            claimed: None,
            deciding: false,
            held: None,
            watched: None,
            closing: false,
        };
        self.numbers.insert(Stage::Pending(Box::new(pending)));
        self.deadlines.insert((self.now + timeout_ms, slot, self.serial));
        self.count_pending(slot);
    }

    /// Watches a socket under its number, which it keeps when it is let in: a connection is registered once.
    pub(super) fn watch(&self, socket: &mut Socket, slot: usize) -> bool {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry
            .register(socket.stream(), Kind::Connection.token(slot), interest)
            .inspect_err(|error| tracing::error!(%error, "cannot watch a connection"))
            .is_ok()
    }

    pub(super) fn pending(&mut self, slot: usize) -> Option<&mut Pending> {
        match self.numbers.get_mut(slot)? {
            Stage::Pending(pending) => Some(pending),
            Stage::LetIn => None,
        }
    }

    pub(super) fn read_pending(&mut self, slot: usize) {
        while let Some(Stage::Pending(pending)) = self.numbers.get_mut(slot) {
            if pending.closing || pending.deciding || !pending.readable {
                return;
            }
            if pending.awaits_proxy {
                self.introduce(slot);
                continue;
            }
            match pending.socket.read(&mut self.scratch) {
                Readable::Bytes(n) => {
                    // A short read of a plain socket emptied it: the next bytes bring a new edge.
                    pending.readable = n == self.scratch.len() || pending.socket.is_layered();
                    if n == 0 && pending.chatters() {
                        return self.refuse(slot, None, ReasonCode::ProtocolError);
                    }
                    pending.unread.extend_from_slice(&self.scratch[..n]);
                    self.count_pending(slot);
                    self.pending_bytes(slot);
                }
                Readable::Empty => pending.readable = false,
                Readable::Closed => return self.end_pending(slot),
            }
        }
    }

    /// Hears from the proxy who the client is; its address counts as if it had come by itself.
    fn introduce(&mut self, slot: usize) {
        let now = self.now;
        let Some(pending) = self.pending(slot) else { return };
        let listener = pending.socket.seat().listener().clone();
        match pending.socket.introduction() {
            Introduction::Incomplete => return pending.readable = false, // The rest brings a new edge.
            Introduction::Ended => {}
            Introduction::Done(client) => {
                pending.awaits_proxy = false;
                pending.peer = client.unwrap_or(pending.peer);
                match pending.socket.seat().count(pending.peer.ip(), now) {
                    Ok(()) => return,
                    Err(refused) => {
                        let peer = pending.peer;
                        tell!(self.shared.told, About::Address, now, %peer, ?refused, "connection closed behind its proxy");
                    }
                }
            }
            Introduction::Wrong(NoHeader(why)) => {
                let (peer, listener) = (pending.peer, &*listener.name);
                tell!(self.shared.told, About::NoProxyHeader, now, %peer, listener, why, "connection refused: no PROXY header");
                self.driver.proxies_refused += 1;
            }
        }
        self.drop_pending(slot);
    }

    /// The peer closed, or has to: a WebSocket that was refused or broken has said why.
    fn end_pending(&mut self, slot: usize) {
        let Some(pending) = self.pending(slot) else { return };
        let (end, peer) = (pending.socket.web_end(), pending.peer);
        if let Some(failure) = pending.socket.tls().and_then(TlsStream::failure) {
            let listener = pending.socket.seat().listener().clone();
            self.tls_failed(peer, &listener, failure);
            return self.drop_pending(slot);
        }
        if end.is_some() {
            pending.socket.finish();
        }
        match end {
            Some(Ended::Refused(Refusal { status, why })) => {
                self.driver.upgrades_refused += 1;
                tell!(self.shared.told, About::WebSocket, self.now, %peer, status, why, "WebSocket refused");
            }
            Some(Ended::Frames(End::Broken(code))) => {
                self.driver.refused(ReasonCode::ProtocolError);
                tell!(self.shared.told, About::BrokenWebSocket, self.now, %peer, code = code.0, "WebSocket closed before CONNECT");
            }
            Some(Ended::Frames(End::Asked(_))) | None => {}
        }
        self.drop_pending(slot);
    }

    fn count_handshake(&mut self, slot: usize) {
        let tls = self.pending(slot).and_then(|pending| pending.socket.tls());
        match tls.map(TlsStream::is_resumed) {
            Some(true) => self.driver.tls_resumed += 1,
            Some(false) => self.driver.tls_full += 1,
            None => {}
        }
    }

    /// Feeds the handshake what was read. CONNECT may be followed by more, which waits for the CONNACK.
    fn pending_bytes(&mut self, slot: usize) {
        let (shared, now) = (self.shared.clone(), self.now);
        loop {
            let Some(Stage::Pending(pending)) = self.numbers.get_mut(slot) else {
                return;
            };
            if pending.deciding || pending.closing || pending.unread.is_empty() {
                return;
            }
            let known = pending.socket.seat().listener().clone();
            if pending.handshake.is_none() {
                let peer = match peer_of(pending, &known, &shared.told, now) {
                    Ok(peer) => peer,
                    Err(failure) => {
                        let address = pending.peer;
                        self.tls_failed(address, &known, failure);
                        return self.drop_pending(slot);
                    }
                };
                self.count_handshake(slot);
                // A reload may have changed it since the connection was accepted.
                let anonymous = self.settings_now(&known).anonymous;
                if let Some(pending) = self.pending(slot) {
                    pending.handshake = Some(Handshake::new(peer, anonymous));
                }
                continue;
            }
            let max_packet_bytes = self.max_packet_bytes.min(known.max_packet_bytes);
            let limit = max_packet_bytes.min(bounds::HANDSHAKE_PACKET_BYTES);
            let Some(pending) = self.pending(slot) else { return };
            let source = Bytes::copy_from_slice(worth_a_look(&pending.unread, limit));
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
                    handshake.packet(packet, random_u128)
                }
                Err(error) => {
                    // What the refusal is written in.
                    pending.version = pending.version.or_else(|| Version::of_connect(&source));
                    let step = handshake.malformed(&error, pending.version);
                    if pending.socket.tls().is_none() && is_tls_handshake(&source) {
                        let address = pending.peer;
                        self.tls_failed(address, &known, Failure::TlsToPlain);
                    }
                    step
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
                let shard = self.number;
                let watches = self.shared.shadows.watches_logins();
                let Some(pending) = self.pending(slot) else {
                    return;
                };
                // Comparisons are with the whole chain.
                let is_watched = watches && !pending.socket.seat().listener().has_own_authenticators;
                pending.deciding = true;
                pending.claimed = Some(client.clone());
                pending.watched = is_watched.then(|| {
                    Box::new(Watched {
                        client: client.clone(),
                        credentials: credentials.clone(),
                        only,
                    })
                });
                let reply_to = ReplyTo::Pending {
                    shard,
                    slot,
                    serial: pending.serial,
                };
                let job = Job {
                    client,
                    credentials,
                    only,
                    reply_to,
                };
                // Nobody is asked about a client that stays outside whatever they say.
                if self.shared.defence.bans_client(&job.client, self.now) {
                    self.shared.defence.counters().banned.fetch_add(1, Ordering::Relaxed);
                    return self.pending_decided(slot, banned());
                }
                let wait_ms = self.login_wait_ms(&job.client);
                if wait_ms > 0 {
                    return self.hold(slot, job, wait_ms);
                }
                let outcome = self.shared.authenticators.submit(job);
                if let Some(outcome) = outcome {
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
            .pending(slot)
            .is_some_and(|pending| pending.serial == serial && pending.deciding)
        {
            self.pending_decided(slot, outcome);
            // What came meanwhile.
            self.pending_bytes(slot);
            self.read_pending(slot);
        }
    }

    fn pending_decided(&mut self, slot: usize, outcome: ChainOutcome) {
        let Some(pending) = self.pending(slot) else {
            return;
        };
        pending.deciding = false;
        if outcome.failed {
            pending.claimed = None; // An authenticator that is down must not get its users' addresses banned.
        }
        let Some(handshake) = &mut pending.handshake else {
            return;
        };
        let watched = pending.watched.take();
        let watched = watched.and_then(|watched| Some((watched, handshake.unanswered()?)));
        let login = watched.map(|(watched, unanswered)| watched.decided(outcome.clone(), unanswered));
        let step = handshake.outcome(outcome);
        self.step(slot, step);
        if let Some(login) = login {
            self.shared.shadows.watch(login);
        }
    }

    fn send_pending(&mut self, slot: usize, packet: &Packet) {
        let Some(pending) = self.pending(slot) else {
            return;
        };
        let version = pending.version.unwrap_or(Version::V311);
        let encoded = pending.out.append(|out| encode(packet, version, out));
        if let Err(error) = encoded {
            tracing::error!(%error, "a packet of the handshake could not be encoded");
        }
        self.flush_pending(slot);
    }

    pub(super) fn flush_pending(&mut self, slot: usize) {
        let Some(pending) = self.pending(slot) else {
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
        let Some(pending) = self.pending(slot) else {
            return;
        };
        let claimed = pending.claimed.take();
        let (peer, listener) = (pending.peer, pending.socket.seat().listener().clone());
        pending.closing = true;
        let about = About::Connect(reason);
        tell!(self.shared.told, about, self.now, %peer, listener = &*listener.name, ?reason, "connection refused");
        if let Some(client) = &claimed {
            self.count_stranger(client, reason);
        }
        if let Some(client) = claimed
            && matches!(reason, ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized)
        {
            let (shared, now) = (&self.shared, self.now);
            shared
                .defence
                .login_failed(client.address, client.username.as_deref(), &client.client_id, now);
        }
        match packet {
            Some(packet) => self.send_pending(slot, &packet),
            None => self.flush_pending(slot),
        }
    }

    /// A client that stays outside, for detectors. Where the broker could not let it in, that says nothing about it.
    fn count_stranger(&mut self, client: &Arc<Client>, reason: ReasonCode) {
        match reason {
            ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => self.shard.count_refused_login(client),
            ReasonCode::ProtocolError | ReasonCode::MalformedPacket => self.shard.count_malformed_stranger(client),
            _ => {}
        }
    }

    /// To the shard that owns the session, which may be this one.
    fn hand_over(&mut self, slot: usize, mut accepted: Box<Accepted>) {
        let client = &accepted.client;
        let username = client.username.as_deref();
        self.shared
            .defence
            .login_succeeded(client.address, username, &client.client_id, self.now);
        accepted.rates = self.shared.defence.rates_of(&accepted.client);
        let home = home_shard(
            accepted.client.tenant.as_deref(),
            &accepted.client.client_id,
            self.shared.mesh.shards(),
        );
        let Some(stage) = self.numbers.get_mut(slot) else {
            return;
        };
        let Stage::Pending(pending) = std::mem::replace(stage, Stage::LetIn) else {
            return;
        };
        let mut socket = pending.socket;
        accepted.max_packet_bytes = socket.seat().listener().max_packet_bytes;
        self.memory.forget_pending(pending.counted);
        let mut adopted = Adopted {
            socket,
            readable: pending.readable,
            accepted,
            unread: pending.unread,
        };
        if home == self.number {
            return self.let_in(slot, adopted);
        }
        self.numbers.remove(slot);
        let _ = self.poll.registry().deregister(adopted.socket.stream()); // Its home registers it anew.
        adopted.readable = true; // An edge may pass while nobody watches.
        self.shared.mesh.send(home, ShardEvent::Adopt(Box::new(adopted)));
    }

    pub(super) fn drop_pending(&mut self, slot: usize) {
        if let Some(Stage::Pending(pending)) = self.numbers.get_mut(slot) {
            let _ = self.poll.registry().deregister(pending.socket.stream()); // It is dropped next.
            self.memory.forget_pending(pending.counted);
            self.numbers.remove(slot);
        }
    }
}

impl Pending {
    /// Counts a read that brought nothing of MQTT; `true`: that were too many. The request before has its own bound.
    fn chatters(&mut self) -> bool {
        if self.socket.is_allowed_page().is_none() {
            return false;
        }
        self.frames_without_payload += 1;
        self.frames_without_payload > bounds::HANDSHAKE_EMPTY_READS
    }
}

/// A packet is copied when it is whole, once: a large one that comes byte by byte costs no more than another. Of one that is not, what
/// says its type and length is looked at.
fn worth_a_look(unread: &[u8], limit: u32) -> &[u8] {
    let len = frame_len(unread, limit).ok().flatten();
    match len.is_some_and(|len| len > unread.len()) {
        true => unread.get(..FIXED_HEADER_BYTES).unwrap_or(unread),
        false => unread,
    }
}

fn peer_of(pending: &Pending, listener: &ListenerSettings, told: &Told, now: Millis) -> Result<Peer, Failure> {
    let certificate = certificate_of(pending, told, now)?;
    let name = |certificate: &Certificate| {
        let kind = listener.identity?;
        crate::tls::identity_name(certificate, kind).map(|name| Arc::from(name.as_str()))
    };
    Ok(Peer {
        address: pending.peer.ip(),
        port: pending.peer.port(),
        listener: listener.name.clone(),
        listener_is_loopback: is_local(pending, listener),
        certificate_name: certificate.as_ref().and_then(name),
        certificate: certificate.map(Arc::new),
    })
}

/// Whether a client on loopback is at this machine, and not only the last one on its way: a proxy, or a browser that shows
/// somebody's page. A page counts where its origin is allowed; without one it may have come through anything that speaks HTTP.
fn is_local(pending: &Pending, listener: &ListenerSettings) -> bool {
    let is_loopback = listener.address.ip().is_loopback();
    is_loopback && !listener.is_behind_proxy() && pending.socket.is_allowed_page() != Some(false)
}

/// For assigned client identifiers, which nobody must be able to guess.
fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no random numbers from the system");
    }
    u128::from_le_bytes(bytes)
}

/// The outcome for a client that is banned.
fn banned() -> ChainOutcome {
    ChainOutcome {
        answer: Authentication::Deny(ReasonCode::Banned),
        authenticator: 0,
        failed: false,
    }
}

/// The outcome when the pool cannot take a job.
pub(crate) fn busy() -> ChainOutcome {
    ChainOutcome {
        answer: Authentication::Deny(ReasonCode::ServerBusy),
        authenticator: 0,
        failed: true,
    }
}
