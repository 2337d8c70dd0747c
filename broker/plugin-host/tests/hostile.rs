//! Guests that loop, hoard, panic and lie: each such call fails for itself, is counted, and leaves everything else as it was.
#![allow(clippy::unwrap_used)]

mod support;

use nervewire_plugin_host::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::*;

/// A hostile plugin of its own with short deadlines.
fn hostile(name: &str, config: &str) -> Arc<Plugin> {
    let limits = Limits {
        call_ms: 20,
        authenticate_call_ms: 20,
        ..Limits::default()
    };
    load_as(
        name,
        PluginSpec {
            limits,
            config_json: config.to_owned(),
            ..spec("hostile")
        },
    )
}

/// An authorization about this topic ends like that; the next one is answered by an instance that has seen `calls_after`.
fn check_authorize(topic: &str, expected: Outcome, calls_after: u32) {
    let plugin = hostile(&format!("authorize {topic}"), "{}");
    let mut instance = plugin.instance(Role::Shard).unwrap();
    assert_eq!(instance.authorize(&client("c"), &request("fine")).unwrap().cache_ms, 1);
    let answer = instance.authorize(&client("c"), &request(topic));
    assert_eq!(answer.is_ok(), expected == Outcome::Ok, "{topic}");
    assert_eq!(
        plugin.stats().calls(Call::Authorize, expected),
        1 + u64::from(expected == Outcome::Ok),
        "{topic}"
    );
    assert_eq!(
        instance.authorize(&client("c"), &request("fine")).unwrap().cache_ms,
        calls_after,
        "{topic}"
    );
    assert_eq!(
        plugin.stats().instances_replaced(),
        u64::from(calls_after == 1),
        "{topic}"
    );
}

#[test]
fn failures_are_told_apart_and_the_instance_is_replaced() {
    check_authorize("loop", Outcome::Timeout, 1);
    check_authorize("panic", Outcome::Trap, 1);
    check_authorize("recurse", Outcome::Trap, 1);
    check_authorize("exit", Outcome::Trap, 1);
    check_authorize("sleep", Outcome::Trap, 1);
}

#[test]
fn a_memory_bomb_is_stopped_at_its_limit() {
    let limits = Limits {
        call_ms: 10_000,
        memory_mib: 4,
        ..Limits::default()
    };
    let plugin = load_as(
        "bomb",
        PluginSpec {
            limits,
            ..spec("hostile")
        },
    );
    let mut instance = plugin.instance(Role::Shard).unwrap();
    assert!(instance.authorize(&client("c"), &request("bomb")).is_err());
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Memory), 1);
    assert!(instance.authorize(&client("c"), &request("fine")).is_ok());
}

#[test]
fn the_memory_limit_goes_by_role() {
    let limits = Limits {
        call_ms: 10_000,
        memory_mib: 1,
        authenticate_memory_mib: 64,
        ..Limits::default()
    };
    let refused = host()
        .load(PluginSpec {
            limits,
            ..spec("hostile")
        })
        .unwrap_err();
    assert!(
        matches!(refused, LoadError::Start(StartError::Instantiate(_))),
        "{refused}"
    );
    let hooks = Some(vec![Hook::Authenticate]);
    assert!(
        host()
            .load(PluginSpec {
                limits,
                hooks,
                ..spec("hostile")
            })
            .is_ok(),
        "only the larger limit matters"
    );
}

#[test]
fn harmless_curiosity_finds_nothing() {
    check_authorize("file", Outcome::Ok, 3);
    check_authorize("environment", Outcome::Ok, 3);
    check_authorize("print", Outcome::Ok, 3);
}

#[test]
fn logging_and_counting_are_bounded() {
    let plugin = hostile("noisy", "{}");
    let mut instance = plugin.instance(Role::Shard).unwrap();
    instance.authorize(&client("c"), &request("log")).unwrap();
    assert!(
        plugin.stats().log_lines_dropped() >= 890,
        "{}",
        plugin.stats().log_lines_dropped()
    );
    instance.authorize(&client("c"), &request("count")).unwrap();
    assert_eq!(plugin.stats().counters().len(), MAX_COUNTER_NAMES);
    assert_eq!(plugin.stats().counters_dropped(), 36);
}

