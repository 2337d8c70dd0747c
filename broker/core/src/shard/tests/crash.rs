//! A run of several clients, and a crash after each of its appends: nothing acknowledged is lost, QoS 2 never comes twice, and
//! order holds.

use super::restart::stored;
use super::scene::{ack, filter, publish, v5};
use super::{Broker, C};
use nervewire_codec::{Packet, PacketId, Publish, QoS, ReasonCode};
use std::collections::{BTreeMap, BTreeSet};

/// What all clients of a run saw and did, so that another run can go on after a crash at any append.
struct Scenario {
    b: Broker,
    publisher: C,
    subscribers: BTreeMap<&'static str, Vec<C>>,
    /// Members of one shared subscription.
    members: BTreeMap<&'static str, C>,
    published: Vec<Publish>,
}

/// Subscribers come and go while messages of both kinds are published.
fn scenario(shards: u16) -> Scenario {
    let mut b = stored(shards);
    let names = ["s", "a", "b", "c"];
    let mut subscribers: BTreeMap<&'static str, Vec<C>> = BTreeMap::new();
    for name in names {
        let c = b.connect(v5(name).lasting());
        b.subscribe_all(c, vec![filter("t/#", 2)], None);
        subscribers.entry(name).or_default().push(c);
    }
    let mut members = BTreeMap::new();
    for name in MEMBERS {
        let c = b.connect(v5(name).lasting());
        b.subscribe_all(c, vec![filter("$share/g/t/#", 2)], None);
        members.insert(name, c);
    }
    b.disconnect(members[MEMBERS[1]]);
    let publisher = b.connect(v5("pub").lasting());
    b.disconnect(subscribers["a"][0]);
    let mut published = Vec::new();
    for n in 0..12 {
        let level = 1 + n % 2;
        let packet_id = Some(b.packet_id(publisher));
        let packet = Publish {
            packet_id,
            ..publish(&format!("t/{level}"), level, &n.to_string())
        };
        published.push(packet.clone());
        b.send(publisher, Packet::Publish(packet));
        match n {
            3 => b.disconnect(subscribers["b"][0]),
            6 => {
                let a = b.connect(v5("a").lasting());
                subscribers.entry("a").or_default().push(a);
            }
            8 => b.lose(subscribers["c"][0]),
            9 => b.manual(subscribers["s"][0]),
            5 | 7 | 10 => b.checkpoint(b.journal.len() * 2 / 3),
            _ => {}
        }
    }
    Scenario {
        b,
        publisher,
        subscribers,
        members,
        published,
    }
}

const MEMBERS: [&str; 2] = ["member 1", "member 2"];

/// The receiver's side of QoS 2, and what an application would see.
#[derive(Default)]
struct Received {
    unreleased: BTreeSet<PacketId>,
    payloads: Vec<String>,
}

impl Received {
    fn take(&mut self, packet: &Packet) {
        match packet {
            Packet::Publish(p) => {
                let is_new = p.qos != QoS::ExactlyOnce || p.packet_id.is_some_and(|id| self.unreleased.insert(id));
                if is_new {
                    self.payloads.push(String::from_utf8_lossy(&p.payload).into_owned());
                }
            }
            Packet::PubRel(rel) => _ = self.unreleased.remove(&rel.packet_id),
            _ => {}
        }
    }
}

/// The sender's side after a crash: what was not acknowledged comes again [MQTT-4.4.0-1].
fn publish_again(next: &mut Broker, publisher: C, published: &[Publish], acknowledged: &BTreeMap<PacketId, bool>) {
    for packet in published {
        let packet_id = packet.packet_id.expect("QoS 1 or 2");
        match (packet.qos, acknowledged.get(&packet_id)) {
            (QoS::ExactlyOnce, Some(false)) => {
                next.send(publisher, Packet::PubRel(ack(packet_id.get(), ReasonCode::Success)));
            }
            (_, Some(_)) => {}
            (_, None) => {
                let packet = Publish {
                    dup: true,
                    ..packet.clone()
                };
                next.send(publisher, Packet::Publish(packet));
            }
        }
    }
}

