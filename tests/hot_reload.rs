//! Configuration and components change under running clients.

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use support::*;

/// An acl that lets everybody subscribe, and publish to one branch.
fn only(branch: &str) -> String {
    format!(
        "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n{PATIENT}\
         config.rules = [{{ allow = \"subscribe\", topics = [\"#\"] }}, {{ allow = \"publish\", topics = [\"{branch}/#\"] }}]\n"
    )
}

fn strict() -> Setup {
    Setup::new().auth("anonymous = \"loopback\"\ndefault = \"deny\"")
}

fn status(broker: &Broker) -> Value {
    get(broker, "/v1/status").json()
}

/// Whether this client may publish to `BRANCH/x`.
fn may_publish(client: &mut Client, branch: &str) -> bool {
    client.deliver(message(&format!("{branch}/x"), "x", QoS::AtLeastOnce)) < 0x80
}

/// Waits for a generation after `before`.
fn await_generation(broker: &Broker, before: &Value) {
    wait_for("a new generation", || {
        (status(broker)["generation"] != before["generation"]).then_some(())
    });
}

/// `nervewire reload`, SIGHUP, and nothing but the changed file: within two seconds it is noticed.
#[test]
fn changed_rules_hold_for_connected_clients() {
    type Notice = fn(&Broker);
    let notices: [(&str, Notice); 3] = [
        ("reload", |broker| broker.reloaded()),
        ("SIGHUP", |broker| broker.signal("HUP")),
        ("the file alone", |_| {}),
    ];
    for shards in SHARD_COUNTS {
        for (what, notice) in notices {
            eprintln!("-- {what}");
            let broker = strict().shards(shards).toml(&only("a")).start();
            let mut clients: Vec<_> = (0..4)
                .map(|n| Client::new(&broker, Version::V5, &format!("c{n}")))
                .collect();
            for client in &mut clients {
                assert!(may_publish(client, "a") && !may_publish(client, "b"));
            }
            let before = status(&broker);
            broker.replace_toml(&only("b"));
            notice(&broker);
            await_generation(&broker, &before);
            for client in &mut clients {
                assert!(!may_publish(client, "a") && may_publish(client, "b"));
            }
            assert_eq!(status(&broker)["connections"], 4, "no connection was dropped");
        }
    }
}

/// A subscription that is no longer allowed delivers no more.
#[test]
fn changed_rules_hold_for_deliveries() {
    for shards in SHARD_COUNTS {
        let broker = strict().shards(shards).toml(&only("a")).start();
        let mut subscriber = Client::new(&broker, Version::V5, "s");
        subscriber.subscribe("a/#", QoS::AtLeastOnce);
        subscriber.subscribe("end", QoS::AtLeastOnce);
        let mut publisher = Client::new(&broker, Version::V5, "p");
        publisher.publish("a/x", "before", QoS::AtLeastOnce);
        subscriber.expect_payload("before");
        let rules = "[{ deny = \"deliver\", topics = [\"a/#\"] }, { allow = \"both\", topics = [\"#\"] }]";
        broker.replace_toml(&format!(
            "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = {rules}\n"
        ));
        broker.reloaded();
        publisher.publish("a/x", "after", QoS::AtLeastOnce);
        publisher.publish("end", "end", QoS::AtLeastOnce);
        subscriber.expect_payload("end");
    }
}

