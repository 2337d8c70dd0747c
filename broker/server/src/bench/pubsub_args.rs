//! The arguments of `nervewire bench pubsub`, and the load they describe.

use anyhow::{bail, ensure};

use super::course::Pace;
use super::encode::Session;
use super::opening::{Greeting, Opened};
use super::sequence::STAMP_BYTES;
use super::target::{TargetArgs, positive, seconds, topic_text};
use super::traffic::{Shape, TopicScheme};

/// At a fixed rate, messages of one publisher that may wait for their acknowledgement; the next are late.
pub(super) const OPEN_LOOP_WINDOW: usize = 4_096;

/// Arguments of `nervewire bench pubsub`.
#[derive(Debug, clap::Args)]
pub(crate) struct PubsubArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Publishing connections
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) publishers: u32,
    /// Subscribing connections
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) subscribers: u32,
    /// Quality of service, to the broker and from it
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(super) qos: u8,
    /// Payload bytes; the first 20 carry publisher, number and time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=268_000_000))]
    pub(super) payload: u32,
    /// Closed loop: messages each publisher keeps on their way
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) inflight: u16,
    /// Seconds to measure
    #[arg(long, default_value_t = 10.0, conflicts_with = "messages", value_parser = seconds)]
    pub(super) seconds: f64,
    /// Messages to publish while measuring, instead of a time
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) messages: Option<u64>,
    /// Seconds of the same load before measuring starts
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(super) warm_up: f64,
    /// Open loop: messages per second of all publishers together; their latency counts from when they were due
    #[arg(long, conflicts_with = "inflight", value_parser = positive)]
    pub(super) rate: Option<f64>,
    /// Subscribers have durable sessions; they are ended after the run
    #[arg(long)]
    pub(super) durable: bool,
    /// Who hears whom
    #[arg(long, value_enum, default_value = "pairs")]
    pub(super) topic_scheme: TopicScheme,
    /// Beginning of all topics [default: bench/PID]
    #[arg(long, value_parser = topic_text)]
    topic_prefix: Option<String>,
}

impl PubsubArgs {
    /// The load these arguments describe.
    pub(super) fn shape(&self) -> Shape {
        let own_prefix = || format!("bench/{}", std::process::id());
        Shape {
            version: self.target.version,
            qos: self.qos,
            scheme: self.topic_scheme,
            publishers: self.publishers as usize,
            subscribers: self.subscribers as usize,
            durable: self.durable,
            payload_bytes: self.payload as usize,
            topic_prefix: self.topic_prefix.clone().unwrap_or_else(own_prefix),
            window: if self.rate.is_some() {
                OPEN_LOOP_WINDOW
            } else {
                self.inflight.into()
            },
            closed_loop: self.rate.is_none(),
        }
    }

    /// Publishers first, then subscribers.
    pub(super) fn greetings(&self, shape: &Shape) -> Vec<Greeting> {
        let prefix = self.target.client_prefix();
        let heard = if self.durable { Session::Durable } else { Session::Clean };
        let greeting = |client_id, filters, session| Greeting {
            client_id,
            filters,
            qos: self.qos,
            source: None,
            session,
        };
        let publisher = |index| greeting(format!("{prefix}p{index}"), Vec::new(), Session::Clean);
        let subscribers = (0..shape.subscribers).map(|index| {
            let filters = shape
                .scheme
                .filters(&shape.topic_prefix, index, shape.publishers, shape.subscribers);
            greeting(format!("{prefix}s{index}"), filters, heard)
        });
        (0..shape.publishers).map(publisher).chain(subscribers).collect()
    }

    /// How long and how fast to publish.
    pub(super) fn pace(&self) -> Pace {
        Pace {
            warm_up_s: self.warm_up,
            seconds: self.seconds,
            messages: self.messages,
            rate_per_s: self.rate,
            qos: self.qos,
            stall: self.target.stall(),
        }
    }

    fn name(&self, connection: usize) -> String {
        match connection.checked_sub(self.publishers as usize) {
            None => format!("publisher {connection}"),
            Some(subscriber) => format!("subscriber {subscriber}"),
        }
    }

    /// Every connection has to be up, and to allow the QoS.
    pub(super) fn check_opened(&self, opened: &Opened) -> anyhow::Result<()> {
        if let Some((index, reason)) = opened.failed.first() {
            let (failed, all) = (opened.failed.len(), self.publishers + self.subscribers);
            bail!(
                "{failed} of {all} connections did not come up; {}: {reason}",
                self.name(*index)
            );
        }
        let most = opened.limits.maximum_qos;
        ensure!(self.qos <= most, "the broker takes QoS {most} at most");
        Ok(())
    }
}
