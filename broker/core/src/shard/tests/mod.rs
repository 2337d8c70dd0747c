//! Behaviour of whole shards in virtual time: each test runs with one shard and with three, with a store
//! and without, through the same harness.

mod authorize;
mod backlog;
mod bans;
mod batch;
mod bodies;
mod cache;
mod certificate;
mod chaos;
mod checkpoint;
mod connect;
mod crash;
mod defence;
mod detect;
mod enhanced;
mod expiry;
mod here;
mod inbound;
mod interest;
mod keep_alive;
mod kept;
mod leaving;
mod limits;
mod model;
mod outbound;
mod packets;
mod queue;
mod races;
mod restart;
mod retain;
mod review;
mod scene;
mod script;
mod shadow;
mod shared;
mod subscribe;
mod transform;
mod trouble;
mod will;

use super::{Answer, Call, CallId, ConnId, Feed, Notice, Shard, home_shard};
use crate::counters::Counters;
use crate::handshake::Accepted;
use crate::limits::{MAX_FETCH_MESSAGES, ShardConfig};
use crate::policy::Policy;
use crate::shadow::{ShadowAnswer, ShadowCall};
use crate::store::{AppendFailed, Durability, Fetch, FetchFailed, Partition, Position, Record, Ticket};
use crate::time::Millis;
use bytes::Bytes;
use nervewire_codec::{Ack, Packet, ReasonCode, Version, decode};
use scene::Who;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The answer to a plugin call; `None`: not yet.
type Script = Box<dyn FnMut(&Call) -> Option<Answer>>;

/// The same of plugins in shadow mode; `None`: never.
type ShadowScript = Box<dyn FnMut(&ShadowCall) -> Option<ShadowAnswer>>;

/// Shards joined by their mesh queues, the clients' ends of their connections, and the plugins.
struct Broker {
    shards: Vec<Shard>,
    now: Millis,
    links: Vec<Link>,
    script: Script,
    shadow_script: ShadowScript,
    /// Every question asked for comparisons.
    shadow_calls: Vec<ShadowCall>,
    /// So many authorizers, and as many transforms, are called on the shards' own threads: the first of each.
    here: usize,
    /// Plugin time of each call.
    call_ns: u64,
    /// Every call made so far.
    calls: Vec<Call>,
    /// Calls that have no answer yet.
    held: VecDeque<(usize, CallId, Call)>,
    /// What was appended.
    kept: kept::Kept,
    /// Of each shard: what is not durable, with its positions.
    under_way: Vec<VecDeque<(Ticket, Vec<Position>)>>,
    /// Records of each partition.
    appended: BTreeMap<Partition, Vec<Record>>,
    /// All appends in their order.
    journal: Vec<Journaled>,
    /// A checkpoint makes the appends of now.
    relocating: bool,
    /// After so many appends, so many of the oldest were dropped.
    drops: Vec<(usize, usize)>,
    /// Records of each partition that are no more.
    dropped_records: BTreeMap<Partition, u64>,
    /// What clients have received, each with the appends that were made before it, and the client.
    seen: Vec<(usize, C, Packet)>,
    /// Nothing becomes durable.
    store_held: bool,
    /// Nothing becomes durable, and the shards know it.
    store_stuck: bool,
    /// Fetches are not answered.
    fetch_held: bool,
    /// Positions that cannot be read.
    unreadable: BTreeSet<(Partition, Position)>,
    /// Messages that were fetched.
    fetched: usize,
    /// Of each shard: what it wants to have fetched.
    fetches: Vec<VecDeque<Fetch>>,
    /// Nothing passes between shards.
    mesh_held: bool,
    /// Nothing leaves this shard.
    held_from: Option<usize>,
    /// New clients acknowledge nothing by themselves.
    manual_clients: bool,
    rules_refused: usize,
    taken_over_often: usize,
    kept_bans: Vec<u64>,
}

/// An append, whose records are those of its partition that are next.
#[derive(Clone, Copy, Debug)]
struct Journaled {
    partition: Partition,
    records: usize,
    /// A checkpoint has made it of older ones.
    relocated: bool,
}

/// A client's end of its connection.
#[derive(Debug)]
struct Link {
    shard: usize,
    id: ConnId,
    version: Version,
    /// Sent by the client, not fed yet.
    unfed: VecDeque<Packet>,
    /// The shard said that it may be fed.
    ready: bool,
    received: VecDeque<Packet>,
    undecoded: Vec<u8>,
    open: bool,
    /// Reads nothing.
    stuck: bool,
    /// Acknowledges by itself.
    acknowledges: bool,
    next_packet_id: u16,
}