/// Every function of the contract, misbehaving in every way: the call ends like that, and a new instance is there for the next.
#[test]
fn whatever_misbehaves_in_whichever_hook_ends_its_own_call_only() {
    let rows = [
        ("panic", Outcome::Trap),
        ("recurse", Outcome::Trap),
        ("exit", Outcome::Trap),
        ("sleep", Outcome::Trap),
        ("bomb", Outcome::Memory),
        ("loop", Outcome::Timeout),
    ];
    for call in Call::ALL {
        for (behaviour, expected) in rows {
            let name = format!("any hook: {} {behaviour}", call.label());
            let patience_ms = if expected == Outcome::Timeout { 50 } else { 10_000 };
            let limits = Limits {
                call_ms: patience_ms,
                authenticate_call_ms: patience_ms,
                tick_call_ms: patience_ms,
                ..Limits::default()
            };
            let config_json = format!(r#"{{"behaviour": "{behaviour}", "every": 2}}"#);
            let plugin = load_as(
                &name,
                PluginSpec {
                    limits,
                    config_json,
                    ..spec("hostile")
                },
            );
            let mut instance = plugin.instance(role(call)).unwrap();
            let answers = [(); 4].map(|()| is_answered(&mut instance, call));
            assert_eq!(
                answers,
                [true, false, true, false],
                "{name}: {:?}",
                outcomes(&plugin, call)
            );
            assert_eq!(
                plugin.stats().calls(call, expected),
                2,
                "{name}: {:?}",
                outcomes(&plugin, call)
            );
            assert_eq!(plugin.stats().instances_replaced(), 2, "{name}");
        }
    }
}

/// The host copies what a guest hands to its functions, too: as much as two messages, and no more.
#[test]
fn what_is_told_to_the_host_is_bounded_before_it_is_copied() {
    for behaviour in ["shout", "shout a name"] {
        let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
        let plugin = load_as(
            behaviour,
            PluginSpec {
                config_json: config,
                ..spec("hostile")
            },
        );
        let mut instance = plugin.instance(Role::Shard).unwrap();
        assert!(!is_answered(&mut instance, Call::Authorize), "{behaviour}");
        assert_eq!(outcomes(&plugin, Call::Authorize), [("invalid", 1)], "{behaviour}");
        assert_eq!(plugin.stats().counters(), [], "{behaviour}");
    }
}

/// Whether an invalid answer costs the instance: not when only its meaning is wrong, but when it could not even be read.
#[derive(Clone, Copy, PartialEq)]
enum Instances {
    Kept,
    Replaced,
}
use Instances::{Kept, Replaced};

fn check_invalid(name: &str, instances: Instances, call: Call, make: impl Fn(&mut Instance) -> bool) {
    let plugin = load_as(&format!("invalid {name}"), spec("hostile"));
    let mut instance = plugin.instance(Role::Authenticate).unwrap();
    assert!(!make(&mut instance), "{name} was accepted");
    assert_eq!(plugin.stats().calls(call, Outcome::Invalid), 1, "{name}");
    assert_eq!(
        plugin.stats().instances_replaced(),
        u64::from(instances == Replaced),
        "{name}"
    );
}

#[test]
fn invalid_identities_and_challenges_are_refused() {
    for user in ["null", "tenant", "attributes", "long", "data"] {
        check_invalid(&format!("authenticate {user}"), Kept, Call::Authenticate, |instance| {
            instance.authenticate(&client("c"), &credentials(user, "")).is_ok()
        });
    }
}

#[test]
fn too_many_rules_are_refused() {
    for (id, instances) in [("many", Kept), ("flood", Replaced)] {
        check_invalid(&format!("rules {id}"), instances, Call::Rules, |instance| {
            instance.rules(&client(id)).is_ok()
        });
    }
}

#[test]
fn invalid_messages_are_refused() {
    let kept = [
        "wildcard",
        "empty",
        "null",
        "response",
        "content",
        "correlation",
        "large",
        "properties",
        "flock",
    ];
    for (topic, instances) in kept.map(|topic| (topic, Kept)).into_iter().chain([("huge", Replaced)]) {
        check_invalid(&format!("transform {topic}"), instances, Call::Transform, |instance| {
            instance.transform(&client("c"), &message(topic)).is_ok()
        });
    }
}

/// Else whoever publishes large messages has the plugin taken away from all others.
#[test]
fn a_message_that_has_become_too_large_does_not_open_the_breaker() {
    let plugin = load_as("large", spec("hostile"));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    for _ in 0..2 * FAILURES_TO_OPEN {
        assert!(instance.transform(&client("c"), &message("large")).is_err());
        assert_eq!(plugin.breaker_state(), BreakerState::Closed);
    }
    let refused = plugin.stats().calls(Call::Transform, Outcome::Invalid);
    assert_eq!(refused, 2 * FAILURES_TO_OPEN as u64);
    for _ in 0..FAILURES_TO_OPEN {
        assert!(instance.transform(&client("c"), &message("flock")).is_err());
    }
    assert_eq!(plugin.breaker_state(), BreakerState::Open, "too many are its own doing");
}

#[test]
fn every_third_call_panics_and_the_others_do_not_notice() {
    let plugin = hostile("third", r#"{"behaviour": "panic", "every": 3}"#);
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let answers: Vec<bool> = (0..9)
        .map(|_| instance.authorize(&client("c"), &request("fine")).is_ok())
        .collect();
    assert_eq!(answers, [true, true, false, true, true, false, true, true, false]);
    assert_eq!(plugin.stats().instances_replaced(), 3);
    assert_eq!(plugin.breaker_state(), BreakerState::Closed);
}

#[test]
fn the_breaker_opens_is_probed_and_closes() {
    let (host, now) = host_with_clock();
    let limits = Limits {
        call_ms: 20,
        ..Limits::default()
    };
    let plugin = host
        .load(PluginSpec {
            limits,
            ..spec("hostile")
        })
        .unwrap();
    let mut instances = [
        plugin.instance(Role::Shard).unwrap(),
        plugin.instance(Role::Shard).unwrap(),
    ];
    let mut call = |n: usize, topic: &str| instances[n % 2].authorize(&client("c"), &request(topic)).is_ok();
    for n in 0..5 {
        assert_eq!(plugin.breaker_state(), BreakerState::Closed);
        assert!(!call(n, "panic"));
    }
    assert_eq!(plugin.stats().breaker_state(), BreakerState::Open);
    assert!(!call(0, "fine") && !call(1, "fine"), "refused without running");
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Breaker), 2);
    now.store(1_000, Ordering::SeqCst);
    assert!(!call(0, "panic"), "the probe fails");
    now.store(2_999, Ordering::SeqCst);
    assert!(!call(0, "fine"), "still open");
    now.store(3_000, Ordering::SeqCst);
    assert!(call(1, "fine") && call(0, "fine"), "the probe succeeds, and so do all");
    assert_eq!(plugin.stats().breaker_state(), BreakerState::Closed);
    assert_eq!(plugin.stats().breaker_opened(), 2);
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Trap), 6);
}

