//! What answers mean for what a client may do.

use super::{NOW_S, backend, load, says};
use crate::Webhook;
use nervewire_plugin_sdk::{Decision, prelude::*, testing};
use serde_json::{Value, json};
use std::time::Duration;

fn plugin(more: Value) -> Webhook {
    let mut endpoint = json!({"url": "http://auth:8080/acl/${clientid}",
        "body": {"u": "${username}", "a": "${action}", "t": "${topic}", "q": "${qos}", "r": "${retain}", "role": "${client_attrs.role}"}});
    endpoint
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    load(json!({"authorization": endpoint}))
}

fn request(action: Action, topic: &str) -> Request {
    Request {
        action,
        topic: topic.to_owned(),
        qos: Qos::AtLeastOnce,
        retain: true,
    }
}

fn client() -> Client {
    testing::client("7")
        .with_username("ann")
        .with_attribute("role", "admin")
}

fn ask_with(more: Value, answer: Result<http::Response, http::Error>) -> Verdict {
    let _ = backend(answer);
    plugin(more).authorize(&client(), &request(Action::Publish, "a/b"))
}

#[test]
fn a_request_says_who_wants_to_do_what() {
    let asked = backend(Ok(http::Response::new(204)));
    let mut plugin = plugin(json!({}));
    assert_eq!(plugin.rules(&client()), None);
    assert_eq!(
        plugin.authorize(&client(), &request(Action::Publish, "a/b")),
        Verdict::allow()
    );
    assert_eq!(
        plugin.authorize(&client(), &request(Action::Subscribe, "#")),
        Verdict::allow()
    );
    let asked = asked.borrow();
    assert_eq!(asked[0].url, "http://auth:8080/acl/7");
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    let expected = json!({"u": "ann", "a": "publish", "t": "a/b", "q": "1", "r": "true", "role": "admin"});
    assert_eq!(body, expected);
    let body: Value = serde_json::from_slice(&asked[1].body).unwrap();
    assert_eq!((&body["a"], &body["t"]), (&json!("subscribe"), &json!("#")));
}

#[test]
fn results_are_taken_as_emqx_takes_them() {
    let minute = json!({"cache_ms": 60_000});
    let cached = Duration::from_secs(60);
    assert_eq!(
        ask_with(minute.clone(), Ok(http::Response::new(204))),
        Verdict::allow().cache(cached)
    );
    for (body, expected) in [
        (json!({"result": "allow"}), Verdict::allow()),
        (json!({"result": "deny"}), Verdict::deny()),
        (json!({"result": "ignore"}), Verdict::abstain()),
        (json!({}), Verdict::abstain()),
    ] {
        assert_eq!(
            ask_with(minute.clone(), says(body.clone())),
            expected.cache(cached),
            "{body}"
        );
        assert_eq!(ask_with(json!({}), says(body)), expected);
    }
}

/// Such answers are not kept: the next request may be answered.
#[test]
fn no_answer_denies_and_other_statuses_are_ignored_unless_configured() {
    let minute = json!({"cache_ms": 60_000});
    for status in [400, 403, 500] {
        assert_eq!(
            ask_with(minute.clone(), Ok(http::Response::new(status))),
            Verdict::abstain()
        );
    }
    assert_eq!(
        ask_with(json!({"on_status": "deny"}), Ok(http::Response::new(500))),
        Verdict::deny()
    );
    for error in [http::Error::Timeout, http::Error::Connect("refused".into())] {
        assert_eq!(ask_with(minute.clone(), Err(error.clone())), Verdict::deny());
        assert_eq!(
            ask_with(json!({"on_unavailable": "ignore"}), Err(error)),
            Verdict::abstain()
        );
    }
}

#[test]
fn a_superuser_is_not_asked_about() {
    let asked = backend(says(json!({"result": "deny"})));
    let superuser = client().with_attribute("webhook.superuser", "true");
    let mut plugin = plugin(json!({}));
    let rules = plugin.rules(&superuser).unwrap();
    assert_eq!(rules, [Rule::allow().topic("#"), Rule::allow().topic("$SYS/#")]);
    let verdict = plugin.authorize(&superuser, &request(Action::Publish, "a"));
    assert_eq!(verdict.decision, Decision::Allow);
    assert!(asked.borrow().is_empty());
}

#[test]
fn rights_end_when_the_backend_said() {
    let _ = backend(Ok(http::Response::new(204)));
    let mut plugin = plugin(json!({"cache_ms": 60_000}));
    let ends = (NOW_S + 30).to_string();
    for client in [client(), client().with_attribute("webhook.superuser", "true")] {
        testing::set_clock_ms(NOW_S * 1000);
        let client = client.with_attribute("webhook.exp", &ends);
        assert!(plugin.rules(&client).unwrap().iter().all(|rule| rule.actions.deliver));
        let verdict = plugin.authorize(&client, &request(Action::Publish, "a"));
        assert_eq!(
            (verdict.decision, verdict.cache_milliseconds),
            (Decision::Allow, 30_000)
        );
        testing::set_clock_ms((NOW_S + 30) * 1000);
        for action in [Action::Publish, Action::Subscribe, Action::Deliver] {
            assert_eq!(
                plugin.authorize(&client, &request(action, "a")).decision,
                Decision::Deny
            );
        }
    }
}

#[test]
fn the_list_of_the_authentication_is_heard_first() {
    let asked = backend(says(json!({"result": "deny"})));
    let list = r#"[{"permission": "allow", "action": "publish", "topic": "a"}, {"permission": "deny", "action": "all", "topic": "b"}]"#;
    let client = client()
        .with_attribute("webhook.acl", list)
        .with_attribute("webhook.exp", "never");
    let mut with_backend = plugin(json!({}));
    for (topic, decision, questions) in [
        ("a", Decision::Allow, 0),
        ("b", Decision::Deny, 0),
        ("c", Decision::Deny, 1),
    ] {
        let verdict = with_backend.authorize(&client, &request(Action::Publish, topic));
        assert_eq!(
            (verdict.decision, asked.borrow().len()),
            (decision, questions),
            "{topic}"
        );
    }
    // A delivery is nothing the backend is asked about.
    let delivery = with_backend.authorize(&client, &request(Action::Deliver, "c"));
    assert_eq!((delivery.decision, asked.borrow().len()), (Decision::Abstain, 1));
    let mut alone = load(json!({"authentication": {"url": "http://auth/"}}));
    let expected = vec![
        Rule::allow().publish().topic("a"),
        Rule::deny().publish().subscribe().topic("b"),
    ];
    assert_eq!(alone.rules(&client), Some(expected));
}

#[test]
fn without_a_backend_for_it_nothing_is_authorized() {
    let mut plugin = load(json!({"authentication": {"url": "http://auth/"}}));
    assert_eq!(plugin.rules(&client()), Some(Vec::new()));
    let verdict = plugin.authorize(&client(), &request(Action::Publish, "a"));
    assert_eq!(verdict.decision, Decision::Abstain);
}
