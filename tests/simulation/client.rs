//! What clients do, by the rules of MQTT: identifiers that are free, no more in flight than is allowed, what was in flight sent
//! again in its order.

use crate::broker::bytes_of;
use crate::net::{Link, LinkId};
use crate::oracle::{FILTERS, Fate, Knowledge, MessageNumber, Moment, Published, SHARED, TOPICS};
use crate::plan::Habits;
use crate::world::World;
use bytes::Bytes;
use nervewire_codec::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, Unsubscribe, Utf8String, Version, Will,
};
use nervewire_core::time::Millis;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Messages that a client sends before it waits for acknowledgements.
const MOST_IN_FLIGHT: usize = 6;

/// One client, with what it keeps of its session.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) habits: Habits,
    pub(crate) phase: Phase,
    pub(crate) link: Option<LinkId>,
    pub(crate) undecoded: Vec<u8>,
    next_packet_id: u16,
    /// QoS 1 and 2 messages under way to the broker, in their order.
    pub(crate) in_flight: VecDeque<Flight>,
    /// QoS 2 identifiers of the broker, and what came under them.
    pub(crate) received: BTreeMap<PacketId, MessageNumber>,
    /// It insists on a clean slate until a CONNACK says so.
    pub(crate) wants_clean: bool,
    /// Its session may have expired. One that is there may be another, of a CONNECT whose answer it has not heard.
    pub(crate) doubts_session: bool,
    pub(crate) connection: Connection,
    /// The broker has had no connection of it since then.
    pub(crate) away_since: Option<Millis>,
}

/// What belongs to one connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Acknowledgements of ours, to be sent in this order.
    pub(crate) answers: VecDeque<Packet>,
    /// Acknowledgements of the broker, which must come in this order.
    pub(crate) awaited: VecDeque<Awaited>,
    /// PUBREC was sent: PUBRELs come in this order.
    pub(crate) released: VecDeque<PacketId>,
    /// Messages that are not acknowledged.
    pub(crate) open: BTreeSet<PacketId>,
    pub(crate) will: Option<MessageNumber>,
    pub(crate) says_goodbye: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Away,
    Connecting { clean_start: bool },
    Connected,
}

/// A message under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) packet_id: PacketId,
    pub(crate) number: MessageNumber,
    pub(crate) publish: Publish,
    pub(crate) is_released: bool,
    /// PUBRELs sent.
    pub(crate) releases: u32,
}

/// What the broker owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    PubAck(PacketId),
    PubRec(PacketId),
    PubComp(PacketId),
    /// For the SUBSCRIBE of this filter that was sent then.
    SubAck(PacketId, &'static str, Moment),
    UnsubAck(PacketId, &'static str, Moment),
}

impl Client {
    pub(crate) fn new(habits: Habits) -> Self {
        Self {
            habits,
            phase: Phase::Away,
            link: None,
            undecoded: Vec::new(),
            next_packet_id: 0,
            in_flight: VecDeque::new(),
            received: BTreeMap::new(),
            wants_clean: false,
            doubts_session: false,
            connection: Connection::default(),
            away_since: None,
        }
    }

    pub(crate) fn name(number: usize) -> String {
        format!("client-{number}")
    }

    fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_packet_id = self.next_packet_id % 50 + 1;
            let id = PacketId::new(self.next_packet_id).expect("at least 1");
            let asks = self.connection.awaited.iter().any(|awaited| awaited.packet_id() == id);
            if !asks && self.in_flight.iter().all(|flight| flight.packet_id != id) {
                return id;
            }
        }
    }
}

impl Awaited {
    pub(crate) fn packet_id(&self) -> PacketId {
        match self {
            Self::PubAck(id) | Self::PubRec(id) | Self::PubComp(id) | Self::SubAck(id, ..) | Self::UnsubAck(id, ..) => {
                *id
            }
        }
    }
}

impl World {
    /// A client does something.
    pub(crate) fn act(&mut self, c: usize) {
        match self.clients[c].phase {
            Phase::Away => self.connect(c),
            // A second connection overtakes the first, or the client loses patience.
            Phase::Connecting { .. } => {
                if self.random.percent(5) {
                    self.leave_link(c);
                    self.connect(c);
                }
            }
            Phase::Connected => self.act_connected(c),
        }
    }

