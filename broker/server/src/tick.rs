//! The thread that calls `tick`: one instance per plugin, none of them on a shard; an asynchronous plugin ticks in its pool. What a
//! tick answers is published on one shard, in the plugin's name.

use crate::driver::{ShardEvent, Shared, Worker};
use nervewire_core::hook::{AppMessage, Client};
use nervewire_core::shard::home_shard;
use nervewire_core::time::Millis;
use nervewire_plugin_host::{Instance, Plugin, Question, Reply};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A plugin that asked for ticks.
pub(crate) struct Ticking {
    pub(crate) plugin: Arc<Plugin>,
    /// In whose name it publishes.
    pub(crate) client: Arc<Client>,
    /// What is called; `None`: the plugin's own pool.
    pub(crate) instance: Option<Instance>,
}

/// The thread, which ends when this is dropped.
pub(crate) struct Ticker {
    swaps: Sender<Vec<Ticking>>,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(shared: &Arc<Shared>, plugins: Vec<Ticking>) -> std::io::Result<Self> {
        let (swaps, receiver) = channel();
        let schedule = Schedule::new(plugins, shared.clock.now());
        let shared = Arc::downgrade(shared);
        std::thread::Builder::new()
            .name("plugin-tick".to_owned())
            .spawn(move || run(schedule, &receiver, &shared))?;
        Ok(Self { swaps })
    }

    /// The plugins from now on. One that stays keeps its instance and its rhythm.
    pub(crate) fn swap(&self, plugins: Vec<Ticking>) {
        let _ = self.swaps.send(plugins); // The thread has ended with the broker.
    }
}

