use super::Acl;
use nervewire_plugin_sdk::{Action, Decision, prelude::*, testing};

fn rules(config: &str, client: &Client) -> Vec<Rule> {
    testing::load::<Acl>(config).unwrap().rules(client).unwrap()
}

fn check_topics(rule: &str, client: &Client, expected: &[&str]) {
    let rules = rules(&format!(r#"{{"rules": [{rule}]}}"#), client);
    let topics: Vec<_> = rules.iter().map(|rule| rule.topic_filter.as_str()).collect();
    assert_eq!(topics, expected, "{rule}");
}

#[test]
fn rules_keep_their_order_and_say_what_was_written() {
    let config = r#"{"rules": [
        {"allow": "both", "topics": ["dev/${client_id}/#", "common"]},
        {"deny": "publish", "topics": ["cmd/#"], "max_qos": 1, "retain": true},
        {"allow": "all", "topics": ["$SYS/#"]},
        {"deny": "deliver", "topics": ["secret"]},
        {"allow": "subscribe", "topics": ["+"]}
    ]}"#;
    let expected = vec![
        Rule::allow().publish().subscribe().topic("dev/7/#"),
        Rule::allow().publish().subscribe().topic("common"),
        Rule::deny()
            .publish()
            .topic("cmd/#")
            .max_qos(Qos::AtLeastOnce)
            .retain(true),
        Rule::allow().topic("$SYS/#"),
        Rule::deny().deliver().topic("secret"),
        Rule::allow().subscribe().topic("+"),
    ];
    assert_eq!(rules(config, &testing::client("7")), expected);
}

#[test]
fn names_of_the_client_are_substituted() {
    let client = testing::client("7")
        .with_username("ann")
        .with_attribute("site", "north");
    check_topics(
        r#"{"allow": "all", "topics": ["${attr.site}/${username}/${client_id}"]}"#,
        &client,
        &["north/ann/7"],
    );
    check_topics(
        r#"{"allow": "all", "topics": ["dev-${client_id}/#"]}"#,
        &client,
        &["dev-7/#"],
    );
    check_topics(
        r#"{"allow": "all", "topics": ["${attr.none}/#", "rest"]}"#,
        &client,
        &["rest"],
    );
}