type C = usize;

fn each(test: impl Fn(&mut Broker)) {
    each_with(|_| {}, test);
}

fn each_with(config: impl Fn(&mut ShardConfig), test: impl Fn(&mut Broker)) {
    for shards in [1, 3] {
        for durability in [Durability::Memory, Durability::Stored] {
            let mut bounds = ShardConfig {
                shards,
                durability,
                ..ShardConfig::default()
            };
            config(&mut bounds);
            for here in [0, usize::MAX] {
                let mut broker = Broker {
                    here,
                    ..Broker::new(bounds.clone())
                };
                test(&mut broker);
                broker.check_kept();
            }
        }
    }
}

fn each_version(test: impl Fn(&mut Broker, Version)) {
    each(|b| test(b, Version::V311));
    each(|b| test(b, Version::V5));
}

impl Broker {
    fn new(config: ShardConfig) -> Self {
        let policy = Arc::new(Policy {
            default: crate::fold::DefaultDecision::Allow,
            ..Policy::default()
        });
        let now = 1_000_000;
        let shard = |shard| {
            Shard::new(
                ShardConfig {
                    shard,
                    ..config.clone()
                },
                policy.clone(),
                now,
            )
        };
        Self {
            shards: (0..config.shards).map(shard).collect(),
            now,
            links: Vec::new(),
            script: Box::new(|call| panic!("no plugin to answer {call:?}")),
            shadow_script: Box::new(|call| panic!("no plugin in shadow mode to answer {call:?}")),
            shadow_calls: Vec::new(),
            here: 0,
            call_ns: 0,
            calls: Vec::new(),
            held: VecDeque::new(),
            kept: kept::Kept::default(),
            under_way: (0..config.shards).map(|_| VecDeque::new()).collect(),
            appended: BTreeMap::new(),
            journal: Vec::new(),
            relocating: false,
            drops: Vec::new(),
            dropped_records: BTreeMap::new(),
            seen: Vec::new(),
            store_held: false,
            store_stuck: false,
            fetch_held: false,
            unreadable: BTreeSet::new(),
            fetched: 0,
            fetches: (0..config.shards).map(|_| VecDeque::new()).collect(),
            mesh_held: false,
            held_from: None,
            manual_clients: false,
            rules_refused: 0,
            taken_over_often: 0,
            kept_bans: Vec::new(),
        }
    }

    fn set_policy(&mut self, policy: Policy) {
        let policy = Arc::new(policy);
        self.shards
            .iter_mut()
            .for_each(|shard| shard.set_policy(policy.clone()));
    }

    /// The lowest number that no connection of the shard has.
    fn unused(&mut self, shard: usize) -> ConnId {
        let shard = &mut self.shards[shard];
        let mut numbers = (0..).map(ConnId);
        numbers.find(|id| shard.output(*id).is_none()).expect("a free number")
    }

    /// Opens a connection whose client was let in, and lets everything happen that follows.
    fn open(&mut self, who: Who) -> C {
        self.open_accepted(who.accepted())
    }

    fn open_accepted(&mut self, accepted: Accepted) -> C {
        let client = &accepted.client;
        let shard = usize::from(home_shard(
            client.tenant.as_deref(),
            &client.client_id,
            self.shards.len() as u16,
        ));
        let version = accepted.connect.version;
        let id = self.unused(shard);
        self.shards[shard].connect(self.now, id, Box::new(accepted));
        self.links.push(Link {
            shard,
            id,
            version,
            unfed: VecDeque::new(),
            ready: false,
            received: VecDeque::new(),
            undecoded: Vec::new(),
            open: true,
            stuck: false,
            acknowledges: !self.manual_clients,
            next_packet_id: 1,
        });
        self.settle();
        self.links.len() - 1
    }

    fn send(&mut self, c: C, packet: Packet) {
        self.send_later(c, packet);
        self.settle();
    }

    /// The packet waits with the client until something else lets things happen.
    fn send_later(&mut self, c: C, packet: Packet) {
        self.links[c].unfed.push_back(packet);
    }

    /// Everything that a client received and was not taken yet.
    fn take(&mut self, c: C) -> Vec<Packet> {
        self.links[c].received.drain(..).collect()
    }

    /// The transport is gone.
    fn lose(&mut self, c: C) {
        self.end(c);
        self.settle();
    }

    fn end(&mut self, c: C) {
        if std::mem::replace(&mut self.links[c].open, false) {
            let (shard, id) = (self.links[c].shard, self.links[c].id);
            self.shards[shard].closed(self.now, id);
        }
    }

