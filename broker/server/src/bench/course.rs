//! The course of a run that publishes: warm-up, measurement, and the wait for what is still on its way.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::fleet::{Fleet, Handler};
use super::meter::{Meter, Reading, Span};
use super::outbox::Outbox;
use super::traffic::{Counts, Traffic};

/// Time between looks at memory and progress.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// After the last expected message, for those that should not come.
const LISTEN_ON: Duration = Duration::from_millis(50);
/// A pass waits no longer when something else than messages is sent besides.
const SIDE_LOAD_TICK: Duration = Duration::from_millis(1);

/// How long and how fast to publish.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Seconds of the same load before measuring starts.
    pub(super) warm_up_s: f64,
    pub(super) seconds: f64,
    /// Messages to publish while measuring, instead of a time.
    pub(super) messages: Option<u64>,
    /// Messages per second of all publishers together; without it the loop is closed.
    pub(super) rate_per_s: Option<f64>,
    pub(super) qos: u8,
    /// The run fails when nothing has moved for so long.
    pub(super) stall: Duration,
}

impl Pace {
    /// At QoS 0 a broker may drop what comes at a fixed rate; in a closed loop it has no reason to.
    pub(super) fn may_lose(&self) -> bool {
        self.qos == 0 && self.rate_per_s.is_some()
    }
}

/// What is driven through the course: messages, and possibly something besides.
pub(super) trait Load: Handler {
    fn traffic(&mut self) -> &mut Traffic;

    /// Sends what else is due; false when there is never anything else.
    fn side_load(&mut self, _outbox: &mut Outbox) -> bool {
        false
    }
}

impl Load for Traffic {
    fn traffic(&mut self) -> &mut Traffic {
        self
    }
}

/// What was measured between warm-up and end.
pub(super) struct Measured {
    pub(super) span: Span,
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) resident_after: Option<u64>,
    /// Why the run ended early.
    pub(super) failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measuring,
    Draining,
}

struct Mark {
    reading: Reading,
    counts: Counts,
}

/// One run over connections that are up.
pub(super) struct Course<'a, L> {
    pace: &'a Pace,
    fleet: &'a mut Fleet,
    load: &'a mut L,
    meter: &'a mut Meter,
    phase: Phase,
    phase_began: Instant,
    /// Messages that may still be published.
    allowance: u64,
    schedule: Option<Schedule>,
    from: Mark,
    to: Option<Mark>,
    checked: Instant,
    progress: u64,
    progressed: Instant,
}

impl<'a, L: Load> Course<'a, L> {
    /// A run of `load`, which has this many `publishers`, at `pace`.
    pub(super) fn new(
        pace: &'a Pace,
        publishers: usize,
        fleet: &'a mut Fleet,
        load: &'a mut L,
        meter: &'a mut Meter,
    ) -> anyhow::Result<Self> {
        let from = Mark {
            reading: meter.read()?,
            counts: Counts::default(),
        };
        let now = Instant::now();
        let schedule = pace.rate_per_s.map(|rate| Schedule {
            from_ns: load.traffic().clock_ns(),
            interval_ns: 1e9 / rate,
            publishers: publishers as u64,
            next: 0,
        });
        Ok(Self {
            pace,
            fleet,
            load,
            meter,
            phase: Phase::WarmUp,
            phase_began: now,
            allowance: u64::MAX,
            schedule,
            from,
            to: None,
            checked: now,
            progress: 0,
            progressed: now,
        })
    }

    /// Runs it. What was measured is valid also where the run has failed before its end.
    pub(super) fn run(mut self) -> anyhow::Result<Measured> {
        let failure = self.play().err().map(|error| format!("{error:#}"));
        self.end_measurement()?;
        let end = self.to.take().map_or_else(|| self.mark(), Ok)?;
        Ok(Measured {
            span: end.reading.since(&self.from.reading),
            published: end.counts.published - self.from.counts.published,
            delivered: end.counts.delivered - self.from.counts.delivered,
            resident_after: self.meter.sample(),
            failure,
        })
    }

    fn play(&mut self) -> anyhow::Result<()> {
        loop {
            self.next_phase()?;
            if self.phase == Phase::Draining {
                break;
            }
            self.send()?;
            let side_load = self.load.side_load(&mut self.fleet.outbox);
            self.fleet.flush(self.load)?;
            self.fleet.receive(self.patience(side_load), self.load)?;
            self.check()?;
        }
        self.drain()
    }

