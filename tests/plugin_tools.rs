//! The tools of plugin authors, without a broker: `plugin test`, `plugin bench`.

mod support;

use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use support::{guest, nervewire};

/// A directory with a component and whatever else a tool is given.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(name: &str) -> Self {
        let bench = Self {
            dir: tempfile::tempdir().expect("temporary directory"),
        };
        std::fs::write(bench.path("plugin.wasm"), guest(name)).expect("write");
        bench
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("write");
    }

    #[track_caller]
    fn run(&self, args: &[&str], code: i32) -> String {
        let output = nervewire()
            .current_dir(self.dir.path())
            .arg("plugin")
            .args(args)
            .output()
            .expect("run nervewire");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", printed(&output));
        printed(&output)
    }

    #[track_caller]
    fn test(&self, cases: &str, code: i32) -> String {
        self.write("CASES.toml", cases);
        self.run(&["test", "plugin.wasm", "CASES.toml"], code)
    }
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn check_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

const CASES: &str = r#"
[[case]]
name = "alice comes in"
hook = "authenticate"
client = { client_id = "c9" }
credentials = { username = "alice", password = "secret" }
expect = { allow = { username = "alice", quotas = { subscriptions = 3 } } }

[[case]]
name = "a challenge is asked"
hook = "authenticate"
credentials = { method = "ECHO" }
expect = { challenge = { data = "say please" } }

[[case]]
name = "and answered: its state is handed back"
hook = "authenticate"
credentials = { method = "ECHO", data = "please" }
expect = { allow = { username = "echo", data = "welcome" } }

[[case]]
name = "no rules: it is asked"
hook = "authorize"
request = { action = "publish", topic = "no/x" }
expect = "deny"

[[case]]
name = "by its rules"
hook = "authorize"
client = { client_id = "ruled" }
request = { action = "subscribe", topic = "dev/ruled/x", qos = 2 }
expect = "allow"

[[case]]
name = "one message becomes three"
hook = "transform"
message = { topic = "emit/x", payload = "p" }
expect = { emit = [{ topic = "part/0" }, { topic = "part/1", payload = "p" }, { topic = "part/2" }] }

[[case]]
name = "too many"
hook = "transform"
message = { topic = "reject/x" }
expect = { reject = "quota-exceeded" }
"#;

#[test]
fn a_plugin_is_asked_what_the_cases_say() {
    let bench = Bench::new("plain");
    let text = bench.test(CASES, 0);
    check_has(&text, &["ok      alice comes in\n", "7 cases: 7 ok, 0 failed\n"]);
}

/// The clock stands where the cases say, and the cases move it.
#[test]
fn time_is_virtual() {
    let bench = Bench::new("plain");
    let cases = r#"
        now_ms = 1_000
        [[case]]
        name = "at first"
        hook = "transform"
        message = { topic = "time" }
        expect = { replace = { payload = "1000" } }
        [[case]]
        name = "a day later"
        hook = "transform"
        advance_ms = 86_400_000
        message = { topic = "time" }
        expect = { replace = { payload = "86401000" } }
    "#;
    bench.test(cases, 0);
}

/// `kv` is kept from case to case and expires with the clock; random numbers are the same in every run.
#[test]
fn a_run_repeats_itself() {
    let bench = Bench::new("counting");
    let case = |topic: &str, advance_ms: u64, payload: &str| {
        format!(
            "[[case]]\nname = \"{topic}\"\nhook = \"transform\"\nadvance_ms = {advance_ms}\n\
             message = {{ topic = \"{topic}\" }}\nexpect = {{ replace = {{ {payload} }} }}\n"
        )
    };
    let cases = [
        "grants = [\"kv\", \"random\"]\n".to_owned(),
        case("set-briefly", 0, ""),
        case("get", 49, "payload = 'Some([98, 114, 105, 101, 102])'"),
        case("get", 1, "payload = 'None'"),
        case("count", 0, "payload = 'Ok(1)'"),
        case("count", 0, "payload = 'Ok(2)'"),
        case("random", 0, ""),
        case("random", 0, ""),
    ];
    bench.write("CASES.toml", &cases.concat());
    let run = || bench.run(&["test", "plugin.wasm", "CASES.toml", "--json"], 0);
    let first = run();
    assert_eq!(run(), first);
    let report: Value = serde_json::from_str(&first).expect("JSON");
    let random = |at: usize| {
        report["cases"][at]["got"]["replace"]["payload"]
            .as_str()
            .expect("a payload")
            .to_owned()
    };
    assert_eq!(random(5).len(), 32);
    assert_ne!(random(5), random(6), "they are no constant");
}