#[test]
fn a_panic_in_a_host_function_fails_the_call_alone() {
    let panics = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&panics);
    let clock = Clock::new(move || {
        if armed.swap(false, Ordering::SeqCst) {
            panic!("a broken clock")
        } else {
            0
        }
    });
    let host = Host::new(HostConfig {
        clock,
        ..small_config()
    })
    .unwrap();
    let plugin = host.load(granted(&["kv", "random"], spec("counting"))).unwrap();
    let mut instance = plugin.instance(Role::Shard).unwrap();
    panics.store(true, Ordering::SeqCst);
    assert!(instance.transform(&client("c"), &message("count")).is_err());
    assert_eq!(plugin.stats().calls(Call::Transform, Outcome::Trap), 1);
    assert!(instance.transform(&client("c"), &message("count")).is_ok());
}

/// What is logged while `run` runs on this thread.
fn logged(run: impl FnOnce()) -> String {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&lines);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Lines(Arc::clone(&writer)))
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = lines.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_guest_prints_and_why_it_failed_reaches_the_log() {
    let plugin = hostile("talkative", "{}");
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let mut check = |topic: &str, parts: &[&str]| {
        let log = logged(|| _ = instance.authorize(&client("c"), &request(topic)));
        for part in parts {
            assert!(log.contains(part), "{topic}: `{log}` does not contain `{part}`");
        }
    };
    check("print", &["first line", "second line", "plugin=\"talkative\""]);
    check(
        "panic",
        &[
            "the guest panics on purpose",
            "authorize failed (trap)",
            "unreachable",
            "misbehave",
        ],
    );
    check("loop", &["authorize failed (timeout)"]);
    check("sleep", &["it wants to wait, which plugins cannot do"]);
    check("exit", &["it called exit"]);
    check("log", &["line 0", "plugin: line 50"]);
}