/// Everything stays as it was; the log, `status` and a metric say why.
#[test]
fn a_broken_file_changes_nothing_and_is_explained() {
    let rows = [
        ("not TOML", "[[plugin"),
        ("an unknown key", "[limits]\nqueue_mesages = 1\n"),
        (
            "rules the plugin refuses",
            "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = [{ allow = \"all\" }]\n",
        ),
        (
            "a component that is not there",
            "[[plugin]]\nname = \"x\"\ncomponent = \"missing.wasm\"\n",
        ),
        (
            "a component that is none",
            "[[plugin]]\nname = \"x\"\ncomponent = \"garbage.wasm\"\n",
        ),
    ];
    for shards in SHARD_COUNTS {
        let broker = strict()
            .shards(shards)
            .toml(&only("a"))
            .file("garbage.wasm", "garbage")
            .start();
        let mut client = Client::new(&broker, Version::V5, "c");
        for (what, toml) in rows {
            let before = status(&broker);
            broker.replace_toml(toml);
            let output = broker.reload();
            assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");
            let after = status(&broker);
            assert_eq!(after["generation"], before["generation"], "{what}");
            assert_eq!(after["last_reload"]["ok"], false, "{what}: {after}");
            let error = after["last_reload"]["error"].as_str().expect("an error").to_owned();
            assert!(
                error.contains(CONFIGURATION) || error.contains("plugin"),
                "{what}: {error}"
            );
            broker.logs(error.lines().next().expect("words"));
            assert!(
                may_publish(&mut client, "a") && !may_publish(&mut client, "b"),
                "{what}"
            );
        }
        assert!(metric(&broker, "nervewire_reloads_total", &[("outcome", "refused")]) >= rows.len() as f64);
        broker.replace_toml(&only("b"));
        broker.reloaded();
        assert_eq!(status(&broker)["last_reload"]["ok"], true);
        assert!(may_publish(&mut client, "b"));
    }
}

/// What needs a restart is refused whole, by name.
#[test]
fn a_change_that_needs_a_restart_is_refused_by_name() {
    let broker = strict().toml(&only("a")).start();
    let text = std::fs::read_to_string(broker.path(CONFIGURATION)).expect("read");
    broker.replace_file(
        CONFIGURATION,
        text.replace("shards = 1", "shards = 2").replace("\"a/#\"", "\"b/#\""),
    );
    let output = broker.reload();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("shards"), "{output:?}");
    let mut client = Client::new(&broker, Version::V5, "c");
    assert!(may_publish(&mut client, "a") && !may_publish(&mut client, "b"));
}

/// A file named in `files` is watched like the component.
#[test]
fn a_changed_password_file_is_noticed() {
    let setup = strict().auth("anonymous = \"deny\"\ndefault = \"allow\"");
    let file = setup.path("passwd").display().to_string();
    let set = |user: &str| {
        assert!(
            nervewire_with_input(&["passwd", &file, user], "secret\n")
                .status
                .success()
        )
    };
    set("alice");
    let plugin = "[[plugin]]\nname = \"password\"\ncomponent = \"builtin:password\"\nfiles = { users = \"passwd\" }\n";
    let broker = setup.toml(plugin).start();
    let mut alice = Client::connect(&broker, login(Version::V5, "a", "alice", "secret")).0;
    let (_, refused) = Client::try_connect(&broker, login(Version::V5, "b", "bob", "secret"));
    assert_eq!(refused.reason, ReasonCode::BadUserNameOrPassword);
    let before = status(&broker);
    set("bob");
    await_generation(&broker, &before);
    Client::connect(&broker, login(Version::V5, "b", "bob", "secret"))
        .0
        .expect_idle();
    alice.expect_idle();
}

/// A listener that is added accepts; one that is removed stops accepting, and its connections stay.
#[test]
fn listeners_come_and_go_and_connections_stay() {
    let broker = strict().toml(&only("a")).start();
    let extra = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("an address");
    broker.replace_toml(&format!("{}[[listener]]\nbind = \"{extra}\"\n", only("a")));
    broker.reloaded();
    let stream = std::net::TcpStream::connect(extra).expect("connect to the new listener");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    let mut client = Client::over(stream, Version::V5);
    client.send(Packet::Connect(Box::new(hello(Version::V5, "c"))));
    client.expect_connack();
    broker.replace_toml(&only("a"));
    broker.reloaded();
    wait_for("the listener to close", || {
        std::net::TcpStream::connect(extra).is_err().then_some(())
    });
    client.expect_idle();
}

/// The transform that tags each message with its generation.
fn tagger(file: &str) -> String {
    format!("[[plugin]]\nname = \"rewrite\"\ncomponent = \"{file}\"\nhooks = [\"transform\"]\n{PATIENT}")
}

fn tag(publish: &Publish) -> Option<u32> {
    let properties = properties(&publish.properties);
    let pair = properties
        .user_properties
        .iter()
        .find(|(name, _)| &**name == "generation")?;
    pair.1.parse().ok()
}

