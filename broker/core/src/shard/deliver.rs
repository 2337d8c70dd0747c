//! From a session's targets to its connection: queue, window, order, and the judgement of deliveries.

use super::arriving::Arriving;
use super::judge::{Judge, Judgement};
use super::sources::Right;
use super::subscribe::Entry;
use super::{Answer, Call, Shard, Waiter, emit};
use crate::hook::{Action, Client};
use crate::limits::OUTPUT_HIGH_WATER_BYTES;
use crate::message::Content;
use crate::planted::Planted;
use crate::policy::{Native, RequestRef};
use crate::queued::{Queued, grow_slowly};
use crate::session::{Place, Session, Stage};
use crate::store::{Durability, Position};
use crate::time::Millis;
use nervewire_codec::QoS;
use smallvec::SmallVec;
use std::sync::Arc;

/// One session that a message is for.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) session: u32,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: SmallVec<[u32; 2]>,
    /// Of the record of its copy; where there is none, of the last one that was made.
    pub(super) order: u64,
    /// It would have needed a record in a moment when none are taken.
    pub(super) refused: bool,
}

/// How one session gets a message.
struct Delivery<'a> {
    order: u64,
    position: Option<Position>,
    qos: QoS,
    retain: bool,
    identifiers: &'a [u32],
    /// It came by a shared subscription.
    shared: Option<Arc<super::SharedKey>>,
    /// Other sessions get it, too.
    is_shared: bool,
    /// It may not be the first time.
    dup: bool,
}

impl Target {
    pub(super) fn new(session: u32) -> Self {
        Self {
            session,
            qos: QoS::AtMostOnce,
            retain: false,
            identifiers: SmallVec::new(),
            order: 0,
            refused: false,
        }
    }

    /// One more subscription of the session matches.
    pub(super) fn add(&mut self, message: &Content<'_>, entry: &Entry) {
        self.qos = self.qos.max(entry.options.qos.min(message.qos));
        // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
        self.retain |= message.retain && entry.options.retain_as_published;
        if entry.identifier != 0 {
            self.identifiers.push(entry.identifier);
        }
    }
}

impl Shard {
    /// A live message for one session: straight to its connection where nothing stands in the way, else to its queue.
    pub(super) fn deliver_live(&mut self, now: Millis, arriving: &mut Arriving<'_>, target: &Target, is_shared: bool) {
        if target.refused {
            return;
        }
        let session = target.session;
        let message = &arriving.content;
        self.note_live(session, message);
        // It may have expired between two shards; a lifetime of 0 still reaches those who are there.
        if message.is_expired(now) && message.accepted_at < now {
            self.counters.dropped.expired += 1;
            return self.record_acknowledged(session, target.order, target.qos);
        }
        if self.goes_straight(session, target.qos, message) {
            let native = self.decide_natively(session, message, target);
            if self.shadowing.is_some()
                && let Some(allowed) = native
            {
                self.shadow_delivery(now, session, message, target, allowed);
            }
            match native {
                Some(true) => {
                    let delivery = Delivery {
                        order: target.order,
                        position: None,
                        qos: target.qos,
                        retain: target.retain,
                        identifiers: &target.identifiers,
                        shared: None,
                        is_shared,
                        dup: false,
                    };
                    return self.send_now(now, session, arriving, delivery);
                }
                Some(false) => {
                    self.count_denied_delivery();
                    return self.record_acknowledged(session, target.order, target.qos);
                }
                None => {}
            }
        }
        let queued = Queued::new(arriving.keep().clone(), target.order, target.qos, target.retain);
        self.deliver(now, session, queued.with_identifiers(&target.identifiers));
    }

    /// Queues a message and sends what can be sent.
    pub(super) fn deliver(&mut self, now: Millis, session: u32, queued: Queued) {
        let (order, qos) = (queued.order, queued.qos);
        if self.enqueue(now, session, queued) {
            self.pump(now, session);
        } else {
            self.record_acknowledged(session, order, qos);
        }
    }

