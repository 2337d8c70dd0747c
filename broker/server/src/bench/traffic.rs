//! The messages of a publish and subscribe run: sends them, follows each to its subscribers, and keeps the books.

use anyhow::{bail, ensure};

use super::decode::{self, Frame, kind_name};
use super::encode::{self, PUBREL_KIND, PublishTemplate};
use super::fleet::{Clock, Handler};
use super::handshake::{Step, answer_publish, answer_pubrel, settle};
use super::histogram::Histogram;
use super::outbox::Outbox;
use super::scatter::{NTH_BYTES, Scatter};
use super::sequence::{Arrival, STAMP_BYTES, Sequence, Stamp};
use super::target::Version;
use super::window::{Owed, Window};

/// At a fixed rate, a publisher whose socket is this far behind waits (and its messages are late).
const MAX_UNSENT_BYTES: usize = 1024 * 1024;

/// Which subscribers take whose messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TopicScheme {
    /// One topic per publisher; publisher i is heard by subscriber i modulo the number of subscribers
    Pairs,
    /// One topic for all publishers, and every subscriber subscribes to it
    FanOut,
    /// One topic per publisher, and every subscriber subscribes to all of them by wildcard
    Wildcard,
    /// Each subscriber has its share of many filters, and each message a topic that a random one of them matches. Set up
    /// by `bench subscriptions`
    #[value(skip)]
    Scattered,
}

impl TopicScheme {
    /// The topic of publisher `publisher`.
    pub(super) fn topic(self, prefix: &str, publisher: usize) -> String {
        match self {
            TopicScheme::FanOut => format!("{prefix}/all"),
            TopicScheme::Pairs | TopicScheme::Wildcard | TopicScheme::Scattered => format!("{prefix}/{publisher}"),
        }
    }

    /// The filters of subscriber `subscriber`.
    pub(super) fn filters(self, prefix: &str, subscriber: usize, publishers: usize, subscribers: usize) -> Vec<String> {
        match self {
            TopicScheme::FanOut => vec![format!("{prefix}/all")],
            TopicScheme::Wildcard => vec![format!("{prefix}/+")],
            TopicScheme::Pairs => {
                let heard = (subscriber..publishers).step_by(subscribers);
                heard.map(|publisher| format!("{prefix}/{publisher}")).collect()
            }
            // These are too many to open a connection with.
            TopicScheme::Scattered => Vec::new(),
        }
    }

    /// How many subscribers get each message.
    pub(super) fn receivers(self, subscribers: usize) -> usize {
        match self {
            TopicScheme::Pairs | TopicScheme::Scattered => 1,
            TopicScheme::FanOut | TopicScheme::Wildcard => subscribers,
        }
    }

    /// How many subscribers get some messages of one publisher.
    pub(super) fn partners(self, subscribers: usize) -> usize {
        if self == TopicScheme::Pairs { 1 } else { subscribers }
    }
}

/// What is sent by whom to whom.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) version: Version,
    pub(super) qos: u8,
    pub(super) scheme: TopicScheme,
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    /// The subscribers' sessions outlive their connections.
    pub(super) durable: bool,
    pub(super) payload_bytes: usize,
    pub(super) topic_prefix: String,
    /// Messages each publisher has on their way at most.
    pub(super) window: usize,
    /// A message counts against the window until its subscribers have it; else only until it is acknowledged.
    pub(super) closed_loop: bool,
}

/// Totals since the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) published: u64,
    /// Deliveries that all published messages together shall lead to.
    pub(super) expected: u64,
    /// Deliveries that came, duplicates aside.
    pub(super) delivered: u64,
    pub(super) acknowledged: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// Messages that were not for that subscriber, or not as they were sent.
    pub(super) foreign: u64,
    /// Publishes the broker acknowledged with an error.
    pub(super) refused: u64,
    /// QoS 2 deliveries answered with PUBREC whose PUBREL has not come.
    pub(super) unreleased: u64,
}