/// A component replaced under its name is taken, by `reload` and by itself; garbage is not.
#[test]
fn a_replaced_component_takes_effect() {
    for shards in SHARD_COUNTS {
        let broker = Setup::new()
            .shards(shards)
            .file("tag.wasm", generation_guest(1))
            .toml(&tagger("tag.wasm"))
            .start();
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        let mut generation = || {
            client.publish("t", "x", QoS::AtLeastOnce);
            tag(&client.expect_payload("x"))
        };
        assert_eq!(generation(), Some(1));
        broker.replace_file("tag.wasm", generation_guest(2));
        broker.reloaded();
        assert_eq!(generation(), Some(2));
        broker.replace_file("tag.wasm", "garbage");
        assert!(!broker.reload().status.success());
        assert_eq!(generation(), Some(2));
        broker.replace_file("tag.wasm", generation_guest(3));
        wait_for("the third component", || (generation() == Some(3)).then_some(()));
    }
}

const PAIRS: usize = 100;
const RELOADS: u32 = 10;
const GARBAGE_AT: u32 = 5;

/// Generation N allows `g/<N mod 2>/#` only, and tags with N.
fn generation(number: u32) -> String {
    let branch = number % 2;
    format!(
        "{}{}",
        only(&format!("g/{branch}")),
        tagger(&format!("tag-{number}.wasm"))
    )
}

/// 200 clients exchange QoS 1 messages while rules and component are swapped ten times: no connection drops, no message is
/// lost or duplicated, and each is treated by exactly one generation.
#[test]
fn messages_are_treated_by_exactly_one_generation() {
    let guests: Vec<_> = (0..=RELOADS).map(generation_guest).collect();
    for shards in SHARD_COUNTS {
        let broker = strict()
            .shards(shards)
            .file("tag-0.wasm", &guests[0])
            .toml(&generation(0))
            .start();
        let stop = AtomicBool::new(false);
        let rounds: u64 = std::thread::scope(|scope| {
            let pairs: Vec<_> = (0..PAIRS)
                .map(|pair| {
                    scope.spawn({
                        let (broker, stop) = (&broker, &stop);
                        move || exchange(broker, pair, stop)
                    })
                })
                .collect();
            for number in 1..=RELOADS {
                swap(&broker, number, &guests[number as usize]);
            }
            stop.store(true, Ordering::Relaxed);
            pairs
                .into_iter()
                .map(|pair| pair.join().expect("a pair of clients"))
                .sum()
        });
        assert!(
            rounds >= u64::from(RELOADS) * PAIRS as u64,
            "{rounds} rounds are too few to show anything"
        );
    }
}

/// The component lies there first, so that the renamed configuration swaps both at once.
fn swap(broker: &Broker, number: u32, guest: &[u8]) {
    if number == GARBAGE_AT {
        let current = format!("tag-{}.wasm", number - 1);
        let good = std::fs::read(broker.path(&current)).expect("read");
        broker.replace_file(&current, "garbage");
        assert!(!broker.reload().status.success(), "garbage was taken");
        broker.replace_file(&current, good);
    }
    broker.replace_file(&format!("tag-{number}.wasm"), guest);
    broker.replace_toml(&generation(number));
    broker.reloaded();
}

/// Two clients that send each other every number on both branches, until told to stop: the number of rounds.
fn exchange(broker: &Broker, pair: usize, stop: &AtomicBool) -> u64 {
    let mut clients = ["a", "b"].map(|side| {
        let mut client = Client::new(broker, Version::V5, &format!("{side}{pair}"));
        client.subscribe(&format!("g/+/to/{side}{pair}"), QoS::AtLeastOnce);
        client
    });
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let [a, b] = &mut clients;
        send_and_receive(a, b, &format!("b{pair}"), number);
        send_and_receive(b, a, &format!("a{pair}"), number);
    }
    for client in &mut clients {
        client.expect_idle();
    }
    number
}

