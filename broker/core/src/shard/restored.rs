//! The end of restoring: the records of all shards are read, and each goes on from there.
//!
//! It takes two rounds between the shards, because what follows from the restart (sessions that have expired, wills, QoS 2
//! messages that were under way) is routed, and nobody may route before everybody is known:
//! 1. Groups have their members, and everybody knows which messages will be routed again.
//! 2. Everybody knows what interests the others, and which of those messages they have already.

use super::already::Already;
use super::restore::{Messages, UnderWay, number_of};
use super::subscribe::split;
use super::{CommitId, MeshMessage, Shard};
use crate::message::{Message, MessageId, Source};
use crate::queued::Queued;
use crate::session::{Received, Stage};
use crate::time::Millis;
use hashbrown::HashSet;
use nervewire_codec::{PacketId, QoS, Utf8String};
use smallvec::smallvec;
use std::sync::Arc;

/// How far a shard has come with being restored. Said to all others, behind everything that belongs to the step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Its sessions have joined their groups, and these messages will be routed again.
    Joined(Arc<[MessageId]>),
    /// It has announced what interests it.
    Announced,
}

/// How far this shard and the others have come.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    at: Round,
    joined: u16,
    announced: u16,
    under_way: HashSet<MessageId>,
    /// QoS 2 messages of this shard's clients that are to be routed again.
    unrouted: Vec<Unrouted>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Round {
    #[default]
    Reading,
    Joined,
    Announced,
}

#[derive(Debug)]
struct Unrouted {
    session: u32,
    packet_id: PacketId,
    messages: Vec<Arc<Message>>,
}

impl Shard {
    /// All records of all shards were read: this one goes on from there, once the others have come as far. Numbers of messages go
    /// on at `first_number`, the largest [`Shard::first_free_number`] of all shards.
    pub fn restored(&mut self, now: Millis, first_number: u64) {
        let used = first_number.saturating_sub(1);
        self.next_message = (MessageId::from(self.config.shard) << super::MESSAGE_NUMBER_BITS) | used;
        self.last_order = used;
        let restoring = self.restoring();
        let messages = std::mem::take(&mut restoring.messages);
        self.counters.restored_over_bound += self.restoring().seen.forgotten();
        let unrouted = self.put_in_order(messages);
        self.counters.restored_sessions = self.sessions.len() as u64;
        self.counters.restored_messages = self.counters.queued_messages;
        self.join_groups(now);
        let ids = unrouted.iter().flat_map(|unrouted| &unrouted.messages);
        let ids: Arc<[MessageId]> = ids.map(|message| message.id).collect();
        let rounds = &mut self.restoring().rounds;
        rounds.at = Round::Joined;
        rounds.unrouted = unrouted;
        rounds.under_way.extend(ids.iter());
        self.tell_step(now, &Step::Joined(ids));
        self.go_on_restoring(now);
    }

    /// Records were read, and not all shards have come as far yet. No client is to be let in meanwhile.
    pub fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// Whether the messages of a QoS 2 identifier are to be routed again, when all shards have come so far.
    pub(super) fn is_to_be_routed(&self, session: u32, packet_id: PacketId) -> bool {
        let restoring = self.restoring.as_ref();
        let mut unrouted = restoring.into_iter().flat_map(|restoring| &restoring.rounds.unrouted);
        unrouted.any(|unrouted| unrouted.session == session && unrouted.packet_id == packet_id)
    }

    /// Another shard has come so far.
    pub(super) fn restored_elsewhere(&mut self, now: Millis, step: Step) {
        let rounds = &mut self.restoring().rounds;
        match step {
            Step::Joined(under_way) => {
                rounds.joined += 1;
                rounds.under_way.extend(under_way.iter());
            }
            Step::Announced => rounds.announced += 1,
        }
        self.go_on_restoring(now);
    }

