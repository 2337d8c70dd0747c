//! Reload: everything new is made ready aside, then swapped in whole; any error leaves the running set untouched.

use crate::admin::backend::{LastReload, ReloadError, ReloadReport};
use crate::admin::guard::Token;
use crate::admin::server::AdminServer;
use crate::builtin;
use crate::config::{self, Config};
use crate::driver::{ListenerSettings, ShardEvent, Shared, Swap, anonymous_code};
use crate::generation::{self, Generation};
use crate::run::{max_connections, shard_config};
use anyhow::{Context, Result, anyhow};
use nervewire_plugin_host::Host;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Keeps what is in force and replaces it.
pub(crate) struct Supervisor {
    host: Host,
    shared: Arc<Shared>,
    file: Option<PathBuf>,
    current: Mutex<Current>,
    /// One reload at a time; the others wait their turn.
    reloading: Mutex<()>,
    admin: Mutex<Option<AdminListener>>,
}

/// What is in force.
pub(crate) struct Current {
    pub(crate) config: Config,
    pub(crate) generation: Generation,
    pub(crate) listeners: Vec<Arc<ListenerSettings>>,
    pub(crate) last_reload: Option<LastReload>,
    pub(crate) reloads_ok: u64,
    pub(crate) reloads_failed: u64,
}

/// The admin API's listener, and how to make another.
pub(crate) struct AdminListener {
    pub(crate) server: AdminServer,
    pub(crate) start: Box<dyn Fn(TcpListener, Option<Token>) -> Result<AdminServer> + Send>,
    pub(crate) stop: Box<dyn Fn(AdminServer) + Send>,
}

/// Everything a reload made ready.
struct Prepared {
    config: Config,
    generation: Generation,
    swaps: Vec<Swap>,
    done: std::sync::mpsc::Receiver<()>,
    listeners: Vec<Arc<ListenerSettings>>,
    admin: Option<TcpListener>,
}

impl Supervisor {
    pub(crate) fn new(host: Host, shared: Arc<Shared>, file: Option<PathBuf>, current: Current) -> Self {
        Self {
            host,
            shared,
            file,
            current: Mutex::new(current),
            reloading: Mutex::new(()),
            admin: Mutex::new(None),
        }
    }

    /// The admin API runs: a reload may move it.
    pub(crate) fn set_admin(&self, admin: AdminListener) {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = Some(admin);
    }

    /// What is in force.
    pub(crate) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads the configuration and its files again and swaps them in. Returns after every shard has the new generation.
    ///
    /// # Errors
    /// What is wrong and what to do; the running set is as it was.
    pub(crate) fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let outcome = self
            .prepare()
            .and_then(|prepared| self.swap_in(prepared).map_err(one_message));
        let at_unix_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut current = self.current();
        match outcome {
            Ok((generation, changes)) => {
                current.reloads_ok += 1;
                current.last_reload = Some(LastReload {
                    at_unix_s,
                    ok: true,
                    error: None,
                });
                let took_ms = started.elapsed().as_millis() as u64;
                tracing::info!(generation, took_ms, "configuration reloaded");
                Ok(ReloadReport {
                    generation,
                    changes,
                    took_ms,
                })
            }
            Err(messages) => {
                current.reloads_failed += 1;
                let error = ReloadError { messages };
                tracing::error!(%error, "reload refused; everything stays as it was");
                current.last_reload = Some(LastReload {
                    at_unix_s,
                    ok: false,
                    error: Some(error.to_string()),
                });
                Err(error)
            }
        }
    }

    fn prepare(&self) -> Result<Prepared, Vec<String>> {
        let config = read_config(self.file.as_deref())?;
        let (old, plugins, generation, listeners) = {
            let current = self.current();
            let generation = current.generation.policy.generation;
            (
                current.config.clone(),
                current.generation.plugins.clone(),
                generation,
                current.listeners.clone(),
            )
        };
        let fixed = config::restart_only_changes(&old, &config);
        if !fixed.is_empty() {
            return Err(vec![format!(
                "a change of {} needs a restart of the broker",
                fixed.join(", ")
            )]);
        }
        self.make_ready(config, &old, generation + 1, &plugins, &listeners)
            .map_err(one_message)
    }

    fn make_ready(
        &self,
        config: Config,
        old: &Config,
        number: u64,
        plugins: &[generation::LoadedPlugin],
        running: &[Arc<ListenerSettings>],
    ) -> Result<Prepared> {
        let generation = generation::load(&self.host, &config, number, plugins)?;
        let listeners = listener_settings(&config)?;
        let sockets = listeners.iter().map(|settings| match is_running(running, settings) {
            true => Ok(None),
            false => bind(settings).map(Some),
        });
        let sockets = sockets.collect::<Result<Vec<_>>>()?;
        let admin = match config.admin.bind == old.admin.bind {
            true => None,
            false => Some(bind_admin(&config)?),
        };
        let (done_sender, done) = channel();
        let shards = self.shared.mesh.shards();
        let swaps = (0..shards).map(|_| {
            Ok(Swap {
                policy: generation.policy.clone(),
                plugins: generation.shard_plugins()?,
                config: shard_config(&config, shards),
                connect_timeout_ms: u64::from(config.limits.connect_timeout_ms.get()),
                listeners: cloned(&listeners, &sockets)?,
                done: done_sender.clone(),
            })
        });
        let swaps = swaps.collect::<Result<Vec<_>>>()?;
        Ok(Prepared {
            config,
            generation,
            swaps,
            done,
            listeners,
            admin,
        })
    }

    /// From here on nothing can fail but the admin listener's move, which comes first.
    fn swap_in(&self, prepared: Prepared) -> Result<(u64, Vec<String>)> {
        self.move_admin(&prepared)?;
        let Prepared {
            config,
            generation,
            swaps,
            done,
            listeners,
            ..
        } = prepared;
        self.shared
            .anonymous
            .store(anonymous_code(config.auth.anonymous), Ordering::Relaxed);
        self.shared
            .max_connections
            .store(max_connections(&config), Ordering::Relaxed);
        self.shared.shadows.swap(generation.shadow_plugins())?;
        self.shared.authenticators.swap(generation.auth_chain());
        let shards = swaps.len();
        for (shard, swap) in swaps.into_iter().enumerate() {
            self.shared.mesh.send(shard as u16, ShardEvent::Swap(Box::new(swap)));
        }
        for _ in 0..shards {
            done.recv().context("a shard has ended")?;
        }
        let number = generation.policy.generation;
        self.host
            .retain(|name| config.plugins.iter().any(|plugin| *plugin.name == *name));
        let mut current = self.current();
        let changes = changes(&current, &config, &generation, number);
        current.config = config;
        current.generation = generation;
        current.listeners = listeners;
        Ok((number, changes))
    }

    fn move_admin(&self, prepared: &Prepared) -> Result<()> {
        let mut admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = admin.as_mut() else { return Ok(()) };
        let token = prepared.config.admin.token.clone().and_then(Token::new);
        match &prepared.admin {
            None => running.server.set_token(token).map_err(|error| anyhow!("{error}")),
            Some(listener) => {
                let server = (running.start)(listener.try_clone()?, token)?;
                (running.stop)(std::mem::replace(&mut running.server, server));
                Ok(())
            }
        }
    }
}

