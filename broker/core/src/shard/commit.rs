//! What waits for the store: appends under their tickets, and commits, each of which is everything that one step waits for.
//!
//! A commit counts its parts: own appends, and other shards that route the same message. While a step is carried out its commit
//! is the current one, so that whatever appends on the way becomes a part of it. When the last part is settled, what the step
//! was to be followed by happens: an acknowledgement leaves its lane, a QoS 2 message is routed, another shard is told.

use super::arriving::Arriving;
use super::connect::Entered;
use super::lane::{Lane, LaneKind, NotStored, Outcome, Outgoing};
use super::mesh::Confirm;
use super::{ConnId, Feed, MeshMessage, Notice, Shard};
use crate::message::Message;
use crate::planted::Planted;
use crate::store::{Append, ClientKey, Durability, Partition, Position, Record, Ticket};
use crate::time::Millis;
use nervewire_codec::{Packet, PacketId, QoS, ReasonCode, Utf8String, Version};
use slab::Slab;
use smallvec::{SmallVec, smallvec};
use std::collections::VecDeque;
use std::sync::Arc;

/// A commit of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitId {
    slot: u32,
    /// Tells it from others in the same slot.
    serial: u32,
}

impl CommitId {
    /// Waits for nothing.
    pub(super) const NONE: Self = Self {
        slot: u32::MAX,
        serial: 0,
    };
}

/// Sessions that a record of a message is for, by slot, each with the order of its copy.
pub(super) type Enqueued = SmallVec<[(u32, u64); 1]>;

/// What a shard waits for.
#[derive(Debug, Default)]
pub(super) struct Commits {
    open: Slab<Commit>,
    last_serial: u32,
    /// What was appended and is not known to be durable, in the order of the tickets.
    pending: VecDeque<Pending>,
    appends: VecDeque<Append>,
    last_ticket: u64,
    /// Whatever is appended now is a part of this one.
    current: Option<CommitId>,
}

#[derive(Debug)]
struct Pending {
    commit: Option<CommitId>,
    /// Copies of the message that is the append's first record.
    enqueued: Enqueued,
}

#[derive(Debug)]
struct Commit {
    serial: u32,
    /// Its messages are in the log already, and are taken whatever trouble the store is in.
    owned: bool,
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
    /// What was leaving a session is where it belongs.
    Settled(Box<ClientKey>),
    /// The log has the end of a session.
    Ended(Box<ClientKey>, CommitId),
    /// A message that came by a shared subscription is with another member.
    GivenAway {
        session: u32,
        serial: u64,
        order: u64,
        qos: QoS,
    },
    /// A ban is recorded.
    Kept(u64),
    /// A session was entered.
    Connected(Box<Entered>),
    /// A SUBACK has left: retained messages are gathered.
    Gather {
        conn: ConnId,
        serial: u64,
        filters: Vec<Utf8String>,
    },
}

impl Commits {
    /// Nobody waits and nothing is left to append.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.pending.is_empty() && self.appends.is_empty()
    }
}

impl Commits {
    fn get(&self, id: CommitId) -> Option<&Commit> {
        let commit = self.open.get(id.slot as usize);
        commit.filter(|commit| commit.serial == id.serial)
    }

    fn get_mut(&mut self, id: CommitId) -> Option<&mut Commit> {
        let commit = self.open.get_mut(id.slot as usize);
        commit.filter(|commit| commit.serial == id.serial)
    }

    fn begin(&mut self, owned: bool, then: SmallVec<[Then; 2]>) -> CommitId {
        self.last_serial = self.last_serial.wrapping_add(1);
        let serial = self.last_serial;
        let slot = self.open.insert(Commit {
            serial,
            owned,
            parts: 1,
            outcome: Ok(()),
            then,
        }) as u32;
        CommitId { slot, serial }
    }
}

#[cfg(test)]
impl Shard {
    pub(super) fn has_appends(&self) -> bool {
        !self.commits.appends.is_empty()
    }
}

impl Shard {
    /// Whether all that was appended is durable, and everything has happened that was to follow it.
    pub fn is_settled(&self) -> bool {
        self.commits.is_empty()
    }

    /// The next append to carry out; order holds per partition. There are none with [`Durability::Memory`].
    pub fn next_append(&mut self) -> Option<Append> {
        self.commits.appends.pop_front()
    }

