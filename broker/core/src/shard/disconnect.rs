//! How a connection ends, and what that means for its session and will (MQTT 5.0 sections 3.14, 3.1.2.5, 4.1).

use super::mesh::Assignment;
use super::{ConnId, MeshMessage, Notice, SessionRef, Shard};
use crate::planted::Planted;
use crate::session::Stage;
use crate::store::ClientKey;
use crate::time::Millis;
use nervewire_codec::{DecodeError, Disconnect, Packet, PacketType, Properties, QoS, ReasonCode, Utf8String, Version};

impl Shard {
    /// The transport is gone. The driver's number is free again after this.
    pub fn closed(&mut self, now: Millis, id: ConnId) {
        if let Some(session) = self.detach(id) {
            self.counters.disconnects_lost += 1;
            self.connection_ended(now, session, false);
        }
        self.takeovers.forget(id);
        self.forget_output(id);
        self.conns.remove(id.0 as usize);
    }

    /// Bytes that are no packet.
    pub fn malformed(&mut self, now: Millis, id: ConnId, error: &DecodeError) {
        self.count_malformed_packet(id);
        self.counters.disconnects_protocol_error += 1;
        self.disconnect(now, id, error.reason(), Some(&error.to_string()));
    }

    /// The client breaks the protocol.
    pub(super) fn protocol_error(&mut self, now: Millis, id: ConnId, reason: ReasonCode, why: &'static str) {
        self.count_malformed_packet(id);
        self.counters.disconnects_protocol_error += 1;
        self.disconnect(now, id, reason, Some(why));
    }

    /// DISCONNECT from the client.
    pub(super) fn client_disconnects(&mut self, now: Millis, id: ConnId, disconnect: &Disconnect) {
        let Some(session) = self.conn(id).and_then(|conn| conn.session) else {
            return;
        };
        let wanted_s = disconnect.properties.as_deref().and_then(|p| p.session_expiry_interval);
        if let (Some(wanted_s), Some(s)) = (wanted_s, self.sessions.get_mut(session as usize)) {
            if s.expiry_interval_s == 0 && wanted_s != 0 {
                // [MQTT-3.14.2-2]: a session that was to end with its connection cannot be prolonged.
                return self.protocol_error(now, id, ReasonCode::ProtocolError, "session expiry was 0 at CONNECT");
            }
            s.expiry_interval_s = wanted_s;
        }
        self.counters.disconnects_clean += 1;
        self.detach(id);
        // [MQTT-3.14.4-3]: only a normal disconnection discards the will.
        self.connection_ended(now, session, disconnect.reason == ReasonCode::Success);
        self.close(id);
    }

    /// Ends a connection from our side: 5.0 clients are told why.
    pub(super) fn disconnect(&mut self, now: Millis, id: ConnId, reason: ReasonCode, why: Option<&str>) {
        let Some(conn) = self.conn(id).filter(|conn| !conn.closing) else {
            return;
        };
        let connected = conn.session.is_some() && conn.connected;
        if conn.version == Version::V5 && connected {
            let reason = if reason.allowed_in(PacketType::Disconnect) {
                reason
            } else {
                ReasonCode::NotAuthorized
            };
            let reason_string = why.filter(|_| conn.wants_problem_information);
            let properties = reason_string
                .and_then(|why| Utf8String::try_from(why).ok())
                .map(|reason_string| {
                    Box::new(Properties {
                        reason_string: Some(reason_string),
                        ..Properties::default()
                    })
                });
            self.send(id, &Packet::Disconnect(Disconnect { reason, properties }));
        }
        if let Some(session) = self.detach(id) {
            self.connection_ended(now, session, false);
        }
        self.close(id);
    }

    /// Sends every pending will. Nobody will be here to send delayed ones later; those that are in the store have their time
    /// after the restart.
    pub fn settle_wills(&mut self, now: Millis) {
        let waits = |will: &crate::session::Will| will.delay_s > 0;
        let sessions = self.sessions.iter();
        let sessions = sessions.filter(|(_, s)| !(s.stored && s.will.as_deref().is_some_and(waits)));
        let sessions: Vec<(u32, u64)> = sessions.map(|(slot, s)| (slot as u32, s.serial)).collect();
        for (session, serial) in sessions {
            self.will_due(now, session, serial);
        }
    }

    /// Every client is told that we go; what can still be written is in the output buffers.
    pub fn shut_down(&mut self, now: Millis) {
        let open = self.conns.iter().filter(|(_, conn)| !conn.closing);
        let connected: Vec<ConnId> = open.map(|(slot, _)| ConnId(slot as u32)).collect();
        for id in connected {
            self.counters.disconnects_server += 1;
            self.disconnect(now, id, ReasonCode::ServerShuttingDown, None);
        }
    }

    /// A new connection with the same client identifier [MQTT-3.1.4-3].
    pub(super) fn take_over(&mut self, now: Millis, session: u32) {
        let Some(id) = self.sessions.get(session as usize).and_then(|s| s.conn) else {
            return;
        };
        self.counters.disconnects_taken_over += 1;
        self.disconnect(now, id, ReasonCode::SessionTakenOver, None);
        if self.has_planted(Planted::DropOnTakeover) {
            self.dequeue(session);
        }
    }

