//! Who is kept out, and what attackers cost those who are not: bans, bounds before authentication, rates, memory.

mod support;

use nervewire_codec::encode;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use support::*;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn bound_hit(broker: &Broker, bound: &str) -> f64 {
    metric(broker, "nervewire_bounds_hit_total", &[("bound", bound)])
}

/// A connection from one of this machine's addresses.
fn open_from(broker: &Broker, source: Ipv4Addr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let source: SocketAddr = (source, 0).into();
    socket.bind(&source.into()).expect("a source address");
    socket.connect(&broker.address().into()).expect("connect");
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
    stream
}

/// The reason code of the CONNACK; `None`: the connection ends without one.
fn answer_to(mut stream: TcpStream, connect: Connect) -> Option<u8> {
    let version = connect.version;
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect)), version, &mut bytes).expect("encode");
    stream.write_all(&bytes).ok()?;
    let mut client = Client::over(stream, version);
    match client.try_next() {
        Ok(Some(Packet::ConnAck(ack))) => Some(ack.reason as u8),
        Ok(Some(other)) => panic!("{other:?}"),
        // Closed with our bytes unread: the kernel resets it.
        Ok(None) | Err(_) => None,
    }
}

fn connect_from(broker: &Broker, source: Ipv4Addr, connect: Connect) -> Option<u8> {
    answer_to(open_from(broker, source), connect)
}

fn is_served(broker: &Broker, source: Ipv4Addr) -> bool {
    connect_from(broker, source, hello(Version::V5, "visitor")) == Some(0)
}

#[track_caller]
fn ban(broker: &Broker, body: &Value) -> Value {
    let answer = post_json(broker, "/v1/bans", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[track_caller]
fn lift(broker: &Broker, body: &Value) {
    let answer = post_json(broker, "/v1/bans/lift", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_ban_ends_the_connections_it_concerns_and_no_others() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version, "c");
        let mut other = Client::new(broker, version, "other");
        ban(broker, &json!({"client": "c", "reason": "spam"}));
        client.expect_disconnect(0x98);
        other.subscribe("t", QoS::AtLeastOnce);
        let refused = if version == Version::V5 { 0x8A } else { 5 };
        let connect = || connect_from(broker, HERE, hello(version, "c"));
        assert_eq!(connect().map(|code| wire_code(version, code)), Some(refused));
        lift(broker, &json!({"client": "c"}));
        assert_eq!(connect(), Some(0));
    });
}

/// The return code that a 3.1.1 client reads for this reason.
fn wire_code(version: Version, code: u8) -> u8 {
    match (version, code) {
        (Version::V5, code) => code,
        (_, 0x87 | 5) => 5,
        (_, other) => other,
    }
}

#[test]
fn users_addresses_and_networks_are_banned_too() {
    let broker = Setup::new().shards(2).start();
    let as_user = |user: &str| connect_from(&broker, HERE, login(Version::V5, "c", user, "secret"));
    assert_eq!(as_user("mallory"), Some(0x86), "nobody knows the user");
    ban(&broker, &json!({"user": "mallory"}));
    assert_eq!(as_user("mallory"), Some(0x8A));
    assert_eq!(as_user("alice"), Some(0x86));
    for subject in [json!({"address": "127.0.0.2"}), json!({"network": "127.0.0.2/31"})] {
        assert!(is_served(&broker, ELSEWHERE));
        let mut client = Client::over(open_from(&broker, ELSEWHERE), Version::V5);
        client.send(Packet::Connect(Box::new(hello(Version::V5, "there"))));
        client.expect_connack();
        ban(&broker, &subject);
        client.expect_disconnect(0x98);
        assert!(!is_served(&broker, ELSEWHERE) && is_served(&broker, HERE));
        lift(&broker, &subject);
    }
    assert!(metric(&broker, "nervewire_connects_total", &[("outcome", "banned")]) >= 3.0);
}

