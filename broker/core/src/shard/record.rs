//! The records a shard makes of what changes. Nothing is made with `Durability::Memory`, nor for sessions that end with their
//! connection.

use super::arriving::Arriving;
use super::deliver::Target;
use super::lane::{LaneKind, Outgoing};
use super::{ConnId, Shard, emit};
use crate::message::{Message, MessageId};
use crate::session::{Queued, Session, Stage};
use crate::store::{ClientKey, EnqueuedFor, Partition, Record, SessionState, StoredWill};
use crate::time::Millis;
use nervewire_codec::{PacketId, QoS};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Shard {
    /// The key of a session whose state must outlive the process.
    pub(super) fn durable(&self, session: u32) -> Option<ClientKey> {
        if !self.waits_for_store() {
            return None;
        }
        let s = self.sessions.get(session as usize)?;
        (!s.ends_with_connection()).then(|| ClientKey::of(&s.client))
    }

    /// A session as it is now. One that ends with its connection is recorded where an earlier record said otherwise.
    pub(super) fn record_session(&mut self, session: u32) {
        if !self.waits_for_store() {
            return;
        }
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        if s.ends_with_connection() && !s.stored {
            return;
        }
        s.stored = true;
        let (partition, state) = (ClientKey::of(&s.client).partition(), state(s));
        self.append(partition, vec![Record::Session(Box::new(state))]);
    }

    pub(super) fn record_gone(&mut self, session: u32) {
        let Some(s) = self.sessions.get(session as usize).filter(|s| s.stored) else {
            return;
        };
        let key = ClientKey::of(&s.client);
        self.append(key.partition(), vec![Record::Gone(key)]);
    }

    /// One record per partition with durable targets, before any of them can be sent the message.
    pub(super) fn record_targets(&mut self, arriving: &mut Arriving<'_>, targets: &[Target]) {
        if !self.waits_for_store() || arriving.content.qos == QoS::AtMostOnce {
            return;
        }
        let message = arriving.keep();
        let mut partitions: BTreeMap<Partition, Vec<EnqueuedFor>> = BTreeMap::new();
        for target in targets.iter().filter(|target| target.qos != QoS::AtMostOnce) {
            let Some(session) = self.durable(target.session) else {
                continue;
            };
            partitions.entry(session.partition()).or_default().push(EnqueuedFor {
                session,
                qos: target.qos,
                retain: target.retain,
                identifiers: target.identifiers.clone(),
                shared: None,
            });
        }
        for (partition, targets) in partitions {
            let message = message.clone();
            self.append(partition, vec![Record::Enqueued { message, targets }]);
        }
    }

    /// A message for one session that did not come by its own subscriptions.
    pub(super) fn record_queued(&mut self, session: u32, queued: &Queued) {
        if queued.qos == QoS::AtMostOnce {
            return;
        }
        let Some(session) = self.durable(session) else { return };
        let (partition, message) = (session.partition(), queued.message.clone());
        let targets = vec![EnqueuedFor {
            session,
            qos: queued.qos,
            retain: queued.retain,
            identifiers: queued.identifiers.clone(),
            shared: queued.shared.clone(),
        }];
        self.append(partition, vec![Record::Enqueued { message, targets }]);
    }

    /// A session is done with a message.
    pub(super) fn record_acknowledged(&mut self, session: u32, message: MessageId, qos: QoS) {
        if qos != QoS::AtMostOnce {
            self.record_aside(session, |session| Record::Acknowledged { session, message });
        }
    }

    pub(super) fn record_completed(&mut self, session: u32, packet_id: PacketId) {
        self.record_aside(session, |session| Record::Completed { session, packet_id });
    }

    /// Nobody waits for this record.
    fn record_aside(&mut self, session: u32, record: impl FnOnce(ClientKey) -> Record) {
        if let Some(key) = self.durable(session) {
            self.within(None, |shard| shard.append(key.partition(), vec![record(key)]));
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
            let topic = message.app.topic.clone();
            Record::RetainedDeleted { tenant, topic }
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
            (Stage::ExactlyOnce(queued), Some(key)) => {
                let (session, message) = (key.clone(), queued.message.id);
                let record = Record::Sent {
                    session,
                    packet_id,
                    message,
                };
                self.hold_until_stored(now, id, LaneKind::Deliveries, publish, &key, vec![record]);
            }
            (Stage::Released, _) => self.send_pub_rel(now, session, id, packet_id),
            _ => self.deliver_in_order(now, id, publish),
        }
    }

    /// PUBREL, once it is durable that the message is the client's [MQTT-4.3.3-4].
    pub(super) fn send_pub_rel(&mut self, now: Millis, session: u32, id: ConnId, packet_id: PacketId) {
        let reason = nervewire_codec::ReasonCode::Success;
        let Some(key) = self.durable(session) else {
            return self.send_ack(id, nervewire_codec::Packet::PubRel, packet_id, reason);
        };
        let packet = nervewire_codec::Packet::PubRel(nervewire_codec::Ack {
            packet_id,
            reason,
            properties: None,
        });
        let session = key.clone();
        let record = Record::HandedOver { session, packet_id };
        self.hold_until_stored(
            now,
            id,
            LaneKind::Deliveries,
            Outgoing::Packet(packet),
            &key,
            vec![record],
        );
    }

    /// Writes the PUBLISH that is in flight under an identifier.
    pub(super) fn write_in_flight(&mut self, now: Millis, id: ConnId, packet_id: PacketId, dup: bool) {
        let Some(conn) = self.conns.get_mut(id.0 as usize) else {
            return;
        };
        let session = conn.session.and_then(|session| self.sessions.get(session as usize));
        let Some(sent) = session.and_then(|s| s.in_flight.find(packet_id)) else {
            return;
        };
        let (Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued)) = &sent.stage else {
            return;
        };
        let shape = emit::Shape {
            message: queued.message.content(),
            qos: queued.qos,
            retain: queued.retain,
            identifiers: &queued.identifiers,
            dup,
            is_shared: false,
        };
        emit::publish(conn, &shape, Some(packet_id), now, &mut self.cache, &mut self.spare);
        self.counters.sent_messages[queued.qos as usize] += 1;
        self.touch(id);
    }
}

fn state(s: &Session) -> SessionState {
    let will = s.will.as_deref().map(|will| StoredWill {
        message: will.message.clone(),
        delay_s: will.delay_s,
        due_at: s.will_at,
    });
    SessionState {
        client: s.client.clone(),
        expiry_interval_s: s.expiry_interval_s,
        expires_at: s.expires_at,
        will,
    }
}
