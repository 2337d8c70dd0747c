//! Packets of a connected client, one by one (MQTT 5.0 chapter 3, receiver's side).

use super::{ConnId, Elsewhere, Feed, PluginsHere, Shard};
use crate::session::{Sent, Stage};
use crate::store::Record;
use crate::time::Millis;
use nervewire_codec::{Ack, Packet, PacketId, PublishRef, QoS, ReasonCode, UnsubAck, Unsubscribe, Utf8String, Version};

impl Shard {
    /// The next packet of a connection, a PUBLISH that is still where it was read. `plugins` are asked about it at once.
    pub fn publish(&mut self, now: Millis, id: ConnId, publish: PublishRef<'_>, plugins: &mut dyn PluginsHere) -> Feed {
        let Some(session) = self.hear_from(now, id) else {
            return Feed::Stop;
        };
        self.inbound_publish(now, id, session, publish, plugins);
        self.feed(now, id)
    }

    /// The next packet of a connection.
    pub fn packet(&mut self, now: Millis, id: ConnId, packet: Packet) -> Feed {
        let Some(session) = self.hear_from(now, id) else {
            return Feed::Stop;
        };
        match packet {
            Packet::Publish(publish) => self.inbound_publish(now, id, session, (&publish).into(), &mut Elsewhere),
            Packet::PubAck(ack) => self.acknowledged(now, id, session, &ack),
            Packet::PubRec(ack) => self.received(now, id, session, &ack),
            Packet::PubRel(ack) => self.released(now, id, session, &ack),
            Packet::PubComp(ack) => self.completed(now, session, &ack),
            Packet::Unsubscribe(_) if self.refuses(now, session, id) => {}
            Packet::Subscribe(subscribe) if self.refuses_filters(id, session, &subscribe) => {}
            Packet::Subscribe(subscribe) => {
                self.charge_filters(now, id, subscribe.filters.len());
                self.subscribe(now, id, session, subscribe);
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.charge_filters(now, id, unsubscribe.filters.len());
                self.unsubscribe(now, id, session, unsubscribe);
            }
            // [MQTT-3.12.4-1]
            Packet::PingReq => self.send(id, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.client_disconnects(now, id, &disconnect),
            Packet::Auth(auth) => self.reauthenticate(now, id, session, auth),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => self.protocol_error(now, id, ReasonCode::ProtocolError, "second CONNECT"),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.protocol_error(now, id, ReasonCode::ProtocolError, "a packet that only servers send");
            }
        }
        self.feed(now, id)
    }

    /// A packet came: the session of the connection, unless that is to be heard no more.
    fn hear_from(&mut self, now: Millis, id: ConnId) -> Option<u32> {
        let conn = self.conn_mut(id).filter(|conn| !conn.closing)?;
        conn.last_received = now;
        conn.session
    }

    /// Whether the connection's next packet may be fed.
    pub fn feed(&self, now: Millis, id: ConnId) -> Feed {
        self.conn(id).map_or(Feed::Stop, |conn| conn.feed(now))
    }