/// What is acknowledged with success arrives once, tagged by the generation that allowed it; nothing else arrives.
fn send_and_receive(from: &mut Client, to: &mut Client, name: &str, number: u64) {
    let mut accepted: Vec<u32> = Vec::new();
    for branch in 0..2 {
        let reason = from.deliver(message(
            &format!("g/{branch}/to/{name}"),
            number.to_string(),
            QoS::AtLeastOnce,
        ));
        match reason {
            0 => accepted.push(branch),
            other => assert_eq!(other, 0x87, "neither success nor refusal"),
        }
    }
    let arrived: Vec<_> = accepted
        .iter()
        .map(|_| to.expect_payload(&number.to_string()))
        .collect();
    for branch in accepted {
        let topic = format!("g/{branch}/to/{name}");
        let publish = arrived
            .iter()
            .find(|publish| *publish.topic == *topic)
            .expect("what was accepted has arrived");
        let generation = tag(publish).expect("a tag");
        assert_eq!(
            generation % 2,
            branch,
            "allowed by one generation and tagged by another"
        );
    }
}

/// What a process holds of the machine.
#[derive(Debug)]
struct Held {
    files: usize,
    threads: usize,
    resident_kib: u64,
}

impl Held {
    fn by(broker: &Broker) -> Self {
        let count = |of: &str| {
            std::fs::read_dir(format!("/proc/{}/{of}", broker.pid()))
                .expect("/proc")
                .count()
        };
        Self {
            files: count("fd"),
            threads: count("task"),
            resident_kib: broker.resident_kib(),
        }
    }
}

/// Every kind of plugin is replaced each time: rules, a component of one's own, one that may ask backends; and a listener comes and goes.
/// Every tenth configuration is refused when all of that has been made.
#[test]
fn a_thousand_reloads_leave_nothing_behind() {
    const RELOADS: u32 = 1_000;
    const WARM_UP: u32 = 200;
    /// Far less than one generation takes, times the reloads; far more than allocators differ by.
    const GROWTH_KIB: u64 = 24 * 1024;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let extra = free.local_addr().expect("an address");
    drop(free);
    let tables = |n: u32| {
        let listener = if n.is_multiple_of(2) {
            format!("[[listener]]\nbind = \"{extra}\"\n")
        } else {
            String::new()
        };
        let last = if n % 10 == 9 {
            "[[plugin]]\nname = \"x\"\ncomponent = \"garbage.wasm\"\n"
        } else {
            ""
        };
        format!(
            "{listener}[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n\
             config.rules = [{{ allow = \"both\", topics = [\"t\", \"t/{n}\"] }}]\n\
             [[plugin]]\nname = \"plain\"\ncomponent = \"plain.wasm\"\nhooks = [\"transform\"]\n{PATIENT}config = {{ n = {n} }}\n\
             [[plugin]]\nname = \"asking\"\ncomponent = \"asking.wasm\"\nhooks = [\"authenticate\"]\n\
             grants = [\"http://127.0.0.1:9\"]\nconfig = {{ url = \"http://127.0.0.1:9\", timeout_ms = {} }}\n{last}",
            1_000 + n
        )
    };
    // With a directory for what is compiled: otherwise that is most of a reload.
    let broker = strict()
        .shards(2)
        .broker("data_dir = \"data\"\ndurability = \"os\"")
        .toml(&only("t"))
        .file("plain.wasm", guest("plain"))
        .file("asking.wasm", guest("asking"))
        .file("garbage.wasm", "garbage")
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("t", QoS::AtLeastOnce);
    let mut before = None;
    broker.replace_toml(&tables(0));
    broker.reloaded(); // It compiles, which may take longer than an answer is waited for below.
    for n in 1..=RELOADS {
        broker.replace_toml(&tables(n));
        let answer = post_json(&broker, "/v1/reload", "");
        assert_eq!(
            answer.status == 200,
            n % 10 != 9,
            "reload {n}: {answer:?}\n{}",
            broker.log()
        );
        if n % 50 == 0 {
            client.publish("t", "x", QoS::AtLeastOnce);
            client.expect_payload("x");
        }
        if n == WARM_UP {
            before = Some(Held::by(&broker));
        }
    }
    let before = before.expect("it was looked at");
    // What the last generation replaced may still be on its way out.
    wait_for("files and threads of earlier generations to be gone", || {
        let now = Held::by(&broker);
        (now.files <= before.files + 2 && now.threads <= before.threads).then_some(())
    });
    let after = Held::by(&broker);
    eprintln!("after {WARM_UP} reloads {before:?}, after {RELOADS} {after:?}");
    assert!(
        after.resident_kib < before.resident_kib + GROWTH_KIB,
        "{before:?} before, {after:?} after"
    );
}
