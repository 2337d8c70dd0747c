//! What runs beside the clients, `tick` and `detect`, and what is counted about instances.
#![allow(clippy::unwrap_used)]

mod support;

use nervewire_core::hook::*;
use nervewire_plugin_host::*;
use std::sync::Arc;
use support::*;

fn ticking(name: &str, grants: &[&str], config: &str) -> Arc<Plugin> {
    load_as(
        name,
        PluginSpec {
            config_json: config.to_owned(),
            limits: Limits {
                tick_call_ms: 10_000,
                ..spec("ticking").limits
            },
            ..granted(grants, spec("ticking"))
        },
    )
}

#[test]
fn a_tick_publishes_what_the_grants_cover() {
    let config = r#"{"every": 50, "topic": "alerts/x", "count": 3, "qos": 2, "retain": true}"#;
    let plugin = ticking("granted", &["publish:alerts/#"], config);
    assert_eq!(plugin.tick_ms(), Some(50));
    let mut instance = plugin.instance(Role::Background).unwrap();
    for number in 0..2 {
        let messages = instance.tick(1_700_000_000_000 + number).unwrap();
        assert_eq!(messages.len(), 3);
        for message in messages {
            assert_eq!(&*message.topic, "alerts/x");
            assert_eq!(&*message.payload, number.to_string().as_bytes(), "one instance counts");
            assert_eq!((message.qos as u8, message.retain), (2, true));
            let properties = message.properties.unwrap();
            assert_eq!(
                &*properties.user_properties[0].1,
                (1_700_000_000_000 + number).to_string()
            );
        }
    }
    assert_eq!(plugin.stats().calls(Call::Tick, Outcome::Ok), 2);
    assert_eq!(plugin.stats().refused_grants(), 0);
}

#[test]
fn what_no_grant_covers_is_refused_and_counted() {
    let config = r#"{"every": 50, "topic": "other/x", "count": 3}"#;
    let plugin = ticking("refused", &["publish:alerts/#"], config);
    let mut instance = plugin.instance(Role::Background).unwrap();
    assert_eq!(instance.tick(1), Ok(Vec::new()));
    assert_eq!(plugin.stats().refused_grants(), 3);
    // A wildcard does not reach the broker's own topics.
    let plugin = ticking("refused-dollar", &["publish:#"], r#"{"every": 50, "topic": "$SYS/x"}"#);
    assert_eq!(plugin.instance(Role::Background).unwrap().tick(1), Ok(Vec::new()));
    assert_eq!(plugin.stats().refused_grants(), 1);
}

#[test]
fn a_tick_is_bounded_in_messages_and_in_time_and_must_answer_sense() {
    let config = format!(r#"{{"every": 50, "topic": "t", "count": {}}}"#, MAX_TICK_MESSAGES + 5);
    let plugin = ticking("many", &["publish:#"], &config);
    let messages = plugin.instance(Role::Background).unwrap().tick(1).unwrap();
    assert_eq!(messages.len(), MAX_TICK_MESSAGES);
    assert_eq!(plugin.stats().tick_messages_dropped(), 5);

    let plugin = ticking("wild", &["publish:#"], r##"{"every": 50, "topic": "a/#"}"##);
    assert_eq!(plugin.instance(Role::Background).unwrap().tick(1), Err(CallFailed));
    assert_eq!(plugin.stats().calls(Call::Tick, Outcome::Invalid), 1);

    let looping = PluginSpec {
        config_json: r#"{"every": 50, "loop": true}"#.to_owned(),
        limits: Limits {
            tick_call_ms: 50,
            ..spec("ticking").limits
        },
        ..spec("ticking")
    };
    let plugin = load_as("looping", looping);
    assert_eq!(plugin.instance(Role::Background).unwrap().tick(1), Err(CallFailed));
    assert_eq!(plugin.stats().calls(Call::Tick, Outcome::Timeout), 1);
    assert_eq!(plugin.stats().instances_replaced(), 1);
}

fn window(client_id: &str, username: Option<&str>, denials: u32) -> Window {
    Window {
        client_id: client_id.into(),
        username: username.map(Into::into),
        address: "2001:db8::7".parse().unwrap(),
        started_unix_ms: 1_700_000_000_000,
        length_ms: 10_000,
        messages_in: 1,
        messages_out: 2,
        bytes_in: 3,
        bytes_out: 4,
        distinct_topics: 5,
        denials,
        malformed_packets: 6,
        failed_logins: 7,
        connects: 8,
        payload_bytes_min: 9,
        payload_bytes_max: 10,
        payload_bytes_mean: 9.5,
        payload_bytes_deviation: 0.5,
    }
}

#[test]
fn a_detector_gets_windows_and_answers_findings() {
    let plugin = ticking("detector", &[], "{}");
    let mut instance = plugin.instance(Role::Background).unwrap();
    let windows = [
        window("quiet", None, 0),
        window("alert", None, 3),
        window("slow", Some("throttle"), 1),
        window("off", Some("disconnect"), 1),
        window("out", Some("ban"), 1),
    ];
    let findings = instance.detect(&windows).unwrap();
    let found: Vec<_> = findings.iter().map(|f| (&*f.client_id, f.response)).collect();
    let expected = [
        ("alert", Response::Alert),
        ("slow", Response::Throttle(7)),
        ("off", Response::Disconnect),
        ("out", Response::Ban(60)),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        findings[0].evidence,
        "3 denials from 2001:db8::7 in 10000 ms since 1700000000000, mean payload 9.5"
    );
    assert_eq!(instance.detect(&[]), Ok(Vec::new()));
    assert_eq!(plugin.stats().calls(Call::Detect, Outcome::Ok), 2);
}

#[test]
fn instances_and_their_memory_are_counted_while_they_live() {
    let plugin = load_as("counted", spec("plain"));
    let stats = plugin.stats();
    assert_eq!((stats.instances(), stats.memory_bytes()), (0, 0), "trials are gone");
    let one = plugin.instance(Role::Shard).unwrap();
    let of_one = stats.memory_bytes();
    assert!(of_one >= 65_536, "{of_one} bytes");
    let two = plugin.instance(Role::Authenticate).unwrap();
    assert_eq!((stats.instances(), stats.memory_bytes()), (2, 2 * of_one));
    drop((one, two));
    assert_eq!((stats.instances(), stats.memory_bytes()), (0, 0));
}

#[test]
fn a_plugin_that_is_used_again_has_its_kv_under_its_name_again() {
    let (host, _) = host_with_clock();
    let counting = || granted(&["kv", "random"], spec("counting"));
    let count = |plugin: &Arc<Plugin>| {
        let answer = plugin
            .instance(Role::Shard)
            .unwrap()
            .transform(&client("c"), &message("count"));
        match answer {
            Ok(Transformation::Replace(message)) => String::from_utf8_lossy(&message.payload).into_owned(),
            other => panic!("{other:?}"),
        }
    };
    let old = host.load(counting()).unwrap();
    assert_eq!(count(&old), "Ok(1)");
    assert_eq!(count(&host.load(counting()).unwrap()), "Ok(2)", "kept across swaps");
    host.retain(|_| false);
    assert_eq!(
        count(&host.load(counting()).unwrap()),
        "Ok(1)",
        "a removed plugin's is forgotten"
    );
    host.keep(&old);
    assert_eq!(count(&host.load(counting()).unwrap()), "Ok(3)");
}
