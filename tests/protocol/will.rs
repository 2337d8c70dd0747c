//! The Will Message.

use crate::support::*;

/// A subscriber to the will topic, and the client that has the will.
fn watched(broker: &Broker, version: Version, last: Will, base: Connect) -> (Client, Client) {
    let mut watcher = Client::new(broker, version, "watcher");
    watcher.subscribe("will/#", QoS::ExactlyOnce);
    let (client, _) = Client::connect(
        broker,
        Connect {
            will: Some(Box::new(last)),
            ..base
        },
    );
    (watcher, client)
}

fn delayed(seconds: u32) -> Will {
    Will {
        properties: props(|p| p.will_delay_interval = Some(seconds)),
        ..will("will/c", "gone", QoS::AtLeastOnce)
    }
}

/// Something other than the will comes first.
#[track_caller]
fn expect_no_will(broker: &Broker, watcher: &mut Client) {
    Client::new(broker, Version::V5, "sentinel").publish("will/c", "sentinel", QoS::AtLeastOnce);
    watcher.expect_payload("sentinel");
}

/// [MQTT-3.1.2-8], [MQTT-3.1.3-11]: on loss of the connection, at the will's QoS.
#[test]
fn a_lost_connection_sends_the_will_at_its_qos() {
    each_version(|broker, version| {
        for qos in QOS {
            let (mut watcher, client) = watched(broker, version, will("will/c", "gone", qos), hello(version, "c"));
            drop(client);
            assert_eq!(watcher.expect_payload("gone").qos, qos);
        }
    });
}

/// [MQTT-3.1.2-10]
#[test]
fn disconnect_removes_the_will() {
    each_version(|broker, version| {
        let last = will("will/c", "gone", QoS::AtLeastOnce);
        let (mut watcher, client) = watched(broker, version, last, hello(version, "c"));
        client.disconnect();
        expect_no_will(broker, &mut watcher);
    });
}

/// 3.14.2.1: reason code 0x04 asks for the will.
#[test]
fn disconnect_with_will_message_sends_it() {
    each_broker(|broker| {
        let last = will("will/c", "gone", QoS::AtLeastOnce);
        let (mut watcher, client) = watched(broker, Version::V5, last, hello(Version::V5, "c"));
        client.disconnect_with(0x04, None);
        watcher.expect_payload("gone");
    });
}

/// A protocol error ends the connection without DISCONNECT from the client (3.1.2.5).
#[test]
fn a_protocol_error_sends_the_will() {
    each_version(|broker, version| {
        let last = will("will/c", "gone", QoS::AtLeastOnce);
        let (mut watcher, mut client) = watched(broker, version, last, hello(version, "c"));
        client.send_bytes(&[0x00, 0x00]);
        watcher.expect_payload("gone");
    });
}

/// [MQTT-3.1.2-14], [MQTT-3.1.2-15]
#[test]
fn a_will_with_retain_is_retained() {
    each_version(|broker, version| {
        let last = Will {
            retain: true,
            ..will("will/c", "gone", QoS::AtLeastOnce)
        };
        let (mut watcher, client) = watched(broker, version, last, hello(version, "c"));
        drop(client);
        watcher.expect_payload("gone");
        let mut late = Client::new(broker, version, "late");
        late.subscribe("will/c", QoS::AtLeastOnce);
        assert!(late.expect_payload("gone").retain);
    });
}

/// Will properties that describe the message travel with it (3.1.3.2).
#[test]
fn will_properties_are_delivered() {
    each_broker(|broker| {
        let properties_sent = props(|p| {
            p.content_type = Some(text("text/plain"));
            p.response_topic = Some(text("r"));
            p.user_properties = vec![(text("k"), text("v"))];
        });
        let last = Will {
            properties: properties_sent,
            ..will("will/c", "gone", QoS::AtLeastOnce)
        };
        let (mut watcher, client) = watched(broker, Version::V5, last, hello(Version::V5, "c"));
        drop(client);
        let seen = properties(&watcher.expect_payload("gone").properties);
        assert_eq!(seen.content_type, Some(text("text/plain")));
        assert_eq!(seen.response_topic, Some(text("r")));
        assert_eq!(seen.user_properties, [(text("k"), text("v"))]);
        assert_eq!(seen.will_delay_interval, None, "it is no property of a PUBLISH");
    });
}

/// 3.1.3.2.2: it is sent when the delay has passed.
#[test]
fn a_delayed_will_is_sent_after_its_delay() {
    each_broker(|broker| {
        let (mut watcher, client) = watched(broker, Version::V5, delayed(1), durable(Version::V5, "c"));
        drop(client);
        watcher.expect_payload("gone");
    });
}

/// [MQTT-3.1.3-9]: a new connection within the delay cancels the will.
#[test]
fn a_reconnect_within_the_delay_cancels_the_will() {
    each_broker(|broker| {
        let (mut watcher, client) = watched(broker, Version::V5, delayed(1), durable(Version::V5, "c"));
        drop(client);
        let (mut client, answer) = Client::connect(broker, durable(Version::V5, "c"));
        assert!(answer.session_present);
        // Another will with the same delay, started later, comes alone.
        let later = Will {
            topic: text("will/later"),
            ..delayed(1)
        };
        let base = Connect {
            will: Some(Box::new(later)),
            ..durable(Version::V5, "later")
        };
        drop(Client::connect(broker, base));
        assert_eq!(&*watcher.expect_payload("gone").topic, "will/later");
        client.expect_idle();
    });
}

/// 3.1.2.5: the session's end sends a delayed will, here by a clean start.
#[test]
fn a_clean_start_within_the_delay_ends_the_session_and_sends_the_will() {
    each_broker(|broker| {
        let (mut watcher, client) = watched(broker, Version::V5, delayed(3600), durable(Version::V5, "c"));
        drop(client);
        let _client = Client::new(broker, Version::V5, "c");
        watcher.expect_payload("gone");
    });
}

/// 3.1.2.5: a takeover closes the old connection without its DISCONNECT, so that its will is sent.
#[test]
fn a_takeover_sends_the_will_of_the_old_connection() {
    each_version(|broker, version| {
        let last = will("will/c", "gone", QoS::AtLeastOnce);
        let (mut watcher, _old) = watched(broker, version, last, hello(version, "c"));
        let _new = Client::new(broker, version, "c");
        watcher.expect_payload("gone");
    });
}