#[test]
fn a_case_that_fails_says_what_was_expected_and_what_came() {
    let bench = Bench::new("plain");
    let cases = CASES.replace("expect = \"deny\"", "expect = \"allow\"");
    let text = bench.test(&cases, 1);
    check_has(
        &text,
        &[
            "FAILED  no rules: it is asked\n",
            "line     21\n",
            "expected \"allow\"\n",
            "got      \"deny\"\n",
            "7 cases: 6 ok, 1 failed\n",
        ],
    );
    let json = bench.run(&["test", "plugin.wasm", "CASES.toml", "--json"], 1);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&report["ok"], &report["failed"]), (&6.into(), &1.into()));
    let case = &report["cases"][3];
    assert_eq!(
        (&case["ok"], &case["expected"], &case["got"]),
        (&false.into(), &"allow".into(), &"deny".into())
    );
}

#[test]
fn a_plugin_that_traps_is_no_reason_to_stop() {
    let bench = Bench::new("hostile");
    let cases = r#"
        [[case]]
        name = "it traps"
        hook = "authorize"
        request = { action = "publish", topic = "panic" }
        expect = "allow"
        [[case]]
        name = "and that can be expected"
        hook = "authorize"
        request = { action = "publish", topic = "panic" }
        expect = "failed"
        [[case]]
        name = "the next call has a new instance"
        hook = "authorize"
        request = { action = "publish", topic = "fine" }
        expect = "allow"
    "#;
    let text = bench.test(cases, 1);
    check_has(
        &text,
        &[
            "FAILED  it traps",
            "got      \"failed\"",
            "failed (trap)",
            "2 ok, 1 failed",
        ],
    );
}

#[test]
fn wrong_cases_are_refused_with_their_line() {
    let bench = Bench::new("plain");
    let check = |cases: &str, parts: &[&str]| check_has(&bench.test(cases, 2), parts);
    check("", &["CASES.toml:1:1: there is no case"]);
    check("\n[[cases]]\n", &["CASES.toml:2:", "`case`"]);
    check(
        "[[case]]\nname = \"x\"\nhook = \"authorize\"\nexpect = \"pass\"\nrequest = { action = \"publish\", topic = \"a\" }",
        &["CASES.toml:4:10: ", "\"abstain\""],
    );
    let other_hook = "config.rules = []\n[[case]]\nname = \"x\"\nhook = \"transform\"\nmessage = { topic = \"a\" }\nexpect = \"pass\"";
    bench.write("CASES.toml", other_hook);
    let text = bench.run(&["test", "builtin:acl", "CASES.toml"], 2);
    check_has(&text, &["CASES.toml:2: ", "does not export the hook transform"]);
    check_has(
        &bench.run(&["test", "plugin.wasm", "none.toml"], 2),
        &["none.toml: cannot be read"],
    );
    bench.run(&["test", "none.wasm", "CASES.toml"], 1);
}

/// What a component needs and the cases do not grant is named, ready to be written.
#[test]
fn a_grant_that_is_missing_is_named() {
    let bench = Bench::new("counting");
    let cases = "grants = [\"kv\"]\n[[case]]\nname = \"x\"\nhook = \"authorize\"\nexpect = \"allow\"\n\
                 request = { action = \"publish\", topic = \"a\" }";
    check_has(
        &bench.test(cases, 2),
        &["nervewire:plugin/random@0.1.1", "grants = [\"kv\", \"random\"]"],
    );
}

#[test]
fn bench_shows_each_hook_beside_nothing() {
    let bench = Bench::new("plain");
    bench.write("CASES.toml", CASES);
    let text = bench.run(
        &["bench", "plugin.wasm", "--cases", "CASES.toml", "--seconds", "0.2"],
        0,
    );
    check_has(
        &text,
        &[
            "authenticate",
            "authorize",
            "rules",
            "transform 64 B",
            "transform 64 KiB",
            "no-op component",
        ],
    );
    let json = bench.run(
        &[
            "bench",
            "builtin:acl",
            "--config-json",
            "{\"rules\": []}",
            "--seconds",
            "0.2",
            "--json",
        ],
        0,
    );
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let calls: Vec<&str> = rows.iter().filter_map(|row| row["call"].as_str()).collect();
    assert_eq!(calls, ["authorize", "authorize, 32 at once", "rules"], "{json}");
    for row in rows {
        for subject in ["native", "noop_component", "plugin"] {
            for number in ["p50", "p99", "mean", "calls"] {
                assert!(
                    row[subject][number].as_f64().is_some_and(|n| n > 0.0),
                    "{subject} {number}: {json}"
                );
            }
            assert_eq!(row[subject]["failed_calls"], 0, "{json}");
        }
    }
}

