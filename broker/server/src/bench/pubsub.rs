//! `nervewire bench pubsub`: publishers to subscribers.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::fleet::{Clock, Fleet};
use super::meter::{Meter, Reading, Span};
use super::opening::open_all;
use super::pubsub_args::PubsubArgs;
use super::pubsub_report::PubsubReport;
use super::report;
use super::traffic::{Counts, Traffic};
use super::{encode, make_room_for};

/// Time between looks at memory and progress.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Pairs of publisher and subscriber whose books fit into memory.
const MAX_PAIRS: usize = 50_000_000;
/// After the last expected message, for those that should not come.
const LISTEN_ON: Duration = Duration::from_millis(50);

/// Runs the scenario and prints its report.
pub(super) fn run(args: &PubsubArgs) -> anyhow::Result<ExitCode> {
    let mut shape = args.shape();
    let pairs = shape.publishers * shape.scheme.receivers(shape.subscribers);
    ensure!(
        pairs <= MAX_PAIRS,
        "{pairs} pairs of publisher and subscriber are too many to keep books on"
    );
    make_room_for(shape.publishers + shape.subscribers)?;
    let mut meter = Meter::new(args.target.process()?);
    let mut fleet = Fleet::new()?;
    let opened = open_all(&mut fleet, &args.target.terms(0.0)?, &args.greetings(&shape))?;
    args.check_opened(&opened)?;
    fleet.keep_alive(opened.limits.keep_alive_s);
    if shape.qos > 0 {
        shape.window = shape.window.min(opened.limits.receive_maximum.into());
    }
    let traffic = Traffic::new(shape.clone(), Clock::start());
    ensure!(
        traffic.packet_bytes() as u64 <= opened.limits.maximum_packet_bytes.into(),
        "the broker takes packets of at most {} bytes",
        opened.limits.maximum_packet_bytes
    );
    let mut run = Run::new(args, fleet, traffic, &mut meter)?;
    let failure = run.play().err().map(|error| format!("{error:#}"));
    let measured = run.measured()?;
    let report = PubsubReport::new(args, &shape, &run.traffic, &measured, &meter, failure);
    report::show(&report, args.target.json)
}

/// What was measured between warm-up and end.
pub(super) struct Measured {
    pub(super) span: Span,
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) resident_after: Option<u64>,
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

struct Run<'a> {
    args: &'a PubsubArgs,
    fleet: Fleet,
    traffic: Traffic,
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

impl<'a> Run<'a> {
    fn new(args: &'a PubsubArgs, fleet: Fleet, traffic: Traffic, meter: &'a mut Meter) -> anyhow::Result<Self> {
        let from = Mark {
            reading: meter.read()?,
            counts: Counts::default(),
        };
        let now = Instant::now();
        let schedule = args.rate.map(|rate| Schedule {
            interval_ns: 1e9 / rate,
            publishers: args.publishers.into(),
            next: 0,
        });
        let (phase, allowance) = (Phase::WarmUp, u64::MAX);
        let (checked, progressed, phase_began) = (now, now, now);
        Ok(Self {
            args,
            fleet,
            traffic,
            meter,
            phase,
            phase_began,
            allowance,
            schedule,
            from,
            to: None,
            checked,
            progress: 0,
            progressed,
        })
    }

    /// Warm-up, measurement and drain. An error says why the run ended early; what was measured stays valid.
    fn play(&mut self) -> anyhow::Result<()> {
        loop {
            self.next_phase()?;
            if self.phase == Phase::Draining {
                break;
            }
            self.send()?;
            self.fleet.flush(&mut self.traffic)?;
            self.fleet.receive(self.patience(), &mut self.traffic)?;
            self.check()?;
        }
        self.drain()
    }

    fn next_phase(&mut self) -> anyhow::Result<()> {
        let in_phase = self.phase_began.elapsed().as_secs_f64();
        match self.phase {
            Phase::WarmUp if in_phase >= self.args.warm_up => {
                self.enter(Phase::Measuring);
                self.from = self.mark()?;
                self.allowance = self.args.messages.unwrap_or(u64::MAX);
                self.traffic.recording = true;
            }
            Phase::Measuring if self.measured_enough(in_phase) => self.enter(Phase::Draining),
            _ => {}
        }
        Ok(())
    }