#[test]
fn too_many_findings_are_refused() {
    let config_json = r#"{"behaviour": "flood"}"#.to_owned();
    let plugin = load_as(
        "findings",
        PluginSpec {
            config_json,
            ..spec("hostile")
        },
    );
    let mut instance = plugin.instance(Role::Background).unwrap();
    assert!(instance.detect(&[window("c")]).is_err());
    assert_eq!(outcomes(&plugin, Call::Detect), [("invalid", 1)]);
}

/// A component of text, which begins with this function, and whose `init` is of a type that no plugin has: the words say which of
/// both it was that failed.
fn refusal(imports: &str, module: &str) -> String {
    let component = format!(
        r#"(component
            {imports}
            (core module $m
                {module}
                (func (export "init") (param i32) (result i32) local.get 0))
            (core instance $c (instantiate $m))
            (func $init (param "x" u32) (result u32) (canon lift (core func $c "init")))
            (instance $lifecycle (export "init" (func $init)))
            (instance $hook)
            (export "nervewire:plugin/lifecycle@0.1.0" (instance $lifecycle))
            (export "nervewire:plugin/authorization@0.1.0" (instance $hook))
        )"#
    );
    let component = wat::parse_str(component).unwrap().into();
    let refused = host().load(PluginSpec {
        component,
        ..spec("plain")
    });
    refused.unwrap_err().to_string()
}

#[test]
fn tables_are_bounded() {
    let grow = |until: u32| {
        refusal(
            "",
            &format!(
                "(table 1 funcref)
                (func $grow
                    (loop $again
                        (br_if $again (i32.ne (table.grow (ref.null func) (i32.const 4096)) (i32.const -1))))
                    (loop $again
                        (br_if $again (i32.ne (table.grow (ref.null func) (i32.const 1)) (i32.const -1))))
                    (if (i32.gt_u (table.size) (i32.const {until})) (then unreachable)))
                (start $grow)"
            ),
        )
    };
    let (within, beyond) = (grow(65_536), grow(65_535));
    assert!(!within.contains("unreachable"), "it had more: {within}");
    assert!(beyond.contains("unreachable"), "it had less: {beyond}");
    let at_once = refusal("", "(table 65537 funcref)");
    assert!(at_once.contains("65537") || at_once.contains("table"), "{at_once}");
    let tables = refusal("", &"(table 1 funcref)".repeat(9));
    assert!(tables.contains("tables"), "{tables}");
}

