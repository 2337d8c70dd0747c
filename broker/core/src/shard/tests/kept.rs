//! What the records say, replayed, against what the shards hold: after a crash nothing may be missing, and nothing come back.

use super::super::Shard;
use super::scene::{publish, v5};
use super::script::{deliver_rule, policy, rule};
use super::{Broker, each};
use crate::hook::Effect;
use crate::message::Message;
use crate::session::{Session, Stage};
use crate::store::{ClientKey, Record};
use hashbrown::HashMap;
use nervewire_codec::{PacketId, QoS, Utf8String};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state of all partitions by their records.
#[derive(Default)]
pub(super) struct Kept {
    sessions: HashMap<ClientKey, KeptSession>,
    retained: HashMap<(Option<Arc<str>>, Utf8String), Arc<Message>>,
}

#[derive(Debug, Default, PartialEq)]
struct KeptSession {
    expiry_interval_s: u32,
    has_will: bool,
    subscriptions: BTreeSet<String>,
    /// Queued and in flight, by their orders.
    messages: BTreeSet<u64>,
    /// QoS 2 messages under way to the client; `None`: handed over.
    sent: BTreeMap<PacketId, Option<u64>>,
    received: BTreeSet<PacketId>,
}

impl Kept {
    /// Takes a record. One that a checkpoint has appended again says nothing new.
    pub(super) fn replay(&mut self, record: Record, relocated: bool) {
        if relocated && self.knows(&record) {
            return;
        }
        match record {
            Record::Session(state) => {
                let session = self.sessions.entry(ClientKey::of(&state.client)).or_default();
                session.expiry_interval_s = state.expiry_interval_s;
                session.has_will = state.will.is_some();
            }
            Record::Gone(session) => {
                self.sessions.remove(&session).expect("a session");
            }
            Record::Enqueued { order, targets, .. } => {
                for target in targets {
                    assert!(
                        self.session(&target.session).messages.insert(order),
                        "an order of its own"
                    );
                }
            }
            Record::Retained(message) => {
                let key = (message.tenant.clone(), message.app.topic.clone());
                self.retained.insert(key, message);
            }
            Record::RetainedDeleted { tenant, topic, .. } => {
                self.retained.remove(&(tenant, topic));
            }
            // Looked at where they are tested.
            Record::Banned(_) | Record::Lifted(_) => {}
            other => self.replay_of_session(other),
        }
    }

    fn knows(&self, record: &Record) -> bool {
        let of = |key: &ClientKey| self.sessions.get(key).expect("its session");
        match record {
            // What is dropped because it has expired is new.
            Record::Acknowledged { .. } => return false,
            Record::Session(state) => {
                let session = of(&ClientKey::of(&state.client));
                assert_eq!(session.expiry_interval_s, state.expiry_interval_s);
                assert_eq!(session.has_will, state.will.is_some());
            }
            Record::Subscribed { session, filter, .. } => assert!(of(session).subscriptions.contains(filter.as_str())),
            Record::Enqueued { order, targets, .. } => {
                let has = |session: &KeptSession| session.messages.contains(order);
                assert!(targets.iter().all(|target| has(of(&target.session))), "{order}");
            }
            Record::Sent {
                session,
                packet_id,
                order,
            } => assert_eq!(of(session).sent.get(packet_id), Some(&Some(*order))),
            Record::HandedOver { session, packet_id, .. } => {
                assert_eq!(of(session).sent.get(packet_id), Some(&None));
            }
            Record::Received { session, packet_id, .. } => assert!(of(session).received.contains(packet_id)),
            Record::Retained(message) => {
                let key = (message.tenant.clone(), message.app.topic.clone());
                assert_eq!(self.retained.get(&key).map(|kept| kept.id), Some(message.id));
            }
            Record::Banned(_) => {}
            other => panic!("what only ends something: {other:?}"),
        }
        true
    }

    fn replay_of_session(&mut self, record: Record) {
        match record {
            Record::Subscribed { session, filter, .. } => {
                self.session(&session).subscriptions.insert(filter.to_string());
            }
            Record::Unsubscribed { session, filter } => {
                self.session(&session).subscriptions.remove(filter.as_str());
            }
            Record::Acknowledged { session, order } => self.session(&session).forget(order),
            Record::Received { session, packet_id, .. } => {
                self.session(&session).received.insert(packet_id);
            }
            Record::Released { session, packet_id } => {
                self.session(&session).received.remove(&packet_id);
            }
            Record::Sent {
                session,
                packet_id,
                order,
            } => {
                let session = self.session(&session);
                assert!(session.messages.contains(&order), "sent before it was enqueued");
                session.sent.insert(packet_id, Some(order));
            }
            Record::HandedOver {
                session,
                packet_id,
                order,
            } => {
                let session = self.session(&session);
                if let Some(sent) = session.sent.insert(packet_id, None).expect("sent before") {
                    assert_eq!(sent, order);
                    assert!(session.messages.remove(&order));
                }
            }
            Record::Completed { session, packet_id } => {
                assert_eq!(self.session(&session).sent.remove(&packet_id), Some(None));
            }
            other => assert!(matches!(other, Record::Routed { .. }), "{other:?}"),
        }
    }

