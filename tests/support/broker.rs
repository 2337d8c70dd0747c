//! Starts the real binary on free ports in a directory of its own, and stops it.

use super::{IN_MEMORY, wait_for};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A port may be taken meanwhile, see [`Attempt::PortTaken`].
const START_ATTEMPTS: usize = 5;
/// Compiling the larger components takes its time where nothing is cached and other tests run. It only ends tests that have failed.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// The configuration file, beside which all others lie.
pub(crate) const CONFIGURATION: &str = "nervewire.toml";

/// Limits for plugins whose calls must not fail: the deadlines are the clock's, and a machine that runs tests is busy.
pub(crate) const PATIENT: &str = "limits = { call_ms = 1000, authenticate_call_ms = 10000 }\n";

/// The configuration of a broker to be.
pub(crate) struct Setup {
    dir: tempfile::TempDir,
    shards: u16,
    broker: String,
    environment: Vec<(String, OsString)>,
    auth: String,
    listener: String,
    admin: String,
    rest: String,
    whole: Option<String>,
}

impl Setup {
    /// One shard, memory only, everybody may do everything.
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("temporary directory"),
            shards: 1,
            broker: IN_MEMORY.into(),
            environment: Vec::new(),
            auth: "anonymous = \"loopback\"\ndefault = \"allow\"".into(),
            listener: String::new(),
            admin: String::new(),
            rest: String::new(),
            whole: None,
        }
    }

    /// A whole configuration in the place of all the keys and tables, with `{PORT}` and `{ADMIN_PORT}` where its listeners bind.
    pub(crate) fn configuration(self, text: &str) -> Self {
        Self {
            whole: Some(text.into()),
            ..self
        }
    }

    pub(crate) fn shards(self, shards: u16) -> Self {
        Self { shards, ..self }
    }

    /// The keys of `[broker]` but `shards`.
    pub(crate) fn broker(self, keys: &str) -> Self {
        Self {
            broker: keys.into(),
            ..self
        }
    }

    /// A variable of the broker's environment; one that is there already is replaced.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self = self.without_env(name);
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self
    }

    /// The keys of `[auth]`.
    pub(crate) fn auth(self, keys: &str) -> Self {
        Self {
            auth: keys.into(),
            ..self
        }
    }

    /// More keys of the listener.
    pub(crate) fn listener(self, keys: &str) -> Self {
        Self {
            listener: keys.into(),
            ..self
        }
    }

    /// More keys of `[admin]`.
    pub(crate) fn admin(self, keys: &str) -> Self {
        Self {
            admin: keys.into(),
            ..self
        }
    }

    /// More tables.
    pub(crate) fn toml(mut self, tables: &str) -> Self {
        self.rest.push_str(tables);
        self.rest.push('\n');
        self
    }

    /// Other tables in the place of those given so far.
    pub(crate) fn tables(self, tables: &str) -> Self {
        Self {
            rest: tables.into(),
            ..self
        }
    }

    /// A file beside the configuration.
    pub(crate) fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.dir.path().join(name), contents).expect("write a file");
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn start(self) -> Broker {
        self.try_start()
            .unwrap_or_else(|ended| panic!("the broker ended at once ({}):\n{}", ended.1, ended.2))
    }

    /// Starts it, or says how it ended before it listened, and what it logged.
    pub(crate) fn try_start(self) -> Result<Broker, Box<(Self, ExitStatus, String)>> {
        for _ in 0..START_ATTEMPTS {
            match self.attempt() {
                Attempt::Listens(process, port, admin_port) => {
                    return Ok(Broker {
                        setup: self,
                        process: Mutex::new(process),
                        port,
                        admin_port,
                    });
                }
                Attempt::Ended(status, log) => return Err(Box::new((self, status, log))),
                Attempt::PortTaken => {}
            }
        }
        panic!("no free port in {START_ATTEMPTS} attempts");
    }

    fn attempt(&self) -> Attempt {
        let (port, admin_port) = free_ports();
        std::fs::write(self.path(CONFIGURATION), self.render(port, admin_port)).expect("write configuration");
        let mut command = nervewire();
        command.arg("run").arg("--config").arg(self.path(CONFIGURATION));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn(command);
        let end = Instant::now() + START_DEADLINE;
        while !(accepts(port) && accepts(admin_port)) {
            if let Some(status) = process.exited() {
                let log = process.log();
                return if log.contains("in use") {
                    Attempt::PortTaken
                } else {
                    Attempt::Ended(status, log)
                };
            }
            assert!(Instant::now() < end, "the broker does not listen:\n{}", process.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Attempt::Listens(process, port, admin_port)
    }

    fn render(&self, port: u16, admin_port: u16) -> String {
        let Self {
            shards,
            broker,
            auth,
            listener,
            admin,
            rest,
            whole,
            ..
        } = self;
        if let Some(text) = whole {
            return text
                .replace("{PORT}", &port.to_string())
                .replace("{ADMIN_PORT}", &admin_port.to_string());
        }
        format!(
            "[broker]\nshards = {shards}\n{broker}\n\
             [[listener]]\nbind = \"127.0.0.1:{port}\"\n{listener}\n\
             [auth]\n{auth}\n[admin]\nbind = \"127.0.0.1:{admin_port}\"\n{admin}\n{rest}"
        )
    }
}

/// How an attempt to start it ended.
enum Attempt {
    /// With its port and its admin port.
    Listens(Process, u16, u16),
    Ended(ExitStatus, String),
    /// Somebody else took a port between our choosing it and the broker's binding it.
    PortTaken,
}

/// A running broker; dropping it kills the process.
pub(crate) struct Broker {
    setup: Setup,
    process: Mutex<Process>,
    pub(crate) port: u16,
    admin_port: u16,
}

impl Broker {
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin_port))
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address())
    }

    /// A file beside the configuration.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Replaces a file beside the configuration by rename, as editors do.
    pub(crate) fn replace_file(&self, name: &str, contents: impl AsRef<[u8]>) {
        replace(&self.path(name), contents.as_ref());
    }

    /// Replaces the tables given to [`Setup::toml`]; the broker is not told.
    pub(crate) fn replace_toml(&self, tables: &str) {
        let text = Setup {
            rest: tables.into(),
            ..self.setup.same()
        }
        .render(self.port, self.admin_port);
        self.replace_file(CONFIGURATION, text);
    }

    /// `nervewire ARGS --admin URL`.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        nervewire()
            .args(args)
            .args(["--admin", &self.admin_url()])
            .output()
            .expect("run nervewire")
    }

    /// `nervewire reload`, which answers when every shard has the new generation.
    pub(crate) fn reload(&self) -> Output {
        self.cli(&["reload"])
    }

    /// Reloads and expects that to be accepted.
    #[track_caller]
    pub(crate) fn reloaded(&self) {
        let output = self.reload();
        assert!(output.status.success(), "reload failed: {output:?}\n{}", self.log());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.lock().child.id()
    }

    /// Sends a signal by name, for example `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(status.expect("run kill").success());
    }

    /// Waits for the process to end.
    pub(crate) fn ended(&self) -> ExitStatus {
        wait_for("the broker to end", || self.lock().exited())
    }

    /// How it ended, if it did.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.lock().exited()
    }

    /// Kills it with SIGKILL, if it still runs: its setup, with its files, to be started again, and what it logged.
    pub(crate) fn kill9(self) -> (Setup, String) {
        let mut process = self
            .process
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = process.child.kill(); // It may have ended by itself.
        process.child.wait().expect("wait for the broker");
        process.exited();
        (self.setup, process.log())
    }

    /// All it printed so far.
    pub(crate) fn log(&self) -> String {
        self.lock().log()
    }

    /// Waits until the log holds `text`.
    pub(crate) fn logs(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("read /proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Setup {
    /// The same settings without the directory, to render them again.
    fn same(&self) -> Self {
        Self {
            shards: self.shards,
            broker: self.broker.clone(),
            auth: self.auth.clone(),
            listener: self.listener.clone(),
            admin: self.admin.clone(),
            ..Self::new()
        }
    }
}

struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the broker");
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            gather(child.stdout.take().expect("piped"), &log),
            gather(child.stderr.take().expect("piped"), &log),
        ];
        Self { child, log, readers }
    }

    /// How it ended, if it did; the log is complete then.
    fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("wait for the broker")?;
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of the log");
        }
        Some(status)
    }

    fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Process {
    /// A failing test shows what the broker said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the broker's log\n{}----", self.log());
        }
        let _ = self.child.kill(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

fn gather(from: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// The binary under test, with the log it writes by default.
pub(crate) fn nervewire() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nervewire"));
    command.env_remove("NERVEWIRE_LOG").env_remove("NERVEWIRE_LOG_FORMAT");
    command
}

/// Runs the binary with something on its standard input.
pub(crate) fn nervewire_with_input(args: &[&str], input: &str) -> Output {
    let mut command = nervewire();
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("run nervewire");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(input.as_bytes()); // It may refuse its arguments and never read.
    drop(stdin);
    child.wait_with_output().expect("wait for nervewire")
}

fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let (one, other) = (bind(), bind());
    (port(&one), port(&other))
}

fn accepts(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn replace(path: &Path, contents: &[u8]) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, contents).expect("write a file");
    std::fs::rename(aside, path).expect("rename a file");
}
