//! SUBSCRIBE: each filter judged, entered, acknowledged, and its retained messages sent (MQTT 5.0 section 3.8).

use super::judge::{Judge, Judgement};
use super::mesh::SharedKey;
use super::{Answer, Call, ConnId, MeshMessage, SessionRef, Shard, Waiter};
use crate::hook::Action;
use crate::limits::MAX_SUBSCRIPTIONS;
use crate::message::detached;
use crate::policy::RequestRef;
use crate::store::Record;
use crate::time::Millis;
use nervewire_codec::topic::SharedFilter;
use nervewire_codec::{Packet, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Utf8String};
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
        let identifier = flow
            .packet
            .properties
            .as_deref()
            .and_then(|p| p.subscription_identifiers.first())
            .copied();
        let entry_of = |options| Entry {
            options,
            identifier: identifier.unwrap_or(0),
        };
        let mut reasons = Vec::with_capacity(flow.allowed.len());
        let mut wanted = Vec::new();
        for (filter, allowed) in flow.packet.filters.iter().zip(&flow.allowed) {
            let entry = entry_of(filter.options);
            let reason = match allowed {
                true => self.add_subscription(now, session, &filter.filter, entry, &mut wanted),
                false => ReasonCode::NotAuthorized,
            };
            reasons.push(reason);
        }
        let ack = SubAck {
            packet_id: flow.packet.packet_id,
            properties: None,
            reasons,
        };
        let granted = ack.reasons.clone();
        let filters = &flow.packet.filters;
        self.send_stored(now, flow.conn, session, Packet::SubAck(ack), |session| {
            let granted = filters.iter().zip(granted).filter(|(_, reason)| !reason.is_error());
            let subscribed = granted.map(|(filter, _)| Record::Subscribed {
                session: session.clone(),
                filter: detached(&filter.filter),
                entry: entry_of(filter.options),
            });
            subscribed.collect()
        });
        self.resume(now, flow.conn);
        for (filter, entry) in wanted {
            self.gather(now, session, filter, entry);
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
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return ReasonCode::UnspecifiedError;
        };
        let known = s.subscriptions.contains(filter);
        let most = s.quotas.subscriptions.unwrap_or(MAX_SUBSCRIPTIONS);
        let full = s.subscriptions.len() >= most as usize;
        if !known && full {
            self.counters.subscriptions_refused += 1;
            return ReasonCode::QuotaExceeded;
        }
        let filter = &detached(filter);
        s.subscriptions.insert(filter.clone());
        let (serial, space) = (s.serial, s.space);
        match split(filter) {
            (Some(group), topic) => {
                let key = self.shared_key(space, group, topic);
                let reference = SessionRef {
                    shard: self.config.shard,
                    slot: session,
                    serial,
                };
                let owner = key.owner(self.config.shards);
                self.send_mesh(
                    now,
                    owner,
                    MeshMessage::SharedJoin {
                        key,
                        session: reference,
                        entry,
                    },
                );
            }
            (None, topic) => {
                if let Some(space) = self.spaces.get_mut(space as usize) {
                    space.index.insert(topic, session, entry);
                }
                let send = match entry.options.retain_handling {
                    RetainHandling::Send => true,
                    RetainHandling::SendIfNew => !known,
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

    /// Removes a subscription and answers whether it existed.
    pub(super) fn remove_subscription(&mut self, now: Millis, session: u32, filter: &Utf8String) -> bool {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return false;
        };
        if !s.subscriptions.remove(filter) {
            return false;
        }
        let (serial, space) = (s.serial, s.space);
        match split(filter) {
            (Some(group), topic) => {
                let key = self.shared_key(space, group, topic);
                let session = SessionRef {
                    shard: self.config.shard,
                    slot: session,
                    serial,
                };
                let owner = key.owner(self.config.shards);
                self.send_mesh(now, owner, MeshMessage::SharedLeave { key, session });
            }
            (None, topic) => {
                if let Some(space) = self.spaces.get_mut(space as usize) {
                    space.index.remove(topic, session);
                }
                self.change_gathers(session, |gathers| gathers.forget(topic));
            }
        }
        true
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