    fn go_on_restoring(&mut self, now: Millis) {
        let others = self.config.shards - 1;
        if self.restoring().rounds.is(Round::Joined) && self.restoring().rounds.joined == others {
            self.look_for_what_is_here(now);
            self.announce_interest(now);
            self.restoring().rounds.at = Round::Announced;
            self.tell_step(now, &Step::Announced);
        }
        if self.restoring().rounds.is(Round::Announced) && self.restoring().rounds.announced == others {
            let unrouted = self.restoring.take().map(|restoring| restoring.rounds.unrouted);
            self.settle_sessions(now);
            for unrouted in unrouted.unwrap_or_default() {
                self.route_again(now, unrouted);
            }
        }
    }

    fn tell_step(&mut self, now: Millis, step: &Step) {
        for shard in self.other_shards() {
            self.send_mesh(now, shard, MeshMessage::Restored(step.clone()));
        }
    }

    /// Puts what was queued and under way in the order of its numbers. Answers what is to be routed again.
    fn put_in_order(&mut self, mut messages: crate::table::Table<Messages>) -> Vec<Unrouted> {
        let slots: Vec<usize> = messages.iter().map(|(slot, _)| slot).collect();
        let mut unrouted = Vec::new();
        for slot in slots {
            if let Some(messages) = messages.remove(slot) {
                self.put_in_order_of(slot as u32, messages, &mut unrouted);
                self.keep_long_queue(slot as u32);
            }
        }
        unrouted
    }

