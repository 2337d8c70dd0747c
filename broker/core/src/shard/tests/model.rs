//! Random operations against a naive model.

use super::scene::{Who, client, publish, qos};
use super::{Broker, C};
use crate::limits::ShardConfig;
use crate::store::Durability;
use nervewire_codec::{Packet, Publish, Version};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CLIENTS: usize = 4;
const TOPICS: [&str; 3] = ["a", "a/b", "c"];
const FILTERS: [&str; 5] = ["a", "a/#", "+/b", "#", "c"];

#[derive(Clone, Debug)]
enum Op {
    Connect(usize),
    Lose(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Publish { from: usize, topic: usize, level: u8 },
    Stick(usize),
    Unstick(usize),
    HoldMesh(bool),
    HoldStore(bool),
    HoldFetch(bool),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..CLIENTS;
    prop_oneof![
        2 => who.clone().prop_map(Op::Connect),
        1 => who.clone().prop_map(Op::Lose),
        2 => (who.clone(), 0..FILTERS.len()).prop_map(|(c, f)| Op::Subscribe(c, f)),
        1 => (who.clone(), 0..FILTERS.len()).prop_map(|(c, f)| Op::Unsubscribe(c, f)),
        6 => (who.clone(), 0..TOPICS.len(), 1..3u8).prop_map(|(from, topic, level)| Op::Publish { from, topic, level }),
        1 => who.clone().prop_map(Op::Stick),
        1 => who.prop_map(Op::Unstick),
        1 => any::<bool>().prop_map(Op::HoldMesh),
        1 => any::<bool>().prop_map(Op::HoldStore),
        1 => any::<bool>().prop_map(Op::HoldFetch),
        1 => (0..5_000u64).prop_map(Op::Advance),
    ]
}

/// Lasting sessions, each with the filters it is subscribed to and the numbers it must still see per publisher.
#[derive(Default)]
struct Model {
    links: [Option<C>; CLIENTS],
    known: [bool; CLIENTS],
    filters: [Vec<usize>; CLIENTS],
    /// What each client must receive from each publisher at each QoS, in order: QoS 1 overtakes a QoS 2 message that waits for
    /// its identifier to be durable [MQTT-4.6.0-5].
    due: BTreeMap<(usize, usize, u8), Vec<u32>>,
    seen: BTreeMap<(usize, usize, u8), Vec<u32>>,
    next: u32,
    connections: u16,
}

fn who(n: usize) -> Who {
    let version = if n.is_multiple_of(2) {
        Version::V5
    } else {
        Version::V311
    };
    client(version, &format!("client {n}")).lasting()
}

impl Model {
    fn apply(&mut self, b: &mut Broker, op: Op) {
        match op {
            Op::Connect(n) => {
                b.store_held = false; // CONNACK waits for it.
                b.settle();
                self.collect(b);
                let c = b.connect(who(n));
                // Identifiers whose PUBREC never came are not used for other messages.
                self.connections += 1;
                b.links[c].next_packet_id = 100 * self.connections;
                self.links[n] = Some(c);
                self.known[n] = true;
            }
            Op::Lose(n) => {
                self.collect(b);
                if let Some(c) = self.links[n].take() {
                    b.lose(c);
                }
            }
            // Subscriptions change while nothing is under way, so that the model knows who is meant.
            Op::Subscribe(n, f) => self.when_quiet(b, n, |model, b, c| {
                b.subscribe(c, FILTERS[f], 2);
                model.filters[n].retain(|known| *known != f);
                model.filters[n].push(f);
            }),
            Op::Unsubscribe(n, f) => self.when_quiet(b, n, |model, b, c| {
                b.unsubscribe(c, &[FILTERS[f]]);
                model.filters[n].retain(|known| *known != f);
            }),
            Op::Publish { from, topic, level } => self.publish(b, from, topic, level),
            Op::Stick(n) => self.with_link(n, |c| b.links[c].stuck = true),
            Op::Unstick(n) => self.with_link(n, |c| b.unstick(c)),
            Op::HoldMesh(held) => {
                b.mesh_held = held;
                b.settle();
            }
            Op::HoldStore(held) => {
                b.store_held = held;
                b.settle();
            }
            Op::HoldFetch(held) => {
                b.fetch_held = held;
                b.settle();
            }
            Op::Advance(ms) => b.advance(ms),
        }
    }

