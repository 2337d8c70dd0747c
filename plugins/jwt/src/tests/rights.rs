//! What a token lets its client do, and for how long.

use super::mint::NOW_S;
use super::{let_in, refused, with_secret};
use crate::Jwt;
use nervewire_plugin_sdk::{Decision, prelude::*, testing};
use serde_json::{Value, json};
use std::time::Duration;

/// The client that a token with these claims makes.
fn client(plugin: &mut Jwt, claims: Value) -> Client {
    let identity = let_in(plugin, claims);
    Client {
        username: Some(identity.username.unwrap_or_else(|| "ann".to_owned())),
        attributes: identity.attributes,
        ..testing::client("7")
    }
}

fn request(action: Action, topic: &str) -> Request {
    Request {
        action,
        topic: topic.to_owned(),
        qos: Qos::AtLeastOnce,
        retain: false,
    }
}

#[track_caller]
fn check(plugin: &mut Jwt, client: &Client, action: Action, topic: &str, expected: Decision) {
    let verdict = plugin.authorize(client, &request(action, topic));
    assert_eq!(verdict.decision, expected, "{action:?} {topic}");
}

#[test]
fn rules_of_the_configuration_come_before_the_tokens_list() {
    let mut plugin = with_secret(
        r#"{"rules": [
            {"deny": "publish", "topics": ["cmd/#"]},
            {"allow": "both", "topics": ["org/${claim.org.id}/${claim.groups}/#"]}
        ]}"#,
    );
    let client = client(
        &mut plugin,
        json!({"org": {"id": "acme"}, "groups": ["x", "y", "+"], "acl": {"pub": ["cmd/a", "own"], "sub": ["cmd/#"]}}),
    );
    check(&mut plugin, &client, Action::Publish, "cmd/a", Decision::Deny);
    check(&mut plugin, &client, Action::Subscribe, "cmd/#", Decision::Allow);
    check(&mut plugin, &client, Action::Publish, "own", Decision::Allow);
    check(&mut plugin, &client, Action::Publish, "org/acme/y/1", Decision::Allow);
    check(&mut plugin, &client, Action::Subscribe, "org/acme/x/#", Decision::Allow);
    check(&mut plugin, &client, Action::Subscribe, "org/acme/+/1", Decision::Deny);
    check(&mut plugin, &client, Action::Publish, "org/other/x/1", Decision::Deny);
}

/// A value with a wildcard or a separator makes the rule apply to nothing.
#[test]
fn no_claim_widens_a_rule() {
    let mut plugin =
        with_secret(r#"{"rules": [{"allow": "both", "topics": ["org/${claim.org}/#", "${claim.org}/x"]}]}"#);
    for org in ["#", "+", "a/b", "", "$SYS"] {
        let client = client(&mut plugin, json!({"org": org}));
        check(&mut plugin, &client, Action::Subscribe, "org/#", Decision::Abstain);
        check(&mut plugin, &client, Action::Publish, "org/a/b/c", Decision::Abstain);
        check(&mut plugin, &client, Action::Publish, "$SYS/x", Decision::Abstain);
    }
}

#[test]
fn everything_is_denied_once_the_token_is_over() {
    let mut plugin = with_secret(r#"{"leeway_s": 0}"#);
    let client = client(&mut plugin, json!({"exp": NOW_S + 60, "acl": {"all": ["#"]}}));
    // Each request is asked for, deliveries too.
    let rules = plugin.rules(&client).unwrap();
    assert_eq!(rules, [Rule::ask().topic("#"), Rule::ask().topic("$SYS/#")]);
    testing::advance(Duration::from_secs(20));
    let verdict = plugin.authorize(&client, &request(Action::Publish, "a"));
    assert_eq!(verdict, Verdict::allow().cache(Duration::from_secs(40)));
    testing::advance(Duration::from_secs(40));
    for action in [Action::Publish, Action::Subscribe, Action::Deliver] {
        check(&mut plugin, &client, action, "a", Decision::Deny);
    }
}

/// The cache of the broker asks once for such a client, not once per topic.
#[test]
fn a_token_without_list_leaves_topics_to_others_until_it_is_over() {
    let mut plugin = with_secret(r#"{"leeway_s": 0}"#);
    let client = client(&mut plugin, json!({"exp": NOW_S + 60}));
    let verdict = plugin.authorize(&client, &request(Action::Deliver, "a"));
    assert_eq!(
        verdict,
        Verdict::abstain().cache(Duration::from_secs(60)).for_any_topic()
    );
    testing::advance(Duration::from_secs(60));
    check(&mut plugin, &client, Action::Publish, "a", Decision::Deny);
}

#[test]
fn the_expiry_can_be_left_to_the_connect() {
    let mut plugin = with_secret(
        r#"{"expiry": "connect", "rules": [{"allow": "subscribe", "topics": ["u/${username}"], "max_qos": 1}]}"#,
    );
    let client = client(
        &mut plugin,
        json!({"exp": NOW_S + 60, "acl": {"pub": ["a/${clientid}"]}}),
    );
    let expected = vec![
        Rule::allow().subscribe().topic("u/ann").max_qos(Qos::AtLeastOnce),
        Rule::allow().publish().topic("a/7"),
        Rule::deny().publish().subscribe().topic("#"),
        Rule::deny().publish().subscribe().topic("$SYS/#"),
    ];
    assert_eq!(plugin.rules(&client), Some(expected));
    testing::advance(Duration::from_secs(3600));
    check(&mut plugin, &client, Action::Publish, "a/7", Decision::Allow);
}

#[test]
fn clients_of_other_authenticators_are_not_concerned() {
    let mut plugin = with_secret(r##"{"rules": [{"deny": "both", "topics": ["#"]}]}"##);
    let stranger = testing::client("7").with_username("ann");
    assert_eq!(plugin.rules(&stranger), Some(Vec::new()));
    check(&mut plugin, &stranger, Action::Publish, "a", Decision::Abstain);
}

#[test]
fn a_list_that_is_not_understood_refuses_the_client() {
    let mut plugin = with_secret("{}");
    let exp = NOW_S + 60;
    for (list, why) in [
        (json!("all"), "not an access list"),
        (
            json!([{"permission": "deny", "action": "all", "topic": "t", "clientid_re": "^a"}]),
            "clientid_re",
        ),
        (json!({"pub": ["a/#/b"]}), "no topic filter"),
        (json!({"pub": vec!["a"; 257]}), "at most 256"),
    ] {
        refused(&mut plugin, json!({"exp": exp, "acl": list}), why);
    }
}
