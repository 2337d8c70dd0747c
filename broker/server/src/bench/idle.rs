//! `nervewire bench idle`: many connections that have little to say.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode::{self, PublishTemplate, Session};
use super::fleet::{Clock, Fleet, Handler};
use super::handshake::{Step, answer_publish, answer_pubrel, settle};
use super::histogram::Histogram;
use super::idle_report::{IdleReport, Round};
use super::meter::Meter;
use super::opening::{Greeting, Terms, open_all};
use super::outbox::Outbox;
use super::report::Outcome;
use super::sequence::{STAMP_BYTES, Stamp};
use super::target::{TargetArgs, Version, make_room_for, seconds, topic_text};
use super::window::{Owed, Window};

/// Connections per source address. Towards one listener an address has 28,000 ephemeral ports by default, but once the
/// half of them that the kernel tries first is taken, finding a free one costs it more than all the rest of connecting.
const CLIENTS_PER_SOURCE: u32 = 10_000;
/// Source addresses of one run: a million clients.
const SOURCES: u32 = 100;
/// From 127.1.0.0 on; there are more addresses than this behind it.
const FIRST_SOURCE: u32 = 0x7F01_0000;
const SOURCE_BLOCKS: u32 = 150_000;
/// Messages on their way when each client gets one.
const INFLIGHT: usize = 100;
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `nervewire bench idle`.
#[derive(Debug, clap::Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Connections, each with one subscription
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) clients: u32,
    /// Topic of a client; %d becomes its number [default: bench/PID/%d]
    #[arg(long, value_parser = numbered_topic)]
    topic: Option<String>,
    /// New connections per second; 0 = as fast as the broker takes them
    #[arg(long, default_value_t = 0)]
    connect_rate: u32,
    /// Seconds to stay idle before memory is read
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(super) hold: f64,
    /// Quality of service of the subscriptions and of what --publish-all sends
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(super) qos: u8,
    /// In the end send one message to every client, and count what arrives
    #[arg(long, conflicts_with = "no_subscription")]
    publish_all: bool,
    /// Connect only: what is measured is the connection without a subscription
    #[arg(long)]
    pub(super) no_subscription: bool,
    /// Payload bytes of these messages
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1_000_000))]
    payload: u32,
}

fn numbered_topic(text: &str) -> Result<String, String> {
    if !text.contains("%d") {
        return Err("%d, the number of the client, is missing".to_owned());
    }
    topic_text(text)
}

/// Runs the scenario.
pub(super) fn run(args: &IdleArgs) -> anyhow::Result<Outcome> {
    make_room_for(args.clients as usize + 1)?;
    let mut meter = Meter::new(args.target.process()?);
    let terms = args.target.terms(args.connect_rate.into())?;
    let mut fleet = Fleet::new()?;
    let before = meter.read()?;
    let opened = open_all(&mut fleet, &terms, &args.greetings(&terms))?;
    let connected = meter.read()?;
    fleet.keep_alive(opened.limits.keep_alive_s);
    let mut crowd = Crowd::new(args, &opened.failed);
    hold(&mut fleet, &mut crowd, &mut meter, Duration::from_secs_f64(args.hold))?;
    let held = meter.read()?;
    let mut report = IdleReport::new(args, &opened, &meter, connected.since(&before), held.since(&connected));
    report.resident(meter.sample());
    if args.publish_all {
        let round = publish_to_all(args, &terms, &mut fleet, &mut crowd, &mut meter)?;
        report.round(round);
    }
    fleet.say_goodbye(&mut crowd)?;
    report.dropped(crowd.dropped, crowd.first_drop);
    Outcome::of(&report)
}

impl IdleArgs {
    fn topic(&self, client: u32) -> String {
        let own = || format!("bench/{}/%d", std::process::id());
        self.topic
            .clone()
            .unwrap_or_else(own)
            .replace("%d", &client.to_string())
    }

    fn greetings(&self, terms: &Terms) -> Vec<Greeting> {
        let (prefix, run) = (self.target.client_prefix(), run_number());
        let greeting = |client| Greeting {
            client_id: format!("{prefix}{client}"),
            filters: if self.no_subscription {
                Vec::new()
            } else {
                vec![self.topic(client)]
            },
            qos: self.qos,
            source: source(terms.target.ip(), self.clients, client, run),
            session: Session::Clean,
        };
        (0..self.clients).map(greeting).collect()
    }
}

