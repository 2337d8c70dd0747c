//! Components that loop, allocate without end or panic, and the clients that have nothing to do with them.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::*;

/// `limits.call_ms` of the hostile plugin.
const CALL: Duration = Duration::from_millis(200);
/// Failures that open the breaker.
const BREAKER: u32 = 5;
/// The deadline counts in ticks of its own length, so that a call may take twice as long; the rest is for a busy machine, which may
/// take as much more as its clock is late.
const LONGEST_WAIT: Duration = Duration::from_millis(2 * 200 + 500);
/// How often that clock looks.
const TICK: Duration = Duration::from_millis(10);
/// Far less than what a guest takes that is not stopped, far more than what a warm instance needs.
const GROWTH_KIB: u64 = 64 * 1024;

/// Topics whose first level tells the guest what to do; others are none of its business.
const BAD: &str = r##"["loop/#", "bomb/#", "panic/#", "recurse/#"]"##;
const ALL: &str = r##"["#"]"##;

/// A broker with the hostile guest, called for this hook and these topics.
fn broker(shards: u16, hook: &str, topics: &str, config: &str) -> Broker {
    let toml = format!(
        "[[plugin]]\nname = \"bad\"\ncomponent = \"bad.wasm\"\nhooks = [\"{hook}\"]\ntopics = {topics}\n\
         limits = {{ call_ms = {call}, authenticate_call_ms = {call} }}\nconfig = {{ {config} }}\n",
        call = CALL.as_millis()
    );
    Setup::new()
        .shards(shards)
        .file("bad.wasm", guest("hostile"))
        .toml(&toml)
        .start()
}

fn calls(broker: &Broker, hook: &str, outcome: &str) -> f64 {
    metric(
        broker,
        "nervewire_plugin_calls_total",
        &[("plugin", "bad"), ("hook", hook), ("outcome", outcome)],
    )
}

/// Talks to itself through the broker until told to stop: the longest it had to wait.
fn bystander(broker: &Broker, name: &str, stop: &AtomicBool) -> Duration {
    let mut client = Client::new(broker, Version::V5, name);
    let topic = format!("harmless/{name}");
    client.subscribe(&topic, QoS::AtLeastOnce);
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.publish(&topic, "x", QoS::AtLeastOnce);
        client.expect_payload("x");
        longest = longest.max(started.elapsed());
    }
    longest
}

/// The longest that this machine kept somebody waiting who asked nothing of the broker, until it is told to stop.
fn latest(stop: &AtomicBool) -> Duration {
    let mut latest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        std::thread::sleep(TICK);
        latest = latest.max(started.elapsed() - TICK);
    }
    latest
}

/// Runs an attack beside bystanders, none of whom may wait longer than one call takes.
fn beside_bystanders(broker: &Broker, attack: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let machine = scope.spawn(|| latest(&stop));
        let bystanders: Vec<_> = (0..4)
            .map(|n| format!("bystander{n}"))
            .map(|name| {
                scope.spawn({
                    let stop = &stop;
                    move || bystander(broker, &name, stop)
                })
            })
            .collect();
        attack();
        stop.store(true, Ordering::Relaxed);
        let late = machine.join().expect("the machine's clock");
        for bystander in bystanders {
            let longest = bystander.join().expect("a bystander");
            assert!(
                longest <= LONGEST_WAIT + late,
                "waited {longest:?}, the machine {late:?}"
            );
        }
    });
}

/// One message by a client of its own: the budget of plugin time is per client.
fn attack(broker: &Broker, number: u32, topic: &str) -> u8 {
    Client::new(broker, Version::V5, &format!("attacker{number}")).deliver(message(topic, "x", QoS::AtLeastOnce))
}

/// `loop` ends by its deadline, `bomb` by its memory limit: the message is refused, and after five the guest is left alone.
#[test]
fn guests_that_take_all_are_stopped_and_left_alone() {
    let rows = [
        ("transform", "loop", "timeout", 0x83),
        ("transform", "bomb", "memory", 0x83),
        ("transform", "recurse", "trap", 0x83),
        ("authorize", "loop", "timeout", 0x87),
        ("authorize", "bomb", "memory", 0x87),
        ("authorize", "panic", "trap", 0x87),
    ];
    for shards in SHARD_COUNTS {
        for (hook, behaviour, outcome, reason) in rows {
            eprintln!("-- {hook}: {behaviour} with shards = {shards}");
            let broker = broker(shards, hook, BAD, "");
            let topic = format!("{behaviour}/x");
            beside_bystanders(&broker, || {
                for number in 0..BREAKER {
                    assert_eq!(attack(&broker, number, &topic), reason);
                }
                // Still refused, but no longer by asking.
                assert_eq!(attack(&broker, BREAKER, &topic), reason);
            });
            assert!(
                calls(&broker, hook, outcome) >= f64::from(BREAKER),
                "{}",
                get(&broker, "/metrics").body
            );
            // An authorizer is left alone from `rules` on.
            let refused = [("plugin", "bad"), ("outcome", "breaker")];
            assert!(metric(&broker, "nervewire_plugin_calls_total", &refused) >= 1.0);
            let plugin = get(&broker, "/v1/plugins").json()[0].clone();
            assert_ne!(plugin["breaker"], "closed", "{plugin}");
            let failures = plugin["failures"].as_u64().expect("a number");
            assert!(failures >= u64::from(BREAKER), "{plugin}");
        }
    }
}

