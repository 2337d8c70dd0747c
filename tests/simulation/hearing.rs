//! What clients make of the packets that reach them, and whether those may come.

use crate::broker::MAX_PACKET_BYTES;
use crate::client::{Awaited, Phase, ack, number_of};
use crate::oracle::Knowledge;
use crate::trace::{Kept, check};
use crate::world::World;
use bytes::Bytes;
use nervewire_codec::{Ack, ConnAck, Packet, PacketId, Publish, QoS, ReasonCode, Version, decode};

impl World {
    /// A client reads what has arrived, at most so many bytes. Whether anything happened.
    pub(crate) fn hear(&mut self, c: usize, most: usize) -> Kept<bool> {
        let Some(link) = self.clients[c].link else {
            return Ok(false);
        };
        let read = self.net[link].down.read(most);
        let mut busy = !read.is_empty();
        self.clients[c].undecoded.extend(read);
        let bytes = Bytes::from(std::mem::take(&mut self.clients[c].undecoded));
        let version = self.clients[c].habits.version;
        let mut at = 0;
        while self.clients[c].link == Some(link) {
            match decode(&bytes, at, Some(version), MAX_PACKET_BYTES) {
                Ok(Some((packet, used))) => {
                    at += used;
                    self.packet(c, packet)?;
                }
                Ok(None) => break,
                Err(error) => {
                    return check(false, || format!("client {c}: what came is no packet: {error}")).map(|()| false);
                }
            }
        }
        if self.clients[c].link == Some(link) {
            self.clients[c].undecoded = bytes[at..].to_vec();
            if self.net[link].down.is_over() {
                busy = true;
                self.leave_link(c);
            }
        }
        Ok(busy)
    }

    fn packet(&mut self, c: usize, packet: Packet) -> Kept {
        self.trace.note(|| format!("client {c}: hears {packet:?}"));
        if let Packet::ConnAck(connack) = &packet {
            return self.connack(c, connack);
        }
        check(self.clients[c].phase == Phase::Connected, || {
            format!("client {c}: {packet:?} before CONNACK")
        })?;
        match packet {
            Packet::Publish(publish) => self.message(c, &publish),
            Packet::PubAck(ack) => self.acknowledged(c, &ack),
            Packet::PubRec(ack) => self.half_acknowledged(c, &ack),
            Packet::PubRel(ack) => self.released(c, &ack),
            Packet::PubComp(ack) => self.completed(c, &ack),
            Packet::SubAck(suback) => self.subscribed(c, suback.packet_id, &suback.reasons),
            Packet::UnsubAck(unsuback) => self.unsubscribed(c, unsuback.packet_id),
            Packet::Disconnect(disconnect) => {
                let expected = [ReasonCode::SessionTakenOver, ReasonCode::QuotaExceeded];
                check(expected.contains(&disconnect.reason), || {
                    format!("client {c}: {disconnect:?}")
                })?;
                self.leave_link(c);
                Ok(())
            }
            other => check(false, || format!("client {c}: nobody asked for {other:?}")),
        }
    }

    fn connack(&mut self, c: usize, connack: &ConnAck) -> Kept {
        let Phase::Connecting { clean_start } = self.clients[c].phase else {
            return check(false, || format!("client {c}: a second CONNACK"));
        };
        if connack.reason != ReasonCode::Success {
            check(self.oracle.may_refuse, || {
                format!("client {c}: {:?} without trouble", connack.reason)
            })?;
            self.leave_link(c);
            return Ok(());
        }
        let present = connack.session_present;
        self.oracle.check_present(c, clean_start, present)?;
        self.arrived(c);
        let client = &mut self.clients[c];
        if present && client.doubts_session {
            client.wants_clean = true;
            self.leave_link(c);
            return Ok(());
        }
        client.phase = Phase::Connected;
        client.wants_clean = false;
        client.doubts_session = false;
        if !present {
            let at = self.trace.step;
            self.forget(c);
            self.oracle.begins(c, at);
        }
        self.oracle.accounts[c].knowledge = Knowledge::Present;
        // Clean Session of 3.1.1 makes one that ends with the connection: begin the lasting one.
        let client = &self.clients[c];
        if clean_start && client.habits.is_lasting() && client.habits.version != Version::V5 {
            self.oracle.accounts[c].knowledge = Knowledge::Absent;
            self.disconnect(c, 0);
            return Ok(());
        }
        self.send_again(c);
        Ok(())
    }

    fn message(&mut self, c: usize, publish: &Publish) -> Kept {
        let number = number_of(&publish.payload);
        if let Some(packet_id) = publish.packet_id {
            let client = &mut self.clients[c];
            let window = client.habits.window();
            client.connection.open.insert(packet_id);
            check(client.connection.open.len() <= window, || {
                format!("client {c}: more than its Receive Maximum of {window}")
            })?;
            let answer = match publish.qos {
                QoS::ExactlyOnce => Packet::PubRec(ack(packet_id)),
                _ => Packet::PubAck(ack(packet_id)),
            };
            client.connection.answers.push_back(answer);
            if publish.qos == QoS::ExactlyOnce {
                let number = number.unwrap_or(usize::MAX);
                if let Some(known) = client.received.get(&packet_id).copied() {
                    // [MQTT-4.3.3-10]: it is the same message, and has been taken.
                    return check(known == number, || {
                        format!("client {c}: {packet_id} is of {known} and not released, and comes with {number}")
                    });
                }
                client.received.insert(packet_id, number);
            }
        }
        match number {
            Some(number) => self
                .oracle
                .arrives(c, number, &publish.topic, publish.qos, publish.retain),
            None => Ok(()),
        }
    }

