//! Each hook, there and back: what the broker knows reaches the guest, what the guest answers reaches the broker.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use nervewire_codec::{Properties, QoS, ReasonCode};
use nervewire_core::hook::*;
use nervewire_plugin_host::{Call, Hook, Instance, Outcome, PluginSpec, Role};
use std::sync::Arc;
use support::*;

fn plain(role: Role) -> Instance {
    load(spec("plain")).instance(role).unwrap()
}

#[test]
fn every_fact_about_a_client_reaches_the_authenticator() {
    let files = vec![
        ("users".to_owned(), b"alice:secret".to_vec()),
        ("empty".to_owned(), Vec::new()),
    ];
    let config_json = r#"{"min_length":8}"#.to_owned();
    let plugin = load_as(
        "facts",
        PluginSpec {
            files,
            config_json,
            ..spec("plain")
        },
    );
    let mut instance = plugin.instance(Role::Authenticate).unwrap();
    let Ok(Authentication::Allow(identity)) = instance.authenticate(&known_client(), &credentials("alice", "secret"))
    else {
        panic!("alice is let in");
    };
    assert_eq!(identity.username.as_deref(), Some("alice"));
    assert_eq!(identity.tenant.as_deref(), Some("acme"));
    let quotas = Quotas {
        publish_rate_per_s: Some(10),
        queue_messages: None,
        queue_bytes: Some(1 << 33),
        subscriptions: Some(3),
    };
    assert_eq!(identity.quotas, quotas);
    let facts = "c1 Some(\"ursula\") 2001:db8::7 4711 127.0.0.1:1883 Protocol::Mqtt5 Some(\"CN=c1,O=Acme|CN=CA|Some(\\\"c1\\\")|\
                 c1.example,c1@example|0a|ff00|-5|4000000000\") [\"role=admin\", \"site=Zürich\"] Some(\"acme\")";
    let init = "{\"min_length\":8} users=alice:secret empty=";
    assert_eq!(
        identity.attributes,
        [("client".into(), facts.into()), ("init".into(), init.into())]
    );
}

#[test]
fn an_authenticator_lets_in_refuses_and_abstains() {
    let mut instance = plain(Role::Authenticate);
    let mut check = |user, password, expected: Option<Authentication>| {
        let answer = instance
            .authenticate(&client("c"), &credentials(user, password))
            .unwrap();
        match expected {
            Some(expected) => assert_eq!(answer, expected, "{user}"),
            None => assert!(matches!(answer, Authentication::Allow(_)), "{user}"),
        }
    };
    check("alice", "secret", None);
    check(
        "alice",
        "wrong",
        Some(Authentication::Deny(ReasonCode::BadUserNameOrPassword)),
    );
    check("mallory", "", Some(Authentication::Deny(ReasonCode::Banned)));
    check("bob", "secret", Some(Authentication::Abstain));
}

#[test]
fn a_challenge_hands_its_state_from_one_instance_to_the_next() {
    let plugin = load(spec("plain"));
    let step = |credentials: &Credentials| {
        plugin
            .instance(Role::Authenticate)
            .unwrap()
            .authenticate(&client("c"), credentials)
            .unwrap()
    };
    let first = Credentials {
        method: Some(text("ECHO")),
        ..Credentials::default()
    };
    let Authentication::Challenge { data, state } = step(&first) else {
        panic!("a challenge")
    };
    assert_eq!(data, "say please");
    let answer = |data: &'static str| Credentials {
        data: Some(data.into()),
        state: Some(state.clone()),
        ..first.clone()
    };
    let Authentication::Allow(identity) = step(&answer("please")) else {
        panic!("let in")
    };
    assert_eq!(
        (identity.username.as_deref(), identity.data),
        (Some("echo"), Some(Bytes::from("welcome")))
    );
    assert_eq!(step(&answer("now")), Authentication::Deny(ReasonCode::NotAuthorized));
}

#[test]
fn rules_are_answered_in_order() {
    let mut instance = plain(Role::Shard);
    assert_eq!(instance.rules(&client("other")), Ok(None));
    let actions = |publish, subscribe, deliver| Actions {
        publish,
        subscribe,
        deliver,
    };
    let rule = |effect, actions, filter: &str, max_qos, retain| Rule {
        effect,
        actions,
        topic_filter: filter.to_owned(),
        max_qos,
        retain,
    };
    let expected = vec![
        rule(
            Effect::Allow,
            actions(true, true, false),
            "dev/ruled/#",
            QoS::ExactlyOnce,
            None,
        ),
        rule(
            Effect::Ask,
            actions(false, false, true),
            "ask/#",
            QoS::AtLeastOnce,
            Some(true),
        ),
        rule(
            Effect::Deny,
            actions(true, true, true),
            "#",
            QoS::AtMostOnce,
            Some(false),
        ),
    ];
    assert_eq!(instance.rules(&client("ruled")), Ok(Some(expected)));
}

