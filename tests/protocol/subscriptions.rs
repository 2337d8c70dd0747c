//! SUBSCRIBE, UNSUBSCRIBE and which messages they select.

use crate::support::*;

fn subscription(filter: &str, id: u32) -> (Vec<SubscribeFilter>, Option<Box<Properties>>) {
    (
        vec![filter_with(
            filter,
            SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                ..Default::default()
            },
        )],
        identifier(id),
    )
}

fn identifier(id: u32) -> Option<Box<Properties>> {
    props(|p| p.subscription_identifiers = vec![id])
}

/// Section 4.7: which filters select which topics.
#[test]
fn filters_select_the_topics_of_section_4_7() {
    let rows: &[(&str, &str, bool)] = &[
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "sport/tennis", true),
        ("sport/+/player1", "sport/tennis/player1", true),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("ACCOUNTS", "Accounts", false),
        ("a", "a/", false),
        ("a b/ü/€", "a b/ü/€", true),
        ("#", "$hidden/x", false),
        ("+/x", "$hidden/x", false),
        ("$hidden/#", "$hidden/x", true),
        ("$hidden/+", "$hidden/x", true),
    ];
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version, "p");
        for (filter, topic, selected) in rows {
            let mut subscriber = Client::new(broker, version, "s");
            subscriber.subscribe(filter, QoS::AtMostOnce);
            subscriber.subscribe("sentinel", QoS::AtMostOnce);
            // Sent by QoS 1: a reserved `$` topic may be refused, but not ignored.
            publisher.publish(topic, "x", QoS::AtLeastOnce);
            publisher.publish("sentinel", "x", QoS::AtLeastOnce);
            let first = subscriber.expect_payload("x").topic;
            let expected = if *selected { topic } else { "sentinel" };
            assert_eq!(&*first, expected, "{filter} and {topic}");
        }
    });
}

/// [MQTT-3.8.4-4]: one SUBSCRIBE with several filters is as several; [MQTT-3.9.3-1]: answers in order.
#[test]
fn a_suback_answers_each_filter_in_order() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        let filters = vec![
            filter("a", QoS::ExactlyOnce),
            filter("b", QoS::AtMostOnce),
            filter("c", QoS::AtLeastOnce),
        ];
        assert_eq!(codes(&client.subscribe_with(filters, None).reasons), [2, 0, 1]);
    });
}

/// [MQTT-3.8.4-3]: the same filter replaces the subscription.
#[test]
fn subscribing_again_replaces_the_subscription() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        client.subscribe("t", QoS::ExactlyOnce);
        client.subscribe("t", QoS::AtMostOnce);
        let mut publisher = Client::new(broker, version, "p");
        publisher.publish("t", "x", QoS::ExactlyOnce);
        publisher.publish("t", "y", QoS::ExactlyOnce);
        assert_eq!(client.expect_payload("x").qos, QoS::AtMostOnce);
        client.expect_payload("y");
    });
}

/// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-4]; 3.11.3: 0x11 where there was none.
#[test]
fn unsubscribing_stops_delivery_and_is_always_answered() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        client.subscribe("a/+", QoS::AtLeastOnce);
        client.subscribe("sentinel", QoS::AtLeastOnce);
        let (was, was_not) = (client.unsubscribe("a/+"), client.unsubscribe("a/b"));
        if version == Version::V5 {
            assert_eq!((codes(&was.reasons), codes(&was_not.reasons)), (vec![0], vec![0x11]));
        }
        let mut publisher = Client::new(broker, version, "p");
        publisher.publish("a/b", "x", QoS::AtLeastOnce);
        publisher.publish("sentinel", "end", QoS::AtLeastOnce);
        client.expect_payload("end");
    });
}

/// 3.3.4: where subscriptions overlap, one copy at the highest QoS with all identifiers [MQTT-3.3.4-3].
#[test]
fn overlapping_subscriptions_deliver_once_with_all_identifiers() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5, "c");
        for (filter_text, qos, id) in [
            ("a/+", QoS::AtMostOnce, 1),
            ("a/#", QoS::ExactlyOnce, 2),
            ("a/b", QoS::AtLeastOnce, 268_435_455),
        ] {
            client.subscribe_with(vec![filter(filter_text, qos)], identifier(id));
        }
        client.subscribe("#", QoS::AtMostOnce); // Without an identifier.
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.publish("a/b", "x", QoS::ExactlyOnce);
        publisher.publish("a/b", "y", QoS::ExactlyOnce);
        for payload in ["x", "y"] {
            let publish = client.expect_payload(payload);
            assert_eq!(publish.qos, QoS::ExactlyOnce);
            let mut identifiers = properties(&publish.properties).subscription_identifiers;
            identifiers.sort_unstable();
            assert_eq!(identifiers, [1, 2, 268_435_455]);
        }
    });
}

