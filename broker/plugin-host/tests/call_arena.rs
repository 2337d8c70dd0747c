//! Guests made with the SDK, whose calls the host puts into their call arena: everything arrives there as it does by the guest's own
//! allocator, and what a guest keeps stays its own.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use nervewire_codec::{Properties, ReasonCode, UserProperty};
use nervewire_core::hook::*;
use nervewire_plugin_host::{Instance, Role};
use std::sync::Arc;
use support::*;

fn keeping() -> Instance {
    load(spec("keeping")).instance(Role::Shard).unwrap()
}

/// Attributes and user properties of this name have it for a value, too.
fn property(text: &str) -> (Arc<str>, Arc<str>) {
    (text.into(), text.into())
}

fn full_of(topic: &str, byte: u8, bytes: usize) -> AppMessage {
    let name: UserProperty = (text("unit"), text("unit"));
    let properties = Properties {
        user_properties: vec![name; bytes % 4],
        ..Properties::default()
    };
    AppMessage {
        payload: Bytes::from(vec![byte; bytes]),
        properties: Some(Arc::new(properties)),
        ..message(&format!("{topic}/{byte}"))
    }
}

/// How much the guest keeps: messages, topics, bytes.
fn kept(instance: &mut Instance) -> String {
    match instance.transform(&client("c"), &message("check")).unwrap() {
        Transformation::Replace(message) => String::from_utf8(message.payload.to_vec()).unwrap(),
        other => panic!("something is not as it was: {other:?}"),
    }
}

#[test]
fn every_fact_about_a_client_arrives() {
    let mut instance = keeping();
    let mut printed = |client: &Client| match instance.transform(client, &message("facts")).unwrap() {
        Transformation::Replace(message) => String::from_utf8(message.payload.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let facts = printed(&known_client());
    for fact in [
        "client_id: \"c1\"",
        "username: Some(\"ursula\")",
        "2001:db8::7",
        "4711",
        "127.0.0.1:1883",
        "Mqtt5",
        "\"CN=c1,O=Acme\"",
        "\"CN=CA\"",
        "common_name: Some(\"c1\")",
        "[\"c1.example\", \"c1@example\"]",
        "\"0a\"",
        "\"ff00\"",
        "-5",
        "4000000000",
        "Property { name: \"role\", value: \"admin\" }, Property { name: \"site\", value: \"Zürich\" }",
        "tenant: Some(\"acme\")",
    ] {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
    let little = printed(&client("d"));
    for fact in [
        "\"d\"",
        "username: None",
        "127.0.0.1",
        "certificate: None",
        "attributes: []",
        "tenant: None",
    ] {
        assert!(little.contains(fact), "{fact} in {little}");
    }
}

#[test]
fn messages_of_every_size_arrive_and_come_back() {
    let mut instance = keeping();
    // Around what has room behind the client in a chunk, in a chunk of its own, and in none.
    let sizes = [0, 1, 1024, 3000, 8000, 8192, 9000, 65_536];
    for bytes in sizes.into_iter().chain(8026..8186) {
        let sent = full_of("echo", 7, bytes);
        match instance.transform(&client("c"), &sent).unwrap() {
            Transformation::Replace(message) => {
                assert_eq!(message.payload, sent.payload, "{bytes}");
                let properties = |message: &AppMessage| {
                    let all = message.properties.as_ref().map(|all| all.user_properties.clone());
                    all.unwrap_or_default()
                };
                assert_eq!(properties(&message), properties(&sent), "{bytes}");
            }
            other => panic!("{bytes}: {other:?}"),
        }
    }
}

#[test]
fn what_a_guest_keeps_stays_as_it_was() {
    let mut instance = keeping();
    let someone = Client {
        attributes: vec![property("site"), property("role")],
        ..client("c")
    };
    let mut messages = 0;
    let mut bytes = 0;
    // More than there are chunks, so that some calls have none.
    for round in 1..=12_u8 {
        for (topic, more) in [("keep", 0), ("grow", 700)] {
            let size = usize::from(round) * 150;
            let answer = instance.transform(&someone, &full_of(topic, round, size)).unwrap();
            assert_eq!(answer, Transformation::Drop);
            messages += 1;
            bytes += size + more;
            assert_eq!(kept(&mut instance), format!("{messages} {} {bytes}", round - 1));
        }
        assert_eq!(
            instance.transform(&someone, &full_of("topic", round, 100)).unwrap(),
            Transformation::Drop
        );
    }
    assert_eq!(
        instance.transform(&someone, &message("forget")).unwrap(),
        Transformation::Drop
    );
    assert_eq!(kept(&mut instance), "0 0 0");
    for round in 1..=12_u8 {
        let answer = instance.transform(&someone, &full_of("keep", round, 500)).unwrap();
        assert_eq!(answer, Transformation::Drop);
    }
    assert_eq!(kept(&mut instance), "12 0 6000");
}

#[test]
fn after_a_failed_call_the_arena_is_that_of_the_new_instance() {
    let mut instance = keeping();
    assert_eq!(kept(&mut instance), "0 0 0");
    instance.transform(&client("c"), &message("trap")).unwrap_err();
    for round in 1..=6_u8 {
        let answer = instance.transform(&client("c"), &full_of("keep", round, 900)).unwrap();
        assert_eq!(answer, Transformation::Drop);
    }
    assert_eq!(kept(&mut instance), "6 0 5400");
    assert_ne!(
        instance.transform(&client("c"), &message("check")).unwrap(),
        Transformation::Reject(ReasonCode::PayloadFormatInvalid)
    );
}
