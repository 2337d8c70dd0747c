//! `record` with a running broker, and `plugin replay` of what it wrote.

#[path = "support/backend.rs"]
mod backend;
mod support;

use backend::{Answer, Backend};
use serde_json::Value;
use std::path::PathBuf;
use support::*;

const ACL: &str = r#"
[[plugin]]
name = "doors"
component = "plain.wasm"
limits = { call_ms = 1000, authenticate_call_ms = 10000 }
[[plugin]]
name = "acl"
component = "builtin:acl"
config.rules = [{ allow = "both", topics = ["a/#"] }]
"#;

fn broker() -> Broker {
    Setup::new()
        .shards(2)
        .broker("data_dir = \"data\"\ndurability = \"memory\"")
        .file("plain.wasm", guest("plain"))
        .toml(ACL)
        .start()
}

/// Runs a command against the broker's admin API.
#[track_caller]
fn admin(broker: &Broker, args: &[&str], code: i32) -> String {
    let output = nervewire()
        .args(args)
        .args(["--config", &broker.path(CONFIGURATION).display().to_string()])
        .output()
        .expect("run nervewire");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {printed}");
    printed
}

#[track_caller]
fn replay(broker: &Broker, args: &[&str], code: i32) -> String {
    let output = nervewire()
        .current_dir(broker.path(""))
        .args(["plugin", "replay"])
        .args(args)
        .output()
        .expect("run nervewire");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {printed}");
    printed
}

/// Alice comes in with her password and does what shows every hook.
fn use_every_hook(broker: &Broker) {
    let (mut client, answer) = Client::try_connect(broker, login(Version::V5, "c1", "alice", "secret"));
    assert_eq!(answer.reason, ReasonCode::Success);
    for (topic, payload) in [("yes/x", "one"), ("no/x", "two"), ("replace/yes", "three")] {
        client.deliver(message(topic, payload, QoS::AtLeastOnce));
    }
}

fn recording(broker: &Broker, name: &str) -> PathBuf {
    broker.path("data/recordings").join(name)
}

fn lines(broker: &Broker, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(recording(broker, name)).expect("the recording");
    assert!(!text.contains("secret"), "no secret is kept: {text}");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(parse).collect()
}

#[test]
fn calls_are_recorded_without_secrets_and_answered_alike_when_replayed() {
    let broker = broker();
    let started = admin(&broker, &["record", "start", "all.jsonl", "--plugin", "doors"], 0);
    assert!(
        started.contains("recording") && started.contains("plugin doors"),
        "{started}"
    );
    use_every_hook(&broker);
    let stopped = admin(&broker, &["record", "stop"], 0);
    assert!(
        stopped.contains("ended: stopped") && stopped.contains(", 0 dropped"),
        "{stopped}"
    );
    use_every_hook(&broker); // Not recorded: it has ended.
    let lines = lines(&broker, "all.jsonl");
    assert_eq!(lines[0]["nervewire_recording"], 2);
    let calls = &lines[1..lines.len() - 1];
    assert!(calls.iter().all(|call| call["plugin"] == "doors"), "{calls:?}");
    let of = |name: &str| calls.iter().filter(|call| call["call"] == name).count();
    assert_eq!(of("authenticate"), 1, "{calls:?}");
    assert!(
        of("rules") >= 1 && of("authorize") >= 1 && of("transform") >= 1,
        "{calls:?}"
    );
    let login = calls
        .iter()
        .find(|call| call["call"] == "authenticate")
        .expect("a login");
    assert_eq!(login["credentials"]["password"], "[redacted]");
    assert_eq!(login["credentials"]["username"], "alice");
    assert_eq!(lines[lines.len() - 1]["end"]["records"], calls.len());

    let file = recording(&broker, "all.jsonl").display().to_string();
    let same = replay(&broker, &["plain.wasm", &file, "--fail-on-difference"], 0);
    assert!(same.contains(" 0 different, 1 skipped"), "{same}");
    assert!(same.contains("1 skipped: credentials are not recorded"), "{same}");
    assert_eq!(
        replay(&broker, &["plain.wasm", &file], 0),
        replay(&broker, &["plain.wasm", &file], 0)
    );
}

