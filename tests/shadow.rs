//! Plugins in shadow mode: what they would change is told, and nothing is changed by them.

#[path = "support/backend.rs"]
mod backend;
mod support;

use backend::{Answer, Backend};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use support::*;

/// An acl under a name of its own.
fn acl(name: &str, more: &str, rules: &str) -> String {
    format!("[[plugin]]\nname = \"{name}\"\ncomponent = \"builtin:acl\"\n{PATIENT}{more}config.rules = [{rules}]\n")
}

const ENFORCED: &str = r##"{ allow = "both", topics = ["plant/#", "home/${client_id}/#"] }"##;
/// Somebody meant `plant/+/secret`.
const WRONG: &str = r##"{ deny = "publish", topics = ["plant/+/temp"] }, { allow = "both", topics = ["plant/#", "home/${client_id}/#"] }"##;
const SHADOW_OF_ACL: &str = "mode = \"shadow\"\nshadow_of = \"acl\"\n";

fn strict() -> Setup {
    Setup::new().auth("anonymous = \"loopback\"\ndefault = \"deny\"")
}

fn diff(broker: &Broker, plugin: &str) -> Value {
    get(broker, &format!("/v1/plugins/{plugin}/diff")).json()
}

/// Waits until so many decisions were compared: nobody waits for comparisons.
fn compared(broker: &Broker, plugin: &str, hook: &str, count: u64) -> Value {
    wait_for("comparisons", || {
        let diff = diff(broker, plugin);
        (diff["compared"][hook].as_u64() >= Some(count)).then_some(diff)
    })
}

fn may_publish(client: &mut Client, topic: &str) -> bool {
    client.deliver(message(topic, "x", QoS::AtLeastOnce)) < 0x80
}

#[test]
fn a_wrong_rule_names_whom_it_would_lock_out_while_nobody_is() {
    for shards in SHARD_COUNTS {
        let shadow = acl("acl-next", SHADOW_OF_ACL, WRONG);
        let broker = strict()
            .shards(shards)
            .toml(&(acl("acl", "", ENFORCED) + &shadow))
            .start();
        for id in ["meter-1", "meter-2"] {
            let mut client = Client::new(&broker, Version::V5, id);
            assert!(may_publish(&mut client, "plant/7/temp"), "it is not obeyed");
            assert!(may_publish(&mut client, &format!("home/{id}/x")));
            assert!(!may_publish(&mut client, "home/other/x"));
        }
        let seen = compared(&broker, "acl-next", "authorize", 6);
        assert_eq!(seen["differences"]["authorize"]["would_deny"], 2, "{seen}");
        let samples = seen["samples"].as_array().expect("samples");
        let mut named: Vec<_> = samples
            .iter()
            .map(|sample| sample["client_id"].as_str().expect("text"))
            .collect();
        named.sort_unstable();
        assert_eq!(named, ["meter-1", "meter-2"]);
        for sample in samples {
            assert_eq!(
                (&sample["topic"], &sample["action"]),
                (&"plant/7/temp".into(), &"publish".into())
            );
            assert_eq!(
                sample["enforced"],
                "allowed by acl, rule 1: allow publish,subscribe plant/#"
            );
            assert_eq!(
                sample["shadow"],
                "denied by acl-next, rule 1: deny publish plant/+/temp"
            );
        }
        let labels = [("plugin", "acl-next"), ("hook", "authorize"), ("kind", "would_deny")];
        assert_eq!(
            metric(&broker, "nervewire_plugin_shadow_differences_total", &labels),
            2.0
        );

        let printed = broker.cli(&["plugins", "diff", "acl-next"]);
        let printed = String::from_utf8(printed.stdout).expect("UTF-8");
        assert!(
            printed.contains("acl-next in the place of acl: 6 compared, 2 different"),
            "{printed}"
        );
        assert!(
            printed.contains("meter-1") && printed.contains("plant/7/temp"),
            "{printed}"
        );
        let refused = broker.cli(&["plugins", "diff", "acl"]);
        assert!(!refused.status.success(), "{refused:?}");

        assert!(broker.cli(&["plugins", "diff", "acl-next", "--reset"]).status.success());
        assert_eq!(diff(&broker, "acl-next")["samples"].as_array().map(Vec::len), Some(0));

        // Once it is corrected there is nothing to see, and once it is obeyed it is in force.
        let mut client = Client::new(&broker, Version::V5, "meter-1");
        broker.replace_toml(&(acl("acl", "", ENFORCED) + &acl("acl-next", SHADOW_OF_ACL, ENFORCED)));
        broker.reloaded();
        assert!(may_publish(&mut client, "plant/7/temp"));
        let seen = compared(&broker, "acl-next", "authorize", 1);
        assert_eq!(seen["samples"].as_array().map(Vec::len), Some(0), "{seen}");
        broker.replace_toml(&acl("acl-next", "", WRONG));
        broker.reloaded();
        assert!(!may_publish(&mut client, "plant/7/temp"), "promoted by a reload");
        assert_eq!(get(&broker, "/v1/plugins/acl-next/diff").status, 404);
    }
}

