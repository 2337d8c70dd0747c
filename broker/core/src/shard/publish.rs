//! A message between its PUBLISH and its routing: authorization, transforms, and the acknowledgement that follows.

use super::here::PluginsHere;
use super::judge::{Judge, Judgement, publish_request, request_of};
use super::route::message_properties;
use super::{Answer, Call, CommitId, ConnId, Shard, Waiter};
use crate::fold::failed_transformation;
use crate::hook::{AppMessage, Client, MAX_EMITTED_MESSAGES, Transformation};
use crate::limits::MAX_MESSAGES_PER_PUBLISH;
use crate::policy::{Native, Policy};
use crate::session::{Received, Will};
use crate::time::Millis;
use bytes::Bytes;
use nervewire_codec::{Ack, Packet, PacketId, PublishRef, QoS, ReasonCode, Version};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// One PUBLISH or will under judgement. It keeps the policy it was first judged by.
#[derive(Debug)]
pub(super) struct PublishFlow {
    origin: Origin,
    judge: Judge,
    /// What is still to be judged, the next one last.
    work: SmallVec<[Work; 1]>,
    judged: SmallVec<[Judged; 1]>,
}

/// A message that may go out.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) app: AppMessage,
    /// The client may publish it, and not only a plugin.
    pub(super) own: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Packet {
        conn: ConnId,
        serial: u64,
        qos: QoS,
        packet_id: Option<PacketId>,
    },
    /// Where it is in the log as a part of its session: what waits until it is with its targets.
    Will(Option<CommitId>),
    /// Made by a plugin in its own name: there is nobody to tell.
    Plugin,
}

/// A message and how far it has come.
#[derive(Debug)]
pub(super) struct Work {
    message: AppMessage,
    /// It must be authorized as the client's before anything else.
    unauthorized: bool,
    /// It is the client's, and not there by a plugin's grant.
    own: bool,
    /// The next transform.
    transform: usize,
}

/// How a flow goes on.
enum Next {
    Ask(Call),
    Done(ReasonCode),
}

impl Work {
    /// What a client wants to publish.
    pub(super) fn unauthorized(message: AppMessage) -> Self {
        Self {
            message,
            unauthorized: true,
            own: true,
            transform: 0,
        }
    }

    /// What it may publish, before this transform.
    pub(super) fn authorized(message: AppMessage, transform: usize) -> Self {
        Self {
            unauthorized: false,
            transform,
            ..Self::unauthorized(message)
        }
    }
}

impl PublishFlow {
    pub(super) fn new(origin: Origin, judge: Judge, work: Work) -> Self {
        Self {
            origin,
            judge,
            work: smallvec![work],
            judged: SmallVec::new(),
        }
    }

    /// The connection that waits, with its serial number.
    pub(super) fn conn(&self) -> Option<(ConnId, u64)> {
        match self.origin {
            Origin::Packet { conn, serial, .. } => Some((conn, serial)),
            Origin::Will(_) | Origin::Plugin => None,
        }
    }
}

impl Shard {
    /// A PUBLISH with its topic. The common case, rules decide and no transform is concerned, takes no detour.
    pub(super) fn judge_publish(
        &mut self,
        now: Millis,
        id: ConnId,
        session: u32,
        publish: PublishRef<'_>,
        plugins: &mut dyn PluginsHere,
    ) {
        let Some(serial) = self.conn(id).map(|conn| conn.serial) else {
            return;
        };
        let origin = Origin::Packet {
            conn: id,
            serial,
            qos: publish.qos,
            packet_id: publish.packet_id,
        };
        let native = self.judge_natively(session, &publish);
        if self.shadowing.is_some()
            && let Some(allowed) = native
        {
            self.shadow_publish(now, session, &publish, allowed);
        }
        match native {
            Some(true) => {
                let Some(client) = self.client_of(session) else { return };
                self.let_through(now, origin, &client, publish);
                self.last_publisher = Some(client);
            }
            Some(false) => {
                self.counters.denied_publish += 1;
                self.count_denial_on(id);
                self.acknowledge_origin(origin, ReasonCode::NotAuthorized);
            }
            // Comparisons are with what a flow does.
            None if self.shadowing.is_some() => self.begin_publish(now, origin, session, app_message(publish)),
            None => self.ask_here(now, origin, session, publish, plugins),
        }
    }