#[test]
fn another_component_is_told_apart_by_its_answers() {
    let broker = broker();
    admin(&broker, &["record", "start", "acl", "--hook", "authorize"], 0);
    use_every_hook(&broker);
    admin(&broker, &["record", "stop"], 0);
    let file = recording(&broker, "acl").display().to_string();
    let config = broker.path(CONFIGURATION).display().to_string();
    let args = [
        "builtin:acl",
        &file,
        "--plugin",
        "acl",
        "--config",
        &config,
        "--fail-on-difference",
    ];
    let same = replay(&broker, &args, 0);
    assert!(same.contains(" 0 different"), "{same}");
    let cases = "config.rules = [{ deny = \"publish\", topics = [\"yes/#\"] }]\n[[case]]\nname = \"x\"\nhook = \"authorize\"\n\
                 request = { action = \"publish\", topic = \"yes\" }\nexpect = \"deny\"";
    std::fs::write(broker.path("stricter.toml"), cases).expect("write");
    let args = ["builtin:acl", &file, "--plugin", "acl", "--cases", "stricter.toml"];
    let differs = replay(&broker, &args, 0);
    assert!(
        differs.contains("DIFFERENT line ") && differs.contains("now      [{"),
        "{differs}"
    );
    replay(&broker, &[&args[..], &["--fail-on-difference"]].concat(), 1);
    let json = replay(&broker, &[&args[..], &["--json"]].concat(), 0);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert!(report["different"].as_u64() > Some(0), "{json}");
    let ambiguous = replay(&broker, &["builtin:acl", &file], 2);
    assert!(ambiguous.contains("one of: acl, doors"), "{ambiguous}");
    replay(&broker, &["builtin:acl", &config, "--plugin", "acl"], 2);
}

/// A guest that ticks and finds everybody odd.
const WATCH: &str = r#"
[detect]
window_ms = 100
[[plugin]]
name = "watch"
component = "ticking.wasm"
grants = ["publish:pulse/#"]
config = { every = 100, topic = "pulse/a", payload = "beat", echo = true }
limits = { call_ms = 1000, tick_call_ms = 10000, detect_call_ms = 10000 }
"#;

fn watching() -> Broker {
    Setup::new()
        .broker("data_dir = \"data\"\ndurability = \"memory\"")
        .file("ticking.wasm", guest("ticking"))
        .toml(WATCH)
        .start()
}

/// Records until the recording has both calls.
fn record_ticks_and_windows(broker: &Broker, name: &str, more: &[&str]) {
    admin(broker, &[&["record", "start", name], more].concat(), 0);
    let mut client = Client::new(broker, Version::V5, "odd-one");
    client.deliver(message("x", "y", QoS::AtLeastOnce));
    wait_for("a tick and a window", || {
        let text = std::fs::read_to_string(recording(broker, name)).ok()?;
        let has = |part: &str| text.lines().any(|line| line.contains(part));
        (has("\"call\":\"tick\"") && has("\"call\":\"detect\"")).then_some(())
    });
    admin(broker, &["record", "stop"], 0);
}

#[test]
fn ticks_and_windows_are_recorded_and_replayed() {
    let broker = watching();
    record_ticks_and_windows(&broker, "watch", &["--plugin", "watch"]);
    let lines = lines(&broker, "watch");
    let of = |name: &str| lines.iter().find(|line| line["call"] == name).expect(name);
    assert!(of("tick")["now_unix_ms"].is_u64() && of("tick")["client"].is_null());
    assert_eq!(of("tick")["answer"]["emit"][0]["payload"], "beat");
    assert_eq!(of("detect")["windows"][0]["client_id"], "odd-one");
    assert_eq!(of("detect")["answer"][0]["client_id"], "odd-one");

    let (file, config) = (recording(&broker, "watch"), broker.path(CONFIGURATION));
    let (file, config) = (file.display().to_string(), config.display().to_string());
    let configured = ["ticking.wasm", &file, "--plugin", "watch", "--config", &config];
    let same = replay(&broker, &[&configured[..], &["--fail-on-difference"]].concat(), 0);
    assert!(
        same.contains(" 0 different") && same.contains("tick: {\"emit\""),
        "{same}"
    );
    assert!(same.contains("detect clients \"odd-one\""), "{same}");
    assert_eq!(same, replay(&broker, &configured, 0), "twice gives the same");

    let cases = "grants = [\"publish:pulse/#\"]\nconfig = { topic = \"pulse/a\", payload = \"other\" }\n\
                 [[case]]\nname = \"x\"\nhook = \"tick\"\nexpect = \"none\"";
    std::fs::write(broker.path("other.toml"), cases).expect("write");
    let differs = replay(&broker, &["ticking.wasm", &file, "--cases", "other.toml"], 0);
    assert!(
        !differs.contains("  tick: ") && !differs.contains("  detect clients \"odd-one\": "),
        "{differs}"
    );
    assert!(differs.contains("\"payload\":\"other\""), "{differs}");
    assert!(differs.contains("now      []"), "nobody is odd now: {differs}");
}

