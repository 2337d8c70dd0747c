//! README.md, followed word for word: what it tells to type is typed, what it tells to write is written, and what it shows is
//! seen. The first word after the fence is the language, the rest says what becomes of the block:
//!
//! | block | what the test does |
//! |---|---|
//! | `sh` | runs it where the block before ended; it must succeed |
//! | `sh fails` | runs each line; none may succeed |
//! | `sh terminal` | starts it in a terminal of its own, which goes on until the next heading |
//! | `sh restart` | stops what was started last, and starts this instead |
//! | `sh notest` | nothing |
//! | `toml FILE` | writes the file |
//! | `rust FILE` | inserts it into the file: its first line is there already, the others go behind it |
//! | `text` | waits until each line was printed by the block before or in a terminal; `...` stands for anything |
//!
//! The reader's ports may be taken here: small programs in front of `nervewire` and mosquitto's clients use free ones instead.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::wait_for;

/// How long a line is waited for: a broker may be compiling a language's whole runtime.
const PATIENCE: Duration = Duration::from_secs(300);
const MQTT: &str = "127.0.0.1:1883";
const ADMIN: &str = "127.0.0.1:8080";

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn what_the_readme_tells_to_do_works() {
    let text = fs::read_to_string(support::repository().join("README.md")).expect("README.md");
    let steps = steps(&text);
    for kind in ["Type", "Fails", "Terminal", "Restart", "Write", "Insert", "Expect"] {
        let is_there = steps.iter().any(|step| format!("{step:?}").starts_with(kind));
        assert!(is_there, "README.md has no {kind}: does this test still read it?");
    }
    let mut reader = Reader::new();
    for step in steps {
        eprintln!("-- {step:?}");
        reader.follow(step);
    }
}

#[derive(Debug, PartialEq)]
enum Step {
    Section,
    Type(String),
    Fails(String),
    Terminal(String),
    Restart(String),
    Write(String, String),
    Insert(String, String),
    Expect(String),
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            steps.push(Step::Section);
        }
        if let Some(info) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            steps.extend(step(info, body.join("\n") + "\n"));
        }
    }
    steps
}

fn step(info: &str, body: String) -> Option<Step> {
    let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
    match (language, rest) {
        ("sh", "") => Some(Step::Type(body)),
        ("sh", "fails") => Some(Step::Fails(body)),
        ("sh", "terminal") => Some(Step::Terminal(body)),
        ("sh", "restart") => Some(Step::Restart(body)),
        ("sh", "notest") | (_, "") if language != "text" => None,
        ("text", "") => Some(Step::Expect(body)),
        ("toml", file) => Some(Step::Write(file.to_owned(), body)),
        ("rust", file) => Some(Step::Insert(file.to_owned(), body)),
        _ => panic!("README.md: what is ```{info}?"),
    }
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn blocks_are_read() {
    let text = "# A\n```sh\ntrue\n```\n## B\n```sh notest\nx\n```\n```toml f.toml\na = 1\n```\n```\nplain\n```\n```text\nok\n```\n";
    let expected = [
        Step::Type("true\n".into()),
        Step::Section,
        Step::Write("f.toml".into(), "a = 1\n".into()),
        Step::Expect("ok\n".into()),
    ];
    assert_eq!(steps(text), expected);
}

/// Who follows the README.
struct Reader {
    dir: tempfile::TempDir,
    /// Where the next command is typed.
    cwd: PathBuf,
    mqtt: String,
    admin: String,
    terminals: Vec<Terminal>,
    /// What the last block printed.
    output: String,
}

impl Reader {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, other) = (free_port(), free_port());
        let address = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let reader = Self {
            cwd: dir.path().to_owned(),
            mqtt: address(&one),
            admin: address(&other),
            terminals: Vec::new(),
            output: String::new(),
            dir,
        };
        reader.install("nervewire", &nervewire_shim(&reader.mqtt, &reader.admin));
        reader.install("cargo", CARGO_SHIM);
        for program in ["mosquitto_pub", "mosquitto_sub"] {
            let (_, port) = reader.mqtt.split_once(':').expect("a port");
            reader.install(
                program,
                &format!("exec stdbuf -oL {} -p {port} \"$@\"\n", real(program)),
            );
        }
        reader
    }

    /// A program that stands before the real one of its name.
    fn install(&self, name: &str, script: &str) {
        let programs = self.dir.path().join("programs");
        fs::create_dir_all(&programs).expect("a directory");
        let file = programs.join(name);
        fs::write(&file, format!("#!/bin/sh\nset -eu\n{script}")).expect("a program");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Section => {
                self.terminals.clear();
                self.cwd = self.dir.path().to_owned();
            }
            Step::Type(text) => assert!(self.run(&text), "failed: {text}\n{}", self.seen()),
            Step::Fails(text) => {
                let mut printed = String::new();
                for line in text.lines() {
                    assert!(!self.run(line), "did not fail: {line}\n{}", self.seen());
                    printed.push_str(&self.output);
                }
                self.output = printed;
            }
            Step::Terminal(text) => self.open_terminal(&text),
            Step::Restart(text) => {
                drop(self.terminals.pop().expect("something was started"));
                self.open_terminal(&text);
            }
            Step::Write(file, text) => fs::write(self.cwd.join(file), self.translated(&text)).expect("a file"),
            Step::Insert(file, text) => insert(&self.cwd.join(file), &text),
            Step::Expect(text) => self.expect(&text),
        }
    }

    /// Types it, and says whether it succeeded.
    fn run(&mut self, text: &str) -> bool {
        let ended_in = self.dir.path().join("cwd");
        let script = format!("trap 'pwd > {}' EXIT\n{}", ended_in.display(), self.translated(text));
        let output = self.shell(&script).stdin(Stdio::null()).output().expect("run bash");
        self.cwd = PathBuf::from(fs::read_to_string(ended_in).expect("a directory").trim());
        self.output = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        output.status.success()
    }

    fn open_terminal(&mut self, text: &str) {
        let mut shell = self.shell(&self.translated(text));
        self.terminals.push(Terminal::open(&mut shell));
        // Nothing shows that a subscriber is there; the broker knows.
        if text.contains("mosquitto_sub") {
            wait_for("the subscription", || {
                self.run("nervewire status --json").then_some(())?;
                let status: serde_json::Value = serde_json::from_str(&self.output).ok()?;
                (status["subscriptions"].as_u64()? > 0).then_some(())
            });
        }
    }

    fn expect(&self, text: &str) {
        for line in self.translated(text).lines() {
            let until = Instant::now() + PATIENCE;
            while !self.shows(line) {
                let goes_on = !self.terminals.is_empty() && Instant::now() < until;
                assert!(goes_on, "no line {line:?} in\n{}", self.seen());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn shows(&self, line: &str) -> bool {
        self.seen().lines().any(|candidate| matches(line, candidate))
    }

    fn seen(&self) -> String {
        let terminals = self.terminals.iter().map(Terminal::printed);
        terminals.chain([self.output.clone()]).collect()
    }

    fn translated(&self, text: &str) -> String {
        text.replace(MQTT, &self.mqtt).replace(ADMIN, &self.admin)
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).current_dir(&self.cwd);
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", self.dir.path().join("programs").display()));
        // What cargo told this test is not what a terminal knows.
        let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let told = ["CARGO", "RUSTFLAGS", "RUSTC", "LD_LIBRARY_PATH", "NERVEWIRE"];
            if told.iter().any(|start| text.starts_with(start)) && !kept.iter().any(|start| text.starts_with(start)) {
                shell.env_remove(&name);
            }
        }
        shell
    }
}

