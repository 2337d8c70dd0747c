//! `nervewire run`: from a configuration to a running broker, and back.

use crate::admin::guard::Token;
use crate::admin::server::serve;
use crate::auth_pool::AuthPool;
use crate::backend::Running;
use crate::config::{Config, Durability};
use crate::defence::Defence;
use crate::detect::{Alerts, Detection};
use crate::driver::{self, Clock, ShardEvent, ShardSetup, ShardStore, Shared, Told, revoked_certificates};
use crate::generation::{self, Generation};
use crate::listeners::{bind, bind_admin, listener_settings};
use crate::reminders;
use crate::restore;
use crate::rollback::Rollbacks;
use crate::shadow::ShadowPool;
use crate::supervisor::{AdminListener, Current, Supervisor, read_config};
use crate::tick::Ticker;
use crate::unix_time::unix_s;
use crate::watch;
use anyhow::{Context, Result, anyhow};
use nervewire_core::limits::ShardConfig;
use nervewire_core::shard::Shard;
use nervewire_core::store;
use nervewire_plugin_host::{Host, HostConfig};
use std::fs::{DirBuilder, File};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Descriptors kept for what is not a client: listeners, admin, files, wakers.
const RESERVED_FILES: u64 = 128;

/// Runs the broker until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting, in words.
pub(crate) fn run(file: Option<PathBuf>) -> Result<ExitCode> {
    let Some(config) = read_or_explain(file.as_deref()) else {
        return Ok(ExitCode::from(2));
    };
    raise_file_limit(&config);
    let host = host(&config)?;
    let generation = match generation::load(&host, &config, 1, &[]) {
        Ok(generation) => generation,
        Err(error) => {
            eprintln!("nervewire: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("admin")
        .enable_all()
        .build()
        .context("the admin runtime cannot be started")?;
    let broker = Broker::start(config, file, host, generation, runtime.handle())?;
    runtime.block_on(until_stopped(&broker.supervisor))?;
    broker.stop();
    Ok(ExitCode::SUCCESS)
}

/// The configuration, or on standard error everything that is wrong with it.
fn read_or_explain(file: Option<&Path>) -> Option<Config> {
    read_config(file)
        .inspect_err(|messages| messages.iter().for_each(|message| eprintln!("{message}")))
        .ok()
}

/// A started broker.
struct Broker {
    supervisor: Arc<Supervisor>,
    threads: Vec<JoinHandle<()>>,
}

impl Broker {
    fn start(
        config: Config,
        file: Option<PathBuf>,
        host: Host,
        mut generation: Generation,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self> {
        let listeners = listener_settings(&config, &[])?;
        generation.set_revoked(revoked_certificates(&listeners));
        let clock = Clock::start();
        let shards = shards(&config);
        // Whoever connects finds everything that was acknowledged.
        let restored = restore::restore(&config, &generation.policy, shards, clock)?;
        let defence = Arc::new(Defence::new(clock, config.limits.defence));
        let bans = restored.shards.iter().flat_map(Shard::kept_bans);
        bans.for_each(|ban| defence.restore(ban));
        let sockets = listeners
            .iter()
            .map(|settings| bind(settings))
            .collect::<Result<Vec<_>>>()?;
        let admin_socket = bind_admin(&config)?;
        let (mesh, polls) = driver::inboxes(shards).context("the shards' wakers cannot be made")?;
        let authenticators = AuthPool::start(usize::from(shards).max(2), generation.auth_chain(&config))
            .context("the authentication workers cannot be started")?;
        let shared = Arc::new(Shared {
            mesh,
            authenticators,
            shadows: ShadowPool::default(),
            defence,
            told: Told::default(),
            alerts: Alerts::default(),
            connections: AtomicUsize::new(0),
            max_connections: AtomicUsize::new(max_connections(&config)),
            clock,
            journal: restored.journal,
            cut_bytes: restored.cut_bytes,
            journal_waited_for: AtomicBool::new(false),
        });
        shared.authenticators.reply_through(&shared);
        shared.shadows.reply_through(&shared);
        shared.defence.reach(&shared);
        shared.shadows.swap(generation.shadow_plugins())?;
        let mut threads = Vec::new();
        if let Some(journal) = &shared.journal {
            journal
                .start(driver::store_sinks(&shared))
                .context("the journal cannot be started")?;
        }
        for (number, (poll, shard)) in polls.into_iter().zip(restored.shards).enumerate() {
            let sockets = sockets
                .iter()
                .map(TcpListener::try_clone)
                .collect::<std::io::Result<Vec<_>>>()?;
            let setup = ShardSetup {
                poll,
                shard,
                store: shared
                    .journal
                    .as_ref()
                    .map(|journal| ShardStore::new(journal.handle(number as u16))),
                max_packet_bytes: config.limits.max_packet_bytes.get(),
                plugins: generation.shard_plugins()?,
                listeners: listeners.iter().cloned().zip(sockets).collect(),
            };
            threads.push(driver::spawn(number as u16, shared.clone(), setup).context("a shard cannot be started")?);
        }
        announce(&config, shards);
        let ticking = generation.ticking()?;
        let (detecting, detect) = (generation.detecting()?, config.detect);
        let current = Current {
            config,
            generation,
            listeners,
            last_reload: None,
            reloads_ok: 0,
            reloads_failed: 0,
            stamps: None,
            fallback: None,
            probation: None,
            rejected: None,
            last_rollback: None,
            rollbacks: Rollbacks::default(),
        };
        let ticker = Ticker::start(&shared, ticking).context("the thread that calls tick cannot be started")?;
        let detection =
            Detection::start(&shared, detecting, detect).context("the thread that calls detect cannot be started")?;
        let supervisor = Arc::new(Supervisor::new(host, shared, file, current, (ticker, detection)));
        start_admin(&supervisor, admin_socket, runtime)?;
        start_watching(&supervisor)?;
        Ok(Self { supervisor, threads })
    }

    /// Wills first, on every shard, so that they reach subscribers of other shards; then goodbye to everybody.
    fn stop(self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        self.supervisor.stop_ticking();
        let mesh = &self.supervisor.shared().mesh;
        let (sender, settled) = channel();
        for shard in 0..mesh.shards() {
            mesh.send(shard, ShardEvent::SettleWills(sender.clone()));
        }
        drop(sender);
        for _ in 0..mesh.shards() {
            let _ = settled.recv_timeout(PATIENCE); // A shard that is stuck must not keep the others from ending.
        }
        self.wait_until_stored(PATIENCE);
        for shard in 0..mesh.shards() {
            mesh.send(shard, ShardEvent::ShutDown);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a shard had panicked");
            }
        }
        if let Some(journal) = &self.supervisor.shared().journal
            && !journal.close()
        {
            tracing::error!(
                error = journal.last_error(),
                "not everything could be stored; none of that was acknowledged"
            );
        }
        tracing::info!("stopped");
    }

    /// Until everything is stored, and so is what follows from that, such as that a will was sent. Not while the disk fails.
    fn wait_until_stored(&self, patience: Duration) {
        const LOOK: Duration = Duration::from_millis(1);
        let shared = self.supervisor.shared();
        let Some(journal) = &shared.journal else { return };
        let until = Instant::now() + patience;
        let is_settled = || {
            driver::ask_all(shared, |worker| worker.is_settled())
                .into_iter()
                .all(|settled| settled)
        };
        while journal.trouble().is_none() && Instant::now() < until && !is_settled() {
            std::thread::sleep(LOOK);
        }
    }
}

/// Waits for the signal that ends the broker; SIGHUP reloads.
async fn until_stopped(supervisor: &Arc<Supervisor>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let supervisor = supervisor.clone();
                // It logs its outcome; a reload that compiles must not hold up the next signal.
                tokio::task::spawn_blocking(move || supervisor.reload().is_ok());
            }
        }
    }
    tracing::info!("stopping: clients are told, wills are sent");
    Ok(())
}