    fn inbound_publish(
        &mut self,
        now: Millis,
        id: ConnId,
        session: u32,
        publish: PublishRef<'_>,
        plugins: &mut dyn PluginsHere,
    ) {
        self.counters.received_messages[publish.qos as usize] += 1;
        // [MQTT-3.3.4-6]
        if publish
            .properties
            .as_deref()
            .is_some_and(|p| !p.subscription_identifiers.is_empty())
        {
            return self.protocol_error(
                now,
                id,
                ReasonCode::ProtocolError,
                "a subscription identifier from a client",
            );
        }
        let aliased = match self.resolve_alias(id, &publish) {
            Ok(topic) => topic,
            Err((reason, why)) => return self.protocol_error(now, id, reason, why),
        };
        let topic = aliased.as_ref().map_or(publish.topic, Utf8String::borrowed);
        let publish = PublishRef { topic, ..publish };
        self.count_message_in(session, &publish);
        if let Err((reason, why)) = self.check_bounds(&publish) {
            return self.protocol_error(now, id, reason, why);
        }
        let Some(conn) = self.conn_mut(id) else { return };
        let has_rates = conn.rates.is_some();
        let own = conn.publish_bucket.take(now, 1);
        if let Some(until) = own {
            self.counters.paused_publish_rate += 1;
            self.pause(id, until);
        }
        if has_rates {
            self.charge_publish(now, id, &publish, own);
        }
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        if let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            if let Some(commit) = s.received.get(&packet_id).map(|received| received.commit) {
                // [MQTT-4.3.3-10]: seen before, acknowledged again, not routed again.
                return self.acknowledge_again(now, id, packet_id, commit);
            }
            if s.received.len() >= usize::from(self.config.per_client.receive_maximum) && self.speaks(id, Version::V5) {
                self.counters.receive_maximum_exceeded += 1;
                return self.protocol_error(
                    now,
                    id,
                    ReasonCode::ReceiveMaximumExceeded,
                    "more QoS 2 messages in flight than our Receive Maximum",
                );
            }
        }
        self.judge_publish(now, id, session, publish, plugins);
    }

    /// The topic that a Topic Alias stands for, where the packet has none; else remembers it (3.3.2.3.4).
    fn resolve_alias(
        &mut self,
        id: ConnId,
        publish: &PublishRef<'_>,
    ) -> Result<Option<Utf8String>, (ReasonCode, &'static str)> {
        let Some(alias) = publish.properties.as_deref().and_then(|p| p.topic_alias) else {
            return Ok(None);
        };
        if alias == 0 || alias > crate::limits::TOPIC_ALIAS_MAXIMUM {
            // [MQTT-3.3.2-9]
            return Err((
                ReasonCode::TopicAliasInvalid,
                "topic alias above our Topic Alias Maximum",
            ));
        }
        let Some(conn) = self.conn_mut(id) else { return Ok(None) };
        let slot = usize::from(alias) - 1;
        if conn.inbound_aliases.len() <= slot {
            conn.inbound_aliases.resize(slot + 1, None);
        }
        if !publish.topic.is_empty() {
            conn.inbound_aliases[slot] = Some(publish.topic.to_utf8_string());
            return Ok(None);
        }
        match &conn.inbound_aliases[slot] {
            Some(topic) => Ok(Some(topic.clone())),
            None => Err((ReasonCode::ProtocolError, "topic alias without a topic")),
        }
    }

    fn acknowledged(&mut self, now: Millis, id: ConnId, session: u32, ack: &Ack) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let Some(position) = s.in_flight.position(ack.packet_id) else {
            return;
        };
        let is_qos1 = s
            .in_flight
            .get(position)
            .is_some_and(|sent| matches!(sent.stage, Stage::AtLeastOnce(_)));
        if !is_qos1 {
            return self.protocol_error(now, id, ReasonCode::ProtocolError, "PUBACK for a QoS 2 message");
        }
        // An error in PUBACK discards the message as well [MQTT-4.8.2-6].
        self.discard_in_flight(session, position);
        self.pump(now, session);
    }

    fn received(&mut self, now: Millis, id: ConnId, session: u32, ack: &Ack) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let Some(position) = s.in_flight.position(ack.packet_id) else {
            // The client holds an identifier we do not know: it may forget it.
            return self.send_ack(id, Packet::PubRel, ack.packet_id, ReasonCode::PacketIdentifierNotFound);
        };
        if s.in_flight
            .get(position)
            .is_some_and(|sent| matches!(sent.stage, Stage::AtLeastOnce(_)))
        {
            return self.protocol_error(now, id, ReasonCode::ProtocolError, "PUBREC for a QoS 1 message");
        }
        let order = s.in_flight.get(position).map_or(0, Sent::order);
        if ack.reason.is_error() {
            // [MQTT-4.8.2-6]: refused by the client, the identifier is free again.
            self.discard_in_flight(session, position);
            return self.pump(now, session);
        }
        if self.refuses(now, session, id) {
            return;
        }
        self.change_in_flight(session, |in_flight| in_flight.release(position));
        self.send_pub_rel(now, session, id, ack.packet_id, order);
    }

    /// The client has the message, or does not want it.
    fn discard_in_flight(&mut self, session: u32, position: usize) {
        let sent = self.change_in_flight(session, |in_flight| in_flight.remove(position));
        if self.waits_for_store()
            && let Some(Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued)) = sent.flatten().map(|sent| sent.stage)
        {
            self.record_acknowledged(session, queued.order, queued.qos);
        }
    }

    fn released(&mut self, now: Millis, id: ConnId, session: u32, ack: &Ack) {
        if self.refuses(now, session, id) {
            return;
        }
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let known = s.received.remove(&ack.packet_id).is_some();
        let reason = if known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        let packet_id = ack.packet_id;
        let packet = Packet::PubComp(Ack {
            packet_id,
            reason,
            properties: None,
        });
        // Recorded even where it is not known, as the identifier of a message that was denied.
        self.send_stored(now, id, session, packet, |session| {
            let session = session.clone();
            vec![Record::Released { session, packet_id }]
        });
    }

    fn completed(&mut self, now: Millis, session: u32, ack: &Ack) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let Some(position) = s.in_flight.position(ack.packet_id) else {
            return;
        };
        if s.in_flight
            .get(position)
            .is_some_and(|sent| matches!(sent.stage, Stage::Released(_)))
        {
            self.change_in_flight(session, |in_flight| in_flight.remove(position));
            self.record_completed(session, ack.packet_id);
            self.pump(now, session);
        }
    }

    fn unsubscribe(&mut self, now: Millis, id: ConnId, session: u32, unsubscribe: Unsubscribe) {
        let reasons = unsubscribe
            .filters
            .iter()
            .map(|filter| {
                self.unsubscribes(session, filter);
                match self.remove_subscription(now, session, filter) {
                    true => ReasonCode::Success,
                    false => ReasonCode::NoSubscriptionExisted,
                }
            })
            .collect();
        let ack = UnsubAck {
            packet_id: unsubscribe.packet_id,
            properties: None,
            reasons,
        };
        self.send_stored(now, id, session, Packet::UnsubAck(ack), |session| {
            let gone = |filter| Record::Unsubscribed {
                session: session.clone(),
                filter,
            };
            unsubscribe.filters.into_iter().map(gone).collect()
        });
    }

    pub(super) fn send_ack(&mut self, id: ConnId, kind: fn(Ack) -> Packet, packet_id: PacketId, reason: ReasonCode) {
        self.send(
            id,
            &kind(Ack {
                packet_id,
                reason,
                properties: None,
            }),
        );
    }

    pub(super) fn speaks(&self, id: ConnId, version: Version) -> bool {
        self.conn(id).is_some_and(|conn| conn.version == version)
    }
}