/// 3.1.1 too allows one copy, at the highest QoS of all [MQTT-3.3.5-1].
#[test]
fn overlapping_subscriptions_of_3_1_1_deliver_once_at_the_highest_qos() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V311, "c");
        client.subscribe("a/+", QoS::AtMostOnce);
        client.subscribe("a/#", QoS::ExactlyOnce);
        let mut publisher = Client::new(broker, Version::V311, "p");
        publisher.publish("a/b", "x", QoS::ExactlyOnce);
        publisher.publish("a/b", "y", QoS::ExactlyOnce);
        assert_eq!(client.expect_payload("x").qos, QoS::ExactlyOnce);
        client.expect_payload("y");
    });
}

/// 3.8.2.1.2: subscribing again replaces the identifier; without one there is none.
#[test]
fn a_subscription_identifier_is_replaced_with_its_subscription() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5, "c");
        let mut publisher = Client::new(broker, Version::V5, "p");
        let plain = vec![filter("t", QoS::AtLeastOnce)];
        for (properties_sent, seen) in [(identifier(5), vec![5]), (identifier(6), vec![6]), (None, vec![])] {
            client.subscribe_with(plain.clone(), properties_sent);
            publisher.publish("t", "x", QoS::AtLeastOnce);
            assert_eq!(
                properties(&client.expect_payload("x").properties).subscription_identifiers,
                seen
            );
        }
    });
}

/// Identifiers belong to the session [MQTT-3.3.4-3], also to one that is resumed.
#[test]
fn subscription_identifiers_outlive_the_connection() {
    each_broker(|broker| {
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "c"));
        let (filters, identifier) = subscription("t", 42);
        client.subscribe_with(filters, identifier);
        client.disconnect();
        Client::new(broker, Version::V5, "p").publish("t", "x", QoS::AtLeastOnce);
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "c"));
        assert_eq!(
            properties(&client.expect_payload("x").properties).subscription_identifiers,
            [42]
        );
    });
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_hides_a_clients_own_messages() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5, "c");
        let options = SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            ..Default::default()
        };
        client.subscribe_with(vec![filter_with("t", options)], None);
        client.publish("t", "own", QoS::AtLeastOnce);
        Client::new(broker, Version::V5, "p").publish("t", "other's", QoS::AtLeastOnce);
        client.expect_payload("other's");
    });
}

/// Without it a client hears itself.
#[test]
fn a_client_receives_its_own_messages() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        client.subscribe("t", QoS::ExactlyOnce);
        for qos in QOS {
            client.publish("t", "own", qos);
            assert_eq!(client.expect_payload("own").qos, qos);
        }
    });
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13]
#[test]
fn retain_as_published_keeps_the_flag() {
    each_broker(|broker| {
        for (retain_as_published, seen) in [(true, true), (false, false)] {
            let mut client = Client::new(broker, Version::V5, "c");
            let options = SubscriptionOptions {
                retain_as_published,
                ..Default::default()
            };
            client.subscribe_with(vec![filter_with("t/+", options)], None);
            let mut publisher = Client::new(broker, Version::V5, "p");
            publisher.retain("t/1", "retained", QoS::AtLeastOnce);
            publisher.publish("t/2", "plain", QoS::AtLeastOnce);
            assert_eq!(client.expect_payload("retained").retain, seen);
            assert!(!client.expect_payload("plain").retain);
            publisher.retain("t/1", "", QoS::AtLeastOnce);
        }
    });
}

/// Section 3.8.4: whoever has read a SUBACK is sent what is published after it, by whom and on whatever topic.
#[test]
fn what_is_published_after_a_suback_arrives() {
    each_version(|broker, version| {
        let clients = |prefix| (0..4).map(move |n| Client::new(broker, version, &format!("{prefix}{n}")));
        let mut publishers: Vec<_> = clients("p").collect();
        let mut subscribers: Vec<_> = clients("s").collect();
        for round in 0..50 {
            for (n, subscriber) in subscribers.iter_mut().enumerate() {
                let filters = [
                    format!("a/{round}/{n}"),
                    format!("b/{round}/{n}/+"),
                    format!("$share/g/c/{round}/{n}/#"),
                ];
                let topics = [
                    format!("a/{round}/{n}"),
                    format!("b/{round}/{n}/x"),
                    format!("c/{round}/{n}"),
                ];
                for ((filter, topic), publisher) in filters.iter().zip(&topics).zip(&mut publishers) {
                    subscriber.subscribe(filter, QoS::AtMostOnce);
                    publisher.publish(topic, topic.clone(), QoS::AtMostOnce);
                    subscriber.expect_payload(topic);
                }
            }
        }
    });
}