#[derive(Debug)]
struct Publisher {
    template: PublishTemplate,
    window: Window,
    listed: bool,
}

/// The state of the run. Connections 0 to `publishers` belong to the publishers, those after them to the subscribers.
#[derive(Debug)]
pub(super) struct Traffic {
    shape: Shape,
    clock: Clock,
    now_ns: u64,
    receivers: u32,
    partners: usize,
    publishers: Vec<Publisher>,
    /// Where the scheme is [`TopicScheme::Scattered`].
    scatter: Option<Scatter>,
    /// By publisher, then by its partners.
    sequences: Vec<Sequence>,
    /// Publishers whose window has room, in a closed loop.
    ready: Vec<usize>,
    pub(super) counts: Counts,
    /// Latency of deliveries while `recording`.
    pub(super) latency: Histogram,
    /// How much later than due messages were sent, while `recording`, at a fixed rate.
    pub(super) lag: Histogram,
    pub(super) recording: bool,
}

impl Traffic {
    pub(super) fn new(shape: Shape, clock: Clock) -> Self {
        let publisher = |index| {
            let topic = shape.scheme.topic(&shape.topic_prefix, index);
            let template = PublishTemplate::new(shape.version, &topic, shape.qos, shape.payload_bytes);
            Publisher {
                template,
                window: Window::new(shape.window),
                listed: true,
            }
        };
        let receivers = shape.scheme.receivers(shape.subscribers);
        let partners = shape.scheme.partners(shape.subscribers);
        let mut sequences = Vec::new();
        sequences.resize_with(shape.publishers * partners, Sequence::default);
        Self {
            publishers: (0..shape.publishers).map(publisher).collect(),
            ready: (0..shape.publishers).collect(),
            receivers: receivers as u32,
            partners,
            scatter: None,
            sequences,
            shape,
            clock,
            now_ns: 0,
            counts: Counts::default(),
            latency: Histogram::new(),
            lag: Histogram::new(),
            recording: false,
        }
    }

    /// Traffic whose messages go where `scatter` says; the publishers' topics are as `topic`.
    pub(super) fn scattered(shape: Shape, clock: Clock, topic: &str, scatter: Scatter) -> Self {
        let template = || PublishTemplate::new(shape.version, topic, shape.qos, shape.payload_bytes);
        let mut traffic = Self::new(shape.clone(), clock);
        traffic
            .publishers
            .iter_mut()
            .for_each(|publisher| publisher.template = template());
        traffic.scatter = Some(scatter);
        traffic
    }

    /// Forgets the latencies recorded so far.
    pub(super) fn forget_latencies(&mut self) {
        (self.latency, self.lag) = (Histogram::new(), Histogram::new());
    }

    /// Size of the largest packet that will be sent.
    pub(super) fn packet_bytes(&self) -> usize {
        self.publishers
            .iter()
            .map(|publisher| publisher.template.len())
            .max()
            .unwrap_or(0)
    }

    /// Time on the clock of the stamps.
    pub(super) fn clock_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Closed loop: fills the windows that have room, with at most `allowance` messages; returns how many.
    pub(super) fn fill(&mut self, allowance: u64, outbox: &mut Outbox) -> u64 {
        if self.ready.is_empty() {
            return 0;
        }
        self.now_ns = self.clock.now_ns();
        let mut left = allowance;
        while left > 0 {
            let Some(index) = self.ready.pop() else { break };
            self.publishers[index].listed = false;
            let count = self.publishers[index].window.room().min(left);
            for _ in 0..count {
                self.send(index, self.now_ns, outbox);
            }
            left -= count;
        }
        allowance - left
    }

