//! Retained messages.

use crate::support::*;
use std::collections::BTreeMap;

/// What a new subscriber to `filter` gets at once: topic and payload.
fn retained(broker: &Broker, version: Version, filter: &str) -> BTreeMap<String, String> {
    let mut client = Client::new(broker, version, "late");
    client.subscribe(filter, QoS::ExactlyOnce);
    // Its own message ends the wait. A retained message may come after it: callers ask again.
    let mut seen = BTreeMap::new();
    client.subscribe("sentinel", QoS::AtLeastOnce);
    client.publish("sentinel", "", QoS::AtLeastOnce);
    loop {
        let publish = client.receive();
        if &*publish.topic == "sentinel" {
            return seen;
        }
        assert!(publish.retain, "[MQTT-3.3.1-8]: {publish:?}");
        let previous = seen.insert(
            publish.topic.to_string(),
            String::from_utf8_lossy(&publish.payload).into(),
        );
        assert_eq!(previous, None, "twice: {}", &*publish.topic);
    }
}

/// Waits until a new subscriber gets exactly these: a QoS 0 message is on its way for a while.
#[track_caller]
fn expect_retained(broker: &Broker, version: Version, filter: &str, rows: &[(&str, &str)]) {
    let rows = rows
        .iter()
        .map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned()));
    let wanted: BTreeMap<_, _> = rows.collect();
    wait_for(&format!("{wanted:?} for {filter}"), || {
        (retained(broker, version, filter) == wanted).then_some(())
    });
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7]
#[test]
fn a_retained_message_is_set_replaced_and_deleted() {
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version, "p");
        for qos in QOS {
            publisher.retain("t", "one", qos);
            publisher.retain("t", "two", qos);
            expect_retained(broker, version, "t", &[("t", "two")]);
            publisher.publish("t", "not retained", qos); // Leaves it alone.
            expect_retained(broker, version, "t", &[("t", "two")]);
            publisher.retain("t", "", qos);
            expect_retained(broker, version, "t", &[]);
        }
    });
}

/// Section 4.7 holds for them too, `$` included.
#[test]
fn wildcards_find_retained_messages() {
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version, "p");
        for topic in ["a", "a/b", "a/c", "a/b/d", "e", "$x/a"] {
            publisher.retain(topic, topic, QoS::AtLeastOnce);
        }
        let rows: &[(&str, &[&str])] = &[
            ("a/+", &["a/b", "a/c"]),
            ("a/#", &["a", "a/b", "a/c", "a/b/d"]),
            ("+", &["a", "e"]),
            ("#", &["a", "a/b", "a/c", "a/b/d", "e"]),
            ("+/b/#", &["a/b", "a/b/d"]),
            ("$x/#", &["$x/a"]),
            ("x", &[]),
        ];
        for (filter, topics) in rows {
            let pairs: Vec<_> = topics.iter().map(|topic| (*topic, *topic)).collect();
            expect_retained(broker, version, filter, &pairs);
        }
    });
}

/// A subscriber that is there already sees an ordinary message [MQTT-3.3.1-12], at the lower QoS.
#[test]
fn a_present_subscriber_gets_it_without_the_flag() {
    each_version(|broker, version| {
        let mut subscriber = Client::new(broker, version, "s");
        subscriber.subscribe("t", QoS::AtMostOnce);
        Client::new(broker, version, "p").retain("t", "x", QoS::ExactlyOnce);
        let publish = subscriber.expect_payload("x");
        assert_eq!((publish.retain, publish.qos), (false, QoS::AtMostOnce));
    });
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
#[test]
fn retain_handling_says_when_they_are_sent() {
    let rows = [
        (RetainHandling::Send, true, true),
        (RetainHandling::SendIfNew, true, false),
        (RetainHandling::DoNotSend, false, false),
    ];
    each_broker(|broker| {
        Client::new(broker, Version::V5, "p").retain("t", "x", QoS::AtLeastOnce);
        for (retain_handling, first, second) in rows {
            let mut client = Client::new(broker, Version::V5, "c");
            for sent in [first, second] {
                let options = SubscriptionOptions {
                    retain_handling,
                    ..Default::default()
                };
                client.subscribe_with(vec![filter_with("t", options)], None);
                if sent {
                    assert!(client.expect_payload("x").retain);
                }
                client.publish("t", "sentinel", QoS::AtLeastOnce);
                client.expect_payload("sentinel");
            }
        }
    });
}

/// 3.1.1 sends them at every SUBSCRIBE [MQTT-3.8.4-3].
#[test]
fn under_3_1_1_every_subscribe_sends_them() {
    each_broker(|broker| {
        Client::new(broker, Version::V311, "p").retain("t", "x", QoS::AtLeastOnce);
        let mut client = Client::new(broker, Version::V311, "c");
        for _ in 0..2 {
            client.subscribe("t", QoS::AtLeastOnce);
            client.expect_payload("x");
        }
    });
}

/// They belong to nobody's session.
#[test]
fn they_outlive_their_publisher() {
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version, "p");
        publisher.retain("t", "x", QoS::AtMostOnce);
        publisher.disconnect();
        expect_retained(broker, version, "t", &[("t", "x")]);
    });
}

/// Properties are part of the message, and the subscription's identifier is added.
#[test]
fn they_keep_their_properties() {
    each_broker(|broker| {
        let mut publisher = Client::new(broker, Version::V5, "p");
        let properties_sent = props(|p| p.user_properties = vec![(text("k"), text("v"))]);
        publisher.deliver(Publish {
            retain: true,
            properties: properties_sent,
            ..message("t", "x", QoS::AtLeastOnce)
        });
        let mut client = Client::new(broker, Version::V5, "c");
        client.subscribe_with(
            vec![filter("t", QoS::AtLeastOnce)],
            props(|p| p.subscription_identifiers = vec![3]),
        );
        let seen = properties(&client.expect_payload("x").properties);
        assert_eq!(seen.user_properties, [(text("k"), text("v"))]);
        assert_eq!(seen.subscription_identifiers, [3]);
    });
}