/// The local address of a client, where the broker is on this machine and there are many clients. Each `run` has its own:
/// for a minute after the last one its ports are not free.
pub(super) fn source(target: IpAddr, clients: u32, client: u32, run: u32) -> Option<IpAddr> {
    let block = (run % SOURCE_BLOCKS) * SOURCES + client / CLIENTS_PER_SOURCE;
    let loopback = matches!(target, IpAddr::V4(address) if address.is_loopback());
    // Addresses that end in 0 and 255 are left out.
    let address = FIRST_SOURCE + block / 254 * 256 + block % 254 + 1;
    (loopback && clients >= CLIENTS_PER_SOURCE).then(|| Ipv4Addr::from(address).into())
}

/// A number that the next run, also of another process, does not have.
pub(super) fn run_number() -> u32 {
    crate::unix_time::unix_ms() as u32
}

fn hold(fleet: &mut Fleet, crowd: &mut Crowd, meter: &mut Meter, duration: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < duration {
        fleet.pass(CHECK_EVERY, crowd)?;
        meter.sample();
    }
    Ok(())
}

/// One message to every client, from one more connection.
fn publish_to_all(
    args: &IdleArgs,
    terms: &Terms,
    fleet: &mut Fleet,
    crowd: &mut Crowd,
    meter: &mut Meter,
) -> anyhow::Result<Round> {
    crowd.publisher = open_publisher(args, terms, fleet)?;
    let before = meter.read()?;
    let (mut next, mut progress, mut progressed) = (0, 0, Instant::now());
    while next < args.clients || !crowd.is_complete() {
        while next < args.clients && crowd.window.room() > 0 {
            crowd.send(next, &args.topic(next), &mut fleet.outbox);
            next += 1;
        }
        fleet.pass(CHECK_EVERY, crowd)?;
        if progress != crowd.progress() {
            (progress, progressed) = (crowd.progress(), Instant::now());
        }
        if progressed.elapsed() > args.target.stall() {
            break;
        }
    }
    let span = meter.read()?.since(&before);
    // Once more for what should not come.
    fleet.pass(CHECK_EVERY, crowd)?;
    let clients = args.clients.into();
    Ok(Round::new(
        clients,
        span,
        &crowd.latency,
        crowd.tally.clone(),
        crowd.window.in_flight(),
    ))
}

fn open_publisher(args: &IdleArgs, terms: &Terms, fleet: &mut Fleet) -> anyhow::Result<usize> {
    let link = fleet.opened();
    let client_id = format!("{}publisher", args.target.client_prefix());
    let greeting = Greeting {
        client_id,
        filters: Vec::new(),
        qos: args.qos,
        source: None,
        session: Session::Clean,
    };
    let opened = open_all(fleet, terms, &[greeting])?;
    match opened.failed.first() {
        Some((_, reason)) => bail!("the publisher cannot connect: {reason}"),
        None => Ok(link),
    }
}

/// What came of the messages to all.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) delivered: u64,
    pub(super) duplicated: u64,
    pub(super) foreign: u64,
    pub(super) refused: u64,
    pub(super) unreleased: u64,
    acknowledged: u64,
}

/// The idle clients, and in the end the one that publishes to them.
struct Crowd {
    version: Version,
    qos: u8,
    payload_bytes: usize,
    clock: Clock,
    publisher: usize,
    window: Window,
    served: Vec<bool>,
    latency: Histogram,
    tally: Tally,
    dropped: u64,
    first_drop: Option<String>,
    /// Connections that never came up; that they end now is no news.
    failed: Vec<usize>,
}

impl Crowd {
    fn new(args: &IdleArgs, failed: &[(usize, String)]) -> Self {
        let mut failed: Vec<usize> = failed.iter().map(|(index, _)| *index).collect();
        failed.sort_unstable();
        Self {
            version: args.target.version,
            qos: args.qos,
            payload_bytes: args.payload as usize,
            clock: Clock::start(),
            publisher: usize::MAX,
            window: Window::new(INFLIGHT),
            served: vec![false; args.clients as usize],
            latency: Histogram::new(),
            tally: Tally::default(),
            dropped: 0,
            first_drop: None,
            failed,
        }
    }