    /// Fixed rate: sends one message that was due at `due_ns`, and is stamped so, however late it is. False when that
    /// has to wait: for acknowledgements, or for the socket.
    pub(super) fn send_due(&mut self, index: usize, due_ns: u64, outbox: &mut Outbox) -> bool {
        if self.publishers[index].window.room() == 0 || outbox.waiting_bytes(index) > MAX_UNSENT_BYTES {
            return false;
        }
        self.send(index, due_ns, outbox);
        if self.recording {
            self.lag.record(self.clock.now_ns().saturating_sub(due_ns));
        }
        true
    }

    #[inline]
    fn send(&mut self, index: usize, sent_ns: u64, outbox: &mut Outbox) {
        let publisher = &mut self.publishers[index];
        let waits_for = if self.shape.closed_loop { self.receivers } else { 0 };
        let sequence = publisher.window.send(waits_for, Owed::for_qos(self.shape.qos));
        let stamp = Stamp {
            publisher: index as u32,
            sequence,
            sent_ns,
        };
        let (out, packet_id) = (outbox.buffer(index), Window::packet_id(sequence));
        match &mut self.scatter {
            None => publisher.template.append(out, packet_id, &stamp.encode()),
            Some(scatter) => {
                let aim = scatter.aim(index, sequence);
                let mut start = [0; STAMP_BYTES + NTH_BYTES];
                start[..STAMP_BYTES].copy_from_slice(&stamp.encode());
                start[STAMP_BYTES..].copy_from_slice(&aim.nth.to_le_bytes());
                let write_topic = |topic: &mut [u8]| scatter.write_topic(aim.filter, topic);
                publisher.template.append_with(out, packet_id, &start, write_topic);
            }
        }
        self.counts.published += 1;
        self.counts.expected += u64::from(self.receivers);
    }

    /// True when everything sent has arrived, is acknowledged, and every handshake is finished.
    pub(super) fn is_complete(&self) -> bool {
        self.counts.delivered >= self.counts.expected
            && self.counts.unreleased == 0
            && self
                .publishers
                .iter()
                .all(|publisher| publisher.window.in_flight() == 0)
    }

    /// Something that grows with every step forward.
    pub(super) fn progress(&self) -> u64 {
        self.counts.delivered + self.counts.acknowledged
    }

    /// Deliveries that have not come.
    pub(super) fn lost(&self) -> u64 {
        self.counts.expected - self.counts.delivered
    }

    /// Up to `most` lines on who misses what.
    pub(super) fn missing(&self, most: usize) -> Vec<String> {
        let pairs = self
            .sequences
            .iter()
            .enumerate()
            .filter_map(|(at, sequence)| self.missing_in(at, sequence));
        pairs.take(most).collect()
    }

    fn missing_in(&self, at: usize, sequence: &Sequence) -> Option<String> {
        let (publisher, nth) = (at / self.partners, at % self.partners);
        let subscriber = if self.shape.scheme == TopicScheme::Pairs {
            publisher % self.shape.subscribers
        } else {
            nth
        };
        let sent = match &self.scatter {
            None => self.publishers[publisher].window.sent(),
            Some(scatter) => scatter.sent(at),
        };
        let missing = Some(sequence.missing(sent)).filter(|missing| *missing > 0)?;
        let first = sequence
            .first_missing(sent)
            .map_or(String::new(), |first| format!(", the first is number {first}"));
        Some(format!(
            "publisher {publisher} to subscriber {subscriber}: {missing} of {sent} missing{first}"
        ))
    }

    #[inline]
    fn delivered(&mut self, subscriber: usize, payload: &[u8]) {
        let Some((stamp, at, number)) = self.recognize(subscriber, payload) else {
            self.counts.foreign += 1;
            return;
        };
        match self.sequences[at].observe(number) {
            Arrival::New => {}
            Arrival::Reordered => self.counts.reordered += 1,
            Arrival::Duplicate => {
                self.counts.duplicated += 1;
                return;
            }
        }
        self.counts.delivered += 1;
        if self.recording {
            self.latency.record(self.now_ns.saturating_sub(stamp.sent_ns));
        }
        if self.shape.closed_loop {
            let publisher = stamp.publisher as usize;
            self.publishers[publisher].window.received(stamp.sequence);
            self.list(publisher);
        }
    }