#[test]
fn a_transform_in_shadow_mode_changes_nothing() {
    let rewrite = "[[plugin]]\nname = \"rewrite\"\ncomponent = \"builtin:rewrite\"\nmode = \"shadow\"\n";
    let rules = "config.rules = [{ match = \"t\", tag = { name = \"seen\", value = \"yes\" } }]\n";
    let broker = Setup::new().toml(&format!("{rewrite}{PATIENT}{rules}")).start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("#", QoS::AtLeastOnce);
    client.publish("t", "payload", QoS::AtLeastOnce);
    let got = client.expect_payload("payload");
    assert!(properties(&got.properties).user_properties.is_empty());
    let seen = compared(&broker, "rewrite", "transform", 1);
    assert_eq!(seen["differences"]["transform"]["would_change"], 1, "{seen}");
    let sample = &seen["samples"][0];
    assert_eq!(
        (&sample["payload"], &sample["payload_bytes"]),
        (&"payload".into(), &7.into())
    );
}

#[test]
fn a_plugin_that_traps_or_loops_in_shadow_mode_harms_nobody() {
    for behaviour in ["panic", "loop", "bomb"] {
        let hostile = format!(
            "[[plugin]]\nname = \"hostile\"\ncomponent = \"hostile.wasm\"\nhooks = [\"authorize\", \"transform\"]\n\
             mode = \"shadow\"\nconfig = {{ behaviour = \"{behaviour}\" }}\n"
        );
        let setup = strict().file("hostile.wasm", guest("hostile"));
        let broker = setup.toml(&(acl("acl", "", ENFORCED) + &hostile)).start();
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("plant/#", QoS::AtLeastOnce);
        for n in 0..20 {
            client.publish("plant/x", n.to_string(), QoS::AtLeastOnce);
            client.expect_payload(&n.to_string());
        }
        let seen = compared(&broker, "hostile", "transform", 20);
        assert_eq!(seen["differences"]["transform"]["would_reject"], 20, "{seen}");
        let told = seen["samples"].as_array().expect("samples").iter();
        assert!(
            told.clone()
                .any(|sample| sample["shadow"].as_str().is_some_and(|s| s.ends_with("it failed")))
        );
    }
}

