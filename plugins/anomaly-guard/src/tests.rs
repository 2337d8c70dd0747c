//! Rules that the evaluation has no attack for, and what the configuration says.

use crate::{Config, Guard, Response};
use nervewire_plugin_sdk::{Finding, Window, testing};

const MINUTE_MS: u64 = 60_000;

fn window(client_id: &str, minute: u64, messages: u64) -> Window {
    Window {
        messages_in: messages,
        bytes_in: 2 + 50 * messages,
        distinct_topics: 1,
        payload_bytes_mean: 40.0,
        started: minute * MINUTE_MS,
        milliseconds: MINUTE_MS as u32,
        ..testing::window(client_id)
    }
}

fn words(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|f| format!("{}: {}", f.client_id, f.evidence))
        .collect()
}

/// So many clients that send for two days, and then not; one goes on.
fn silence_of(clients: u64) -> Vec<String> {
    let mut guard = Guard::new(Config::default());
    let mut found = Vec::new();
    for minute in 0..2 * 24 * 60 + 20 {
        let names = (0..clients).map(|number| format!("pump-{number}"));
        let mut windows: Vec<Window> = names
            .filter(|_| minute < 2 * 24 * 60)
            .map(|name| window(&name, minute, 10))
            .collect();
        windows.push(window("other", minute, 10));
        found.extend(words(&guard.look_at(&windows)));
    }
    found
}

#[test]
fn who_always_sends_and_falls_silent_is_told_once() {
    let found = silence_of(1);
    assert_eq!(
        found,
        ["pump-0: silence: it has sent nothing for 5 windows, and was never silent for more than 0"]
    );
}

#[test]
fn a_silence_of_many_is_one_alert() {
    let found = silence_of(20);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with(", and neither have 19 other clients"), "{found:?}");
}

#[test]
fn payloads_of_another_size_are_told_when_they_stay() {
    let mut guard = Guard::new(Config::default());
    let mut found = Vec::new();
    for minute in 0..60 {
        let size = if (50..54).contains(&minute) { 400.0 } else { 40.0 };
        let window = Window {
            payload_bytes_mean: size,
            ..window("pump", minute, 10)
        };
        found.extend(words(&guard.look_at(&[window])));
    }
    // 41: the first windows of another size have moved what is usual a little.
    assert_eq!(
        found,
        ["pump: payload_drift: payloads of 400 bytes on average; usual are 41"]
    );
}

#[test]
fn a_flood_of_client_identifiers_is_forgotten_first() {
    let mut guard = Guard::new(Config {
        max_clients: 100,
        ..Config::default()
    });
    for minute in 0..40 {
        guard.look_at(&[window("pump", minute, 10)]);
    }
    for number in 0..10_000 {
        guard.look_at(&[window(&format!("flood-{number}"), 40, 1)]);
    }
    assert!(guard.known_clients() <= 100);
    let found = guard.look_at(&[window("pump", 41, 50_000)]);
    assert!(found[0].evidence.contains("usual are"), "it is known still: {found:?}");
}

#[test]
fn alert_only_says_what_else_would_be_done() {
    let flood = |alert_only| {
        let mut config = Config {
            alert_only,
            ..Config::default()
        };
        config.rules.rate_spike.response = Response::Disconnect;
        let mut guard = Guard::new(config);
        (0..40).for_each(|minute| drop(guard.look_at(&[window("pump", minute, 10)])));
        guard.look_at(&[window("pump", 40, 50_000)]).remove(0)
    };
    let (told, done) = (flood(true), flood(false));
    assert_eq!(told.response, nervewire_plugin_sdk::Response::Alert);
    assert!(
        told.evidence.ends_with(" (alert_only: else it would be disconnected)"),
        "{}",
        told.evidence
    );
    assert_eq!(done.response, nervewire_plugin_sdk::Response::Disconnect);
    assert!(told.evidence.starts_with(&done.evidence));
}

#[test]
fn what_is_wrong_with_the_configuration_is_said() {
    let check = |config: &str, words: &str| {
        let error = testing::load::<Guard>(config).map(|_| ()).unwrap_err();
        assert!(error.contains(words), "{config}: {error}");
    };
    check(r#"{"rules": {"rate_spik": {}}}"#, "rate_spik");
    check(
        r#"{"rules": {"silence": {"response": {"throttle": 0}}}}"#,
        "rules.silence.response",
    );
    check(r#"{"rules": {"silence": {"response": "kill"}}}"#, "kill");
    check(
        r#"{"rules": {"topic_scan": {"factor": 0.5}}}"#,
        "rules.topic_scan.factor = 0.5",
    );
    check(r#"{"rules": {"silence": {"windows": 0}}}"#, "response = \"off\"");
    check(r#"{"max_clients": 0}"#, "max_clients = 0; write a number from 1");
    let off = r#"{"rules": {"rate_spike": {"response": "off"}, "silence": {"response": {"ban": 60}}}}"#;
    assert!(testing::load::<Guard>(off).is_ok());
    assert!(testing::load::<Guard>("{}").is_ok());
}