    fn act_connected(&mut self, c: usize) {
        let habits = self.clients[c].habits.clone();
        if self.random.percent(self.plan.take_over) {
            self.leave_link(c);
            return self.connect(c);
        }
        match self.random.below(100) {
            0..40 if habits.publishes => self.publish(c),
            0..40 => {}
            40..55 => self.subscribe(c),
            55..59 => self.unsubscribe(c),
            59..61 => self.disconnect(c, habits.forgets),
            _ => self.answer(c),
        }
    }

    pub(crate) fn connect(&mut self, c: usize) {
        let habits = self.clients[c].habits.clone();
        if habits.is_lasting() && self.random.percent(habits.forgets) && !self.calm {
            self.clients[c].wants_clean = true;
        }
        let client = &self.clients[c];
        let clean_start = client.wants_clean || !habits.is_lasting();
        let v5 = habits.version == Version::V5;
        let properties = v5.then(|| {
            Box::new(Properties {
                session_expiry_interval: Some(habits.expiry_s),
                receive_maximum: Some(habits.receive_maximum),
                ..Properties::default()
            })
        });
        let has_will = habits.has_wills && !self.calm && self.random.percent(60);
        let will = has_will.then(|| self.will(habits.version));
        let connect = Connect {
            version: habits.version,
            clean_start,
            keep_alive: 0,
            client_id: text(&Client::name(c)),
            will: will.as_ref().map(|(_, will)| Box::new(will.clone())),
            username: None,
            password: None,
            properties,
        };
        let link = self.open_link(c);
        let at = self
            .trace
            .note(|| format!("client {c}: CONNECT on link {link}, clean start {clean_start}, {will:?}"));
        let client = &mut self.clients[c];
        client.phase = Phase::Connecting { clean_start };
        client.connection.will = will.and_then(|(number, _)| number);
        if clean_start {
            self.forget(c);
            self.oracle.may_end(c, at);
            self.silence_links_before(c, link);
        }
        self.send_on(link, &Packet::Connect(Box::new(connect)));
    }

    fn open_link(&mut self, c: usize) -> LinkId {
        self.net.push(Link {
            client: c,
            ..Link::default()
        });
        let link = self.net.len() - 1;
        let at = self.random.index(self.stations.len());
        self.stations[at].arrivals.push((link, Vec::new()));
        let client = &mut self.clients[c];
        client.link = Some(link);
        client.undecoded.clear();
        client.connection = Connection::default();
        link
    }

    /// A will, and what is owed of it: one that is delayed may be cancelled by the next connection.
    fn will(&mut self, version: Version) -> (Option<MessageNumber>, Will) {
        let retain = self.random.percent(20);
        let delay_s = *self.random.pick(&[0, 0, 1, 30]);
        let is_delayed = version == Version::V5 && delay_s > 0;
        let topic = *self.random.pick(&TOPICS);
        let qos = *self.random.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let number = self.oracle.publish(Published {
            by: None,
            topic,
            qos,
            retain,
            deletes: false,
            expires: false,
            sent: self.trace.step,
            fate: Fate::Unknown,
            sends: 1,
        });
        let will = Will {
            topic: text(topic),
            payload: payload(number, 0),
            qos,
            retain,
            properties: is_delayed.then(|| {
                Box::new(Properties {
                    will_delay_interval: Some(delay_s),
                    ..Properties::default()
                })
            }),
        };
        ((!is_delayed).then_some(number), will)
    }

    /// The client's state of a session that is no more, or that it does not want.
    pub(crate) fn forget(&mut self, c: usize) {
        let client = &mut self.clients[c];
        client.received.clear();
        let lost: Vec<MessageNumber> = client.in_flight.drain(..).map(|flight| flight.number).collect();
        for number in lost {
            if self.oracle.messages[number].fate == Fate::Open {
                self.oracle.unknown(number);
            }
        }
    }

    /// The client turns away from its connection, whose bytes may still arrive. A CONNECT that could change what a later one
    /// finds does not: who begins anew waits for an answer.
    pub(crate) fn leave_link(&mut self, c: usize) {
        let Some(link) = self.clients[c].link else { return };
        self.trace.note(|| format!("client {c}: leaves link {link}"));
        let is_new = self.oracle.accounts[c].knowledge == Knowledge::Absent;
        let up = &mut self.net[link].up;
        match self.clients[c].phase {
            Phase::Connecting { clean_start } if clean_start || is_new => up.discard(),
            _ => up.close(),
        }
        self.net[link].down.discard();
        self.link_over(c);
    }

