//! `builtin:password`, `builtin:acl` and `builtin:rewrite` together: who gets in, who may do what, and what arrives.

mod support;

use support::*;

const PLUGINS: &str = r##"
[[plugin]]
name = "password"
component = "builtin:password"
files = { users = "passwd" }
limits = { authenticate_call_ms = 10_000 }
[[plugin]]
name = "acl"
component = "builtin:acl"
limits = { call_ms = 1000 }
config.rules = [
  { allow = "both", user = "observer", topics = ["#"] },
  { deny = "publish", topics = ["dev/+/locked/#"] },
  { allow = "both", topics = ["dev/${client_id}/#", "user/${username}/#"] },
  { allow = "subscribe", topics = ["news/#"], max_qos = 1 },
  { allow = "publish", topics = ["legacy/#", "json/#", "tagged"] },
]
[[plugin]]
name = "rewrite"
component = "builtin:rewrite"
grants = ["publish:site/#"]
limits = { call_ms = 1000 }
config.rules = [
  { match = "legacy/+/sensors/#", topic = "site/${1}/${#}" },
  { match = "json/#", json = [{ rename = "tmp", to = "celsius" }, { drop = "debug" }, { scale = "f", factor = 2.0 }] },
  { match = "tagged", tag = { name = "source", value = "rewrite" } },
]
"##;

/// A broker with three users: `alice`, `bob` and `observer`, each with its name as password.
fn broker(shards: u16) -> Broker {
    let setup = Setup::new()
        .shards(shards)
        .auth("anonymous = \"deny\"\ndefault = \"deny\"")
        .toml(PLUGINS);
    for user in ["alice", "bob", "observer"] {
        let file = setup.path("passwd").display().to_string();
        let output = nervewire_with_input(&["passwd", &file, user], &format!("{user}\n"));
        assert!(output.status.success(), "{output:?}");
    }
    setup.start()
}

fn each(test: impl Fn(&Broker)) {
    for shards in SHARD_COUNTS {
        test(&broker(shards));
    }
}

fn each_of_both(test: impl Fn(&Broker, Version)) {
    each(|broker| {
        for version in [Version::V311, Version::V5] {
            test(broker, version);
        }
    });
}

fn enter(broker: &Broker, version: Version, id: &str, user: &str) -> Client {
    Client::connect(broker, login(version, id, user, user)).0
}

/// Somebody who sees every message.
fn observer(broker: &Broker) -> Client {
    let mut client = enter(broker, Version::V5, "observer", "observer");
    client.subscribe("#", QoS::ExactlyOnce);
    client
}

/// The next message the observer sees is this client's own, so that nothing of the attempts before it got through.
#[track_caller]
fn expect_nothing_before_sentinel(client: &mut Client, topic: &str, observer: &mut Client) {
    client.publish(topic, "sentinel", QoS::AtLeastOnce);
    observer.expect_payload("sentinel");
}

/// The byte that refuses: reason code of 5.0, return code of 3.1.1.
fn refusal(broker: &Broker, connect: Connect) -> u8 {
    let mut client = Client::open(broker, connect.version);
    client.send(Packet::Connect(Box::new(connect)));
    let answer = client.recv_bytes();
    assert_eq!(answer[0], 0x20, "CONNACK");
    client.expect_end();
    answer[3]
}

/// 0x86 or 4 for a wrong password as for an unknown user; 0x87 or 5 for those who name nobody.
#[test]
fn wrong_credentials_are_refused() {
    each(|broker| {
        for (version, wrong, nobody) in [(Version::V5, 0x86, 0x87), (Version::V311, 4, 5), (Version::V31, 4, 5)] {
            assert_eq!(refusal(broker, login(version, "c", "alice", "guess")), wrong);
            assert_eq!(refusal(broker, login(version, "c", "alice", "")), wrong);
            assert_eq!(refusal(broker, login(version, "c", "mallory", "mallory")), wrong);
            assert_eq!(refusal(broker, hello(version, "c")), nobody);
            let without_password = Connect {
                username: Some(text("alice")),
                ..hello(version, "c")
            };
            assert_eq!(refusal(broker, without_password), wrong);
            enter(broker, version, "c", "alice").expect_idle();
        }
    });
}

/// [MQTT-3.9.3-1]... 0x87 or 0x80 for the forbidden filter alone.
#[test]
fn a_forbidden_filter_is_refused_alone() {
    each_of_both(|broker, version| {
        let mut client = enter(broker, version, "d1", "alice");
        let filters = ["dev/d1/#", "dev/#", "dev/d2/x", "user/alice/+", "news/today", "#"];
        let answer = client.subscribe_with(
            filters.iter().map(|text| filter(text, QoS::AtLeastOnce)).collect(),
            None,
        );
        let no = if version == Version::V5 { 0x87 } else { 0x80 };
        assert_eq!(codes(&answer.reasons), [1, no, no, 1, 1, no]);
        enter(broker, version, "o", "observer").publish("dev/d2/x", "hidden", QoS::AtLeastOnce);
        enter(broker, version, "o", "observer").publish("dev/d1/x", "seen", QoS::AtLeastOnce);
        client.expect_payload("seen");
    });
}

