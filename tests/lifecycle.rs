//! What plugins do beside answering questions: they tick, keep state, and are taken back when they fail after a reload.

mod support;

use serde_json::Value;
use support::*;

/// `limits` for tests that are about something else than time.
const UNHURRIED: &str = "limits = { call_ms = 1000, tick_call_ms = 10000 }\n";

/// The guest that ticks, with its grants and its configuration.
fn ticking(name: &str, grants: &str, config: &str) -> String {
    format!(
        "[[plugin]]\nname = \"{name}\"\ncomponent = \"ticking.wasm\"\nhooks = [\"transform\"]\n\
         grants = {grants}\nconfig = {{ {config} }}\n{UNHURRIED}"
    )
}

fn setup(shards: u16, keys: &str) -> Setup {
    Setup::new()
        .shards(shards)
        .broker(keys)
        .file("ticking.wasm", guest("ticking"))
        .file("tag.wasm", generation_guest(7))
}

const TAGGER: &str = "[[plugin]]\nname = \"tag\"\ncomponent = \"tag.wasm\"\nlimits = { call_ms = 1000 }\n";

fn status(broker: &Broker) -> Value {
    get(broker, "/v1/status").json()
}

fn plugin(broker: &Broker, name: &str) -> Value {
    let plugins = get(broker, "/v1/plugins").json();
    let plugins = plugins.as_array().expect("a list");
    plugins
        .iter()
        .find(|plugin| plugin["name"] == name)
        .unwrap_or_else(|| panic!("no plugin {name}"))
        .clone()
}

fn user_properties(publish: &Publish) -> Vec<(String, String)> {
    let pair = |(name, value): (Utf8String, Utf8String)| (name.as_str().to_owned(), value.as_str().to_owned());
    properties(&publish.properties)
        .user_properties
        .into_iter()
        .map(pair)
        .collect()
}

/// In the plugin's name: through the transforms after it, not through itself and not through authorization.
#[test]
fn a_tick_is_published_through_the_transforms_after_the_plugin() {
    for (shards, keys) in [(1, IN_MEMORY), (2, IN_MEMORY), (2, ON_DISK)] {
        let config = "every = 20, topic = \"alerts/x\", qos = 1";
        let broker = setup(shards, keys)
            .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
            .toml("[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n")
            .toml("config.rules = [{ allow = \"subscribe\", topics = [\"#\"] }]\n")
            .toml(TAGGER.replace("\"tag\"", "\"before\"").as_str())
            .toml(&ticking("alarm", "[\"publish:alerts/#\"]", config))
            .toml(TAGGER)
            .start();
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("alerts/#", QoS::AtLeastOnce);
        let first: u64 = payload(&client.receive()).parse().expect("a number");
        for number in first + 1..first + 5 {
            let publish = client.expect_payload(&number.to_string());
            assert_eq!(publish.qos, QoS::AtLeastOnce);
            let properties = user_properties(&publish);
            let names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["now", "generation"], "by the plugin, and by the one after it");
        }
        assert!(
            metric(
                &broker,
                "nervewire_plugin_calls_total",
                &[("plugin", "alarm"), ("hook", "tick")]
            ) >= 5.0
        );
        let alarm = plugin(&broker, "alarm");
        assert_eq!(alarm["tick_ms"], 20, "{alarm}");
        assert!(
            alarm["times"]["tick"]["p99_us"].as_f64().is_some_and(|us| us > 0.0),
            "{alarm}"
        );
    }
}

fn payload(publish: &Publish) -> String {
    String::from_utf8_lossy(&publish.payload).into_owned()
}