    fn with_link(&self, n: usize, act: impl FnOnce(C)) {
        if let Some(c) = self.links[n] {
            act(c);
        }
    }

    fn when_quiet(&mut self, b: &mut Broker, n: usize, act: impl FnOnce(&mut Self, &mut Broker, C)) {
        (b.mesh_held, b.store_held, b.fetch_held) = (false, false, false);
        b.settle();
        if let Some(c) = self.links[n] {
            b.unstick(c);
            act(self, b, c);
            b.settle();
        }
    }

    fn publish(&mut self, b: &mut Broker, from: usize, topic: usize, level: u8) {
        let Some(c) = self.links[from] else { return };
        b.unstick(c);
        let number = self.next;
        self.next += 1;
        let packet_id = Some(b.packet_id(c));
        let packet = Publish {
            packet_id,
            qos: qos(level),
            ..publish(TOPICS[topic], level, &format!("{from} {number}"))
        };
        b.send(c, Packet::Publish(packet));
        for to in 0..CLIENTS {
            let is_meant = |f: &usize| nervewire_codec::topic::matches(FILTERS[*f], TOPICS[topic]);
            if self.known[to] && self.filters[to].iter().any(is_meant) {
                self.due.entry((from, to, level)).or_default().push(number);
            }
        }
    }

    /// Notes what every connected client has received. A client that is lost while stuck never saw the rest.
    fn collect(&mut self, b: &mut Broker) {
        for to in 0..CLIENTS {
            let Some(c) = self.links[to] else { continue };
            for message in b.messages(c) {
                let text = String::from_utf8(message.payload.to_vec()).unwrap();
                let (from, number) = text.split_once(' ').unwrap();
                let (from, number): (usize, u32) = (from.parse().unwrap(), number.parse().unwrap());
                let seen = self.seen.entry((from, to, message.qos as u8)).or_default();
                // What was sent before the connection was lost may come once more, marked.
                if !(message.dup && seen.contains(&number)) {
                    seen.push(number);
                }
            }
            b.take(c);
        }
    }

    fn finish(&mut self, b: &mut Broker) {
        (b.mesh_held, b.store_held, b.fetch_held) = (false, false, false);
        b.settle();
        self.collect(b);
        for n in (0..CLIENTS).filter(|n| self.known[*n]).collect::<Vec<_>>() {
            self.apply(b, Op::Connect(n));
        }
        self.collect(b);
    }
}

fn check(shards: u16, durability: Durability, ops: Vec<Op>) {
    let mut b = Broker::new(ShardConfig {
        shards,
        durability,
        ..ShardConfig::default()
    });
    let mut model = Model::default();
    for op in ops {
        model.apply(&mut b, op);
        b.check_kept();
    }
    model.finish(&mut b);
    for (pair, due) in &model.due {
        assert_eq!(model.seen.get(pair), Some(due), "from, to and QoS: {pair:?}");
    }
    assert_eq!(b.total(|c| c.queued_messages), 0);
    assert_eq!(b.total(|c| c.queued_bytes), 0);
    let in_flight: usize = b
        .shards
        .iter()
        .flat_map(|s| s.sessions(0, 10))
        .map(|s| s.in_flight_messages)
        .sum();
    assert_eq!(in_flight, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_messages_arrive_once_and_in_the_publishers_order(ops in proptest::collection::vec(op(), 1..60)) {
        for durability in [Durability::Memory, Durability::Stored] {
            check(1, durability, ops.clone());
            check(3, durability, ops.clone());
        }
    }
}
