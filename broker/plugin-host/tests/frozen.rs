//! The contract `nervewire:plugin@0.1.0` stays what it was on the day it was frozen: a component of that day loads and answers as
//! it did, and `wit/` defines the same. The policy is in `wit/README.md`.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use nervewire_codec::{QoS, ReasonCode, Utf8String};
use nervewire_core::hook::*;
use nervewire_core::policy::RequestRef;
use nervewire_plugin_host::{Hook, Instance, LoadError, PluginSpec, Role, StartError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use support::*;

/// SHA-256 of [`definitions`] without those of [`ADDED`], on that day.
const FROZEN_0_1_0: &str = "3e5fff3dda2ecbe9ee513ad5f413e0cfafea7ea8c3e76866d72123e15765890f";
/// SHA-256 of all [`definitions`] on the day 0.1.1 was frozen.
const FROZEN_0_1_1: &str = "29354b3f0c37bfb2782301b0af6b191a7d8b3da266c20b382e1f0afe3ec3b3f8";
/// What came with 0.1.1.
const ADDED: [&str; 1] = ["batch.wit"];

#[test]
fn wit_defines_what_it_defined_when_it_was_frozen() {
    let frozen = |without: &[&str], version, frozen_digest| {
        // The version stands in every file.
        let definitions = definitions(without).replace("@0.1.1;", &format!("@{version};"));
        let digest: String = Sha256::digest(definitions)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            digest, frozen_digest,
            "a definition in wit/ has changed, but nervewire:plugin@{version} is frozen: components that exist would not load \
             any more. Only comments may change there. What is to be added or to be different begins a new version: \
             wit/README.md"
        );
    };
    frozen(&ADDED, "0.1.0", FROZEN_0_1_0);
    frozen(&[], "0.1.1", FROZEN_0_1_1);
}

/// Everything in `wit/`, without some of its files, but comments, white space and the commas before a closing brace.
fn definitions(without: &[&str]) -> String {
    let mut files: Vec<PathBuf> = std::fs::read_dir(repository().join("wit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wit"))
        .filter(|path| without.iter().all(|name| !path.ends_with(name)))
        .collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    let code: String = texts
        .flat_map(|text| text.lines().map(code).collect::<Vec<_>>())
        .collect();
    code.replace(",}", "}")
}