    /// Whether a message would overtake nothing and need not wait.
    fn goes_straight(&self, session: u32, qos: QoS, message: &Content<'_>) -> bool {
        let Some(s) = self.sessions.get(session as usize) else {
            return false;
        };
        let Some(conn) = s.conn.and_then(|id| self.conn(id)) else {
            return false;
        };
        let in_order = if self.is_paused(s) {
            qos == QoS::AtMostOnce && !s.queue.iter().any(|queued| queued.qos == qos)
        } else {
            s.queue.is_empty() && s.in_flight.resent == s.in_flight.len()
        };
        let bytes = || message.queue_bytes() as u64;
        let room = match qos {
            // Whoever reads gets it whatever others have waiting.
            QoS::AtMostOnce => conn.out.is_empty() || self.memory_allows(bytes()),
            _ => self.window_is_open(s, conn, bytes()) && self.memory_allows(bytes()),
        };
        in_order && room && conn.accepts_output()
    }

    /// What the client's rules say to a delivery; `None`: they must be asked for, or somebody else must.
    fn decide_natively(&self, session: u32, message: &Content<'_>, target: &Target) -> Option<bool> {
        let s = self.sessions.get(session as usize)?;
        if !self.is_reviewed(s) {
            return None;
        }
        if self.is_withheld(session, &message.topic, None) {
            return Some(false);
        }
        if self.needs_no_judgement(session) {
            return Some(true);
        }
        let rules = self.current_rules(session)?;
        let Target { qos, retain, .. } = *target;
        let request = RequestRef {
            action: Action::Deliver,
            topic: &message.topic,
            qos,
            retain,
        };
        match rules.judge(&self.policy, &request, |_| None) {
            Native::Decided(allowed) => Some(allowed),
            Native::Ask(_) => None,
        }
    }

    fn count_denied_delivery(&mut self) {
        self.counters.denied_deliver += 1;
        self.counters.dropped.denied += 1;
    }

    fn needs_no_judgement(&self, session: u32) -> bool {
        self.policy.authorizers.is_empty()
            || self
                .current_rules(session)
                .is_some_and(|rules| !rules.may_deny_deliveries())
    }

