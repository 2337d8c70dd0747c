//! Cycles: load, the death of the broker, a new one on the same directory.

use crate::fleet::Fleet;
use crate::oracle::Figures;
use crate::power::Power;
use crate::random::Random;
use crate::support::{Broker, Setup, metric};
use std::time::{Duration, Instant};

/// Messages acknowledged in a cycle, at least.
const ACKNOWLEDGED_PER_CYCLE: u64 = 1_000;
/// How long a drain goes on while nothing comes: longer than the delayed will takes, and any disk.
const SILENCE: Duration = Duration::from_secs(6);
/// How long the load goes on for a fail point to be reached.
const FAIL_POINT_PATIENCE: Duration = Duration::from_secs(30);
/// The broker then has checkpoints within a cycle.
const SEGMENT_BYTES: &str = "262144";
/// Large enough that no bound drops anything: what is missing is lost.
const LIMITS: &str = "[limits]\nqueue_messages = 10000000\nqueue_bytes = 10000000000\nmemory_bytes = 10000000000";
/// Reasons for which the broker drops what it owes.
const DROPS: [&str; 5] = [
    "queue_messages",
    "queue_bytes",
    "memory_bytes",
    "too_large",
    "unreadable",
];

/// A place in the broker where it kills itself, and at which time that it comes there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailPoint {
    pub(crate) name: &'static str,
    pub(crate) hit: u64,
}

/// One directory, one broker after the other, the same clients throughout.
pub(crate) struct Run {
    seed: u64,
    pub(crate) fleet: Fleet,
    random: Random,
    broker: Option<Broker>,
    /// While there is no broker.
    setup: Option<Setup>,
    fail_point: Option<FailPoint>,
    power: Option<Power>,
    /// What the broker that runs has been seen to drop.
    dropped: u64,
}

impl Run {
    pub(crate) fn new(seed: u64, durability: &str) -> Self {
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        let setup = Setup::new()
            .shards(2)
            .broker(&format!("data_dir = \"data\"\ndurability = \"{durability}\""))
            .env("NERVEWIRE_SEGMENT_BYTES", SEGMENT_BYTES)
            .toml(LIMITS);
        Self {
            seed,
            fleet: Fleet::new(random.fork()),
            random,
            broker: None,
            setup: Some(setup),
            fail_point: None,
            power: None,
            dropped: 0,
        }
    }

    /// Segments are as large as they are by default: none is sealed, and synced for that, within a cycle.
    pub(crate) fn with_large_segments(mut self) -> Self {
        self.setup = self.setup.map(|setup| setup.without_env("NERVEWIRE_SEGMENT_BYTES"));
        self
    }

    /// Every death of the broker is a power cut, which spares more than it must or not.
    pub(crate) fn with_power_cuts(mut self, spares: bool) -> Self {
        let setup = self.setup.take().expect("before the start");
        let power = Power::new(setup.path("data"), spares);
        self.setup = Some(power.watch(setup));
        self.power = Some(power);
        self
    }

    /// A load with at least a thousand acknowledged messages, which the broker does not survive.
    pub(crate) fn cycle(&mut self, fail_point: Option<FailPoint>) {
        let before = self.fleet.oracle.figures.acknowledged;
        self.start(fail_point);
        if self.random.per_thousand(150) {
            self.turns(60);
            self.kill();
            self.start(fail_point);
        }
        if self.random.per_thousand(600) {
            self.drain();
        }
        while self.fleet.oracle.figures.acknowledged - before < ACKNOWLEDGED_PER_CYCLE {
            self.turn(false);
        }
        self.reach_fail_point();
        self.turns(300);
        self.kill();
        self.fleet.oracle.figures.end_cycle(before);
        let figures = &self.fleet.oracle.figures;
        eprintln!(
            "cycle {}: {} acknowledged, {} wrong",
            figures.cycles, figures.acknowledged, figures.violations
        );
    }

    /// A load that the broker survives.
    pub(crate) fn load(&mut self, messages: u64) {
        let before = self.fleet.oracle.figures.acknowledged;
        self.start(None);
        while self.fleet.oracle.figures.acknowledged - before < messages {
            self.turn(false);
        }
    }

