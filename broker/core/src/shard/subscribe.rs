//! SUBSCRIBE: each filter judged, entered, acknowledged, and its retained messages sent (MQTT 5.0 section 3.8).

use super::commit::Then;
use super::judge::{Judge, Judgement};
use super::lane::{LaneKind, Outgoing};
use super::mesh::SharedKey;
use super::{Answer, Call, CommitId, ConnId, MeshMessage, SessionRef, Shard, Waiter};
use crate::hook::Action;
use crate::message::detached;
use crate::policy::RequestRef;
use crate::store::{ClientKey, Record};
use crate::subscriptions::Subscription;
use crate::time::Millis;
use nervewire_codec::topic::SharedFilter;
use nervewire_codec::{Packet, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Utf8String};
use smallvec::SmallVec;
use std::sync::Arc;

/// A subscription as the index keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Subscription Options.
    pub options: SubscriptionOptions,
    /// Subscription Identifier, 0: none.
    pub identifier: u32,
}

/// A SUBSCRIBE under judgement.
#[derive(Debug)]
pub(super) struct SubscribeFlow {
    conn: ConnId,
    serial: u64,
    session: u32,
    judge: Judge,
    packet: Subscribe,
    /// One per filter judged so far.
    allowed: Vec<bool>,
}

impl SubscribeFlow {
    fn entry(&self, options: SubscriptionOptions) -> Entry {
        let properties = self.packet.properties.as_deref();
        let identifier = properties.and_then(|p| p.subscription_identifiers.first()).copied();
        Entry {
            options,
            identifier: identifier.unwrap_or(0),
        }
    }

    fn acknowledgement(&self, reasons: &[ReasonCode]) -> Packet {
        Packet::SubAck(SubAck {
            packet_id: self.packet.packet_id,
            properties: None,
            reasons: reasons.to_vec(),
        })
    }

    /// What is to be kept of it.
    fn records(&self, session: &ClientKey, reasons: &[ReasonCode]) -> Vec<Record> {
        let granted = self.packet.filters.iter().zip(reasons);
        let granted = granted.filter(|(_, reason)| !reason.is_error());
        let subscribed = granted.map(|(filter, _)| Record::Subscribed {
            session: session.clone(),
            filter: detached(&filter.filter),
            entry: self.entry(filter.options),
        });
        subscribed.collect()
    }

    pub(super) fn conn(&self) -> (ConnId, u64) {
        (self.conn, self.serial)
    }
}

impl Shard {
    pub(super) fn subscribe(&mut self, now: Millis, id: ConnId, session: u32, packet: Subscribe) {
        let (Some(judge), Some(conn)) = (self.judge_of(session), self.conn(id)) else {
            return;
        };
        let allowed = Vec::with_capacity(packet.filters.len());
        let flow = SubscribeFlow {
            conn: id,
            serial: conn.serial,
            session,
            judge,
            packet,
            allowed,
        };
        self.step_subscribe(now, Box::new(flow));
    }

    pub(super) fn subscribe_answered(&mut self, now: Millis, mut flow: Box<SubscribeFlow>, answer: Answer) {
        self.hear(now, &mut flow.judge, answer);
        self.step_subscribe(now, flow);
    }

    fn step_subscribe(&mut self, now: Millis, mut flow: Box<SubscribeFlow>) {
        match self.judge_filters(now, &mut flow) {
            Some(call) => {
                if let Some(conn) = self.same_conn(flow.conn, flow.serial) {
                    conn.waiting = true;
                    self.call(Waiter::Subscribe(flow), call);
                }
            }
            None => self.finish_subscribe(now, *flow),
        }
    }

    fn judge_filters(&mut self, now: Millis, flow: &mut SubscribeFlow) -> Option<Call> {
        while let Some(filter) = flow.packet.filters.get(flow.allowed.len()) {
            let (_, topic) = split(&filter.filter);
            let request = RequestRef {
                action: Action::Subscribe,
                topic,
                qos: filter.options.qos,
                retain: false,
            };
            match self.judge(now, &mut flow.judge, &request) {
                Judgement::Allowed => flow.allowed.push(true),
                Judgement::Denied => {
                    self.counters.denied_subscribe += 1;
                    self.count_denial_on(flow.conn);
                    flow.allowed.push(false);
                }
                Judgement::Ask(call) => return Some(call),
            }
        }
        None
    }

