//! The whole way of a message through the pure part of the broker: from the bytes that were read to the bytes to write.
//!
//!     cargo bench -p nervewire-core --bench session
//!
//! Each message is a pass of its own, the dearest case, unless the name says otherwise. That nothing was lost is asserted by
//! the bytes that come out.

#[path = "../../codec/benches/operation/mod.rs"]
mod operation;
mod scene;

use divan::Bencher;
use nervewire_codec::QoS;
use nervewire_core::hook::{Actions, Effect, Rule};
use nervewire_core::shard::ConnId;
use nervewire_core::store::Durability;
use operation::Operation;
use scene::{Scene, TOPIC, publish};

const OPERATIONS: [Operation; 12] = [
    Operation::new("QoS 0 to 1 subscriber", || at_most_once(1, 1)),
    Operation::new("QoS 0 to 1 subscriber, 100 messages in a pass", || at_most_once(1, 100)),
    Operation::new("QoS 0 to 1 subscriber, allowed by a compiled rule", || by_a_rule(1)),
    Operation::new(
        "QoS 0 to 1 subscriber, allowed by a compiled rule, 100 messages in a pass",
        || by_a_rule(100),
    ),
    Operation::new("QoS 0 to 100 subscribers", || at_most_once(100, 1)),
    Operation::new("QoS 1 with both acknowledgements", || at_least_once(Durability::Memory)),
    Operation::new("QoS 2 whole", exactly_once),
    Operation::new("QoS 1 with a store that it does not need", || {
        at_least_once(Durability::Stored)
    }),
    Operation::new("QoS 1 to a durable session, stored", || stored(1)),
    Operation::new("QoS 1 to 10 durable sessions, stored", || stored(10)),
    Operation::new("QoS 0 to a subscriber of another shard", || between_shards(1)),
    Operation::new("QoS 0 to another shard, 100 messages in a pass", || between_shards(100)),
];

const ACK_BYTES: usize = 4;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

fn main() {
    operation::main(&OPERATIONS);
}

#[divan::bench(args = OPERATIONS)]
fn session(bencher: Bencher<'_, '_>, operation: &Operation) {
    bencher.bench_local((operation.prepare)());
}

fn at_most_once(subscribers: usize, messages: usize) -> Box<dyn FnMut()> {
    in_scene(Scene::new(1), subscribers, messages)
}

/// The load of `at_most_once`, where the publisher has a rule that allows it.
fn by_a_rule(messages: usize) -> Box<dyn FnMut()> {
    let rule = Rule {
        effect: Effect::Allow,
        actions: Actions {
            publish: true,
            subscribe: true,
            deliver: false,
        },
        topic_filter: "#".to_owned(),
        max_qos: QoS::ExactlyOnce,
        retain: None,
    };
    in_scene(Scene::with_rule(&rule), 1, messages)
}

fn in_scene(mut scene: Scene, subscribers: usize, messages: usize) -> Box<dyn FnMut()> {
    let publisher = scene.connect(0, "publisher");
    for n in 0..subscribers {
        scene.subscriber(0, &format!("subscriber-{n}"), 0);
    }
    let packets = publish(0).repeat(messages);
    Box::new(move || {
        scene.feed(0, publisher, &packets);
        assert_eq!(scene.write(0), subscribers * packets.len());
    })
}

fn at_least_once(durability: Durability) -> Box<dyn FnMut()> {
    let (mut scene, publisher, subscriber) = pair(durability, 1);
    let packet = publish(1);
    Box::new(move || {
        scene.feed(0, publisher, &packet);
        let id = delivered_id(&mut scene, subscriber);
        assert_eq!(scene.write(0), packet.len() + ACK_BYTES);
        scene.feed(0, subscriber, &ack(PUBACK, id));
        assert_eq!(scene.write(0), 0);
    })
}

/// Everything is durable at once; what a medium does with the records is not part of this.
fn stored(subscribers: usize) -> Box<dyn FnMut()> {
    let mut scene = Scene::with(1, Durability::Stored);
    let publisher = scene.connect(0, "publisher");
    let names = (0..subscribers).map(|n| format!("subscriber-{n}"));
    let subscribers: Vec<ConnId> = names.map(|name| scene.lasting_subscriber(0, &name, 1)).collect();
    let packet = publish(1);
    Box::new(move || {
        scene.feed(0, publisher, &packet);
        let partitions = scene.store(0);
        assert!(partitions > 0 && partitions <= subscribers.len());
        let ids: Vec<[u8; 2]> = subscribers.iter().map(|id| delivered_id(&mut scene, *id)).collect();
        assert_eq!(scene.write(0), subscribers.len() * packet.len() + ACK_BYTES);
        for (subscriber, id) in subscribers.iter().zip(ids) {
            scene.feed(0, *subscriber, &ack(PUBACK, id));
        }
        assert_eq!(scene.store(0), subscribers.len());
    })
}

fn exactly_once() -> Box<dyn FnMut()> {
    let (mut scene, publisher, subscriber) = pair(Durability::Memory, 2);
    let packet = publish(2);
    Box::new(move || {
        scene.feed(0, publisher, &packet);
        let id = delivered_id(&mut scene, subscriber);
        assert_eq!(scene.write(0), packet.len() + ACK_BYTES, "PUBLISH and PUBREC");
        scene.feed(0, publisher, &ack(PUBREL, [0, 1]));
        scene.feed(0, subscriber, &ack(PUBREC, id));
        assert_eq!(scene.write(0), 2 * ACK_BYTES, "PUBCOMP and PUBREL");
        scene.feed(0, subscriber, &ack(PUBCOMP, id));
        assert_eq!(scene.write(0), 0);
    })
}

fn between_shards(messages: usize) -> Box<dyn FnMut()> {
    let mut scene = Scene::new(2);
    let publisher = scene.connect(0, "publisher");
    scene.subscriber(1, "subscriber", 0);
    let packets = publish(0).repeat(messages);
    Box::new(move || {
        scene.feed(0, publisher, &packets);
        scene.pass_on(0, 1);
        assert_eq!(scene.write(1), packets.len());
    })
}

fn pair(durability: Durability, qos: u8) -> (Scene, ConnId, ConnId) {
    let mut scene = Scene::with(1, durability);
    let publisher = scene.connect(0, "publisher");
    let subscriber = scene.subscriber(0, "subscriber", qos);
    (scene, publisher, subscriber)
}

/// The packet identifier of the one PUBLISH that waits: behind the fixed header, which has two bytes, and the topic.
fn delivered_id(scene: &mut Scene, subscriber: ConnId) -> [u8; 2] {
    let at = 2 + 2 + TOPIC.len();
    let waiting = scene.waiting(0, subscriber);
    [waiting[at], waiting[at + 1]]
}

fn ack(first_byte: u8, id: [u8; 2]) -> [u8; ACK_BYTES] {
    [first_byte, 2, id[0], id[1]]
}
