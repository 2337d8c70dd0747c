//! Message expiry.

use crate::support::*;

fn expiring(topic: &str, payload: &str, seconds: u32) -> Publish {
    let properties = props(|p| p.message_expiry_interval = Some(seconds));
    Publish {
        properties,
        ..message(topic, payload.to_owned(), QoS::AtLeastOnce)
    }
}

/// Lets the broker's clock pass so many seconds: a delayed will says when they have.
fn pass(broker: &Broker, seconds: u32) {
    let mut watcher = Client::new(broker, Version::V5, "watcher");
    watcher.subscribe("time/passed", QoS::AtLeastOnce);
    let last = Will {
        properties: props(|p| p.will_delay_interval = Some(seconds)),
        ..will("time/passed", "", QoS::AtLeastOnce)
    };
    let connect = Connect {
        will: Some(Box::new(last)),
        ..durable(Version::V5, "timer")
    };
    drop(Client::connect(broker, connect));
    watcher.expect_payload("");
}

/// [MQTT-3.3.2-6]: what is sent is what is left, of a retained message and of a queued one.
#[test]
fn the_expiry_interval_is_counted_down() {
    each_broker(|broker| {
        let (mut absent, _) = Client::connect(broker, durable(Version::V5, "absent"));
        absent.subscribe("t", QoS::AtLeastOnce);
        absent.disconnect();
        let mut client = Client::new(broker, Version::V5, "c");
        client.deliver(Publish {
            retain: true,
            ..expiring("t", "x", 100)
        });
        pass(broker, 2);
        client.subscribe("t", QoS::AtLeastOnce);
        let (mut absent, _) = Client::connect(broker, durable(Version::V5, "absent"));
        for receiver in [&mut client, &mut absent] {
            let seen = properties(&receiver.expect_payload("x").properties);
            let left = seen.message_expiry_interval.expect("an expiry interval");
            assert!((50..100).contains(&left), "{left} of 100 seconds left after two");
        }
    });
}

/// [MQTT-3.3.2-5], 3.3.2.3.3: it is not delivered after its time, neither retained nor queued, under any version.
#[test]
fn expired_messages_are_not_delivered() {
    each_version(|broker, version| {
        let (mut absent, _) = Client::connect(broker, durable(version, "absent"));
        absent.subscribe("t", QoS::AtLeastOnce);
        absent.disconnect();
        let mut client = Client::new(broker, Version::V5, "c");
        client.deliver(Publish {
            retain: true,
            ..expiring("t", "gone", 1)
        });
        pass(broker, 3);
        let mut late = Client::new(broker, version, "late");
        late.subscribe("t", QoS::AtLeastOnce);
        client.deliver(expiring("t", "lasting", 1000));
        let (mut absent, _) = Client::connect(broker, durable(version, "absent"));
        for receiver in [&mut late, &mut absent] {
            receiver.expect_payload("lasting");
            receiver.expect_idle();
        }
    });
}
