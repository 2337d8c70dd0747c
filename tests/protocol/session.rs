//! Session state: present, clean, expired, taken over, queued.

use crate::support::*;

fn present(broker: &Broker, connect: Connect) -> bool {
    let (client, answer) = Client::connect(broker, connect);
    client.disconnect();
    answer.session_present
}

/// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.2.2-2], [MQTT-3.2.2-3]
#[test]
fn a_session_is_present_until_a_clean_start() {
    each_version(|broker, version| {
        let clean = || Connect {
            clean_start: true,
            ..durable(version, "c")
        };
        assert!(!present(broker, durable(version, "c")), "new");
        assert!(present(broker, durable(version, "c")), "resumed");
        assert!(!present(broker, clean()), "clean start");
    });
}

/// [MQTT-3.1.2-6] of 3.1.1: a clean session ends with its connection.
#[test]
fn a_clean_session_of_3_1_1_leaves_nothing() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V311, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        assert!(!present(broker, durable(Version::V311, "c")));
    });
}

/// 3.1.2.11.2: expiry 0 or absent ends the session with the connection.
#[test]
fn a_session_without_expiry_interval_ends_with_its_connection() {
    each_broker(|broker| {
        let connect = || Connect {
            clean_start: false,
            ..hello(Version::V5, "c")
        };
        assert!(!present(broker, connect()));
        assert!(!present(broker, connect()));
    });
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]. The will tells when: it is sent when the session ends [MQTT-3.1.2-8].
#[test]
fn a_session_ends_when_its_expiry_interval_has_passed() {
    each_broker(|broker| {
        let mut watcher = Client::new(broker, Version::V5, "watcher");
        watcher.subscribe("ended", QoS::AtLeastOnce);
        let last = Will {
            properties: props(|p| p.will_delay_interval = Some(3600)),
            ..will("ended", "c", QoS::AtLeastOnce)
        };
        let expiry = props(|p| p.session_expiry_interval = Some(1));
        let connect = Connect {
            will: Some(Box::new(last)),
            properties: expiry,
            ..hello(Version::V5, "c")
        };
        drop(Client::connect(broker, connect));
        watcher.expect_payload("c");
        assert!(!present(broker, durable(Version::V5, "c")));
    });
}

/// 3.14.2.2.2: a DISCONNECT may shorten the session's life.
#[test]
fn disconnect_can_end_the_session_at_once() {
    each_broker(|broker| {
        let (client, _) = Client::connect(broker, durable(Version::V5, "c"));
        client.disconnect_with(0, props(|p| p.session_expiry_interval = Some(0)));
        assert!(!present(broker, durable(Version::V5, "c")));
    });
}

/// [MQTT-3.14.2-2], 3.14.2.2.2
#[test]
fn disconnect_can_lengthen_an_expiry_interval_but_not_from_zero() {
    each_broker(|broker| {
        let expiry = |seconds| props(|p| p.session_expiry_interval = Some(seconds));
        let short = Connect {
            properties: expiry(1),
            ..hello(Version::V5, "c")
        };
        Client::connect(broker, short).0.disconnect_with(0, expiry(3600));
        let mut other = Client::new(broker, Version::V5, "other");
        other.send(Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: expiry(3600),
        }));
        other.expect_disconnect(0x82);
        assert!(present(broker, durable(Version::V5, "c")));
    });
}

/// [MQTT-3.1.4-3]
#[test]
fn a_second_connection_takes_the_session_over() {
    each_version(|broker, version| {
        let (mut old, _) = Client::connect(broker, durable(version, "c"));
        old.subscribe("t", QoS::AtLeastOnce);
        let (mut new, answer) = Client::connect(broker, durable(version, "c"));
        assert!(answer.session_present);
        old.expect_disconnect(0x8E);
        Client::new(broker, version, "p").publish("t", "for the new one", QoS::AtLeastOnce);
        new.expect_payload("for the new one");
    });
}

/// [MQTT-4.5.0-1]: messages of QoS 1 and 2 wait for an absent client, in order.
#[test]
fn messages_wait_for_an_absent_client_in_order() {
    each_version(|broker, version| {
        let (mut client, _) = Client::connect(broker, durable(version, "c"));
        client.subscribe("t/#", QoS::ExactlyOnce);
        client.disconnect();
        let mut publisher = Client::new(broker, version, "p");
        for number in 0..20 {
            let qos = if number % 2 == 0 {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            };
            publisher.publish("t/x", number.to_string(), qos);
        }
        let (mut client, answer) = Client::connect(broker, durable(version, "c"));
        assert!(answer.session_present);
        for number in 0..20 {
            client.expect_payload(&number.to_string());
        }
        client.expect_idle();
    });
}

/// A session of one version is resumed by another.
#[test]
fn a_session_survives_a_change_of_the_protocol_version() {
    each_broker(|broker| {
        let (mut client, _) = Client::connect(broker, durable(Version::V311, "c"));
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.publish("t", "waiting", QoS::AtLeastOnce);
        let (mut client, answer) = Client::connect(broker, durable(Version::V5, "c"));
        assert!(answer.session_present);
        client.expect_payload("waiting");
    });
}

/// `queue_messages` with `drop-oldest`, and the counter that moves.
#[test]
fn an_offline_queue_keeps_the_newest_messages_up_to_its_bound() {
    each_version_setup(
        "[limits]\nqueue_messages = 10\nqueue_policy = \"drop-oldest\"",
        |broker, version| {
            fill_offline_queue(broker, version, 25);
            let (mut client, _) = Client::connect(broker, durable(version, "c"));
            for number in 15..25 {
                client.expect_payload(&number.to_string());
            }
            client.expect_idle();
            assert_eq!(
                metric(
                    broker,
                    "nervewire_messages_dropped_total",
                    &[("reason", "queue_messages")]
                ),
                15.0
            );
        },
    );
}

/// `queue_messages` with `refuse-new`.
#[test]
fn an_offline_queue_may_keep_the_oldest_messages_instead() {
    each_version_setup(
        "[limits]\nqueue_messages = 10\nqueue_policy = \"refuse-new\"",
        |broker, version| {
            fill_offline_queue(broker, version, 25);
            let (mut client, _) = Client::connect(broker, durable(version, "c"));
            for number in 0..10 {
                client.expect_payload(&number.to_string());
            }
            client.expect_idle();
        },
    );
}

/// `queue_bytes`: ten messages of 1000 bytes do not fit into 5000.
#[test]
fn an_offline_queue_is_bounded_in_bytes() {
    each_setup("[limits]\nqueue_bytes = 5000", |broker| {
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "c"));
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        let mut publisher = Client::new(broker, Version::V5, "p");
        for number in 0..10u8 {
            publisher.publish("t", vec![number; 1000], QoS::AtLeastOnce);
        }
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "c"));
        publisher.publish("t", "end", QoS::AtLeastOnce);
        let mut sizes = Vec::new();
        while let payload = client.receive().payload
            && payload != "end"
        {
            sizes.push(payload.len());
        }
        assert!((1..=5).contains(&sizes.len()), "{} messages of 1000 bytes", sizes.len());
    });
}

fn fill_offline_queue(broker: &Broker, version: Version, count: u32) {
    let (mut client, _) = Client::connect(broker, durable(version, "c"));
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::new(broker, version, "p");
    for number in 0..count {
        // Under refuse-new the PUBACK may say why; both answers are fine here.
        publisher.deliver(message("t", number.to_string(), QoS::AtLeastOnce));
    }
}