    fn finish_subscribe(&mut self, now: Millis, flow: SubscribeFlow) {
        let session = flow.session;
        if self
            .same_conn(flow.conn, flow.serial)
            .is_none_or(|conn| conn.session != Some(session))
        {
            return; // The connection went while a plugin was asked: nobody waits for the SUBACK.
        }
        // With other shards: the commit of everything that must be so before the SUBACK leaves.
        let commit = (self.config.shards > 1).then(|| self.begin(SmallVec::new()));
        let (reasons, wanted) = self.within(commit, |shard| {
            let added = shard.add_subscriptions(now, &flow);
            shard.announce_interest(now);
            added
        });
        let waits = commit.filter(|commit| self.waits_for_others(*commit));
        match waits {
            Some(commit) => self.acknowledge_later(now, commit, &flow, reasons, wanted),
            None => {
                let records = |session: &ClientKey| flow.records(session, &reasons);
                self.send_stored(now, flow.conn, session, flow.acknowledgement(&reasons), records);
                self.resume(now, flow.conn);
                for (filter, entry) in &wanted {
                    self.gather(now, session, filter, *entry);
                }
            }
        }
        if let Some(commit) = commit {
            self.part_settled(now, commit, Ok(()));
        }
        self.pump(now, session);
    }

    /// Enters what is allowed: a reason for each filter, and those whose retained messages are to be sent.
    fn add_subscriptions(&mut self, now: Millis, flow: &SubscribeFlow) -> (Vec<ReasonCode>, Vec<(Utf8String, Entry)>) {
        let mut wanted = Vec::new();
        let filters = flow.packet.filters.iter().zip(&flow.allowed);
        let reasons = filters.map(|(filter, allowed)| match allowed {
            true => {
                let entry = flow.entry(filter.options);
                self.subscribed_under(flow.session, &filter.filter, flow.judge.policy.generation);
                self.add_subscription(now, flow.session, &filter.filter, entry, &mut wanted)
            }
            false => ReasonCode::NotAuthorized,
        });
        (reasons.collect(), wanted)
    }

    /// Holds the SUBACK, and what is to follow it, until its commit is settled.
    fn acknowledge_later(
        &mut self,
        now: Millis,
        commit: CommitId,
        flow: &SubscribeFlow,
        reasons: Vec<ReasonCode>,
        wanted: Vec<(Utf8String, Entry)>,
    ) {
        if let Some((partition, key)) = self.durable(flow.session) {
            let records = flow.records(&key, &reasons);
            self.within(Some(commit), |shard| shard.append(partition, records));
        }
        let suback = Outgoing::Packet(flow.acknowledgement(&reasons));
        if let Some(release) = self.hold(flow.conn, LaneKind::Acknowledgements, suback) {
            self.follow_by(commit, release);
        }
        let (conn, serial) = flow.conn();
        let filters = wanted.into_iter().map(|(filter, _)| filter).collect();
        self.follow_by(commit, Then::Gather { conn, serial, filters });
        self.resume(now, conn);
    }

    /// Gathers what a connection's SUBSCRIBE wanted, as far as it is still subscribed to.
    pub(super) fn gather_later(&mut self, now: Millis, conn: (ConnId, u64), filters: &[Utf8String]) {
        let (id, serial) = conn;
        let Some(session) = self.same_conn(id, serial).and_then(|conn| conn.session) else {
            return;
        };
        for filter in filters {
            let s = self.sessions.get(session as usize);
            let space = s.and_then(|s| self.spaces.get(s.space as usize));
            let subscription = space.and_then(|space| space.index.get(filter, session)).copied();
            if let Some(subscription) = subscription {
                self.gather(now, session, filter, subscription.entry);
            }
        }
        self.pump(now, session);
    }

    /// Enters a subscription, replacing an equal one [MQTT-3.8.4-3]; `wanted` collects what retained messages are to be sent.
    fn add_subscription(
        &mut self,
        now: Millis,
        session: u32,
        filter: &Utf8String,
        entry: Entry,
        wanted: &mut Vec<(Utf8String, Entry)>,
    ) -> ReasonCode {
        if let Some(reason) = self.filter_over_bound(filter) {
            return reason;
        }
        let Some(s) = self.sessions.get(session as usize) else {
            return ReasonCode::UnspecifiedError;
        };
        let most = s
            .quotas()
            .subscriptions
            .unwrap_or(self.config.per_client.subscriptions_per_client);
        if s.subscriptions.len() >= most as usize && !self.is_subscribed(session, filter) {
            self.counters.subscriptions_refused += 1;
            return ReasonCode::QuotaExceeded;
        }
        match split(filter) {
            (Some(group), topic) => self.join_group(now, session, filter, (group, topic), entry),
            (None, topic) => {
                let new = self.enter_filter(session, topic, entry);
                let send = match entry.options.retain_handling {
                    RetainHandling::Send => true,
                    RetainHandling::SendIfNew => new,
                    RetainHandling::DoNotSend => false,
                };
                // Shared subscriptions get no retained messages (4.8.2).
                if send {
                    wanted.push((filter.clone(), entry));
                } else {
                    self.change_gathers(session, |gathers| gathers.change(topic, entry));
                }
            }
        }
        match entry.options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    fn is_subscribed(&self, session: u32, filter: &str) -> bool {
        let Some(s) = self.sessions.get(session as usize) else {
            return false;
        };
        let space = self.spaces.get(s.space as usize);
        s.subscriptions.shared().contains_key(filter)
            || space.is_some_and(|space| space.index.get(filter, session).is_some())
    }

    /// Enters a filter that is not shared; whether it is new.
    pub(super) fn enter_filter(&mut self, session: u32, filter: &str, entry: Entry) -> bool {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return false;
        };
        let Some(space) = self.spaces.get_mut(s.space as usize) else {
            return false;
        };
        let position = s.subscriptions.next_position();
        let inserted = space.index.insert(filter, session, Subscription { entry, position });
        let Some(replaced) = inserted.replaced else {
            s.subscriptions.push(inserted.filter);
            let tenant = s.client.tenant.clone();
            self.filter_comes(tenant.as_deref(), filter);
            return true;
        };
        if let Some(subscription) = space.index.value_mut(inserted.filter, session) {
            subscription.position = replaced.position;
        }
        false
    }

