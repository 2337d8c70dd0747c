//! What survives.

use crate::support::*;
use crate::*;

/// Queued, at QoS 1 and 2, in their order; and the subscription that brings the next one.
#[test]
fn sessions_subscriptions_and_queues_survive() {
    each_version_and_shard_count(|setup, version| {
        let broker = setup.start();
        leave_subscribed(&broker, version, "d", "a/#");
        let mut publisher = Client::new(&broker, version, "p");
        for number in 0..10 {
            publisher.publish("a/1", format!("one {number}"), QoS::AtLeastOnce);
            publisher.publish("a/2", format!("two {number}"), QoS::ExactlyOnce);
        }
        let broker = killed(broker);
        Client::new(&broker, version, "p").publish("a/1", "after", QoS::AtLeastOnce);
        let mut client = resume(&broker, version, "d");
        for number in 0..10 {
            assert_eq!(client.expect_payload(&format!("one {number}")).qos, QoS::AtLeastOnce);
            assert_eq!(client.expect_payload(&format!("two {number}")).qos, QoS::ExactlyOnce);
        }
        client.expect_payload("after");
        client.expect_idle();
        let broker = killed_when_stored(broker);
        resume(&broker, version, "d").expect_idle();
    });
}

/// [MQTT-4.4.0-1]: what was sent and not acknowledged is sent again, at QoS 2 under its identifier; after PUBREC only PUBREL is.
#[test]
fn messages_in_flight_to_a_client_survive() {
    each_version_and_shard_count(|setup, version| {
        let broker = setup.start();
        leave_subscribed(&broker, version, "d", "a");
        let mut publisher = Client::new(&broker, version, "p");
        publisher.publish("a", "unacknowledged", QoS::AtLeastOnce);
        publisher.publish("a", "unreceived", QoS::ExactlyOnce);
        publisher.publish("a", "received", QoS::ExactlyOnce);
        let mut client = resume(&broker, version, "d");
        let ids = [(); 3].map(|()| client.expect_publish().packet_id.expect("an identifier"));
        client.send(Packet::PubRec(ack(ids[2])));
        assert_eq!(client.expect_pubrel(), ack(ids[2]));
        let broker = killed(broker);
        let mut client = resume(&broker, version, "d");
        // Order holds within a topic and a QoS [MQTT-4.6.0-6]; these are of different ones.
        let mut again: Vec<Packet> = (0..3).map(|_| client.recv()).collect();
        let mut take =
            |wanted: &dyn Fn(&Packet) -> bool| again.remove(again.iter().position(wanted).expect("it is sent again"));
        take(&|packet| *packet == Packet::PubRel(ack(ids[2])));
        let publish =
            |payload: &'static str, packet: &Packet| matches!(packet, Packet::Publish(p) if p.payload == payload);
        let Packet::Publish(unreceived) = take(&|packet| publish("unreceived", packet)) else {
            unreachable!("it was looked for");
        };
        assert!(unreceived.dup);
        assert_eq!(unreceived.packet_id, Some(ids[1]));
        let Packet::Publish(unacknowledged) = take(&|packet| publish("unacknowledged", packet)) else {
            unreachable!("it was looked for");
        };
        client.send(Packet::PubAck(ack(unacknowledged.packet_id.expect("an identifier"))));
        client.send(Packet::PubComp(ack(ids[2])));
        client.complete(ids[1]);
        client.expect_idle();
        let broker = killed_when_stored(broker);
        resume(&broker, version, "d").expect_idle();
    });
}