#[test]
fn no_name_widens_a_rule() {
    let rule =
        r#"{"allow": "all", "topics": ["dev/${client_id}/#", "dev-${client_id}/#", "u/${username}", "a/${attr.a}"]}"#;
    for name in ["+", "#", "a/b", "a/#", "", "a\u{7}", "\u{0}", "+a"] {
        let client = testing::client(name).with_username(name).with_attribute("a", name);
        check_topics(rule, &client, &[]);
    }
    let hidden = testing::client("$SYS");
    check_topics(
        r#"{"allow": "all", "topics": ["${client_id}/#", "x/${client_id}"]}"#,
        &hidden,
        &["x/$SYS"],
    );
    let nested = testing::client("${username}").with_username("ann");
    check_topics(r#"{"allow": "all", "topics": ["${client_id}"]}"#, &nested, &[]);
}

#[test]
fn conditions_select_clients() {
    let client = testing::client("sensor-7")
        .with_username("dashboard-2")
        .with_attribute("role", "admin");
    let check = |condition: &str, applies: bool| {
        let expected: &[&str] = if applies { &["t"] } else { &[] };
        check_topics(
            &format!(r#"{{"allow": "all", "topics": ["t"], {condition}}}"#),
            &client,
            expected,
        );
    };
    check(r#""user": "dashboard-*""#, true);
    check(r#""user": "dashboard""#, false);
    check(r#""client": "sensor-*""#, true);
    check(r#""client": "pump-*""#, false);
    check(r#""client": "sensor-*", "user": "root""#, false);
    check(r#""attributes": {"role": "admin"}"#, true);
    check(r#""attributes": {"role": "adm*"}"#, true);
    check(r#""attributes": {"role": "guest"}"#, false);
    check(r#""attributes": {"role": "admin", "site": "*"}"#, false);
    let nameless = testing::client("7");
    check_topics(r#"{"allow": "all", "topics": ["t"], "user": "*"}"#, &nameless, &[]);
}

fn check_refused(rules: &str, expected: &str) {
    let error = testing::load::<Acl>(&format!(
        r#"{{"rules": [{{"allow": "all", "topics": ["a"]}}, {rules}]}}"#
    ));
    assert_eq!(error.map(|_| ()), Err(expected.to_owned()), "{rules}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_number() {
    check_refused(
        r#"{"allow": "all", "deny": "all", "topics": ["a"]}"#,
        "config.rules, entry 2: write either allow = \"...\" or deny = \"...\"",
    );
    check_refused(
        r#"{"topics": ["a"]}"#,
        "config.rules, entry 2: write either allow = \"...\" or deny = \"...\"",
    );
    check_refused(r#"{"allow": "all"}"#, "config.rules, entry 2: missing field `topics`");
    check_refused(
        r#"{"allow": "all", "topics": []}"#,
        "config.rules, entry 2: topics is empty, write at least one topic filter, such as \"#\"",
    );
    check_refused(
        r#"{"allow": "write", "topics": ["a"]}"#,
        "config.rules, entry 2, allow: unknown variant `write`, expected one of `publish`, `subscribe`, `deliver`, `both`, `all`",
    );
    check_refused(
        r#"{"allow": "all", "topic": ["a"]}"#,
        "config.rules, entry 2, topic: unknown field `topic`, expected one of `allow`, `deny`, `topics`, `user`, `client`, `attributes`, `max_qos`, `retain`",
    );
    check_refused(
        r#"{"allow": "all", "topics": ["a"], "max_qos": 3}"#,
        "config.rules, entry 2: max_qos = 3, write 0, 1 or 2",
    );
    check_refused(
        r#"{"allow": "all", "topics": ["a/${clientid}"]}"#,
        "config.rules, entry 2: unknown variable `${clientid}`, write ${client_id}, ${username} or ${attr.NAME}",
    );
    check_refused(
        r#"{"allow": "all", "topics": ["a/${client_id"]}"#,
        "config.rules, entry 2: `a/${client_id` has a `${` without its `}`",
    );
    check_refused(
        r#"{"allow": "all", "topics": ["$share/g/a"]}"#,
        "config.rules, entry 2: `$share/g/a`: rules apply to the filter behind $share/GROUP/, write that",
    );
    for filter in ["a/#/b", "+${client_id}/b", "#${client_id}", ""] {
        let refused = testing::load::<Acl>(&format!(r#"{{"rules": [{{"allow": "all", "topics": ["{filter}"]}}]}}"#));
        assert!(refused.unwrap_err().contains("is no topic filter"), "{filter}");
    }
}

#[test]
fn a_table_without_rules_is_refused_and_an_empty_list_abstains() {
    assert_eq!(
        testing::load::<Acl>("{}").map(|_| ()),
        Err("config: missing field `rules`".to_owned())
    );
    assert_eq!(rules(r#"{"rules": []}"#, &testing::client("7")), []);
}

#[test]
fn more_rules_than_the_broker_takes_are_refused() {
    let load = |head: &str, filters: Vec<String>| {
        let topics = format!("\"{}\"", filters.join("\", \""));
        testing::load::<Acl>(&format!(
            r#"{{"rules": [{{"allow": "all", {head} "topics": [{topics}]}}]}}"#
        ))
        .map(|_| ())
    };
    let filters = |number: usize| (0..number).map(|n| format!("{n:04}/#")).collect();
    assert_eq!(load("", filters(1_024)), Ok(()));
    assert_eq!(
        load("", filters(1_025)),
        Err(
            "config.rules: 1025 topic filters of 6150 bytes are about every client, and the broker takes 1024 of 65536 bytes; \
             write wildcards, or say with user, client or attributes whom a rule is about"
                .to_owned()
        )
    );
    let long = |bytes: usize| vec!["x".repeat(bytes / 4); 4];
    assert_eq!(load("", long(65_536)), Ok(()));
    assert!(
        load("", long(65_540))
            .unwrap_err()
            .contains("4 topic filters of 65540 bytes")
    );
    // How many of these are about one client is not known before it comes.
    assert_eq!(load(r#""user": "a*","#, filters(1_025)), Ok(()));
    let of_each = (0..1_025).map(|n| format!("{n}/${{client_id}}")).collect();
    assert_eq!(load("", of_each), Ok(()));
}

#[test]
fn asked_about_one_request_it_says_what_the_rules_say() {
    let mut plugin: Acl = testing::load(
        r##"{"rules": [
            {"deny": "publish", "topics": ["cmd/#"], "retain": true},
            {"allow": "both", "topics": ["cmd/+", "dev/${client_id}/#"], "max_qos": 1},
            {"deny": "deliver", "topics": ["log"]},
            {"allow": "subscribe", "user": "ann", "topics": ["#"]}
        ]}"##,
    )
    .unwrap();
    let mut check = |action, topic: &str, qos, retain, expected| {
        let request = Request {
            action,
            topic: topic.to_owned(),
            qos,
            retain,
        };
        let client = testing::client("7").with_username("ann");
        assert_eq!(plugin.authorize(&client, &request).decision, expected, "{request:?}");
    };
    use Action::{Deliver, Publish, Subscribe};
    use Decision::{Abstain, Allow, Deny};
    check(Publish, "cmd/x", Qos::AtMostOnce, true, Deny);
    check(Publish, "cmd/x", Qos::AtLeastOnce, false, Allow);
    check(Publish, "cmd/x", Qos::ExactlyOnce, false, Abstain);
    check(Publish, "dev/7/x", Qos::AtMostOnce, true, Allow);
    check(Publish, "dev/8/x", Qos::AtMostOnce, false, Abstain);
    check(Subscribe, "dev/7/+", Qos::AtMostOnce, false, Allow);
    check(Subscribe, "dev/+/x", Qos::ExactlyOnce, false, Allow);
    check(Deliver, "log", Qos::AtMostOnce, false, Deny);
    check(Deliver, "cmd/x", Qos::AtMostOnce, true, Allow);
}