#[test]
fn a_tick_without_payloads_is_compared_by_the_rest() {
    let broker = watching();
    record_ticks_and_windows(&broker, "bare", &["--no-payloads"]);
    let text = std::fs::read_to_string(recording(&broker, "bare")).expect("the recording");
    assert!(!text.contains("beat"), "{text}");
    let (file, config) = (recording(&broker, "bare"), broker.path(CONFIGURATION));
    let (file, config) = (file.display().to_string(), config.display().to_string());
    let args = ["ticking.wasm", &file, "--plugin", "watch", "--config", &config];
    let same = replay(&broker, &[&args[..], &["--fail-on-difference"]].concat(), 0);
    assert!(same.contains("tick: {\"emit\"") && same.contains("transform"), "{same}");
}

#[test]
fn with_one_client_come_the_windows_it_is_in() {
    let broker = watching();
    admin(&broker, &["record", "start", "one", "--client", "odd-one"], 0);
    drop(Client::new(&broker, Version::V5, "another"));
    let mut client = Client::new(&broker, Version::V5, "odd-one");
    client.deliver(message("x", "y", QoS::AtLeastOnce));
    wait_for("a window", || {
        let text = std::fs::read_to_string(recording(&broker, "one")).ok()?;
        text.contains("\"call\":\"detect\"").then_some(())
    });
    admin(&broker, &["record", "stop"], 0);
    let lines = lines(&broker, "one");
    for line in &lines[1..lines.len() - 1] {
        assert_ne!(line["call"], "tick", "it is about no client: {line}");
        assert!(line.to_string().contains("odd-one"), "{line}");
    }
}

/// A backend that lets nobody publish to `no/#`, and tells what nobody should read in a recording.
fn door_keeper() -> Backend {
    Backend::start(|asked| {
        let status = if asked.body.contains("no%2F") { 403 } else { 200 };
        let answer = Answer::status(status)
            .header("set-cookie", "secret-cookie")
            .header("etag", "\"1\"");
        Some(match asked.path.as_str() {
            "/transform" => answer.body("by the backend"),
            _ => answer.body("{\"client_token\":\"secret-token\",\"ok\":true}"),
        })
    })
}

#[test]
fn answers_of_backends_are_recorded_and_served_in_a_replay() {
    let backend = door_keeper();
    let url = backend.url();
    let broker = Setup::new()
        .broker("data_dir = \"data\"\ndurability = \"memory\"")
        .file("asking.wasm", guest("asking"))
        .toml(&format!(
            "[[plugin]]\nname = \"asking\"\ncomponent = \"asking.wasm\"\ngrants = [\"{url}\"]\n\
             limits = {{ authenticate_call_ms = 10000 }}\nconfig = {{ url = \"{url}\" }}\n"
        ))
        .start();
    admin(&broker, &["record", "start", "http"], 0);
    let (mut client, answer) = Client::try_connect(&broker, login(Version::V5, "c1", "alice", "secret"));
    assert_eq!(answer.reason, ReasonCode::Success);
    for topic in ["yes/x", "no/x", "yes/y"] {
        client.deliver(message(topic, "x", QoS::AtLeastOnce));
    }
    admin(&broker, &["record", "stop"], 0);
    drop(backend);
    let lines = lines(&broker, "http");
    let of = |call: &str, part: &str| {
        let found = lines
            .iter()
            .find(|line| line["call"] == call && line.to_string().contains(part));
        found.unwrap_or_else(|| panic!("no {call} with {part}: {lines:?}"))
    };
    let login = &of("authenticate", "c1")["http"][0];
    assert_eq!((&login["outcome_only"], &login["status"]), (&true.into(), &200.into()));
    assert_eq!(login["url"], format!("{url}/[redacted]"));
    let refused = &of("authorize", "no/x")["http"][0];
    assert_eq!(refused["url"], format!("{url}/authorize"));
    assert_eq!(refused["request_body"], "client_id=c1&topic=no%2Fx");
    assert_eq!(refused["status"], 403);
    assert_eq!(
        refused["headers"].to_string(),
        "[[\"set-cookie\",\"[redacted]\"],[\"etag\",\"\\\"1\\\"\"]]"
    );
    assert_eq!(of("transform", "yes/x")["http"][0]["body"], "by the backend");

    let (file, config) = (recording(&broker, "http"), broker.path(CONFIGURATION));
    let (file, config) = (file.display().to_string(), config.display().to_string());
    let args = [
        "asking.wasm",
        &file,
        "--plugin",
        "asking",
        "--config",
        &config,
        "--fail-on-difference",
    ];
    let same = replay(&broker, &args, 0);
    assert!(
        same.contains(" 0 different, 1 skipped") && !same.contains("refused"),
        "{same}"
    );
    assert!(same.contains("\"payload\":\"by the backend\""), "{same}");
    assert_eq!(same, replay(&broker, &args, 0), "twice gives the same");

    // Another version of it asks another path, and nobody but the recording is asked.
    let cases = format!(
        "grants = [\"{url}\"]\nconfig = {{ url = \"{url}/v2\" }}\n\
         [[case]]\nname = \"x\"\nhook = \"tick\"\nexpect = \"none\""
    );
    std::fs::write(broker.path("v2.toml"), cases).expect("write");
    let args = ["asking.wasm", &file, "--cases", "v2.toml", "--only-differences"];
    let differs = replay(&broker, &args, 0);
    assert!(
        differs.contains(&format!("the recording has no answer to POST {url}/v2/authorize")),
        "{differs}"
    );
    assert!(
        differs.contains("requests were refused") && differs.contains("DIFFERENT"),
        "{differs}"
    );
}

