//! Runs MQTT clients that others wrote.

use super::{Broker, DEADLINE, wait_for};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Whole suites of a foreign client take longer than one expectation.
const SUITE_DEADLINE: Duration = Duration::from_secs(120);

/// `mosquitto_pub` or `mosquitto_sub` for this broker; `version` is `mqttv31`, `mqttv311` or `mqttv5`.
pub(crate) fn mosquitto(program: &str, broker: &Broker, version: &str, args: &[&str]) -> Command {
    // mosquitto_sub buffers its output when nobody looks; we look.
    let mut command = Command::new("stdbuf");
    command
        .args([
            "-oL",
            program,
            "-h",
            "localhost",
            "-p",
            &broker.port.to_string(),
            "-V",
            version,
        ])
        .args(args);
    command
}

/// A running `mosquitto_sub`.
pub(crate) struct Subscriber(Child);

impl Subscriber {
    /// Starts it with `-d`, and returns when it says that it is subscribed.
    pub(crate) fn start(broker: &Broker, version: &str, args: &[&str]) -> Self {
        let mut command = mosquitto("mosquitto_sub", broker, version, args);
        let mut child = command
            .arg("-d")
            .stdout(Stdio::piped())
            .spawn()
            .expect("run mosquitto_sub");
        let output = child.stdout.as_mut().expect("piped");
        let mut seen = Vec::new();
        let subscribed = |seen: &[u8]| {
            String::from_utf8_lossy(seen)
                .lines()
                .any(|line| line.starts_with("Subscribed"))
        };
        while !(subscribed(&seen) && seen.ends_with(b"\n")) {
            let mut byte = [0];
            assert_ne!(
                output.read(&mut byte).expect("read mosquitto_sub"),
                0,
                "{}",
                String::from_utf8_lossy(&seen)
            );
            seen.push(byte[0]);
        }
        Self(child)
    }

    /// The rest of what it printed, when it has ended by itself (`-C`), without the lines of `-d`.
    pub(crate) fn lines(mut self) -> Vec<String> {
        wait_for("mosquitto_sub to end", || self.0.try_wait().expect("wait"));
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut text)
            .expect("UTF-8");
        let chatter = |line: &&str| !line.starts_with("Client ") && !line.starts_with("Subscribed");
        text.lines()
            .filter(chatter)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill(); // It may have ended by itself.
        let _ = self.0.wait();
    }
}

/// Runs `mosquitto_pub` to its end.
#[track_caller]
pub(crate) fn mosquitto_pub(broker: &Broker, version: &str, args: &[&str]) {
    let output = mosquitto("mosquitto_pub", broker, version, args)
        .output()
        .expect("run mosquitto_pub");
    assert!(output.status.success(), "{output:?}");
}

/// Runs a script of tests/clients with the interpreter that its `setup.sh` installed or found, and expects success.
#[track_caller]
pub(crate) fn script(name: &str, args: &[&str]) {
    let clients = clients();
    let interpreter = if name.ends_with(".py") {
        clients.join("venv/bin/python")
    } else {
        PathBuf::from("node")
    };
    let mut command = Command::new(interpreter);
    command
        .arg(clients.join(name))
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finish(command.spawn().expect("run tests/clients/setup.sh first"));
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{name} {args:?}:\n{out}\n{error}");
}

fn finish(mut child: Child) -> Output {
    let end = Instant::now() + SUITE_DEADLINE;
    while child.try_wait().expect("wait").is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill(); // Only where it is late; its output then says how far it came.
    child.wait_with_output().expect("wait")
}

/// cargo, without what the cargo that runs the tests has put into their environment for itself.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let kept = ["CARGO", "CARGO_HOME"];
    let kept_families = ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = text.starts_with("CARGO") || text.starts_with("RUSTFLAGS") || text.starts_with("LD_LIBRARY_PATH");
        if own && !kept.contains(&&*text) && !kept_families.iter().any(|family| text.starts_with(family)) {
            command.env_remove(&name);
        }
    }
    command
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.join("../..").canonicalize().expect("the repository")
}

/// The directory tests/clients.
fn clients() -> PathBuf {
    repository().join("tests/clients")
}
