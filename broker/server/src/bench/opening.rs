//! Brings connections up: TCP, CONNECT, CONNACK, SUBSCRIBE, SUBACK, at a bounded rate.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::decode::{self, Connack, Frame, kind_name};
use super::encode::{self, Session};
use super::fleet::{Fleet, Handler};
use super::outbox::Outbox;
use super::target::Version;

/// Connections between connect and SUBACK at a time: below the usual length of a listen queue, beyond which the
/// kernel drops SYNs and a second passes before they are repeated.
const MAX_UNDER_WAY: usize = 100;
const TICK: Duration = Duration::from_millis(1);

/// How a client introduces itself.
pub(super) struct Greeting {
    pub(super) client_id: String,
    /// Nothing is subscribed when empty.
    pub(super) filters: Vec<String>,
    /// QoS asked for, which has to be granted.
    pub(super) qos: u8,
    /// The local address, where it matters.
    pub(super) source: Option<IpAddr>,
    pub(super) session: Session,
}

/// Where and how all clients connect.
pub(super) struct Terms {
    pub(super) target: SocketAddr,
    pub(super) version: Version,
    pub(super) credentials: encode::Credentials,
    /// New connections per second; 0 = as fast as the broker takes them.
    pub(super) rate: f64,
    /// The attempt ends when nothing has moved for so long.
    pub(super) stall: Duration,
}

/// What became of the attempt.
#[derive(Debug)]
pub(super) struct Opened {
    /// The broker's limits; the strictest where they differ.
    pub(super) limits: Connack,
    /// Connections that did not come up, with the reason.
    pub(super) failed: Vec<(usize, String)>,
    pub(super) took: Duration,
}

/// Opens one connection for each greeting: `greetings[i]` gets connection `first + i`, where `first` connections were
/// opened in this fleet before (and are expected to stay silent meanwhile).
pub(super) fn open_all(fleet: &mut Fleet, terms: &Terms, greetings: &[Greeting]) -> anyhow::Result<Opened> {
    let started = Instant::now();
    let mut opening = Opening::new(terms, greetings, fleet.opened());
    let (mut begun, mut moved, mut settled) = (0, Instant::now(), 0);
    while opening.settled() < greetings.len() {
        while begun < greetings.len() && begun - opening.settled() < MAX_UNDER_WAY && due(started, terms.rate, begun) {
            opening.begin(begun, fleet)?;
            begun += 1;
        }
        fleet.pass(TICK, &mut opening)?;
        if settled != opening.settled() {
            (settled, moved) = (opening.settled(), Instant::now());
        }
        let waiting = begun > settled;
        if waiting && moved.elapsed() > terms.stall {
            opening.give_up(terms.stall);
            break;
        }
        if !waiting {
            moved = Instant::now();
        }
    }
    Ok(Opened {
        limits: opening.limits,
        failed: opening.failed,
        took: started.elapsed(),
    })
}

fn due(started: Instant, rate: f64, index: usize) -> bool {
    rate == 0.0 || started.elapsed().as_secs_f64() * rate >= index as f64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Connecting,
    Subscribing,
    Ready,
    Failed,
}

struct Opening<'a> {
    terms: &'a Terms,
    greetings: &'a [Greeting],
    first: usize,
    stages: Vec<Stage>,
    ready: usize,
    failed: Vec<(usize, String)>,
    limits: Connack,
}

impl<'a> Opening<'a> {
    fn new(terms: &'a Terms, greetings: &'a [Greeting], first: usize) -> Self {
        let limits = Connack::UNLIMITED;
        let stages = vec![Stage::Idle; greetings.len()];
        Self {
            terms,
            greetings,
            first,
            stages,
            ready: 0,
            failed: Vec::new(),
            limits,
        }
    }

    fn settled(&self) -> usize {
        self.ready + self.failed.len()
    }

    fn begin(&mut self, index: usize, fleet: &mut Fleet) -> anyhow::Result<()> {
        let greeting = &self.greetings[index];
        let target = self.terms.target;
        let link = fleet
            .connect(target, greeting.source)
            .with_context(|| format!("cannot connect to {target}"))?;
        ensure!(link == self.first + index, "connections were opened out of order");
        let Terms {
            version, credentials, ..
        } = self.terms;
        let connect = encode::connect(*version, &greeting.client_id, credentials, greeting.session);
        fleet.outbox.buffer(link).extend_from_slice(&connect);
        self.stages[index] = Stage::Connecting;
        Ok(())
    }

