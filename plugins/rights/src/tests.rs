use crate::{AccessList, Granted, Rights};
use nervewire_plugin_sdk::{Certificate, Decision, Identity, prelude::*, testing};
use serde_json::json;
use std::time::Duration;

fn request(action: Action, topic: &str, qos: u8, retain: bool) -> Request {
    Request {
        action,
        topic: topic.to_owned(),
        qos: Qos::from_level(qos).unwrap(),
        retain,
    }
}

fn client() -> Client {
    testing::client("7")
        .with_username("ann")
        .with_attribute("site", "north")
}

#[track_caller]
fn says(list: &str, action: Action, topic: &str, expected: Option<Decision>) {
    says_to(list, &request(action, topic, 1, false), expected);
}

#[track_caller]
fn says_to(list: &str, request: &Request, expected: Option<Decision>) {
    let parsed = AccessList::parse(list).unwrap();
    assert_eq!(parsed.decide(&client(), request), expected, "{list} {request:?}");
}

const ALLOW: Option<Decision> = Some(Decision::Allow);
const DENY: Option<Decision> = Some(Decision::Deny);

/// The example of EMQX's documentation.
const LINES: &str = r#"[
    {"permission": "allow", "action": "publish", "topic": "t/${clientid}"},
    {"permission": "allow", "action": "subscribe", "topic": "eq t/1/#", "qos": [1]},
    {"permission": "deny", "action": "publish", "topic": "t/2", "retain": true},
    {"permission": "deny", "action": "all", "topic": "t/3"}
]"#;

#[test]
fn the_first_line_that_applies_decides_and_the_rest_is_left_to_others() {
    says(LINES, Action::Publish, "t/7", ALLOW);
    says(LINES, Action::Subscribe, "t/7", None);
    says(LINES, Action::Subscribe, "t/1/#", ALLOW);
    says(LINES, Action::Subscribe, "t/1/x", None);
    says_to(LINES, &request(Action::Subscribe, "t/1/#", 2, false), None);
    says_to(LINES, &request(Action::Publish, "t/2", 0, true), DENY);
    says_to(LINES, &request(Action::Publish, "t/2", 0, false), None);
    says(LINES, Action::Publish, "t/3", DENY);
    says(LINES, Action::Subscribe, "t/3", DENY);
    says(LINES, Action::Deliver, "t/3", DENY);
    says(LINES, Action::Publish, "other", None);
}

/// The other example.
const TOPICS: &str = r#"{
    "pub": ["testpub1/${username}", "eq testpub2/${username}"],
    "sub": ["testsub1/${username}", "testsub2/${clientid}", "testsub2/#"],
    "all": ["testall1/${username}", "testall3/#"]
}"#;

#[test]
fn topics_that_are_not_listed_are_denied() {
    says(TOPICS, Action::Publish, "testpub1/ann", ALLOW);
    says(TOPICS, Action::Publish, "testpub2/${username}", ALLOW);
    says(TOPICS, Action::Publish, "testpub2/ann", DENY);
    says(TOPICS, Action::Subscribe, "testpub1/ann", DENY);
    says(TOPICS, Action::Subscribe, "testsub2/#", ALLOW);
    says(TOPICS, Action::Subscribe, "testsub2/a/+", ALLOW);
    says(TOPICS, Action::Subscribe, "#", DENY);
    says(TOPICS, Action::Publish, "testall3/x", ALLOW);
    // What is delivered was subscribed to.
    says(TOPICS, Action::Deliver, "elsewhere", None);
    says("{}", Action::Publish, "a", DENY);
}

#[test]
fn a_deny_that_only_overlaps_a_filter_is_left_to_the_deliveries() {
    let list = r##"[{"permission": "deny", "action": "subscribe", "topic": "secret/#"},
                    {"permission": "allow", "action": "subscribe", "topic": "#"}]"##;
    says(list, Action::Subscribe, "#", ALLOW);
    says(list, Action::Subscribe, "secret/+", DENY);
    says(list, Action::Deliver, "secret/a", DENY);
    says(list, Action::Deliver, "a", ALLOW);
}