#[test]
fn who_would_not_be_let_in_is_named() {
    let password = |name: &str, users: &str, mode: &str| {
        let rest = "hooks = [\"authenticate\"]\nlimits = { authenticate_call_ms = 10_000 }\n";
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"builtin:password\"\nfiles = {{ users = \"{users}\" }}\n{mode}{rest}"
        )
    };
    let shadow = "mode = \"shadow\"\nshadow_of = \"password\"\n";
    let plugins = password("password", "passwd", "") + &password("next", "fewer", shadow);
    let setup = Setup::new()
        .auth("anonymous = \"deny\"\ndefault = \"allow\"")
        .toml(&plugins);
    for (file, user) in [("passwd", "ann"), ("passwd", "bob"), ("fewer", "ann")] {
        let file = setup.path(file).display().to_string();
        let output = nervewire_with_input(&["passwd", &file, user], &format!("{user}\n"));
        assert!(output.status.success(), "{output:?}");
    }
    let broker = setup.start();
    for user in ["ann", "bob"] {
        Client::connect(&broker, login(Version::V5, user, user, user))
            .0
            .expect_idle();
    }
    let seen = compared(&broker, "next", "authenticate", 2);
    assert_eq!(seen["differences"]["authenticate"]["would_deny"], 1, "{seen}");
    let sample = &seen["samples"][0];
    assert_eq!(
        (&sample["client_id"], &sample["action"]),
        (&"bob".into(), &"connect".into()),
        "{seen}"
    );
    assert!(
        sample["enforced"]
            .as_str()
            .is_some_and(|words| words.ends_with("by password")),
        "{seen}"
    );
    assert!(!seen.to_string().contains("\"password\":"), "no secrets are kept");
}

#[test]
fn one_in_whose_place_it_cannot_stand_is_refused() {
    let rewrite =
        "[[plugin]]\nname = \"next\"\ncomponent = \"builtin:rewrite\"\nmode = \"shadow\"\nshadow_of = \"acl\"\n";
    let setup = strict().toml(&(acl("acl", "", ENFORCED) + rewrite + "config.rules = []\n"));
    let Err(refused) = setup.try_start() else {
        panic!("it started")
    };
    let (_, _, log) = *refused;
    let expected = "plugin \"next\": shadow_of = \"acl\", which has none of its hooks; write the name of a plugin with";
    assert!(log.contains(expected), "{log}");
}

