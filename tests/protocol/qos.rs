//! QoS 0, 1 and 2 in both directions.

use crate::support::*;
use std::collections::BTreeSet;

/// [MQTT-3.8.4-8]: the lower of published and granted QoS; every pair of both, by clients of every version.
#[test]
fn messages_arrive_at_the_lower_of_published_and_granted_qos() {
    each_broker(|broker| {
        for (from, to) in [
            (Version::V311, Version::V5),
            (Version::V5, Version::V311),
            (Version::V31, Version::V31),
        ] {
            let mut publisher = Client::new(broker, from, "p");
            let mut subscriber = Client::new(broker, to, "s");
            for granted in QOS {
                subscriber.subscribe("t", granted);
                for published in QOS {
                    publisher.publish("t", "x", published);
                    assert_eq!(subscriber.expect_payload("x").qos, granted.min(published));
                }
            }
        }
    });
}

/// [MQTT-4.6.0-6]: one publisher's messages of one topic and QoS stay in order.
#[test]
fn messages_of_one_publisher_stay_in_order() {
    each_version(|broker, version| {
        for qos in QOS {
            let mut subscriber = Client::new(broker, version, "s");
            subscriber.subscribe("t", qos);
            let mut publisher = Client::new(broker, version, "p");
            for number in 0..200 {
                publisher.send_publish(message("t", number.to_string(), qos));
                if qos == QoS::ExactlyOnce {
                    let id = publisher.expect_pubrec().packet_id;
                    publisher.send(Packet::PubRel(ack(id)));
                    publisher.expect_pubcomp();
                }
            }
            for number in 0..200 {
                subscriber.expect_payload(&number.to_string());
            }
        }
    });
}

/// [MQTT-4.6.0-2]: PUBACKs leave in the order of the PUBLISHes.
#[test]
fn acknowledgements_keep_the_order_of_the_messages() {
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version, "p");
        let sent: Vec<_> = (0..50)
            .map(|n| publisher.send_publish(message("t", n.to_string(), QoS::AtLeastOnce)))
            .collect();
        let answered: Vec<_> = (0..50).map(|_| Some(publisher.expect_puback().packet_id)).collect();
        assert_eq!(sent, answered);
    });
}

/// [MQTT-4.3.3-10]: until PUBREL a repeated PUBLISH is the same message; [MQTT-4.3.3-12]: after it, a new one.
#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    each_version(|broker, version| {
        let mut subscriber = Client::new(broker, version, "s");
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = Client::new(broker, version, "p");
        let id = PacketId::new(7);
        let first = Publish {
            packet_id: id,
            ..message("t", "once", QoS::ExactlyOnce)
        };
        publisher.send(Packet::Publish(first.clone()));
        publisher.expect_pubrec();
        publisher.send(Packet::Publish(Publish {
            dup: true,
            ..first.clone()
        }));
        let id = publisher.expect_pubrec().packet_id;
        publisher.send(Packet::PubRel(ack(id)));
        publisher.expect_pubcomp();
        publisher.send(Packet::Publish(Publish {
            payload: "again".into(),
            ..first
        }));
        publisher.expect_pubrec();
        publisher.send(Packet::PubRel(ack(id)));
        publisher.expect_pubcomp();
        subscriber.expect_payload("once");
        subscriber.expect_payload("again");
    });
}

/// [MQTT-4.3.3-11]: PUBREL is always answered; an unknown identifier with 0x92 under 5.0.
#[test]
fn a_pubrel_for_nothing_is_answered() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        let id = client.packet_id();
        client.send(Packet::PubRel(ack(id)));
        let answer = client.expect_pubcomp();
        assert_eq!(answer.packet_id, id);
        assert_eq!(answer.reason as u8, if version == Version::V5 { 0x92 } else { 0 });
    });
}