    /// An older CONNECT of the client that is still under way must not be heard behind this one.
    fn silence_links_before(&mut self, c: usize, link: LinkId) {
        let older = self.net[..link].iter_mut().filter(|link| link.client == c);
        older.for_each(|link| link.up.discard());
    }

    /// The client has no connection any more.
    pub(crate) fn link_over(&mut self, c: usize) {
        let at = self.trace.note(|| format!("client {c}: is away"));
        let client = &mut self.clients[c];
        let was_connected = client.phase == Phase::Connected;
        let account = &mut self.oracle.accounts[c];
        if !was_connected && account.knowledge == Knowledge::Absent {
            account.knowledge = Knowledge::Unknown; // Its CONNECT may have been heard.
        }
        let goodbye = client.connection.says_goodbye;
        client.phase = Phase::Away;
        client.link = None;
        let will = client.connection.will.take();
        let is_lasting = client.habits.is_lasting();
        client.connection = Connection::default();
        if let Some(number) = will.filter(|_| was_connected && !goodbye && is_lasting) {
            self.oracle.accepted(number, at);
        }
        if !is_lasting {
            self.oracle.may_end(c, at);
            if was_connected {
                self.oracle.accounts[c].knowledge = Knowledge::Absent;
            }
        }
    }

    fn send_on(&mut self, link: LinkId, packet: &Packet) {
        let version = self.clients[self.net[link].client].habits.version;
        self.net[link].up.send(&bytes_of(packet, version));
    }

    pub(crate) fn send(&mut self, c: usize, packet: &Packet) -> Moment {
        let Some(link) = self.clients[c].link else {
            return self.trace.step;
        };
        let at = self.trace.note(|| format!("client {c}: sends {packet:?}"));
        self.send_on(link, packet);
        at
    }

