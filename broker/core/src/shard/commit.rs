//! What waits for the store: appends under their tickets, and commits, each of which is everything that one step waits for.
//!
//! A commit counts its parts: own appends, and other shards that route the same message. While a step is carried out its commit
//! is the current one, so that whatever appends on the way becomes a part of it. When the last part is settled, what the step
//! was to be followed by happens: an acknowledgement leaves its lane, a QoS 2 message is routed, another shard is told.

use super::arriving::Arriving;
use super::connect::Entered;
use super::lane::{Lane, LaneKind, Outcome, Outgoing};
use super::mesh::Confirm;
use super::{ConnId, Feed, MeshMessage, Notice, Shard};
use crate::message::Message;
use crate::store::{Append, AppendFailed, ClientKey, Durability, Partition, Record, Ticket};
use crate::time::Millis;
use hashbrown::HashMap;
use nervewire_codec::{Packet, PacketId, ReasonCode, Utf8String, Version};
use smallvec::{SmallVec, smallvec};
use std::collections::VecDeque;
use std::sync::Arc;

/// A commit of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitId(pub(super) u64);

impl CommitId {
    /// Waits for nothing.
    pub(super) const NONE: Self = Self(0);
}

/// What a shard waits for.
#[derive(Debug, Default)]
pub(super) struct Commits {
    open: HashMap<CommitId, Commit>,
    by_ticket: HashMap<Ticket, CommitId>,
    appends: VecDeque<Append>,
    last_ticket: u64,
    /// Whatever is appended now is a part of this one.
    current: Option<CommitId>,
}

#[derive(Debug)]
struct Commit {
    /// Parts that are not settled; the step itself is one until it has been carried out.
    parts: usize,
    outcome: Outcome,
    then: SmallVec<[Then; 2]>,
}

/// What follows when a commit is settled.
#[derive(Debug)]
pub(super) enum Then {
    /// Another shard's commit has one part less.
    Confirm(Confirm),
    /// A held packet may leave its lane.
    Release {
        conn: ConnId,
        serial: u64,
        lane: LaneKind,
        number: u64,
    },
    /// The identifier of a QoS 2 message is durable: its messages are routed as a part of the commit.
    Route {
        messages: Vec<Arc<Message>>,
        commit: CommitId,
    },
    /// A QoS 2 message is with its targets; where that failed its identifier is forgotten and it may come again.
    Received {
        session: u32,
        serial: u64,
        packet_id: PacketId,
    },
    /// A session was entered.
    Connected(Box<Entered>),
    /// A SUBACK has left: retained messages are gathered.
    Gather {
        conn: ConnId,
        serial: u64,
        filters: Vec<Utf8String>,
    },
}

#[cfg(test)]
impl Commits {
    /// Nobody waits and nothing is left to append.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.by_ticket.is_empty() && self.appends.is_empty()
    }
}

#[cfg(test)]
impl Shard {
    pub(super) fn has_appends(&self) -> bool {
        !self.commits.appends.is_empty()
    }
}

impl Shard {
    /// The next append to carry out; order holds per partition. There are none with [`Durability::Memory`].
    pub fn next_append(&mut self) -> Option<Append> {
        self.commits.appends.pop_front()
    }

    /// The outcome of an append.
    pub fn stored(&mut self, now: Millis, ticket: Ticket, outcome: Result<(), AppendFailed>) {
        self.counters.appends_failed += u64::from(outcome.is_err());
        if let Some(commit) = self.commits.by_ticket.remove(&ticket) {
            self.part_settled(now, commit, outcome);
        }
    }

    pub(super) fn waits_for_store(&self) -> bool {
        self.config.durability == Durability::Stored
    }

    /// A commit with one part, the step that the caller carries out and then settles.
    pub(super) fn begin(&mut self, then: SmallVec<[Then; 2]>) -> CommitId {
        let commit = CommitId(self.next_serial());
        let parts = 1;
        let outcome = Ok(());
        self.commits.open.insert(commit, Commit { parts, outcome, then });
        commit
    }

    /// What is to happen when a commit is settled.
    pub(super) fn follow_by(&mut self, commit: CommitId, then: Then) {
        if let Some(open) = self.commits.open.get_mut(&commit) {
            open.then.push(then);
        }
    }

