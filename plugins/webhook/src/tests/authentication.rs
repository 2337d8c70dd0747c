//! What answers mean for who is let in.

use super::{NOW_S, backend, load, says};
use nervewire_plugin_sdk::{Property, prelude::*, testing};
use serde_json::{Value, json};

const UNAVAILABLE: Authentication = Authentication::Deny(Refusal::ServerUnavailable);
const REFUSED: Authentication = Authentication::Deny(Refusal::BadUserNameOrPassword);

fn ask_with(more: Value, answer: Result<http::Response, http::Error>) -> Authentication {
    let mut endpoint = json!({"url": "http://auth:8080/auth", "body": {"u": "${username}"}});
    endpoint
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let _ = backend(answer);
    load(json!({"authentication": endpoint})).authenticate(&testing::client("7"), &testing::credentials("ann", "x"))
}

fn ask(answer: Result<http::Response, http::Error>) -> Authentication {
    ask_with(json!({}), answer)
}

#[track_caller]
fn identity(body: Value) -> Identity {
    match ask(says(body)) {
        Authentication::Allow(identity) => identity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_are_taken_as_emqx_takes_them() {
    assert!(matches!(ask(Ok(http::Response::new(204))), Authentication::Allow(_)));
    assert!(matches!(
        ask(says(json!({"result": "allow"}))),
        Authentication::Allow(_)
    ));
    assert_eq!(
        ask(says(json!({"result": "deny"}))),
        Authentication::Deny(Refusal::NotAuthorized)
    );
    for body in [
        json!({"result": "ignore"}),
        json!({}),
        json!({"result": "yes"}),
        json!({"result": true}),
    ] {
        assert_eq!(ask(says(body.clone())), Authentication::Abstain, "{body}");
    }
    let form = |body: &str| {
        Ok(http::Response::new(200)
            .with_header("Content-Type", "application/x-www-form-urlencoded")
            .with_body(body))
    };
    assert!(matches!(
        ask(form("result=allow&is_superuser=false")),
        Authentication::Allow(_)
    ));
    assert_eq!(ask(form("result=de%6Ey")), Authentication::Deny(Refusal::NotAuthorized));
}

#[test]
fn other_statuses_are_ignored_or_denied() {
    for status in [201, 301, 400, 401, 403, 404, 500, 503] {
        let answer = Ok(http::Response::new(status).with_json(&json!({"result": "allow"})));
        assert_eq!(ask(answer.clone()), Authentication::Abstain, "{status}");
        assert_eq!(ask_with(json!({"on_status": "deny"}), answer), UNAVAILABLE, "{status}");
    }
    assert!(testing::counter("unexpected_statuses") > 0);
}

#[test]
fn a_backend_that_does_not_answer_lets_nobody_in() {
    let html = Ok(http::Response::new(200)
        .with_header("content-type", "text/html")
        .with_body("allow"));
    let broken = Ok(http::Response::new(200)
        .with_header("content-type", "application/json")
        .with_body("{\"result\":"));
    let list = Ok(http::Response::new(200).with_json(&json!(["allow"])));
    let untyped = Ok(http::Response::new(200).with_body(r#"{"result": "allow"}"#));
    let failures = [
        http::Error::Timeout,
        http::Error::Connect("refused".into()),
        http::Error::NotGranted,
        http::Error::TooLarge,
    ];
    for answer in failures.map(Err).into_iter().chain([html, broken, list, untyped]) {
        assert_eq!(ask(answer.clone()), UNAVAILABLE, "{answer:?}");
        assert_eq!(
            ask_with(json!({"on_unavailable": "ignore"}), answer),
            Authentication::Abstain
        );
    }
    assert!(testing::counter("unavailable") > 0);
}

#[test]
fn an_allow_may_carry_attributes_an_end_and_a_list() {
    let body = json!({
        "result": "allow", "is_superuser": true, "expire_at": NOW_S + 60,
        "client_attrs": {"role": "admin", "n": 7, "webhook.superuser": "true", "webhook.exp": "never", "": "x"},
        "acl": [{"permission": "allow", "action": "all", "topic": "t/#"}],
    });
    let list = body["acl"].to_string();
    let expected = [
        Property::new("role", "admin"),
        Property::new("webhook.superuser", "true"),
        Property::new("webhook.acl", list),
        Property::new("webhook.exp", (NOW_S + 60).to_string()),
    ];
    assert_eq!(identity(body).attributes, expected);
    for (flag, is_superuser) in [
        (json!("true"), true),
        (json!(1), true),
        (json!("false"), false),
        (json!(0), false),
        (json!({}), false),
    ] {
        let identity = identity(json!({"result": "allow", "is_superuser": flag}));
        assert_eq!(
            identity.attributes.iter().any(|a| a.name == "webhook.superuser"),
            is_superuser,
            "{flag}"
        );
    }
}

#[test]
fn an_allow_with_something_wrong_in_it_refuses() {
    let many: Value = (0..61)
        .map(|n| (n.to_string(), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for wrong in [
        json!({"expire_at": NOW_S}),
        json!({"expire_at": NOW_S * 1000}),
        json!({"expire_at": "tomorrow"}),
        json!({"expire_at": 1.5}),
        json!({"acl": "all"}),
        json!({"acl": [{"permission": "deny", "action": "all", "topic": "#", "username_re": "^a"}]}),
        json!({"clientid_override": "8"}),
        json!({"client_attrs": many}),
        json!({"client_attrs": {"x": "x".repeat(4000)}}),
    ] {
        let mut body = wrong.clone();
        body["result"] = json!("allow");
        assert_eq!(ask(says(body)), REFUSED, "{wrong}");
        // Nobody is let in, so nothing of it counts.
        let mut body = wrong;
        body["result"] = json!("ignore");
        assert_eq!(ask(says(body)), Authentication::Abstain);
    }
}

#[test]
fn an_attribute_can_be_the_tenant() {
    let with = |attributes: Value| {
        let answer = says(json!({"result": "allow", "client_attrs": attributes}));
        ask_with(json!({"tenant_attribute": "org"}), answer)
    };
    let Authentication::Allow(identity) = with(json!({"org": "acme"})) else {
        panic!("not let in")
    };
    assert_eq!(identity.tenant.as_deref(), Some("acme"));
    for attributes in [
        json!({}),
        json!({"org": "a/b"}),
        json!({"org": ""}),
        json!({"org": "#"}),
        json!({"org": "$x"}),
    ] {
        assert_eq!(with(attributes.clone()), REFUSED, "{attributes}");
    }
}

#[test]
fn other_ways_to_authenticate_are_left_to_others() {
    let asked = backend(Ok(http::Response::new(204)));
    let enhanced = Credentials {
        method: Some("SCRAM".to_owned()),
        ..testing::credentials("ann", "x")
    };
    let mut plugin = load(json!({"authentication": {"url": "http://auth/"}}));
    assert_eq!(
        plugin.authenticate(&testing::client("7"), &enhanced),
        Authentication::Abstain
    );
    let mut plugin = load(json!({"authorization": {"url": "http://auth/"}}));
    let answer = plugin.authenticate(&testing::client("7"), &testing::credentials("ann", "x"));
    assert_eq!(answer, Authentication::Abstain);
    assert!(asked.borrow().is_empty());
}
