//! Shards, their writers, one log under a script, and the clients' ends of connections.

use bytes::Bytes;
use nervewire_codec::{
    Ack, Connect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, Unsubscribe, Utf8String, Version, decode,
};
use nervewire_core::fold::DefaultDecision;
use nervewire_core::handshake::Accepted;
use nervewire_core::hook::{Client, Quotas};
use nervewire_core::limits::ShardConfig;
use nervewire_core::policy::Policy;
use nervewire_core::shard::{ConnId, Feed, Notice, Shard, home_shard};
use nervewire_core::store::{Durability, Partition, Record, Ticket};
use nervewire_store::{Entry, Epoch, Log, LogError, MemoryLog, Position, Writer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub(crate) const PARTITIONS: u16 = 64;
const NOW: u64 = 1_000_000;

/// A log whose completions wait as a test says.
pub(crate) struct Scripted {
    log: MemoryLog,
    /// Nothing beyond is durable.
    held: BTreeMap<Partition, Position>,
}

impl Log for Scripted {
    fn fence(&mut self, partition: Partition) -> Result<Epoch, LogError> {
        self.log.fence(partition)
    }

    fn append(&mut self, partition: Partition, epoch: Epoch, records: Vec<Record>) -> Result<Position, LogError> {
        self.log.append(partition, epoch, records)
    }

    fn durable(&mut self, partition: Partition) -> Result<Position, LogError> {
        let durable = self.log.durable(partition)?;
        Ok(self.held.get(&partition).map_or(durable, |held| durable.min(*held)))
    }

    fn read(&mut self, partition: Partition, from: Position, most: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read(partition, from, most)
    }

    fn truncate(&mut self, partition: Partition, epoch: Epoch, before: Position) -> Result<(), LogError> {
        self.log.truncate(partition, epoch, before)
    }
}

pub(crate) struct Bench {
    shards: Vec<Shard>,
    writers: Vec<Writer>,
    log: Scripted,
    /// Of each shard: what is durable and it was not told of.
    durable: Vec<BTreeSet<Ticket>>,
    next_ticket: Vec<Ticket>,
    links: Vec<Link>,
}

struct Link {
    shard: usize,
    id: ConnId,
    version: Version,
    unfed: VecDeque<Packet>,
    ready: bool,
    open: bool,
    received: Vec<String>,
}

/// A client of a bench.
pub(crate) type C = usize;

/// With one shard and with three.
pub(crate) fn each(test: impl Fn(&mut Bench)) {
    for shards in [1, 3] {
        test(&mut Bench::new(shards, Durability::Stored));
    }
}

pub(crate) fn partition_of(client_id: &str) -> Partition {
    Partition::of_session(None, client_id)
}

impl Bench {
    pub(crate) fn new(shards: u16, durability: Durability) -> Self {
        let policy = Arc::new(Policy {
            default: DefaultDecision::Allow,
            ..Policy::default()
        });
        let config = |shard| ShardConfig {
            shard,
            shards,
            durability,
            ..ShardConfig::default()
        };
        let mut bench = Self {
            shards: (0..shards)
                .map(|n| Shard::new(config(n), policy.clone(), NOW))
                .collect(),
            writers: (0..shards).map(|_| Writer::default()).collect(),
            log: Scripted {
                log: MemoryLog::new(u64::MAX),
                held: BTreeMap::new(),
            },
            durable: (0..shards).map(|_| BTreeSet::new()).collect(),
            next_ticket: (0..shards).map(|_| Ticket(1)).collect(),
            links: Vec::new(),
        };
        for partition in (0..PARTITIONS).map(Partition) {
            let writer = &mut bench.writers[usize::from(partition.owner(shards))];
            writer.fence(&mut bench.log, partition).expect("a partition");
        }
        bench
    }

    /// Nothing more becomes durable in any partition.
    pub(crate) fn hold(&mut self) {
        for partition in (0..PARTITIONS).map(Partition) {
            let durable = self.log.durable(partition).expect("a position");
            self.log.held.insert(partition, durable);
        }
    }

    /// What was appended to one partition becomes durable.
    pub(crate) fn release(&mut self, partition: Partition) {
        self.log.held.remove(&partition);
        self.settle();
    }

    pub(crate) fn release_all(&mut self) {
        self.log.held.clear();
        self.settle();
    }

    /// Everything that was appended to a partition, by the names of its records.
    pub(crate) fn records(&mut self, partition: Partition) -> Vec<String> {
        let entries = self.log.read(partition, Position(0), usize::MAX).expect("entries");
        let name = |entry: &Entry| {
            let text = format!("{:?}", entry.record);
            text.split([' ', '(']).next().unwrap_or_default().to_owned()
        };
        entries.iter().map(name).collect()
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        (0..PARTITIONS).all(|n| self.records(Partition(n)).is_empty())
    }

    /// A session that outlives its connection.
    pub(crate) fn connect_lasting(&mut self, version: Version, client_id: &str) -> C {
        self.connect(version, client_id, false)
    }

    /// A session that ends with its connection.
    pub(crate) fn connect_brief(&mut self, version: Version, client_id: &str) -> C {
        self.connect(version, client_id, true)
    }

    fn connect(&mut self, version: Version, client_id: &str, brief: bool) -> C {
        let lasting = version == Version::V5 && !brief;
        let properties = lasting.then(|| {
            Box::new(Properties {
                session_expiry_interval: Some(3_600),
                ..Properties::default()
            })
        });
        let connect = Connect {
            version,
            clean_start: brief,
            keep_alive: 0,
            client_id: text(client_id),
            will: None,
            username: None,
            password: None,
            properties,
        };
        let shard = usize::from(home_shard(None, client_id, self.shards.len() as u16));
        let id = self.unused(shard);
        self.shards[shard].connect(NOW, id, Box::new(accepted(connect)));
        self.links.push(Link {
            shard,
            id,
            version,
            unfed: VecDeque::new(),
            ready: false,
            open: true,
            received: Vec::new(),
        });
        self.settle();
        self.links.len() - 1
    }

    /// The lowest number that no connection of the shard has.
    fn unused(&mut self, shard: usize) -> ConnId {
        let shard = &mut self.shards[shard];
        let mut numbers = (0..).map(ConnId);
        numbers.find(|id| shard.output(*id).is_none()).expect("a free number")
    }

    pub(crate) fn send(&mut self, c: C, packet: Packet) {
        self.links[c].unfed.push_back(packet);
        self.settle();
    }

    pub(crate) fn publish(&mut self, c: C, level: u8, packet_id: u16, topic: &str, payload: &str) {
        self.send(c, Packet::Publish(publish(level, packet_id, topic, payload)));
    }

    pub(crate) fn subscribe(&mut self, c: C, topic: &str, level: u8) {
        let options = SubscriptionOptions {
            qos: qos(level),
            ..SubscriptionOptions::default()
        };
        let filter = text(topic);
        self.send(
            c,
            Packet::Subscribe(Subscribe {
                packet_id: id(100),
                properties: None,
                filters: vec![SubscribeFilter { filter, options }],
            }),
        );
    }

    pub(crate) fn unsubscribe(&mut self, c: C, topic: &str) {
        self.send(
            c,
            Packet::Unsubscribe(Unsubscribe {
                packet_id: id(101),
                properties: None,
                filters: vec![text(topic)],
            }),
        );
    }

    /// The transport is gone.
    pub(crate) fn lose(&mut self, c: C) {
        self.end(c);
        self.settle();
    }

    pub(crate) fn is_open(&self, c: C) -> bool {
        self.links[c].open
    }

    /// Packets that the client has not sent, because it is not read.
    pub(crate) fn unread(&self, c: C) -> usize {
        self.links[c].unfed.len()
    }

    /// What a client received since it was last asked.
    pub(crate) fn received(&mut self, c: C) -> Vec<String> {
        std::mem::take(&mut self.links[c].received)
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, c: C, expected: &[&str]) {
        assert_eq!(self.received(c), expected);
    }

    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for shard in 0..self.shards.len() {
                busy |= self.pass(shard);
            }
        }
    }

    /// As the module of shards asks of its driver: appends, other shards, notices, sockets.
    fn pass(&mut self, shard: usize) -> bool {
        let mut busy = self.carry_appends(shard) | self.carry_mesh(shard) | self.carry_out(shard);
        for c in 0..self.links.len() {
            if self.links[c].shard == shard && self.links[c].open {
                busy |= self.read(c) | self.feed(c);
            }
        }
        busy
    }

    fn carry_appends(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some(append) = self.shards[shard].next_append() {
            busy = true;
            self.writers[shard].append(&mut self.log, append);
        }
        for completion in self.writers[shard].completions(&mut self.log) {
            completion.outcome.expect("durable");
            self.durable[shard].insert(completion.ticket);
        }
        // A shard is told in the order of its tickets; these tests fetch nothing, so any position will do.
        while self.durable[shard].remove(&self.next_ticket[shard]) {
            busy = true;
            let ticket = self.next_ticket[shard];
            self.next_ticket[shard] = Ticket(ticket.0 + 1);
            self.shards[shard].stored(NOW, ticket, &[]);
        }
        busy
    }

    fn carry_mesh(&mut self, from: usize) -> bool {
        let mut busy = false;
        for to in (0..self.shards.len()).filter(|to| *to != from) {
            for message in self.shards[from].take_mesh(to as u16) {
                busy = true;
                self.shards[to].mesh(NOW, message);
            }
        }
        busy
    }

    fn carry_out(&mut self, shard: usize) -> bool {
        let mut busy = false;
        while let Some(notice) = self.shards[shard].next_notice() {
            busy = true;
            let (Notice::Close(id) | Notice::Resume(id)) = notice else {
                panic!("{notice:?}");
            };
            let link = |link: &Link| link.open && (link.shard, link.id) == (shard, id);
            let c = self.links.iter().position(link).expect("an open connection");
            match notice {
                Notice::Resume(_) => self.links[c].ready = true,
                _ => {
                    self.read(c);
                    self.end(c);
                }
            }
        }
        busy
    }

    fn end(&mut self, c: C) {
        self.links[c].open = false;
        let (shard, id) = (self.links[c].shard, self.links[c].id);
        self.shards[shard].closed(NOW, id);
    }

    fn read(&mut self, c: C) -> bool {
        let link = &mut self.links[c];
        let Some(out) = self.shards[link.shard].output(link.id) else {
            return false;
        };
        let mut bytes = Vec::new();
        while !out.is_empty() {
            let front = out.front().to_vec();
            out.advance(front.len());
            bytes.extend_from_slice(&front);
        }
        let (bytes, mut at) = (Bytes::from(bytes), 0);
        while let Some((packet, used)) = decode(&bytes, at, Some(link.version), u32::MAX).expect("valid packets") {
            at += used;
            link.received.push(said(&packet));
        }
        assert_eq!(at, bytes.len(), "whole packets");
        at > 0
    }

    fn feed(&mut self, c: C) -> bool {
        let mut busy = false;
        while self.links[c].ready && self.links[c].open {
            let Some(packet) = self.links[c].unfed.pop_front() else {
                break;
            };
            busy = true;
            let (shard, id) = (self.links[c].shard, self.links[c].id);
            self.links[c].ready = self.shards[shard].packet(NOW, id, packet) == Feed::More;
        }
        busy
    }
}

