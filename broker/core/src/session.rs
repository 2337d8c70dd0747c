//! A session: what the server keeps for one client identifier (MQTT 5.0 section 4.1).

use crate::gather::Gathers;
use crate::hook::{AppMessage, Client, Quotas};
use crate::message::{Content, Message, MessageId};
use crate::policy::ClientRules;
use crate::queued::Queued;
use crate::shard::{CommitId, ConnId, Reviewed, UNREVIEWED};
use crate::store::{FetchTicket, Partition};
use crate::subscriptions::Subscriptions;
use crate::time::Millis;
use crate::verdicts::SessionVerdicts;
use crate::windows::Place as TallyPlace;
use hashbrown::HashMap;
use nervewire_codec::{PacketId, QoS};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

/// One client's session on the shard that owns its key.
#[derive(Debug)]
pub(crate) struct Session {
    /// Tells this session from a later one in the same slot.
    pub(crate) serial: u64,
    pub(crate) client: Arc<Client>,
    /// Bounds that came with the identity, where it brought any.
    bounds: Option<Box<Bounds>>,
    /// Where its records are.
    pub(crate) partition: Partition,
    /// Name space of its topics, a slot of the shard.
    pub(crate) space: u32,
    pub(crate) conn: Option<ConnId>,
    /// Seconds; `u32::MAX`: never.
    pub(crate) expiry_interval_s: u32,
    /// When it ends, while it has no connection.
    pub(crate) expires_at: Option<Millis>,
    /// When its delayed will is sent, while it has no connection.
    pub(crate) will_at: Option<Millis>,
    pub(crate) subscriptions: Subscriptions,
    /// The policy that judged all of them; [`UNREVIEWED`]: some were not judged since something changed.
    pub(crate) reviewed: u32,
    /// Those that its client may not have any more.
    pub(crate) suspensions: Reviewed,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: u64,
    /// Of those messages of the queue that are in the store alone.
    pub(crate) queue_absent_bytes: u64,
    /// Of the messages that are on their way from the store.
    pub(crate) fetching: FetchTicket,
    pub(crate) in_flight: InFlight,
    /// QoS 2 packet identifiers received and not yet released.
    pub(crate) received: HashMap<PacketId, Received>,
    /// The store has a record of it.
    pub(crate) stored: bool,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) rules: Option<Arc<ClientRules>>,
    /// Deliveries wait for rules or for a verdict.
    pub(crate) judging: bool,
    pub(crate) verdicts: SessionVerdicts,
    /// Retained messages that are asked for or wait.
    pub(crate) gathers: Option<Box<Gathers>>,
    /// Position of this session among the targets of the message being routed, stamped with the routing's number.
    pub(crate) route_position: u32,
    pub(crate) route_mark: u64,
    /// Where its client is counted, where a plugin looks for what is odd.
    pub(crate) tally: TallyPlace,
}

/// Bounds of a session that has others than the configured ones.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// What came with the identity.
    given: Quotas,
    /// What holds: a queue that was longer when it was restored may stay so until the client is back.
    holding: Quotas,
}

/// A QoS 2 message from the client, until PUBREL comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// What its PUBREC waits for.
    pub(crate) commit: CommitId,
    /// The first of the messages that it became; 0: there is none.
    pub(crate) message: MessageId,
}

/// A Will Message, kept until the connection ends.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) message: AppMessage,
    pub(crate) delay_s: u32,
}

impl Session {
    /// A session that has nothing yet and no connection.
    pub(crate) fn new(serial: u64, client: Arc<Client>, space: u32) -> Self {
        Self {
            serial,
            partition: Partition::of_session(client.tenant.as_deref(), &client.client_id),
            client,
            bounds: None,
            space,
            conn: None,
            expiry_interval_s: 0,
            expires_at: None,
            will_at: None,
            subscriptions: Subscriptions::default(),
            reviewed: UNREVIEWED,
            suspensions: Reviewed::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_absent_bytes: 0,
            fetching: FetchTicket::NONE,
            in_flight: InFlight::default(),
            received: HashMap::new(),
            stored: false,
            will: None,
            rules: None,
            judging: false,
            verdicts: SessionVerdicts::default(),
            gathers: None,
            route_position: 0,
            route_mark: 0,
            tally: TallyPlace::default(),
        }
    }

    pub(crate) fn tenant(&self) -> Option<&Arc<str>> {
        self.client.tenant.as_ref()
    }

    /// Something waits: to be sent again, in the queue, or to be gathered.
    pub(crate) fn has_more_to_send(&self) -> bool {
        let resending = self.in_flight.resent < self.in_flight.len();
        !self.queue.is_empty() || self.gathers.is_some() || resending
    }

    /// Where the copy of a message is that is recorded under this order. The queue is sorted by it.
    pub(crate) fn find_copy(&self, order: u64) -> Option<Place> {
        if let Some(at) = self.in_flight.find_order(order) {
            return Some(Place::InFlight(at));
        }
        let first = self.queue.partition_point(|queued| queued.order < order);
        let same = self.queue.range(first..).take_while(|queued| queued.order == order);
        let at = same.into_iter().position(|queued| queued.qos != QoS::AtMostOnce)?;
        Some(Place::Queue(first + at))
    }