    /// Routes a PUBLISH as it is, from where it was read.
    #[inline]
    pub(super) fn let_through(&mut self, now: Millis, origin: Origin, client: &Arc<Client>, publish: PublishRef<'_>) {
        if self.waits_for_store() {
            self.accept_with_store(now, origin, client, publish);
        } else {
            self.accept_in_place(now, client, publish);
            self.acknowledge_origin(origin, ReasonCode::Success);
        }
    }

    /// What the client's rules say to a PUBLISH; `None`: somebody must be asked, or a transform is concerned.
    fn judge_natively(&self, session: u32, publish: &PublishRef<'_>) -> Option<bool> {
        let transforms = &self.policy.transforms;
        if transforms.iter().any(|transform| transform.concerns(&publish.topic)) {
            return None;
        }
        let rules = self.fresh_rules(session)?;
        let request = request_of(publish);
        match rules.judge(&self.policy, &request, |_| None) {
            Native::Decided(allowed) => Some(allowed),
            Native::Ask(_) => None,
        }
    }

    /// The client of a session. Publishers send one message after another: the last one's is not counted up and down for each.
    fn client_of(&mut self, session: u32) -> Option<Arc<Client>> {
        let client = &self.sessions.get(session as usize)?.client;
        let last = self.last_publisher.take().filter(|last| Arc::ptr_eq(last, client));
        Some(last.unwrap_or_else(|| client.clone()))
    }

    /// A will, at the moment it is sent: authorized again, and transformed.
    pub(super) fn publish_will(&mut self, now: Millis, session: u32, will: Will, leaving: Option<CommitId>) {
        self.begin_publish(now, Origin::Will(leaving), session, will.message);
    }

    /// A message that a plugin makes in its own name, which its grants cover: through the transforms after that plugin. A
    /// plugin that is no longer in the policy publishes nothing.
    pub fn publish_from(&mut self, now: Millis, plugin: &Client, message: AppMessage) {
        let mut publishers = self.policy.publishers.iter();
        let Some(publisher) = publishers.find(|publisher| publisher.client.client_id == plugin.client_id) else {
            return;
        };
        let work = Work {
            own: false,
            ..Work::authorized(message, publisher.first_transform)
        };
        let judge = Judge::new(None, publisher.client.clone(), self.policy.clone(), None);
        self.step_publish(now, Box::new(PublishFlow::new(Origin::Plugin, judge, work)));
    }

    /// A message of the broker itself. It goes through no transform, and nobody need be allowed to publish it; who receives it is
    /// judged as ever.
    pub fn announce(&mut self, now: Millis, broker: &Arc<Client>, message: AppMessage) {
        let judged = Judged {
            app: message,
            own: false,
        };
        let judged = (self.policy.generation, [judged]);
        self.conclude(now, Origin::Plugin, broker, ReasonCode::Success, judged);
    }

    fn begin_publish(&mut self, now: Millis, origin: Origin, session: u32, message: AppMessage) {
        let Some(judge) = self.judge_of(session) else { return };
        let flow = PublishFlow::new(origin, judge, Work::unauthorized(message));
        self.step_publish(now, Box::new(flow));
    }

    pub(super) fn publish_answered(&mut self, now: Millis, mut flow: Box<PublishFlow>, answer: Answer) {
        let reason = match answer {
            Answer::Transform(outcome) => self.apply(now, &mut flow, outcome),
            other => {
                self.hear(now, &mut flow.judge, other);
                None
            }
        };
        match reason {
            Some(reason) => self.finish_publish(now, *flow, reason),
            None => self.step_publish(now, flow),
        }
    }

    pub(super) fn step_publish(&mut self, now: Millis, mut flow: Box<PublishFlow>) {
        match self.advance(now, &mut flow) {
            Next::Ask(call) => self.ask_about(flow, call),
            Next::Done(reason) => self.finish_publish(now, *flow, reason),
        }
    }

