//! `nervewire bench retained`: sets many retained messages, then fetches them all by wildcard.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode::{self, PublishTemplate, Session};
use super::filters::Numbered;
use super::fleet::{Fleet, Handler};
use super::meter::{Meter, Span};
use super::opening::{Greeting, open_all};
use super::outbox::Outbox;
use super::report::Outcome;
use super::retained_report::RetainedReport;
use super::sequence::{STAMP_BYTES, Stamp};
use super::target::{TargetArgs, Version, topic_text};

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
/// Unwritten bytes beyond which the publisher waits for its socket.
const MAX_UNSENT_BYTES: usize = 64 * 1024;
const TICK: Duration = Duration::from_millis(100);
/// After the last expected message, for those that should not come; and before memory is read.
const LISTEN_ON: Duration = Duration::from_millis(100);
const SUBSCRIBE_ID: u16 = 1;
const UNSUBSCRIBE_ID: u16 = 2;

/// Arguments of `nervewire bench retained`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetainedArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Retained messages, each on a topic of its own; they are removed in the end
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) count: u64,
    /// Payload bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1_000_000))]
    pub(super) payload: u32,
    /// How often they are fetched; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) fetches: u32,
    /// Beginning of all topics [default: bench/PID]
    #[arg(long, value_parser = topic_text)]
    topic_prefix: Option<String>,
}

/// Runs the scenario.
pub(super) fn run(args: &RetainedArgs) -> anyhow::Result<Outcome> {
    let mut meter = Meter::new(args.target.process()?);
    let mut scene = Scene::open(args)?;
    let (before, resident) = (meter.read()?, meter.sample());
    scene.publish_all(args.payload as usize)?;
    let setting = meter.read()?.since(&before);
    scene.listen_on()?;
    let mut report = RetainedReport::new(args, setting, resident, meter.sample());
    for _ in 0..args.fetches {
        let fetch = scene.fetch(&mut meter)?;
        let complete = fetch.missing == 0;
        report.fetched(fetch);
        if !complete {
            break;
        }
    }
    // An empty retained message removes what its topic holds [MQTT-3.3.1-6].
    scene.publish_all(0)?;
    scene.fleet.say_goodbye(&mut scene.keeper)?;
    report.finish();
    Outcome::of(&report)
}

/// One time that all were fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) span: Span,
    pub(super) missing: u64,
    pub(super) duplicated: u64,
    pub(super) foreign: u64,
}

/// The two connections and what they are at.
struct Scene<'a> {
    args: &'a RetainedArgs,
    topic: Numbered,
    filter: Numbered,
    fleet: Fleet,
    keeper: Keeper,
}

impl<'a> Scene<'a> {
    fn open(args: &'a RetainedArgs) -> anyhow::Result<Self> {
        let own_prefix = || format!("bench/{}", std::process::id());
        let prefix = args.topic_prefix.clone().unwrap_or_else(own_prefix);
        let mut fleet = Fleet::new()?;
        let greeting = |role| Greeting {
            client_id: format!("{}{role}", args.target.client_prefix()),
            filters: Vec::new(),
            qos: 0,
            source: None,
            session: Session::Clean,
        };
        let greetings = [greeting("publisher"), greeting("subscriber")];
        let opened = open_all(&mut fleet, &args.target.terms(0.0)?, &greetings)?;
        if let Some((_, reason)) = opened.failed.first() {
            bail!("cannot connect: {reason}");
        }
        fleet.keep_alive(opened.limits.keep_alive_s);
        let digits = "0".repeat(args.count.to_string().len());
        Ok(Self {
            args,
            topic: Numbered::new(&prefix, &format!("/{digits}")),
            filter: Numbered::new(&prefix, "/+"),
            fleet,
            keeper: Keeper::new(args),
        })
    }

    /// Publishes one retained message on each topic. It is done when the broker has answered a PINGREQ that follows
    /// them: it takes the packets of a connection one after the other.
    fn publish_all(&mut self, payload_bytes: usize) -> anyhow::Result<()> {
        let template = PublishTemplate::retained(self.args.target.version, self.topic.text(), payload_bytes);
        let mut next = 0;
        while next < self.args.count {
            while next < self.args.count && self.fleet.outbox.waiting_bytes(PUBLISHER) < MAX_UNSENT_BYTES {
                self.publish(&template, next, payload_bytes);
                next += 1;
            }
            self.fleet.flush(&mut self.keeper)?;
            let blocked = self.fleet.outbox.waiting_bytes(PUBLISHER) > 0;
            let patience = if blocked { TICK } else { Duration::ZERO };
            self.fleet.receive(patience, &mut self.keeper)?;
        }
        self.fleet
            .outbox
            .buffer(PUBLISHER)
            .extend_from_slice(&encode::pingreq());
        self.keeper.ponged = false;
        self.wait("PINGRESP", |keeper| keeper.ponged)
    }

    fn publish(&mut self, template: &PublishTemplate, number: u64, payload_bytes: usize) {
        let stamp = Stamp {
            publisher: 0,
            sequence: number,
            sent_ns: 0,
        };
        let stamp = &stamp.encode()[..payload_bytes.min(STAMP_BYTES)];
        let topic = &self.topic;
        let out = self.fleet.outbox.buffer(PUBLISHER);
        template.append_with(out, 0, stamp, |text| topic.write(number, text));
    }

