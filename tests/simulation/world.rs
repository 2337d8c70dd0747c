//! One run: chaos in steps that the seed chooses, then quiet, then everything that was promised is looked for.

use crate::broker::{Station, policy};
use crate::client::{Client, Phase};
use crate::disk::{Disk, Handle};
use crate::net::Link;
use crate::oracle::Oracle;
use crate::plan::{Habits, Plan};
use crate::random::Random;
use crate::store::Checkpoint;
use crate::trace::{Kept, Trace, Violation, check};
use nervewire_core::shard::Shard;
use nervewire_core::store::Partition;
use nervewire_core::time::Millis;
use nervewire_store::Entry;
use std::cell::RefCell;
use std::rc::Rc;

/// Everything there is in a run.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) plan: Plan,
    pub(crate) now: Millis,
    pub(crate) trace: Trace,
    pub(crate) net: Vec<Link>,
    pub(crate) stations: Vec<Station>,
    pub(crate) disk: Rc<RefCell<Disk>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// A stale owner has written since the last start.
    pub(crate) has_stale_writes: bool,
    /// No faults, and everybody does what is due at once.
    pub(crate) calm: bool,
    /// Messages that bounds dropped, in all lives of the broker.
    pub(crate) dropped: u64,
    pub(crate) crashes: u32,
    planted: Option<Bug>,
}

