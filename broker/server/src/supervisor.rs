//! Reload: everything new is made ready aside, then swapped in whole; any error leaves the running set untouched.

use crate::admin::backend::{LastReload, LastRollback, ReloadError, ReloadReport, RollbackReport};
use crate::admin::guard::Token;
use crate::admin::server::AdminServer;
use crate::builtin;
use crate::config::{self, Config};
use crate::detect::{Detecting, Detection};
use crate::driver::{ListenerSettings, ShardEvent, Shared, Swap, revoked_certificates};
use crate::generation::{self, Generation, LoadedPlugin};
use crate::listeners::{bind, bind_admin, cloned, is_running, listener_settings};
use crate::record::Recorder;
use crate::reminders::Reminders;
use crate::rollback::{Cause, Fallback, Probation, Rollbacks, Verdict};
use crate::run::{max_connections, shard_config};
use crate::tick::{Ticker, Ticking};
use crate::unix_time::unix_s;
use crate::watch::{self, State};
use anyhow::{Context, Result, anyhow};
use nervewire_plugin_host::Host;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Keeps what is in force and replaces it.
pub(crate) struct Supervisor {
    host: Host,
    shared: Arc<Shared>,
    file: Option<PathBuf>,
    current: Mutex<Current>,
    /// One reload at a time; the others wait their turn.
    reloading: Mutex<()>,
    admin: Mutex<Option<AdminListener>>,
    ticker: Ticker,
    detection: Detection,
    recorder: Recorder,
    reminders: Mutex<Reminders>,
}

/// What is in force.
pub(crate) struct Current {
    pub(crate) config: Config,
    pub(crate) generation: Generation,
    pub(crate) listeners: Vec<Arc<ListenerSettings>>,
    pub(crate) last_reload: Option<LastReload>,
    pub(crate) reloads_ok: u64,
    pub(crate) reloads_failed: u64,
    /// The files it was read from, as they were then; `None` for those of the start.
    pub(crate) stamps: Option<State>,
    /// What to go back to.
    pub(crate) fallback: Option<Fallback>,
    /// Running while the plugins of the latest reload are new.
    pub(crate) probation: Option<Probation>,
    /// What was taken back, and is not loaded again.
    pub(crate) rejected: Option<Rejected>,
    pub(crate) last_rollback: Option<LastRollback>,
    pub(crate) rollbacks: Rollbacks,
}

/// Files that made a generation which was taken back.
pub(crate) struct Rejected {
    stamps: State,
    generation: u64,
    reason: String,
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
    ticking: Vec<Ticking>,
    detecting: Vec<Detecting>,
    swaps: Vec<Swap>,
    done: std::sync::mpsc::Receiver<()>,
    listeners: Vec<Arc<ListenerSettings>>,
    admin: Option<TcpListener>,
}

impl Supervisor {
    pub(crate) fn new(
        host: Host,
        shared: Arc<Shared>,
        file: Option<PathBuf>,
        current: Current,
        (ticker, detection): (Ticker, Detection),
    ) -> Self {
        Self {
            recorder: Recorder::new(host.clone(), current.config.broker.data_dir.clone()),
            host,
            shared,
            file,
            current: Mutex::new(current),
            reloading: Mutex::new(()),
            admin: Mutex::new(None),
            ticker,
            reminders: Mutex::default(),
            detection,
        }
    }

    /// No tick begins after this, and no plugin is asked about a window.
    pub(crate) fn stop_ticking(&self) {
        self.ticker.swap(Vec::new());
        self.detection.swap(Vec::new(), self.current().config.detect);
    }

    /// Every file whose change is a reason to reload: of the configuration in force, and of the one that was taken back.
    pub(crate) fn watched_files(&self) -> BTreeSet<PathBuf> {
        let current = self.current();
        let rejected = current
            .rejected
            .iter()
            .flat_map(|rejected| rejected.stamps.keys().cloned());
        current.config.watched_files().into_iter().chain(rejected).collect()
    }

    /// The admin API runs: a reload may move it.
    pub(crate) fn set_admin(&self, admin: AdminListener) {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = Some(admin);
    }