fn code(line: &str) -> String {
    let code = line.split("//").next().unwrap_or_default();
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn comments_and_layout_are_no_definitions() {
    let line = "    get: func(key: string) -> option<list<u8>>; // The value.";
    assert_eq!(code(line), "get:func(key:string)->option<list<u8>>;");
    assert_eq!(code("    /// The value of a key."), "");
}

#[test]
fn the_component_of_the_day_of_the_freeze_answers_as_it_did() {
    check_answers(&frozen("0.1.0"));
}

/// The source beside it still says the same when it is built today.
#[test]
fn the_same_source_built_today_answers_alike() {
    check_answers(&spec("frozen"));
}

/// What 0.1.1 added, by a component of the day on which that was frozen, and by the same source built today.
#[test]
fn the_component_of_the_day_that_0_1_1_was_frozen_takes_several_questions() {
    for spec in [frozen("0.1.1"), spec("batching")] {
        let mut instance = load(spec).instance(Role::Shard).unwrap();
        let requests = ["mine/c1", "no/1", "maybe"].map(request);
        let verdicts = instance.authorize_all(&known_client(), &requests.each_ref().map(RequestRef::from));
        let decisions: Vec<Decision> = verdicts.unwrap().iter().map(|verdict| verdict.decision).collect();
        assert_eq!(decisions, [Decision::Allow, Decision::Deny, Decision::Abstain]);
        let messages = ["replace/1", "drop"].map(message);
        let outcomes = instance.transform_all(&known_client(), &messages.each_ref().map(AppMessageRef::from));
        let replaced = AppMessage {
            payload: Bytes::from_static(b"daolyap"),
            ..message("c1/replace/1")
        };
        assert_eq!(
            outcomes.unwrap(),
            Transformations::from_iter([Transformation::Replace(replaced), Transformation::Drop])
        );
    }
}

/// A component whose every answer is known.
fn check_answers(spec: &PluginSpec) {
    let spec = PluginSpec {
        config_json: r#"{"tick":true}"#.to_owned(),
        ..granted(&["kv", "random", "publish:ticks"], spec.clone())
    };
    let plugin = load(spec.clone());
    authenticates(&mut plugin.instance(Role::Authenticate).unwrap());
    let mut on_a_shard = plugin.instance(Role::Shard).unwrap();
    authorizes(&mut on_a_shard);
    transforms(&mut on_a_shard);
    assert_eq!(plugin.hooks(), Hook::ALL);
    assert_eq!(plugin.tick_ms(), Some(1000));
    let mut in_the_background = plugin.instance(Role::Background).unwrap();
    ticks(&mut in_the_background);
    detects(&mut in_the_background);
    assert_eq!(plugin.stats().counters(), [("asked".into(), 6)]);
    refuses_its_configuration(spec);
}

fn ticks(instance: &mut Instance) {
    let messages = instance.tick(1_700_000_000_000).unwrap();
    let [message] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!((&*message.topic, message.retain), ("ticks", true));
    assert_eq!(message.payload, "1700000000000");
}

fn detects(instance: &mut Instance) {
    let window = |client_id: &str| Window {
        client_id: client_id.into(),
        username: Some("ursula".into()),
        address: [192, 0, 2, 1].into(),
        started_unix_ms: 1,
        length_ms: 2,
        messages_in: 3,
        messages_out: 4,
        bytes_in: 5,
        bytes_out: 6,
        distinct_topics: 7,
        denials: 8,
        malformed_packets: 9,
        failed_logins: 10,
        connects: 11,
        payload_bytes_min: 12,
        payload_bytes_max: 13,
        payload_bytes_mean: 1.4,
        payload_bytes_deviation: 1.5,
    };
    let windows = ["alert", "calm", "throttle", "disconnect", "ban"].map(window);
    let finding = |client_id: &str, response| Finding {
        client_id: client_id.into(),
        response,
        evidence: "ursula 192.0.2.1 1 2 3 4 5 6 7 8 9 12 13 14 15".to_owned(),
    };
    let expected = [
        finding("alert", Response::Alert),
        finding("throttle", Response::Throttle(11)),
        finding("disconnect", Response::Disconnect),
        finding("ban", Response::Ban(10)),
    ];
    assert_eq!(instance.detect(&windows).unwrap(), expected);
}

fn frozen(version: &str) -> PluginSpec {
    let file = repository().join(format!("tests/frozen/plugin-{version}.wasm"));
    PluginSpec {
        name: format!("frozen-day {version}"),
        component: std::fs::read(file).unwrap().into(),
        ..spec("plain")
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn refuses_its_configuration(spec: PluginSpec) {
    let config_json = r#"{"refuse":1}"#.to_owned();
    let files = vec![("users".to_owned(), b"ann".to_vec())];
    let refused = host().load(PluginSpec {
        config_json,
        files,
        ..spec
    });
    let Err(LoadError::Start(StartError::Refused(words))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(words, r#"refused {"refuse":1} and 1 files"#);
}

fn authenticates(instance: &mut Instance) {
    let mut answer = |credentials| instance.authenticate(&known_client(), &credentials).unwrap();
    let state = Some(Bytes::from_static(b"state"));
    let allowed = answer(Credentials {
        state: state.clone(),
        ..credentials("ann", "secret")
    });
    let facts = "c1 2001:db8::7 4711 127.0.0.1:1883 Protocol::Mqtt5 CN=c1,O=Acme";
    let identity = Identity {
        username: Some("ann/6".into()),
        attributes: vec![("facts".into(), facts.into())],
        tenant: Some("lab".into()),
        quotas: Quotas {
            publish_rate_per_s: Some(1),
            queue_messages: Some(2),
            queue_bytes: Some(3),
            subscriptions: None,
        },
        data: state,
    };
    assert_eq!(allowed, Authentication::Allow(identity));
    assert_eq!(
        answer(credentials("mallory", "")),
        Authentication::Deny(ReasonCode::Banned)
    );
    assert_eq!(
        answer(credentials("guess", "")),
        Authentication::Deny(ReasonCode::BadUserNameOrPassword)
    );
    let challenge = answer(Credentials {
        method: Some(text("SCRAM")),
        data: Some(Bytes::from_static(b"first")),
        ..credentials("more", "")
    });
    let (data, state) = (Bytes::from_static(b"SCRAM"), Bytes::from_static(b"first"));
    assert_eq!(challenge, Authentication::Challenge { data, state });
    assert_eq!(answer(Credentials::default()), Authentication::Abstain);
}

fn authorizes(instance: &mut Instance) {
    assert_eq!(instance.rules(&client("other")).unwrap(), None);
    let rule = |effect, [publish, subscribe, deliver]: [bool; 3], filter: &str, max_qos, retain| Rule {
        effect,
        actions: Actions {
            publish,
            subscribe,
            deliver,
        },
        topic_filter: filter.to_owned(),
        max_qos,
        retain,
    };
    let rules = [
        rule(Effect::Allow, [true, false, false], "a/#", QoS::AtLeastOnce, Some(true)),
        rule(Effect::Ask, [false, true, true], "+", QoS::ExactlyOnce, None),
        rule(Effect::Deny, [true, true, true], "#", QoS::AtMostOnce, Some(false)),
    ];
    assert_eq!(instance.rules(&client("ruled")).unwrap().as_deref(), Some(&rules[..]));

    let mut check = |action, decision, [client_matters, user, topic]: [bool; 3]| {
        let asked = Request {
            action,
            ..request("four")
        };
        let verdict = instance.authorize(&client("c"), &asked).unwrap();
        let shown = (verdict.decision, verdict.cache_ms);
        assert_eq!(shown, (decision, 4), "{action:?}");
        let depends_on = (
            verdict.depends_on_client,
            verdict.depends_on_user,
            verdict.depends_on_topic,
        );
        assert_eq!(depends_on, (client_matters, user, topic), "{action:?}");
    };
    check(Action::Publish, Decision::Allow, [true, false, true]);
    check(Action::Subscribe, Decision::Deny, [false, true, false]);
    check(Action::Deliver, Decision::Abstain, [false, false, false]);
}

fn transforms(instance: &mut Instance) {
    let mut answer = |topic| instance.transform(&client("c7"), &message(topic)).unwrap();
    assert_eq!(answer("other"), Transformation::Pass);
    assert_eq!(answer("drop"), Transformation::Drop);
    assert_eq!(
        answer("reject"),
        Transformation::Reject(ReasonCode::PayloadFormatInvalid)
    );
    let Transformation::Emit(parts) = answer("emit") else {
        panic!("it emits");
    };
    let parts: Vec<_> = parts.iter().map(|part| (&*part.topic, &part.payload[..])).collect();
    assert_eq!(parts, [("one", &[1][..]), ("two", &[][..])]);

    let Transformation::Replace(host) = answer("host") else {
        panic!("it replaces");
    };
    assert_eq!(host.payload, "5 true Error::NotANumber true true true 16 true");

    let Transformation::Replace(replaced) = answer("replace") else {
        panic!("it replaces");
    };
    let properties = replaced.properties.as_deref().unwrap();
    assert_eq!((&*replaced.topic, &replaced.payload[..]), ("replaced", &b"daolyap"[..]));
    assert_eq!((replaced.qos, replaced.retain), (QoS::ExactlyOnce, true));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.response_topic.as_deref(), Some("answers"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&[7][..]));
    assert_eq!(properties.message_expiry_interval, Some(60));
    let pairs: Vec<(Utf8String, Utf8String)> = vec![(text("by"), text("c7"))];
    assert_eq!(properties.user_properties, pairs);
}