#[test]
fn memory_is_bounded_from_the_beginning() {
    let refused = refusal("", "(memory 257)");
    assert!(refused.contains("raise limits.memory_mib"), "{refused}");
    // What the machine cannot do is what no limit allows, either.
    let refused = refusal("", "(memory 65536)");
    assert!(refused.contains("memory"), "{refused}");
}

/// A resource of the guest's own costs it nothing, and the broker a place in a table.
#[test]
fn handles_of_the_guests_own_are_bounded() {
    let hoard = |count: u32| {
        let component = format!(
            r#"(component
                (type $r (resource (rep i32)))
                (core func $new (canon resource.new $r))
                (core module $m
                    (import "host" "new" (func $new (param i32) (result i32)))
                    (func $hoard (local $n i32)
                        (loop $again
                            (drop (call $new (i32.const 7)))
                            (local.set $n (i32.add (local.get $n) (i32.const 1)))
                            (br_if $again (i32.lt_u (local.get $n) (i32.const {count})))))
                    (start $hoard)
                    (func (export "init") (param i32) (result i32) local.get 0))
                (core instance $c (instantiate $m (with "host" (instance (export "new" (func $new))))))
                (func $init (param "x" u32) (result u32) (canon lift (core func $c "init")))
                (instance $lifecycle (export "init" (func $init)))
                (instance $hook)
                (export "nervewire:plugin/lifecycle@0.1.0" (instance $lifecycle))
                (export "nervewire:plugin/authorization@0.1.0" (instance $hook))
            )"#
        );
        let component = wat::parse_str(component).unwrap().into();
        host()
            .load(PluginSpec {
                component,
                ..spec("plain")
            })
            .unwrap_err()
            .to_string()
    };
    let max = u32::try_from(MAX_COMPONENT_HANDLES).unwrap();
    assert!(!hoard(max).contains("handle"), "{}", hoard(max));
    assert!(
        hoard(max + 1).contains("cannot allocate another handle"),
        "{}",
        hoard(max + 1)
    );
}

#[test]
fn handles_of_host_objects_are_bounded() {
    let component = r#"(component
        (import "wasi:io/streams@0.2.0" (instance $streams (export "output-stream" (type (sub resource)))))
        (alias export $streams "output-stream" (type $stream))
        (import "wasi:cli/stderr@0.2.0" (instance $stderr
            (alias outer 1 $stream (type $outer))
            (export "output-stream" (type $s (eq $outer)))
            (export "get-stderr" (func (result (own $s))))))
        (core func $get (canon lower (func $stderr "get-stderr")))
        (core module $m
            (import "host" "get" (func $get (result i32)))
            (func $hoard (loop $again (drop (call $get)) (br $again)))
            (start $hoard)
            (func (export "init") (param i32) (result i32) local.get 0))
        (core instance $c (instantiate $m (with "host" (instance (export "get" (func $get))))))
        (func $init (param "x" u32) (result u32) (canon lift (core func $c "init")))
        (instance $lifecycle (export "init" (func $init)))
        (instance $hook)
        (export "nervewire:plugin/lifecycle@0.1.0" (instance $lifecycle))
        (export "nervewire:plugin/authorization@0.1.0" (instance $hook))
    )"#;
    let component = wat::parse_str(component).unwrap().into();
    let refused = host()
        .load(PluginSpec {
            component,
            ..spec("plain")
        })
        .unwrap_err()
        .to_string();
    assert!(refused.contains("it holds too many streams and pollables"), "{refused}");
}

#[test]
fn an_exhausted_pool_fails_the_call_and_recovers() {
    let host = Host::new(small_config()).unwrap();
    let plugin = host.load(spec("plain")).unwrap();
    let mut instances: Vec<Instance> = std::iter::from_fn(|| plugin.instance(Role::Shard).ok())
        .take(1000)
        .collect();
    assert!(instances.len() < 1000);
    assert!(matches!(
        plugin.instance(Role::Shard),
        Err(StartError::PoolExhausted(_))
    ));
    instances.pop();
    assert!(plugin.instance(Role::Shard).is_ok());
}