    fn send(&mut self, client: u32, topic: &str, outbox: &mut Outbox) {
        let sequence = self.window.send(1, Owed::for_qos(self.qos));
        let stamp = Stamp {
            publisher: client,
            sequence,
            sent_ns: self.clock.now_ns(),
        };
        let template = PublishTemplate::new(self.version, topic, self.qos, self.payload_bytes);
        template.append(
            outbox.buffer(self.publisher),
            Window::packet_id(sequence),
            &stamp.encode(),
        );
    }

    fn is_complete(&self) -> bool {
        self.window.in_flight() == 0 && self.tally.unreleased == 0
    }

    fn progress(&self) -> u64 {
        self.tally.delivered + self.tally.acknowledged
    }

    fn on_client(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        match frame.first & 0xF0 {
            encode::PUBLISH => {
                let publish = decode::publish(frame, self.version)?;
                self.delivered(link, publish.payload);
                let released = answer_publish(link, publish.qos, publish.packet_id, outbox);
                self.tally.unreleased += u64::from(released);
            }
            encode::PUBREL_KIND => {
                ensure!(
                    self.tally.unreleased > 0,
                    "a PUBREL came for a message that was not received"
                );
                answer_pubrel(link, frame, outbox)?;
                self.tally.unreleased -= 1;
            }
            encode::PINGRESP => {}
            // The broker closes the connection next, and that is what counts.
            encode::DISCONNECT => {
                let reason = format!("DISCONNECT with reason 0x{:02x}", decode::disconnect_reason(frame));
                self.first_drop.get_or_insert(reason);
            }
            _ => bail!("client {link} got an unexpected {}", kind_name(frame.first)),
        }
        Ok(())
    }

    fn delivered(&mut self, client: usize, payload: &[u8]) {
        let stamp = Stamp::decode(payload).filter(|stamp| stamp.publisher as usize == client);
        let Some(stamp) = stamp.filter(|_| payload.len() == self.payload_bytes) else {
            self.tally.foreign += 1;
            return;
        };
        if std::mem::replace(&mut self.served[client], true) {
            self.tally.duplicated += 1;
            return;
        }
        self.tally.delivered += 1;
        self.latency.record(self.clock.now_ns().saturating_sub(stamp.sent_ns));
        self.window.received(stamp.sequence);
    }

    fn on_publisher(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        if frame.first == encode::PINGRESP {
            return Ok(());
        }
        let step = settle(link, frame, &mut self.window, outbox)?;
        match step.with_context(|| format!("the publisher got an unexpected {}", kind_name(frame.first)))? {
            Step::Released => {}
            Step::Accepted => self.tally.acknowledged += 1,
            Step::Refused(_) => self.tally.refused += 1,
        }
        Ok(())
    }
}

impl Handler for Crowd {
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        if link == self.publisher {
            self.on_publisher(link, &frame, outbox)
        } else {
            self.on_client(link, &frame, outbox)
        }
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        ensure!(
            link != self.publisher,
            "the connection of the publisher broke: {reason}"
        );
        if self.failed.binary_search(&link).is_err() {
            self.dropped += 1;
            self.first_drop.get_or_insert_with(|| reason.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_spread_over_loopback_addresses() {
        let check = |target: &str, clients, client, run, expected: Option<&str>| {
            let expected = expected.map(|address| address.parse().unwrap());
            let source = source(target.parse().unwrap(), clients, client, run);
            assert_eq!(source, expected, "client {client} to {target}");
        };
        check("127.0.0.1", 9_999, 9_998, 0, None);
        check("127.0.0.1", 10_000, 9_999, 0, Some("127.1.0.1"));
        check("127.0.0.1", 1_000_000, 10_000, 0, Some("127.1.0.2"));
        check("127.0.0.1", 1_000_000, 999_999, 0, Some("127.1.0.100"));
        check("127.0.0.1", 10_000, 0, 1, Some("127.1.0.101"));
        check("127.0.0.1", 10_000, 0, SOURCE_BLOCKS, Some("127.1.0.1"));
        let last = (SOURCE_BLOCKS * SOURCES - 1) / 254 * 256 + 255;
        assert!(FIRST_SOURCE + last < 0x7FFF_FFFF);
        check("192.0.2.1", 50_000, 50_000, 0, None);
        check("::1", 50_000, 50_000, 0, None);
    }

    #[test]
    fn a_topic_has_a_place_for_the_number() {
        assert!(numbered_topic("a/%d/b").is_ok());
        assert!(numbered_topic("a/b").is_err());
        assert!(numbered_topic("+/%d").is_err());
    }
}