/// [MQTT-4.3.3-10]: an identifier that was received is known after the restart, and its message is not routed twice.
#[test]
fn messages_in_flight_from_a_client_survive() {
    each_version_and_shard_count(|setup, version| {
        let broker = setup.start();
        leave_subscribed(&broker, version, "d", "a");
        let (mut publisher, _) = Client::connect(&broker, durable(version, "p"));
        let once = message("a", "once", QoS::ExactlyOnce);
        let id = publisher.send_publish(once.clone()).expect("an identifier");
        assert_eq!(publisher.expect_pubrec().packet_id, id);
        let broker = killed(broker);
        let mut publisher = resume(&broker, version, "p");
        publisher.send(Packet::Publish(Publish {
            dup: true,
            packet_id: Some(id),
            ..once
        }));
        assert_eq!(publisher.expect_pubrec().packet_id, id);
        publisher.send(Packet::PubRel(ack(id)));
        assert_eq!(publisher.expect_pubcomp().packet_id, id);
        let mut client = resume(&broker, version, "d");
        client.expect_payload("once");
        client.expect_idle();
    });
}

#[test]
fn retained_messages_survive_and_deleted_ones_stay_deleted() {
    each_version_and_shard_count(|setup, version| {
        let broker = setup.start();
        let mut publisher = Client::new(&broker, version, "p");
        for topic in ["kept/1", "kept/2", "replaced", "deleted"] {
            publisher.retain(topic, format!("first of {topic}"), QoS::AtLeastOnce);
        }
        publisher.retain("replaced", "second", QoS::ExactlyOnce);
        publisher.retain("deleted", "", QoS::AtLeastOnce);
        let broker = killed(broker);
        let mut client = Client::new(&broker, version, "c");
        client.subscribe("#", QoS::ExactlyOnce);
        let mut payloads = [(); 3].map(|()| client.receive().payload);
        payloads.sort();
        assert_eq!(payloads, ["first of kept/1", "first of kept/2", "second"]);
        client.expect_idle();
    });
}

/// A will whose delay was running, one whose client was connected when the broker died, and one that DISCONNECT removed.
#[test]
fn wills_survive() {
    each_shard_count(|setup| {
        let with_will = |id: &str, delay_s| Connect {
            will: Some(Box::new(Will {
                properties: props(|p| p.will_delay_interval = Some(delay_s)),
                ..will("wills", id, QoS::AtLeastOnce)
            })),
            ..durable(Version::V5, id)
        };
        let broker = setup.start();
        leave_subscribed(&broker, Version::V5, "watcher", "wills");
        let (delayed, _) = Client::connect(&broker, with_will("delayed", 1));
        let (connected, _) = Client::connect(&broker, with_will("connected", 0));
        let (removed, _) = Client::connect(&broker, with_will("removed", 0));
        removed.disconnect();
        drop(delayed);
        wait_for("the broker to miss it", || {
            (metric(&broker, "nervewire_connections", &[]) == 1.0).then_some(())
        });
        let broker = killed(broker);
        drop(connected);
        let mut watcher = resume(&broker, Version::V5, "watcher");
        let mut wills = [(); 2].map(|()| watcher.receive().payload);
        wills.sort();
        assert_eq!(wills, ["connected", "delayed"]);
        watcher.expect_idle();
    });
}

/// A session that has ended, by Clean Start or by its expiry, is not revived.
#[test]
fn what_has_ended_stays_ended() {
    each_version_and_shard_count(|setup, version| {
        let broker = setup.start();
        leave_subscribed(&broker, version, "ended", "a");
        Client::new(&broker, version, "p").publish("a", "x", QoS::AtLeastOnce);
        Client::new(&broker, version, "ended").disconnect();
        let broker = killed(broker);
        let (mut client, answer) = Client::connect(&broker, durable(version, "ended"));
        assert!(!answer.session_present);
        Client::new(&broker, version, "p").publish("a", "x", QoS::AtLeastOnce);
        client.expect_idle();
    });
}

/// Shared subscriptions belong to sessions; their members are known again.
#[test]
fn shared_subscriptions_survive() {
    each_version_and_shard_count(|setup, version| {
        let broker = setup.start();
        leave_subscribed(&broker, version, "one", "$share/g/a");
        leave_subscribed(&broker, version, "other", "$share/g/a");
        let broker = killed(broker);
        let mut publisher = Client::new(&broker, version, "p");
        publisher.publish("a", "x", QoS::AtLeastOnce);
        publisher.publish("a", "y", QoS::AtLeastOnce);
        let broker = killed(broker);
        let mut payloads = ["one", "other"].map(|id| resume(&broker, version, id).receive().payload);
        payloads.sort();
        assert_eq!(payloads, ["x", "y"]);
    });
}