    /// An append is durable, its records are at these positions. To be called once for each ticket, in their order.
    pub fn stored(&mut self, now: Millis, ticket: Ticket, positions: &[Position]) {
        let next = self.commits.last_ticket + 1 - self.commits.pending.len() as u64;
        debug_assert_eq!(ticket.0, next, "tickets complete in their order");
        let Some(pending) = self.commits.pending.pop_front() else {
            return;
        };
        if let Some(position) = positions.first() {
            for (session, order) in pending.enqueued {
                self.place(session, order, *position);
            }
        }
        if let Some(commit) = pending.commit {
            self.part_settled(now, commit, Ok(()));
        }
    }

    pub(super) fn waits_for_store(&self) -> bool {
        self.config.durability == Durability::Stored
    }

    /// A commit with one part, the step that the caller carries out and then settles.
    pub(super) fn begin(&mut self, then: SmallVec<[Then; 2]>) -> CommitId {
        self.commits.begin(false, then)
    }

    /// As [`Shard::begin`], for messages that are in the log already.
    pub(super) fn begin_owned(&mut self, then: SmallVec<[Then; 2]>) -> CommitId {
        self.commits.begin(true, then)
    }

    /// What is to happen when a commit is settled.
    pub(super) fn follow_by(&mut self, commit: CommitId, then: Then) {
        if let Some(open) = self.commits.get_mut(commit) {
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
        let commit = self.commits.begin(confirm.owned, smallvec![Then::Confirm(confirm)]);
        self.within(Some(commit), step);
        self.part_settled(now, commit, Ok(()));
    }

    /// One more part of the current commit, to be confirmed by whoever gets this.
    pub(super) fn confirm(&mut self) -> Option<Confirm> {
        let commit = self.commits.current?;
        let open = self.commits.get_mut(commit)?;
        open.parts += 1;
        let (shard, owned) = (self.config.shard, open.owned);
        Some(Confirm { shard, commit, owned })
    }

    /// Settles a part of a commit of this shard, of what is in the log already.
    pub(super) fn settles_part_of(&self, commit: CommitId) -> Then {
        let (shard, owned) = (self.config.shard, true);
        Then::Confirm(Confirm { shard, commit, owned })
    }

    /// One more part of a commit, which whoever asks for it settles.
    pub(super) fn add_part(&mut self, commit: CommitId) {
        if let Some(open) = self.commits.get_mut(commit) {
            open.parts += 1;
        }
    }

    /// Appends as a part of the current commit, where there is one.
    pub(super) fn append(&mut self, partition: Partition, records: Vec<Record>) {
        self.append_with(partition, records, Enqueued::new());
    }

    /// Appends a message for sessions.
    pub(super) fn append_enqueued(&mut self, partition: Partition, record: Record, enqueued: Enqueued) {
        if let Record::Enqueued { message, .. } = &record {
            self.sharing.note(message.queue_bytes() as u64, enqueued.len());
        }
        self.append_with(partition, vec![record], enqueued);
    }

    fn append_with(&mut self, partition: Partition, records: Vec<Record>, enqueued: Enqueued) {
        self.commits.last_ticket += 1;
        self.counters.appends += 1;
        let ticket = Ticket(self.commits.last_ticket);
        let early = self.has_planted(Planted::AcknowledgeBeforeCommit);
        let commit = self.commits.current.filter(|_| !early);
        if let Some(open) = commit.and_then(|commit| self.commits.get_mut(commit)) {
            open.parts += 1;
        }
        self.commits.pending.push_back(Pending { commit, enqueued });
        self.commits.appends.push_back(Append {
            ticket,
            partition,
            records,
        });
    }

    /// One part of a commit is settled. The commit fails if any part does, but not before all are known.
    pub(super) fn part_settled(&mut self, now: Millis, id: CommitId, outcome: Outcome) {
        let Some(commit) = self.commits.get_mut(id) else {
            return;
        };
        commit.parts -= 1;
        commit.outcome = commit.outcome.and(outcome);
        if commit.parts > 0 {
            return;
        }
        let commit = self.commits.open.remove(id.slot as usize);
        self.within(None, |shard| {
            for then in commit.then {
                shard.follow(now, then, commit.outcome);
            }
        });
    }

    /// What clients are to hear of all commits, which they hear now instead.
    pub(super) fn take_clients_that_wait(&mut self) -> Vec<Then> {
        let mut taken = Vec::new();
        for (_, commit) in &mut self.commits.open {
            let (clients, others) = std::mem::take(&mut commit.then)
                .into_iter()
                .partition(Then::tells_client);
            commit.then = others;
            taken.extend::<SmallVec<[Then; 2]>>(clients);
        }
        taken
    }

    /// Whether the current step may append. What nobody waits for was there before, and is always taken; anything else is not
    /// while the store is in trouble, and then its commit fails.
    pub(super) fn may_append(&mut self) -> bool {
        if !self.is_in_trouble() {
            return true;
        }
        let Some(current) = self.commits.current.and_then(|current| self.commits.get_mut(current)) else {
            return true;
        };
        if !current.owned {
            current.outcome = Err(NotStored::Refused);
            self.counters.appends_failed += 1;
        }
        current.owned
    }

    pub(super) fn follow(&mut self, now: Millis, then: Then, outcome: Outcome) {
        match then {
            Then::Confirm(Confirm { shard, commit, .. }) => {
                let taken = outcome.is_ok();
                self.send_mesh(now, shard, MeshMessage::Confirmed { commit, taken });
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
            Then::Settled(key) => self.settled(now, &key),
            Then::Ended(key, commit) => self.ended(&key, commit),
            Then::GivenAway {
                session,
                serial,
                order,
                qos,
            } => self.given_away((session, serial), order, qos),
            Then::Kept(number) => self.ban_kept(number),
            Then::Connected(entered) => self.connected(now, *entered, outcome),
            Then::Gather { conn, serial, filters } => self.gather_later(now, (conn, serial), &filters),
        }
    }

    /// Whether a commit waits for anything.
    pub(super) fn is_open(&self, commit: CommitId) -> bool {
        self.commits.get(commit).is_some()
    }

    /// Whether the step that the caller carries out is all that a commit waits for, and nothing was refused.
    pub(super) fn is_settled_by(&self, commit: CommitId) -> bool {
        let open = self.commits.get(commit);
        open.is_none_or(|open| open.parts == 1 && open.outcome.is_ok())
    }

    /// Whether a commit waits for more than the step that the caller carries out.
    pub(super) fn waits_for_others(&self, commit: CommitId) -> bool {
        self.commits.get(commit).is_some_and(|open| open.parts > 1)
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
            // Refused: the client sends it again under another identifier, or this one.
            s.received.remove(&packet_id);
        } else if let Some((partition, session)) = self.durable(session) {
            self.append(partition, vec![Record::Routed { session, packet_id }]);
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
            Some((partition, key)) => {
                let outgoing = Outgoing::Packet(packet);
                self.hold_until_stored(now, id, LaneKind::Acknowledgements, outgoing, partition, records(&key));
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
        partition: Partition,
        records: Vec<Record>,
    ) {
        let Some(release) = self.hold(id, lane, outgoing) else {
            return;
        };
        if self.is_stuck() {
            // It has happened and is recorded, but the client is not to wait.
            self.within(None, |shard| shard.append(partition, records));
            return self.follow(now, release, Err(NotStored::UnderWay));
        }
        let commit = self.begin(smallvec![release]);
        self.within(Some(commit), |shard| shard.append(partition, records));
        self.part_settled(now, commit, Ok(()));
    }

    /// The PUBREC of a QoS 2 message that came again: when the first one's may leave.
    pub(super) fn acknowledge_again(&mut self, now: Millis, id: ConnId, packet_id: PacketId, commit: CommitId) {
        let packet = pub_rec(packet_id);
        if self.commits.get(commit).is_none() {
            return self.send_in_order(id, packet);
        }
        match self.hold(id, LaneKind::Acknowledgements, Outgoing::Packet(packet)) {
            Some(release) if self.is_stuck() => self.follow(now, release, Err(NotStored::UnderWay)),
            Some(release) => self.follow_by(commit, release),
            None => {}
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
                Err(why) => self.refuse(now, id, outgoing, why),
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
    /// client does not take silence for slowness. A QoS 2 message that is under way keeps its identifier: an error in PUBREC
    /// would free that for another message [MQTT-4.3.3-4].
    fn refuse(&mut self, now: Millis, id: ConnId, outgoing: Outgoing, why: NotStored) {
        let reason = ReasonCode::QuotaExceeded;
        let told = self.speaks(id, Version::V5);
        match outgoing {
            Outgoing::Packet(Packet::PubAck(ack)) if told => self.send_ack(id, Packet::PubAck, ack.packet_id, reason),
            Outgoing::Packet(Packet::PubRec(ack)) if told && why == NotStored::Refused => {
                self.send_ack(id, Packet::PubRec, ack.packet_id, reason);
            }
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