    fn reach_fail_point(&mut self) {
        let end = Instant::now() + FAIL_POINT_PATIENCE;
        while self.fail_point.is_some() && Instant::now() < end {
            self.turn(false);
        }
    }

    /// The broker as it is now, after its clients have got everything: figures, and what was wrong.
    pub(crate) fn end(mut self) -> (Figures, Vec<String>) {
        if self.broker.is_none() {
            self.start(None);
        }
        self.drain();
        // What comes too often comes late.
        self.turns(300);
        self.drain();
        let oracle = &self.fleet.oracle;
        eprintln!("{}\nseed                      {}", oracle.figures, self.seed);
        (oracle.figures.clone(), oracle.violations().to_vec())
    }

    fn turns(&mut self, fewer_than: u64) {
        for _ in 0..self.random.within(0..fewer_than) {
            self.turn(false);
        }
    }

    fn turn(&mut self, draining: bool) -> usize {
        if self.broker.as_ref().is_some_and(|broker| broker.exited().is_some()) {
            self.died();
            self.start(None);
        }
        self.fleet.turn(draining)
    }

    fn drain(&mut self) {
        let mut last_packet = Instant::now();
        while !self.fleet.is_settled() {
            if self.turn(true) > 0 {
                last_packet = Instant::now();
            }
            if last_packet.elapsed() > SILENCE {
                self.fleet.give_up();
                break;
            }
        }
        self.count_drops();
    }

    /// A message that a bound dropped is counted, and was promised all the same. A broker that may kill itself is not asked: it
    /// may not live to answer.
    fn count_drops(&mut self) {
        let broker = self.broker.as_ref().filter(|_| self.fail_point.is_none());
        let Some(broker) = broker else { return };
        let of = |reason| metric(broker, "nervewire_messages_dropped_total", &[("reason", reason)]) as u64;
        let dropped: u64 = DROPS.into_iter().map(of).sum();
        self.fleet.oracle.figures.dropped += dropped - self.dropped;
        self.dropped = dropped;
    }

    fn start(&mut self, fail_point: Option<FailPoint>) {
        let setup = self.setup.take().expect("no broker runs");
        let setup = match fail_point {
            Some(FailPoint { name, hit }) => setup.env("NERVEWIRE_FAIL_POINT", format!("{name}:{hit}")),
            None => setup.without_env("NERVEWIRE_FAIL_POINT"),
        };
        self.fail_point = fail_point;
        self.dropped = 0;
        match setup.try_start() {
            Ok(broker) => {
                self.fleet.broker_is_at(broker.address());
                self.broker = Some(broker);
            }
            Err(ended) => {
                let (setup, status, log) = *ended;
                assert!(fail_point.is_some(), "seed {}: no start ({status}):\n{log}", self.seed);
                self.setup = Some(setup);
                self.died_at_fail_point();
                self.start(None);
            }
        }
    }

    /// At any moment, not only between the turns.
    fn kill(&mut self) {
        std::thread::sleep(Duration::from_micros(self.random.within(0..3_000)));
        let broker = self.broker.take().expect("a broker runs");
        self.setup = Some(broker.kill9().0);
        self.after_death();
    }

    fn died(&mut self) {
        let (setup, log) = self.broker.take().expect("a broker").kill9();
        assert!(
            self.fail_point.is_some(),
            "seed {}: it died by itself:\n{log}",
            self.seed
        );
        self.setup = Some(setup);
        self.died_at_fail_point();
    }

    fn died_at_fail_point(&mut self) {
        if let Some(FailPoint { name, .. }) = self.fail_point.take() {
            *self.fleet.oracle.figures.fail_points.entry(name).or_default() += 1;
        }
        self.after_death();
    }

    fn after_death(&mut self) {
        self.fleet.broker_died();
        self.fleet.oracle.broker_died();
        if let Some(power) = &self.power {
            power.cut(&mut self.random);
        }
    }
}

/// A number from the environment, for whoever wants more or the same again.
pub(crate) fn from_environment(name: &str, default: impl FnOnce() -> u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default(),
    }
}