    /// The connection waits for the answer.
    pub(super) fn ask_about(&mut self, flow: Box<PublishFlow>, call: Call) {
        if let Some(conn) = flow.conn().and_then(|(id, serial)| self.same_conn(id, serial)) {
            conn.waiting = true;
        }
        self.call(Waiter::Publish(flow), call);
    }

    /// Goes on natively as far as possible.
    fn advance(&mut self, now: Millis, flow: &mut PublishFlow) -> Next {
        loop {
            let others = flow.judged.len() + flow.work.len() > 1;
            let Some(work) = flow.work.last_mut() else {
                return Next::Done(ReasonCode::Success);
            };
            if work.unauthorized {
                match self.judge(now, &mut flow.judge, &publish_request(&work.message)) {
                    Judgement::Allowed => work.unauthorized = false,
                    // What a plugin made of a message is left out; the message itself is refused.
                    Judgement::Denied if others => {
                        self.counters.denied_publish += 1;
                        flow.work.pop();
                    }
                    Judgement::Denied => return Next::Done(ReasonCode::NotAuthorized),
                    Judgement::Ask(call) => return Next::Ask(call),
                }
                continue;
            }
            match next_transform(&flow.judge.policy, work) {
                Some(transform) => {
                    if self.shadowing.is_some() {
                        let positions = work.transform..=transform;
                        self.shadow_pass(&flow.judge, &work.message, positions, Some(transform));
                    }
                    work.transform = transform;
                    let (client, message) = (flow.judge.client.clone(), work.message.clone());
                    return Next::Ask(Call::Transform {
                        generation: flow.judge.policy.generation,
                        transform,
                        client,
                        message,
                    });
                }
                None => {
                    if self.shadowing.is_some() {
                        let positions = work.transform..=flow.judge.policy.transforms.len();
                        self.shadow_pass(&flow.judge, &work.message, positions, None);
                    }
                    let judged = flow.work.pop().map(|work| Judged {
                        app: work.message,
                        own: work.own,
                    });
                    flow.judged.extend(judged);
                }
            }
        }
    }

    /// Takes a transform's answer. A reason ends the flow.
    fn apply(
        &mut self,
        now: Millis,
        flow: &mut PublishFlow,
        outcome: Result<Transformation, crate::hook::CallFailed>,
    ) -> Option<ReasonCode> {
        let work = flow.work.pop()?;
        let transform = flow.judge.policy.transforms.get(work.transform)?;
        let outcome = outcome.unwrap_or_else(|_| failed_transformation(transform.on_failure));
        if self.shadowing.is_some() {
            self.shadow_transformed(now, &flow.judge, &work.message, (work.transform, &outcome));
        }
        let next = work.transform + 1;
        let changed = |message: AppMessage| {
            let same_topic = message.topic == work.message.topic;
            let unauthorized = !same_topic && !transform.may_publish(&message.topic);
            Work {
                message,
                unauthorized,
                own: unauthorized || (same_topic && work.own),
                transform: next,
            }
        };
        match outcome {
            Transformation::Pass => flow.work.push(Work {
                transform: next,
                ..work
            }),
            Transformation::Replace(message) => flow.work.push(changed(message)),
            Transformation::Emit(messages) => {
                let others = flow.judged.len() + flow.work.len();
                let room = MAX_MESSAGES_PER_PUBLISH
                    .saturating_sub(others)
                    .min(MAX_EMITTED_MESSAGES);
                self.counters.emitted_over_bound += messages.len().saturating_sub(room) as u64;
                for message in messages.into_iter().take(room).rev() {
                    flow.work.push(changed(message));
                }
            }
            Transformation::Drop => self.counters.transform_dropped += 1,
            Transformation::Reject(reason) => {
                self.counters.transform_rejected += 1;
                return Some(reason);
            }
        }
        None
    }

