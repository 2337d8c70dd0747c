//! Every scenario of `nervewire bench` runs, and nothing is lost: in small, because how fast it is depends on the machine.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use support::*;

/// Scenarios that the relay can serve: QoS 0, and one wildcard at the end of a filter.
const RELAYED: [&str; 6] = ["qos0", "fan-in", "fan-out-100", "wildcards-1k", "connect", "idle"];

/// The reports of some scenarios in small.
fn bench(names: &[&str], more: &[&str]) -> Vec<serde_json::Value> {
    let small = ["--seconds", "0.2", "--warm-up", "0.05", "--at-most", "300", "--json"];
    let output = nervewire()
        .args(["bench", "run"])
        .args(names)
        .args(small)
        .args(more)
        .output()
        .expect("run nervewire bench");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{output:?}");
    serde_json::from_str(&printed).expect("JSON")
}

#[test]
fn every_scenario_works_and_loses_nothing() {
    each_broker(|broker| {
        let (port, pid) = (broker.port.to_string(), broker.pid().to_string());
        let reports = bench(&["all"], &["--port", &port, "--pid", &pid]);
        assert!(reports.len() > 15, "{}", reports.len());
        for report in &reports {
            assert_eq!(report["passed"], true, "{report}");
        }
        let by_name = |name: &str| {
            let mut found = reports.iter().filter(|report| report["name"] == name);
            found.next().unwrap_or_else(|| panic!("no scenario {name}"))["report"].clone()
        };
        assert!(by_name("qos2")["delivered"].as_u64() > Some(0));
        assert!(by_name("wildcards-1m-deep")["messages"]["delivered"].as_u64() > Some(0));
        assert!(by_name("storm")["storm"]["changes_per_s"].as_f64() > Some(0.0));
        assert_eq!(by_name("idle")["connected"], 300);
        assert_eq!(by_name("retained")["lost"], 0);
        assert_eq!(by_name("durable-qos1")["durable"], true);
        let queue = by_name("queue");
        assert_eq!([&queue["sessions"], &queue["messages"]], [30, 300], "{queue}");
        assert!(queue["collect"]["per_s"].as_f64() > Some(0.0), "{queue}");
        // With the process known, there is a cost to each message.
        assert!(by_name("qos0")["broker_cpu_us_per_message"].as_f64() > Some(0.0));
    });
}

#[test]
fn scenarios_leave_no_session_no_subscription_and_no_retained_message_behind() {
    let broker = Setup::new().start();
    let names = ["storm", "retained", "durable-qos1", "queue"];
    bench(&names, &["--port", &broker.port.to_string()]);
    for gauge in [
        "nervewire_sessions",
        "nervewire_subscriptions",
        "nervewire_retained_messages",
    ] {
        wait_for(gauge, || (metric(&broker, gauge, &[]) == 0.0).then_some(()));
    }
}

#[test]
fn mqtt_5_is_spoken_too() {
    let broker = Setup::new().start();
    let port = broker.port.to_string();
    let names = ["qos2", "storm", "retained", "durable-qos1", "queue"];
    bench(&names, &["--port", &port, "--version", "5"]);
}

/// The two halves of `queue` are two processes, so that the broker can be restarted in between.
#[test]
fn what_is_queued_in_one_step_is_collected_in_another() {
    let broker = Setup::new().start();
    let port = broker.port.to_string();
    let half = |step: &str| {
        let output = nervewire()
            .args([
                "bench",
                "queue",
                "--sessions",
                "20",
                "--each",
                "30",
                "--json",
                "--port",
                &port,
            ])
            .args(["--client-prefix", "q-", "--topic-prefix", "q", "--step", step])
            .output()
            .expect("run nervewire bench queue");
        assert!(output.status.success(), "{step}: {output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    assert!(half("fill")["collect"].is_null());
    // Those of the publishers end after their connections have.
    wait_for("the sessions with queues alone", || {
        (metric(&broker, "nervewire_sessions", &[]) == 20.0).then_some(())
    });
    let collected = half("collect");
    assert!(collected["fill"].is_null());
    assert_eq!(collected["lost"], 0, "{collected}");
    wait_for("no session", || {
        (metric(&broker, "nervewire_sessions", &[]) == 0.0).then_some(())
    });
}

/// Ends with its owner.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_relay_serves_on_both_runtimes() {
    for runtime in ["mio", "tokio"] {
        let mut command = nervewire();
        command.args([
            "bench",
            "relay",
            "--port",
            "0",
            "--connections",
            "1000",
            "--runtime",
            runtime,
        ]);
        let mut relay = Relay(
            command
                .stdout(Stdio::piped())
                .spawn()
                .expect("run nervewire bench relay"),
        );
        let mut line = String::new();
        let stdout = relay.0.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(':').next().expect("an address");
        bench(&RELAYED, &["--port", port]);
    }
}

/// A scenario that cannot be carried out says why, and the others are carried out all the same.
#[test]
fn what_is_refused_is_told() {
    let broker = Setup::new()
        .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
        .start();
    let output = nervewire()
        .args([
            "bench",
            "run",
            "qos0",
            "connect",
            "--seconds",
            "0",
            "--at-most",
            "5",
            "--json",
        ])
        .args(["--port", &broker.port.to_string()])
        .output()
        .expect("run nervewire bench");
    assert_eq!(output.status.code(), Some(1));
    let reports: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let why = reports[0]["error"].as_str().expect("an error");
    assert!(why.contains("refused with 0x"), "{why}");
    assert_eq!(reports[1]["passed"], true, "{reports:?}");
}