    pub(crate) fn copy(&self, place: Place) -> Option<&Queued> {
        match place {
            Place::InFlight(at) => self.in_flight.entries.get(at)?.queued(),
            Place::Queue(at) => self.queue.get(at),
        }
    }

    pub(crate) fn copy_mut(&mut self, place: Place) -> Option<&mut Queued> {
        match place {
            Place::InFlight(at) => self.in_flight.entries.get_mut(at)?.queued_mut(),
            Place::Queue(at) => self.queue.get_mut(at),
        }
    }

    /// The bounds that hold.
    pub(crate) fn quotas(&self) -> Quotas {
        self.bounds
            .as_deref()
            .map_or_else(Quotas::default, |bounds| bounds.holding)
    }

    /// The bounds that came with the identity, as the store is told.
    pub(crate) fn given_quotas(&self) -> Quotas {
        self.bounds
            .as_deref()
            .map_or_else(Quotas::default, |bounds| bounds.given)
    }

    /// The identity's bounds, which hold from now on.
    pub(crate) fn set_quotas(&mut self, quotas: Quotas) {
        self.set_bounds(quotas, quotas);
    }

    /// Wider bounds than the identity's, until the client is back.
    pub(crate) fn widen_quotas(&mut self, holding: Quotas) {
        self.set_bounds(self.given_quotas(), holding);
    }

    fn set_bounds(&mut self, given: Quotas, holding: Quotas) {
        let none = Quotas::default();
        self.bounds = ((given, holding) != (none, none)).then(|| Box::new(Bounds { given, holding }));
    }

    /// Ends with its connection.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.expiry_interval_s == 0
    }

    /// A live message passes, which a retained one that waits must not follow. Says how many gatherings remember it not.
    pub(crate) fn note_live(&mut self, message: &Content<'_>) -> u64 {
        self.gathers.as_mut().map_or(0, |gathers| gathers.note_live(message))
    }
}

/// Packet identifiers that there are.
const IDS: u64 = 65_535;

/// QoS 1 and 2 messages sent and not yet fully acknowledged, in sending order [MQTT-4.6.0-1].
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    entries: VecDeque<Sent>,
    /// Entries sent on the present connection; those behind wait to be sent again.
    pub(crate) resent: usize,
    /// Identifiers handed out so far; the next is this number modulo 65,535.
    handed_out: u64,
    /// Of the messages that are still ours.
    bytes: u64,
    /// Of those of them that are in the store alone.
    absent_bytes: u64,
    /// After a restart a message can follow one that came after it, because only QoS 2 is known to have been under way.
    disordered: bool,
}

/// Where a session has a copy of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    InFlight(usize),
    Queue(usize),
}

#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) packet_id: PacketId,
    number: u64,
    pub(crate) stage: Stage,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// QoS 1: PUBACK is due.
    AtLeastOnce(Queued),
    /// QoS 2, first half: PUBREC is due.
    ExactlyOnce(Queued),
    /// QoS 2, second half: PUBCOMP is due, the message, which had this order, is no longer ours [MQTT-4.3.3-3].
    Released(u64),
}

impl Stage {
    fn bytes(&self) -> u64 {
        match self {
            Self::AtLeastOnce(queued) | Self::ExactlyOnce(queued) => queued.bytes(),
            Self::Released(_) => 0,
        }
    }
}