/// Identifiers that were acknowledged, each with whether to the end.
fn acknowledged<'a>(packets: impl Iterator<Item = &'a Packet>) -> BTreeMap<PacketId, bool> {
    let mut acknowledged = BTreeMap::new();
    for packet in packets {
        match packet {
            Packet::PubAck(ack) | Packet::PubComp(ack) => _ = acknowledged.insert(ack.packet_id, true),
            Packet::PubRec(ack) => _ = acknowledged.insert(ack.packet_id, false),
            _ => {}
        }
    }
    acknowledged
}

impl Scenario {
    /// The process dies after this many appends; the clients have seen what was written by then.
    fn crash(&self, appends: usize, shards: u16) {
        let before = |c: C| {
            let seen = self.b.seen.iter();
            seen.filter(move |(at, of, _)| *at <= appends && *of == c)
                .map(|(_, _, packet)| packet)
        };
        let mut next = self.b.restarted(appends, shards);
        next.check_kept();
        // Who had no CONNACK yet has nothing to go on with; the scenario's subscriptions come first.
        let is_subscribed = |c: C| before(c).any(|packet| matches!(packet, Packet::SubAck(_)));
        let acknowledged = acknowledged(before(self.publisher));
        if before(self.publisher).next().is_none() {
            return;
        }
        let publisher = next.connect(v5("pub").lasting());
        // What the client has not begun to send at that moment it sends now.
        publish_again(&mut next, publisher, &self.published, &acknowledged);
        for (name, connections) in &self.subscribers {
            if !connections.iter().any(|c| is_subscribed(*c)) {
                continue;
            }
            let mut received = Received::default();
            connections
                .iter()
                .flat_map(|c| before(*c))
                .for_each(|p| received.take(p));
            let c = next.connect(v5(name).lasting());
            next.take(c).iter().for_each(|packet| received.take(packet));
            self.check(&received.payloads, &format!("{name} after {appends} appends"));
        }
        let mut group = Vec::new();
        for (name, c) in &self.members {
            let mut received = Received::default();
            before(*c).for_each(|packet| received.take(packet));
            let c = next.connect(v5(name).lasting());
            next.take(c).iter().for_each(|packet| received.take(packet));
            group.extend(received.payloads);
        }
        group.sort_by_key(|payload| payload.parse::<u8>().ok());
        self.check(&group, &format!("the group after {appends} appends"));
        next.check_kept();
    }

    fn check(&self, payloads: &[String], whom: &str) {
        for (n, packet) in self.published.iter().enumerate() {
            let copies = payloads.iter().filter(|payload| **payload == n.to_string()).count();
            assert!(copies > 0, "{whom}: {n} is lost, of {payloads:?}");
            assert!(
                copies == 1 || packet.qos == QoS::AtLeastOnce,
                "{whom}: {n} came twice, of {payloads:?}"
            );
        }
        for level in [1, 2] {
            let of_level = |n: &&String| n.parse::<u8>().is_ok_and(|n| 1 + n % 2 == level);
            let mut firsts: Vec<u8> = Vec::new();
            for n in payloads
                .iter()
                .filter(of_level)
                .filter_map(|payload| payload.parse().ok())
            {
                if !firsts.contains(&n) {
                    firsts.push(n);
                }
            }
            assert!(firsts.is_sorted(), "{whom}: out of order, {payloads:?}");
        }
    }
}

#[test]
fn a_crash_at_any_append_loses_nothing_acknowledged_and_repeats_no_qos_2() {
    for from in [1, 3] {
        let scenario = scenario(from);
        for appends in 0..=scenario.b.journal.len() {
            for to in [1, 3] {
                scenario.crash(appends, to);
            }
        }
    }
}