    /// Takes out a filter that is not shared; whether it was there.
    pub(super) fn take_filter(&mut self, session: u32, filter: &str) -> bool {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return false;
        };
        let space = self.spaces.get_mut(s.space as usize);
        let Some((index, gone)) = space.and_then(|space| {
            let gone = space.index.remove(filter, session)?;
            Some((&mut space.index, gone))
        }) else {
            return false;
        };
        if let Some(moved) = s.subscriptions.remove(gone.position)
            && let Some(subscription) = index.value_mut(moved, session)
        {
            subscription.position = gone.position;
        }
        let tenant = s.client.tenant.clone();
        self.filter_goes(tenant.as_deref(), filter);
        true
    }

    fn join_group(&mut self, now: Millis, session: u32, filter: &Utf8String, parts: (&str, &str), entry: Entry) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        s.subscriptions.insert_shared(detached(filter), entry);
        self.send_join(now, session, parts, entry);
    }

    /// Tells the owner of a group that a session is a member of it.
    pub(super) fn send_join(&mut self, now: Millis, session: u32, parts: (&str, &str), entry: Entry) {
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        let (serial, space, online) = (s.serial, s.space, s.conn.is_some());
        let key = self.shared_key(space, parts.0, parts.1);
        let session = self.reference(session, serial);
        let owner = key.owner(self.config.shards);
        let confirm = self.confirm();
        let join = MeshMessage::SharedJoin {
            key,
            session,
            entry,
            online,
            confirm,
        };
        self.send_mesh(now, owner, join);
    }

    /// Removes a subscription and answers whether it existed.
    pub(super) fn remove_subscription(&mut self, now: Millis, session: u32, filter: &str) -> bool {
        let (Some(_), _) = split(filter) else {
            self.change_gathers(session, |gathers| gathers.forget(filter));
            return self.take_filter(session, filter);
        };
        let s = self.sessions.get_mut(session as usize);
        let removed = s.is_some_and(|s| s.subscriptions.remove_shared(filter));
        if removed {
            self.leave_group(now, session, filter);
        }
        removed
    }

    /// Tells the owner of a shared subscription's group that a session is no member of it; the owner of none is not told.
    pub(super) fn leave_group(&mut self, now: Millis, session: u32, filter: &str) {
        let (Some(group), topic) = split(filter) else { return };
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        let (serial, space) = (s.serial, s.space);
        let key = self.shared_key(space, group, topic);
        let session = self.reference(session, serial);
        let owner = key.owner(self.config.shards);
        self.send_mesh(now, owner, MeshMessage::SharedLeave { key, session });
    }

    /// The filter of one of a session's subscriptions, that which goes with the least effort.
    pub(super) fn last_subscription(&self, session: u32) -> Option<String> {
        let s = self.sessions.get(session as usize)?;
        if let Some(filter) = s.subscriptions.shared().keys().next() {
            return Some(filter.to_string());
        }
        let filter = *s.subscriptions.filters().last()?;
        let space = self.spaces.get(s.space as usize)?;
        Some(space.index.text(filter).to_owned())
    }

    fn reference(&self, slot: u32, serial: u64) -> SessionRef {
        let shard = self.config.shard;
        SessionRef { shard, slot, serial }
    }

    pub(super) fn shared_key(&self, space: u32, group: &str, filter: &str) -> Arc<SharedKey> {
        let tenant = self.spaces.get(space as usize).and_then(|space| space.tenant.clone());
        // Both are parts of a filter that the codec has checked.
        let text = |s: &str| Utf8String::try_from(s).unwrap_or_default();
        Arc::new(SharedKey {
            tenant,
            group: text(group),
            filter: text(filter),
        })
    }
}

/// ShareName and topic filter.
pub(super) fn split(filter: &str) -> (Option<&str>, &str) {
    SharedFilter::parse(filter).map_or((None, filter), |shared| (Some(shared.group), shared.filter))
}
