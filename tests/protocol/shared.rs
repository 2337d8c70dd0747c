//! Shared subscriptions (section 4.8.2).

use crate::support::*;

const FILTER: &str = "$share/group/t";

fn member(broker: &Broker, id: &str, qos: QoS) -> Client {
    let mut client = Client::new(broker, Version::V5, id);
    client.subscribe(FILTER, qos);
    client
}

/// The payloads that come before the client's own sentinel.
fn drain(client: &mut Client) -> Vec<String> {
    let topic = format!("sentinel/{:p}", client);
    client.subscribe(&topic, QoS::AtLeastOnce);
    client.publish(&topic, "", QoS::AtLeastOnce);
    let mut payloads = Vec::new();
    loop {
        let publish = client.receive();
        if *publish.topic == *topic {
            return payloads;
        }
        payloads.push(String::from_utf8_lossy(&publish.payload).into_owned());
    }
}

fn numbers(count: u32) -> Vec<String> {
    let mut all: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    all.sort();
    all
}

/// [MQTT-4.8.2-3]... each message goes to one member, and all have their turn.
#[test]
fn messages_go_round_the_members() {
    each_broker(|broker| {
        let mut members: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|id| member(broker, id, QoS::AtLeastOnce))
            .collect();
        let mut publisher = Client::new(broker, Version::V5, "p");
        for number in 0..30 {
            publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
        }
        let mut shares: Vec<Vec<String>> = vec![Vec::new(); 3];
        wait_for("30 messages", || {
            for (member, share) in members.iter_mut().zip(&mut shares) {
                share.extend(drain(member));
            }
            (shares.iter().map(Vec::len).sum::<usize>() >= 30).then_some(())
        });
        assert_eq!(
            shares.iter().map(Vec::len).collect::<Vec<_>>(),
            [10, 10, 10],
            "round robin"
        );
        let mut all = shares.concat();
        all.sort();
        assert_eq!(all, numbers(30), "each once");
    });
}

/// Groups share nothing, and a plain subscription gets all.
#[test]
fn groups_and_plain_subscriptions_get_their_own_copies() {
    each_broker(|broker| {
        let mut plain = Client::new(broker, Version::V5, "plain");
        plain.subscribe("t", QoS::AtLeastOnce);
        let mut one = Client::new(broker, Version::V5, "one");
        one.subscribe("$share/one/t", QoS::AtLeastOnce);
        let mut two = Client::new(broker, Version::V311, "two");
        two.subscribe("$share/two/+", QoS::AtLeastOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.publish("t", "x", QoS::AtLeastOnce);
        publisher.publish("t", "y", QoS::AtLeastOnce);
        for client in [&mut plain, &mut one, &mut two] {
            client.expect_payload("x");
            client.expect_payload("y");
        }
    });
}

/// [MQTT-4.8.2-5]: QoS 1 in flight goes to another member when the session ends.
#[test]
fn unacknowledged_qos_1_goes_to_another_member_when_its_session_ends() {
    each_broker(|broker| {
        let leaver = member(broker, "leaver", QoS::AtLeastOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        for number in 0..5 {
            publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
        }
        let mut stayer = member(broker, "stayer", QoS::AtLeastOnce);
        leaver.disconnect();
        let mut payloads: Vec<_> = (0..5)
            .map(|_| String::from_utf8_lossy(&stayer.receive().payload).into_owned())
            .collect();
        payloads.sort();
        assert_eq!(payloads, numbers(5));
    });
}

/// [MQTT-4.8.2-4]: QoS 2 in flight stays with its member, and is discarded when that session ends.
#[test]
fn unacknowledged_qos_2_is_not_given_to_another_member() {
    each_broker(|broker| {
        let mut leaver = member(broker, "leaver", QoS::ExactlyOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.publish("t", "for the leaver", QoS::ExactlyOnce);
        assert_eq!(leaver.expect_publish().payload, "for the leaver");
        let mut stayer = member(broker, "stayer", QoS::ExactlyOnce);
        leaver.disconnect();
        publisher.publish("t", "next", QoS::ExactlyOnce);
        stayer.expect_payload("next");
    });
}

/// [MQTT-4.8.2-6]: an error in PUBACK discards the message.
#[test]
fn a_refused_message_is_offered_to_nobody_else() {
    each_broker(|broker| {
        let mut refuser = member(broker, "refuser", QoS::AtLeastOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.publish("t", "x", QoS::AtLeastOnce);
        let packet_id = refuser.expect_publish().packet_id.expect("QoS 1");
        let reason = ReasonCode::UnspecifiedError;
        refuser.send(Packet::PubAck(Ack {
            packet_id,
            reason,
            properties: None,
        }));
        refuser.expect_idle();
        let mut other = member(broker, "other", QoS::AtLeastOnce);
        refuser.disconnect();
        publisher.publish("t", "y", QoS::AtLeastOnce);
        other.expect_payload("y");
    });
}

/// 3.8.3.1: no retained messages are sent to a shared subscription.
#[test]
fn retained_messages_are_not_sent_to_a_group() {
    each_broker(|broker| {
        let mut publisher = Client::new(broker, Version::V5, "p");
        publisher.retain("t", "retained", QoS::AtLeastOnce);
        let mut client = member(broker, "a", QoS::AtLeastOnce);
        assert_eq!(drain(&mut client), [""; 0]);
    });
}

/// Leaving the group by UNSUBSCRIBE leaves the messages to the others.
#[test]
fn an_unsubscribed_member_gets_no_more() {
    each_broker(|broker| {
        let (mut one, mut other) = (
            member(broker, "one", QoS::AtLeastOnce),
            member(broker, "other", QoS::AtLeastOnce),
        );
        assert_eq!(codes(&one.unsubscribe(FILTER).reasons), [0]);
        let mut publisher = Client::new(broker, Version::V5, "p");
        for number in 0..4 {
            publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
        }
        for number in 0..4 {
            other.expect_payload(&number.to_string());
        }
        assert_eq!(drain(&mut one), [""; 0]);
    });
}

/// Messages prefer members that are there to those that are away.
#[test]
fn a_connected_member_is_preferred() {
    each_broker(|broker| {
        let (mut away, _) = Client::connect(broker, durable(Version::V5, "away"));
        away.subscribe(FILTER, QoS::AtLeastOnce);
        away.disconnect();
        let mut here = member(broker, "here", QoS::AtLeastOnce);
        let mut publisher = Client::new(broker, Version::V5, "p");
        for number in 0..6 {
            publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
        }
        for number in 0..6 {
            here.expect_payload(&number.to_string());
        }
    });
}
