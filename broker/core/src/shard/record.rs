//! The records a shard makes of what changes. Nothing is made with `Durability::Memory`, nor for sessions that end with their
//! connection.

use super::arriving::Arriving;
use super::commit::Enqueued;
use super::deliver::Target;
use super::lane::{LaneKind, Outgoing};
use super::{ConnId, Shard, emit};
use crate::message::Message;
use crate::queued::Queued;
use crate::session::{Session, Stage};
use crate::store::{ClientKey, EnqueuedFor, Partition, Record, SessionState, StoredWill};
use crate::time::Millis;
use nervewire_codec::{PacketId, QoS};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

impl Shard {
    /// Where the records are of a session whose state must outlive the process, and its key in them.
    pub(super) fn durable(&self, session: u32) -> Option<(Partition, ClientKey)> {
        if !self.waits_for_store() {
            return None;
        }
        let s = self.sessions.get(session as usize)?;
        (!s.ends_with_connection()).then(|| (s.partition, ClientKey::of(&s.client)))
    }

    /// A session as it is now. One that ends with its connection is recorded where an earlier record said otherwise.
    pub(super) fn record_session(&mut self, session: u32) {
        if !self.waits_for_store() {
            return;
        }
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        if s.ends_with_connection() && !s.stored {
            return;
        }
        let (partition, state) = (s.partition, state(s));
        if self.waits_to_be_settled(&ClientKey::of(&state.client)) {
            return;
        }
        self.sessions.mark_stored(session as usize);
        self.append(partition, vec![Record::Session(Box::new(state))]);
    }

    /// One record per partition with durable targets, before any of them can be sent the message.
    pub(super) fn record_targets(&mut self, arriving: &mut Arriving<'_>, targets: &mut [Target]) {
        if !self.waits_for_store() {
            return;
        }
        let mut durable: SmallVec<[(Partition, usize); 8]> = SmallVec::new();
        for (position, target) in targets.iter_mut().enumerate() {
            (target.order, target.refused) = (self.last_order, false);
            if target.qos != QoS::AtMostOnce
                && let Some(s) = self.sessions.get(target.session as usize)
                && !s.ends_with_connection()
            {
                // Routed again after a crash, and known here.
                target.refused = self.already.has_partition(&arriving.content, s.partition);
                durable.push((s.partition, position));
            }
        }
        durable.retain(|(_, position)| !targets[*position].refused);
        if durable.is_empty() {
            return;
        }
        if !self.may_append() {
            return durable.iter().for_each(|(_, target)| targets[*target].refused = true);
        }
        durable.sort_unstable();
        for of_partition in durable.chunk_by(|a, b| a.0 == b.0) {
            self.record_targets_of(arriving.keep(), of_partition, targets);
        }
    }

    fn record_targets_of(&mut self, message: &Arc<Message>, chosen: &[(Partition, usize)], targets: &mut [Target]) {
        let order = self.next_order();
        let mut enqueued = Enqueued::default();
        let mut records = Vec::with_capacity(chosen.len());
        for (_, position) in chosen {
            let target = &mut targets[*position];
            let Some(s) = self.sessions.get(target.session as usize) else {
                continue;
            };
            target.order = order;
            enqueued.push((target.session, order));
            records.push(EnqueuedFor {
                session: ClientKey::of(&s.client),
                qos: target.qos,
                retain: target.retain,
                identifiers: target.identifiers.clone(),
                shared: None,
            });
        }
        let Some((partition, _)) = chosen.first() else { return };
        let (message, targets) = (message.clone(), records);
        let record = Record::Enqueued {
            order,
            message,
            targets,
        };
        self.append_enqueued(*partition, record, enqueued);
    }

    /// A message for one session that did not come by its own subscriptions. Whether it may be enqueued.
    pub(super) fn record_queued(&mut self, session: u32, queued: &mut Queued) -> bool {
        queued.order = self.last_order;
        let (Some((partition, key)), Some(message)) = (self.durable(session), queued.body().cloned()) else {
            return true;
        };
        if queued.qos == QoS::AtMostOnce {
            return true;
        }
        if !self.may_append() {
            return false;
        }
        queued.order = self.next_order();
        let target = EnqueuedFor {
            session: key,
            qos: queued.qos,
            retain: queued.retain,
            identifiers: SmallVec::from_slice(queued.identifiers()),
            shared: queued.shared.clone(),
        };
        let record = Record::Enqueued {
            order: queued.order,
            message,
            targets: vec![target],
        };
        self.append_enqueued(partition, record, smallvec![(session, queued.order)]);
        true
    }

    fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    /// A session is done with a message.
    pub(super) fn record_acknowledged(&mut self, session: u32, order: u64, qos: QoS) {
        if qos != QoS::AtMostOnce {
            self.record_aside(session, |session| Record::Acknowledged { session, order });
        }
    }

    pub(super) fn record_completed(&mut self, session: u32, packet_id: PacketId) {
        self.record_aside(session, |session| Record::Completed { session, packet_id });
    }

    /// Nobody waits for this record.
    pub(super) fn record_aside(&mut self, session: u32, record: impl FnOnce(ClientKey) -> Record) {
        if let Some((partition, key)) = self.durable(session) {
            self.within(None, |shard| shard.append(partition, vec![record(key)]));
        }
    }

    /// The retained message of a topic was set or deleted.
    pub(super) fn record_retained(&mut self, message: &Arc<Message>) {
        if !self.waits_for_store() {
            return;
        }
        let tenant = message.tenant.clone();
        let partition = Partition::of_topic(tenant.as_deref(), &message.app.topic);
        let record = if message.app.payload.is_empty() {
            Record::RetainedDeleted {
                message: message.id,
                tenant,
                topic: message.app.topic.clone(),
            }
        } else {
            Record::Retained(message.clone())
        };
        self.append(partition, vec![record]);
    }

    /// Sends what is in flight under an identifier: QoS 2 once its identifier is durable, the others behind it.
    pub(super) fn send_in_flight(&mut self, now: Millis, session: u32, id: ConnId, packet_id: PacketId, dup: bool) {
        let sent = self
            .sessions
            .get(session as usize)
            .and_then(|s| s.in_flight.find(packet_id));
        let Some(sent) = sent else { return };
        let (key, publish) = (self.durable(session), Outgoing::Publish { packet_id, dup });
        match (&sent.stage, key) {
            (Stage::ExactlyOnce(queued), Some((partition, session))) => {
                let order = queued.order;
                let record = Record::Sent {
                    session,
                    packet_id,
                    order,
                };
                self.hold_until_stored(now, id, LaneKind::Deliveries, publish, partition, vec![record]);
            }
            (Stage::Released(order), _) => {
                let order = *order;
                self.send_pub_rel(now, session, id, packet_id, order);
            }
            _ => self.deliver_in_order(now, id, publish),
        }
    }

    /// PUBREL, once it is durable that the message is the client's [MQTT-4.3.3-4].
    pub(super) fn send_pub_rel(&mut self, now: Millis, session: u32, id: ConnId, packet_id: PacketId, order: u64) {
        let reason = nervewire_codec::ReasonCode::Success;
        let Some((partition, session)) = self.durable(session) else {
            return self.send_ack(id, nervewire_codec::Packet::PubRel, packet_id, reason);
        };
        let packet = nervewire_codec::Packet::PubRel(nervewire_codec::Ack {
            packet_id,
            reason,
            properties: None,
        });
        let record = Record::HandedOver {
            session,
            packet_id,
            order,
        };
        self.hold_until_stored(
            now,
            id,
            LaneKind::Deliveries,
            Outgoing::Packet(packet),
            partition,
            vec![record],
        );
    }

    /// Writes the PUBLISH that is in flight under an identifier.
    pub(super) fn write_in_flight(&mut self, now: Millis, id: ConnId, packet_id: PacketId, dup: bool) {
        let Some(conn) = self.conns.get_mut(id.0 as usize) else {
            return;
        };
        let Some(session) = conn.session else { return };
        let s = self.sessions.get(session as usize);
        let Some(sent) = s.and_then(|s| s.in_flight.find(packet_id)) else {
            return;
        };
        let (Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued)) = &sent.stage else {
            return;
        };
        let Some(message) = queued.body() else { return };
        let shape = emit::Shape {
            message: message.content(),
            qos: queued.qos,
            retain: queued.retain,
            identifiers: queued.identifiers(),
            dup,
            is_shared: false,
        };
        emit::publish(conn, &shape, Some(packet_id), now, &mut self.cache, &mut self.spare);
        self.counters.sent_messages[queued.qos as usize] += 1;
        self.count_message_out(session);
        self.touch(id);
    }
}

/// A session as a record says it.
pub(super) fn state(s: &Session) -> SessionState {
    let will = s.will.as_deref().map(|will| StoredWill {
        message: will.message.clone(),
        delay_s: will.delay_s,
        due_at: s.will_at,
    });
    SessionState {
        client: s.client.clone(),
        quotas: s.given_quotas(),
        expiry_interval_s: s.expiry_interval_s,
        expires_at: s.expires_at,
        will,
    }
}