    /// What is in force.
    pub(crate) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records calls of plugins.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
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
        let read = self.read();
        let refusal = match &read {
            Ok((_, stamps)) => self.current().refusal(stamps),
            Err(_) => None,
        };
        match refusal {
            Some(words) => self.concluded(Instant::now(), Err(vec![words])),
            None => self.take(read),
        }
    }

    /// As [`Supervisor::reload`], unless the files are those that were loaded last or taken back.
    pub(crate) fn reload_if_changed(&self) {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.read();
        if let Ok((_, stamps)) = &read {
            let current = self.current();
            if current.stamps.as_ref() == Some(stamps) || current.refusal(stamps).is_some() {
                return;
            }
        }
        let _ = self.take(read); // Its outcome is in the log and in the status.
    }

    /// The configuration, and the state its files were in before they were read.
    fn read(&self) -> Result<(Config, State), Vec<String>> {
        let file = watch::stamps(self.file.clone());
        let config = read_config(self.file.as_deref())?;
        let mut stamps = watch::stamps(config.watched_files());
        stamps.extend(file);
        Ok((config, stamps))
    }

    fn take(&self, read: Result<(Config, State), Vec<String>>) -> Result<ReloadReport, ReloadError> {
        let started = Instant::now();
        let outcome = read.and_then(|(config, stamps)| {
            let prepared = self.prepare(config)?;
            let keeps = self.current().kept(&prepared);
            let fallback = self.current().as_fallback();
            let done = self.swap_in(prepared).map_err(one_message)?;
            let mut current = self.current();
            current.stamps = Some(stamps);
            current.rejected = None;
            if !keeps {
                current.begin_probation(fallback);
            }
            Ok(done)
        });
        self.concluded(started, outcome)
    }

    fn concluded(
        &self,
        started: Instant,
        outcome: Result<(u64, Vec<String>), Vec<String>>,
    ) -> Result<ReloadReport, ReloadError> {
        let at_unix_s = unix_s();
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

    /// Says what of the listeners' TLS is about to run out, where that is due.
    pub(crate) fn remind(&self) {
        let current = self.current();
        let generation = current.generation.policy.generation;
        let mut reminders = self.reminders.lock().unwrap_or_else(PoisonError::into_inner);
        for words in reminders.due(generation, unix_s() as i64, &current.listeners) {
            tracing::warn!("{words}");
        }
    }

    /// Looks after the plugins of the latest reload; takes it back where they fail.
    pub(crate) fn judge_probation(&self) {
        // Whoever holds it is about to replace what would be judged.
        let Ok(_one_at_a_time) = self.reloading.try_lock() else {
            return;
        };
        let mut current = self.current();
        let settings = current.config.reload;
        let Some(probation) = &current.probation else { return };
        match probation.judge(&settings, Instant::now()) {
            Verdict::Undecided => {}
            Verdict::Passed => current.probation = None,
            Verdict::Failed(trouble) => {
                drop(current);
                if let Err(error) = self.roll_back(Cause::Automatic, trouble.to_string()) {
                    tracing::error!(%error, %trouble, "new plugins fail and could not be taken back: correct the configuration");
                    if let Some(probation) = &mut self.current().probation {
                        probation.give_up();
                    }
                }
            }
        }
    }

    /// Goes back to the last generation that came through.
    ///
    /// # Errors
    /// There is none, or no instances can be made of its plugins; the running set is as it was.
    pub(crate) fn roll_back_by_hand(&self) -> Result<RollbackReport, ReloadError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        self.roll_back(Cause::Manual, "asked for".to_owned())
    }

    fn roll_back(&self, cause: Cause, reason: String) -> Result<RollbackReport, ReloadError> {
        let started = Instant::now();
        let (fallback, from) = {
            let current = self.current();
            (current.fallback.clone(), current.generation.policy.generation)
        };
        let messages = |messages| ReloadError { messages };
        let nothing = || {
            messages(vec![
                "there is nothing to go back to: nothing has changed since the start or the last rollback".to_owned(),
            ])
        };
        let fallback = fallback.ok_or_else(nothing)?;
        let prepared = self.prepare_again(&fallback, from + 1);
        let prepared = prepared.map_err(|error| messages(one_message(error)))?;
        // What it restores counts under its name again, before anything is called.
        fallback
            .plugins
            .iter()
            .for_each(|loaded| self.host.keep(&loaded.plugin));
        let (generation, changes) = self.swap_in(prepared).map_err(|error| messages(one_message(error)))?;
        let mut current = self.current();
        let stamps = current.stamps.take();
        current.rejected = stamps.map(|stamps| Rejected {
            stamps,
            generation: from,
            reason: reason.clone(),
        });
        // It has come through before.
        (current.fallback, current.probation) = (None, None);
        current.rollbacks.count(cause);
        let took_ms = started.elapsed().as_millis() as u64;
        let to = fallback.number;
        match cause {
            Cause::Automatic => tracing::error!(
                from,
                to,
                generation,
                took_ms,
                "taken back: {reason}. What ran before is in force again; the files are not loaded again before they change"
            ),
            Cause::Manual => tracing::warn!(from, to, generation, took_ms, "taken back by hand"),
        }
        current.last_rollback = Some(LastRollback {
            at_unix_s: unix_s(),
            cause: cause.name().to_owned(),
            from_generation: from,
            to_generation: to,
            reason,
        });
        Ok(RollbackReport {
            generation,
            of_generation: to,
            changes,
            took_ms,
        })
    }

    /// Policy and plugins count more than addresses: where a listener cannot be bound again, those of now stay.
    fn prepare_again(&self, fallback: &Fallback, number: u64) -> Result<Prepared> {
        let (config, listeners) = {
            let current = self.current();
            (current.config.clone(), current.listeners.clone())
        };
        let whole = generation::again(&fallback.config, number, fallback.plugins.clone())?;
        let prepared = self.make_ready(
            fallback.config.clone(),
            &config,
            whole,
            fallback.listeners.clone(),
            &listeners,
        );
        prepared.or_else(|error| {
            tracing::error!("listeners stay as they are: {error:#}");
            let kept = Config {
                listeners: config.listeners.clone(),
                admin: config.admin.clone(),
                ..fallback.config.clone()
            };
            let generation = generation::again(&kept, number, fallback.plugins.clone())?;
            self.make_ready(kept, &config, generation, listeners.clone(), &listeners)
        })
    }

    fn prepare(&self, config: Config) -> Result<Prepared, Vec<String>> {
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
        let make_ready = || {
            let generation = generation::load(&self.host, &config, generation + 1, &plugins)?;
            let new = listener_settings(&config, &listeners)?;
            self.make_ready(config, &old, generation, new, &listeners)
        };
        make_ready().map_err(one_message)
    }

    fn make_ready(
        &self,
        config: Config,
        old: &Config,
        mut generation: Generation,
        listeners: Vec<Arc<ListenerSettings>>,
        running: &[Arc<ListenerSettings>],
    ) -> Result<Prepared> {
        generation.set_revoked(revoked_certificates(&listeners));
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
                listeners: cloned(&listeners, &sockets)?,
                done: done_sender.clone(),
            })
        });
        let swaps = swaps.collect::<Result<Vec<_>>>()?;
        Ok(Prepared {
            config,
            ticking: generation.ticking()?,
            detecting: generation.detecting()?,
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
            ticking,
            detecting,
            swaps,
            done,
            listeners,
            ..
        } = prepared;
        self.shared
            .max_connections
            .store(max_connections(&config), Ordering::Relaxed);
        self.shared.defence.set_limits(config.limits.defence);
        self.shared.shadows.swap(generation.shadow_plugins())?;
        self.shared.authenticators.swap(generation.auth_chain(&config));
        let shards = swaps.len();
        for (shard, swap) in swaps.into_iter().enumerate() {
            self.shared.mesh.send(shard as u16, ShardEvent::Swap(Box::new(swap)));
        }
        for _ in 0..shards {
            done.recv().context("a shard has ended")?;
        }
        self.ticker.swap(ticking);
        self.detection.swap(detecting, config.detect);
        let number = generation.policy.generation;
        self.host
            .retain(|name| config.plugins.iter().any(|plugin| *plugin.name == *name));
        let mut current = self.current();
        let changes = changes(&current, &config, &generation);
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

impl Current {
    /// What is in force, to come back to: only once its plugins have come through.
    fn as_fallback(&self) -> Option<Fallback> {
        self.probation.is_none().then(|| Fallback {
            number: self.generation.policy.generation,
            config: self.config.clone(),
            plugins: self.generation.plugins.clone(),
            listeners: self.listeners.clone(),
        })
    }

    /// Why these files are not loaded: they are those that were taken back.
    fn refusal(&self, stamps: &State) -> Option<String> {
        let rejected = self.rejected.as_ref().filter(|rejected| rejected.stamps == *stamps)?;
        Some(format!(
            "this was generation {}, which was taken back: {}; correct it, or touch a file of it to try the same again",
            rejected.generation, rejected.reason
        ))
    }

    /// Whether what was made ready is what is in force already.
    fn kept(&self, prepared: &Prepared) -> bool {
        let (old, new) = (&self.generation.plugins, &prepared.generation.plugins);
        let same = |(old, new): (&LoadedPlugin, &LoadedPlugin)| Arc::ptr_eq(&old.plugin, &new.plugin);
        self.config == prepared.config && old.len() == new.len() && old.iter().zip(new).all(same)
    }

    /// `fallback`: what was in force, if it had come through; else what there was to go back to stays.
    fn begin_probation(&mut self, fallback: Option<Fallback>) {
        self.fallback = fallback.or(self.fallback.take());
        let good = self.fallback.as_ref().map_or(0, |fallback| fallback.number);
        let probation = Probation::begin(&self.generation, good, self.probation.as_ref());
        self.probation = Some(probation);
    }

    /// How long the plugins of the latest reload are still watched.
    pub(crate) fn probation_left_ms(&self) -> Option<u64> {
        let probation = self.probation.as_ref()?;
        Some(probation.left_ms(&self.config.reload))
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

fn one_message(error: anyhow::Error) -> Vec<String> {
    vec![format!("{error:#}")]
}

/// What a reload changed, a sentence each.
fn changes(current: &Current, config: &Config, generation: &Generation) -> Vec<String> {
    let mut changes = Vec::new();
    let before = &current.generation.plugins;
    let runs = |loaded: &LoadedPlugin| before.iter().any(|old| Arc::ptr_eq(&old.plugin, &loaded.plugin));
    for loaded in generation.plugins.iter().filter(|loaded| !runs(loaded)) {
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
    if current.config.detect != config.detect {
        changes.push("detect changed".to_owned());
    }
    if current.config.auth != config.auth {
        changes.push("auth changed".to_owned());
    }
    if current.config.admin != config.admin {
        changes.push("admin changed".to_owned());
    }
    changes
}
