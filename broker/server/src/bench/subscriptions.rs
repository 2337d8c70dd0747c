//! `nervewire bench subscriptions`: many subscriptions with wildcards, and messages on topics drawn from all of them.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::course::{Course, Pace};
use super::encode::Session;
use super::filters::{FilterShape, Filters};
use super::fleet::{Clock, Fleet, Handler};
use super::meter::Meter;
use super::opening::{Greeting, open_all};
use super::pubsub_args::OPEN_LOOP_WINDOW;
use super::pubsub_report::PubsubReport;
use super::report::Outcome;
use super::scatter::{NTH_BYTES, Scatter};
use super::sequence::STAMP_BYTES;
use super::storm::{self, Storm, StormPlan, Stormy};
use super::subscribing::{Plan, subscribe_all};
use super::subscriptions_report::{Gauge, StormReport, SubscribeReport, SubscriptionsReport};
use super::target::{TargetArgs, make_room_for, positive, seconds, topic_text};
use super::traffic::{Shape, TopicScheme, Traffic};

/// Before memory is read: for a broker that does something afterwards.
const SETTLE: Duration = Duration::from_millis(300);
const MIN_PAYLOAD_BYTES: usize = STAMP_BYTES + NTH_BYTES;

/// Arguments of `nervewire bench subscriptions`.
#[derive(Debug, clap::Args)]
pub(crate) struct SubscriptionsArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Subscriptions, each to a filter of its own
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(super) count: u64,
    /// How their filters look
    #[arg(long, value_enum, default_value = "flat")]
    pub(super) shape: FilterShape,
    /// Filters in each SUBSCRIBE
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(super) per_packet: u64,
    /// Connections that share the subscriptions
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) subscribers: u32,
    /// Publishing connections
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) publishers: u32,
    /// Quality of service of subscriptions and messages
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(super) qos: u8,
    /// Payload bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(MIN_PAYLOAD_BYTES as i64..=1_000_000))]
    pub(super) payload: u32,
    /// Closed loop: messages each publisher keeps on their way
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) inflight: u16,
    /// Seconds to publish; 0 = subscribe only
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// Seconds of the same load before measuring starts
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(super) warm_up: f64,
    /// Open loop: messages per second of all publishers together; their latency counts from when they were due
    #[arg(long, conflicts_with = "inflight", value_parser = positive)]
    pub(super) rate: Option<f64>,
    /// Publish once more, while this many filters per second are subscribed to and unsubscribed from besides
    #[arg(long, value_parser = positive)]
    pub(super) storm: Option<f64>,
    /// Beginning of all topics [default: bench/PID]
    #[arg(long, value_parser = topic_text)]
    topic_prefix: Option<String>,
}

/// Runs the scenario.
pub(super) fn run(args: &SubscriptionsArgs) -> anyhow::Result<Outcome> {
    make_room_for(args.connections())?;
    let mut meter = Meter::new(args.target.process()?);
    let mut fleet = Fleet::new()?;
    let window = args.open(&mut fleet)?;
    let filters = args.filters();
    let subscribe = args.subscribe(&filters, &mut fleet, &mut meter)?;
    let mut report = SubscriptionsReport::new(args, subscribe);
    if args.seconds > 0.0 {
        let mut publishing = Publishing::new(args, filters, window);
        report.messages = Some(publishing.quiet(&mut fleet, &mut meter)?);
        if let Some(changes_per_s) = args.storm {
            report.storm = Some(publishing.stormy(changes_per_s, &mut fleet, &mut meter)?);
        }
    }
    fleet.say_goodbye(&mut Deaf)?;
    Outcome::of(&report)
}

impl SubscriptionsArgs {
    fn storm_clients(&self) -> usize {
        if self.storm.is_some() { storm::CLIENTS } else { 0 }
    }

    fn connections(&self) -> usize {
        (self.publishers + self.subscribers) as usize + self.storm_clients()
    }

    /// Opens publishers, subscribers and the clients of the storm, in this order. Returns the window of a publisher.
    fn open(&self, fleet: &mut Fleet) -> anyhow::Result<usize> {
        let prefix = self.target.client_prefix();
        let greeting = |index| Greeting {
            client_id: format!("{prefix}{index}"),
            filters: Vec::new(),
            qos: self.qos,
            source: None,
            session: Session::Clean,
        };
        let greetings: Vec<Greeting> = (0..self.connections()).map(greeting).collect();
        let opened = open_all(fleet, &self.target.terms(0.0)?, &greetings)?;
        if let Some((index, reason)) = opened.failed.first() {
            bail!("connection {index} did not come up: {reason}");
        }
        let limits = opened.limits;
        let most = limits.maximum_qos;
        ensure!(self.qos <= most, "the broker takes QoS {most} at most");
        fleet.keep_alive(limits.keep_alive_s);
        let wanted = if self.rate.is_some() {
            OPEN_LOOP_WINDOW
        } else {
            self.inflight.into()
        };
        Ok(if self.qos > 0 {
            wanted.min(limits.receive_maximum.into())
        } else {
            wanted
        })
    }