/// `$share/group/` is taken away before a filter is judged.
#[test]
fn a_shared_subscription_is_judged_by_its_filter() {
    each_of_both(|broker, version| {
        let mut client = enter(broker, version, "d1", "alice");
        let filters = ["$share/g/dev/d1/#", "$share/g/dev/d2/#"]
            .iter()
            .map(|text| filter(text, QoS::AtMostOnce))
            .collect();
        let answer = client.subscribe_with(filters, None);
        assert_eq!(
            codes(&answer.reasons),
            [0, if version == Version::V5 { 0x87 } else { 0x80 }]
        );
    });
}

/// `max_qos = 1` does not allow QoS 2.
#[test]
fn a_rule_holds_up_to_its_qos() {
    each(|broker| {
        let mut client = enter(broker, Version::V5, "d1", "alice");
        for (qos, code) in [(QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 0x87)] {
            assert_eq!(
                codes(&client.subscribe_with(vec![filter("news/x", qos)], None).reasons),
                [code]
            );
        }
    });
}

/// 0x87 in PUBACK and PUBREC under 5.0; 3.1.1 has no word for it; nobody gets it in any case.
#[test]
fn a_forbidden_publish_reaches_nobody() {
    each_of_both(|broker, version| {
        let mut observer = observer(broker);
        let mut client = enter(broker, version, "d1", "alice");
        for topic in ["dev/d2/x", "dev/d1/locked/x", "other"] {
            for qos in QOS {
                let expected = if version == Version::V5 && qos != QoS::AtMostOnce {
                    0x87
                } else {
                    0
                };
                assert_eq!(
                    client.deliver(message(topic, "forbidden", qos)),
                    expected,
                    "{topic} at {qos:?}"
                );
            }
            let retained = Publish {
                retain: true,
                ..message(topic, "forbidden", QoS::AtLeastOnce)
            };
            client.deliver(retained);
        }
        expect_nothing_before_sentinel(&mut client, "dev/d1/x", &mut observer);
        let denied = metric(broker, "nervewire_authorization_denied_total", &[]);
        assert!(denied >= 12.0, "{denied}");
    });
}

/// A name that holds wildcards or separators makes a rule with `${client_id}` match nothing.
#[test]
fn a_client_identifier_cannot_widen_a_rule() {
    each_of_both(|broker, version| {
        for id in ["+", "#", "d2/x", "+/x"] {
            let mut client = enter(broker, version, id, "alice");
            let filters = ["dev/+/x", "dev/#", "dev/d2/x"]
                .iter()
                .map(|text| filter(text, QoS::AtMostOnce))
                .collect();
            let answer = client.subscribe_with(filters, None);
            assert!(
                codes(&answer.reasons).iter().all(|code| *code >= 0x80),
                "{id}: {answer:?}"
            );
        }
    });
}

/// A will is authorized at CONNECT: 0x87 or 5.
#[test]
fn a_forbidden_will_refuses_the_connection() {
    each(|broker| {
        for (version, code) in [(Version::V5, 0x87), (Version::V311, 5)] {
            let last = |topic| Some(Box::new(will(topic, "gone", QoS::AtLeastOnce)));
            let connect = |topic| Connect {
                will: last(topic),
                ..login(version, "d1", "alice", "alice")
            };
            assert_eq!(refusal(broker, connect("dev/d2/will")), code);
            let mut observer = observer(broker);
            drop(Client::connect(broker, connect("dev/d1/will")));
            observer.expect_payload("gone");
        }
    });
}

/// At every QoS, for receivers of both versions.
#[test]
fn a_rewritten_message_arrives_rewritten() {
    each_of_both(|broker, version| {
        let mut observer = observer(broker);
        let mut sender = enter(broker, version, "d1", "alice");
        for qos in QOS {
            sender.publish("legacy/north/sensors/a/b", "x", qos);
            let seen = observer.expect_payload("x");
            assert_eq!((&*seen.topic, seen.qos), ("site/north/a/b", qos));
            sender.publish(
                "json/x",
                r#"{"tmp": 20.5, "debug": [1], "f": 1.25, "kept": "as is"}"#,
                qos,
            );
            let seen: serde_json::Value = serde_json::from_slice(&observer.receive().payload).expect("JSON");
            assert_eq!(seen, serde_json::json!({"celsius": 20.5, "f": 2.5, "kept": "as is"}));
            sender.publish("tagged", "x", qos);
            let seen = observer.expect_payload("x");
            assert_eq!(
                properties(&seen.properties).user_properties,
                [(text("source"), text("rewrite"))]
            );
        }
    });
}

/// A retained message is stored as it was rewritten, under the topic it was given.
#[test]
fn a_retained_message_is_kept_rewritten() {
    each(|broker| {
        enter(broker, Version::V5, "d1", "alice").retain("legacy/north/sensors/t", "x", QoS::AtLeastOnce);
        let mut observer = observer(broker);
        let seen = observer.expect_payload("x");
        assert_eq!((&*seen.topic, seen.retain), ("site/north/t", true));
    });
}

/// 0x99: payload format invalid, and it goes nowhere.
#[test]
fn a_message_that_cannot_be_rewritten_is_rejected_with_its_reason() {
    each_of_both(|broker, version| {
        let mut observer = observer(broker);
        let mut sender = enter(broker, version, "d1", "alice");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let expected = if version == Version::V5 { 0x99 } else { 0 };
            assert_eq!(sender.deliver(message("json/x", "not JSON", qos)), expected);
        }
        expect_nothing_before_sentinel(&mut sender, "dev/d1/x", &mut observer);
    });
}