/// A bug to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// In a shard.
    OfCore(nervewire_core::planted::Planted),
    /// Replay takes records of an epoch that has ended.
    StaleEpoch,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Bug>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::of(&mut random);
        let mut clients: Vec<Client> = plan.clients.iter().cloned().map(Client::new).collect();
        clients.push(Client::new(Habits::of_observer()));
        let mut world = Self {
            random,
            now: 1_000_000,
            trace,
            net: Vec::new(),
            stations: Vec::new(),
            disk: Rc::default(),
            clients,
            oracle: Oracle::new(&plan),
            checkpoint: None,
            has_stale_writes: false,
            calm: false,
            dropped: 0,
            crashes: 0,
            plan,
            planted,
        };
        world.trace.note(|| format!("{:?}", world.plan));
        world
    }

    pub(crate) fn run(&mut self) -> Kept {
        self.start(self.plan.shards)?;
        for _ in 0..self.plan.rounds {
            self.calm = false;
            for _ in 0..self.plan.steps {
                self.step()?;
            }
            self.come_to_rest()?;
            self.check_all()?;
        }
        Ok(())
    }

    /// Some shard has not restored everything: nobody is let in.
    pub(crate) fn is_restoring(&self) -> bool {
        self.stations.iter().any(|station| station.shard.is_restoring())
    }

    pub(crate) fn shards(&self) -> u16 {
        self.stations.len() as u16
    }

    /// New shards, which restore what the log has.
    fn start(&mut self, shards: u16) -> Kept {
        self.disk.borrow_mut().fence_all();
        self.trace.note(|| format!("{shards} shards start"));
        let policy = policy();
        for n in 0..shards {
            let mut shard = Shard::new(self.plan.config(n, shards), policy.clone(), self.now);
            if let Some(Bug::OfCore(bug)) = self.planted {
                shard.plant(bug);
            }
            let log = Handle::new(self.disk.clone(), usize::from(n));
            self.stations.push(Station::new(shard, log));
        }
        for (partition, entry) in self.live_entries() {
            let owner = usize::from(partition.owner(shards));
            self.trace
                .note(|| format!("shard {owner}: restores {:?}", entry.record));
            self.stations[owner]
                .shard
                .restore(partition, entry.position, entry.record);
        }
        let first = self
            .stations
            .iter()
            .map(|station| station.shard.first_free_number())
            .max();
        for station in &mut self.stations {
            station.shard.restored(self.now, first.unwrap_or_default());
        }
        for s in 0..self.stations.len() {
            self.take_appends(s)?;
            self.take_batches(s);
        }
        Ok(())
    }

    /// What replay makes of the log.
    pub(crate) fn live_entries(&self) -> Vec<(Partition, Entry)> {
        let disk = self.disk.borrow();
        let entries = disk.entries(self.planted == Some(Bug::StaleEpoch));
        entries.map(|(partition, entry)| (partition, entry.clone())).collect()
    }

    fn step(&mut self) -> Kept {
        // Whether replay sees through a stale owner, the next start shows.
        let times = if self.has_stale_writes { 5 } else { 1 };
        if self.random.below(1_000) < times * self.plan.crash {
            return self.crash();
        }
        if self.random.below(1_000) < self.plan.trouble {
            self.change_trouble();
        }
        if self.random.below(1_000) < self.plan.checkpoint {
            self.begin_checkpoint();
        }
        if self.random.below(1_000) < self.plan.lose_link {
            self.lose_a_link();
        }
        match self.random.below(100) {
            0..30 => {
                let s = self.random.index(self.stations.len());
                self.pass(s).map(drop)
            }
            30..60 => {
                self.carry();
                Ok(())
            }
            60..90 => {
                let c = self.random.index(self.plan.clients.len());
                if self.random.percent(50) {
                    let most = self.random.index(300);
                    return self.hear(c, most).map(drop);
                }
                self.act(c);
                Ok(())
            }
            90..98 => {
                self.step_disk();
                Ok(())
            }
            _ => {
                self.pass_time();
                Ok(())
            }
        }
    }

    fn pass_time(&mut self) {
        let ms = match self.random.below(20) {
            0 => self.random.below(80_000),
            _ => self.random.below(1_500),
        };
        self.now += ms;
        let now = self.now;
        self.trace.note(|| format!("it is {now} ms"));
    }

    /// The last links are those that carry something.
    fn some_link(&mut self) -> Option<usize> {
        let recent = self.net.len().min(2 * self.clients.len());
        (recent > 0).then(|| self.net.len() - 1 - self.random.index(recent))
    }

    fn carry(&mut self) {
        let most = 1 + self.random.index(600);
        let upwards = self.random.percent(50);
        if let Some(link) = self.some_link() {
            let link = &mut self.net[link];
            let pipe = if upwards { &mut link.up } else { &mut link.down };
            pipe.carry(most);
        }
    }

    fn lose_a_link(&mut self) {
        let Some(link) = self.some_link() else { return };
        self.trace.note(|| format!("link {link} is lost"));
        self.net[link].cut(&mut self.random);
    }

    /// Shards and connections vanish; what was durable stays, and some of what was not.
    fn crash(&mut self) -> Kept {
        let (kept, batches) = self.disk.borrow_mut().crash(&mut self.random);
        self.trace
            .note(|| format!("CRASH: {kept} of {batches} batches are kept"));
        self.crashes += 1;
        self.has_stale_writes = false;
        self.count_dropped();
        self.stations.clear();
        self.checkpoint = None;
        self.oracle.restarted();
        for link in &mut self.net {
            link.up.discard();
            link.down.cut(&mut self.random);
        }
        for c in 0..self.clients.len() {
            self.detached(c);
        }
        let shards = 1 + self.random.below(3) as u16;
        self.start(shards)
    }

    fn count_dropped(&mut self) {
        self.dropped += self
            .stations
            .iter()
            .map(|station| dropped_at_bounds(&station.shard))
            .sum::<u64>();
    }

    pub(crate) fn dropped_so_far(&self) -> u64 {
        self.dropped
            + self
                .stations
                .iter()
                .map(|station| dropped_at_bounds(&station.shard))
                .sum::<u64>()
    }

    /// A connection of this client gets its session. Only when the client hears so is it certain that the log has it.
    pub(crate) fn attached(&mut self, c: usize) {
        let expiry_s = self.clients[c].habits.expiry_s;
        let expired = |since| expiry_s != u32::MAX && self.now >= since + u64::from(expiry_s) * 1_000;
        if self.clients[c].away_since.is_some_and(expired) {
            let at = self.trace.note(|| format!("client {c}: its session may have expired"));
            self.oracle.may_end(c, at);
            self.clients[c].doubts_session = true;
        }
        // What the log has may be that the connection before ended now.
        self.clients[c].away_since.get_or_insert(self.now);
    }

    /// The client has heard that it is connected.
    pub(crate) fn arrived(&mut self, c: usize) {
        if self.has_end(c) {
            self.clients[c].away_since = None;
        }
    }

    /// The broker has no connection of this client any more.
    pub(crate) fn detached(&mut self, c: usize) {
        if !self.has_end(c) {
            self.clients[c].away_since.get_or_insert(self.now);
        }
    }

    fn has_end(&self, c: usize) -> bool {
        let mut ends = self.stations.iter().flat_map(|station| station.ends.values());
        ends.any(|end| self.net[end.link].client == c)
    }

    /// Faults are over, everybody comes and does what is due, until nothing is left to be done.
    fn come_to_rest(&mut self) -> Kept {
        self.calm = true;
        self.trace.note(|| "faults are over".into());
        self.set_trouble(None);
        self.settle()?;
        self.check_rest()
    }

    /// Everybody does what is due, until nothing happens any more.
    pub(crate) fn settle(&mut self) -> Kept {
        const MOST_TURNS: usize = 5_000;
        const IDLE_TURNS: usize = 10;
        let mut idle = 0;
        for _ in 0..MOST_TURNS {
            idle = if self.turn()? { 0 } else { idle + 1 };
            // Once a second expired messages and unused interests are taken away.
            self.now += 300;
            if idle > IDLE_TURNS {
                return Ok(());
            }
        }
        Err(Violation(format!("nothing comes to rest: {}", self.unfinished())))
    }

    /// Everybody once. Whether anything happened.
    fn turn(&mut self) -> Kept<bool> {
        let mut busy = false;
        for link in &mut self.net {
            busy |= link.up.carry(usize::MAX) | link.down.carry(usize::MAX);
        }
        for s in 0..self.stations.len() {
            busy |= self.pass(s)?;
        }
        busy |= self.step_disk();
        for c in 0..self.clients.len() {
            busy |= self.hear(c, usize::MAX)?;
            // The observer comes when it is asked to.
            if self.clients[c].phase == Phase::Away && c < self.plan.clients.len() {
                busy = true;
                self.connect(c);
            }
            while !self.clients[c].connection.answers.is_empty() {
                busy = true;
                self.answer(c);
            }
        }
        Ok(busy)
    }

    fn check_rest(&self) -> Kept {
        let unfinished = self.unfinished();
        check(unfinished.is_empty(), || {
            format!("not everything is finished: {unfinished}")
        })
    }

    /// Who waits for something that does not come.
    fn unfinished(&self) -> String {
        let mut waiting = Vec::new();
        for (c, client) in self.clients.iter().enumerate() {
            let observer = c == self.plan.clients.len();
            if !observer && client.phase != Phase::Connected {
                waiting.push(format!("client {c} is {:?}", client.phase));
            }
            if !client.in_flight.is_empty() || !client.connection.awaited.is_empty() || !client.received.is_empty() {
                let Client {
                    in_flight,
                    received,
                    connection,
                    ..
                } = client;
                waiting.push(format!(
                    "client {c} has {in_flight:?}, {received:?}, {:?}",
                    connection.awaited
                ));
            }
        }
        for (s, station) in self.stations.iter().enumerate() {
            if !station.is_quiet() {
                waiting.push(format!("shard {s} is not done"));
            }
            for session in station.shard.sessions(0, usize::MAX) {
                if session.connected && session.queued_messages + session.in_flight_messages > 0 {
                    let (queued, in_flight) = (session.queued_messages, session.in_flight_messages);
                    waiting.push(format!(
                        "{} has {queued} queued and {in_flight} in flight",
                        session.client.client_id
                    ));
                }
            }
        }
        if !self.disk.borrow().is_quiet() {
            waiting.push("the disk is not done".into());
        }
        waiting.join("; ")
    }
}

fn dropped_at_bounds(shard: &Shard) -> u64 {
    let dropped = shard.counters().dropped;
    dropped.queue_messages + dropped.queue_bytes + dropped.memory_bytes
}
