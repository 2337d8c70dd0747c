//! Shards of the real core, and what a driver does for each: a pass takes what came, feeds clients, and lets everything leave.
//!
//! Every shard has one inbox, first in, first out, as the server has it; that it looks into it late is what delays batches.

use crate::disk::Handle;
use crate::net::LinkId;
use crate::trace::{Kept, check};
use crate::world::World;
use nervewire_codec::{Packet, PacketRef, Version, decode, decode_in_place, encode};
use nervewire_core::fold::{AnonymousPolicy, DefaultDecision};
use nervewire_core::handshake::{Accepted, ChainOutcome, Handshake, Peer, Step};
use nervewire_core::hook::Authentication;
use nervewire_core::policy::Policy;
use nervewire_core::shard::{ConnId, Elsewhere, Feed, MeshMessage, Notice, Shard, home_shard};
use nervewire_core::store::{AppendFailed, FetchFailed, FetchTicket, Partition, Position, Record};
use nervewire_store::Completion;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A client's packets are no larger.
pub(crate) const MAX_PACKET_BYTES: u32 = 1_048_576;

/// One shard with everything that its thread would own.
pub(crate) struct Station {
    pub(crate) shard: Shard,
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) ends: BTreeMap<ConnId, End>,
    /// Connections whose CONNECT has not come.
    pub(crate) arrivals: Vec<(LinkId, Vec<u8>)>,
    pub(crate) log: Handle,
    /// Everything up to this ticket must be durable before the checkpoint's old records may go.
    pub(crate) examined: Option<u64>,
    pub(crate) last_ticket: u64,
    pub(crate) durable_ticket: u64,
    /// Answers to fetches that are on their way.
    pub(crate) reads: VecDeque<(FetchTicket, Vec<Result<Record, FetchFailed>>)>,
}

/// What comes from other threads.
pub(crate) enum Event {
    Mesh(Vec<MeshMessage>),
    Adopt(Box<Accepted>, LinkId, Vec<u8>),
    Completed(Vec<Completion>),
    Trouble(Option<AppendFailed>),
    Examine(Vec<(Partition, Position, Record)>),
    Examined,
}

/// The broker's end of a connection that was let in.
pub(crate) struct End {
    pub(crate) link: LinkId,
    version: Version,
    unread: Vec<u8>,
    ready: bool,
}

/// Everybody is let in and may do everything: no plugins.
pub(crate) fn policy() -> Arc<Policy> {
    Arc::new(Policy {
        default: DefaultDecision::Allow,
        ..Policy::default()
    })
}

impl Station {
    pub(crate) fn new(shard: Shard, log: Handle) -> Self {
        Self {
            shard,
            inbox: VecDeque::new(),
            ends: BTreeMap::new(),
            arrivals: Vec::new(),
            log,
            examined: None,
            last_ticket: 0,
            durable_ticket: 0,
            reads: VecDeque::new(),
        }
    }

    /// The lowest number that no connection has.
    fn unused(&mut self) -> ConnId {
        let mut numbers = (0..).map(ConnId);
        let free = |id: &ConnId| self.shard.output(*id).is_none();
        numbers.find(free).expect("a free number")
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.inbox.is_empty() && self.arrivals.is_empty() && self.reads.is_empty() && self.examined.is_none()
    }
}

impl World {
    /// One pass of one shard. Whether anything happened.
    pub(crate) fn pass(&mut self, s: usize) -> Kept<bool> {
        let mut busy = false;
        let events = self.random.index(self.stations[s].inbox.len() + 1).max(1);
        for _ in 0..events {
            let Some(event) = self.stations[s].inbox.pop_front() else {
                break;
            };
            busy = true;
            self.event(s, event)?;
        }
        busy |= self.answer_fetches(s);
        if !self.is_restoring() {
            self.stations[s].shard.tick(self.now);
            busy |= self.accept(s)?;
            busy |= self.serve(s)?;
        }
        busy |= self.leave(s)?;
        self.check_bounds(s)?;
        Ok(busy)
    }