/// A packet in a few words.
fn said(packet: &Packet) -> String {
    let ack = |name: &str, ack: &Ack| format!("{name} {} {:?}", ack.packet_id, ack.reason);
    match packet {
        Packet::ConnAck(connack) => format!("CONNACK {:?}", connack.reason),
        Packet::Publish(p) => {
            let payload = String::from_utf8_lossy(&p.payload);
            let dup = if p.dup { " again" } else { "" };
            format!("PUBLISH {payload} at {}{dup}", p.qos as u8)
        }
        Packet::PubAck(a) => ack("PUBACK", a),
        Packet::PubRec(a) => ack("PUBREC", a),
        Packet::PubRel(a) => ack("PUBREL", a),
        Packet::PubComp(a) => ack("PUBCOMP", a),
        Packet::SubAck(suback) => format!("SUBACK {:?}", suback.reasons[0]),
        Packet::UnsubAck(_) => "UNSUBACK".into(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason),
        other => format!("{other:?}"),
    }
}

fn accepted(connect: Connect) -> Accepted {
    let client = Client {
        client_id: Arc::from(connect.client_id.as_str()),
        username: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 50_000,
        listener: Arc::from("127.0.0.1:1883"),
        protocol: connect.version,
        certificate: None,
        attributes: Vec::new(),
        tenant: None,
    };
    Accepted {
        connect,
        client: Arc::new(client),
        assigned: false,
        quotas: Quotas::default(),
        authentication_data: None,
    }
}

pub(crate) fn publish(level: u8, packet_id: u16, topic: &str, payload: &str) -> Publish {
    Publish {
        dup: false,
        qos: qos(level),
        retain: false,
        topic: text(topic),
        packet_id: PacketId::new(packet_id),
        properties: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

pub(crate) fn ack(packet_id: u16) -> Ack {
    Ack {
        packet_id: id(packet_id),
        reason: ReasonCode::Success,
        properties: None,
    }
}

fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).expect("not 0")
}

fn qos(level: u8) -> QoS {
    QoS::from_bits(level).expect("0, 1 or 2")
}

fn text(s: &str) -> Utf8String {
    Utf8String::try_from(s).expect("valid")
}