#[test]
fn a_request_reaches_the_authorizer_and_its_verdict_comes_back() {
    let mut instance = plain(Role::Shard);
    let mut check = |action, topic: &str, qos, retain, decision, cache_ms, depends_on: [bool; 3]| {
        let request = Request {
            action,
            topic: text(topic),
            qos,
            retain,
        };
        let [depends_on_client, depends_on_user, depends_on_topic] = depends_on;
        let expected = Verdict {
            decision,
            cache_ms,
            depends_on_client,
            depends_on_user,
            depends_on_topic,
        };
        assert_eq!(instance.authorize(&known_client(), &request), Ok(expected), "{topic}");
    };
    let (c, u, t) = ([true, false, true], [false, true, true], [false, false, true]);
    check(
        Action::Publish,
        "yes/1",
        QoS::AtMostOnce,
        false,
        Decision::Allow,
        4_711,
        c,
    );
    check(
        Action::Subscribe,
        "no/#",
        QoS::AtLeastOnce,
        false,
        Decision::Deny,
        104_711,
        u,
    );
    check(
        Action::Deliver,
        "maybe",
        QoS::ExactlyOnce,
        true,
        Decision::Abstain,
        1_204_711,
        t,
    );
}

fn full_message(topic: &str) -> AppMessage {
    let properties = Properties {
        payload_format_indicator: Some(true),
        message_expiry_interval: Some(60),
        content_type: Some(text("text/plain")),
        response_topic: Some(text("answers/here")),
        correlation_data: Some(Bytes::from_static(&[0, 1, 2])),
        user_properties: vec![(text("k"), text("1")), (text("k"), text("2")), (text(""), text(""))],
        ..Properties::default()
    };
    AppMessage {
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: Some(Arc::new(properties)),
        ..message(topic)
    }
}

#[test]
fn a_message_survives_the_way_there_and_back() {
    let mut instance = plain(Role::Shard);
    for message in [
        message("echo"),
        full_message("echo/ü"),
        AppMessage {
            payload: Bytes::new(),
            ..message("echo")
        },
    ] {
        assert_eq!(
            instance.transform(&client("c"), &message),
            Ok(Transformation::Replace(message.clone()))
        );
    }
}

#[test]
fn a_transform_passes_replaces_emits_drops_and_rejects() {
    let mut instance = plain(Role::Shard);
    let mut check =
        |message: AppMessage, expected| assert_eq!(instance.transform(&known_client(), &message), Ok(expected));
    check(full_message("a/b"), Transformation::Pass);
    check(full_message("drop/it"), Transformation::Drop);
    check(
        full_message("reject/it"),
        Transformation::Reject(ReasonCode::QuotaExceeded),
    );
    let new = AppMessage {
        topic: text("new/replace/it"),
        qos: QoS::AtLeastOnce,
        ..full_message("x")
    };
    check(full_message("replace/it"), Transformation::Replace(new));
    let part = |n| AppMessage {
        topic: text(&format!("part/{n}")),
        ..full_message("x")
    };
    check(full_message("emit"), Transformation::Emit((0..3).map(part).collect()));
}

#[test]
fn guests_read_the_time_and_count() {
    let plugin = load_as("counting calls", spec("plain"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let Ok(Transformation::Replace(message)) = instance.transform(&client("c"), &message("time")) else {
        panic!("the time")
    };
    let unix_ms: u64 = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
    assert!(unix_ms > 1_700_000_000_000, "{unix_ms}");
    for _ in 0..3 {
        instance.authorize(&client("c"), &request("yes")).unwrap();
    }
    assert!(instance.last_call_ns() > 0);
    assert_eq!(plugin.stats().counters(), [("asked".to_owned(), 3)]);
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Ok), 3);
    assert_eq!(plugin.stats().calls(Call::Transform, Outcome::Ok), 1);
    assert_eq!(plugin.stats().latency(Call::Authorize).buckets.iter().sum::<u64>(), 3);
}

#[test]
fn a_hook_that_is_not_in_use_gives_no_answer() {
    let plugin = load_as(
        "one hook",
        PluginSpec {
            hooks: Some(vec![Hook::Authorize]),
            ..spec("plain")
        },
    );
    assert_eq!(plugin.hooks(), [Hook::Authorize]);
    let mut instance = plugin.instance(Role::Shard).unwrap();
    assert_eq!(instance.transform(&client("c"), &message("a")), Err(CallFailed));
    assert_eq!(plugin.stats().calls(Call::Transform, Outcome::Unavailable), 1);
    assert!(instance.authorize(&client("c"), &request("yes")).is_ok());
}

#[test]
fn instances_work_on_plain_threads_and_inside_tokio() {
    let plugin = load(spec("plain"));
    let work = {
        let plugin = Arc::clone(&plugin);
        move || {
            plugin
                .instance(Role::Shard)
                .unwrap()
                .authorize(&client("c"), &request("yes"))
                .unwrap()
                .decision
        }
    };
    assert_eq!(std::thread::spawn(work.clone()).join().unwrap(), Decision::Allow);
    let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(current.block_on(async { work() }), Decision::Allow);
    let many = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    assert_eq!(
        many.block_on(async { tokio::spawn(async move { work() }).await.unwrap() }),
        Decision::Allow
    );
}

#[test]
fn a_guest_prints_inside_tokio() {
    let plugin = load_as("printing", spec("hostile"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(
        current
            .block_on(async { instance.authorize(&client("c"), &request("print")) })
            .is_ok()
    );
}
