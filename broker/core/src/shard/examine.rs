//! A checkpoint: records of the oldest part of the log are shown to their shard once more. What is still true is appended again, as
//! it is now; the rest goes when that part of the log does.
//!
//! Records that only end something (acknowledged, gone, released) are never appended again: what they ended is in an older part
//! of the log or in the same.

use super::Shard;
use super::commit::Enqueued;
use super::record::state;
use super::subscribe::{Entry, split};
use crate::message::Message;
use crate::queued::Queued;
use crate::session::{Place, Session, Stage};
use crate::store::{ClientKey, EnqueuedFor, Partition, Position, Record, SessionState};
use crate::time::Millis;
use nervewire_codec::PacketId;
use std::sync::Arc;

/// Where one copy of a message is, as a checkpoint finds it.
enum Copy {
    /// In flight at QoS 2 under this identifier.
    Sent(PacketId),
    /// In flight at QoS 1, or in the queue.
    Waits,
    /// At this position of the queue, and past its expiry.
    Expired(usize),
    /// Nowhere, or in a younger part of the log.
    Gone,
}

impl Shard {
    /// An old record, and where it is: appends again what of it is still true.
    pub fn examine(&mut self, now: Millis, partition: Partition, position: Position, record: Record) {
        match record {
            Record::Enqueued {
                order,
                message,
                targets,
            } => self.examine_enqueued(now, (partition, position), order, message, targets),
            Record::Received {
                session,
                packet_id,
                messages,
            } => self.examine_received(partition, session, packet_id, messages),
            other if self.is_true(now, &other) => self.append_again(partition, other),
            _ => {}
        }
    }

    fn append_again(&mut self, partition: Partition, record: Record) {
        self.counters.relocated_records += 1;
        self.within(None, |shard| shard.append(partition, vec![record]));
    }

    fn is_true(&self, now: Millis, record: &Record) -> bool {
        match record {
            Record::Session(session) => self.is_as_recorded(session),
            Record::Subscribed { session, filter, entry } => self.has_subscription(session, filter, *entry),
            Record::HandedOver {
                session,
                packet_id,
                order,
            } => {
                let session = self.durable_session(session);
                let sent = session.and_then(|(_, s)| s.in_flight.find(*packet_id));
                sent.is_some_and(|sent| matches!(sent.stage, Stage::Released(released) if released == *order))
            }
            Record::Retained(message) => self.is_retained(now, message),
            Record::Banned(ban) => self.is_banned_as_recorded(now, ban),
            _ => false,
        }
    }

    fn session_by(&self, key: &ClientKey) -> Option<(u32, &Session)> {
        let slot = self.sessions.find(key.tenant.as_deref(), &key.client_id)?;
        Some((slot, self.sessions.get(slot as usize)?))
    }

    fn durable_session(&self, key: &ClientKey) -> Option<(u32, &Session)> {
        self.session_by(key).filter(|(_, s)| !s.ends_with_connection())
    }

    fn is_as_recorded(&self, recorded: &SessionState) -> bool {
        let key = ClientKey::of(&recorded.client);
        match self.unsettled(&key) {
            Some((last, _)) => last == recorded,
            None => self
                .session_by(&key)
                .is_some_and(|(_, s)| s.stored && state(s) == *recorded),
        }
    }

    fn has_subscription(&self, key: &ClientKey, filter: &str, entry: Entry) -> bool {
        let Some((slot, s)) = self.durable_session(key) else {
            return false;
        };
        match split(filter) {
            (Some(_), _) => s.subscriptions.shared().get(filter) == Some(&entry),
            (None, topic) => {
                let space = self.spaces.get(s.space as usize);
                let subscription = space.and_then(|space| space.index.get(topic, slot));
                subscription.is_some_and(|subscription| subscription.entry == entry)
            }
        }
    }