fn start_admin(supervisor: &Arc<Supervisor>, socket: TcpListener, runtime: &tokio::runtime::Handle) -> Result<()> {
    let backend = Arc::new(Running::new(supervisor));
    let counters = backend.admin_counters();
    let handle = runtime.clone();
    let start = move |socket: TcpListener, token: Option<Token>| {
        serve(&handle, socket, token, backend.clone(), counters.clone()).map_err(|error| anyhow!("{error}"))
    };
    let token = supervisor.current().config.admin.token.clone().and_then(Token::new);
    let server = start(socket, token)?;
    let handle = runtime.clone();
    let stop = move |server: crate::admin::server::AdminServer| {
        handle.spawn(server.stop());
    };
    supervisor.set_admin(AdminListener {
        server,
        start: Box::new(start),
        stop: Box::new(stop),
    });
    Ok(())
}

fn start_watching(supervisor: &Arc<Supervisor>) -> Result<()> {
    let weak: Weak<Supervisor> = Arc::downgrade(supervisor);
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch::run(&weak))
        .context("the file watcher cannot be started")?;
    Ok(())
}

/// The plugin host, with room for two generations of every plugin on every thread.
pub(crate) fn host(config: &Config) -> Result<Host> {
    let cache_dir = config.broker.data_dir.as_ref().map(|dir| dir.join("components"));
    if let Some(dir) = &config.broker.data_dir {
        create_data_dir(dir)?;
    }
    let host_config = HostConfig {
        cache_dir,
        max_message_bytes: config.limits.max_packet_bytes.get() as usize,
        ..HostConfig::default()
    };
    Ok(Host::new(host_config)?)
}