fn run(mut schedule: Schedule, swaps: &Receiver<Vec<Ticking>>, shared: &Weak<Shared>) {
    loop {
        let Some(broker) = shared.upgrade() else { return };
        let wait = schedule.wait(broker.clock.now());
        drop(broker);
        let swap = match wait {
            Some(wait) => swaps.recv_timeout(wait),
            None => swaps.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let Some(broker) = shared.upgrade() else { return };
        match swap {
            Ok(plugins) => schedule.swap(plugins, broker.clock.now()),
            Err(RecvTimeoutError::Timeout) => schedule.tick(&broker),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// When which plugin is called.
#[derive(Default)]
struct Schedule {
    plugins: Vec<Scheduled>,
}

struct Scheduled {
    ticking: Ticking,
    rhythm: Rhythm,
    outbox: Arc<Outbox>,
}

/// What a plugin said in its last tick.
#[derive(Default)]
struct Outbox {
    /// The tick is under way: called in a pool, or being published.
    busy: AtomicBool,
    /// What could not be published yet.
    waiting: Mutex<Vec<AppMessage>>,
}

/// Every so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rhythm {
    every_ms: Millis,
    due: Millis,
}

impl Rhythm {
    /// The tick of this moment is made; those that were missed meanwhile are left out and counted.
    fn advance(&mut self, now: Millis) -> u64 {
        let late = now.saturating_sub(self.due) / self.every_ms.max(1);
        self.due += self.every_ms * (late + 1);
        late
    }
}

impl Schedule {
    fn new(plugins: Vec<Ticking>, now: Millis) -> Self {
        let mut schedule = Self::default();
        schedule.swap(plugins, now);
        schedule
    }

    fn swap(&mut self, plugins: Vec<Ticking>, now: Millis) {
        let mut before = std::mem::take(&mut self.plugins);
        for ticking in plugins {
            let same = |scheduled: &Scheduled| Arc::ptr_eq(&scheduled.ticking.plugin, &ticking.plugin);
            let kept = before
                .iter()
                .position(same)
                .map(|position| before.swap_remove(position));
            let Some(every_ms) = ticking.plugin.tick_ms().map(Millis::from) else {
                continue;
            };
            self.plugins.push(kept.unwrap_or_else(|| Scheduled {
                ticking,
                rhythm: Rhythm {
                    every_ms,
                    due: now + every_ms,
                },
                outbox: Arc::default(),
            }));
        }
    }

    /// How long nothing is due; `None`: nothing ever is.
    fn wait(&self, now: Millis) -> Option<Duration> {
        let due = self.plugins.iter().map(|scheduled| scheduled.rhythm.due).min()?;
        Some(Duration::from_millis(due.saturating_sub(now)))
    }

    fn tick(&mut self, shared: &Arc<Shared>) {
        for scheduled in &mut self.plugins {
            let now = shared.clock.now();
            if scheduled.rhythm.due <= now {
                scheduled.tick(now, shared);
                // Measured after the call: one that takes longer than its interval leaves ticks out instead of running all the time.
                let skipped = scheduled.rhythm.advance(shared.clock.now());
                scheduled.ticking.plugin.stats().skip_ticks(skipped);
            }
        }
    }
}

impl Scheduled {
    /// Calls the plugin, unless what it said last is still to be published: that bounds what waits.
    fn tick(&mut self, now: Millis, shared: &Arc<Shared>) {
        if self.outbox.busy.swap(true, Ordering::AcqRel) {
            return self.ticking.plugin.stats().skip_ticks(1);
        }
        let waiting = self.outbox.take();
        if !waiting.is_empty() {
            self.ticking.plugin.stats().skip_ticks(1);
            return self.outbox.publish(shared, &self.ticking.client, waiting);
        }
        match &mut self.ticking.instance {
            Some(instance) => {
                // A failed call is in the log and the statistics.
                let messages = instance.tick(now).unwrap_or_default();
                self.outbox.publish(shared, &self.ticking.client, messages);
            }
            None => self.tick_in_pool(now, shared),
        }
    }

    /// The plugin may wait for a backend: others tick meanwhile.
    fn tick_in_pool(&self, now: Millis, shared: &Arc<Shared>) {
        let (outbox, client) = (self.outbox.clone(), self.ticking.client.clone());
        let broker = Arc::downgrade(shared);
        let publish = move |reply| match (reply, broker.upgrade()) {
            (Reply::Tick(Ok(messages)), Some(shared)) => outbox.publish(&shared, &client, messages),
            _ => outbox.done(Vec::new()),
        };
        let question = Question::Tick { now_unix_ms: now };
        if self.ticking.plugin.submit(question, publish).is_err() {
            self.ticking.plugin.stats().skip_ticks(1);
            self.outbox.done(Vec::new());
        }
    }
}

impl Outbox {
    fn take(&self) -> Vec<AppMessage> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tick is over, but for these.
    fn done(&self, left: Vec<AppMessage>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = left;
        self.busy.store(false, Ordering::Release);
    }

    /// Publishes on the shard that would own the plugin's session, so that its messages keep their order. The next tick comes
    /// when that is done, because a plugin must not tick faster than the broker publishes.
    fn publish(self: &Arc<Self>, shared: &Shared, client: &Arc<Client>, messages: Vec<AppMessage>) {
        if messages.is_empty() {
            return self.done(messages);
        }
        let shard = home_shard(None, &client.client_id, shared.mesh.shards());
        let (outbox, publisher) = (self.clone(), client.clone());
        let publish = move |worker: &mut Worker| {
            let left = worker.publish_from(&publisher, messages).err();
            outbox.done(left.unwrap_or_default());
        };
        shared.mesh.send(shard, ShardEvent::Ask(Box::new(publish)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_tick_is_left_out_and_the_rhythm_goes_on() {
        let mut rhythm = Rhythm { every_ms: 50, due: 100 };
        let mut check = |now, late, due| {
            assert_eq!(rhythm.advance(now), late, "at {now}");
            assert_eq!(rhythm.due, due, "at {now}");
        };
        check(100, 0, 150);
        check(199, 0, 200);
        check(250, 1, 300);
        check(1_010, 14, 1_050);
        // Called early by a clock that was asked before.
        check(1_049, 0, 1_100);
    }
}
