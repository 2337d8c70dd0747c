//! Packet sizes and topic aliases.

use crate::support::*;
use std::collections::BTreeMap;

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: what does not fit is not sent, and counts as delivered.
#[test]
fn messages_over_the_maximum_packet_size_of_the_client_are_not_sent_to_it() {
    each_broker(|broker| {
        let limit = props(|p| p.maximum_packet_size = Some(100));
        let (mut small, _) = Client::connect(
            broker,
            Connect {
                properties: limit,
                ..hello(Version::V5, "small")
            },
        );
        let mut large = Client::new(broker, Version::V5, "large");
        for client in [&mut small, &mut large] {
            client.subscribe("t", QoS::AtLeastOnce);
        }
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.publish("t", vec![b'x'; 200], QoS::AtLeastOnce);
        publisher.publish("t", "fits", QoS::AtLeastOnce);
        small.expect_payload("fits");
        assert_eq!(large.receive().payload.len(), 200);
        large.expect_payload("fits");
    });
}

/// 3.2.2.3.6 and [MQTT-3.2.2-15]: the broker says its limit, and refuses from the header alone what is over it.
#[test]
fn a_packet_over_the_limit_is_refused_from_its_header() {
    each_version_setup("[limits]\nmax_packet_bytes = 2000", |broker, version| {
        let (mut client, answer) = Client::connect(broker, hello(version, "c"));
        if version == Version::V5 {
            assert_eq!(properties(&answer.properties).maximum_packet_size, Some(2000));
        }
        client.publish("t", vec![0; 1900], QoS::AtLeastOnce);
        client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]); // 256 MiB are announced, nothing follows.
        client.expect_disconnect(0x95);
    });
}

/// 3.3.2.3.4: an alias set once stands for its topic, and can be set anew.
#[test]
fn topic_aliases_of_the_client_are_resolved() {
    each_broker(|broker| {
        let mut subscriber = Client::new(broker, Version::V5, "s");
        subscriber.subscribe("t/#", QoS::AtLeastOnce);
        let (mut publisher, answer) = Client::connect(broker, hello(Version::V5, "p"));
        let maximum = properties(&answer.properties)
            .topic_alias_maximum
            .expect("aliases are offered");
        for (alias, topic, seen) in [
            (1, "t/a", "t/a"),
            (1, "", "t/a"),
            (maximum, "t/b", "t/b"),
            (1, "t/c", "t/c"),
            (1, "", "t/c"),
        ] {
            let properties_sent = props(|p| p.topic_alias = Some(alias));
            publisher.deliver(Publish {
                properties: properties_sent,
                ..message(topic, "x", QoS::AtLeastOnce)
            });
            let publish = subscriber.receive();
            assert_eq!(&*publish.topic, seen);
            assert_eq!(
                properties(&publish.properties).topic_alias,
                None,
                "[MQTT-3.3.2-10]: none was allowed"
            );
        }
    });
}

/// [MQTT-3.3.2-7]: an alias belongs to its connection.
#[test]
fn topic_aliases_end_with_their_connection() {
    each_broker(|broker| {
        let alias = || props(|p| p.topic_alias = Some(1));
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "p"));
        client.deliver(Publish {
            properties: alias(),
            ..message("t", "x", QoS::AtLeastOnce)
        });
        client.disconnect();
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "p"));
        client.send_publish(Publish {
            properties: alias(),
            ..message("", "x", QoS::AtLeastOnce)
        });
        client.expect_disconnect(0x82);
    });
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27]: the broker uses the aliases a client offers, and no more.
#[test]
fn the_broker_uses_topic_aliases_up_to_the_maximum_of_the_client() {
    each_broker(|broker| {
        let offer = props(|p| p.topic_alias_maximum = Some(2));
        let (mut subscriber, _) = Client::connect(
            broker,
            Connect {
                properties: offer,
                ..hello(Version::V5, "s")
            },
        );
        subscriber.subscribe("t/#", QoS::AtLeastOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        let mut known = BTreeMap::new();
        let mut short = 0;
        for number in 0..30 {
            let topic = format!("t/{}", number % 3);
            publisher.publish(&topic, "x", QoS::AtLeastOnce);
            let publish = subscriber.expect_payload("x");
            let alias = properties(&publish.properties).topic_alias;
            assert!(alias.is_none_or(|alias| (1..=2).contains(&alias)), "{alias:?}");
            if publish.topic.is_empty() {
                short += 1;
                assert_eq!(known.get(&alias).map(String::as_str), Some(&*topic));
            } else {
                assert_eq!(&*publish.topic, topic);
                known.insert(alias, topic);
            }
        }
        assert!(short > 0, "no alias was ever used");
    });
}