    fn publish(&mut self, c: usize) {
        let qos = *self.random.pick(&[
            QoS::AtMostOnce,
            QoS::AtLeastOnce,
            QoS::AtLeastOnce,
            QoS::ExactlyOnce,
            QoS::ExactlyOnce,
        ]);
        if qos != QoS::AtMostOnce && self.clients[c].in_flight.len() >= MOST_IN_FLIGHT {
            return self.answer(c);
        }
        let topic = *self.random.pick(&TOPICS);
        let retain = self.random.percent(15);
        let deletes = retain && self.random.percent(25);
        let expires = self.clients[c].habits.version == Version::V5 && self.random.percent(5);
        let number = self.oracle.publish(Published {
            by: Some(c),
            topic,
            qos,
            retain,
            deletes,
            expires,
            sent: self.trace.step + 1,
            fate: if qos == QoS::AtMostOnce {
                Fate::Unknown
            } else {
                Fate::Open
            },
            sends: 1,
        });
        let length = if self.random.percent(3) && !self.plan.is_tight() {
            3_000
        } else {
            self.random.index(80)
        };
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.clients[c].packet_id());
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic: text(topic),
            packet_id,
            properties: expires.then(|| {
                Box::new(Properties {
                    message_expiry_interval: Some(1),
                    ..Properties::default()
                })
            }),
            payload: if deletes { Bytes::new() } else { payload(number, length) },
        };
        if let Some(packet_id) = packet_id {
            self.clients[c].in_flight.push_back(Flight {
                packet_id,
                number,
                publish: publish.clone(),
                is_released: false,
                releases: 0,
            });
        }
        self.send_publish(c, publish);
    }

    fn send_publish(&mut self, c: usize, publish: Publish) {
        let awaited = publish.packet_id.map(|id| match publish.qos {
            QoS::ExactlyOnce => Awaited::PubRec(id),
            _ => Awaited::PubAck(id),
        });
        self.clients[c].connection.awaited.extend(awaited);
        self.send(c, &Packet::Publish(publish));
    }

    /// What was in flight when the last connection ended [MQTT-4.4.0-1].
    pub(crate) fn send_again(&mut self, c: usize) {
        for position in 0..self.clients[c].in_flight.len() {
            let flight = &mut self.clients[c].in_flight[position];
            if flight.is_released {
                let packet_id = flight.packet_id;
                self.release(c, packet_id);
            } else {
                flight.publish.dup = true;
                let (number, publish) = (flight.number, flight.publish.clone());
                self.oracle.messages[number].sends += 1;
                self.send_publish(c, publish);
            }
        }
    }

    pub(crate) fn release(&mut self, c: usize, packet_id: PacketId) {
        let client = &mut self.clients[c];
        if let Some(flight) = client.in_flight.iter_mut().find(|flight| flight.packet_id == packet_id) {
            flight.releases += 1;
        }
        client.connection.awaited.push_back(Awaited::PubComp(packet_id));
        self.send(c, &Packet::PubRel(ack(packet_id)));
    }

    /// Sends the next acknowledgement that it owes.
    pub(crate) fn answer(&mut self, c: usize) {
        let connection = &mut self.clients[c].connection;
        let Some(packet) = connection.answers.pop_front() else {
            return;
        };
        match &packet {
            Packet::PubAck(ack) | Packet::PubComp(ack) => _ = connection.open.remove(&ack.packet_id),
            Packet::PubRec(ack) => connection.released.push_back(ack.packet_id),
            _ => {}
        }
        match packet {
            Packet::PubRel(ack) => self.release(c, ack.packet_id),
            packet => _ = self.send(c, &packet),
        }
    }

    fn subscribe(&mut self, c: usize) {
        let qos = *self
            .random
            .pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]);
        // A member that takes QoS 0 makes that of the messages that it is chosen for.
        let (filter, qos) = match self.clients[c].habits.shares {
            true => (SHARED, qos.max(QoS::AtLeastOnce)),
            false => (*self.random.pick(&FILTERS), qos),
        };
        self.subscribe_to(c, filter, qos);
    }

    pub(crate) fn subscribe_to(&mut self, c: usize, filter: &'static str, qos: QoS) {
        let packet_id = self.clients[c].packet_id();
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        let packet = Packet::Subscribe(Subscribe {
            packet_id,
            properties: None,
            filters: vec![SubscribeFilter {
                filter: text(filter),
                options,
            }],
        });
        let at = self.send(c, &packet);
        self.clients[c]
            .connection
            .awaited
            .push_back(Awaited::SubAck(packet_id, filter, at));
        self.oracle.subscribing(c, filter, qos, at);
    }

    fn unsubscribe(&mut self, c: usize) {
        let filter = match self.clients[c].habits.shares {
            true => SHARED,
            false => *self.random.pick(&FILTERS),
        };
        let packet_id = self.clients[c].packet_id();
        let packet = Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: None,
            filters: vec![text(filter)],
        });
        let at = self.send(c, &packet);
        self.clients[c]
            .connection
            .awaited
            .push_back(Awaited::UnsubAck(packet_id, filter, at));
        self.oracle.unsubscribing(c, filter, at);
    }

    /// Says goodbye; some of the time the session ends with that.
    pub(crate) fn disconnect(&mut self, c: usize, forgets: u64) {
        let client = &self.clients[c];
        let ends = client.habits.version == Version::V5 && client.habits.is_lasting() && self.random.percent(forgets);
        let properties = ends.then(|| {
            Box::new(Properties {
                session_expiry_interval: Some(0),
                ..Properties::default()
            })
        });
        self.clients[c].connection.says_goodbye = true;
        let at = self.send(
            c,
            &Packet::Disconnect(Disconnect {
                reason: ReasonCode::Success,
                properties,
            }),
        );
        if ends {
            self.oracle.may_end(c, at);
            self.forget(c);
            self.clients[c].wants_clean = true; // It may not have been heard.
        }
        self.leave_link(c);
    }
}

pub(crate) fn ack(packet_id: PacketId) -> Ack {
    Ack {
        packet_id,
        reason: ReasonCode::Success,
        properties: None,
    }
}

fn text(text: &str) -> Utf8String {
    Utf8String::try_from(text).expect("a valid text")
}

/// Says which message it is, and is as long as it is to be.
fn payload(number: MessageNumber, length: usize) -> Bytes {
    format!("{number}{}", ".".repeat(length)).into()
}

/// Which message a payload is of; `None`: the one that deletes a retained message.
pub(crate) fn number_of(payload: &[u8]) -> Option<MessageNumber> {
    let text = std::str::from_utf8(payload).ok()?;
    text.trim_end_matches('.').parse().ok()
}