/// Reads a configuration, or the embedded defaults.
pub(crate) fn read_config(file: Option<&std::path::Path>) -> Result<Config, Vec<String>> {
    let config = match file {
        Some(file) => Config::load(file, &builtin::names()),
        None => Config::defaults(&builtin::names()),
    };
    config.map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

/// The listeners of a configuration, with their TLS ready.
pub(crate) fn listener_settings(config: &Config) -> Result<Vec<Arc<ListenerSettings>>> {
    let settings = config.listeners.iter().map(|listener| {
        let tls = listener.tls.as_ref().map(crate::tls::server_config).transpose();
        Ok(Arc::new(ListenerSettings {
            name: listener.bind.text.clone(),
            address: listener.bind.address,
            tls: tls.with_context(|| format!("listener {}", listener.bind.text))?,
            identity: listener
                .tls
                .as_ref()
                .and_then(|tls| tls.client.as_ref())
                .and_then(|client| client.identity),
        }))
    });
    settings.collect()
}

/// Binds a listener.
pub(crate) fn bind(settings: &ListenerSettings) -> Result<TcpListener> {
    let name = &settings.name;
    let listener = TcpListener::bind(settings.address)
        .with_context(|| format!("listener {name} cannot be bound; is another broker running there?"))?;
    let prepared = listener
        .set_nonblocking(true)
        .and_then(|()| socket2::SockRef::from(&listener).set_tcp_nodelay(true));
    prepared.with_context(|| format!("listener {name}"))?;
    Ok(listener)
}

/// Binds the admin listener.
pub(crate) fn bind_admin(config: &Config) -> Result<TcpListener> {
    let bind = &config.admin.bind;
    TcpListener::bind(bind.address).with_context(|| {
        format!(
            "[admin] bind = \"{}\" cannot be bound; is another broker running there?",
            bind.text
        )
    })
}

fn is_running(running: &[Arc<ListenerSettings>], settings: &ListenerSettings) -> bool {
    running.iter().any(|known| known.address == settings.address)
}

fn cloned(
    listeners: &[Arc<ListenerSettings>],
    sockets: &[Option<TcpListener>],
) -> Result<Vec<(Arc<ListenerSettings>, Option<TcpListener>)>> {
    let pairs = listeners.iter().zip(sockets);
    pairs
        .map(|(settings, socket)| {
            Ok((
                settings.clone(),
                socket.as_ref().map(TcpListener::try_clone).transpose()?,
            ))
        })
        .collect()
}

fn one_message(error: anyhow::Error) -> Vec<String> {
    vec![format!("{error:#}")]
}

/// What a reload changed, a sentence each.
fn changes(current: &Current, config: &Config, generation: &Generation, number: u64) -> Vec<String> {
    let mut changes = Vec::new();
    for loaded in generation.plugins.iter().filter(|loaded| loaded.since == number) {
        changes.push(format!("plugin {} was loaded", loaded.settings.name));
    }
    for gone in &current.config.plugins {
        if !config.plugins.iter().any(|plugin| plugin.name == gone.name) {
            changes.push(format!("plugin {} was removed", gone.name));
        }
    }
    let bound = |config: &Config| config.listeners.iter().map(|l| l.bind.text.clone()).collect::<Vec<_>>();
    let (before, after) = (bound(&current.config), bound(config));
    changes.extend(
        after
            .iter()
            .filter(|bind| !before.contains(bind))
            .map(|bind| format!("listener {bind} was added")),
    );
    changes.extend(
        before
            .iter()
            .filter(|bind| !after.contains(bind))
            .map(|bind| format!("listener {bind} was removed")),
    );
    if current.config.limits != config.limits {
        changes.push("limits changed".to_owned());
    }
    if current.config.auth != config.auth {
        changes.push("auth changed".to_owned());
    }
    if current.config.admin != config.admin {
        changes.push("admin changed".to_owned());
    }
    changes
}