    /// The broker's acknowledgements come in the order of what they are for [MQTT-4.6.0-2].
    fn awaited(&mut self, c: usize, awaited: &Awaited) -> Kept {
        let next = self.clients[c].connection.awaited.pop_front();
        check(next.as_ref() == Some(awaited), || {
            format!("client {c}: {awaited:?} comes where {next:?} is next")
        })
    }

    fn acknowledged(&mut self, c: usize, ack: &Ack) -> Kept {
        self.awaited(c, &Awaited::PubAck(ack.packet_id))?;
        let position = self.clients[c]
            .in_flight
            .iter()
            .position(|flight| flight.packet_id == ack.packet_id);
        if let Some(flight) = position.and_then(|position| self.clients[c].in_flight.remove(position)) {
            self.settled(c, flight.number, ack.reason)?;
        }
        Ok(())
    }

    fn settled(&mut self, c: usize, number: usize, reason: ReasonCode) -> Kept {
        if reason.is_error() {
            check(self.oracle.may_refuse, || {
                format!("client {c}: {reason:?} without trouble")
            })?;
            self.oracle.unknown(number);
        } else {
            self.oracle.accepted(number, self.trace.step);
        }
        Ok(())
    }

    fn half_acknowledged(&mut self, c: usize, ack: &Ack) -> Kept {
        self.awaited(c, &Awaited::PubRec(ack.packet_id))?;
        let client = &mut self.clients[c];
        let Some(position) = client
            .in_flight
            .iter()
            .position(|flight| flight.packet_id == ack.packet_id)
        else {
            return Ok(());
        };
        let number = client.in_flight[position].number;
        if ack.reason.is_error() {
            client.in_flight.remove(position);
        } else {
            client.in_flight[position].is_released = true;
            client
                .connection
                .answers
                .push_back(Packet::PubRel(crate::client::ack(ack.packet_id)));
        }
        self.settled(c, number, ack.reason)
    }

    fn released(&mut self, c: usize, ack: &Ack) -> Kept {
        let client = &mut self.clients[c];
        let released = &mut client.connection.released;
        if released.contains(&ack.packet_id) {
            let next = released.pop_front();
            check(next == Some(ack.packet_id), || {
                format!("client {c}: PUBREL of {ack:?} where {next:?} is next")
            })?;
        }
        client.received.remove(&ack.packet_id);
        client
            .connection
            .answers
            .push_back(Packet::PubComp(crate::client::ack(ack.packet_id)));
        Ok(())
    }

    fn completed(&mut self, c: usize, ack: &Ack) -> Kept {
        self.awaited(c, &Awaited::PubComp(ack.packet_id))?;
        let client = &mut self.clients[c];
        let position = client
            .in_flight
            .iter()
            .position(|flight| flight.packet_id == ack.packet_id);
        let flight = position.and_then(|position| client.in_flight.remove(position));
        let forgotten = ack.reason.is_error() && flight.is_some_and(|flight| flight.releases == 1);
        check(!forgotten, || {
            format!("client {c}: the identifier of {ack:?} was forgotten")
        })
    }

    fn subscribed(&mut self, c: usize, packet_id: PacketId, reasons: &[ReasonCode]) -> Kept {
        let next = self.clients[c].connection.awaited.pop_front();
        let Some(Awaited::SubAck(id, filter, asked)) = next else {
            return check(false, || {
                format!("client {c}: SUBACK of {packet_id} where {next:?} is next")
            });
        };
        check(id == packet_id, || {
            format!("client {c}: SUBACK of {packet_id} where {id} is next")
        })?;
        let granted = reasons.iter().all(|reason| !reason.is_error());
        check(granted || self.oracle.may_refuse, || {
            format!("client {c}: SUBACK {reasons:?}")
        })?;
        if granted {
            self.oracle.subscribed(c, filter, asked, self.trace.step);
        }
        Ok(())
    }

    fn unsubscribed(&mut self, c: usize, packet_id: PacketId) -> Kept {
        let next = self.clients[c].connection.awaited.pop_front();
        let Some(Awaited::UnsubAck(id, filter, asked)) = next else {
            return check(false, || {
                format!("client {c}: UNSUBACK of {packet_id} where {next:?} is next")
            });
        };
        check(id == packet_id, || {
            format!("client {c}: UNSUBACK of {packet_id} where {id} is next")
        })?;
        self.oracle.unsubscribed(c, filter, asked, self.trace.step);
        Ok(())
    }
}