    /// The filters of the subscribers, and behind them those of a storm.
    fn filters(&self) -> Filters {
        let own_prefix = || format!("bench/{}", std::process::id());
        let prefix = self.topic_prefix.clone().unwrap_or_else(own_prefix);
        Filters::new(self.shape, &prefix, self.count + storm::FILTERS)
    }

    fn subscribe(&self, filters: &Filters, fleet: &mut Fleet, meter: &mut Meter) -> anyhow::Result<SubscribeReport> {
        let plan = Plan {
            filters: &filters.filter,
            count: self.count,
            clients: self.subscribers.into(),
            first_link: self.publishers as usize,
            per_packet: self.per_packet,
            qos: self.qos,
            version: self.target.version,
        };
        let (before, resident_before) = (meter.read()?, meter.sample());
        let took = subscribe_all(fleet, &plan, self.target.stall())?;
        let span = meter.read()?.since(&before);
        let settled = Instant::now();
        while settled.elapsed() < SETTLE {
            fleet.pass(SETTLE, &mut Deaf)?;
        }
        let gauge = Gauge {
            before: resident_before,
            after: meter.sample(),
        };
        Ok(SubscribeReport::new(self.count, took, span, gauge))
    }

    fn shape(&self, window: usize) -> Shape {
        Shape {
            version: self.target.version,
            qos: self.qos,
            scheme: TopicScheme::Scattered,
            publishers: self.publishers as usize,
            subscribers: self.subscribers as usize,
            durable: false,
            payload_bytes: self.payload as usize,
            topic_prefix: String::new(),
            window,
            closed_loop: self.rate.is_none(),
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            warm_up_s: self.warm_up,
            seconds: self.seconds,
            messages: None,
            rate_per_s: self.rate,
            qos: self.qos,
            stall: self.target.stall(),
        }
    }
}

/// The part of the scenario in which messages are sent.
struct Publishing<'a> {
    args: &'a SubscriptionsArgs,
    filters: Filters,
    shape: Shape,
    pace: Pace,
    traffic: Traffic,
}

impl<'a> Publishing<'a> {
    fn new(args: &'a SubscriptionsArgs, filters: Filters, window: usize) -> Self {
        let shape = args.shape(window);
        let scatter = Scatter::new(filters.clone(), args.count, shape.publishers, shape.subscribers);
        let traffic = Traffic::scattered(shape.clone(), Clock::start(), filters.topic.text(), scatter);
        Self {
            args,
            filters,
            pace: args.pace(),
            shape,
            traffic,
        }
    }

    fn quiet(&mut self, fleet: &mut Fleet, meter: &mut Meter) -> anyhow::Result<PubsubReport> {
        let measured = Course::new(&self.pace, self.shape.publishers, fleet, &mut self.traffic, meter)?.run()?;
        Ok(PubsubReport::new(
            &self.pace,
            &self.shape,
            &self.traffic,
            measured,
            meter,
        ))
    }

    fn stormy(&mut self, changes_per_s: f64, fleet: &mut Fleet, meter: &mut Meter) -> anyhow::Result<StormReport> {
        let mut storm = Storm::new(StormPlan {
            filters: self.filters.filter.clone(),
            first_filter: self.args.count,
            first_link: self.shape.publishers + self.shape.subscribers,
            per_packet: self.args.per_packet,
            changes_per_s,
            version: self.shape.version,
            qos: self.shape.qos,
        });
        self.traffic.forget_latencies();
        let mut load = Stormy {
            traffic: &mut self.traffic,
            storm: &mut storm,
        };
        let measured = Course::new(&self.pace, self.shape.publishers, fleet, &mut load, meter)?.run()?;
        let messages = PubsubReport::new(&self.pace, &self.shape, &self.traffic, measured, meter);
        Ok(StormReport::new(changes_per_s, &storm, messages))
    }
}

/// Listens to nothing any more.
struct Deaf;

impl Handler for Deaf {
    fn frame(
        &mut self,
        _link: usize,
        _frame: super::decode::Frame<'_>,
        _outbox: &mut super::outbox::Outbox,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        bail!("connection {link} broke: {reason}")
    }
}
