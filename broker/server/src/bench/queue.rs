//! `nervewire bench queue`: messages for durable sessions that are offline, and what comes when they connect again. In two
//! steps, the broker can be killed in between.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::decode::{Frame, kind_name};
use super::encode::{self, PublishTemplate, Session};
use super::filters::Numbered;
use super::fleet::{Fleet, Handler};
use super::handshake::{Step, settle};
use super::meter::Meter;
use super::opening::{Greeting, Terms, open_all};
use super::outbox::Outbox;
use super::queue_report::QueueReport;
use super::report::Outcome;
use super::sequence::{STAMP_BYTES, Stamp};
use super::target::{TargetArgs, topic_text};
use super::visit::{Errand, Expected, visit_all};
use super::window::{Owed, Window};

const PUBLISHERS: u64 = 10;
/// Messages of each publisher that wait for their PUBACK.
const INFLIGHT: usize = 100;
const TICK: Duration = Duration::from_millis(100);

/// Arguments of `nervewire bench queue`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Durable sessions, each with a subscription of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) sessions: u64,
    /// Messages for each, all different, QoS 1
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) each: u64,
    /// Payload bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1_000_000))]
    pub(super) payload: u32,
    /// Only one half, if given; the other one with the same prefixes of topics and client identifiers
    #[arg(long, value_enum, requires_all = ["topic_prefix", "client_prefix"])]
    pub(super) step: Option<Half>,
    /// Beginning of all topics [default: bench/PID]
    #[arg(long, value_parser = topic_text)]
    topic_prefix: Option<String>,
}

/// One half of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Half {
    /// Makes the sessions and queues the messages
    Fill,
    /// Collects the messages and ends the sessions
    Collect,
}

impl QueueArgs {
    /// At most so many messages, ten for each session.
    pub(super) fn shrink(&mut self, most: u32) {
        let most = u64::from(most);
        self.each = self.each.min(10).min(most);
        self.sessions = self.sessions.min(most.div_ceil(10));
    }

    fn client_ids(&self) -> Vec<String> {
        let prefix = self.target.client_prefix();
        (0..self.sessions).map(|session| format!("{prefix}{session}")).collect()
    }

    /// The topic of each session.
    fn topic(&self) -> Numbered {
        let own_prefix = || format!("bench/{}", std::process::id());
        let digits = "0".repeat(self.sessions.to_string().len());
        Numbered::new(
            &self.topic_prefix.clone().unwrap_or_else(own_prefix),
            &format!("/{digits}"),
        )
    }
}

/// Runs the scenario, or a half of it.
pub(super) fn run(args: &QueueArgs) -> anyhow::Result<Outcome> {
    let mut meter = Meter::new(args.target.process()?);
    let terms = args.target.terms(0.0)?;
    let mut report = QueueReport::new(args, meter.resident_before);
    if args.step != Some(Half::Collect) {
        fill(args, &terms, &mut meter, &mut report)?;
    }
    if args.step != Some(Half::Fill) {
        collect(args, &terms, &mut meter, &mut report)?;
    }
    Outcome::of(&report)
}

fn fill(args: &QueueArgs, terms: &Terms, meter: &mut Meter, report: &mut QueueReport) -> anyhow::Result<()> {
    let before = meter.read()?;
    visit_all(terms, Errand::Subscribe(&args.topic()), args.client_ids())?;
    report.subscribed(meter.read()?.since(&before));
    let mut fleet = Fleet::new()?;
    let mut post = Post::open(args, terms, &mut fleet)?;
    let before = meter.read()?;
    post.deliver(terms.stall, &mut fleet)?;
    report.filled(meter.read()?.since(&before), meter.sample(), post.refused);
    fleet.say_goodbye(&mut post)
}

fn collect(args: &QueueArgs, terms: &Terms, meter: &mut Meter, report: &mut QueueReport) -> anyhow::Result<()> {
    let expected = Expected {
        each: args.each,
        payload_bytes: args.payload as usize,
    };
    let before = meter.read()?;
    let collected = visit_all(terms, Errand::Collect(expected), args.client_ids())?;
    report.collected(meter.read()?.since(&before), collected);
    visit_all(terms, Errand::End, args.client_ids())?;
    Ok(())
}

/// The publishers. Each has sessions of its own, so that the messages of a session come from one and have an order; it sends
/// one message to each of them, then the next to each.
struct Post {
    topic: Numbered,
    template: PublishTemplate,
    sessions: u64,
    each: u64,
    windows: Vec<Window>,
    acknowledged: u64,
    refused: u64,
}

impl Post {
    fn open(args: &QueueArgs, terms: &Terms, fleet: &mut Fleet) -> anyhow::Result<Self> {
        let publishers = PUBLISHERS.min(args.sessions);
        let greeting = |index| Greeting {
            client_id: format!("{}p{index}", args.target.client_prefix()),
            filters: Vec::new(),
            qos: 1,
            source: None,
            session: Session::Clean,
        };
        let opened = open_all(fleet, terms, &(0..publishers).map(greeting).collect::<Vec<_>>())?;
        if let Some((_, reason)) = opened.failed.first() {
            bail!("a publisher cannot connect: {reason}");
        }
        fleet.keep_alive(opened.limits.keep_alive_s);
        let inflight = INFLIGHT.min(opened.limits.receive_maximum.into());
        let topic = args.topic();
        Ok(Self {
            template: PublishTemplate::new(terms.version, topic.text(), 1, args.payload as usize),
            topic,
            sessions: args.sessions,
            each: args.each,
            windows: (0..publishers).map(|_| Window::new(inflight)).collect(),
            acknowledged: 0,
            refused: 0,
        })
    }

    /// Until every message is acknowledged.
    fn deliver(&mut self, stall: Duration, fleet: &mut Fleet) -> anyhow::Result<()> {
        let (mut progress, mut moved) = (0, Instant::now());
        while self.acknowledged < self.sessions * self.each {
            for link in 0..self.windows.len() {
                self.send(link, &mut fleet.outbox);
            }
            fleet.pass(TICK, self)?;
            if progress != self.acknowledged {
                (progress, moved) = (self.acknowledged, Instant::now());
            }
            ensure!(
                moved.elapsed() <= stall,
                "no PUBACK for {} s after {progress} messages",
                stall.as_secs()
            );
        }
        Ok(())
    }

    /// As many as the window takes.
    fn send(&mut self, link: usize, outbox: &mut Outbox) {
        let (publisher, publishers) = (link as u64, self.windows.len() as u64);
        let own_sessions = (self.sessions - publisher).div_ceil(publishers);
        let window = &mut self.windows[link];
        while window.room() > 0 && window.sent() < own_sessions * self.each {
            let number = window.send(0, Owed::Puback);
            let session = number % own_sessions * publishers + publisher;
            let stamp = Stamp {
                publisher: session as u32,
                sequence: number / own_sessions,
                sent_ns: 0,
            };
            let topic = &self.topic;
            let (out, packet_id) = (outbox.buffer(link), Window::packet_id(number));
            self.template
                .append_with(out, packet_id, &stamp.encode(), |text| topic.write(session, text));
        }
    }
}

impl Handler for Post {
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        if frame.first == encode::PINGRESP {
            return Ok(());
        }
        match settle(link, &frame, &mut self.windows[link], outbox)? {
            Some(Step::Accepted) => {}
            Some(Step::Refused(_)) => self.refused += 1,
            Some(Step::Released) | None => bail!("a publisher got an unexpected {}", kind_name(frame.first)),
        }
        self.acknowledged += 1;
        Ok(())
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        bail!("the connection of publisher {link} broke: {reason}")
    }
}