    /// Subscribes, waits until everything has come, and unsubscribes.
    fn fetch(&mut self, meter: &mut Meter) -> anyhow::Result<Fetch> {
        self.keeper.begin();
        let version = self.args.target.version;
        let subscribe = encode::subscribe_numbered(version, SUBSCRIBE_ID, &self.filter, [0].into_iter(), 0);
        let before = meter.read()?;
        self.fleet.outbox.buffer(SUBSCRIBER).extend_from_slice(&subscribe);
        self.wait_while_moving(|keeper| keeper.missing() == 0 && keeper.granted)?;
        let span = meter.read()?.since(&before);
        self.listen_on()?;
        let unsubscribe = encode::unsubscribe_numbered(version, UNSUBSCRIBE_ID, &self.filter, [0].into_iter());
        self.fleet.outbox.buffer(SUBSCRIBER).extend_from_slice(&unsubscribe);
        self.wait("UNSUBACK", |keeper| !keeper.granted)?;
        Ok(Fetch {
            span,
            missing: self.keeper.missing(),
            duplicated: self.keeper.duplicated,
            foreign: self.keeper.foreign,
        })
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Keeper) -> bool) -> anyhow::Result<()> {
        self.wait_while_moving(&done)?;
        ensure!(
            done(&self.keeper),
            "no {what} in {} s",
            self.args.target.stall().as_secs()
        );
        Ok(())
    }

    /// Until it is done, or nothing has come for the stall time.
    fn wait_while_moving(&mut self, done: impl Fn(&Keeper) -> bool) -> anyhow::Result<()> {
        let (mut progress, mut moved) = (0, Instant::now());
        while !done(&self.keeper) && moved.elapsed() < self.args.target.stall() {
            self.fleet.pass(TICK, &mut self.keeper)?;
            let waiting = (0..2)
                .map(|link| self.fleet.outbox.waiting_bytes(link) as u64)
                .sum::<u64>();
            let now = self.keeper.arrived.wrapping_sub(waiting);
            if now != progress {
                (progress, moved) = (now, Instant::now());
            }
        }
        Ok(())
    }

    fn listen_on(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        while from.elapsed() < LISTEN_ON {
            self.fleet.pass(LISTEN_ON, &mut self.keeper)?;
        }
        Ok(())
    }
}

/// Keeps the books on what comes.
struct Keeper {
    version: Version,
    payload_bytes: usize,
    seen: Vec<bool>,
    fetched: u64,
    duplicated: u64,
    foreign: u64,
    /// Packets of any kind, as a sign of life.
    arrived: u64,
    granted: bool,
    ponged: bool,
}

impl Keeper {
    fn new(args: &RetainedArgs) -> Self {
        Self {
            version: args.target.version,
            payload_bytes: args.payload as usize,
            seen: vec![false; args.count as usize],
            fetched: 0,
            duplicated: 0,
            foreign: 0,
            arrived: 0,
            granted: false,
            ponged: false,
        }
    }

    fn begin(&mut self) {
        self.seen.fill(false);
        (self.fetched, self.duplicated, self.foreign) = (0, 0, 0);
    }

    fn missing(&self) -> u64 {
        self.seen.len() as u64 - self.fetched
    }

    fn message(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        let publish = decode::publish(frame, self.version)?;
        // Sent because of a new subscription, it says that it was retained [MQTT-3.3.1-8].
        let retained = frame.first & 0x01 == 1;
        let stamp = Stamp::decode(publish.payload).filter(|_| retained && publish.payload.len() == self.payload_bytes);
        match stamp.and_then(|stamp| self.seen.get_mut(stamp.sequence as usize)) {
            None => self.foreign += 1,
            Some(seen) if *seen => self.duplicated += 1,
            Some(seen) => {
                *seen = true;
                self.fetched += 1;
            }
        }
        Ok(())
    }

    fn suback(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        let codes = decode::suback(frame, self.version)?;
        ensure!(codes == [0], "the subscription was answered with {codes:02x?}");
        self.granted = true;
        Ok(())
    }
}

impl Handler for Keeper {
    #[inline]
    fn frame(&mut self, link: usize, frame: Frame<'_>, _outbox: &mut Outbox) -> anyhow::Result<()> {
        self.arrived += 1;
        match frame.first & 0xF0 {
            encode::PUBLISH if link == SUBSCRIBER => self.message(&frame)?,
            encode::SUBACK => self.suback(&frame)?,
            encode::UNSUBACK => self.granted = false,
            encode::PINGRESP => self.ponged |= link == PUBLISHER,
            encode::DISCONNECT => bail!(
                "the broker disconnected with reason 0x{:02x}",
                decode::disconnect_reason(&frame)
            ),
            _ => bail!("an unexpected {} came", kind_name(frame.first)),
        }
        Ok(())
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        let who = if link == PUBLISHER { "publisher" } else { "subscriber" };
        bail!("the connection of the {who} broke: {reason}")
    }
}
