//! Clients that subscribe and unsubscribe all the time at a fixed rate, while others publish.

use std::collections::VecDeque;

use anyhow::{Context as _, bail, ensure};

use super::course::Load;
use super::decode::{self, Frame, kind_name};
use super::encode;
use super::filters::Numbered;
use super::fleet::{Clock, Handler};
use super::histogram::Histogram;
use super::outbox::Outbox;
use super::report::ratio;
use super::target::Version;
use super::traffic::Traffic;
use super::window::Window;

/// Clients that take turns.
pub(super) const CLIENTS: usize = 10;
/// Filters of each client, subscribed to in turn.
const FILTERS_PER_CLIENT: u64 = 10_000;
/// Filters that all of them together use.
pub(super) const FILTERS: u64 = CLIENTS as u64 * FILTERS_PER_CLIENT;
/// Filters without an answer, of all clients together; beyond this the storm falls behind its rate.
const UNANSWERED_FILTERS: u64 = 10_000;

/// How the storm is to be.
pub(super) struct StormPlan {
    pub(super) filters: Numbered,
    /// The number of the first filter of the first client.
    pub(super) first_filter: u64,
    pub(super) first_link: usize,
    pub(super) per_packet: u64,
    pub(super) changes_per_s: f64,
    pub(super) version: Version,
    pub(super) qos: u8,
}

/// The storm itself. A filter subscribed to counts as one change, and as another one when it is unsubscribed from.
pub(super) struct Storm {
    plan: StormPlan,
    clock: Clock,
    turn: usize,
    clients: Vec<Client>,
    sent: u64,
    answered: u64,
    last_answer_ns: u64,
    /// From sending a packet to its SUBACK or UNSUBACK.
    pub(super) latency: Histogram,
}

#[derive(Debug, Default)]
struct Client {
    packets: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    packet_id: u16,
    answer: u8,
    filters: u64,
    sent_ns: u64,
}

impl Storm {
    /// A storm that begins now.
    pub(super) fn new(plan: StormPlan) -> Self {
        Self {
            plan,
            clock: Clock::start(),
            turn: 0,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            sent: 0,
            answered: 0,
            last_answer_ns: 0,
            latency: Histogram::new(),
        }
    }

    /// Changes that the broker has answered, per second until the last of them.
    pub(super) fn changes_per_s(&self) -> f64 {
        ratio(self.answered as f64 * 1e9, self.last_answer_ns)
    }

    /// Sends what is due.
    fn send(&mut self, outbox: &mut Outbox) {
        let per_packet = self.plan.per_packet;
        let due = (self.clock.now_ns() as f64 / 1e9 * self.plan.changes_per_s) as u64;
        while self.sent + per_packet <= due && self.sent - self.answered < UNANSWERED_FILTERS {
            let client = self.turn;
            self.turn = (self.turn + 1) % self.clients.len();
            self.send_packet(client, outbox);
            self.sent += per_packet;
        }
    }

    /// The next packet of `client`: SUBSCRIBE and UNSUBSCRIBE in turn, to and from the same filters.
    fn send_packet(&mut self, client: usize, outbox: &mut Outbox) {
        let nth = self.clients[client].packets;
        let numbers = self.numbers(client, nth / 2);
        let packet_id = Window::packet_id(nth);
        let StormPlan {
            version,
            qos,
            ref filters,
            ..
        } = self.plan;
        let (packet, answer) = if nth.is_multiple_of(2) {
            let packet = encode::subscribe_numbered(version, packet_id, filters, numbers, qos);
            (packet, encode::SUBACK)
        } else {
            let packet = encode::unsubscribe_numbered(version, packet_id, filters, numbers);
            (packet, encode::UNSUBACK)
        };
        outbox.buffer(self.plan.first_link + client).extend_from_slice(&packet);
        self.clients[client].packets += 1;
        self.clients[client].waiting.push_back(Waiting {
            packet_id,
            answer,
            filters: self.plan.per_packet,
            sent_ns: self.clock.now_ns(),
        });
    }

    fn numbers(&self, client: usize, batch: u64) -> impl Iterator<Item = u64> + use<> {
        let first = self.plan.first_filter + client as u64 * FILTERS_PER_CLIENT;
        let per_packet = self.plan.per_packet;
        (0..per_packet).map(move |nth| first + (batch * per_packet + nth) % FILTERS_PER_CLIENT)
    }

