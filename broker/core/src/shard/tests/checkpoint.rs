//! Checkpoints at random moments: what is left of the log says what all of it said, and what the shards hold.

use super::restart::stored;
use super::scene::{ack, filter, publish, qos, v5, v311, will};
use super::{Broker, C};
use nervewire_codec::{Packet, Publish, ReasonCode};
use proptest::prelude::*;

const CLIENTS: usize = 4;
const TOPICS: [&str; 3] = ["a", "a/b", "c"];
const FILTERS: [&str; 5] = ["a", "a/#", "#", "$share/g/#", "$share/h/a"];

#[derive(Clone, Debug)]
enum Op {
    Connect(usize, bool),
    Lose(usize),
    /// Ends the session.
    CleanStart(usize),
    Subscribe(usize, usize, u8),
    Unsubscribe(usize, usize),
    Publish(usize, usize, u8, bool),
    Expiring(usize, usize),
    /// Answers so many of the packets that the client has received.
    Answer(usize, usize),
    Advance(u64),
    HoldMesh(bool),
    HoldStore(bool),
    /// Of so many eighths of the log.
    Checkpoint(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let who = || 0..CLIENTS;
    let flag = any::<bool>;
    prop_oneof![
        6 => (who(), flag()).prop_map(|(n, has_will)| Op::Connect(n, has_will)),
        3 => who().prop_map(Op::Lose),
        1 => who().prop_map(Op::CleanStart),
        6 => (who(), 0..FILTERS.len(), 1..3u8).prop_map(|(n, f, level)| Op::Subscribe(n, f, level)),
        1 => (who(), 0..FILTERS.len()).prop_map(|(n, f)| Op::Unsubscribe(n, f)),
        12 => (who(), 0..TOPICS.len(), 1..3u8, flag()).prop_map(|(n, t, level, retain)| Op::Publish(n, t, level, retain)),
        1 => (who(), 0..TOPICS.len()).prop_map(|(n, t)| Op::Expiring(n, t)),
        8 => (who(), 1..4usize).prop_map(|(n, count)| Op::Answer(n, count)),
        1 => (0..4_000u64).prop_map(Op::Advance),
        1 => flag().prop_map(Op::HoldMesh),
        2 => flag().prop_map(Op::HoldStore),
        5 => (0..=8usize).prop_map(Op::Checkpoint),
    ]
}

fn who(n: usize) -> super::scene::Who {
    let name = ["s", "pub", "a", "b"][n];
    if n == 3 {
        v311(name).lasting()
    } else {
        v5(name).lasting()
    }
}

struct Run {
    b: Broker,
    links: [Option<C>; CLIENTS],
}

impl Run {
    fn link(&self, n: usize) -> Option<C> {
        self.links[n].filter(|c| self.b.is_open(*c))
    }

    fn apply(&mut self, op: Op) {
        let link = |n| self.link(n);
        match op {
            Op::Connect(n, has_will) => {
                let who = if has_will {
                    who(n).will(will(TOPICS[n % 3], 1, "bye"))
                } else {
                    who(n)
                };
                self.links[n] = Some(self.b.open(who));
            }
            Op::Lose(n) => link(n).into_iter().for_each(|c| self.b.lose(c)),
            Op::CleanStart(n) => self.links[n] = Some(self.b.open(who(n).clean_start(true))),
            Op::Subscribe(n, f, level) => {
                let Some(c) = link(n) else { return };
                let packet_id = self.b.packet_id(c);
                let filters = vec![filter(FILTERS[f], level)];
                let properties = None;
                self.b.send(
                    c,
                    Packet::Subscribe(nervewire_codec::Subscribe {
                        packet_id,
                        properties,
                        filters,
                    }),
                );
            }
            Op::Unsubscribe(n, f) => {
                let Some(c) = link(n) else { return };
                let packet_id = self.b.packet_id(c);
                let filters = vec![super::scene::text(FILTERS[f])];
                let properties = None;
                self.b.send(
                    c,
                    Packet::Unsubscribe(nervewire_codec::Unsubscribe {
                        packet_id,
                        properties,
                        filters,
                    }),
                );
            }
            Op::Publish(n, topic, level, retain) => self.publish(
                n,
                Publish {
                    retain,
                    ..publish(TOPICS[topic], level, "m")
                },
            ),
            Op::Expiring(n, topic) => {
                let properties = nervewire_codec::Properties {
                    message_expiry_interval: Some(3),
                    ..Default::default()
                };
                let properties = (n != 3).then(|| Box::new(properties));
                self.publish(
                    n,
                    Publish {
                        properties,
                        ..publish(TOPICS[topic], 1, "m")
                    },
                );
            }
            Op::Answer(n, count) => (0..count).for_each(|_| self.answer(n)),
            Op::Advance(ms) => self.b.advance(ms),
            Op::HoldMesh(held) => {
                self.b.mesh_held = held;
                self.b.settle();
            }
            Op::HoldStore(held) => {
                self.b.store_held = held;
                self.b.settle();
            }
            Op::Checkpoint(eighths) => self.checkpoint(eighths),
        }
    }

    fn publish(&mut self, n: usize, packet: Publish) {
        let Some(c) = self.link(n) else { return };
        let packet_id = Some(self.b.packet_id(c));
        let qos = qos(packet.qos as u8);
        self.b.send(
            c,
            Packet::Publish(Publish {
                packet_id,
                qos,
                ..packet
            }),
        );
    }

    /// The client goes on with the oldest of its handshakes.
    fn answer(&mut self, n: usize) {
        let Some(c) = self.link(n) else { return };
        let success = |id: nervewire_codec::PacketId| ack(id.get(), ReasonCode::Success);
        while let Some(packet) = self.b.links[c].received.pop_front() {
            let answer = match packet {
                Packet::Publish(Publish {
                    packet_id: Some(id),
                    qos,
                    ..
                }) if qos as u8 == 1 => Packet::PubAck(success(id)),
                Packet::Publish(Publish {
                    packet_id: Some(id), ..
                }) => Packet::PubRec(success(id)),
                Packet::PubRel(rel) => Packet::PubComp(success(rel.packet_id)),
                Packet::PubRec(rec) => Packet::PubRel(success(rec.packet_id)),
                _ => continue,
            };
            return self.b.send(c, answer);
        }
    }

    /// Of what is durable, and compared before and after the old part of the log is dropped.
    fn checkpoint(&mut self, eighths: usize) {
        if !self.b.is_all_durable() {
            return;
        }
        // Of a session that is ending a checkpoint keeps only what is on its way elsewhere.
        if !self.b.shards.iter().all(|shard| shard.unsettled.is_empty()) {
            return;
        }
        self.b.checkpoint(self.b.journal.len() * eighths / 8);
        self.b.check_kept();
        let dropped = self.b.drops.pop();
        self.compare();
        self.b.drops.extend(dropped);
        self.compare();
    }

    /// With what new shards make of the log.
    fn compare(&self) {
        for shards in [1, 3] {
            self.b.restarted_with(shards);
        }
    }
}

fn check(shards: u16, ops: Vec<Op>) {
    let mut run = Run {
        b: stored(shards),
        links: [None; CLIENTS],
    };
    run.b.manual_clients = true;
    for op in ops {
        run.apply(op);
        run.b.check_kept();
    }
    run.compare();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_checkpoint_keeps_what_is_true_and_nothing_else(ops in proptest::collection::vec(op(), 1..80)) {
        check(1, ops.clone());
        check(3, ops);
    }
}
