//! Subscribes to very many filters over a few connections.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode;
use super::filters::Numbered;
use super::fleet::{Fleet, Handler};
use super::outbox::Outbox;
use super::target::Version;
use super::window::Window;

/// Filters without an answer, over all connections: enough that the broker never waits for the generator, few enough that
/// the end of the work is not answered all at once.
const UNANSWERED_FILTERS: u64 = 20_000;
const TICK: Duration = Duration::from_millis(100);

/// Who subscribes to what, and how.
pub(super) struct Plan<'a> {
    pub(super) filters: &'a Numbered,
    /// Numbers 0 to `count`; number n belongs to client n modulo `clients`.
    pub(super) count: u64,
    pub(super) clients: u64,
    /// The connection of client 0; the others follow.
    pub(super) first_link: usize,
    pub(super) per_packet: u64,
    pub(super) qos: u8,
    pub(super) version: Version,
}

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    pub(super) all: Duration,
    /// The last tenth of the filters, when the others were there.
    pub(super) last_tenth: Duration,
}

/// Carries the plan out, to the last SUBACK.
///
/// # Errors
/// When the broker refuses a subscription, or nothing moves for `stall`.
pub(super) fn subscribe_all(fleet: &mut Fleet, plan: &Plan<'_>, stall: Duration) -> anyhow::Result<Took> {
    let started = Instant::now();
    let mut subscribing = Subscribing::new(plan);
    (0..plan.clients).for_each(|client| subscribing.fill(client, &mut fleet.outbox));
    let (mut granted, mut moved) = (0, started);
    while subscribing.granted < plan.count {
        fleet.pass(TICK, &mut subscribing)?;
        if granted != subscribing.granted {
            (granted, moved) = (subscribing.granted, Instant::now());
        }
        ensure!(
            moved.elapsed() < stall,
            "stalled: {granted} of {} subscriptions were granted, then nothing came for {} s",
            plan.count,
            stall.as_secs()
        );
    }
    let end = Instant::now();
    let last_tenth = end - subscribing.nine_tenths.unwrap_or(started);
    Ok(Took {
        all: end - started,
        last_tenth,
    })
}

struct Subscribing<'a> {
    plan: &'a Plan<'a>,
    clients: Vec<Progress>,
    granted: u64,
    nine_tenths: Option<Instant>,
}

/// Of one client, in filters of its own.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    asked: u64,
    granted: u64,
    packets: u64,
}

impl<'a> Subscribing<'a> {
    fn new(plan: &'a Plan<'a>) -> Self {
        Self {
            plan,
            clients: vec![Progress::default(); plan.clients as usize],
            granted: 0,
            nine_tenths: None,
        }
    }

    /// Filters that belong to `client`.
    fn share(&self, client: u64) -> u64 {
        self.plan.count.saturating_sub(client).div_ceil(self.plan.clients)
    }

    fn fill(&mut self, client: u64, outbox: &mut Outbox) {
        let (share, plan) = (self.share(client), self.plan);
        let unanswered = UNANSWERED_FILTERS.div_ceil(plan.clients);
        let progress = &mut self.clients[client as usize];
        while progress.asked < share && progress.asked - progress.granted < unanswered {
            let end = share.min(progress.asked + plan.per_packet);
            let numbers = (progress.asked..end).map(|nth| nth * plan.clients + client);
            let packet_id = Window::packet_id(progress.packets);
            let packet = encode::subscribe_numbered(plan.version, packet_id, plan.filters, numbers, plan.qos);
            let link = plan.first_link + client as usize;
            outbox.buffer(link).extend_from_slice(&packet);
            progress.packets += 1;
            progress.asked = end;
        }
    }

    fn suback(&mut self, client: u64, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let codes = decode::suback(frame, self.plan.version)?;
        if let Some(code) = codes.iter().find(|code| **code != self.plan.qos) {
            bail!(
                "a subscription was answered with 0x{code:02x} after {} were granted; where the broker bounds those of a \
                 client, more clients help",
                self.granted
            );
        }
        let progress = &mut self.clients[client as usize];
        progress.granted += codes.len() as u64;
        ensure!(
            progress.granted <= progress.asked,
            "more subscriptions were answered than asked for"
        );
        self.granted += codes.len() as u64;
        if self.granted >= self.plan.count / 10 * 9 {
            self.nine_tenths.get_or_insert_with(Instant::now);
        }
        self.fill(client, outbox);
        Ok(())
    }
}

impl Handler for Subscribing<'_> {
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let client = link
            .checked_sub(self.plan.first_link)
            .filter(|client| *client < self.clients.len());
        match (frame.first, client) {
            (encode::PINGRESP, _) => Ok(()),
            (encode::SUBACK, Some(client)) => self.suback(client as u64, &frame, outbox),
            (first, _) => bail!("connection {link} got an unexpected {}", kind_name(first)),
        }
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        Err(anyhow::anyhow!("{reason}")).with_context(|| format!("connection {link} broke while subscribing"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::filters::{FilterShape, Filters};
    use super::*;

    #[test]
    fn every_filter_is_asked_for_once_and_by_its_owner() {
        let filters = Filters::new(FilterShape::Flat, "p", 25);
        let plan = Plan {
            filters: &filters.filter,
            count: 25,
            clients: 3,
            first_link: 1,
            per_packet: 4,
            qos: 1,
            version: Version::V4,
        };
        let (mut subscribing, mut outbox) = (Subscribing::new(&plan), Outbox::default());
        let mut asked: Vec<Vec<u8>> = Vec::new();
        for client in 0..3 {
            (0..=3).for_each(|link| outbox.open(link));
            subscribing.fill(client, &mut outbox);
            let mut sent: &[u8] = outbox.buffer(1 + client as usize);
            while let Some(frame) = decode::frame(sent).unwrap() {
                let (_, filters) = decode::subscribe(&frame, Version::V4).unwrap();
                assert!(filters.len() <= 4);
                let own = |filter: &&[u8]| String::from_utf8_lossy(&filter[2..5]).parse::<u64>().unwrap() % 3 == client;
                assert!(filters.iter().all(own));
                asked.extend(filters.iter().map(|filter| filter.to_vec()));
                sent = &sent[frame.bytes.len()..];
            }
        }
        asked.sort();
        let mut expected: Vec<Vec<u8>> = (0..25).map(|number| format!("p/{number:03}/+").into_bytes()).collect();
        expected.sort();
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_refused_subscription_ends_the_run() {
        let filters = Filters::new(FilterShape::Flat, "p", 2);
        let plan = Plan {
            filters: &filters.filter,
            count: 2,
            clients: 1,
            first_link: 0,
            per_packet: 2,
            qos: 0,
            version: Version::V4,
        };
        let (mut subscribing, mut outbox) = (Subscribing::new(&plan), Outbox::default());
        outbox.open(0);
        subscribing.fill(0, &mut outbox);
        let mut answer = |bytes: &[u8]| subscribing.frame(0, decode::frame(bytes).unwrap().unwrap(), &mut outbox);
        assert!(answer(b"\x90\x04\x00\x01\x00\x80").is_err());
        assert!(answer(b"\x90\x04\x00\x01\x00\x00").is_ok());
        assert!(answer(b"\x90\x04\x00\x01\x00\x00").is_err(), "never asked for");
    }
}