#[test]
fn payloads_can_be_left_out() {
    let broker = broker();
    admin(
        &broker,
        &[
            "record",
            "start",
            "p",
            "--plugin",
            "doors",
            "--hook",
            "transform",
            "--no-payloads",
        ],
        0,
    );
    use_every_hook(&broker);
    admin(&broker, &["record", "stop"], 0);
    let text = std::fs::read_to_string(recording(&broker, "p")).expect("the recording");
    assert!(text.contains("replace/yes") && !text.contains("three"), "{text}");
    let file = recording(&broker, "p").display().to_string();
    let skipped = replay(&broker, &["plain.wasm", &file], 0);
    assert!(skipped.contains("the payload was not recorded"), "{skipped}");
}

#[test]
fn a_recording_that_cannot_be_meant_is_refused() {
    let broker = broker();
    let check = |args: &[&str], part: &str| {
        let printed = admin(&broker, &[&["record"], args].concat(), 1);
        assert!(printed.contains(part), "{printed}");
    };
    check(&["stop"], "nothing is being recorded");
    check(&["start", "../outside"], "without a directory");
    check(&["start", "/tmp/outside"], "without a directory");
    check(&["start", "x", "--plugin", "door"], "doors, acl");
    assert!(admin(&broker, &["record", "status"], 0).contains("nothing was recorded"));
    admin(&broker, &["record", "start", "x"], 0);
    check(&["start", "y"], "nervewire record stop");
    assert!(admin(&broker, &["record", "status", "--json"], 0).contains("\"active\": true"));
    admin(&broker, &["record", "stop"], 0);
    check(&["start", "x"], "exists");
    let nowhere = Setup::new().start();
    let refused = admin(&nowhere, &["record", "start", "x"], 1);
    assert!(refused.contains("data_dir"), "{refused}");
}

/// It ends by itself: by time, and by size.
#[test]
fn a_recording_has_an_end() {
    let broker = broker();
    admin(&broker, &["record", "start", "short", "--seconds", "1"], 0);
    let ended = wait_for("the end of the recording", || {
        let status = admin(&broker, &["record", "status"], 0);
        status.contains("ended: its time was over").then_some(status)
    });
    assert!(ended.contains("short"), "{ended}");
    admin(&broker, &["record", "start", "small", "--max-mib", "1"], 0);
    let mut client = Client::new(&broker, Version::V5, "c");
    let large = bytes::Bytes::from("x".repeat(300_000));
    for _ in 0..4 {
        client.deliver(message("yes/x", large.clone(), QoS::AtLeastOnce));
    }
    wait_for("the end of the recording", || {
        admin(&broker, &["record", "status"], 0)
            .contains("ended: the file had its size")
            .then_some(())
    });
    let file = recording(&broker, "small").metadata().expect("the recording").len();
    assert!((1024 * 1024..3 * 1024 * 1024).contains(&file), "{file}");
}