    fn event(&mut self, s: usize, event: Event) -> Kept {
        let now = self.now;
        let station = &mut self.stations[s];
        match event {
            Event::Mesh(batch) => batch.into_iter().for_each(|message| station.shard.mesh(now, message)),
            Event::Adopt(accepted, link, unread) => self.adopt(s, accepted, link, unread)?,
            Event::Completed(completions) => {
                for completion in completions {
                    station.durable_ticket += 1;
                    check(completion.ticket.0 == station.durable_ticket, || {
                        format!("{completion:?} completes out of order on shard {s}")
                    })?;
                    station.shard.stored(now, completion.ticket, &completion.positions);
                }
            }
            Event::Trouble(trouble) => station.shard.store_trouble(now, trouble),
            Event::Examine(records) => {
                for (partition, position, record) in records {
                    station.shard.examine(now, partition, position, record);
                }
                self.take_appends(s)?;
            }
            Event::Examined => station.examined = Some(station.last_ticket),
        }
        Ok(())
    }

    /// New connections come in on any shard and are let in there.
    fn accept(&mut self, s: usize) -> Kept<bool> {
        let mut busy = false;
        for (link, mut bytes) in std::mem::take(&mut self.stations[s].arrivals) {
            let most = 1 + self.random.index(200);
            bytes.extend(self.net[link].up.read(most));
            match decode(&bytes.clone().into(), 0, None, MAX_PACKET_BYTES) {
                Ok(Some((packet, used))) => {
                    busy = true;
                    let accepted = let_in(packet);
                    let shards = self.stations.len() as u16;
                    let home = home_shard(None, &accepted.client.client_id, shards);
                    let unread = bytes.split_off(used);
                    self.stations[usize::from(home)]
                        .inbox
                        .push_back(Event::Adopt(accepted, link, unread));
                }
                Ok(None) if self.net[link].up.is_over() => {
                    busy = true;
                    self.net[link].down.close();
                }
                Ok(None) => self.stations[s].arrivals.push((link, bytes)),
                Err(error) => return check(false, || format!("a CONNECT is no packet: {error}")).map(|()| false),
            }
        }
        Ok(busy)
    }

    fn adopt(&mut self, s: usize, accepted: Box<Accepted>, link: LinkId, unread: Vec<u8>) -> Kept {
        let version = accepted.connect.version;
        let client = self.net[link].client;
        self.attached(client);
        let now = self.now;
        let station = &mut self.stations[s];
        let id = station.unused();
        self.trace.note(|| {
            format!(
                "shard {s}: CONNECT of {} on link {link} as {id:?}",
                accepted.client.client_id
            )
        });
        let end = End {
            link,
            version,
            unread,
            ready: false,
        };
        station.ends.insert(id, end);
        station.shard.connect(now, id, accepted);
        Ok(())
    }

    /// Reads and feeds some of the clients.
    fn serve(&mut self, s: usize) -> Kept<bool> {
        let mut busy = false;
        let ids: Vec<ConnId> = self.stations[s].ends.keys().copied().collect();
        for id in ids {
            busy |= self.read_and_feed(s, id)?;
        }
        Ok(busy)
    }

    fn read_and_feed(&mut self, s: usize, id: ConnId) -> Kept<bool> {
        let now = self.now;
        let most = 1 + self.random.index(400);
        let station = &mut self.stations[s];
        let Some(end) = station.ends.get_mut(&id) else {
            return Ok(false);
        };
        if !end.ready {
            return Ok(false);
        }
        let link = end.link;
        let read = self.net[link].up.read(most);
        let mut busy = !read.is_empty();
        end.unread.extend(read);
        let mut at = 0;
        while end.ready {
            let bytes = &end.unread[at..];
            let fed = match decode_in_place(bytes, Some(end.version), MAX_PACKET_BYTES) {
                Ok(Some((PacketRef::Publish(publish), used))) => {
                    at += used;
                    station.shard.publish(now, id, publish, &mut Elsewhere)
                }
                Ok(Some((PacketRef::Other(packet), used))) => {
                    at += used;
                    station.shard.packet(now, id, packet)
                }
                Ok(None) => break,
                Err(error) => return check(false, || format!("a client sent {bytes:?}: {error}")).map(|()| false),
            };
            end.ready = fed == Feed::More;
            busy = true;
        }
        end.unread.drain(..at);
        if self.net[link].up.is_over() {
            self.trace.note(|| format!("shard {s}: link {link} is gone"));
            self.closed(s, id);
            return Ok(true);
        }
        Ok(busy)
    }