    fn finish_publish(&mut self, now: Millis, flow: PublishFlow, reason: ReasonCode) {
        let kept_out = match flow.origin {
            Origin::Plugin => None,
            _ => self.kept_out(now, &flow.judge.client),
        };
        let reason = kept_out.map_or(reason, |_| ReasonCode::NotAuthorized);
        let waiting = flow.conn();
        let still_there = waiting.filter(|(id, serial)| self.same_conn(*id, *serial).is_some());
        // Who left before the acknowledgement sends the message again: the answer is discarded.
        let comes_again = matches!(flow.origin, Origin::Packet { packet_id: Some(_), .. });
        if still_there.is_none() && comes_again {
            return;
        }
        let judged = (flow.judge.policy.generation, flow.judged);
        self.conclude(now, flow.origin, &flow.judge.client, reason, judged);
        if let Some((id, _)) = still_there {
            self.resume(now, id);
        }
    }

    /// Routes what was accepted, then acknowledges [MQTT-3.3.4-1].
    pub(super) fn conclude(
        &mut self,
        now: Millis,
        origin: Origin,
        client: &Arc<Client>,
        reason: ReasonCode,
        judged: (u64, impl IntoIterator<Item = Judged>),
    ) {
        if reason.is_error() {
            self.counters.denied_publish += u64::from(reason == ReasonCode::NotAuthorized);
            if let (ReasonCode::NotAuthorized, Origin::Packet { conn, serial, .. }) = (reason, origin)
                && self.same_conn(conn, serial).is_some()
            {
                self.count_denial_on(conn);
            }
            if let Origin::Will(Some(leaving)) = origin {
                self.part_settled(now, leaving, Ok(()));
            }
        } else {
            if self.waits_for_store() {
                return self.conclude_stored(now, origin, client, judged);
            }
            let (generation, messages) = judged;
            for message in messages {
                self.accept(now, client, message, generation);
            }
        }
        self.acknowledge_origin(origin, reason);
    }

    fn acknowledge_origin(&mut self, origin: Origin, reason: ReasonCode) {
        if let Origin::Packet {
            conn,
            serial,
            qos,
            packet_id: Some(packet_id),
        } = origin
        {
            self.acknowledge(conn, serial, qos, packet_id, reason);
        }
    }

    fn acknowledge(&mut self, id: ConnId, serial: u64, qos: QoS, packet_id: PacketId, reason: ReasonCode) {
        let Some(conn) = self.same_conn(id, serial) else { return };
        // 3.x has no reason: a refused message is acknowledged, counted, and reaches nobody [MQTT-3.3.5-2 of 3.1.1].
        let reason = if conn.version == Version::V5 {
            reason
        } else {
            ReasonCode::Success
        };
        let session = conn.session;
        if qos != QoS::ExactlyOnce {
            return self.send_in_order(id, acknowledgement(QoS::AtLeastOnce, packet_id, reason));
        }
        if !reason.is_error()
            && let Some(s) = session.and_then(|slot| self.sessions.get_mut(slot as usize))
        {
            let (commit, message) = (CommitId::NONE, 0);
            s.received.insert(packet_id, Received { commit, message });
        }
        self.send_in_order(id, acknowledgement(qos, packet_id, reason));
    }
}

pub(super) fn acknowledgement(qos: QoS, packet_id: PacketId, reason: ReasonCode) -> Packet {
    let ack = Ack {
        packet_id,
        reason,
        properties: None,
    };
    match qos {
        QoS::ExactlyOnce => Packet::PubRec(ack),
        _ => Packet::PubAck(ack),
    }
}

/// The next transform that is concerned by a message.
fn next_transform(policy: &Policy, work: &Work) -> Option<usize> {
    let rest = policy.transforms.iter().enumerate().skip(work.transform);
    rest.into_iter()
        .find(|(_, transform)| transform.concerns(&work.message.topic))
        .map(|(position, _)| position)
}

pub(super) fn own(publish: PublishRef<'_>) -> Judged {
    Judged {
        app: app_message(publish),
        own: true,
    }
}

/// The message of a PUBLISH; what belongs to the connection stays behind.
pub(super) fn app_message(publish: PublishRef<'_>) -> AppMessage {
    AppMessage {
        topic: publish.topic.to_utf8_string(),
        payload: Bytes::copy_from_slice(publish.payload),
        qos: publish.qos,
        retain: publish.retain,
        properties: message_properties(publish.properties),
    }
}
