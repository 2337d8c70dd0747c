//! Clients that connect, do something with their session, and leave: so many at a time, until all have been there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode::{self, Session};
use super::filters::Numbered;
use super::fleet::{Fleet, Handler};
use super::handshake::answer_publish;
use super::idle::{run_number, source};
use super::opening::Terms;
use super::outbox::Outbox;
use super::sequence::{Arrival, Sequence, Stamp};

/// Clients that are there at the same time.
const MAX_UNDER_WAY: usize = 100;
const TICK: Duration = Duration::from_millis(100);

/// What every client comes for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Errand<'a> {
    /// To subscribe at QoS 1 to the filter with its number, in a durable session.
    Subscribe(&'a Numbered),
    /// To take the messages that were queued for it.
    Collect(Expected),
    /// To end its session.
    End,
}

/// The messages in the queue of each client, stamped with its number and in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) each: u64,
    pub(super) payload_bytes: usize,
}

/// What the clients got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Collected {
    pub(super) messages: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// For another client, or altered.
    pub(super) foreign: u64,
}

/// Sends every client on its errand.
///
/// # Errors
/// When one is refused, or nothing moves any more; messages that do not come are no error.
pub(super) fn visit_all(terms: &Terms, errand: Errand<'_>, client_ids: Vec<String>) -> anyhow::Result<Collected> {
    let mut fleet = Fleet::new()?;
    let mut visits = Visits::new(terms, errand, client_ids);
    let (all, run) = (visits.client_ids.len(), run_number());
    let (mut begun, mut moved, mut progress) = (0, Instant::now(), 0);
    while visits.left < all {
        while begun < all && begun - visits.left < MAX_UNDER_WAY {
            visits.begin(begun, run, &mut fleet)?;
            begun += 1;
        }
        fleet.pass(TICK, &mut visits)?;
        if progress != visits.frames {
            (progress, moved) = (visits.frames, Instant::now());
        }
        if moved.elapsed() > terms.stall {
            visits.give_up()?;
            break;
        }
    }
    Ok(visits.result())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Subscribing,
    Collecting,
    Leaving,
    Gone,
}

struct Visits<'a> {
    terms: &'a Terms,
    errand: Errand<'a>,
    client_ids: Vec<String>,
    /// Of the clients that have come.
    stages: Vec<Stage>,
    sequences: Vec<Sequence>,
    collected: Collected,
    left: usize,
    /// Packets and ends of connections, as a sign of life.
    frames: u64,
}

impl<'a> Visits<'a> {
    fn new(terms: &'a Terms, errand: Errand<'a>, client_ids: Vec<String>) -> Self {
        let mut sequences = Vec::new();
        sequences.resize_with(client_ids.len(), Sequence::default);
        Self {
            terms,
            errand,
            stages: Vec::with_capacity(client_ids.len()),
            client_ids,
            sequences,
            collected: Collected::default(),
            left: 0,
            frames: 0,
        }
    }

    /// Client `index` comes, on the connection with its number.
    fn begin(&mut self, index: usize, run: u32, fleet: &mut Fleet) -> anyhow::Result<()> {
        let Terms {
            target,
            version,
            credentials,
            ..
        } = self.terms;
        let source = source(target.ip(), self.client_ids.len() as u32, index as u32, run);
        let link = fleet
            .connect(*target, source)
            .with_context(|| format!("cannot connect to {target}"))?;
        ensure!(link == index, "connections were opened out of order");
        let session = match self.errand {
            Errand::End => Session::Clean,
            Errand::Subscribe(_) | Errand::Collect(_) => Session::Durable,
        };
        let connect = encode::connect(*version, &self.client_ids[index], credentials, session);
        fleet.outbox.buffer(link).extend_from_slice(&connect);
        self.stages.push(Stage::Connecting);
        Ok(())
    }

    fn connack(&mut self, index: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let code = decode::connack(frame, self.terms.version)?.code;
        ensure!(code == 0, "{} was refused with 0x{code:02x}", self.client_ids[index]);
        match self.errand {
            Errand::Subscribe(filter) => {
                let number = [index as u64].into_iter();
                let subscribe = encode::subscribe_numbered(self.terms.version, 1, filter, number, 1);
                outbox.buffer(index).extend_from_slice(&subscribe);
                self.stages[index] = Stage::Subscribing;
            }
            Errand::Collect(_) => self.stages[index] = Stage::Collecting,
            Errand::End => self.leave(index, outbox),
        }
        Ok(())
    }

    fn suback(&mut self, index: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let codes = decode::suback(frame, self.terms.version)?;
        ensure!(codes == [1], "a subscription was answered with {codes:02x?}");
        self.leave(index, outbox);
        Ok(())
    }

    fn leave(&mut self, index: usize, outbox: &mut Outbox) {
        outbox.buffer(index).extend_from_slice(&encode::disconnect());
        self.stages[index] = Stage::Leaving;
    }

    fn message(
        &mut self,
        index: usize,
        expected: Expected,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        let publish = decode::publish(frame, self.terms.version)?;
        answer_publish(index, publish.qos, publish.packet_id, outbox);
        let ours = |stamp: &Stamp| stamp.publisher as usize == index && stamp.sequence < expected.each;
        let whole = publish.qos == 1 && publish.payload.len() == expected.payload_bytes;
        let Some(stamp) = Stamp::decode(publish.payload).filter(|stamp| whole && ours(stamp)) else {
            self.collected.foreign += 1;
            return Ok(());
        };
        let sequence = &mut self.sequences[index];
        match sequence.observe(stamp.sequence) {
            Arrival::New => self.collected.messages += 1,
            Arrival::Duplicate => self.collected.duplicated += 1,
            Arrival::Reordered => {
                self.collected.messages += 1;
                self.collected.reordered += 1;
            }
        }
        let complete = sequence.missing(expected.each) == 0;
        if complete && self.stages[index] == Stage::Collecting {
            self.leave(index, outbox);
        }
        Ok(())
    }

    /// Nothing moves any more.
    fn give_up(&self) -> anyhow::Result<()> {
        let there = (0..).zip(&self.stages).find(|(_, stage)| **stage != Stage::Gone);
        match there {
            Some((_, Stage::Collecting)) | None => Ok(()),
            Some((index, stage)) => bail!(
                "{} is {stage:?}, and nothing has moved for {} s",
                self.client_ids[index],
                self.terms.stall.as_secs()
            ),
        }
    }

    fn result(&self) -> Collected {
        let lost = match self.errand {
            Errand::Collect(Expected { each, .. }) => self.sequences.iter().map(|it| it.missing(each)).sum(),
            Errand::Subscribe(_) | Errand::End => 0,
        };
        Collected { lost, ..self.collected }
    }
}

impl Handler for Visits<'_> {
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        self.frames += 1;
        match (self.stages[link], self.errand, frame.first & 0xF0) {
            (Stage::Connecting, _, encode::CONNACK) => self.connack(link, &frame, outbox),
            (Stage::Subscribing, _, encode::SUBACK) => self.suback(link, &frame, outbox),
            (_, Errand::Collect(expected), encode::PUBLISH) => self.message(link, expected, &frame, outbox),
            (stage, ..) => bail!(
                "{} is {stage:?} and got an unexpected {}",
                self.client_ids[link],
                kind_name(frame.first)
            ),
        }
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        self.frames += 1;
        let stage = std::mem::replace(&mut self.stages[link], Stage::Gone);
        let client = &self.client_ids[link];
        ensure!(stage == Stage::Leaving, "the connection of {client} broke: {reason}");
        self.left += 1;
        Ok(())
    }
}