/// [MQTT-2.2.1-4]: no packet identifier is used twice at a time.
#[test]
fn messages_in_flight_have_distinct_packet_identifiers() {
    each_version(|broker, version| {
        let mut subscriber = Client::new(broker, version, "s");
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = Client::new(broker, version, "p");
        for number in 0..10 {
            publisher.publish("t", number.to_string(), QOS[1 + number % 2]);
        }
        let ids: BTreeSet<_> = (0..10)
            .map(|_| subscriber.expect_publish().packet_id.expect("an identifier"))
            .collect();
        assert_eq!(ids.len(), 10);
    });
}

/// [MQTT-3.3.4-9]: at most Receive Maximum messages are unacknowledged; the next comes with an acknowledgement.
#[test]
fn the_receive_maximum_of_the_client_is_kept() {
    each_broker(|broker| {
        let window = props(|p| p.receive_maximum = Some(2));
        let (mut subscriber, _) = Client::connect(
            broker,
            Connect {
                properties: window,
                ..hello(Version::V5, "s")
            },
        );
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        for number in 0..6 {
            publisher.publish("t", number.to_string(), QOS[1 + number % 2]);
        }
        // QoS 0 needs no window, and shows that all of them had their chance.
        publisher.publish("t", "sentinel", QoS::AtMostOnce);
        let (first, second) = (subscriber.expect_publish(), subscriber.expect_publish());
        assert_eq!((&first.payload[..], &second.payload[..]), (&b"0"[..], &b"1"[..]));
        subscriber.expect_payload_within_window();
        subscriber.send(Packet::PubAck(ack(first.packet_id.expect("QoS 1"))));
        let third = subscriber.expect_publish();
        assert_eq!(third.payload, "2");
        subscriber.complete(second.packet_id.expect("QoS 2"));
        assert_eq!(subscriber.expect_publish().payload, "3");
        subscriber.expect_idle();
    });
}

impl Client {
    /// The QoS 0 sentinel may pass the waiting messages or wait behind them; nothing else may come.
    #[track_caller]
    fn expect_payload_within_window(&mut self) {
        self.send(Packet::PingReq);
        loop {
            match self.recv() {
                Packet::PingResp => return,
                Packet::Publish(publish) => assert_eq!(publish.payload, "sentinel", "over the window: {publish:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// [MQTT-3.3.4-7] the other way: the broker takes as many as its Receive Maximum says, here without PUBREL.
#[test]
fn the_receive_maximum_of_the_broker_can_be_used_in_full() {
    each_broker(|broker| {
        let (mut publisher, answer) = Client::connect(broker, hello(Version::V5, "p"));
        let window = properties(&answer.properties)
            .receive_maximum
            .unwrap_or(u16::MAX)
            .min(500);
        for number in 0..window {
            publisher.send_publish(message("t", number.to_string(), QoS::ExactlyOnce));
        }
        for _ in 0..window {
            assert!((publisher.expect_pubrec().reason as u8) < 0x80);
        }
        publisher.expect_idle();
    });
}

/// Where nobody subscribes, 5.0 allows 0x10; delivery to somebody is 0 (3.4.2.1).
#[test]
fn a_publish_to_nobody_is_acknowledged() {
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version, "p");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let reason = publisher.deliver(message("nobody/here", "x", qos));
            assert!([0, 0x10].contains(&reason), "{reason:#x}");
        }
    });
}

/// The payload is opaque, from nothing to a megabyte less its header.
#[test]
fn payloads_of_every_size_arrive_unaltered() {
    each_version(|broker, version| {
        let mut subscriber = Client::new(broker, version, "s");
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = Client::new(broker, version, "p");
        for size in [0, 1, 120, 127, 128, 16_383, 16_384, 1_000_000] {
            let payload: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
            for qos in QOS {
                publisher.publish("t", payload.clone(), qos);
                assert!(subscriber.receive().payload == payload, "{size} bytes at {qos:?}");
            }
        }
    });
}