/// Two of three messages pass, until the fifth panic.
#[test]
fn a_guest_that_panics_on_every_third_call_fails_those_calls_only() {
    let broker = broker(1, "transform", ALL, "behaviour = \"panic\", every = 3");
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("t", QoS::AtLeastOnce);
    for number in 1..=3 * BREAKER {
        let reason = client.deliver(message("t", number.to_string(), QoS::AtLeastOnce));
        if number % 3 == 0 {
            assert_eq!(reason, 0x83, "message {number}");
        } else {
            assert_eq!(reason, 0, "message {number}");
            client.expect_payload(&number.to_string());
        }
    }
    assert_eq!(
        client.deliver(message("t", "x", QoS::AtLeastOnce)),
        0x83,
        "the breaker is open"
    );
    assert_eq!(calls(&broker, "transform", "trap"), f64::from(BREAKER));
    assert_eq!(calls(&broker, "transform", "ok"), f64::from(2 * BREAKER));
    assert_eq!(
        metric(&broker, "nervewire_plugin_breaker_open", &[("plugin", "bad")]),
        1.0
    );
}

/// The breaker's probe finds a guest that works again.
#[test]
fn the_breaker_closes_when_the_guest_works_again() {
    let broker = broker(1, "transform", ALL, "");
    let mut client = Client::new(&broker, Version::V5, "c");
    for _ in 0..BREAKER {
        assert_eq!(client.deliver(message("panic/x", "x", QoS::AtLeastOnce)), 0x83);
    }
    assert_eq!(client.deliver(message("t", "x", QoS::AtLeastOnce)), 0x83, "open");
    wait_for("the breaker to close", || {
        (client.deliver(message("t", "x", QoS::AtLeastOnce)) < 0x80).then_some(())
    });
    assert_eq!(
        metric(&broker, "nervewire_plugin_breaker_open", &[("plugin", "bad")]),
        0.0
    );
}

/// `on_failure = "skip"`: what the guest fails to judge passes.
#[test]
fn a_failure_may_be_skipped() {
    let toml = "[[plugin]]\nname = \"bad\"\ncomponent = \"bad.wasm\"\nhooks = [\"transform\"]\non_failure = \"skip\"\n";
    let broker = Setup::new().file("bad.wasm", guest("hostile")).toml(toml).start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("panic/x", QoS::AtLeastOnce);
    for _ in 0..2 * BREAKER {
        client.publish("panic/x", "x", QoS::AtLeastOnce);
        client.expect_payload("x");
    }
}

/// An authenticator that hangs holds up nobody but those it was asked about.
#[test]
fn an_authenticator_that_loops_refuses_only_its_own_clients() {
    for shards in SHARD_COUNTS {
        let broker = broker(shards, "authenticate", ALL, "");
        beside_bystanders(&broker, || {
            for number in 0..BREAKER {
                let mut attacker = Client::open(&broker, Version::V5);
                let connect = login(Version::V5, &format!("attacker{number}"), "loop", "x");
                attacker.send(Packet::Connect(Box::new(connect)));
                Client::new(&broker, Version::V5, "newcomer").expect_idle();
                let answer = attacker.expect_connack();
                assert!(answer.reason as u8 >= 0x80, "{answer:?}");
                attacker.expect_end();
            }
        });
        assert_eq!(calls(&broker, "authenticate", "timeout"), f64::from(BREAKER));
    }
}

/// Guests that are stopped leave nothing behind.
#[test]
fn memory_stays_flat() {
    for behaviour in ["bomb", "panic", "loop"] {
        let broker = broker(2, "transform", BAD, "");
        let mut client = Client::new(&broker, Version::V5, "c");
        client.publish("harmless", "x", QoS::AtLeastOnce);
        let before = broker.resident_kib();
        for number in 0..2 * BREAKER {
            attack(&broker, number, &format!("{behaviour}/x"));
        }
        let after = broker.resident_kib();
        assert!(
            after < before + GROWTH_KIB,
            "{behaviour}: {before} KiB before, {after} KiB after"
        );
        client.expect_idle();
    }
}