#[test]
fn names_stand_for_the_clients_own_and_never_widen_a_line() {
    let list = r#"[{"permission": "allow", "action": "all", "topic": "${client_attrs.site}/${attr.site}/${client_id}/${cert_common_name}"}]"#;
    let parsed = AccessList::parse(list).unwrap();
    let with = |name: &str, common_name: &str| {
        let certificate = Certificate {
            common_name: Some(common_name.to_owned()),
            ..Certificate::default()
        };
        Client {
            client_id: name.to_owned(),
            ..client().with_certificate(certificate)
        }
    };
    let ask = request(Action::Publish, "north/north/7/x", 0, false);
    assert_eq!(parsed.decide(&with("7", "x"), &ask), ALLOW);
    for (name, common_name) in [("+", "x"), ("7", "#"), ("", "x"), ("7", "")] {
        assert_eq!(
            parsed.decide(&with(name, common_name), &ask),
            None,
            "{name} {common_name}"
        );
    }
}

/// Each value in its turn.
#[test]
fn an_attribute_with_several_values_means_each_of_them() {
    let list = AccessList::parse(r#"{"all": ["${attr.group}/${attr.group}/${attr.site}"]}"#).unwrap();
    let client = client().with_attribute("group", "a").with_attribute("group", "b");
    for (topic, allowed) in [
        ("a/a/north", true),
        ("b/b/north", true),
        ("a/b/north", false),
        ("c/c/north", false),
    ] {
        let decision = list.decide(&client, &request(Action::Publish, topic, 0, false));
        assert_eq!(decision == ALLOW, allowed, "{topic}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for (list, words) in [
        ("", "not an access list"),
        ("7", "not an access list"),
        (r#"{"publish": []}"#, "unknown field `publish`"),
        (r#"[{"action": "all", "topic": "t"}]"#, "permission"),
        (r#"[{"permission": "ignore", "action": "all", "topic": "t"}]"#, "ignore"),
        (
            r#"[{"permission": "deny", "action": "all", "topic": "t", "zone": "z"}]"#,
            "unknown field `zone`",
        ),
        (
            r#"[{"permission": "deny", "action": "all", "topic": "a/#/b"}]"#,
            "no topic filter",
        ),
        (
            r#"[{"permission": "deny", "action": "all", "topic": "${zone}"}]"#,
            "unknown name",
        ),
        (
            r#"[{"permission": "deny", "action": "all", "topic": "$share/g/a"}]"#,
            "behind $share",
        ),
        (
            r#"[{"permission": "deny", "action": "all", "topic": "t", "qos": [3]}]"#,
            "QoS 3",
        ),
        (
            r#"[{"permission": "deny", "action": "all", "topic": "t", "retain": "x"}]"#,
            "retain",
        ),
    ] {
        let error = AccessList::parse(list).unwrap_err();
        assert!(error.contains(words), "{list}: {error}");
    }
    let many = json!({"all": vec!["t"; 257]}).to_string();
    assert!(AccessList::parse(&many).unwrap_err().contains("257 lines"));
}

fn native(list: &str) -> Vec<Rule> {
    let list = AccessList::parse(list).unwrap();
    Rights::new("x").rules(&client(), &[&list])
}

#[test]
fn without_an_end_a_list_becomes_rules() {
    let expected = vec![
        Rule::allow().publish().topic("t/7"),
        // `eq` and a set of QoS levels are nothing that rules can say.
        Rule::ask().subscribe().topic("t/1/#"),
        Rule::deny().publish().topic("t/2").retain(true),
        Rule::deny().publish().subscribe().topic("t/3"),
    ];
    assert_eq!(native(LINES), expected);
    let topics = native(r#"{"all": ["a"], "sub": ["b/${username}"]}"#);
    let expected = vec![
        Rule::allow().subscribe().topic("b/ann"),
        Rule::allow().publish().subscribe().topic("a"),
        Rule::deny().publish().subscribe().topic("#"),
        Rule::deny().publish().subscribe().topic("$SYS/#"),
    ];
    assert_eq!(topics, expected);
    let both = native(r#"[{"permission": "allow", "action": "all", "topic": "a", "qos": 0, "retain": false}]"#);
    let expected = vec![
        Rule::allow()
            .publish()
            .topic("a")
            .max_qos(Qos::AtMostOnce)
            .retain(false),
        Rule::allow().subscribe().topic("a").max_qos(Qos::AtMostOnce),
    ];
    assert_eq!(both, expected);
}

/// A rule that denies the rest would take back what a filter by its letters allows.
#[test]
fn a_filter_by_its_letters_has_the_rest_asked_for() {
    let rules = native(r#"{"sub": ["eq a/#"]}"#);
    let expected = vec![
        Rule::ask().subscribe().topic("a/#"),
        Rule::ask().publish().subscribe().topic("#"),
        Rule::ask().publish().subscribe().topic("$SYS/#"),
    ];
    assert_eq!(rules, expected);
}

#[test]
fn more_rules_than_the_broker_takes_are_asked_for() {
    let line = json!({"permission": "allow", "action": "all", "topic": "${attr.g}/x"});
    let list = json!(vec![line; 256]).to_string();
    let client = (0..8).fold(client(), |client, n| client.with_attribute("g", &n.to_string()));
    let list = AccessList::parse(&list).unwrap();
    let rules = Rights::new("x").rules(&client, &[&list]);
    assert_eq!(rules.len(), 1022);
    assert_eq!(rules[1021], Rule::ask().publish().subscribe().topic("$SYS/#"));
}

fn granted(expires_at_s: Option<u64>, list: Option<&str>) -> Client {
    let granted = Granted {
        expires_at_s,
        list: list.map(str::to_owned),
    };
    let identity = granted.attach("x", Identity::default()).unwrap();
    Client {
        attributes: identity.attributes,
        ..client()
    }
}

#[test]
fn a_list_too_large_for_attributes_is_refused() {
    let topics: Vec<String> = (0..100).map(|n| format!("{n}/{}", "x".repeat(130))).collect();
    let large = Granted {
        expires_at_s: None,
        list: Some(json!({"all": topics}).to_string()),
    };
    let error = large.attach("x", Identity::default()).unwrap_err();
    assert!(error.contains("at most 12288"), "{error}");
}

#[test]
fn rights_end_when_they_say() {
    testing::set_clock_ms(50_000);
    let mut rights = Rights::new("x");
    let client = granted(Some(60), Some(r#"{"all": ["a", "$x/y"]}"#));
    assert!(rights.are_of(&client));
    let list = rights.list(&client).unwrap();
    let asked = rights.rules(&client, &[&list]);
    let expected = ["#", "$SYS/#", "$x/#"].map(|filter| Rule::ask().topic(filter));
    assert_eq!(asked, expected);
    let ask = request(Action::Publish, "a", 0, false);
    assert_eq!(
        rights.decide(&client, &ask, &[&list]),
        Verdict::allow().cache(Duration::from_secs(10))
    );
    testing::set_clock_ms(60_000);
    assert_eq!(rights.decide(&client, &ask, &[&list]).decision, Decision::Deny);
    assert_eq!(testing::counter("requests_after_expiry"), 1);
}

#[test]
fn what_was_attached_by_nobody_known_denies() {
    let mut rights = Rights::new("x");
    let odd = client().with_attribute("x.exp", "soon").with_attribute("x.acl", "all");
    assert_eq!(rights.expires_at_s(&odd), Some(0));
    let list = rights.list(&odd).unwrap();
    assert_eq!(list.decide(&odd, &request(Action::Publish, "a", 0, false)), DENY);
    assert!(!rights.are_of(&client()));
    assert!(rights.list(&client()).is_none());
}

#[test]
fn parsed_lists_are_bounded() {
    let mut rights = Rights::new("x");
    for n in 0..1000 {
        let client = granted(None, Some(&format!(r#"{{"all": ["{n}"]}}"#)));
        let list = rights.list(&client).unwrap();
        assert_eq!(
            list.decide(&client, &request(Action::Publish, &n.to_string(), 0, false)),
            ALLOW
        );
    }
    assert!(rights.parsed.len() <= crate::MAX_PARSED_LISTS);
    assert_eq!(testing::counter("access_lists_forgotten"), 3);
}