/// As messages of clients are: retained, queued for sessions that are away, kept by the store.
#[test]
fn ticks_are_retained_queued_and_stored() {
    let config = "every = 20, topic = \"alerts/x\", qos = 2, retain = true, payload = \"alarm\"";
    let broker = setup(2, ON_DISK)
        .toml(&ticking("alarm", "[\"publish:alerts/#\"]", config))
        .start();
    let mut client = Client::connect(&broker, durable(Version::V5, "away")).0;
    client.subscribe("alerts/#", QoS::ExactlyOnce);
    client.expect_payload("alarm");
    drop(client);
    wait_for("a queue", || {
        let info = get(&broker, "/v1/clients/away").json();
        (info["queued_messages"].as_u64() > Some(1)).then_some(())
    });
    // What was retained and queued outlives the broker. In the next one nothing ticks.
    let broker = broker.kill9().0.file("ticking.wasm", guest("plain")).start();
    let mut client = Client::connect(&broker, durable(Version::V5, "away")).0;
    assert_eq!(client.expect_payload("alarm").qos, QoS::ExactlyOnce);
    let mut other = Client::new(&broker, Version::V5, "other");
    other.subscribe("alerts/x", QoS::AtMostOnce);
    assert!(other.expect_payload("alarm").retain);
}

/// Nothing arrives, it is counted, and the log says what to add, once.
#[test]
fn a_tick_without_the_grant_is_refused() {
    let broker = setup(1, IN_MEMORY)
        .toml(&ticking(
            "quiet",
            "[\"publish:alerts/#\"]",
            "every = 20, topic = \"other/x\"",
        ))
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("other/#", QoS::AtMostOnce);
    let refused = || metric(&broker, "nervewire_plugin_refused_grants_total", &[("plugin", "quiet")]);
    wait_for("refused messages", || (refused() >= 3.0).then_some(()));
    client.expect_idle();
    broker.logs("publish:other/x");
    assert_eq!(broker.log().matches("publish:other/x").count(), 1);
}

/// A tick that does not end is stopped, others go on, and what it misses is counted.
#[test]
fn a_tick_that_loops_is_stopped_and_skipped() {
    let looping =
        ticking("looping", "[]", "every = 10, loop = true").replace("tick_call_ms = 10000", "tick_call_ms = 50");
    let broker = setup(1, IN_MEMORY)
        .toml(&looping)
        .toml(&ticking(
            "alarm",
            "[\"publish:alerts/#\"]",
            "every = 10, topic = \"alerts/x\"",
        ))
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("alerts/#", QoS::AtMostOnce);
    for _ in 0..3 {
        client.receive();
    }
    let looping = |name| metric(&broker, name, &[("plugin", "looping")]);
    wait_for("ticks that were skipped", || {
        (looping("nervewire_plugin_ticks_skipped_total") > 0.0).then_some(())
    });
    let timeouts = [("plugin", "looping"), ("hook", "tick"), ("outcome", "timeout")];
    assert!(metric(&broker, "nervewire_plugin_calls_total", &timeouts) >= 1.0);
    assert!(looping("nervewire_plugin_instances_replaced_total") >= 1.0);
}

/// Words of `init` reach whoever starts, checks and reloads.
#[test]
fn what_a_plugin_refuses_is_said_at_start_check_and_reload() {
    let picky = |hooks: &str, config: &str| {
        format!("[[plugin]]\nname = \"door\"\ncomponent = \"picky.wasm\"\n{hooks}config = {{ {config} }}\n{UNHURRIED}")
    };
    let authorize = "hooks = [\"authorize\"]\n";
    let rows = [
        (picky(authorize, "refuse = true"), "line 3: there is no such user"),
        (picky(authorize, "hurry = true"), "the shortest interval is 10 ms"),
        (picky("hooks = [\"transform\"]\n", ""), "transform"),
    ];
    let broker = Setup::new().file("picky.wasm", guest("picky")).start();
    for (toml, words) in rows {
        broker.replace_toml(&toml);
        let reload = broker.reload();
        assert_eq!(reload.status.code(), Some(1));
        let file = broker.path(CONFIGURATION).display().to_string();
        let check = nervewire().args(["check", "--config", &file]).output().expect("check");
        assert_eq!(check.status.code(), Some(2));
        let error = status(&broker)["last_reload"]["error"]
            .as_str()
            .expect("an error")
            .to_owned();
        for text in [
            String::from_utf8_lossy(&reload.stderr),
            String::from_utf8_lossy(&check.stderr),
            error.into(),
        ] {
            assert!(text.contains("plugin \"door\"") && text.contains(words), "{text}");
        }
        let start = Setup::new().file("picky.wasm", guest("picky")).toml(&toml).try_start();
        let Err(ended) = start else {
            panic!("it started with {toml}")
        };
        assert_eq!(ended.1.code(), Some(2));
        assert!(
            ended.2.contains("plugin \"door\"") && ended.2.contains(words),
            "{}",
            ended.2
        );
    }
}