    fn is_retained(&self, now: Millis, message: &Message) -> bool {
        let space = self.by_tenant.get(&message.tenant);
        let space = space.and_then(|space| self.spaces.get(*space as usize));
        let retained = space.and_then(|space| space.retained.get(&message.app.topic));
        retained.is_some_and(|retained| retained.id == message.id && !message.is_expired(now))
    }

    /// The body once more, for those of its sessions that have not done with it.
    fn examine_enqueued(
        &mut self,
        now: Millis,
        place: (Partition, Position),
        order: u64,
        message: Arc<Message>,
        mut targets: Vec<EnqueuedFor>,
    ) {
        let (partition, position) = place;
        let mut enqueued = Enqueued::new();
        let mut sent = Vec::new();
        targets.retain(|target| {
            let session = &target.session;
            if self.is_on_its_way(session, order) {
                return true;
            }
            // What is on its way to nobody goes with the session, and so do its subscriptions: that they do is in no log yet, but
            // its end was asked for.
            if self.unsettled(session).is_some_and(|(_, gone)| gone) {
                return false;
            }
            let Some((slot, s)) = self.durable_session(session) else {
                return false;
            };
            match copy(now, s, order, position) {
                Copy::Sent(packet_id) => sent.push(Record::Sent {
                    session: session.clone(),
                    packet_id,
                    order,
                }),
                Copy::Waits => {}
                Copy::Expired(at) => {
                    self.drop_expired(slot, at);
                    return false;
                }
                Copy::Gone => return false,
            }
            enqueued.push((slot, order));
            true
        });
        if targets.is_empty() {
            return;
        }
        self.counters.relocated_records += 1 + sent.len() as u64;
        let record = Record::Enqueued {
            order,
            message,
            targets,
        };
        self.within(None, |shard| {
            shard.append_enqueued(partition, record, enqueued);
            if !sent.is_empty() {
                shard.append(partition, sent);
            }
        });
    }

    /// What is past its expiry need not be kept until its turn comes [MQTT-3.3.2-5].
    fn drop_expired(&mut self, session: u32, at: usize) {
        if let Some(queued) = self.remove_queued(session, at) {
            self.counters.dropped.expired += 1;
            self.record_acknowledged(session, queued.order, queued.qos);
        }
    }

    /// The identifier, and what is still to be routed.
    fn examine_received(
        &mut self,
        partition: Partition,
        session: ClientKey,
        packet_id: PacketId,
        messages: Vec<Arc<Message>>,
    ) {
        let Some((slot, s)) = self.durable_session(&session) else {
            return;
        };
        let Some(received) = s.received.get(&packet_id).copied() else {
            return;
        };
        let is_routed = !self.is_open(received.commit) && !self.is_to_be_routed(slot, packet_id);
        let messages = match messages.first() {
            // That of an earlier message under the same identifier.
            Some(first) if first.id != received.message => return,
            None if !is_routed => return,
            _ if is_routed => Vec::new(),
            _ => messages,
        };
        let record = Record::Received {
            session,
            packet_id,
            messages,
        };
        self.append_again(partition, record);
    }
}

/// The copy that a session has under this order, as the record at a position says it.
fn copy(now: Millis, s: &Session, order: u64, position: Position) -> Copy {
    let is_here = |queued: &Queued| queued.position().is_none_or(|at| at <= position);
    match s.find_copy(order) {
        Some(Place::InFlight(at)) => match s.in_flight.get(at).map(|sent| (sent.packet_id, &sent.stage)) {
            Some((packet_id, Stage::ExactlyOnce(queued))) if is_here(queued) => Copy::Sent(packet_id),
            Some((_, Stage::AtLeastOnce(queued))) if is_here(queued) => Copy::Waits,
            _ => Copy::Gone,
        },
        Some(Place::Queue(at)) => match s.queue.get(at) {
            Some(queued) if queued.is_expired(now) => Copy::Expired(at),
            Some(queued) if is_here(queued) => Copy::Waits,
            _ => Copy::Gone,
        },
        None => Copy::Gone,
    }
}