/// A plugin that asks a backend is compared like any other, for every hook, and its backend keeps nobody waiting.
#[test]
fn a_plugin_that_asks_a_backend_is_compared() {
    static SLOW: AtomicBool = AtomicBool::new(false);
    for shards in SHARD_COUNTS {
        SLOW.store(true, Ordering::SeqCst);
        let backend = Backend::start(|asked| {
            if SLOW.load(Ordering::SeqCst) && asked.path == "/authorize" {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            let denied = asked.field("topic").starts_with("plant%2Fno");
            Some(match (denied, asked.path.as_str()) {
                (true, "/authenticate" | "/authorize") => Answer::status(403),
                (_, "/transform") => Answer::status(200).body("by the backend"),
                _ => Answer::status(200),
            })
        });
        let url = backend.url();
        let asking = format!(
            "[[plugin]]\nname = \"asking\"\ncomponent = \"asking.wasm\"\nmode = \"shadow\"\ngrants = [\"{url}\"]\n\
             limits = {{ authenticate_call_ms = 10000, http_call_ms = 60000 }}\nconfig = {{ url = \"{url}\" }}\n"
        );
        let broker = Setup::new()
            .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
            .shards(shards)
            .file("asking.wasm", guest("asking"))
            .toml(&(acl("acl", "", ENFORCED) + &asking))
            .start();
        let mut client = Client::connect(&broker, hello(Version::V5, "c")).0;
        client.subscribe("plant/#", QoS::AtLeastOnce);
        for topic in ["plant/yes", "plant/no"] {
            client.publish(topic, "as it was", QoS::AtLeastOnce);
            client.expect_payload("as it was");
        }
        SLOW.store(false, Ordering::SeqCst);
        let seen = compared(&broker, "asking", "authorize", 3);
        assert_eq!(seen["differences"]["authorize"]["would_deny"], 1, "{seen}");
        let seen = compared(&broker, "asking", "transform", 2);
        assert_eq!(seen["differences"]["transform"]["would_change"], 2, "{seen}");
        let samples = seen["samples"].as_array().expect("samples");
        let of = |kind: &str| samples.iter().find(|sample| sample["kind"] == kind).expect(kind);
        assert_eq!(of("would_deny")["topic"], "plant/no", "{seen}");
        let seen = compared(&broker, "asking", "authenticate", 1);
        assert!(
            seen["differences"]["authenticate"].is_null(),
            "it lets in as well: {seen}"
        );
    }
}

fn auth(reason: ReasonCode, data: Option<&'static [u8]>) -> Packet {
    let properties = props(|p| {
        p.authentication_method = Some(text("ECHO"));
        p.authentication_data = data.map(bytes::Bytes::from_static);
    });
    Packet::Auth(Auth { reason, properties })
}

/// Sections 4.12 and 4.12.1: each step is compared where the plugin in shadow mode had challenged alike, when the client connects and
/// when it authenticates again.
#[test]
fn every_step_of_an_authentication_is_compared() {
    let backend = Backend::start(|asked| {
        Some(match asked.field("data") {
            "" => Answer::status(401).body("say please"),
            _ => Answer::status(403),
        })
    });
    let url = backend.url();
    let shadow = "mode = \"shadow\"\nshadow_of = \"doors\"\n";
    let plain = |name: &str, mode: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"plain.wasm\"\nhooks = [\"authenticate\"]\n\
             limits = {{ authenticate_call_ms = 10000 }}\n{mode}"
        )
    };
    let asking = |name: &str, url: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"asking.wasm\"\nhooks = [\"authenticate\"]\ngrants = [\"{url}\"]\n\
             limits = {{ authenticate_call_ms = 10000, http_call_ms = 60000 }}\nconfig = {{ url = \"{url}\" }}\n{shadow}"
        )
    };
    // It challenges with other data: what the client answers is no answer to that.
    let elsewhere = Backend::start(|_| Some(Answer::status(401).body("say hello")));
    let other_url = elsewhere.url();
    for shards in SHARD_COUNTS {
        let plugins = [
            plain("doors", ""),
            plain("same", shadow),
            asking("stricter", &url),
            asking("other", &other_url),
        ];
        let broker = Setup::new()
            .auth("anonymous = \"deny\"\ndefault = \"allow\"")
            .shards(shards)
            .file("plain.wasm", guest("plain"))
            .file("asking.wasm", guest("asking"))
            .toml(&plugins.concat())
            .start();
        let mut client = Client::open(&broker, Version::V5);
        client.send(Packet::Connect(Box::new(Connect {
            properties: props(|p| p.authentication_method = Some(text("ECHO"))),
            ..hello(Version::V5, "c")
        })));
        let answer = |client: &mut Client| {
            assert_eq!(client.expect_auth().reason, ReasonCode::ContinueAuthentication);
            client.send(auth(ReasonCode::ContinueAuthentication, Some(b"please")));
        };
        answer(&mut client);
        assert_eq!(client.expect_connack().reason, ReasonCode::Success);
        let seen = compared(&broker, "stricter", "authenticate", 2);
        assert_eq!(seen["differences"]["authenticate"]["would_deny"], 1, "{seen}");
        client.send(auth(ReasonCode::ReAuthenticate, None));
        answer(&mut client);
        assert_eq!(client.expect_auth().reason, ReasonCode::Success);
        let seen = compared(&broker, "stricter", "authenticate", 4);
        assert_eq!(seen["differences"]["authenticate"]["would_deny"], 2, "{seen}");
        let seen = compared(&broker, "same", "authenticate", 4);
        assert_eq!(
            seen["differences"],
            serde_json::json!({}),
            "it gets its own state back: {seen}"
        );
        // Of the other one the first steps: all that is before it in the queue was compared when `stricter` was.
        let seen = compared(&broker, "other", "authenticate", 2);
        assert_eq!(seen["compared"]["authenticate"], 2, "{seen}");
        client.expect_idle();
    }
}