    fn session(&mut self, key: &ClientKey) -> &mut KeptSession {
        self.sessions.get_mut(key).expect("a record of a session that is known")
    }
}

impl KeptSession {
    fn forget(&mut self, order: u64) {
        assert!(self.messages.remove(&order), "a message that was enqueued");
        self.sent.retain(|_, sent| *sent != Some(order));
    }

    /// As the shard has it.
    fn of(s: &Session, subscriptions: BTreeSet<String>) -> Self {
        let in_flight = || (0..s.in_flight.len()).filter_map(|n| s.in_flight.get(n));
        let queued = s.queue.iter().filter(|queued| queued.qos != QoS::AtMostOnce);
        let mut messages: BTreeSet<u64> = queued.map(|queued| queued.order).collect();
        messages.extend(in_flight().filter_map(|sent| match &sent.stage {
            Stage::AtLeastOnce(queued) | Stage::ExactlyOnce(queued) => Some(queued.order),
            Stage::Released(_) => None,
        }));
        let sent = in_flight().filter_map(|sent| match &sent.stage {
            Stage::AtLeastOnce(_) => None,
            Stage::ExactlyOnce(queued) => Some((sent.packet_id, Some(queued.order))),
            Stage::Released(_) => Some((sent.packet_id, None)),
        });
        Self {
            expiry_interval_s: s.expiry_interval_s,
            has_will: s.will.is_some(),
            subscriptions,
            messages,
            sent: sent.collect(),
            received: s.received.keys().copied().collect(),
        }
    }
}

fn subscriptions(shard: &Shard, s: &Session) -> BTreeSet<String> {
    let index = &shard.spaces[s.space as usize].index;
    let filters = s
        .subscriptions
        .filters()
        .iter()
        .map(|filter| index.text(*filter).to_owned());
    filters
        .chain(s.subscriptions.shared().keys().map(Utf8String::to_string))
        .collect()
}

impl Broker {
    /// Compares, where everything that was appended is stored.
    pub(super) fn check_kept(&mut self) {
        if self
            .shards
            .iter()
            .any(|shard| shard.has_appends() || !shard.waits_for_store())
        {
            return;
        }
        self.check_sessions();
        self.check_retained();
    }

    fn check_sessions(&mut self) {
        let sessions = self
            .shards
            .iter()
            .flat_map(|shard| shard.sessions.iter().map(move |(_, s)| (shard, s)));
        // Of those that something is leaving the log still says what it said before.
        let settled = |shard: &Shard, key: &ClientKey| shard.unsettled(key).is_none();
        let lasting =
            sessions.filter(|(shard, s)| !s.ends_with_connection() && settled(shard, &ClientKey::of(&s.client)));
        let mut count = 0;
        for (shard, s) in lasting {
            count += 1;
            let kept = self
                .kept
                .sessions
                .get_mut(&ClientKey::of(&s.client))
                .expect("its session");
            let mut held = KeptSession::of(s, subscriptions(shard, s));
            // PUBREC with 3.1.1 for a message that was denied leaves an identifier, but nothing that could be lost.
            assert!(kept.received.is_subset(&held.received));
            held.received.clone_from(&kept.received);
            assert_eq!(*kept, held, "{:?}", s.client.client_id);
        }
        let is_settled = |key: &ClientKey| self.shards.iter().all(|shard| settled(shard, key));
        let kept = self.kept.sessions.iter().filter(|(key, _)| is_settled(key));
        let kept = kept.filter(|(_, kept)| kept.expiry_interval_s > 0);
        assert_eq!(kept.count(), count, "sessions that are gone");
    }

    /// What expired needs no record.
    fn check_retained(&self) {
        let held = |shard: &Shard, message: &Message| {
            let found = shard.retained_matching(0, message.tenant.as_ref(), &message.app.topic);
            found.iter().any(|held| held.id == message.id)
        };
        for message in self.kept.retained.values() {
            let is_held = self.shards.iter().any(|shard| held(shard, message));
            assert!(is_held || message.is_expired(self.now), "{message:?}");
        }
        let held: u64 = self
            .shards
            .iter()
            .map(|shard| shard.info_totals().retained_messages as u64)
            .sum();
        assert!(held <= self.kept.retained.len() as u64);
    }
}

#[test]
fn a_message_that_expires_on_its_way_is_not_kept_for_a_session_that_never_gets_it() {
    each(|b| {
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 1);
        let p = b.connect(v5("pub"));
        b.mesh_held = true;
        b.publish_with(p, publish("t", 1, "m"), |properties| {
            properties.message_expiry_interval = Some(1)
        });
        b.advance(2_000);
        b.mesh_held = false;
        b.settle();
        let same_shard = b.shards.len() == 1;
        assert_eq!(b.messages(s).len(), usize::from(same_shard));
        // `each` compares the records.
    });
}

#[test]
fn a_delivery_that_is_denied_is_not_kept() {
    each(|b| {
        b.rules(vec![deliver_rule(Effect::Deny, "t"), rule(Effect::Allow, "#")]);
        b.set_policy(policy(1, 1, 0));
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "#", 1);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "denied");
        b.publish(p, "u", 1, "allowed");
        assert_eq!(b.payloads(s), ["allowed"]);
        // `each` compares the records.
    });
}