    fn measured_enough(&self, in_phase: f64) -> bool {
        if self.args.messages.is_some() {
            self.allowance == 0
        } else {
            in_phase >= self.args.seconds
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_began = Instant::now();
    }

    fn mark(&self) -> anyhow::Result<Mark> {
        Ok(Mark {
            reading: self.meter.read()?,
            counts: self.traffic.counts,
        })
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let Some(schedule) = &mut self.schedule else {
            self.allowance -= self.traffic.fill(self.allowance, &mut self.fleet.outbox);
            return Ok(());
        };
        let now_ns = self.traffic.clock_ns();
        while self.allowance > 0 && schedule.due_ns() <= now_ns {
            if !self
                .traffic
                .send_due(schedule.publisher(), schedule.due_ns(), &mut self.fleet.outbox)
            {
                return Ok(());
            }
            schedule.next += 1;
            self.allowance -= 1;
        }
        let ahead_ns = schedule.due_ns().saturating_sub(self.traffic.clock_ns());
        self.fleet.wake_after(Duration::from_nanos(ahead_ns))
    }

    /// How long a pass may wait for events.
    fn patience(&self) -> Duration {
        let phase_seconds = if self.phase == Phase::WarmUp {
            self.args.warm_up
        } else {
            self.args.seconds
        };
        let left = phase_seconds - self.phase_began.elapsed().as_secs_f64();
        let bounded = left.clamp(0.001, CHECK_EVERY.as_secs_f64());
        Duration::from_secs_f64(bounded)
    }

    /// From time to time: memory, and whether anything moves.
    fn check(&mut self) -> anyhow::Result<()> {
        if self.checked.elapsed() < CHECK_EVERY {
            return Ok(());
        }
        self.checked = Instant::now();
        self.meter.sample();
        let progress = self.traffic.progress();
        if progress != self.progress || self.traffic.is_complete() {
            (self.progress, self.progressed) = (progress, self.checked);
        }
        let stall = self.args.target.stall();
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
        if self.args.messages.is_none() {
            self.end_measurement()?;
        }
        while !self.traffic.is_complete() {
            self.fleet.pass(CHECK_EVERY, &mut self.traffic)?;
            match self.check() {
                Err(_stalled) if self.args.may_lose() => break,
                other => other?,
            }
        }
        self.end_measurement()?;
        let done = Instant::now();
        while done.elapsed() < LISTEN_ON {
            self.fleet.pass(LISTEN_ON, &mut self.traffic)?;
        }
        self.say_goodbye()
    }

    fn end_measurement(&mut self) -> anyhow::Result<()> {
        if self.to.is_none() {
            self.traffic.recording = false;
            self.meter.sample();
            self.to = Some(self.mark()?);
        }
        Ok(())
    }

    fn say_goodbye(&mut self) -> anyhow::Result<()> {
        for index in 0..(self.args.publishers + self.args.subscribers) as usize {
            self.fleet.outbox.buffer(index).extend_from_slice(&encode::disconnect());
        }
        self.fleet.flush(&mut self.traffic)
    }

    /// The measurement; up to now, where the run has failed before its end.
    fn measured(&mut self) -> anyhow::Result<Measured> {
        self.end_measurement()?;
        let end = self.to.take().map_or_else(|| self.mark(), Ok)?;
        Ok(Measured {
            span: end.reading.since(&self.from.reading),
            published: end.counts.published - self.from.counts.published,
            delivered: end.counts.delivered - self.from.counts.delivered,
            resident_after: self.meter.sample(),
        })
    }
}

/// When which publisher sends, at a fixed rate.
struct Schedule {
    interval_ns: f64,
    publishers: u64,
    /// Messages sent so far.
    next: u64,
}

impl Schedule {
    fn due_ns(&self) -> u64 {
        (self.next as f64 * self.interval_ns) as u64
    }

    fn publisher(&self) -> usize {
        (self.next % self.publishers) as usize
    }
}