    /// Carries out a step as a part of a commit, or of none.
    pub(super) fn within<T>(&mut self, commit: Option<CommitId>, step: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.commits.current, commit);
        let answer = step(self);
        self.commits.current = outer;
        answer
    }

    /// Carries out what another shard asked for, and tells it when its records are durable.
    pub(super) fn confirming(&mut self, now: Millis, confirm: Option<Confirm>, step: impl FnOnce(&mut Self)) {
        let Some(confirm) = confirm else {
            return self.within(None, step);
        };
        let commit = self.begin(smallvec![Then::Confirm(confirm)]);
        self.within(Some(commit), step);
        self.part_settled(now, commit, Ok(()));
    }

    /// One more part of the current commit, to be confirmed by whoever gets this.
    pub(super) fn confirm(&mut self) -> Option<Confirm> {
        let commit = self.commits.current?;
        self.commits.open.get_mut(&commit)?.parts += 1;
        let shard = self.config.shard;
        Some(Confirm { shard, commit })
    }

    /// Appends as a part of the current commit, where there is one.
    pub(super) fn append(&mut self, partition: Partition, records: Vec<Record>) {
        self.commits.last_ticket += 1;
        self.counters.appends += 1;
        let ticket = Ticket(self.commits.last_ticket);
        if let Some(commit) = self.commits.current
            && let Some(open) = self.commits.open.get_mut(&commit)
        {
            open.parts += 1;
            self.commits.by_ticket.insert(ticket, commit);
        }
        self.commits.appends.push_back(Append {
            ticket,
            partition,
            records,
        });
    }

    /// One part of a commit is settled. The commit fails if any part does, but not before all are known.
    pub(super) fn part_settled(&mut self, now: Millis, id: CommitId, outcome: Outcome) {
        let Some(commit) = self.commits.open.get_mut(&id) else {
            return;
        };
        commit.parts -= 1;
        commit.outcome = commit.outcome.and(outcome);
        if commit.parts > 0 {
            return;
        }
        let Some(commit) = self.commits.open.remove(&id) else {
            return;
        };
        self.within(None, |shard| {
            for then in commit.then {
                shard.follow(now, then, commit.outcome);
            }
        });
    }

    fn follow(&mut self, now: Millis, then: Then, outcome: Outcome) {
        match then {
            Then::Confirm(Confirm { shard, commit }) => {
                self.send_mesh(now, shard, MeshMessage::Confirmed { commit, outcome });
            }
            Then::Release {
                conn,
                serial,
                lane,
                number,
            } => self.release(now, (conn, serial), lane, number, outcome),
            Then::Route { messages, commit } => {
                if outcome.is_ok() {
                    self.spread_within(now, commit, &messages);
                }
                self.part_settled(now, commit, outcome);
            }
            Then::Received {
                session,
                serial,
                packet_id,
            } => self.received_settled(session, serial, packet_id, outcome),
            Then::Connected(entered) => self.connected(now, *entered, outcome),
            Then::Gather { conn, serial, filters } => self.gather_later(now, (conn, serial), &filters),
        }
    }

    /// Whether a commit waits for more than the step that the caller carries out.
    pub(super) fn waits_for_others(&self, commit: CommitId) -> bool {
        self.commits.open.get(&commit).is_some_and(|open| open.parts > 1)
    }

    pub(super) fn spread_within(&mut self, now: Millis, commit: CommitId, messages: &[Arc<Message>]) {
        self.within(Some(commit), |shard| {
            messages
                .iter()
                .for_each(|message| shard.spread(now, &mut Arriving::kept(message)));
        });
    }

    fn received_settled(&mut self, session: u32, serial: u64, packet_id: PacketId, outcome: Outcome) {
        let Some(s) = self.sessions.get_mut(session as usize).filter(|s| s.serial == serial) else {
            return;
        };
        if outcome.is_err() {
            s.received.remove(&packet_id);
        } else if let Some(session) = self.durable(session) {
            self.append(session.partition(), vec![Record::Routed { session, packet_id }]);
        }
    }

    /// Holds a packet in its lane; the answer, as a part of what follows a commit, lets it go.
    pub(super) fn hold(&mut self, id: ConnId, lane: LaneKind, outgoing: Outgoing) -> Option<Then> {
        let conn = self.conns.get_mut(id.0 as usize)?;
        let was_full = conn.lanes.are_full();
        let number = conn.lanes.lane(lane).hold(outgoing, None);
        self.counters.paused_acknowledgements += u64::from(!was_full && conn.lanes.are_full());
        Some(Then::Release {
            conn: id,
            serial: conn.serial,
            lane,
            number,
        })
    }

    /// An acknowledgement that depends on no append of its own: behind those that wait.
    pub(super) fn send_in_order(&mut self, id: ConnId, packet: Packet) {
        match self.lane_ahead(id, LaneKind::Acknowledgements) {
            Some(lane) => _ = lane.hold(Outgoing::Packet(packet), Some(Ok(()))),
            None => self.send(id, &packet),
        }
    }

    /// Sends an acknowledgement when its records are durable; at once where the session ends with its connection.
    pub(super) fn send_stored(
        &mut self,
        now: Millis,
        id: ConnId,
        session: u32,
        packet: Packet,
        records: impl FnOnce(&ClientKey) -> Vec<Record>,
    ) {
        match self.durable(session) {
            Some(key) => {
                let outgoing = Outgoing::Packet(packet);
                self.hold_until_stored(now, id, LaneKind::Acknowledgements, outgoing, &key, records(&key));
            }
            None => self.send_in_order(id, packet),
        }
    }

    /// A delivery that depends on no append of its own: behind those that wait.
    pub(super) fn deliver_in_order(&mut self, now: Millis, id: ConnId, outgoing: Outgoing) {
        match self.lane_ahead(id, LaneKind::Deliveries) {
            Some(lane) => _ = lane.hold(outgoing, Some(Ok(()))),
            None => self.write(now, id, outgoing),
        }
    }

    /// The lane, where somebody waits in it.
    fn lane_ahead(&mut self, id: ConnId, kind: LaneKind) -> Option<&mut Lane> {
        let conn = self.conn_mut(id)?;
        conn.lanes.are_waited_for(kind).then(|| conn.lanes.lane(kind))
    }

    pub(super) fn hold_until_stored(
        &mut self,
        now: Millis,
        id: ConnId,
        lane: LaneKind,
        outgoing: Outgoing,
        session: &ClientKey,
        records: Vec<Record>,
    ) {
        let Some(release) = self.hold(id, lane, outgoing) else {
            return;
        };
        let commit = self.begin(smallvec![release]);
        self.within(Some(commit), |shard| shard.append(session.partition(), records));
        self.part_settled(now, commit, Ok(()));
    }

    /// The PUBREC of a QoS 2 message that came again: when the first one's may leave.
    pub(super) fn acknowledge_again(&mut self, id: ConnId, packet_id: PacketId, commit: CommitId) {
        let packet = pub_rec(packet_id);
        if !self.commits.open.contains_key(&commit) {
            return self.send_in_order(id, packet);
        }
        if let Some(release) = self.hold(id, LaneKind::Acknowledgements, Outgoing::Packet(packet)) {
            self.follow_by(commit, release);
        }
    }

    fn release(&mut self, now: Millis, conn: (ConnId, u64), kind: LaneKind, number: u64, outcome: Outcome) {
        let (id, serial) = conn;
        let Some(conn) = self.same_conn(id, serial) else { return };
        let was_full = conn.lanes.are_full();
        conn.lanes.lane(kind).settle(number, outcome);
        while let Some((outgoing, outcome)) = self.same_conn(id, serial).and_then(|conn| conn.lanes.lane(kind).next()) {
            match outcome {
                Ok(()) => self.write(now, id, outgoing),
                Err(_) => self.refuse(now, id, outgoing),
            }
        }
        let Some(conn) = self.same_conn(id, serial) else { return };
        if was_full && !conn.lanes.are_full() {
            conn.last_received = now;
            if conn.feed(now) == Feed::More {
                self.notices.push_back(Notice::Resume(id));
            }
        }
    }

    fn write(&mut self, now: Millis, id: ConnId, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Packet(packet) => self.send(id, &packet),
            Outgoing::Publish { packet_id, dup } => self.write_in_flight(now, id, packet_id, dup),
        }
    }

    /// What is not stored is never acknowledged. 5.0 publishers are told; everything else ends the connection, so that the
    /// client does not take silence for slowness.
    fn refuse(&mut self, now: Millis, id: ConnId, outgoing: Outgoing) {
        let reason = ReasonCode::QuotaExceeded;
        let told = self.speaks(id, Version::V5);
        match outgoing {
            Outgoing::Packet(Packet::PubAck(ack)) if told => self.send_ack(id, Packet::PubAck, ack.packet_id, reason),
            Outgoing::Packet(Packet::PubRec(ack)) if told => self.send_ack(id, Packet::PubRec, ack.packet_id, reason),
            _ => self.disconnect(now, id, reason, Some("it could not be stored")),
        }
    }
}

fn pub_rec(packet_id: PacketId) -> Packet {
    Packet::PubRec(nervewire_codec::Ack {
        packet_id,
        reason: ReasonCode::Success,
        properties: None,
    })
}