impl Sent {
    pub(crate) fn queued(&self) -> Option<&Queued> {
        match &self.stage {
            Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued) => Some(queued),
            Stage::Released(_) => None,
        }
    }

    fn absent_bytes(&self) -> u64 {
        self.queued().map_or(0, Queued::absent_bytes)
    }

    pub(crate) fn queued_mut(&mut self) -> Option<&mut Queued> {
        match &mut self.stage {
            Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued) => Some(queued),
            Stage::Released(_) => None,
        }
    }

    /// The place of its message in the order of the session.
    pub(crate) fn order(&self) -> u64 {
        match &self.stage {
            Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued) => queued.order,
            Stage::Released(order) => *order,
        }
    }
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the messages held for sending them again.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of those of them that are in the store alone.
    pub(crate) fn absent_bytes(&self) -> u64 {
        self.absent_bytes
    }

    pub(crate) fn get(&self, position: usize) -> Option<&Sent> {
        self.entries.get(position)
    }

    /// Takes a message in flight under a fresh identifier. It counts as sent on this connection.
    pub(crate) fn push(&mut self, queued: Queued) -> PacketId {
        let (packet_id, number) = self.next_id();
        let last = self.entries.back().map(Sent::order);
        self.disordered = last.is_some_and(|last| self.disordered || last > queued.order);
        self.bytes += queued.bytes();
        let stage = match queued.qos {
            QoS::ExactlyOnce => Stage::ExactlyOnce(queued),
            _ => Stage::AtLeastOnce(queued),
        };
        self.entries.push_back(Sent {
            packet_id,
            number,
            stage,
        });
        self.resent = self.entries.len();
        packet_id
    }

    /// Identifiers go round; one still in use is passed over [MQTT-2.2.1-4].
    fn next_id(&mut self) -> (PacketId, u64) {
        loop {
            let number = self.handed_out;
            self.handed_out += 1;
            let id = NonZeroU16::MIN.saturating_add(u16::try_from(number % IDS).unwrap_or(0));
            // Only when the oldest entry is a whole round old can an identifier still be in use.
            let round_old = self.entries.front().is_some_and(|oldest| oldest.number + IDS <= number);
            if !round_old || self.position(id).is_none() {
                return (id, number);
            }
        }
    }

    /// Takes in what was under way before a restart, behind what was sent before it.
    pub(crate) fn restore(&mut self, packet_id: PacketId, stage: Stage) {
        let id = u64::from(packet_id.get()) - 1;
        let round = self.handed_out - self.handed_out % IDS;
        let number = if round + id < self.handed_out {
            round + IDS + id
        } else {
            round + id
        };
        self.handed_out = number + 1;
        let sent = Sent {
            packet_id,
            number,
            stage,
        };
        self.bytes += sent.stage.bytes();
        self.absent_bytes += sent.absent_bytes();
        self.entries.push_back(sent);
    }

    fn find_order(&self, order: u64) -> Option<usize> {
        if self.disordered {
            return self.entries.iter().position(|sent| sent.order() == order);
        }
        self.entries.binary_search_by_key(&order, Sent::order).ok()
    }

    /// What the present connection was not sent yet.
    pub(crate) fn to_resend(&self) -> impl Iterator<Item = &Queued> {
        self.entries.range(self.resent..).filter_map(Sent::queued)
    }

    /// Takes a message out of memory, and answers its bytes.
    pub(crate) fn evict(&mut self, at: usize) -> u64 {
        let copy = self.entries.get_mut(at).and_then(Sent::queued_mut);
        let bytes = copy.map_or(0, Queued::evict);
        self.absent_bytes += bytes;
        bytes
    }

    /// A message is here again.
    pub(crate) fn bring(&mut self, at: usize, message: Arc<Message>) -> u64 {
        let copy = self.entries.get_mut(at).and_then(Sent::queued_mut);
        let bytes = copy.map_or(0, |copy| copy.bring(message));
        self.absent_bytes -= bytes;
        bytes
    }

    pub(crate) fn find(&self, packet_id: PacketId) -> Option<&Sent> {
        self.entries.iter().find(|sent| sent.packet_id == packet_id)
    }

    pub(crate) fn position(&self, packet_id: PacketId) -> Option<usize> {
        self.entries.iter().position(|sent| sent.packet_id == packet_id)
    }

    pub(crate) fn remove(&mut self, position: usize) -> Option<Sent> {
        let removed = self.entries.remove(position)?;
        if position < self.resent {
            self.resent -= 1;
        }
        self.bytes -= removed.stage.bytes();
        self.absent_bytes -= removed.absent_bytes();
        Some(removed)
    }

    /// PUBREC came: the identifier stays, the message goes.
    pub(crate) fn release(&mut self, position: usize) {
        if let Some(sent) = self.entries.get_mut(position) {
            self.bytes -= sent.stage.bytes();
            self.absent_bytes -= sent.absent_bytes();
            sent.stage = Stage::Released(sent.order());
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Sent> {
        self.resent = 0;
        (self.bytes, self.absent_bytes) = (0, 0);
        std::mem::take(&mut self.entries).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use nervewire_codec::Utf8String;

    fn queued(qos: QoS) -> Queued {
        let app = AppMessage {
            topic: Utf8String::from_static("a"),
            payload: Bytes::new(),
            qos,
            retain: false,
            properties: None,
        };
        let message = Message {
            id: 0,
            accepted_at: 0,
            app,
            expires_at: None,
            publisher: None,
            tenant: None,
            source: None,
        };
        Queued::new(Arc::new(message), 0, qos, false)
    }

    #[test]
    fn packet_identifiers_go_round_and_pass_over_those_in_use() {
        let mut in_flight = InFlight::default();
        let stuck = in_flight.push(queued(QoS::AtLeastOnce));
        assert_eq!(stuck.get(), 1);
        for expected in (2..=65_535u32).chain(2..10) {
            let id = in_flight.push(queued(QoS::AtLeastOnce));
            assert_eq!(u32::from(id.get()), expected);
            let position = in_flight.position(id).unwrap();
            in_flight.remove(position);
        }
    }

    #[test]
    fn removing_an_entry_keeps_count_of_what_was_sent_again() {
        let mut in_flight = InFlight::default();
        for _ in 0..3 {
            in_flight.push(queued(QoS::ExactlyOnce));
        }
        in_flight.resent = 2;
        in_flight.remove(2);
        assert_eq!(in_flight.resent, 2);
        in_flight.remove(0);
        assert_eq!(in_flight.resent, 1);
    }
}