    fn answer(&mut self, client: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        let (packet_id, _) = decode::acknowledgement(frame)?;
        let waiting = &mut self.clients[client].waiting;
        let at = waiting
            .iter()
            .position(|it| it.packet_id == packet_id && it.answer == frame.first);
        let at = at.with_context(|| format!("a {} answers no packet", kind_name(frame.first)))?;
        let done = waiting.remove(at).context("it was there")?;
        if frame.first == encode::SUBACK {
            let codes = decode::suback(frame, self.plan.version)?;
            let granted = codes.len() as u64 == done.filters && codes.iter().all(|code| *code == self.plan.qos);
            ensure!(granted, "the broker refused subscriptions of the storm: {codes:02x?}");
        }
        self.answered += done.filters;
        self.last_answer_ns = self.clock.now_ns();
        self.latency.record(self.last_answer_ns - done.sent_ns);
        Ok(())
    }
}

/// Messages, and a storm beside them.
pub(super) struct Stormy<'a> {
    pub(super) traffic: &'a mut Traffic,
    pub(super) storm: &'a mut Storm,
}

impl Load for Stormy<'_> {
    fn traffic(&mut self) -> &mut Traffic {
        self.traffic
    }

    fn side_load(&mut self, outbox: &mut Outbox) -> bool {
        self.storm.send(outbox);
        true
    }
}

impl Handler for Stormy<'_> {
    #[inline]
    fn arrived(&mut self) {
        self.traffic.arrived();
    }

    #[inline]
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        let Some(client) = link.checked_sub(self.storm.plan.first_link) else {
            return self.traffic.frame(link, frame, outbox);
        };
        match frame.first {
            encode::SUBACK | encode::UNSUBACK => self.storm.answer(client, &frame),
            encode::PINGRESP => Ok(()),
            first => bail!("client {client} of the storm got an unexpected {}", kind_name(first)),
        }
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        match link.checked_sub(self.storm.plan.first_link) {
            None => self.traffic.closed(link, reason),
            Some(client) => bail!("the connection of client {client} of the storm broke: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm() -> (Storm, Outbox) {
        let mut outbox = Outbox::default();
        (0..CLIENTS).for_each(|link| outbox.open(link));
        let plan = StormPlan {
            filters: Numbered::new("s", "/000000"),
            first_filter: 500_000,
            first_link: 0,
            per_packet: 2,
            changes_per_s: 1.0,
            version: Version::V4,
            qos: 0,
        };
        (Storm::new(plan), outbox)
    }

    #[test]
    fn what_was_subscribed_to_is_unsubscribed_from() {
        let (mut storm, mut outbox) = storm();
        (0..3).for_each(|_| storm.send_packet(1, &mut outbox));
        let mut expected = b"\x82\x18\x00\x01\x00\x08s/510000\x00\x00\x08s/510001\x00".to_vec();
        expected.extend_from_slice(b"\xa2\x16\x00\x02\x00\x08s/510000\x00\x08s/510001");
        expected.extend_from_slice(b"\x82\x18\x00\x03\x00\x08s/510002\x00\x00\x08s/510003\x00");
        assert_eq!(outbox.buffer(1), &expected);
    }

    #[test]
    fn answers_are_counted_in_any_order_and_once() {
        let (mut storm, mut outbox) = storm();
        (0..2).for_each(|_| storm.send_packet(0, &mut outbox));
        let mut answer = |bytes: &[u8]| storm.answer(0, &decode::frame(bytes).unwrap().unwrap());
        assert!(answer(b"\xb0\x02\x00\x02").is_ok());
        assert!(answer(b"\xb0\x02\x00\x02").is_err());
        assert!(answer(b"\xb0\x02\x00\x01").is_err(), "it was a SUBSCRIBE");
        assert!(answer(b"\x90\x04\x00\x01\x00\x00").is_ok());
        assert_eq!(storm.answered, 4);
    }

    #[test]
    fn a_client_comes_back_to_its_first_filters() {
        let (storm, _) = storm();
        let last: Vec<u64> = storm.numbers(0, FILTERS_PER_CLIENT / 2 - 1).collect();
        assert_eq!(last, [509_998, 509_999]);
        assert_eq!(storm.numbers(0, FILTERS_PER_CLIENT / 2).next(), Some(500_000));
    }
}