/// Queues that are far longer than what is held in memory, read back from the files; whose space comes back.
#[test]
fn long_queues_come_in_order_and_their_space_comes_back() {
    const MESSAGES: usize = 500;
    const FREED_BYTES: f64 = (1 << 20) as f64;
    each_shard_count(|setup| {
        let limits = "[limits]\nstore_bytes = 16_777_216\nqueue_messages = 1_000";
        let broker = setup.toml(limits).start();
        let ids: Vec<String> = (0..10).map(|number| format!("d{number}")).collect();
        for id in &ids {
            leave_subscribed(&broker, Version::V5, id, "a");
        }
        let mut publisher = Client::new(&broker, Version::V5, "p");
        for number in 0..MESSAGES {
            let qos = if number % 3 == 0 {
                QoS::ExactlyOnce
            } else {
                QoS::AtLeastOnce
            };
            publisher.publish("a", format!("{number} {}", "x".repeat(1_000)), qos);
        }
        let stored_bytes = metric(&broker, "nervewire_store_bytes", &[]);
        assert!(stored_bytes > 2.0 * FREED_BYTES, "{stored_bytes}");
        let broker = killed(broker);
        for id in &ids {
            let mut client = resume(&broker, Version::V5, id);
            for (number, payload) in receive_all(&mut client, MESSAGES).iter().enumerate() {
                assert!(payload.starts_with(&format!("{number} ")), "{number}: {payload}");
            }
            client.disconnect();
        }
        wait_for("the space to come back", || {
            (metric(&broker, "nervewire_store_bytes", &[]) < 2.0 * FREED_BYTES).then_some(())
        });
        let broker = killed(broker);
        resume(&broker, Version::V5, "d0").expect_idle();
    });
}

/// The payloads of so many messages, each acknowledged to its last step while others come: what a client has not completed, it is
/// asked about again.
fn receive_all(client: &mut Client, messages: usize) -> Vec<String> {
    let (mut payloads, mut unreleased) = (Vec::new(), 0);
    while payloads.len() < messages || unreleased > 0 {
        match client.recv() {
            Packet::PubRel(release) => {
                unreleased -= 1;
                client.send(Packet::PubComp(ack(release.packet_id)));
            }
            Packet::Publish(publish) => {
                let id = publish.packet_id.expect("an identifier");
                let is_exactly_once = publish.qos == QoS::ExactlyOnce;
                unreleased += usize::from(is_exactly_once);
                client.send(match is_exactly_once {
                    true => Packet::PubRec(ack(id)),
                    false => Packet::PubAck(ack(id)),
                });
                payloads.push(String::from_utf8_lossy(&publish.payload).into_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    payloads
}

/// Partitions are fixed, shards are not.
#[test]
fn another_number_of_shards_finds_the_same() {
    let broker = stored("fsync").shards(1).start();
    let ids: Vec<String> = (0..20).map(|number| format!("d{number}")).collect();
    for id in &ids {
        leave_subscribed(&broker, Version::V5, id, "a");
    }
    let mut publisher = Client::new(&broker, Version::V5, "p");
    publisher.publish("a", "x", QoS::AtLeastOnce);
    publisher.retain("r", "retained", QoS::AtLeastOnce);
    let broker = broker.kill9().0.shards(3).start();
    Client::new(&broker, Version::V5, "p").publish("a", "y", QoS::AtLeastOnce);
    let broker = broker.kill9().0.shards(2).start();
    for id in &ids {
        let mut client = resume(&broker, Version::V5, id);
        client.expect_payload("x");
        client.expect_payload("y");
        client.subscribe("r", QoS::AtLeastOnce);
        client.expect_payload("retained");
    }
}