#[test]
fn bans_survive_kill_9_and_checkpoints_and_lifted_ones_do_not_come_back() {
    for shards in SHARD_COUNTS {
        // A small store has small segments: what follows makes checkpoints.
        let limits = "[limits]\nstore_bytes = 2_000_000\n";
        let broker = Setup::new().shards(shards).broker(ON_DISK).toml(limits).start();
        assert_eq!(ban(&broker, &json!({"client": "kept", "tenant": null}))["stored"], true);
        ban(
            &broker,
            &json!({"network": "127.0.0.2/32", "seconds": 3600, "reason": "scans"}),
        );
        ban(&broker, &json!({"user": "lifted"}));
        lift(&broker, &json!({"user": "lifted"}));
        let listed = get(&broker, "/v1/bans").json();
        let mut publisher = Client::new(&broker, Version::V5, "p");
        for number in 0..2_000 {
            publisher.retain("t", format!("{number:01000}"), QoS::AtLeastOnce);
        }
        let broker = broker.kill9().0.start();
        assert_eq!(get(&broker, "/v1/bans").json(), listed);
        assert_eq!(listed["bans"].as_array().map(Vec::len), Some(2));
        assert!(!is_served(&broker, ELSEWHERE) && is_served(&broker, HERE));
        assert_eq!(connect_from(&broker, HERE, hello(Version::V5, "kept")), Some(0x8A));
        assert_eq!(metric(&broker, "nervewire_bans", &[]), 2.0);
    }
}

#[test]
fn a_timed_ban_ends_by_itself() {
    let broker = Setup::new().start();
    let made = ban(&broker, &json!({"client": "c", "seconds": 1}));
    assert_eq!(made["stored"], false, "nothing is stored: {made}");
    assert_eq!(connect_from(&broker, HERE, hello(Version::V5, "c")), Some(0x8A));
    wait_for("the end of the ban", || {
        (connect_from(&broker, HERE, hello(Version::V5, "c")) == Some(0)).then_some(())
    });
    assert_eq!(get(&broker, "/v1/bans").json(), json!({"bans": []}));
}

