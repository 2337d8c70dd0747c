//! The thread that calls `detect`: it ends the windows of all shards, merges them, and asks every plugin with that hook about them, in
//! calls of bounded size. No instance of it is on a shard; an asynchronous plugin answers in its pool. Where no plugin has the hook
//! the thread sleeps, and nothing is counted.

mod alerts;
mod respond;

pub(crate) use alerts::{Alerts, Found};

use crate::config::{self, Mode};
use crate::driver::{Shared, ask_all};
use nervewire_core::hook::Finding;
use nervewire_core::time::Millis;
use nervewire_core::windows::{ClientWindow, Span, batches, merge};
use nervewire_plugin_host::{Instance, Plugin, Question, Reply};
use respond::{Detector, Responder};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Windows in one call of `detect`.
const WINDOWS_PER_CALL: usize = 1_000;

/// A plugin with the hook `detect`.
pub(crate) struct Detecting {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    /// What is called; `None`: the plugin's own pool.
    pub(crate) instance: Option<Instance>,
}

/// The thread, which ends when this is dropped.
pub(crate) struct Detection {
    events: Sender<Event>,
}

enum Event {
    /// The plugins and settings from now on.
    Swap(Vec<Detecting>, config::Detect),
    /// What an asynchronous plugin has found.
    Found(Detector, Arc<[ClientWindow]>, Vec<Finding>),
}

impl Detection {
    /// Starts the thread.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        plugins: Vec<Detecting>,
        settings: config::Detect,
    ) -> std::io::Result<Self> {
        let (events, receiver) = channel();
        let watch = Watch {
            plugins: Vec::new(),
            settings,
            opened: shared.clock.now(),
            responder: Responder::default(),
            events: events.clone(),
        };
        let shared = Arc::downgrade(shared);
        std::thread::Builder::new()
            .name("detect".to_owned())
            .spawn(move || run(watch, &receiver, &shared))?;
        let detection = Self { events };
        detection.swap(plugins, settings);
        Ok(detection)
    }

    /// The plugins from now on. One that stays keeps its instance, and what that has learned.
    pub(crate) fn swap(&self, plugins: Vec<Detecting>, settings: config::Detect) {
        let _ = self.events.send(Event::Swap(plugins, settings)); // The thread has ended with the broker.
    }
}

fn run(mut watch: Watch, events: &Receiver<Event>, shared: &Weak<Shared>) {
    /// A broker that has ended is noticed so late.
    const LOOK: Duration = Duration::from_secs(1);
    loop {
        let Some(broker) = shared.upgrade() else { return };
        let wait = watch.wait(broker.clock.now()).unwrap_or(LOOK).min(LOOK);
        drop(broker);
        let event = events.recv_timeout(wait);
        let Some(broker) = shared.upgrade() else { return };
        match event {
            Ok(Event::Swap(plugins, settings)) => watch.swap(plugins, settings, broker.clock.now()),
            Ok(Event::Found(detector, batch, findings)) => {
                watch
                    .responder
                    .respond(&broker, &watch.settings, &detector, &batch, findings);
            }
            Err(RecvTimeoutError::Timeout) => {
                if watch.wait(broker.clock.now()) == Some(Duration::ZERO) {
                    watch.close(&broker);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The window that is open, and who is asked about it.
struct Watch {
    plugins: Vec<Detecting>,
    settings: config::Detect,
    opened: Millis,
    responder: Responder,
    events: Sender<Event>,
}

impl Watch {
    fn swap(&mut self, plugins: Vec<Detecting>, settings: config::Detect, now: Millis) {
        let mut before = std::mem::take(&mut self.plugins);
        let (was_watching, length) = (!before.is_empty(), self.settings.window_ms);
        for detecting in plugins {
            let same = |old: &Detecting| Arc::ptr_eq(&old.plugin, &detecting.plugin);
            let kept = before.iter().position(same).map(|at| before.swap_remove(at));
            self.plugins.push(kept.unwrap_or(detecting));
        }
        self.settings = settings;
        if !was_watching || length != settings.window_ms {
            self.opened = now;
        }
    }

    /// How long the window stays open; `None`: nobody asks.
    fn wait(&self, now: Millis) -> Option<Duration> {
        let ends = self.opened + Millis::from(self.settings.window_ms.get());
        (!self.plugins.is_empty()).then(|| Duration::from_millis(ends.saturating_sub(now)))
    }

    /// Ends the window and asks about it.
    fn close(&mut self, shared: &Arc<Shared>) {
        let tallies = ask_all(shared, |worker| worker.close_window());
        if tallies.len() < usize::from(shared.mesh.shards()) {
            tracing::warn!("a shard did not hand out what it had counted: detectors see less than there was");
        }
        let now = shared.clock.now();
        let span = Span {
            started_unix_ms: self.opened,
            length_ms: u32::try_from(now - self.opened).unwrap_or(u32::MAX),
        };
        // Windows that were missed meanwhile are part of this one, which says how long it was.
        self.opened = now;
        let merged = merge(tallies.into_iter().flatten(), span);
        let batches: Vec<Arc<[ClientWindow]>> = batches(merged, WINDOWS_PER_CALL).into_iter().map(Into::into).collect();
        self.responder.begin_window();
        for detecting in &mut self.plugins {
            for batch in &batches {
                if let Some((detector, findings)) = detecting.ask(batch, &self.events, shared) {
                    self.responder
                        .respond(shared, &self.settings, &detector, batch, findings);
                }
            }
        }
    }
}

impl Detecting {
    /// Asks about some windows; what is found in a pool comes later.
    fn ask(
        &mut self,
        batch: &Arc<[ClientWindow]>,
        events: &Sender<Event>,
        shared: &Shared,
    ) -> Option<(Detector, Vec<Finding>)> {
        let detector = Detector {
            name: self.name.clone(),
            mode: self.mode,
        };
        let windows: Vec<_> = batch.iter().map(|client| client.window.clone()).collect();
        if let Some(instance) = &mut self.instance {
            // A failed call finds nothing; it is in the log and the statistics.
            return instance.detect(&windows).ok().map(|findings| (detector, findings));
        }
        let (events, batch) = (events.clone(), batch.clone());
        let found = move |reply| {
            if let Reply::Detect(Ok(findings)) = reply {
                let _ = events.send(Event::Found(detector, batch, findings)); // The thread has ended with the broker.
            }
        };
        if self.plugin.submit(Question::Detect { windows }, found).is_err() {
            shared.alerts.count_unasked();
        }
        None
    }
}