fn create_data_dir(dir: &Path) -> Result<()> {
    create_private_dir(dir).with_context(|| {
        format!(
            "[broker] data_dir {} cannot be created; \"\" keeps nothing on disk",
            dir.display()
        )
    })
}

/// With all that is missing above it, for the user of the broker alone, because messages lie in it. A loss of power leaves it there.
pub(crate) fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn announce(config: &Config, shards: u16) {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), shards, "nervewire is running");
    tracing::info!(
        "durability = {:?}: {}",
        config.broker.durability.name(),
        promise(config.broker.durability)
    );
    for listener in &config.listeners {
        let (bind, transport) = (&*listener.bind.text, listener.transport.name());
        tracing::info!(bind, transport, tls = listener.tls.is_some(), "listening");
    }
    tracing::info!(bind = &*config.admin.bind.text, "admin API");
}

/// What an acknowledgement promises.
fn promise(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "what is acknowledged survives the end of the process and the loss of power",
        Durability::Os => "what is acknowledged survives the end of the process, but not the loss of power",
        Durability::Memory => "sessions, queues and retained messages end with this process",
    }
}

/// One shard per core, unless configured.
pub(crate) fn shards(config: &Config) -> u16 {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get().min(64) as u16);
    config.broker.shards.map_or_else(cores, |n| n.get())
}

/// The bounds of one shard.
pub(crate) fn shard_config(config: &Config, shards: u16) -> ShardConfig {
    let limits = &config.limits;
    let memory_bytes = limits.memory_bytes.map_or_else(half_of_memory, |bytes| bytes.get());
    ShardConfig {
        shards,
        max_packet_bytes: limits.max_packet_bytes.get(),
        sessions: share(u64::from(limits.max_sessions.get()), shards),
        queue_messages: limits.queue_messages.get(),
        queue_bytes: limits.queue_bytes.get(),
        queue_policy: limits.queue_policy,
        memory_bytes: memory_bytes / u64::from(shards.max(1)),
        publish_rate_per_s: limits.publish_rate_per_s.map_or(0, |rate| rate.get()),
        per_client: limits.per_client,
        max_keep_alive_s: limits.max_keep_alive_s.map_or(0, |seconds| seconds.get()),
        max_connection_s: config.auth.max_connection_s.map_or(0, |seconds| seconds.get()),
        response_information: config.broker.response_information.clone(),
        window_clients: share(u64::from(config.detect.max_clients.get()), shards),
        retained_messages: share(u64::from(limits.retained_messages.get()), shards),
        retained_bytes: share(limits.retained_bytes.get(), shards),
        durability: match config.broker.durability {
            Durability::Memory => store::Durability::Memory,
            Durability::Fsync | Durability::Os => store::Durability::Stored,
        },
        ..ShardConfig::default()
    }
}

/// One shard's part of a bound on all of them.
fn share(all: u64, shards: u16) -> usize {
    all.div_ceil(u64::from(shards.max(1))) as usize
}

fn half_of_memory() -> u64 {
    const FALLBACK_BYTES: u64 = 1 << 30;
    let total_kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    total_kib.map_or(FALLBACK_BYTES, |kib| kib * 1024 / 2)
}

/// `max_connections`, as far as the open-file limit goes.
pub(crate) fn max_connections(config: &Config) -> usize {
    let configured = u64::from(config.limits.max_connections.get());
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let fitting = limit
        .current
        .map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES).max(1));
    configured.min(fitting) as usize
}

/// Raises the open-file limit to its hard limit, and warns where that is below `max_connections`.
fn raise_file_limit(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the open-file limit cannot be raised to its hard limit");
    }
    let (configured, fitting) = (config.limits.max_connections.get() as usize, max_connections(config));
    if fitting < configured {
        tracing::warn!(
            max_connections = fitting,
            configured,
            "the open-file limit allows fewer connections than limits.max_connections; raise the hard limit (ulimit -Hn, \
             LimitNOFILE=) to have them all"
        );
    }
}

/// `nervewire check`: everything that a start would refuse, short of binding. Exit code 0, or 2 with what to write instead.
pub(crate) fn check(file: &Path) -> ExitCode {
    let Some(config) = read_or_explain(Some(file)) else {
        return ExitCode::from(2);
    };
    match check_plugins(&config) {
        Ok(()) => {
            println!("{}: ok, {}", file.display(), config.summary());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error:#}", file.display());
            ExitCode::from(2)
        }
    }
}

/// Loads every plugin, and reads every certificate. Nothing is cached: a check leaves no trace.
fn check_plugins(config: &Config) -> Result<()> {
    let host_config = HostConfig {
        max_instances: 64,
        ..HostConfig::default()
    };
    let host = Host::new(host_config)?;
    generation::load(&host, config, 1, &[])?;
    let listeners = listener_settings(config, &[])?;
    for warning in reminders::warnings(&listeners, unix_s() as i64) {
        eprintln!("warning: {warning}");
    }
    Ok(())
}