    fn next_phase(&mut self) -> anyhow::Result<()> {
        let in_phase = self.phase_began.elapsed().as_secs_f64();
        match self.phase {
            Phase::WarmUp if in_phase >= self.pace.warm_up_s => {
                self.enter(Phase::Measuring);
                self.from = self.mark()?;
                self.allowance = self.pace.messages.unwrap_or(u64::MAX);
                self.load.traffic().recording = true;
            }
            Phase::Measuring if self.measured_enough(in_phase) => self.enter(Phase::Draining),
            _ => {}
        }
        Ok(())
    }

    fn measured_enough(&self, in_phase: f64) -> bool {
        if self.pace.messages.is_some() {
            self.allowance == 0
        } else {
            in_phase >= self.pace.seconds
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_began = Instant::now();
    }

    fn mark(&mut self) -> anyhow::Result<Mark> {
        Ok(Mark {
            reading: self.meter.read()?,
            counts: self.load.traffic().counts,
        })
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let (traffic, outbox) = (self.load.traffic(), &mut self.fleet.outbox);
        let Some(schedule) = &mut self.schedule else {
            self.allowance -= traffic.fill(self.allowance, outbox);
            return Ok(());
        };
        let now_ns = traffic.clock_ns();
        while self.allowance > 0 && schedule.due_ns() <= now_ns {
            if !traffic.send_due(schedule.publisher(), schedule.due_ns(), outbox) {
                return Ok(());
            }
            schedule.next += 1;
            self.allowance -= 1;
        }
        let ahead_ns = schedule.due_ns().saturating_sub(traffic.clock_ns());
        self.fleet.wake_after(Duration::from_nanos(ahead_ns))
    }

    /// How long a pass may wait for events.
    fn patience(&self, side_load: bool) -> Duration {
        let phase_seconds = if self.phase == Phase::WarmUp {
            self.pace.warm_up_s
        } else {
            self.pace.seconds
        };
        let most = if side_load { SIDE_LOAD_TICK } else { CHECK_EVERY };
        let left = phase_seconds - self.phase_began.elapsed().as_secs_f64();
        let bounded = left.clamp(0.001, most.as_secs_f64());
        Duration::from_secs_f64(bounded)
    }

    /// From time to time: memory, and whether anything moves.
    fn check(&mut self) -> anyhow::Result<()> {
        if self.checked.elapsed() < CHECK_EVERY {
            return Ok(());
        }
        self.checked = Instant::now();
        self.meter.sample();
        let traffic = self.load.traffic();
        let progress = traffic.progress();
        if progress != self.progress || traffic.is_complete() {
            (self.progress, self.progressed) = (progress, self.checked);
        }
        let stall = self.pace.stall;
        ensure!(
            self.progressed.elapsed() < stall,
            "stalled: nothing has moved for {} s",
            stall.as_secs()
        );
        Ok(())
    }

    /// Waits for what is still on its way. A run over a number of messages is measured to its last message, one over
    /// a time to the end of that time.
    fn drain(&mut self) -> anyhow::Result<()> {
        if self.pace.messages.is_none() {
            self.end_measurement()?;
        }
        while !self.load.traffic().is_complete() {
            self.fleet.pass(CHECK_EVERY, self.load)?;
            match self.check() {
                Err(_stalled) if self.pace.may_lose() => break,
                other => other?,
            }
        }
        self.end_measurement()?;
        let done = Instant::now();
        while done.elapsed() < LISTEN_ON {
            self.fleet.pass(LISTEN_ON, self.load)?;
        }
        Ok(())
    }

    fn end_measurement(&mut self) -> anyhow::Result<()> {
        if self.to.is_none() {
            self.load.traffic().recording = false;
            self.meter.sample();
            self.to = Some(self.mark()?);
        }
        Ok(())
    }
}

/// When which publisher sends, at a fixed rate.
struct Schedule {
    from_ns: u64,
    interval_ns: f64,
    publishers: u64,
    /// Messages sent so far.
    next: u64,
}

impl Schedule {
    fn due_ns(&self) -> u64 {
        self.from_ns + (self.next as f64 * self.interval_ns) as u64
    }

    fn publisher(&self) -> usize {
        (self.next % self.publishers) as usize
    }
}