    /// Time passes, and what is due happens when it is.
    fn advance(&mut self, ms: Millis) {
        let until = self.now + ms;
        while let Some(due) = self
            .shards
            .iter()
            .filter_map(Shard::next_deadline)
            .min()
            .filter(|due| *due <= until)
        {
            self.now = self.now.max(due);
            let now = self.now;
            self.shards.iter_mut().for_each(|shard| shard.tick(now));
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    fn total(&self, pick: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| pick(&shard.counters())).sum()
    }

    /// Answers the oldest call that was held.
    fn answer_held(&mut self, answer: Answer) {
        let (shard, id, _) = self.held.pop_front().expect("a held call");
        self.shards[shard].answer(self.now, id, answer, self.call_ns);
        self.settle();
    }

    /// Goes on until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for shard in 0..self.shards.len() {
                busy |= self.run_calls(shard);
                busy |= self.run_shadow(shard);
                busy |= self.carry_store(shard);
                busy |= self.carry_fetches(shard);
                busy |= self.carry_mesh(shard);
                busy |= self.carry_out_notices(shard);
                busy |= self.flush(shard);
                busy |= self.feed(shard);
            }
            if !busy {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    fn run_calls(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some((id, call)) = self.shards[shard].next_call() {
            busy = true;
            match (self.script)(&call) {
                Some(answer) => self.shards[shard].answer(self.now, id, answer, self.call_ns),
                None => self.held.push_back((shard, id, call.clone())),
            }
            self.calls.push(call);
        }
        busy
    }

    fn run_shadow(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some(question) = self.shards[shard].next_shadow_question() {
            busy = true;
            let answer = (self.shadow_script)(&question.call);
            self.shards[shard].shadow_answered(self.now, question.id, answer);
            self.shadow_calls.push(question.call);
        }
        busy
    }

    /// A store that is done at once, where the test does not say otherwise.
    fn carry_store(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some(append) = self.shards[shard].next_append() {
            busy = true;
            assert_eq!(usize::from(append.partition.owner(self.shards.len() as u16)), shard);
            let log = self.appended.entry(append.partition).or_default();
            let first = log.len() as u64;
            log.extend(append.records.iter().cloned());
            let positions = (first..log.len() as u64).map(Position).collect();
            self.under_way[shard].push_back((append.ticket, positions));
            self.journal.push(Journaled {
                partition: append.partition,
                records: append.records.len(),
                relocated: self.relocating,
            });
            for record in append.records {
                self.kept.replay(record, self.relocating);
            }
        }
        while !self.store_held
            && !self.store_stuck
            && let Some((ticket, positions)) = self.under_way[shard].pop_front()
        {
            busy = true;
            self.shards[shard].stored(self.now, ticket, &positions);
        }
        busy
    }

    fn carry_fetches(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some(fetch) = self.shards[shard].next_fetch() {
            assert_eq!(usize::from(fetch.partition.owner(self.shards.len() as u16)), shard);
            assert!(!fetch.positions.is_empty() && fetch.positions.len() <= MAX_FETCH_MESSAGES);
            self.fetches[shard].push_back(fetch);
        }
        while !self.fetch_held
            && let Some(fetch) = self.fetches[shard].pop_front()
        {
            busy = true;
            self.fetched += fetch.positions.len();
            let records = fetch.positions.iter().map(|at| self.read_record(fetch.partition, *at));
            let records = records.collect();
            self.shards[shard].fetched(self.now, fetch.ticket, records);
        }
        busy
    }

    fn read_record(&self, partition: Partition, at: Position) -> Result<Record, FetchFailed> {
        let dropped = self.dropped_records.get(&partition).copied().unwrap_or(0);
        assert!(at.0 >= dropped, "a checkpoint has dropped it");
        if self.unreadable.contains(&(partition, at)) {
            return Err(FetchFailed);
        }
        Ok(self.appended[&partition][at.0 as usize].clone())
    }

    /// What is wrong with the store, all shards hear.
    fn trouble(&mut self, trouble: Option<AppendFailed>) {
        self.store_stuck = trouble.is_some_and(|why| why != AppendFailed::Full);
        let now = self.now;
        self.shards
            .iter_mut()
            .for_each(|shard| shard.store_trouble(now, trouble));
        self.settle();
    }

    fn carry_mesh(&mut self, from: usize) -> bool {
        let mut busy = false;
        for to in (0..self.shards.len()).filter(|to| *to != from && !self.mesh_held && self.held_from != Some(from)) {
            for message in self.shards[from].take_mesh(to as u16) {
                busy = true;
                self.shards[to].mesh(self.now, message);
            }
        }
        busy
    }

    fn carry_out_notices(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some(notice) = self.shards[shard].next_notice() {
            busy = true;
            match notice {
                Notice::Close(id) => {
                    let c = self.link(shard, id).expect("an open connection");
                    self.read(c);
                    self.end(c);
                }
                Notice::Resume(id) => {
                    let c = self.link(shard, id).expect("an open connection");
                    self.links[c].ready = true;
                }
                Notice::Kept(number) => self.kept_bans.push(number),
                Notice::TakenOverOften { .. } => self.taken_over_often += 1,
                Notice::RulesRefused { .. } | Notice::ShadowRulesRefused { .. } => self.rules_refused += 1,
            }
        }
        busy
    }

    fn link(&self, shard: usize, id: ConnId) -> Option<C> {
        self.links
            .iter()
            .position(|link| link.open && (link.shard, link.id) == (shard, id))
    }

    fn flush(&mut self, shard: usize) -> bool {
        let mut touched = Vec::new();
        self.shards[shard].take_touched(&mut touched);
        let mut busy = false;
        for id in touched {
            let Some(c) = self.link(shard, id).filter(|c| !self.links[*c].stuck) else {
                continue;
            };
            busy |= self.read(c);
            self.shards[shard].written(self.now, id);
        }
        busy
    }

    /// The client reads again.
    fn unstick(&mut self, c: C) {
        self.links[c].stuck = false;
        let (shard, id) = (self.links[c].shard, self.links[c].id);
        self.read(c);
        self.shards[shard].written(self.now, id);
        self.settle();
    }

    /// Takes everything that waits for a client, and acknowledges it where the client does so by itself.
    fn read(&mut self, c: C) -> bool {
        let link = &mut self.links[c];
        let Some(out) = self.shards[link.shard].output(link.id) else {
            return false;
        };
        let busy = !out.is_empty();
        while !out.is_empty() {
            let front = out.front().to_vec();
            out.advance(front.len());
            link.undecoded.extend_from_slice(&front);
        }
        let bytes = Bytes::from(std::mem::take(&mut link.undecoded));
        let mut at = 0;
        while let Some((packet, used)) = decode(&bytes, at, Some(link.version), u32::MAX).expect("valid packets") {
            at += used;
            self.seen.push((self.journal.len(), c, packet.clone()));
            link.arrives(packet);
        }
        link.undecoded = bytes[at..].to_vec();
        busy
    }

    fn feed(&mut self, shard: usize) -> bool {
        let mut busy = false;
        for c in 0..self.links.len() {
            while self.links[c].shard == shard && self.links[c].open && self.links[c].ready {
                let Some(packet) = self.links[c].unfed.pop_front() else {
                    break;
                };
                busy = true;
                let packet = scene::over_the_wire(packet, self.links[c].version);
                self.links[c].ready = self.feed_packet(c, packet) == Feed::More;
                self.run_calls(shard);
            }
        }
        busy
    }

    fn feed_packet(&mut self, c: C, packet: Packet) -> Feed {
        let (shard, id) = (&mut self.shards[self.links[c].shard], self.links[c].id);
        match packet {
            Packet::Publish(publish) => {
                let mut plugins = script::Here {
                    here: self.here,
                    script: &mut self.script,
                    calls: &mut self.calls,
                    call_ns: self.call_ns,
                };
                shard.publish(self.now, id, (&publish).into(), &mut plugins)
            }
            packet => shard.packet(self.now, id, packet),
        }
    }
}

impl Link {
    fn arrives(&mut self, packet: Packet) {
        let ack = |kind: fn(Ack) -> Packet, packet_id| {
            Some(kind(Ack {
                packet_id,
                reason: ReasonCode::Success,
                properties: None,
            }))
        };
        let answer = match (&packet, self.acknowledges) {
            (Packet::Publish(p), true) => match p.packet_id {
                Some(id) if p.qos as u8 == 1 => ack(Packet::PubAck, id),
                Some(id) => ack(Packet::PubRec, id),
                None => None,
            },
            (Packet::PubRec(p), true) if !p.reason.is_error() => ack(Packet::PubRel, p.packet_id),
            (Packet::PubRel(p), true) => ack(Packet::PubComp, p.packet_id),
            _ => None,
        };
        self.unfed.extend(answer);
        self.received.push_back(packet);
    }
}