    /// The stamp, where its pair's sequence is kept, and its number there; `None` when this subscriber should not have
    /// got this.
    #[inline]
    fn recognize(&self, subscriber: usize, payload: &[u8]) -> Option<(Stamp, usize, u64)> {
        let stamp = Stamp::decode(payload).filter(|_| payload.len() == self.shape.payload_bytes)?;
        let (publisher, number) = (stamp.publisher as usize, stamp.sequence);
        if number >= self.publishers.get(publisher)?.window.sent() {
            return None;
        }
        if let Some(scatter) = &self.scatter {
            let pair = scatter.pair(publisher, subscriber);
            let nth = u64::from_le_bytes(*payload[STAMP_BYTES..].first_chunk()?);
            let ours = pair == scatter.pair_of(publisher, number) && nth < scatter.sent(pair);
            return ours.then_some((stamp, pair, nth));
        }
        match self.shape.scheme {
            TopicScheme::Pairs if publisher % self.shape.subscribers != subscriber => None,
            TopicScheme::Pairs => Some((stamp, publisher, number)),
            _ => Some((stamp, publisher * self.shape.subscribers + subscriber, number)),
        }
    }

    #[inline]
    fn list(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        if !publisher.listed && publisher.window.room() > 0 {
            publisher.listed = true;
            self.ready.push(index);
        }
    }

    #[inline]
    fn on_subscriber(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        match frame.first & 0xF0 {
            encode::PUBLISH => {
                let publish = decode::publish(frame, self.shape.version)?;
                let qos = publish.qos;
                ensure!(
                    qos == self.shape.qos,
                    "a message came at QoS {qos} instead of {}",
                    self.shape.qos
                );
                self.delivered(link - self.shape.publishers, publish.payload);
                self.counts.unreleased += u64::from(answer_publish(link, qos, publish.packet_id, outbox));
            }
            PUBREL_KIND => {
                ensure!(
                    self.counts.unreleased > 0,
                    "a PUBREL came for a message that was not received"
                );
                answer_pubrel(link, frame, outbox)?;
                self.counts.unreleased -= 1;
            }
            _ => self.unexpected("subscriber", link - self.shape.publishers, frame)?,
        }
        Ok(())
    }

    #[inline]
    fn on_publisher(&mut self, link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        match settle(link, frame, &mut self.publishers[link].window, outbox)? {
            None => return self.unexpected("publisher", link, frame),
            Some(Step::Released) => return Ok(()),
            Some(Step::Refused(_)) => self.counts.refused += 1,
            Some(Step::Accepted) => {}
        }
        self.counts.acknowledged += 1;
        if self.shape.closed_loop {
            self.list(link);
        }
        Ok(())
    }

    #[cold]
    fn unexpected(&self, role: &str, index: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        if frame.first == encode::PINGRESP {
            return Ok(());
        }
        if frame.first == encode::DISCONNECT {
            bail!(
                "the broker disconnected {role} {index} with reason 0x{:02x}",
                decode::disconnect_reason(frame)
            );
        }
        bail!("{role} {index} got an unexpected {}", kind_name(frame.first))
    }
}

impl Handler for Traffic {
    #[inline]
    fn arrived(&mut self) {
        self.now_ns = self.clock.now_ns();
    }

    #[inline]
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
        if link < self.shape.publishers {
            self.on_publisher(link, &frame, outbox)
        } else {
            self.on_subscriber(link, &frame, outbox)
        }
    }

    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()> {
        match link.checked_sub(self.shape.publishers) {
            None => bail!("the connection of publisher {link} broke: {reason}"),
            Some(subscriber) => bail!("the connection of subscriber {subscriber} broke: {reason}"),
        }
    }
}
