//! `nervewire explain`: how a request would be decided, by whom and why.

#[path = "support/backend.rs"]
mod backend;
mod support;

use backend::{Answer, Backend};
use serde_json::Value;
use support::*;

const ACL: &str = r##"config.rules = [
  { deny = "publish", topics = ["plant/+/locked"] },
  { allow = "both", topics = ["plant/#", "home/${client_id}/#"] },
]
"##;

fn plugin(name: &str, component: &str, more: &str) -> String {
    format!("[[plugin]]\nname = \"{name}\"\ncomponent = \"{component}\"\n{PATIENT}{more}\n")
}

fn strict(toml: &str) -> Broker {
    let auth = "anonymous = \"loopback\"\ndefault = \"deny\"";
    Setup::new().shards(2).auth(auth).toml(toml).start()
}

#[track_caller]
fn explained(broker: &Broker, args: &[&str]) -> Value {
    let output = broker.cli(&[&["explain", "--json"], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_rule_that_decides_is_named() {
    let broker = strict(&plugin("acl", "builtin:acl", ACL));
    let _meter = Client::new(&broker, Version::V5, "meter");
    let check = |args: &[&str], session: &str, allowed: bool, why: &str| {
        let answer = explained(&broker, args);
        assert_eq!(
            (&answer["session"], &answer["allowed"]),
            (&session.into(), &allowed.into()),
            "{answer}"
        );
        assert_eq!(answer["why"], why, "{answer}");
    };
    let connected = "connected";
    let allow = "rule 2: allow publish,subscribe plant/#";
    check(
        &["--client", "meter", "--publish", "plant/7/temp"],
        connected,
        true,
        allow,
    );
    check(
        &[
            "--client",
            "meter",
            "--publish",
            "plant/7/locked",
            "--qos",
            "1",
            "--retain",
        ],
        connected,
        false,
        "rule 1: deny publish plant/+/locked",
    );
    check(
        &["--client", "meter", "--subscribe", "$share/g/home/meter/+"],
        connected,
        true,
        "rule 3: allow publish,subscribe home/meter/#",
    );
    check(
        &["--client", "other", "--publish", "home/meter/x"],
        "none",
        false,
        "nobody decides: [auth] default = \"deny\"",
    );
    check(
        &["--client", "meter", "--deliver", "anything"],
        connected,
        true,
        "nobody denies the delivery",
    );
    let refused = broker.cli(&["explain", "--client", "c", "--publish", "a/#"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let output = broker.cli(&["explain", "--client", "meter", "--publish", "plant/7/locked"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        text.contains("client meter is connected\npublish plant/7/locked (QoS 0)"),
        "{text}"
    );
    assert!(
        text.contains("DENIED by acl: rule 1: deny publish plant/+/locked\n"),
        "{text}"
    );
}

#[test]
fn who_is_asked_says_what_and_how_long_it_took() {
    let hostile = "hooks = [\"authorize\"]\ntopics = [\"panic/#\"]\n";
    let setup = Setup::new().file("hostile.wasm", guest("hostile"));
    let rewrite = "config.rules = [{ match = \"t/#\", tag = { name = \"by\", value = \"rewrite\" } }]\n";
    let shadow = format!("mode = \"shadow\"\n{ACL}");
    let plugins = [
        plugin("hostile", "hostile.wasm", hostile),
        plugin("next", "builtin:acl", &shadow),
        plugin("rewrite", "builtin:rewrite", rewrite),
    ];
    let broker = setup.toml(&plugins.concat()).start();
    let answer = explained(&broker, &["--client", "c", "--publish", "t/x", "--payload", "hello"]);
    let [hostile, next] = &answer["authorizers"].as_array().expect("authorizers")[..] else {
        panic!("{answer}");
    };
    assert_eq!(hostile["how"], "not_concerned");
    assert_eq!(
        (&next["mode"], &next["said"]),
        (&"shadow".into(), &"abstain".into()),
        "{answer}"
    );
    assert_eq!(answer["allowed"], true, "by default");
    let transform = &answer["transforms"][0];
    assert_eq!(
        (&transform["plugin"], &transform["said"]),
        (&"rewrite".into(), &"replace".into()),
        "{answer}"
    );
    assert!(transform["took_us"].as_f64().expect("a number") > 0.0);
    assert_eq!(answer["messages"][0]["payload"], "hello");
    let answer = explained(&broker, &["--client", "c", "--publish", "panic/x"]);
    let hostile = &answer["authorizers"][0];
    assert_eq!(
        (&hostile["how"], &hostile["said"]),
        (&"failed".into(), &"deny".into()),
        "{answer}"
    );
    assert!(hostile["took_us"].as_f64().expect("a number") > 0.0, "{answer}");
    assert_eq!(
        (&answer["allowed"], &answer["decided_by"]),
        (&false.into(), &"hostile".into())
    );
}

/// Its backend is asked for the explanation, and what it said is told; in shadow mode, too, where it changes nothing.
#[test]
fn a_plugin_that_asks_a_backend_is_explained() {
    let backend = Backend::start(|asked| {
        let denied = asked.field("topic") == "t%2Fno";
        Some(match (denied, asked.path.as_str()) {
            (true, "/authorize") => Answer::status(403),
            (_, "/transform") => Answer::status(200).body("by the backend"),
            _ => Answer::status(200),
        })
    });
    let url = backend.url();
    for (mode, allowed) in [("enforce", false), ("shadow", true)] {
        let asking = format!(
            "[[plugin]]\nname = \"asking\"\ncomponent = \"asking.wasm\"\nmode = \"{mode}\"\ngrants = [\"{url}\"]\n\
             hooks = [\"authorize\", \"transform\"]\nlimits = {{ http_call_ms = 60000 }}\nconfig = {{ url = \"{url}\" }}\n"
        );
        let broker = Setup::new().file("asking.wasm", guest("asking")).toml(&asking).start();
        let answer = explained(&broker, &["--client", "c", "--publish", "t/no", "--payload", "hello"]);
        let step = &answer["authorizers"][0];
        assert_eq!(
            (&step["how"], &step["said"]),
            (&"asked".into(), &"deny".into()),
            "{answer}"
        );
        assert_eq!(
            (&step["mode"], &answer["allowed"]),
            (&mode.into(), &allowed.into()),
            "{answer}"
        );
        assert!(step["took_us"].as_f64().expect("a number") > 0.0, "{answer}");
        let answer = explained(&broker, &["--client", "c", "--publish", "t/yes", "--payload", "hello"]);
        let (step, transform) = (&answer["authorizers"][0], &answer["transforms"][0]);
        assert_eq!(
            (&step["said"], &answer["allowed"]),
            (&"allow".into(), &true.into()),
            "{answer}"
        );
        assert_eq!(
            (&transform["plugin"], &transform["said"]),
            (&"asking".into(), &"replace".into()),
            "{answer}"
        );
        let delivered = if allowed { "hello" } else { "by the backend" };
        assert_eq!(answer["messages"][0]["payload"], delivered, "{answer}");
    }
}

/// A subscription whose right was taken away is kept and silent: who looks sees why nothing comes.
#[test]
fn a_subscription_that_may_not_be_heard_any_more_is_shown() {
    let rules = |rule: &str| plugin("acl", "builtin:acl", &format!("config.rules = [{rule}]"));
    let everything = rules("{ allow = \"both\", topics = [\"#\"] }");
    let broker = strict(&everything);
    let mut meter = Client::new(&broker, Version::V5, "meter");
    meter.subscribe("plant/#", QoS::AtLeastOnce);
    meter.subscribe("home/#", QoS::AtLeastOnce);
    let mut publisher = Client::new(&broker, Version::V5, "publisher");
    let client = || get(&broker, "/v1/clients/meter").json();
    assert_eq!(
        (&client()["suspended"], &client()["suspended_filters"]),
        (&0.into(), &Value::Array(vec![]))
    );
    broker.replace_toml(&rules(
        "{ allow = \"publish\", topics = [\"#\"] }, { allow = \"subscribe\", topics = [\"home/#\"] }",
    ));
    broker.reloaded();
    let before = explained(&broker, &["--client", "meter", "--deliver", "plant/1"]);
    let why = before["why"].as_str().expect("a reason");
    assert!(why.contains("judged again before the next delivery"), "{before}");
    publisher.publish("plant/1", "unheard", QoS::AtLeastOnce);
    publisher.publish("home/1", "heard", QoS::AtLeastOnce);
    meter.expect_payload("heard");
    assert_eq!(
        (&client()["suspended"], &client()["suspended_filters"][0]),
        (&1.into(), &"plant/#".into())
    );
    let shown = broker.cli(&["clients", "meter"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("suspended") && line.ends_with("plant/#")),
        "{shown}"
    );
    let silent = explained(&broker, &["--client", "meter", "--deliver", "plant/1"]);
    assert_eq!(
        (&silent["allowed"], &silent["suspended"][0]),
        (&false.into(), &"plant/#".into()),
        "{silent}"
    );
    let other = explained(&broker, &["--client", "meter", "--deliver", "home/1"]);
    assert_eq!(
        (&other["allowed"], &other["suspended"]),
        (&true.into(), &Value::Array(vec![])),
        "{other}"
    );
    let shown = broker.cli(&["explain", "--client", "meter", "--deliver", "plant/1"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("DENIED") && shown.contains("SUSPENDED: plant/#"),
        "{shown}"
    );
    broker.replace_toml(&everything);
    broker.reloaded();
    publisher.publish("plant/1", "heard again", QoS::AtLeastOnce);
    meter.expect_payload("heard again");
    assert_eq!(client()["suspended"], 0);
}