#[test]
fn bench_measures_what_is_called_beside_the_clients() {
    let bench = Bench::new("plain");
    let rows = |args: &[&str]| -> Vec<String> {
        let args = [&["bench"], args, &["--seconds", "0.2", "--json"]].concat();
        let json = bench.run(&args, 0);
        let report: Value = serde_json::from_str(&json).expect("JSON");
        let rows = report["rows"].as_array().expect("rows").iter();
        let row = |row: &Value| {
            for subject in ["noop_component", "plugin"] {
                assert_eq!(row[subject]["failed_calls"], 0, "{json}");
                assert!(row[subject]["p50"].as_f64().is_some_and(|ns| ns > 0.0), "{json}");
            }
            row["call"].as_str().expect("a label").to_owned()
        };
        rows.map(row).collect()
    };
    assert_eq!(rows(&["builtin:anomaly-guard"]), ["detect, 100 windows"]);
    let cases = "[[case]]\nname = \"t\"\nhook = \"tick\"\nexpect = \"none\"\n\
                 [[case]]\nname = \"d\"\nhook = \"detect\"\nwindows = [{ client_id = \"c\" }]\nexpect = []\n";
    bench.write("CASES.toml", cases);
    assert_eq!(
        rows(&["builtin:anomaly-guard", "--cases", "CASES.toml"]),
        ["detect", "tick"]
    );
}

/// Backends answer what the cases say.
#[test]
fn bench_measures_a_plugin_that_asks_backends() {
    let bench = Bench::new("asking");
    let case = |hook: &str, asked: &str, http: &str| {
        format!("[[case]]\nname = \"{hook}\"\nhook = \"{hook}\"\n{asked}\nhttp = [{http}]\nexpect = \"allow\"\n")
    };
    let answer = |path: &str| format!("{{ method = \"POST\", url = \"http://b:1{path}\", status = 200 }}");
    let authorize = case(
        "authorize",
        "request = { action = \"publish\", topic = \"a\" }",
        &[answer("/rules"), answer("/authorize")].join(", "),
    );
    let setup = "grants = [\"http://b:1\"]\nconfig = { url = \"http://b:1\", init_path = \"/init\" }\n\
                 http = [{ method = \"POST\", url = \"http://b:1/init\" }]\n";
    let transform = "[[case]]\nname = \"t\"\nhook = \"transform\"\nmessage = { topic = \"a\" }\nhttp = [{ method = \"POST\", \
                     url = \"http://b:1/transform\", body = \"x\" }]\nexpect = { replace = { payload = \"x\" } }\n";
    let answered = [
        setup,
        &case("authenticate", "", &answer("/authenticate")),
        &authorize,
        transform,
    ]
    .concat();
    bench.test(&answered, 0);
    let run = |code| {
        bench.run(
            &["bench", "plugin.wasm", "--cases", "CASES.toml", "--seconds", "0.2"],
            code,
        )
    };
    let text = run(0);
    check_has(
        &text,
        &[
            "authenticate",
            "authorize",
            "rules",
            "transform 64 KiB",
            "asks backends",
        ],
    );
    assert!(!text.contains("FAILED") && !text.contains("NO ANSWER"), "{text}");
    let json = bench.run(
        &[
            "bench",
            "plugin.wasm",
            "--cases",
            "CASES.toml",
            "--seconds",
            "0.2",
            "--json",
        ],
        0,
    );
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["asynchronous"], true);
    for row in report["rows"].as_array().expect("rows") {
        assert!(
            row["plugin"]["calls"].as_u64() > Some(0) && row["plugin"]["failed_calls"] == 0,
            "{row}"
        );
        assert!(row["noop_component"]["p50"].as_f64() > Some(0.0), "{row}");
    }
    bench.write("CASES.toml", &[setup, &authorize].concat());
    let text = run(1);
    check_has(&text, &["NO ANSWER to POST http://b:1/authenticate", "CASES.toml"]);
    assert!(!text.contains("/rules"), "{text}");
}

#[test]
fn bench_of_what_cannot_be_loaded_says_how_to_configure_it() {
    let bench = Bench::new("plain");
    check_has(
        &bench.run(&["bench", "builtin:acl"], 2),
        &["rules", "--cases CASES.toml"],
    );
    bench.run(&["bench", "plugin.wasm", "--config-json", "nonsense"], 2);
    check_has(
        &bench.run(&["bench", "builtin:acl", "--config-json", "[]"], 2),
        &["no JSON object"],
    );
}
