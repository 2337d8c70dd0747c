use super::Rewrite;
use nervewire_plugin_sdk::{prelude::*, testing};

fn load(rule: &str) -> Rewrite {
    testing::load(&format!(r#"{{"rules": [{rule}]}}"#)).unwrap()
}

fn transform(rule: &str, topic: &str, payload: &str) -> Transformation {
    let client = testing::client("7")
        .with_username("ann")
        .with_attribute("site", "north")
        .with_attribute("bad", "a/+");
    load(rule).transform(&client, Message::new(topic, payload).qos(Qos::AtLeastOnce))
}

fn check_topic(filter: &str, template: &str, topic: &str, expected: Option<&str>) {
    let expected = expected.map_or(Transformation::Reject(Rejection::TopicNameInvalid), |topic| {
        Transformation::Replace(Message::new(topic, "hi").qos(Qos::AtLeastOnce))
    });
    let rule = format!(r#"{{"match": "{filter}", "topic": "{template}"}}"#);
    assert_eq!(transform(&rule, topic, "hi"), expected, "{filter} {template} {topic}");
}

#[test]
fn topics_are_made_of_what_the_wildcards_stand_for() {
    check_topic("a/+/b/+", "x/${2}/${1}", "a/1/b/2", Some("x/2/1"));
    check_topic("a/+/#", "x-${1}/${#}", "a/1/b/2", Some("x-1/b/2"));
    check_topic("a/#", "x/${#}", "a/b", Some("x/b"));
    check_topic("a/#", "x/${#}", "a", Some("x"));
    check_topic("a/#", "x/${#}", "a/", Some("x/"));
    check_topic("a/#", "${#}", "a/b/c", Some("b/c"));
    check_topic("#", "old/${#}", "a/b", Some("old/a/b"));
    check_topic("a", "b", "a", Some("b"));
    check_topic("a", "${attr.site}/${username}/${client_id}", "a", Some("north/ann/7"));
    check_topic("+/a", "x/${1}", "/a", Some("x/"));
}

#[test]
fn topics_that_would_be_invalid_or_hidden_are_rejected() {
    check_topic("a", "x/${attr.bad}", "a", None);
    check_topic("a", "x/${attr.none}", "a", None);
    check_topic("a/#", "${#}", "a", None);
    check_topic("a/#", "${#}", "a/$SYS/x", None);
    check_topic("a/+", "${1}/x", "a/$SYS", None);
    check_topic("a/+", "$lab/${1}", "a/1", Some("$lab/1"));
}

#[test]
fn the_first_rule_that_matches_applies_and_others_pass() {
    let mut plugin: Rewrite =
        testing::load(r#"{"rules": [{"match": "a/+", "topic": "first"}, {"match": "a/#", "topic": "second"}]}"#)
            .unwrap();
    let mut topic = |topic: &str| match plugin.transform(&testing::client("7"), Message::new(topic, "")) {
        Transformation::Replace(message) => Some(message.topic),
        _ => None,
    };
    assert_eq!(topic("a/b").as_deref(), Some("first"));
    assert_eq!(topic("a/b/c").as_deref(), Some("second"));
    assert_eq!(topic("b"), None);
}

fn check_json(operations: &str, payload: &str, expected: &str) {
    let rule = format!(r#"{{"match": "t", "json": [{operations}]}}"#);
    let expected = if payload == expected {
        Transformation::Pass
    } else {
        Transformation::Replace(Message::new("t", expected).qos(Qos::AtLeastOnce))
    };
    assert_eq!(transform(&rule, "t", payload), expected, "{operations} {payload}");
}

#[test]
fn fields_are_renamed_in_their_place() {
    check_json(
        r#"{"rename": "b", "to": "x"}"#,
        r#"{"a":1,"b":2,"c":3}"#,
        r#"{"a":1,"x":2,"c":3}"#,
    );
    check_json(
        r#"{"rename": "a.b", "to": "x"}"#,
        r#"{"a":{"b":[1, 2]}}"#,
        r#"{"a":{"x":[1, 2]}}"#,
    );
    check_json(
        r#"{"rename": "a.b", "to": "x"}"#,
        r#"{"a":[{"b":1},{"c":2}, 3]}"#,
        r#"{"a":[{"x":1},{"c":2},3]}"#,
    );
    check_json(r#"{"rename": "b", "to": "a"}"#, r#"{"a":1,"b":2}"#, r#"{"a":2}"#);
    check_json(r#"{"rename": "b", "to": "b"}"#, r#"{"b":2}"#, r#"{"b":2}"#);
    check_json(r#"{"rename": "b", "to": "q\"\n"}"#, r#"{"b":2}"#, r#"{"q\"\n":2}"#);
}

#[test]
fn fields_are_dropped() {
    check_json(r#"{"drop": "b"}"#, r#"{"a":1,"b":2}"#, r#"{"a":1}"#);
    check_json(r#"{"drop": "b"}"#, r#"{"b":1,"b":2}"#, "{}");
    check_json(r#"{"drop": "a.b.c"}"#, r#"{"a":{"b":{"c":1}}}"#, r#"{"a":{"b":{}}}"#);
    check_json(r#"{"drop": "b"}"#, r#"[{"b":1},{"a":2}]"#, r#"[{},{"a":2}]"#);
}

#[test]
fn numbers_are_scaled() {
    let celsius = r#"{"scale": "t", "factor": 0.5556, "offset": -17.78, "round": 2}"#;
    check_json(celsius, r#"{"t":71.2}"#, r#"{"t":21.78}"#);
    check_json(celsius, r#"{"t":32}"#, r#"{"t":0}"#);
    check_json(r#"{"scale": "t", "factor": 1000}"#, r#"{"t":1.5}"#, r#"{"t":1500}"#);
    check_json(r#"{"scale": "t", "offset": 0.5}"#, r#"{"t":-1}"#, r#"{"t":-0.5}"#);
    check_json(r#"{"scale": "t", "factor": 2}"#, r#"{"t":1e300}"#, r#"{"t":2e+300}"#);
    check_json(
        r#"{"scale": "t", "factor": 2, "round": 9}"#,
        r#"{"t":1e300}"#,
        r#"{"t":2e+300}"#,
    );
    check_json(
        r#"{"scale": "v.t", "factor": 2}"#,
        r#"{"v":[{"t":1},{"t":2}]}"#,
        r#"{"v":[{"t":2},{"t":4}]}"#,
    );
    check_json(
        r#"{"scale": "t", "factor": 2}, {"scale": "t", "offset": 1}"#,
        r#"{"t":1}"#,
        r#"{"t":3}"#,
    );
}

#[test]
fn what_is_not_there_or_not_a_number_stays() {
    check_json(r#"{"scale": "t", "factor": 2}"#, r#"{"t":"n/a"}"#, r#"{"t":"n/a"}"#);
    check_json(r#"{"scale": "t", "factor": 2}"#, r#"{"t":null}"#, r#"{"t":null}"#);
    check_json(r#"{"drop": "a.b"}"#, r#"{"a":1}"#, r#"{"a":1}"#);
    check_json(r#"{"rename": "b", "to": "c"}"#, "17", "17");
    check_json(r#"{"rename": "b", "to": "c"}"#, "", "");
}

#[test]
fn what_is_not_touched_stays_to_the_last_digit() {
    check_json(
        r#"{"drop": "x"}"#,
        r#"{"z":1.10,"x":0,"n":123456789012345678901234567890.50,"a":{ "k" : 1E5, "\u00e9": "\u0041" }}"#,
        r#"{"z":1.10,"n":123456789012345678901234567890.50,"a":{ "k" : 1E5, "\u00e9": "\u0041" }}"#,
    );
    let deep = format!("{{\"x\":0,\"d\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    check_json(r#"{"drop": "x"}"#, &deep, &deep.replace("\"x\":0,", ""));
}

#[test]
fn an_array_of_arrays_stays_however_deep() {
    check_json(r#"{"drop": "x"}"#, r#"[[{"x":0}]]"#, r#"[[{"x":0}]]"#);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    check_json(r#"{"drop": "x.x"}"#, &deep, &deep);
}

#[test]
fn payloads_that_are_not_json_are_rejected_or_passed() {
    let reject = Transformation::Reject(Rejection::PayloadFormatInvalid);
    for payload in ["{", "hello", "{\"a\":1} x", "{\"a\":01}", "{a:1}", " "] {
        assert_eq!(
            transform(r#"{"match": "t", "json": [{"drop": "a"}]}"#, "t", payload),
            reject,
            "{payload}"
        );
        let pass = r#"{"match": "t", "json": [{"drop": "a"}], "on_invalid": "pass"}"#;
        assert_eq!(transform(pass, "t", payload), Transformation::Pass, "{payload}");
    }
    let mut plugin = load(r#"{"match": "t", "json": [{"drop": "a"}]}"#);
    assert_eq!(
        plugin.transform(&testing::client("7"), Message::new("t", [0x22, 0xff, 0x22])),
        reject
    );
    let overflow = r#"{"match": "t", "json": [{"scale": "a", "factor": 1e10}]}"#;
    assert_eq!(transform(overflow, "t", r#"{"a":1e308}"#), reject);
}

#[test]
fn a_tag_replaces_what_the_sender_claims() {
    let mut plugin = load(r##"{"match": "#", "tag": {"name": "g", "value": "2"}}"##);
    let message = Message::new("t", "hi")
        .user_property("g", "1")
        .user_property("h", "1")
        .user_property("g", "0");
    let expected = Message::new("t", "hi").user_property("h", "1").user_property("g", "2");
    assert_eq!(
        plugin.transform(&testing::client("7"), message),
        Transformation::Replace(expected)
    );
}

#[test]
fn topic_payload_and_tag_change_together_and_the_rest_stays() {
    let mut plugin =
        load(r#"{"match": "a/+", "topic": "b/${1}", "json": [{"drop": "x"}], "tag": {"name": "g", "value": "2"}}"#);
    let message = |topic, payload| Message::new(topic, payload).retained().content_type("application/json");
    let expected = message("b/1", "{}").user_property("g", "2");
    let answer = plugin.transform(&testing::client("7"), message("a/1", r#"{"x":1}"#));
    assert_eq!(answer, Transformation::Replace(expected));
}

fn check_refused(rule: &str, expected: &str) {
    let config = format!(r#"{{"rules": [{{"match": "a", "topic": "b"}}, {rule}]}}"#);
    let error = testing::load::<Rewrite>(&config).map(|_| ()).unwrap_err();
    assert!(
        error.starts_with("config.rules, entry 2") && error.contains(expected),
        "{rule}: {error}"
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_number() {
    check_refused(
        r#"{"match": "a/#/b", "topic": "b"}"#,
        "match = `a/#/b` is no topic filter",
    );
    check_refused(r#"{"match": "a"}"#, "changes nothing, write topic, json or tag");
    check_refused(r#"{"topic": "a"}"#, "missing field `match`");
    check_refused(r#"{"match": "a", "topic": "b/+"}"#, "topic = `b/+` is no topic name");
    check_refused(
        r#"{"match": "a/+", "topic": "b/${2}"}"#,
        "`${2}` in topic = `b/${2}` stands for nothing",
    );
    check_refused(r#"{"match": "a/+", "topic": "b/${0}"}"#, "stands for nothing");
    check_refused(r#"{"match": "a/+", "topic": "b/${#}"}"#, "stands for nothing");
    check_refused(r#"{"match": "a/#", "topic": "${#}/b"}"#, "must end the topic");
    check_refused(r#"{"match": "a/#", "topic": "${#}/${#}"}"#, "must end the topic");
    check_refused(r#"{"match": "a", "topic": "b/${user}"}"#, "stands for nothing");
    check_refused(
        r#"{"match": "a", "topik": "b"}"#,
        "topik: unknown field `topik`, expected one of",
    );
    check_refused(
        r#"{"match": "a", "json": [{"drop": "a..b"}]}"#,
        "json, entry 1: \"a..b\" has an empty name",
    );
    check_refused(
        r#"{"match": "a", "json": [{"drop": "a"}, {"rename": "a"}]}"#,
        "json, entry 2: write { rename =",
    );
    check_refused(
        r#"{"match": "a", "json": [{"drop": "a", "round": 1}]}"#,
        "json, entry 1: write { rename =",
    );
    check_refused(
        r#"{"match": "a", "json": [{"drop": "a", "scale": "b"}]}"#,
        "json, entry 1: write { rename =",
    );
    check_refused(
        r#"{"match": "a", "json": [{"rename": "a", "to": "b.c"}]}"#,
        "write its new name only",
    );
    check_refused(
        r#"{"match": "a", "json": [{"scale": "a", "round": 16}]}"#,
        "round = 16, write at most 15",
    );
    check_refused(r#"{"match": "a", "tag": {"name": "a"}}"#, "missing field `value`");
    check_refused(
        r#"{"match": "a", "topic": "b", "on_invalid": "drop"}"#,
        "unknown variant `drop`",
    );
}