/// A line of the README against a printed one; `...` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let pieces: Vec<&str> = pattern.split("...").collect();
    let [first, between @ .., last] = &pieces[..] else {
        return pattern == line.trim_end();
    };
    let Some(mut rest) = line.trim_end().strip_prefix(first) else {
        return false;
    };
    for piece in between {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn lines_are_compared() {
    let check = |pattern, line, expected| assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
    check("a b", "a b", true);
    check("a b", "xa b", false);
    check("... b ...", "a b c", true);
    check("a ... c", "a b c", true);
    check("a ... d", "a b c", false);
    check("...", "anything", true);
}

/// Puts all lines but the first behind that line, which must be in the file once.
fn insert(file: &Path, text: &str) {
    let (anchor, rest) = text.split_once('\n').expect("lines");
    let before = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let anchors = before.lines().filter(|line| *line == anchor).count();
    assert_eq!(anchors, 1, "{anchor:?} is not once in {}:\n{before}", file.display());
    let after: String = before
        .lines()
        .map(|line| {
            if line == anchor {
                format!("{line}\n{rest}")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    fs::write(file, after).expect("a file");
}

/// Started and left alone, until it is dropped.
struct Terminal {
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(shell: &mut Command) -> Self {
        let shell = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that what the shell starts ends with it.
        let mut child = shell.process_group(0).spawn().expect("run bash");
        let printed = Arc::default();
        gather(child.stdout.take().expect("piped"), &printed);
        gather(child.stderr.take().expect("piped"), &printed);
        Self { child, printed }
    }

    fn printed(&self) -> String {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

fn gather(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = into.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
            into.push_str(&line);
            into.push('\n');
        }
    });
}

fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

/// Where a program is, without those of ours.
fn real(program: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .expect("run sh");
    assert!(output.status.success(), "{program} is not installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `cargo run --release` is the binary under test; everything else is cargo's.
const CARGO_SHIM: &str = r#"
if [ "$*" = "run --release" ]; then exec nervewire; fi
PATH="${PATH#*:}"
export PATH
exec cargo "$@"
"#;

/// The binary under test on other ports: configurations are changed before it reads them, commands are told where it is.
fn nervewire_shim(mqtt: &str, admin: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_nervewire");
    format!(
        r#"
on_other_ports() {{
    sed -i 's/{MQTT}/{mqtt}/; s/{ADMIN}/{admin}/' "$1"
    grep -q '^\[admin\]' "$1" || printf '\n[admin]\nbind = "{admin}"\n' >> "$1"
}}
case "$*" in
"")
    {binary} --print-config > defaults.toml
    on_other_ports defaults.toml
    exec {binary} run --config defaults.toml ;;
"run --config "*)
    on_other_ports "$3"
    exec {binary} "$@" ;;
status* | clients* | kick* | plugins* | reload*)
    exec {binary} "$@" --admin http://{admin} ;;
*)
    exec {binary} "$@" ;;
esac
"#
    )
}