    /// What was in the queue, or in flight and is in the queue now, stays: until the client is back, the bounds are no narrower
    /// than what is there.
    fn keep_long_queue(&mut self, session: u32) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let messages = u32::try_from(s.queue.len()).unwrap_or(u32::MAX);
        let mut quotas = s.quotas();
        if messages > quotas.queue_messages.unwrap_or(self.config.queue_messages) {
            quotas.queue_messages = Some(messages);
        }
        if s.queue_bytes > quotas.queue_bytes.unwrap_or(self.config.queue_bytes) {
            quotas.queue_bytes = Some(s.queue_bytes);
        }
        s.widen_quotas(quotas);
    }

    fn put_in_order_of(&mut self, session: u32, messages: Messages, unrouted: &mut Vec<Unrouted>) {
        let Messages {
            mut queue,
            sent,
            received,
        } = messages;
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let mut sent: Vec<_> = sent.into_iter().collect();
        sent.sort_unstable_by_key(|(_, under_way)| under_way.order());
        for (packet_id, under_way) in sent {
            let stage = match under_way {
                UnderWay::HandedOver(order) => Some(Stage::Released(order)),
                UnderWay::Sent(order) => queue.remove(order).map(Stage::ExactlyOnce),
            };
            stage
                .into_iter()
                .for_each(|stage| s.in_flight.restore(packet_id, stage));
        }
        s.queue = queue.into_queue();
        // What was in flight at QoS 1 is not recorded as such, but was at the head [MQTT-3.3.1-1].
        let in_flight = s.queue.iter_mut().filter(|queued| queued.qos == QoS::AtLeastOnce);
        let in_flight = in_flight.take(usize::from(self.config.per_client.in_flight_messages));
        in_flight.for_each(|queued| queued.may_be_known = true);
        s.queue_bytes = s.queue.iter().map(Queued::bytes).sum();
        s.queue_absent_bytes = s.queue.iter().map(Queued::absent_bytes).sum();
        self.counters.queued_messages += s.queue.len() as u64;
        self.counters.queued_bytes += s.queue_bytes;
        self.in_flight_bytes += s.in_flight.bytes();
        self.absent_bytes += s.absent_bytes();
        let mut received: Vec<_> = received.into_iter().collect();
        // They are routed in the order in which their client has sent them [MQTT-4.6.0-5].
        received.sort_unstable_by_key(|(_, (message, _))| number_of(*message));
        for (packet_id, (message, messages)) in received {
            let commit = CommitId::NONE;
            s.received.insert(packet_id, Received { commit, message });
            if !messages.is_empty() {
                unrouted.push(Unrouted {
                    session,
                    packet_id,
                    messages,
                });
            }
        }
    }

    fn join_groups(&mut self, now: Millis) {
        let members = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.subscriptions.shared().is_empty());
        let members: Vec<u32> = members.map(|(slot, _)| slot as u32).collect();
        for session in members {
            let Some(s) = self.sessions.get(session as usize) else {
                continue;
            };
            let shared = s.subscriptions.shared().iter();
            let mut shared: Vec<(Utf8String, _)> = shared.map(|(filter, entry)| (filter.clone(), *entry)).collect();
            shared.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
            for (filter, entry) in shared {
                if let (Some(group), topic) = split(&filter) {
                    self.send_join(now, session, (group, topic), entry);
                }
            }
        }
    }

    /// Of the messages that will be routed again: which this shard has.
    fn look_for_what_is_here(&mut self, now: Millis) {
        let restoring = self.restoring();
        let under_way = std::mem::take(&mut restoring.rounds.under_way);
        let seen = std::mem::take(&mut restoring.seen);
        let (already, shared) = Already::of(seen, under_way);
        let groups = std::mem::replace(&mut self.already, already).into_groups();
        groups.into_iter().for_each(|(id, key)| self.group_has(id, key));
        for (message, key) in shared {
            let owner = key.owner(self.config.shards);
            self.send_mesh(now, owner, MeshMessage::SharedHas { key, message });
        }
    }

    /// The crash has ended all connections; what that means, and what has come due since, happens now [MQTT-3.1.2-8].
    fn settle_sessions(&mut self, now: Millis) {
        let sessions: Vec<(u32, u64)> = self.sessions.iter().map(|(slot, s)| (slot as u32, s.serial)).collect();
        for (session, serial) in sessions {
            self.settle_session(now, session, serial);
        }
    }

    fn settle_session(&mut self, now: Millis, session: u32, serial: u64) {
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        let (was_recorded, expiry_s) = (s.stored, s.expiry_interval_s);
        let (expires_at, will_at) = (s.expires_at, s.will_at);
        let delay_s = s.will.as_ref().map(|will| will.delay_s);
        // Without a record of its own it is what is left of one that is gone.
        if !was_recorded || expiry_s == 0 || expires_at.is_some_and(|at| at <= now) {
            return self.end_session(now, session);
        }
        let was_connected = (expires_at.is_none() && expiry_s != u32::MAX) || (delay_s.is_some() && will_at.is_none());
        match expires_at {
            Some(at) => self.timers.session_expiry(at, session, serial),
            None => self.schedule_end(now, session, serial, expiry_s),
        }
        match (will_at, delay_s) {
            (Some(at), _) => self.timers.will(at, session, serial),
            (None, Some(delay_s)) if delay_s > 0 => self.schedule_will(now, session, serial, delay_s),
            _ => {}
        }
        if was_connected {
            self.within(None, |shard| shard.record_session(session));
        }
        if will_at.is_none() && delay_s == Some(0) {
            self.will_due(now, session, serial);
        }
    }

    fn route_again(&mut self, now: Millis, unrouted: Unrouted) {
        let Unrouted {
            session,
            packet_id,
            messages,
        } = unrouted;
        let s = self.sessions.get(session as usize);
        let serial = s.map_or(0, |s| s.serial);
        // The record does not say whose right it is, but its session does.
        let source = s.map(|s| Source::unjudged(s.client.clone()));
        let messages: Vec<_> = messages
            .into_iter()
            .map(|message| with_source(message, &source))
            .collect();
        let commit = self.begin_owned(smallvec![super::commit::Then::Received {
            session,
            serial,
            packet_id,
        }]);
        let s = self.sessions.get_mut(session as usize);
        if let Some(received) = s.and_then(|s| s.received.get_mut(&packet_id)) {
            received.commit = commit;
        }
        self.spread_within(now, commit, &messages);
        self.part_settled(now, commit, Ok(()));
    }
}

fn with_source(mut message: Arc<Message>, source: &Option<Source>) -> Arc<Message> {
    if message.app.retain {
        Arc::make_mut(&mut message).source = source.clone();
    }
    message
}

impl Rounds {
    fn is(&self, round: Round) -> bool {
        self.at == round
    }
}

impl UnderWay {
    fn order(self) -> u64 {
        match self {
            Self::Sent(order) | Self::HandedOver(order) => order,
        }
    }
}