/// One message becomes three under the plugin's grant. Without it each is authorized as the client, and those that are not
/// allowed are left out.
#[test]
fn one_message_becomes_several() {
    let emit = |grants: &str| {
        format!(
            "[[plugin]]\nname = \"split\"\ncomponent = \"plain.wasm\"\nhooks = [\"transform\"]\ntopics = [\"emit/#\"]\n\
             grants = {grants}\n{UNHURRIED}[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = [\
             {{ allow = \"subscribe\", topics = [\"#\"] }}, {{ allow = \"publish\", topics = [\"emit/#\", \"part/1\"] }}]\n"
        )
    };
    for shards in SHARD_COUNTS {
        let broker = Setup::new()
            .shards(shards)
            .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
            .file("plain.wasm", guest("plain"))
            .toml(&emit("[\"publish:part/+\"]"))
            .start();
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("#", QoS::AtLeastOnce);
        client.publish("emit/x", "x", QoS::AtLeastOnce);
        for number in 0..3 {
            assert_eq!(&*client.expect_payload("x").topic, format!("part/{number}"));
        }
        client.expect_idle();
        broker.replace_toml(&emit("[]"));
        broker.reloaded();
        client.publish("emit/x", "y", QoS::AtLeastOnce);
        assert_eq!(&*client.expect_payload("y").topic, "part/1");
        client.expect_idle();
    }
}

fn counting(plugins: &str) -> String {
    format!(
        "[[plugin]]\nname = \"counting\"\ncomponent = \"counting.wasm\"\ngrants = [\"kv\", \"random\"]\n{UNHURRIED}{plugins}"
    )
}

/// A plugin's `kv` is kept when it or anything else changes, and goes with it.
#[test]
fn kv_is_kept_across_swaps_and_forgotten_with_the_plugin() {
    let broker = Setup::new()
        .file("counting.wasm", guest("counting"))
        .file("tag.wasm", generation_guest(7))
        .toml(&counting(""))
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("#", QoS::AtLeastOnce);
    let mut ask = |topic: &str| {
        client.publish(topic, "", QoS::AtLeastOnce);
        payload(&client.receive())
    };
    assert_eq!(ask("count"), "Ok(1)");
    assert_eq!(ask("set"), "Ok(())");
    broker.replace_toml(&counting("config = { changed = true }\n"));
    broker.reloaded();
    assert_eq!(ask("swap"), "Ok(true)", "what was expected is there");
    assert_eq!(ask("swap"), "Ok(false)");
    assert_eq!(ask("count"), "Ok(42)");
    broker.replace_toml(&format!("{}{TAGGER}", counting("")));
    broker.reloaded();
    assert_eq!(ask("count"), "Ok(43)");
    assert_eq!(plugin(&broker, "counting")["kv_entries"], 1);
    broker.replace_toml(TAGGER);
    broker.reloaded();
    assert_eq!(ask("count"), "", "nobody counts");
    broker.replace_toml(&counting(""));
    broker.reloaded();
    assert_eq!(ask("count"), "Ok(1)");
}
