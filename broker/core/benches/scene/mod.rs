//! Shards that are driven as the server drives them, without sockets: what waits for a client counts as written.

use bytes::Bytes;
use nervewire_codec::{
    Connect, Packet, PacketId, PacketRef, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions, Utf8String,
    Version, decode_in_place, encode,
};
use nervewire_core::fold::DefaultDecision;
use nervewire_core::handshake::Accepted;
use nervewire_core::hook::{Client, Quotas, Rule};
use nervewire_core::limits::ShardConfig;
use nervewire_core::policy::{Authorizer, Policy};
use nervewire_core::shard::{Answer, Call, ConnId, Elsewhere, Shard};
use nervewire_core::store::{Durability, Position, Ticket};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const NOW: u64 = 1_000_000;
const MAX_PACKET_BYTES: u32 = 1_048_576;
const VERSION: Version = Version::V311;
pub(crate) const TOPIC: &str = "site/7/robot/12/axis";

pub(crate) struct Scene {
    shards: Vec<Shard>,
    touched: Vec<ConnId>,
    conns: u32,
    rule: Option<Rule>,
}

impl Scene {
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(shards, Durability::Memory)
    }

    pub(crate) fn with(shards: u16, durability: Durability) -> Self {
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
        let shards = (0..shards).map(|n| Shard::new(config(n), policy.clone(), NOW));
        Self {
            shards: shards.collect(),
            touched: Vec::new(),
            conns: 0,
            rule: None,
        }
    }

    /// An authorizer, which gives every client this one rule.
    pub(crate) fn with_rule(rule: &Rule) -> Self {
        let mut scene = Self::new(1);
        let policy = Policy {
            generation: 1,
            authorizers: vec![Authorizer::default()],
            ..Policy::default()
        };
        scene.shards[0].set_policy(Arc::new(policy));
        scene.rule = Some(rule.clone());
        scene
    }

    /// Whoever asks for rules is given that one.
    fn answer(&mut self, shard: usize) {
        while let Some((id, call)) = self.shards[shard].next_call() {
            assert!(matches!(call, Call::Rules { .. }), "rules decide: {call:?}");
            let rules = Answer::Rules(vec![Ok(Some(self.rule.iter().cloned().collect()))]);
            self.shards[shard].answer(NOW, id, rules, 0);
        }
    }

    pub(crate) fn connect(&mut self, shard: usize, client_id: &str) -> ConnId {
        self.enter(shard, accepted(client_id))
    }

    fn enter(&mut self, shard: usize, accepted: Accepted) -> ConnId {
        let id = ConnId(self.conns);
        self.conns += 1;
        self.shards[shard].connect(NOW, id, Box::new(accepted));
        self.answer(shard);
        self.store(shard);
        assert!(self.write(shard) > 0, "a CONNACK");
        id
    }

    pub(crate) fn subscriber(&mut self, shard: usize, client_id: &str, qos: u8) -> ConnId {
        let id = self.connect(shard, client_id);
        self.subscribe(shard, id, qos);
        id
    }

    /// A session that outlives its connection.
    pub(crate) fn lasting_subscriber(&mut self, shard: usize, client_id: &str, qos: u8) -> ConnId {
        let mut accepted = accepted(client_id);
        accepted.connect.clean_start = false;
        let id = self.enter(shard, accepted);
        self.subscribe(shard, id, qos);
        id
    }

    fn subscribe(&mut self, shard: usize, id: ConnId, qos: u8) {
        self.feed(shard, id, &bytes_of(&subscribe(qos)));
        // SUBACK waits until all shards know of the interest.
        for other in (0..self.shards.len()).filter(|other| *other != shard) {
            self.pass_on(shard, other);
            self.pass_on(other, shard);
        }
        self.store(shard);
        assert!(self.write(shard) > 0, "a SUBACK");
    }

    /// All that was appended is durable. Answers how many appends that were.
    pub(crate) fn store(&mut self, shard: usize) -> usize {
        let shard = &mut self.shards[shard];
        let mut appends = 0;
        while let Some(append) = shard.next_append() {
            appends += 1;
            let positions = [Position(append.ticket.0)];
            drop(append);
            shard.stored(NOW, Ticket(positions[0].0), &positions);
        }
        appends
    }

    /// Feeds all packets of what a client sent.
    pub(crate) fn feed(&mut self, shard: usize, id: ConnId, mut bytes: &[u8]) {
        let fed = &mut self.shards[shard];
        while let Ok(Some((packet, used))) = decode_in_place(bytes, Some(VERSION), MAX_PACKET_BYTES) {
            bytes = &bytes[used..];
            match packet {
                PacketRef::Publish(publish) => fed.publish(NOW, id, publish, &mut Elsewhere),
                PacketRef::Other(packet) => fed.packet(NOW, id, packet),
            };
        }
        assert!(bytes.is_empty(), "whole packets");
        if self.rule.is_some() {
            self.answer(shard);
        }
    }

    /// Hands one shard what the other has for it.
    pub(crate) fn pass_on(&mut self, from: usize, to: usize) {
        for message in self.shards[from].take_mesh(to as u16) {
            self.shards[to].mesh(NOW, message);
        }
    }

    /// What waits for a client, from its front.
    pub(crate) fn waiting(&mut self, shard: usize, id: ConnId) -> &[u8] {
        self.shards[shard].output(id).map_or(&[], |out| out.front())
    }

    /// Writes everything that waits and answers how many bytes that were.
    pub(crate) fn write(&mut self, shard: usize) -> usize {
        let shard = &mut self.shards[shard];
        let mut written = 0;
        let mut touched = std::mem::take(&mut self.touched);
        shard.take_touched(&mut touched);
        for id in touched.drain(..) {
            if let Some(out) = shard.output(id) {
                written += out.len();
                out.advance(out.len());
            }
            shard.settle_output(id);
            shard.written(NOW, id);
        }
        self.touched = touched;
        written
    }
}

fn accepted(client_id: &str) -> Accepted {
    let connect = Connect {
        version: VERSION,
        clean_start: true,
        keep_alive: 0,
        client_id: text(client_id),
        will: None,
        username: None,
        password: None,
        properties: None,
    };
    let client = Client {
        client_id: Arc::from(client_id),
        username: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 50_000,
        listener: Arc::from("127.0.0.1:1883"),
        protocol: VERSION,
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
        max_packet_bytes: u32::MAX,
        rates: nervewire_core::handshake::SharedRates::default(),
    }
}

pub(crate) fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, VERSION, &mut bytes).expect("encodable");
    bytes
}

fn text(s: &str) -> Utf8String {
    Utf8String::try_from(s).expect("valid")
}

fn qos(level: u8) -> QoS {
    QoS::from_bits(level).expect("0, 1 or 2")
}

/// Of 64 bytes, to the topic that everybody subscribes to.
pub(crate) fn publish(level: u8) -> Vec<u8> {
    bytes_of(&Packet::Publish(Publish {
        dup: false,
        qos: qos(level),
        retain: false,
        topic: text(TOPIC),
        packet_id: (level > 0).then(|| PacketId::new(1).expect("not 0")),
        properties: None,
        payload: Bytes::from_static(&[b'x'; 64]),
    }))
}

fn subscribe(level: u8) -> Packet {
    let options = SubscriptionOptions {
        qos: qos(level),
        ..SubscriptionOptions::default()
    };
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).expect("not 0"),
        properties: None,
        filters: vec![SubscribeFilter {
            filter: text(TOPIC),
            options,
        }],
    })
}
