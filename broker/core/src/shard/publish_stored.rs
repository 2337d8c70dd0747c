//! Messages that were accepted where there is a store: who is acknowledged waits for what is durable.

use super::arriving::Arriving;
use super::commit::Then;
use super::lane::{LaneKind, NotStored, Outgoing};
use super::publish::{Judged, Origin, acknowledgement, own};
use super::{ConnId, Shard};
use crate::hook::Client;
use crate::message::Message;
use crate::session::Received;
use crate::store::Record;
use crate::time::Millis;
use nervewire_codec::{PacketId, PublishRef, QoS, ReasonCode};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

impl Shard {
    /// With a store: QoS 2 has its identifier stored first, QoS 0 waits for nothing, unless it is to be refused in part.
    #[inline(never)]
    pub(super) fn accept_with_store(
        &mut self,
        now: Millis,
        origin: Origin,
        client: &Arc<Client>,
        publish: PublishRef<'_>,
    ) {
        let generation = self.policy.generation;
        match origin {
            Origin::Packet {
                conn,
                qos: QoS::AtLeastOnce,
                packet_id: Some(packet_id),
                ..
            } => self.accept_within_commit(now, (conn, packet_id), client, publish),
            Origin::Packet { packet_id: None, .. } if !self.is_in_trouble() => {
                self.accept_in_place(now, client, publish);
            }
            _ => self.conclude(now, origin, client, ReasonCode::Success, (generation, [own(publish)])),
        }
    }

    /// Routes a QoS 1 message from where it was read. PUBACK waits only where something is to be stored.
    fn accept_within_commit(
        &mut self,
        now: Millis,
        (id, packet_id): (ConnId, PacketId),
        client: &Arc<Client>,
        publish: PublishRef<'_>,
    ) {
        let commit = self.begin(SmallVec::new());
        self.within(Some(commit), |shard| shard.accept_in_place(now, client, publish));
        let ack = acknowledgement(QoS::AtLeastOnce, packet_id, ReasonCode::Success);
        if self.is_settled_by(commit) {
            self.send_in_order(id, ack);
        } else if let Some(release) = self.hold(id, LaneKind::Acknowledgements, Outgoing::Packet(ack)) {
            self.follow_by(commit, release);
        }
        self.part_settled(now, commit, Ok(()));
    }

    /// Routes what was accepted, and acknowledges it when every record of that is durable. A QoS 2 message of a durable session
    /// is not routed before its identifier is.
    pub(super) fn conclude_stored(
        &mut self,
        now: Millis,
        origin: Origin,
        client: &Arc<Client>,
        (generation, messages): (u64, impl IntoIterator<Item = Judged>),
    ) {
        let messages = messages.into_iter();
        let messages = messages.map(|judged| self.message(now, client, judged, generation));
        let messages: Vec<Arc<Message>> = messages.collect();
        let (conn, qos, packet_id) = match origin {
            Origin::Packet {
                conn,
                qos,
                packet_id: Some(packet_id),
                ..
            } => (conn, qos, packet_id),
            _ => return self.spread_unacknowledged(now, origin, &messages),
        };
        let ack = Outgoing::Packet(acknowledgement(qos, packet_id, ReasonCode::Success));
        let Some(release) = self.hold(conn, LaneKind::Acknowledgements, ack) else {
            return;
        };
        match self.conn(conn).and_then(|conn| conn.session) {
            Some(session) if qos == QoS::ExactlyOnce => {
                self.receive_stored(now, session, packet_id, release, messages);
            }
            _ => {
                let commit = self.begin(smallvec![release]);
                self.spread_within(now, commit, &messages);
                self.part_settled(now, commit, Ok(()));
            }
        }
    }

    /// What nobody is told about. In trouble it reaches who can do without the store, and a will of a session that is in the
    /// store reaches all.
    fn spread_unacknowledged(&mut self, now: Millis, origin: Origin, messages: &[Arc<Message>]) {
        let commit = match origin {
            Origin::Will(Some(leaving)) => leaving,
            // Other shards need not confirm what is not refused.
            _ if !self.is_in_trouble() => {
                return self.within(None, |shard| {
                    let spread = |message| shard.spread(now, &mut Arriving::kept(message));
                    messages.iter().for_each(spread);
                });
            }
            _ => self.begin(SmallVec::new()),
        };
        self.spread_within(now, commit, messages);
        self.part_settled(now, commit, Ok(()));
    }

    fn receive_stored(
        &mut self,
        now: Millis,
        session: u32,
        packet_id: PacketId,
        release: Then,
        messages: Vec<Arc<Message>>,
    ) {
        let durable = self.durable(session);
        if durable.is_some() && self.is_in_trouble() {
            self.counters.appends_failed += 1;
            return self.follow(now, release, Err(NotStored::Refused));
        }
        let Some(serial) = self.sessions.get(session as usize).map(|s| s.serial) else {
            return;
        };
        let received = Then::Received {
            session,
            serial,
            packet_id,
        };
        // What is routed once its identifier is in the log belongs to us.
        let commit = match durable {
            Some(_) => self.begin_owned(smallvec![received, release]),
            None => self.begin(smallvec![received, release]),
        };
        if let Some(s) = self.sessions.get_mut(session as usize) {
            let message = messages.first().map_or(0, |message| message.id);
            s.received.insert(packet_id, Received { commit, message });
        }
        let Some((partition, session)) = durable else {
            self.spread_within(now, commit, &messages);
            return self.part_settled(now, commit, Ok(()));
        };
        let record = Record::Received {
            session,
            packet_id,
            messages: messages.clone(),
        };
        let identifier = self.begin(smallvec![Then::Route { messages, commit }]);
        self.within(Some(identifier), |shard| shard.append(partition, vec![record]));
        self.part_settled(now, identifier, Ok(()));
    }
}
