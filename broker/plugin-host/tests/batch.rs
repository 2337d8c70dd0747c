//! Plugins that take several questions in one call: the answers are those that each question would have had by itself.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use nervewire_codec::{Properties, QoS};
use nervewire_core::hook::*;
use nervewire_core::policy::RequestRef;
use nervewire_plugin_host::{Call, Instance, Outcome, Plugin, PluginSpec, Role};
use std::sync::Arc;
use support::*;

/// A component without the SDK, and with another allocator; one with the SDK, in whose memory the host allocates.
const GUESTS: [&str; 2] = ["batching", "measured"];

fn faulty(name: &str, fault: &str) -> Arc<Plugin> {
    load_as(
        name,
        PluginSpec {
            config_json: format!("{{\"fault\":\"{fault}\"}}"),
            ..spec("batching")
        },
    )
}

fn requests() -> Vec<Request> {
    let topics = [
        "yes/1",
        "no/1",
        "mine/c1",
        "mine/other",
        "maybe",
        "denied/x",
        "ünï/cödé",
    ];
    let long = "x/".repeat(3_000);
    let topics = topics.into_iter().chain([long.as_str()]);
    topics
        .enumerate()
        .map(|(position, topic)| Request {
            qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][position % 3],
            retain: position % 2 == 1,
            ..request(topic)
        })
        .collect()
}

fn messages() -> Vec<AppMessage> {
    let properties = Properties {
        payload_format_indicator: Some(true),
        message_expiry_interval: Some(60),
        content_type: Some(text("text/plain")),
        response_topic: Some(text("back")),
        correlation_data: Some(Bytes::from_static(b"\x00\xff")),
        user_properties: vec![(text("a"), text("1")), (text("b"), text("2"))],
        ..Properties::default()
    };
    let topics = ["replace/1", "pass", "emit/1", "drop/1", "reject/1", "replace/2"];
    topics
        .into_iter()
        .enumerate()
        .map(|(position, topic)| AppMessage {
            // From nothing to more than a guest has room for in one piece.
            payload: vec![position as u8; position * 1_500].into(),
            qos: QoS::AtLeastOnce,
            retain: position % 2 == 1,
            properties: (position > 2).then(|| Arc::new(properties.clone())),
            ..message(topic)
        })
        .collect()
}

fn repeated<T: Clone>(all: &[T], times: usize) -> Vec<T> {
    all.iter().cycle().take(all.len() * times).cloned().collect()
}

fn authorize_all(instance: &mut Instance, client: &Client, requests: &[Request]) -> Option<Vec<Verdict>> {
    let requests: Vec<RequestRef<'_>> = requests.iter().map(RequestRef::from).collect();
    instance.authorize_all(client, &requests)
}

fn transform_all(instance: &mut Instance, client: &Client, messages: &[AppMessage]) -> Option<Transformations> {
    let messages: Vec<AppMessageRef<'_>> = messages.iter().map(AppMessageRef::from).collect();
    instance.transform_all(client, &messages)
}

#[test]
fn several_questions_are_answered_as_each_of_them_would_be() {
    for guest in GUESTS {
        let plugin = load_as(&format!("{guest} several"), spec(guest));
        let mut instance = plugin.instance(Role::Shard).unwrap();
        for client in [client("c1"), known_client()] {
            // Again and again: what a call has taken of the guest's memory is free for the next.
            for times in [1, 2, 3, 1, 2] {
                let requests = repeated(&requests(), times);
                let one_by_one: Vec<Verdict> = requests
                    .iter()
                    .map(|request| instance.authorize(&client, request).unwrap())
                    .collect();
                assert_eq!(authorize_all(&mut instance, &client, &requests), Some(one_by_one));
                let messages = repeated(&messages(), times);
                let one_by_one: Transformations = messages
                    .iter()
                    .map(|message| instance.transform(&client, message).unwrap())
                    .collect();
                assert_eq!(transform_all(&mut instance, &client, &messages), Some(one_by_one));
            }
        }
    }
}

#[test]
fn every_answer_counts_as_a_call() {
    let plugin = load_as("counting answers", spec("batching"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let requests = requests();
    authorize_all(&mut instance, &client("c"), &requests).unwrap();
    assert!(instance.last_call_ns() > 0);
    let answers = requests.len() as u64;
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Ok), answers);
    let latency = plugin.stats().latency(Call::Authorize);
    assert_eq!(latency.buckets.iter().sum::<u64>(), answers);
    assert_eq!(latency.sum_ns, instance.last_call_ns());
    let expected = [("batched".to_owned(), answers), ("batches".to_owned(), 1)];
    assert_eq!(plugin.stats().counters(), expected);
}

#[test]
fn another_number_of_answers_is_none_and_questions_are_asked_one_by_one() {
    for (fault, outcome) in [
        ("fewer", Outcome::Invalid),
        ("more", Outcome::Invalid),
        ("trap", Outcome::Trap),
    ] {
        let plugin = faulty(&format!("answers {fault}"), fault);
        let mut instance = plugin.instance(Role::Shard).unwrap();
        let client = client("c1");
        assert_eq!(authorize_all(&mut instance, &client, &requests()), None, "{fault}");
        assert_eq!(plugin.stats().calls(Call::Authorize, outcome), 1, "{fault}");
        let verdict = instance.authorize(&client, &request("yes/1")).unwrap();
        assert_eq!(verdict.decision, Decision::Allow);
        // What failed is left out for a while, of any hook.
        assert_eq!(authorize_all(&mut instance, &client, &requests()), None, "{fault}");
        assert_eq!(instance.last_call_ns(), 0);
        assert_eq!(transform_all(&mut instance, &client, &messages()), None, "{fault}");
        assert_eq!(plugin.stats().calls(Call::Authorize, outcome), 1, "{fault}");
        assert_eq!(plugin.stats().calls(Call::Transform, outcome), 0, "{fault}");
    }
}

#[test]
fn an_answer_that_is_none_spoils_those_beside_it_only_where_they_are_asked_for_together() {
    let plugin = load_as("one invalid", spec("batching"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let all = ["pass", "invalid/1", "drop"].map(message);
    assert_eq!(transform_all(&mut instance, &client("c"), &all), None);
    let one_by_one = all.map(|message| instance.transform(&client("c"), &message));
    assert_eq!(
        one_by_one,
        [Ok(Transformation::Pass), Err(CallFailed), Ok(Transformation::Drop)]
    );
}

#[test]
fn who_has_failed_too_often_is_not_asked_at_all() {
    let plugin = load_as("broken", spec("batching"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    while plugin.stats().calls(Call::Transform, Outcome::Breaker) == 0 {
        assert_eq!(instance.transform(&client("c"), &message("invalid/1")), Err(CallFailed));
    }
    assert_eq!(authorize_all(&mut instance, &client("c"), &requests()), None);
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Ok), 0);
}

#[test]
fn plugins_that_take_one_question_at_a_time_are_asked_so() {
    let plugin = load_as("one at a time", spec("plain"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    assert!(!instance.takes_batches());
    assert_eq!(authorize_all(&mut instance, &client("c"), &requests()), None);
    assert_eq!(transform_all(&mut instance, &client("c"), &messages()), None);
    let plugin = load_as("several at a time", spec("batching"));
    assert!(plugin.instance(Role::Shard).unwrap().takes_batches());
}

#[test]
fn no_questions_are_no_call() {
    let plugin = load_as("no questions", spec("batching"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    assert_eq!(authorize_all(&mut instance, &client("c"), &[]), None);
    assert_eq!(plugin.stats().counters(), []);
}