    fn closed(&mut self, s: usize, id: ConnId) {
        let station = &mut self.stations[s];
        if let Some(end) = station.ends.remove(&id) {
            station.shard.closed(self.now, id);
            let link = &mut self.net[end.link];
            link.up.discard();
            link.down.close();
            let client = link.client;
            self.detached(client);
        }
    }

    /// Everything that must leave: appends, batches for other shards, and only then bytes to clients.
    pub(crate) fn leave(&mut self, s: usize) -> Kept<bool> {
        let mut busy = false;
        for _ in 0..8 {
            let mut more = self.take_appends(s)?;
            more |= self.take_fetches(s);
            more |= self.take_batches(s);
            more |= self.take_notices(s);
            more |= self.write_touched(s);
            busy |= more;
            if !more {
                break;
            }
        }
        self.write_blocked(s);
        Ok(busy)
    }

    pub(crate) fn take_batches(&mut self, s: usize) -> bool {
        let mut busy = false;
        loop {
            let mut any = false;
            for to in (0..self.stations.len()).filter(|to| *to != s) {
                let batch = self.stations[s].shard.take_mesh(to as u16);
                if !batch.is_empty() {
                    any = true;
                    self.stations[to].inbox.push_back(Event::Mesh(batch));
                }
            }
            busy |= any;
            if !any {
                return busy;
            }
        }
    }

    fn take_notices(&mut self, s: usize) -> bool {
        let mut busy = false;
        while let Some(notice) = self.stations[s].shard.next_notice() {
            busy = true;
            match notice {
                Notice::Resume(id) => {
                    if let Some(end) = self.stations[s].ends.get_mut(&id) {
                        end.ready = true;
                    }
                }
                Notice::Close(id) => {
                    self.flush(s, id, usize::MAX);
                    self.trace.note(|| format!("shard {s}: closes {id:?}"));
                    self.closed(s, id);
                }
                Notice::Kept(_)
                | Notice::TakenOverOften { .. }
                | Notice::RulesRefused { .. }
                | Notice::ShadowRulesRefused { .. } => {}
            }
        }
        busy
    }

    fn write_touched(&mut self, s: usize) -> bool {
        let mut touched = Vec::new();
        self.stations[s].shard.take_touched(&mut touched);
        let mut busy = false;
        for id in touched {
            busy |= self.flush(s, id, self.plan.link_bytes);
        }
        busy
    }

    /// Links that were full and have room again.
    fn write_blocked(&mut self, s: usize) {
        let ids: Vec<ConnId> = self.stations[s].ends.keys().copied().collect();
        for id in ids {
            self.flush(s, id, self.plan.link_bytes);
        }
    }

    /// Writes what a link takes. Whether anything was written.
    fn flush(&mut self, s: usize, id: ConnId, link_bytes: usize) -> bool {
        let station = &mut self.stations[s];
        let Some(end) = station.ends.get(&id) else { return false };
        let pipe = &mut self.net[end.link].down;
        let Some(out) = station.shard.output(id) else {
            return false;
        };
        let mut written = false;
        while !out.is_empty() && pipe.len() < link_bytes {
            let front = out.front();
            let bytes = front[..front.len().min(link_bytes - pipe.len())].to_vec();
            pipe.send(&bytes);
            out.advance(bytes.len());
            written = true;
            if pipe.len() == 0 {
                break; // Lost: nobody takes it any more.
            }
        }
        if written {
            station.shard.settle_output(id);
            station.shard.written(self.now, id);
        }
        written
    }
}

/// From the first packet to the client that was let in, by the real handshake.
fn let_in(packet: Packet) -> Box<Accepted> {
    let peer = Peer {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 50_000,
        listener: Arc::from("simulated"),
        listener_is_loopback: true,
        certificate: None,
        certificate_name: None,
    };
    let mut handshake = Handshake::new(peer, AnonymousPolicy::Allow);
    let asked = handshake.packet(packet, || 1);
    assert!(matches!(asked, Step::Authenticate { .. }), "{asked:?}");
    let outcome = ChainOutcome {
        answer: Authentication::Abstain,
        authenticator: 0,
        failed: false,
    };
    match handshake.outcome(outcome) {
        Step::Accept(accepted) => accepted,
        other => panic!("nobody refuses this client: {other:?}"),
    }
}

/// The bytes of a packet that a client of this version sends.
pub(crate) fn bytes_of(packet: &Packet, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).expect("a packet of this version");
    bytes
}
