//! What is in flight when a connection ends comes again.

use crate::support::*;

/// A durable subscriber to `t` at QoS 2 that is sent `count` messages at `qos`.
fn in_flight(broker: &Broker, version: Version, qos: QoS, count: u32) -> Client {
    let (mut subscriber, _) = Client::connect(broker, durable(version, "s"));
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = Client::new(broker, version, "p");
    for number in 0..count {
        publisher.publish("t", number.to_string(), qos);
    }
    subscriber
}

fn resume(broker: &Broker, version: Version) -> Client {
    let (client, answer) = Client::connect(broker, durable(version, "s"));
    assert!(answer.session_present);
    client
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1]: same identifiers, DUP, in order.
#[test]
fn unacknowledged_messages_come_again_in_order_with_dup() {
    each_version(|broker, version| {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut subscriber = in_flight(broker, version, qos, 5);
            let before: Vec<_> = (0..5).map(|_| subscriber.expect_publish()).collect();
            assert!(before.iter().all(|publish| !publish.dup), "[MQTT-3.3.1-2]");
            drop(subscriber);
            let mut subscriber = resume(broker, version);
            for publish in before {
                let again = subscriber.receive();
                assert!(again.dup);
                assert_eq!((again.packet_id, again.payload), (publish.packet_id, publish.payload));
            }
            subscriber.expect_idle();
            subscriber.disconnect();
        }
    });
}

/// Only the unacknowledged ones.
#[test]
fn acknowledged_messages_do_not_come_again() {
    each_version(|broker, version| {
        let mut subscriber = in_flight(broker, version, QoS::AtLeastOnce, 3);
        let first = subscriber.expect_publish().packet_id.expect("QoS 1");
        subscriber.expect_publish();
        subscriber.expect_publish();
        subscriber.send(Packet::PubAck(ack(first)));
        subscriber.expect_idle(); // The PUBACK has been read.
        drop(subscriber);
        let mut subscriber = resume(broker, version);
        subscriber.expect_payload("1");
        subscriber.expect_payload("2");
        subscriber.expect_idle();
    });
}

/// [MQTT-4.3.3-4]: after PUBREC the PUBREL comes again, not the PUBLISH.
#[test]
fn after_pubrec_the_pubrel_comes_again() {
    each_version(|broker, version| {
        let mut subscriber = in_flight(broker, version, QoS::ExactlyOnce, 1);
        let id = subscriber.expect_publish().packet_id.expect("QoS 2");
        subscriber.send(Packet::PubRec(ack(id)));
        assert_eq!(subscriber.expect_pubrel().packet_id, id);
        drop(subscriber);
        let mut subscriber = resume(broker, version);
        assert_eq!(subscriber.expect_pubrel().packet_id, id);
        subscriber.send(Packet::PubComp(ack(id)));
        subscriber.expect_idle();
    });
}

/// [MQTT-4.3.3-10]: the identifiers a session has received outlive its connection.
#[test]
fn a_qos_2_publish_repeated_after_reconnecting_is_delivered_once() {
    each_version(|broker, version| {
        let mut watcher = Client::new(broker, version, "watcher");
        watcher.subscribe("t", QoS::AtMostOnce);
        let publish = Publish {
            packet_id: PacketId::new(9),
            ..message("t", "once", QoS::ExactlyOnce)
        };
        let (mut publisher, _) = Client::connect(broker, durable(version, "s"));
        publisher.send(Packet::Publish(publish.clone()));
        publisher.expect_pubrec();
        drop(publisher);
        let mut publisher = resume(broker, version);
        publisher.send(Packet::Publish(Publish { dup: true, ..publish }));
        let id = publisher.expect_pubrec().packet_id;
        publisher.send(Packet::PubRel(ack(id)));
        publisher.expect_pubcomp();
        publisher.publish("t", "sentinel", QoS::AtLeastOnce);
        watcher.expect_payload("once");
        watcher.expect_payload("sentinel");
    });
}

/// [MQTT-4.4.0-1]: what was never sent waits behind what was.
#[test]
fn messages_queued_meanwhile_follow_those_in_flight() {
    each_version(|broker, version| {
        let mut subscriber = in_flight(broker, version, QoS::AtLeastOnce, 2);
        subscriber.expect_publish();
        subscriber.expect_publish();
        subscriber.disconnect();
        Client::new(broker, version, "p").publish("t", "2", QoS::AtLeastOnce);
        let mut subscriber = resume(broker, version);
        for (payload, dup) in [("0", true), ("1", true), ("2", false)] {
            assert_eq!(subscriber.expect_payload(payload).dup, dup);
        }
    });
}

/// [MQTT-4.4.0-2]: an error in PUBACK or PUBREC ends the message.
#[test]
fn a_refused_message_does_not_come_again() {
    each_broker(|broker| {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut subscriber = in_flight(broker, Version::V5, qos, 1);
            let packet_id = subscriber.expect_publish().packet_id.expect("an identifier");
            let reason = ReasonCode::UnspecifiedError;
            let refusal = Ack {
                packet_id,
                reason,
                properties: None,
            };
            subscriber.send(if qos == QoS::AtLeastOnce {
                Packet::PubAck(refusal)
            } else {
                Packet::PubRec(refusal)
            });
            subscriber.expect_idle();
            drop(subscriber);
            let mut subscriber = resume(broker, Version::V5);
            subscriber.expect_idle();
            subscriber.disconnect();
        }
    });
}