    fn send_now(&mut self, now: Millis, session: u32, arriving: &mut Arriving<'_>, delivery: Delivery<'_>) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let Some(id) = s.conn else { return };
        let Some(conn) = self.conns.get_mut(id.0 as usize) else {
            return;
        };
        let Delivery {
            order,
            position,
            qos,
            retain,
            identifiers,
            shared,
            is_shared,
            dup,
        } = delivery;
        let shape = |message| emit::Shape {
            message,
            qos,
            retain,
            identifiers,
            dup,
            is_shared,
        };
        let content = arriving.content;
        if !emit::fits(conn, &shape(content), now) {
            // [MQTT-3.1.2-25]: as if it had been sent.
            self.counters.dropped.too_large += 1;
            return self.record_acknowledged(session, order, qos);
        }
        let packet_id = (qos != QoS::AtMostOnce).then(|| {
            let queued = Queued::new(arriving.keep().clone(), order, qos, retain);
            let mut queued = queued.with_identifiers(identifiers).by(shared);
            queued.place(position);
            self.in_flight_bytes += queued.bytes();
            s.in_flight.push(queued)
        });
        if let Some(packet_id) = packet_id
            && self.config.durability == Durability::Stored
        {
            return self.send_in_flight(now, session, id, packet_id, dup);
        }
        emit::publish(
            conn,
            &shape(arriving.shared()),
            packet_id,
            now,
            &mut self.cache,
            &mut self.spare,
        );
        self.counters.sent_messages[qos as usize] += 1;
        self.count_message_out(session);
        self.touch(id);
    }

    /// Puts a message at the end of a session's queue; at a bound the configured policy decides which message goes.
    pub(super) fn enqueue(&mut self, now: Millis, session: u32, queued: Queued) -> bool {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return false;
        };
        // QoS 0 is not kept for those who are away.
        if s.conn.is_none() && queued.qos == QoS::AtMostOnce {
            self.counters.dropped.offline_qos0 += 1;
            return false;
        }
        if !self.make_room(now, session, queued.bytes()) {
            return false;
        }
        self.hold_queued(session, queued);
        true
    }

    /// Puts a message at the end of a session's queue, whatever the bounds say.
    pub(super) fn hold_queued(&mut self, session: u32, queued: Queued) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let (bytes, absent_bytes) = (queued.bytes(), queued.absent_bytes());
        grow_slowly(&mut s.queue);
        s.queue_bytes += bytes;
        s.queue_absent_bytes += absent_bytes;
        s.queue.push_back(queued);
        self.absent_bytes += absent_bytes;
        self.counters.queued_messages += 1;
        self.counters.queued_bytes += bytes;
    }

    /// The next message of a session's queue.
    pub(super) fn dequeue(&mut self, session: u32) -> Option<Queued> {
        self.remove_queued(session, 0)
    }

    /// The message at a position of a session's queue.
    pub(super) fn remove_queued(&mut self, session: u32, at: usize) -> Option<Queued> {
        let s = self.sessions.get_mut(session as usize)?;
        let queued = s.queue.remove(at)?;
        if s.queue.is_empty() {
            s.queue = std::collections::VecDeque::new();
        }
        let (bytes, absent_bytes) = (queued.bytes(), queued.absent_bytes());
        s.queue_bytes -= bytes;
        s.queue_absent_bytes -= absent_bytes;
        self.absent_bytes -= absent_bytes;
        self.counters.queued_messages -= 1;
        self.counters.queued_bytes -= bytes;
        Some(queued)
    }

    /// Sends what a session has: first what was in flight before it reconnected, then its queue.
    pub(super) fn pump(&mut self, now: Millis, session: u32) {
        self.pump_judged(now, session, None);
    }

    /// As [`Shard::pump`], with what was heard about the next message.
    fn pump_judged(&mut self, now: Millis, session: u32, mut judge: Option<Judge>) {
        if !self
            .sessions
            .get(session as usize)
            .is_some_and(Session::has_more_to_send)
        {
            return;
        }
        self.resend(now, session, &mut judge);
        self.send_queued(now, session, judge);
    }

    /// Redelivers in the original order [MQTT-4.4.0-1], [MQTT-4.6.0-1], what the client may have at this moment.
    fn resend(&mut self, now: Millis, session: u32, judge: &mut Option<Judge>) {
        let paused = self.sessions.get(session as usize).is_some_and(|s| self.is_paused(s));
        let reorders = self.has_planted(Planted::ReorderAfterRedelivery);
        loop {
            let Some(s) = self.sessions.get_mut(session as usize) else {
                return;
            };
            let Some(id) = s.conn else { return };
            let Some(conn) = self.conns.get_mut(id.0 as usize) else {
                return;
            };
            if s.judging || s.in_flight.resent >= usize::from(conn.window) || !conn.accepts_output() || paused {
                return;
            }
            let resent = s.in_flight.resent;
            let next = if reorders {
                s.in_flight.len().wrapping_sub(1 + resent)
            } else {
                resent
            };
            let Some(sent) = s.in_flight.get(next) else {
                return;
            };
            let packet_id = sent.packet_id;
            if sent.queued().is_some_and(|queued| queued.body().is_some()) {
                match self.judge_copy(now, session, Place::InFlight(next), judge) {
                    Judgement::Allowed => {}
                    Judgement::Denied => {
                        self.refuse_in_flight(now, session, next);
                        continue;
                    }
                    Judgement::Ask(call) => return self.ask_about_delivery(session, judge.take(), call),
                }
            }
            let (Some(s), Some(conn)) = (
                self.sessions.get_mut(session as usize),
                self.conns.get_mut(id.0 as usize),
            ) else {
                return;
            };
            let Some(sent) = s.in_flight.get(next) else { return };
            match &sent.stage {
                Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued) => {
                    let Some(message) = queued.body() else { return };
                    let (order, qos) = (queued.order, queued.qos);
                    let shape = emit::Shape {
                        message: message.content(),
                        qos,
                        retain: queued.retain,
                        identifiers: queued.identifiers(),
                        dup: true,
                        is_shared: false,
                    };
                    if !emit::fits(conn, &shape, now) {
                        // [MQTT-3.1.2-25]: this connection accepts less than the last one.
                        self.counters.dropped.too_large += 1;
                        let before = s.in_flight.bytes();
                        s.in_flight.remove(s.in_flight.resent);
                        self.in_flight_bytes -= before - s.in_flight.bytes();
                        self.record_acknowledged(session, order, qos);
                        continue;
                    }
                    if self.config.durability == Durability::Stored {
                        s.in_flight.resent += 1;
                        self.send_in_flight(now, session, id, packet_id, true);
                        continue;
                    }
                    emit::publish(conn, &shape, Some(packet_id), now, &mut self.cache, &mut self.spare);
                    self.counters.sent_messages[qos as usize] += 1;
                    s.in_flight.resent += 1;
                    self.count_message_out(session);
                    self.touch(id);
                }
                Stage::Released(order) => {
                    let order = *order;
                    s.in_flight.resent += 1;
                    self.send_pub_rel(now, session, id, packet_id, order);
                }
            }
        }
    }

    fn send_queued(&mut self, now: Millis, session: u32, judge: Option<Judge>) {
        self.send_resident(now, session, judge);
        self.fetch_ahead(now, session);
    }

    /// Sends the queue as far as its messages are in memory.
    fn send_resident(&mut self, now: Millis, session: u32, mut judge: Option<Judge>) {
        while self.next_may_go(now, session) {
            if self.drop_expired_head(now, session) {
                continue;
            }
            if !self.head_is_here(session) {
                return;
            }
            match self.judge_copy(now, session, Place::Queue(0), &mut judge) {
                Judgement::Allowed => {
                    let Some(q) = self.dequeue(session) else { return };
                    let Some(message) = q.body() else { continue };
                    let delivery = Delivery {
                        order: q.order,
                        position: q.position(),
                        qos: q.qos,
                        retain: q.retain,
                        identifiers: q.identifiers(),
                        shared: q.shared.clone(),
                        is_shared: false,
                        dup: q.may_be_known,
                    };
                    self.send_now(now, session, &mut Arriving::kept(message), delivery);
                }
                Judgement::Denied => {
                    let Some(queued) = self.dequeue(session) else { return };
                    self.refuse_copy(now, session, queued);
                }
                Judgement::Ask(call) => return self.ask_about_delivery(session, judge, call),
            }
        }
    }

    /// Whether the next message may be sent, or judged first: the head of the queue, else a retained one that waits.
    fn next_may_go(&mut self, now: Millis, session: u32) -> bool {
        self.refill(now, session);
        let s = self.sessions.get(session as usize);
        s.is_some_and(|s| {
            let head = s.queue.front();
            head.is_some_and(|head| self.may_send(s, head.qos, head.bytes()))
        })
    }

    fn head_is_here(&self, session: u32) -> bool {
        let head = self.sessions.get(session as usize).and_then(|s| s.queue.front());
        head.is_some_and(|head| head.body().is_some())
    }

    /// Whether a session's client can take a message now.
    pub(super) fn may_send(&self, s: &Session, qos: QoS, bytes: u64) -> bool {
        let Some(conn) = s.conn.and_then(|id| self.conn(id)) else {
            return false;
        };
        let all_resent = s.in_flight.resent == s.in_flight.len();
        let room = qos == QoS::AtMostOnce || (self.window_is_open(s, conn, bytes) && !self.is_paused(s));
        !s.judging && all_resent && room && conn.accepts_output()
    }

    /// Judges one copy of a message, its session's subscriptions before it, by the policy of this moment.
    fn judge_copy(&mut self, now: Millis, session: u32, place: Place, judge: &mut Option<Judge>) -> Judgement {
        if let Some(call) = self.review_first(now, session, judge) {
            return Judgement::Ask(call);
        }
        let s = self.sessions.get(session as usize);
        let Some(copy) = s.and_then(|s| s.copy(place)) else {
            return Judgement::Denied;
        };
        let Some(message) = copy.body().cloned() else {
            return Judgement::Denied;
        };
        if self.is_withheld(session, &message.app.topic, Some(copy)) {
            return Judgement::Denied;
        }
        let (qos, retain) = (copy.qos, copy.retain);
        match self.right_of_source(now, &message) {
            Right::Unknown(source) if retain => return self.ask_for_source(session, source, judge),
            Right::Lost if retain => return Judgement::Denied,
            _ => {}
        }
        if self.needs_no_judgement(session) {
            if self.shadowing.is_some() && matches!(place, Place::Queue(_)) {
                self.shadow_queued(now, session);
            }
            return Judgement::Allowed;
        }
        let Some(fresh) = judge.take().or_else(|| self.judge_of(session)) else {
            return Judgement::Denied;
        };
        let request = RequestRef {
            action: Action::Deliver,
            topic: &message.app.topic,
            qos,
            retain,
        };
        self.judge(now, judge.insert(fresh), &request)
    }

    fn ask_for_source(&mut self, session: u32, source: Arc<Client>, judge: &mut Option<Judge>) -> Judgement {
        let Some(mut fresh) = judge.take().or_else(|| self.judge_of(session)) else {
            return Judgement::Denied;
        };
        fresh.source = Some(source.clone());
        *judge = Some(fresh);
        Judgement::Ask(self.rules_of_source(source))
    }

    /// Where a session's subscriptions are not judged by the policy in force: judges them, or answers what to ask.
    fn review_first(&mut self, now: Millis, session: u32, judge: &mut Option<Judge>) -> Option<Call> {
        let s = self.sessions.get(session as usize)?;
        if self.is_reviewed(s) {
            return None;
        }
        let fresh = judge.take().or_else(|| self.judge_of(session))?;
        self.review(now, session, judge.insert(fresh))
    }

    /// A message in flight that its client may not have any more. At QoS 2 the client may know its identifier, and would take a
    /// later message under it for a repetition: PUBREL ends that.
    fn refuse_in_flight(&mut self, now: Millis, session: u32, at: usize) {
        let s = self.sessions.get(session as usize);
        let stage = s.and_then(|s| s.in_flight.get(at)).map(|sent| &sent.stage);
        match stage {
            Some(Stage::ExactlyOnce(_)) => {
                self.count_denied_delivery();
                self.change_in_flight(session, |in_flight| in_flight.release(at));
            }
            _ => {
                let removed = self
                    .change_in_flight(session, |in_flight| in_flight.remove(at))
                    .flatten();
                if let Some(Stage::AtLeastOnce(queued)) = removed.map(|sent| sent.stage) {
                    self.refuse_copy(now, session, queued);
                }
            }
        }
    }

    /// The session's deliveries wait for the answer, whose plugin time is its connection's of this moment.
    fn ask_about_delivery(&mut self, session: u32, judge: Option<Judge>, call: Call) {
        let (Some(judge), Some(s)) = (judge, self.sessions.get_mut(session as usize)) else {
            return;
        };
        let Some(id) = s.conn else { return };
        let Some(conn) = self.conns.get(id.0 as usize) else {
            return;
        };
        s.judging = true;
        self.call(Waiter::Deliver(Box::new(judge), (id, conn.serial)), call);
    }

    /// An answer about a session's deliveries. It is of no use where session, identity or policy have changed since.
    pub(super) fn deliver_answered(&mut self, now: Millis, mut judge: Judge, answer: Answer) {
        let Some((session, serial)) = judge.session else { return };
        let Some(s) = self.sessions.get_mut(session as usize).filter(|s| s.serial == serial) else {
            return;
        };
        s.judging = false;
        let current = Arc::ptr_eq(&s.client, &judge.client) && Arc::ptr_eq(&self.policy, &judge.policy);
        if current {
            self.hear(now, &mut judge, answer);
        }
        self.pump_judged(now, session, current.then_some(judge));
    }

    /// The driver wrote output: a session that waited for room goes on.
    pub fn written(&mut self, now: Millis, id: super::ConnId) {
        let Some(conn) = self
            .conn(id)
            .filter(|conn| conn.out.len() < OUTPUT_HIGH_WATER_BYTES / 2)
        else {
            return;
        };
        let Some(session) = conn.session else { return };
        self.pump(now, session);
    }
}