#[test]
fn an_operator_bans_by_command_and_is_not_locked_out() {
    let broker = Setup::new().start();
    let run = |args: &[&str]| {
        let output = broker.cli(args);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(
            output.status.success(),
            "{args:?}: {:?}",
            String::from_utf8(output.stderr)
        );
        text
    };
    assert_eq!(run(&["bans"]), "nobody is banned\n");
    let text = run(&[
        "bans",
        "add",
        "--network",
        "0.0.0.0/0",
        "--for",
        "1h",
        "--reason",
        "all",
    ]);
    assert!(text.starts_with("banned network 0.0.0.0/0 for "), "{text}");
    assert!(!is_served(&broker, HERE));
    let listed: Value = serde_json::from_str(&run(&["bans", "list", "--json"])).expect("JSON");
    assert_eq!(listed["bans"][0]["reason"], "all");
    run(&["bans", "lift", "--network", "0.0.0.0/0"]);
    assert!(is_served(&broker, HERE));
    let output = broker.cli(&["bans", "lift", "--client", "nobody"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn what_is_no_ban_is_refused_with_words() {
    let broker = Setup::new().start();
    for (body, part) in [
        ("{}", "exactly one"),
        (r#"{"client": "c", "user": "u"}"#, "exactly one"),
        (r#"{"address": "here"}"#, "no IP address"),
        (r#"{"network": "10.0.0.0/99"}"#, "no IP network"),
        (r#"{"client": "c", "seconds": 0}"#, "seconds"),
        (r#"{"client": "c", "forever": true}"#, "unknown field"),
        (r#"{"client": ""}"#, "must not be empty"),
    ] {
        let answer = post_json(&broker, "/v1/bans", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.body.contains(part), "{body}: {answer:?}");
    }
    assert_eq!(post_json(&broker, "/v1/bans/lift", r#"{"client": "c"}"#).status, 404);
}

#[test]
fn failed_logins_keep_their_address_out_and_then_ban_it_and_nobody_else() {
    let limits = "[limits]\nfailed_logins_per_minute = 3\nfailed_logins_per_hour = 6\nfailed_login_ban_s = 3600\n";
    let broker = Setup::new().shards(2).toml(limits).start();
    let guess = |source, user: &str| connect_from(&broker, source, login(Version::V5, "c", user, "wrong"));
    for number in 0..4 {
        assert_eq!(guess(ELSEWHERE, &format!("user {number}")), Some(0x86));
    }
    assert!(!is_served(&broker, ELSEWHERE), "it is kept out");
    assert!(is_served(&broker, HERE));
    assert!(bound_hit(&broker, "failed_logins_per_minute") >= 1.0);
    wait_for("the ban", || {
        guess(ELSEWHERE, "again");
        (get(&broker, "/v1/bans").json()["bans"][0]["subject"] == "127.0.0.2").then_some(())
    });
    assert_eq!(get(&broker, "/v1/bans").json()["bans"][0]["by"], "failed logins");
    assert_eq!(bound_hit(&broker, "failed_logins_per_hour"), 1.0);
    assert!(!is_served(&broker, ELSEWHERE) && is_served(&broker, HERE));
}

#[test]
fn an_address_has_so_many_connections_and_makes_so_many_in_a_second() {
    let limits = "[limits]\nconnections_per_address = 3\n";
    let broker = Setup::new().shards(2).toml(limits).start();
    let held: Vec<Client> = (0..3)
        .map(|n| Client::new(&broker, Version::V5, &format!("c{n}")))
        .collect();
    assert!(!is_served(&broker, HERE) && is_served(&broker, ELSEWHERE));
    assert_eq!(bound_hit(&broker, "connections_per_address"), 1.0);
    drop(held);
    wait_for("room for one more", || is_served(&broker, HERE).then_some(()));
    // From now on, without a restart, something else is bounded.
    broker.replace_toml("[limits]\nconnect_rate_per_s_per_address = 5\n");
    broker.reloaded();
    wait_for("the bound", || (!is_served(&broker, HERE)).then_some(()));
    assert!(is_served(&broker, ELSEWHERE));
    assert!(bound_hit(&broker, "connect_rate_per_s_per_address") >= 1.0);
    broker.replace_toml("[limits]\nconnect_rate_per_s = 5\n");
    broker.reloaded();
    wait_for("the common bound", || (!is_served(&broker, HERE)).then_some(()));
    assert!(bound_hit(&broker, "connect_rate_per_s") >= 1.0);
}

#[test]
fn a_client_identifier_that_is_taken_over_again_and_again_is_slowed_and_reported() {
    each_version_setup("[limits]\ntakeovers_per_minute = 5\n", |broker, version| {
        for _ in 0..6 {
            Client::new(broker, version, "twin").expect_idle();
            let _kept_until_taken_over = Client::new(broker, version, "twin");
        }
        let _first = Client::new(broker, version, "flapping");
        let mut last = None;
        for _ in 0..5 {
            last = Some(Client::new(broker, version, "flapping"));
        }
        let mut waits = Client::open(broker, version);
        waits.send(Packet::Connect(Box::new(hello(version, "flapping"))));
        wait_for("a takeover that waits", || {
            (bound_hit(broker, "takeovers_per_minute") >= 1.0).then_some(())
        });
        let last = last.as_mut().expect("the last one");
        last.subscribe("still/served", QoS::AtLeastOnce);
        broker.logs("two clients use the same one");
        // A newer one takes its place in the queue.
        let mut newer = Client::open(broker, version);
        newer.send(Packet::Connect(Box::new(hello(version, "flapping"))));
        let refused = waits.expect_connack();
        assert_eq!(
            refused.reason as u8,
            if version == Version::V5 {
                0x9F
            } else {
                refused.reason as u8
            }
        );
        waits.expect_end();
        last.subscribe("served/by/others", QoS::AtLeastOnce);
        ban(broker, &json!({"client": "flapping"}));
        assert_ne!(newer.expect_connack().reason as u8, 0, "who waits can be banned");
    });
}

/// Half-open, slow, broken and greedy clients all at once, and those who behave are served.
#[test]
fn those_who_behave_are_served_while_others_attack() {
    let limits = "[limits]\nconnect_timeout_ms = 1_000\npublish_rate_per_s = 200\nmemory_bytes = 16_777_216\n\
                  queue_bytes = 4_194_304\n";
    let broker = Setup::new().shards(2).toml(limits).start();
    let mut subscriber = Client::new(&broker, Version::V5, "subscriber");
    subscriber.subscribe("healthy/#", QoS::AtLeastOnce);
    let mut publisher = Client::new(&broker, Version::V5, "publisher");
    let half_open: Vec<TcpStream> = (0..200).map(|_| open_from(&broker, ELSEWHERE)).collect();
    let mut slow: Vec<TcpStream> = (0..100).map(|_| open_from(&broker, ELSEWHERE)).collect();
    for stream in &mut slow {
        // The beginning of a CONNECT that would be 200,000 bytes.
        let _ = stream.write_all(&[0x10, 0xC0, 0x9A, 0x0C, 0, 4]);
    }
    let mut never_reads = Client::new(&broker, Version::V5, "never reads");
    never_reads.subscribe("flood/#", QoS::AtMostOnce);
    for _ in 0..200 {
        let mut broken = open_from(&broker, ELSEWHERE);
        let _ = broken.write_all(&[0xFF; 64]);
    }
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut stream = open_from(&broker, ELSEWHERE);
            let mut bytes = Vec::new();
            encode(
                &Packet::Connect(Box::new(hello(Version::V5, "flood"))),
                Version::V5,
                &mut bytes,
            )
            .expect("encode");
            let publish = Packet::Publish(message("flood/t", vec![b'x'; 1_000], QoS::AtMostOnce));
            (0..2_000).for_each(|_| encode(&publish, Version::V5, &mut bytes).expect("encode"));
            stream
                .set_write_timeout(Some(std::time::Duration::from_secs(1)))
                .expect("a timeout");
            // It blocks where the broker reads no more: that is what is wanted.
            let _ = stream.write_all(&bytes);
            stream
        });
        for number in 0..100 {
            let payload = format!("message {number}");
            publisher.publish("healthy/t", payload.clone(), QoS::AtLeastOnce);
            subscriber.expect_payload(&payload);
        }
        flood.join().expect("the flood")
    });
    wait_for("the flood to be slowed", || {
        (bound_hit(&broker, "publish_rate_per_s") >= 1.0).then_some(())
    });
    wait_for("those who send no CONNECT to be closed", || {
        (bound_hit(&broker, "connect_timeout_ms") >= 300.0).then_some(())
    });
    for mut stream in half_open.into_iter().chain(slow) {
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "closed");
    }
    assert!(metric(&broker, "nervewire_connects_total", &[("outcome", "protocol")]) >= 200.0);
    publisher.publish("healthy/t", "after all that", QoS::AtLeastOnce);
    subscriber.expect_payload("after all that");
    drop((flood, never_reads));
}

/// Whoever came while the broker stood still is there all at once. It takes them by slices of its passes, and lets all of them in.
#[test]
fn a_crowd_before_the_door_gets_a_slice_of_a_pass_and_comes_in() {
    let broker = Setup::new().shards(1).start();
    broker.signal("STOP");
    let mut bytes = Vec::new();
    let connect = Packet::Connect(Box::new(hello(Version::V5, "")));
    encode(&connect, Version::V5, &mut bytes).expect("encode");
    let crowd = (0..100).map(|_| {
        let mut stream = open_from(&broker, HERE);
        stream.write_all(&bytes).expect("CONNECT");
        Client::over(stream, Version::V5)
    });
    let crowd: Vec<Client> = crowd.collect();
    broker.signal("CONT");
    for mut client in crowd {
        assert_eq!(client.expect_connack().reason, ReasonCode::Success);
    }
    assert!(bound_hit(&broker, "newcomers_us_per_pass") >= 1.0);
}

/// The lines of the log about connections refused for this reason, and how many connections they tell of.
fn logged(log: &str, reason: &str) -> (usize, u64) {
    let of_reason = |line: &&str| line.contains(reason) && line.contains(" INFO ");
    let (sums, single): (Vec<&str>, Vec<&str>) = log
        .lines()
        .filter(of_reason)
        .partition(|line| line.contains("more connections refused"));
    let sum = |line: &&str| {
        let number = line.split_once("connections=").expect("a number").1;
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().expect("a number")
    };
    (
        sums.len() + single.len(),
        single.len() as u64 + sums.iter().map(sum).sum::<u64>(),
    )
}

/// Thousands of connections that break the protocol, or log in with a wrong password, are a line per second each, which says how many.
#[test]
fn an_attack_does_not_fill_the_log() {
    const EACH: u64 = 1_000;
    let broker = Setup::new()
        .shards(2)
        .auth("anonymous = \"deny\"\ndefault = \"allow\"")
        .toml("[limits]\nfailed_logins_per_minute = 0\nfailed_logins_per_hour = 0\n")
        .start();
    let begun = std::time::Instant::now();
    for n in 0..EACH {
        let mut malformed = open_from(&broker, ELSEWHERE);
        malformed.write_all(b"\x10\xff\xff\xff\xff\x7f").expect("write");
        assert_eq!(malformed.read(&mut [0; 16]).unwrap_or(0), 0);
        let refused = connect_from(&broker, ELSEWHERE, login(Version::V5, &format!("c{n}"), "u", "p"));
        assert_eq!(refused, Some(ReasonCode::BadUserNameOrPassword as u8));
    }
    let reasons = ["MalformedPacket", "BadUserNameOrPassword"];
    wait_for("the sums", || {
        let log = broker.log();
        let told = reasons.map(|reason| logged(&log, reason).1);
        (told == [EACH; 2]).then_some(())
    });
    let seconds = begun.elapsed().as_secs() as usize;
    for reason in reasons {
        let lines = logged(&broker.log(), reason).0;
        assert!((2..=seconds + 2).contains(&lines), "{lines} lines in {seconds} s");
    }
}

/// Connections that are not let in have a share of the memory, and those that have waited longest go first.
#[test]
fn connections_that_are_not_let_in_give_way_first() {
    let limits = "[limits]\nmemory_bytes = 1_048_576\nconnect_timeout_ms = 600_000\n";
    let broker = Setup::new().toml(limits).start();
    let mut healthy = Client::new(&broker, Version::V5, "healthy");
    healthy.subscribe("t", QoS::AtLeastOnce);
    let attackers: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = open_from(&broker, ELSEWHERE);
            let mut begun = vec![0x10, 0xC0, 0x9A, 0x0C, 0, 4];
            begun.resize(100_000, b'x');
            begun[6..12].copy_from_slice(b"MQTT\x05\x02");
            let _ = stream.write_all(&begun);
            stream
        })
        .collect();
    wait_for("some to be closed", || {
        (bound_hit(&broker, "pending_connections_bytes") >= 10.0).then_some(())
    });
    healthy.publish("t", "served", QoS::AtLeastOnce);
    healthy.expect_payload("served");
    assert!(is_served(&broker, HERE));
    drop(attackers);
}

/// A subscriber that never reads loses its own messages; another one gets all of its.
#[test]
fn a_subscriber_that_never_reads_costs_its_own_queue_alone() {
    let limits = "[limits]\nmemory_bytes = 4_194_304\nqueue_messages = 1_000_000\nqueue_bytes = 1_073_741_824\n";
    for shards in SHARD_COUNTS {
        let broker = Setup::new().shards(shards).toml(limits).start();
        let mut never_reads: Vec<Client> = (0..4)
            .map(|n| Client::new(&broker, Version::V5, &format!("never reads {n}")))
            .collect();
        for client in &mut never_reads {
            client.subscribe("flood/#", QoS::AtMostOnce);
        }
        let mut reads = Client::new(&broker, Version::V5, "reads");
        reads.subscribe("flood/#", QoS::AtLeastOnce);
        let mut publisher = Client::new(&broker, Version::V5, "publisher");
        for number in 0..1_500 {
            let payload = format!("{number:010000}");
            publisher.publish("flood/t", payload.clone(), QoS::AtLeastOnce);
            reads.expect_payload(&payload);
        }
        assert!(bound_hit(&broker, "memory_bytes") >= 1.0);
    }
}
