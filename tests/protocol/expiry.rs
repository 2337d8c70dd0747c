//! Message expiry.

use crate::support::*;

fn expiring(topic: &str, payload: &str, seconds: u32) -> Publish {
    let properties = props(|p| p.message_expiry_interval = Some(seconds));
    Publish {
        properties,
        ..message(topic, payload.to_owned(), QoS::AtLeastOnce)
    }
}

/// The retained message on `t`, if it is still there.
fn retained(client: &mut Client) -> Option<Publish> {
    client.unsubscribe("t");
    client.subscribe("t", QoS::AtLeastOnce);
    client.send(Packet::PingReq);
    match client.recv() {
        Packet::Publish(publish) => {
            client.send(Packet::PubAck(ack(publish.packet_id.expect("QoS 1"))));
            assert_eq!(client.recv(), Packet::PingResp);
            Some(publish)
        }
        other => {
            assert_eq!(other, Packet::PingResp);
            None
        }
    }
}

/// [MQTT-3.3.2-6]: what is sent is what is left.
#[test]
fn the_expiry_interval_is_counted_down() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5, "c");
        client.deliver(Publish {
            retain: true,
            ..expiring("t", "x", 100)
        });
        let left = wait_for("the expiry interval to go down", || {
            let publish = retained(&mut client).expect("the message is still there");
            let left = properties(&publish.properties)
                .message_expiry_interval
                .expect("an expiry interval");
            (left < 100).then_some(left)
        });
        assert!(left >= 80, "{left} of 100 seconds left after about one");
    });
}

/// [MQTT-3.3.2-5], 3.3.2.3.3: it is not delivered after its time, neither retained nor queued.
#[test]
fn expired_messages_are_not_delivered() {
    each_broker(|broker| {
        let (mut absent, _) = Client::connect(broker, durable(Version::V5, "absent"));
        absent.subscribe("queued", QoS::AtLeastOnce);
        absent.disconnect();
        let mut client = Client::new(broker, Version::V5, "c");
        client.deliver(expiring("queued", "gone", 1));
        client.deliver(Publish {
            retain: true,
            ..expiring("t", "gone", 2)
        });
        wait_for("the retained message to expire", || {
            retained(&mut client).is_none().then_some(())
        });
        client.deliver(expiring("queued", "lasting", 1000));
        let (mut absent, _) = Client::connect(broker, durable(Version::V5, "absent"));
        absent.expect_payload("lasting");
        absent.expect_idle();
    });
}

/// A receiver of 3.1.1 gets the message without its expiry, in time.
#[test]
fn expiry_holds_for_receivers_of_3_1_1() {
    each_broker(|broker| {
        let (mut absent, _) = Client::connect(broker, durable(Version::V311, "absent"));
        absent.subscribe("queued", QoS::AtLeastOnce);
        absent.disconnect();
        let mut client = Client::new(broker, Version::V5, "c");
        client.deliver(expiring("queued", "gone", 1));
        client.deliver(Publish {
            retain: true,
            ..expiring("t", "gone", 2)
        });
        wait_for("the retained message to expire", || {
            retained(&mut client).is_none().then_some(())
        });
        client.deliver(expiring("queued", "lasting", 1000));
        let (mut absent, _) = Client::connect(broker, durable(Version::V311, "absent"));
        absent.expect_payload("lasting");
    });
}
