//! Plugins that take several questions in one call: a client that sends many messages at once is asked about in few calls, and nobody
//! else sees a difference.

mod support;

use support::*;

const MESSAGES: usize = 64;

/// A broker whose plugin decides and transforms, with such a configuration.
fn broker(shards: u16, fault: &str) -> Broker {
    let plugin = format!(
        "[[plugin]]\nname = \"p\"\ncomponent = \"p.wasm\"\ngrants = [\"publish:#\"]\nconfig.fault = \"{fault}\"\n{PATIENT}"
    );
    Setup::new()
        .shards(shards)
        .auth("default = \"allow\"")
        .toml(&plugin)
        .file("p.wasm", guest("batching"))
        .start()
}

fn counted(broker: &Broker, counter: &str) -> f64 {
    metric(
        broker,
        "nervewire_plugin_counter_total",
        &[("plugin", "p"), ("counter", counter)],
    )
}

/// Sends many messages in one piece, of which some are denied, dropped, replaced or sent twice: what a subscriber gets of them.
fn sent_at_once(broker: &Broker, version: Version) -> Vec<(String, String)> {
    let mut subscriber = Client::new(broker, version, "subscriber");
    subscriber.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = Client::new(broker, version, "c1");
    // Its rules are asked for before the first message.
    publisher.publish("yes/first", "", QoS::AtLeastOnce);
    let topics = [
        "yes/a",
        "no/b",
        "yes/c",
        "replace/d",
        "drop/e",
        "emit/f",
        "yes/g",
        "mine/h",
    ];
    let mut bytes = Vec::new();
    for (number, topic) in topics.iter().cycle().take(MESSAGES).enumerate() {
        let packet = Packet::Publish(message(topic, format!("{number:02}"), QoS::AtMostOnce));
        nervewire_codec::encode(&packet, version, &mut bytes).expect("encode");
    }
    publisher.send_bytes(&bytes);
    publisher.publish("yes/last", "", QoS::AtLeastOnce);
    let mut received = Vec::new();
    loop {
        let publish = subscriber.receive();
        if &*publish.topic == "yes/last" {
            return received;
        }
        received.push((
            publish.topic.to_string(),
            String::from_utf8_lossy(&publish.payload).into_owned(),
        ));
    }
}

fn expected() -> Vec<(String, String)> {
    let one = |topic: &str, payload: String| (topic.to_owned(), payload);
    let mut expected = vec![one("yes/first", String::new())];
    for first in (0..MESSAGES).step_by(8) {
        let payload = |offset: usize| format!("{:02}", first + offset);
        expected.extend([
            one("yes/a", payload(0)),
            one("yes/c", payload(2)),
            one("c1/replace/d", payload(3).chars().rev().collect()),
            one("emit/f", payload(5)),
            one("emit/f", payload(5)),
            one("yes/g", payload(6)),
        ]);
    }
    expected
}

fn transformed(broker: &Broker) -> f64 {
    let labels = [("plugin", "p"), ("hook", "transform"), ("outcome", "ok")];
    metric(broker, "nervewire_plugin_calls_total", &labels)
}

/// The first, the last, and those between them that are allowed.
const ALLOWED: f64 = 2.0 + (MESSAGES / 8 * 6) as f64;

#[test]
fn many_messages_of_one_client_are_asked_about_in_few_calls() {
    for shards in SHARD_COUNTS {
        for version in [Version::V311, Version::V5] {
            let broker = broker(shards, "none");
            assert_eq!(sent_at_once(&broker, version), expected());
            let (batches, batched) = (counted(&broker, "batches"), counted(&broker, "batched"));
            assert!(batches >= 2.0, "{batches}");
            assert!(batched >= 4.0 * batches, "{batched} answers in {batches} calls");
            assert_eq!(transformed(&broker), ALLOWED, "each message was asked about once");
        }
    }
}

#[test]
fn a_plugin_that_fails_when_it_is_asked_several_questions_is_asked_one_by_one() {
    for fault in ["fewer", "more", "trap"] {
        let broker = broker(1, fault);
        assert_eq!(sent_at_once(&broker, Version::V5), expected(), "{fault}");
        assert_eq!(transformed(&broker), ALLOWED, "{fault}");
        let outcome = if fault == "trap" { "trap" } else { "invalid" };
        let failed = metric(
            &broker,
            "nervewire_plugin_calls_total",
            &[("plugin", "p"), ("outcome", outcome)],
        );
        assert_eq!(failed, 1.0, "{fault}");
        assert!(broker.log().contains("authorize failed"), "{}", broker.log());
    }
}