    fn fail(&mut self, index: usize, reason: String) {
        if !matches!(self.stages[index], Stage::Ready | Stage::Failed) {
            self.failed.push((index, reason));
            self.stages[index] = Stage::Failed;
        }
    }

    fn give_up(&mut self, stall: Duration) {
        for index in 0..self.stages.len() {
            let what = match self.stages[index] {
                Stage::Idle => "was not begun",
                Stage::Connecting => "has no CONNACK",
                Stage::Subscribing => "has no SUBACK",
                Stage::Ready | Stage::Failed => continue,
            };
            self.fail(
                index,
                format!("{what}, and nothing has moved for {} s", stall.as_secs()),
            );
        }
    }

    fn connack(&mut self, index: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let connack = decode::connack(frame, self.terms.version)?;
        if connack.code != 0 {
            self.fail(index, format!("refused: {}", refusal(connack.code)));
            return Ok(());
        }
        let limits = &mut self.limits;
        limits.receive_maximum = limits.receive_maximum.min(connack.receive_maximum);
        limits.maximum_qos = limits.maximum_qos.min(connack.maximum_qos);
        limits.maximum_packet_bytes = limits.maximum_packet_bytes.min(connack.maximum_packet_bytes);
        limits.keep_alive_s = limits.keep_alive_s.into_iter().chain(connack.keep_alive_s).min();
        let greeting = &self.greetings[index];
        if greeting.filters.is_empty() {
            return self.now_ready(index);
        }
        let subscribe = encode::subscribe(self.terms.version, &greeting.filters, greeting.qos);
        outbox.buffer(self.first + index).extend_from_slice(&subscribe);
        self.stages[index] = Stage::Subscribing;
        Ok(())
    }

    fn suback(&mut self, index: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        let greeting = &self.greetings[index];
        let codes = decode::suback(frame, self.terms.version)?;
        if codes.len() != greeting.filters.len() {
            bail!(
                "SUBACK has {} codes for {} filters",
                codes.len(),
                greeting.filters.len()
            );
        }
        match codes
            .iter()
            .zip(&greeting.filters)
            .find(|(code, _)| **code != greeting.qos)
        {
            None => self.now_ready(index),
            Some((code @ 0..3, filter)) => {
                self.fail(
                    index,
                    format!("QoS {code} instead of {} granted for {filter}", greeting.qos),
                );
                Ok(())
            }
            Some((code, filter)) => {
                self.fail(index, format!("subscription to {filter} refused with 0x{code:02x}"));
                Ok(())
            }
        }
    }

    fn index_of(&self, link: usize) -> anyhow::Result<usize> {
        link.checked_sub(self.first)
            .with_context(|| format!("connection {link}, opened before, broke or got a packet"))
    }

    fn now_ready(&mut self, index: usize) -> anyhow::Result<()> {
        self.stages[index] = Stage::Ready;
        self.ready += 1;
        Ok(())
    }
}

impl Handler for Opening<'_> {
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        if frame.first == encode::PINGRESP {
            return Ok(());
        }
        let index = self.index_of(link)?;
        match (self.stages[index], frame.first) {
            (Stage::Failed, _) => Ok(()),
            (Stage::Connecting, encode::CONNACK) => self.connack(index, &frame, outbox),
            (Stage::Subscribing, encode::SUBACK) => self.suback(index, &frame),
            (_, encode::DISCONNECT) => {
                self.fail(
                    index,
                    format!("disconnected with reason 0x{:02x}", decode::disconnect_reason(&frame)),
                );
                Ok(())
            }
            (stage, first) => bail!("unexpected {} from the broker while {stage:?}", kind_name(first)),
        }
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        let index = self.index_of(link)?;
        if self.stages[index] == Stage::Ready {
            bail!("the connection of {} broke: {reason}", self.greetings[index].client_id);
        }
        self.fail(index, reason.to_owned());
        Ok(())
    }
}

/// The reasons users meet, in words, for the codes of both versions.
fn refusal(code: u8) -> String {
    let words = match code {
        1 | 0x84 => "this protocol version is not supported",
        2 | 0x85 => "client identifier not accepted",
        3 | 0x88 => "server unavailable",
        4 | 0x86 => "bad user name or password",
        5 | 0x87 => "not authorized",
        0x97 => "quota exceeded",
        0x9F => "connection rate exceeded",
        _ => return format!("reason 0x{code:02x}"),
    };
    format!("{words} (0x{code:02x})")
}
