//! CONNECT, CONNACK, PINGREQ, keep alive.

use crate::support::*;
use std::time::{Duration, Instant};

/// [MQTT-3.1.2-1], and MQIsdp of 3.1.
#[test]
fn every_version_is_accepted() {
    each_broker(|broker| {
        for version in [Version::V31, Version::V311, Version::V5] {
            let (mut client, answer) = Client::connect(broker, hello(version, "c"));
            assert!(!answer.session_present);
            client.expect_idle();
        }
    });
}

/// [MQTT-3.1.2-2] of 3.1.1: return code 1; of 5.0: reason code 0x84.
#[test]
fn an_unknown_protocol_level_is_refused_with_its_code() {
    each_broker(|broker| {
        for (level, version) in [(6, Version::V5), (99, Version::V5), (2, Version::V311)] {
            let mut client = Client::open(broker, version);
            client.send_bytes(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 1, b'c']);
            let answer = client.recv_bytes();
            assert_eq!(answer[0], 0x20, "CONNACK");
            assert!([0x84, 1].contains(&answer[3]), "level {level}: {answer:02x?}");
            client.expect_end();
        }
    });
}

/// [MQTT-3.1.0-1]
#[test]
fn a_first_packet_other_than_connect_closes_the_connection() {
    each_broker(|broker| {
        for bytes in [
            &[0xC0, 0][..],
            &[0x30, 5, 0, 1, b'a', b'h', b'i'],
            &[0x82, 6, 0, 1, 0, 1, b'a', 0],
            b"GET / HTTP/1.1\r\n",
        ] {
            let mut client = Client::open(broker, Version::V311);
            client.send_bytes(bytes);
            client.expect_end();
        }
    });
}

/// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_is_a_protocol_error() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        client.send(Packet::Connect(Box::new(hello(version, "c"))));
        client.expect_disconnect(0x82);
    });
}

/// [MQTT-3.1.3-6], [MQTT-3.2.2-16]
#[test]
fn an_empty_client_identifier_is_replaced_by_a_unique_one() {
    each_broker(|broker| {
        let assigned = || {
            let (client, answer) = Client::connect(broker, hello(Version::V5, ""));
            (
                client,
                properties(&answer.properties)
                    .assigned_client_identifier
                    .expect("an identifier")
                    .to_string(),
            )
        };
        let ((_one, one_id), (_other, other_id)) = (assigned(), assigned());
        assert_ne!(one_id, other_id);
        assert!(!one_id.is_empty());
    });
}

/// [MQTT-3.1.3-7] of 3.1.1
#[test]
fn under_3_1_1_an_empty_client_identifier_wants_a_clean_session() {
    each_broker(|broker| {
        Client::new(broker, Version::V311, "").expect_idle();
        let mut client = Client::open(broker, Version::V311);
        client.send(Packet::Connect(Box::new(Connect {
            clean_start: false,
            ..hello(Version::V311, "")
        })));
        assert_eq!(
            client.recv_bytes(),
            [0x20, 2, 0, 2],
            "identifier rejected [MQTT-3.1.3-8]"
        );
        client.expect_end();
    });
}

/// [MQTT-3.1.2-22]: one and a half times the keep alive.
#[test]
fn a_silent_client_is_disconnected_after_its_keep_alive() {
    each_version(|broker, version| {
        let started = Instant::now();
        let (mut client, _) = Client::connect(
            broker,
            Connect {
                keep_alive: 1,
                ..hello(version, "c")
            },
        );
        client.expect_disconnect(0x8D);
        assert!(
            started.elapsed() >= Duration::from_secs(1),
            "before its keep alive had passed"
        );
    });
}

/// [MQTT-3.1.2-20], [MQTT-3.12.4-1]
#[test]
fn pings_keep_a_connection_while_a_silent_one_ends() {
    each_broker(|broker| {
        let keep_alive = |id| {
            Client::connect(
                broker,
                Connect {
                    keep_alive: 1,
                    ..hello(Version::V5, id)
                },
            )
            .0
        };
        let mut talker = keep_alive("talker");
        let mut silent = keep_alive("silent");
        std::thread::scope(|scope| {
            let end = scope.spawn(|| silent.expect_disconnect(0x8D));
            while !end.is_finished() {
                talker.expect_idle();
                std::thread::sleep(Duration::from_millis(100)); // The talker's pace, not a wait.
            }
        });
        talker.expect_idle();
    });
}

/// [MQTT-3.1.2-28]: none unless asked for; 3.2.2.3.15 leaves the rest to the server.
#[test]
fn response_information_comes_only_when_requested() {
    each_broker(|broker| {
        let (_client, answer) = Client::connect(broker, hello(Version::V5, "c"));
        assert_eq!(properties(&answer.properties).response_information, None);
        let ask = props(|p| p.request_response_information = Some(true));
        let (mut client, _) = Client::connect(
            broker,
            Connect {
                properties: ask,
                ..hello(Version::V5, "c")
            },
        );
        client.expect_idle();
    });
}

/// [MQTT-3.3.2-15], [MQTT-3.3.2-16]: the request and response pattern of section 4.10.
#[test]
fn response_topic_and_correlation_data_reach_the_responder_unaltered() {
    each_broker(|broker| {
        let mut requester = Client::new(broker, Version::V5, "requester");
        let mut responder = Client::new(broker, Version::V5, "responder");
        requester.subscribe("answers/1", QoS::AtLeastOnce);
        responder.subscribe("questions", QoS::AtLeastOnce);
        let properties_sent = props(|p| {
            p.response_topic = Some(text("answers/1"));
            p.correlation_data = Some(bytes::Bytes::from_static(&[0, 255, 7]));
        });
        requester.deliver(Publish {
            properties: properties_sent,
            ..message("questions", "why", QoS::AtLeastOnce)
        });
        let question = responder.expect_payload("why");
        let seen = properties(&question.properties);
        assert_eq!(seen.correlation_data.as_deref(), Some(&[0, 255, 7][..]));
        responder.publish(
            &seen.response_topic.expect("a response topic"),
            "because",
            QoS::AtLeastOnce,
        );
        requester.expect_payload("because");
    });
}

/// [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]
#[test]
fn user_properties_and_content_type_are_forwarded_in_order() {
    each_broker(|broker| {
        let mut subscriber = Client::new(broker, Version::V5, "s");
        subscriber.subscribe("t", QoS::AtMostOnce);
        let pairs = vec![(text("b"), text("1")), (text("a"), text("2")), (text("b"), text("1"))];
        let properties_sent = props(|p| {
            p.user_properties = pairs.clone();
            p.content_type = Some(text("text/plain"));
            p.payload_format_indicator = Some(true);
        });
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.deliver(Publish {
            properties: properties_sent,
            ..message("t", "x", QoS::AtLeastOnce)
        });
        let seen = properties(&subscriber.expect_payload("x").properties);
        assert_eq!(seen.user_properties, pairs);
        assert_eq!(seen.content_type, Some(text("text/plain")));
        assert_eq!(seen.payload_format_indicator, Some(true));
    });
}