    /// Writes what waits, then closes. No packet of this connection counts any more.
    pub(super) fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conn_mut(id) else { return };
        if !conn.closing {
            conn.closing = true;
            self.notices.push_back(Notice::Close(id));
        }
    }

    /// Parts a connection from its session.
    pub(super) fn detach(&mut self, id: ConnId) -> Option<u32> {
        let session = self.conn_mut(id)?.session.take()?;
        if let Some(s) = self.sessions.get_mut(session as usize) {
            s.conn = None;
        }
        Some(session)
    }

    pub(super) fn connection_ended(&mut self, now: Millis, session: u32, will_discarded: bool) {
        let forgets = self.has_planted(Planted::ForgetIdentifier);
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        s.gathers = None;
        if forgets {
            s.received.clear();
        }
        if will_discarded {
            s.will = None;
        }
        let (serial, expiry_s) = (s.serial, s.expiry_interval_s);
        let will_delay_s = s.will.as_ref().map(|will| will.delay_s);
        if s.ends_with_connection() {
            return self.end_session(now, session);
        }
        self.leave_memory(session);
        self.shared_presence_of(now, session, false);
        self.schedule_end(now, session, serial, expiry_s);
        if let Some(delay_s) = will_delay_s.filter(|delay_s| *delay_s > 0) {
            self.schedule_will(now, session, serial, delay_s);
        }
        self.record_session(session);
        if will_delay_s == Some(0) {
            self.will_due(now, session, serial);
        }
    }

    pub(super) fn schedule_end(&mut self, now: Millis, session: u32, serial: u64, expiry_s: u32) {
        let at = (expiry_s != u32::MAX).then(|| now + u64::from(expiry_s) * 1_000);
        if let Some(s) = self.sessions.get_mut(session as usize) {
            s.expires_at = at;
        }
        if let Some(at) = at {
            self.timers.session_expiry(at, session, serial);
        }
    }

    pub(super) fn schedule_will(&mut self, now: Millis, session: u32, serial: u64, delay_s: u32) {
        let at = now + u64::from(delay_s) * 1_000;
        if let Some(s) = self.sessions.get_mut(session as usize) {
            s.will_at = Some(at);
        }
        self.timers.will(at, session, serial);
    }

    /// The will is sent now, where one is pending.
    pub(super) fn will_due(&mut self, now: Millis, session: u32, serial: u64) {
        let Some(s) = self.sessions.get_mut(session as usize).filter(|s| s.serial == serial) else {
            return;
        };
        if s.will.is_none() {
            return;
        }
        let leaving = self.leaving(session);
        let will = self.sessions.get_mut(session as usize).and_then(|s| s.will.take());
        if let Some(will) = will {
            self.publish_will(now, session, *will, leaving);
        }
    }

    /// The session is over: its will, its subscriptions, its messages.
    pub(super) fn end_session(&mut self, now: Millis, session: u32) {
        let Some(serial) = self.sessions.get(session as usize).map(|s| s.serial) else {
            return;
        };
        // The will goes out before the session ends, or with it at the latest [MQTT-3.1.2-8].
        self.will_due(now, session, serial);
        let reference = SessionRef {
            shard: self.config.shard,
            slot: session,
            serial,
        };
        // The messages that go elsewhere are there before the log says that the session is gone.
        let leaving = self.leaving(session);
        if leaving.is_some()
            && let Some(s) = self.sessions.get(session as usize)
        {
            self.end_when_settled(&ClientKey::of(&s.client));
        }
        while let Some(filter) = self.last_subscription(session) {
            self.remove_subscription(now, session, &filter);
        }
        let Some(s) = self.sessions.try_remove(reference.slot as usize) else {
            return;
        };
        let space = s.space;
        self.within(leaving, |shard| shard.settle_messages(now, s));
        if let Some(leaving) = leaving {
            self.part_settled(now, leaving, Ok(()));
        }
        self.leave_space(space);
    }

    /// A name space has one session less.
    pub(super) fn leave_space(&mut self, slot: u32) {
        if let Some(space) = self.spaces.get_mut(slot as usize) {
            space.sessions = space.sessions.saturating_sub(1);
        }
        self.release_space(slot);
    }

    /// Shared messages go to other members, where the specification lets them; the others end with the session.
    fn settle_messages(&mut self, now: Millis, mut s: crate::session::Session) {
        self.counters.queued_messages -= s.queue.len() as u64;
        self.counters.queued_bytes -= s.queue_bytes;
        self.in_flight_bytes -= s.in_flight.bytes();
        self.absent_bytes -= s.absent_bytes();
        let dropped = &mut self.counters.dropped;
        let unacknowledged = s.in_flight.drain().filter_map(|sent| match sent.stage {
            // [MQTT-4.8.2-4], [MQTT-4.8.2-5]: QoS 1 goes to another member, QoS 2 in flight ends with its client.
            Stage::AtLeastOnce(queued) => Some(queued),
            Stage::ExactlyOnce(_) => {
                dropped.session_ended += 1;
                None
            }
            Stage::Released(_) => None,
        });
        let waiting: Vec<_> = unacknowledged.chain(s.queue.drain(..)).collect();
        for queued in waiting {
            match queued.shared.clone() {
                Some(key) if queued.qos != QoS::AtMostOnce => {
                    self.copy_leaves(&ClientKey::of(&s.client), queued.order);
                    let owner = key.owner(self.config.shards);
                    let confirm = self.confirm();
                    let delivery = Assignment { queued, confirm };
                    self.send_mesh(now, owner, MeshMessage::Reassign(delivery));
                }
                _ => self.counters.dropped.session_ended += 1,
            }
        }
    }
}
