//! Restoring: the records of the logs, read in their order before anything else happens, become sessions, subscriptions, queues
//! and retained messages again.
//!
//! A record may come twice, and what a checkpoint has appended again comes behind what is younger; the record of a session may
//! come behind those of its messages. So each record is taken as "it is so", never as a change, and what was queued and under way
//! is put in order when all are read (`restored.rs`).

use super::already::Seen;
use super::read_queue::ReadQueue;
use super::restored::Rounds;
use super::subscribe::{Entry, split};
use super::{Shard, ShardInfo, SharedKey};
use crate::hook::Client;
use crate::message::{Message, MessageId, Source, detached};
use crate::queued::Queued;
use crate::session::Will;
use crate::store::{ClientKey, EnqueuedFor, Partition, Position, Record, SessionState, StoredWill};
use crate::table::Table;
use hashbrown::{HashMap, HashSet};
use nervewire_codec::{PacketId, Utf8String};
use std::sync::Arc;

/// What a shard keeps while it is restored.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// By the session's slot.
    pub(super) messages: Table<Messages>,
    pub(super) seen: Seen,
    pub(super) rounds: Rounds,
    /// The largest number that a record has used.
    last_number: u64,
    /// Each shared subscription once, however many messages came by it.
    shared_keys: HashSet<Arc<SharedKey>>,
    /// Who has messages retained, by client identifier.
    sources: HashMap<Arc<str>, Arc<Client>>,
}

/// The messages of one session, in whatever order their records come.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) queue: ReadQueue,
    /// QoS 2 to the client.
    pub(super) sent: HashMap<PacketId, UnderWay>,
    /// QoS 2 from the client: the first of its messages, and what is still to be routed.
    pub(super) received: HashMap<PacketId, (MessageId, Vec<Arc<Message>>)>,
}

/// How far a QoS 2 message to a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnderWay {
    /// PUBREC is due for the queued message of this order.
    Sent(u64),
    /// PUBCOMP is due.
    HandedOver(u64),
}

impl Shard {
    /// A record of one of this shard's partitions, in the order of its log. Before anything else, and to be followed by
    /// [`Shard::restored`].
    pub fn restore(&mut self, partition: Partition, position: Position, record: Record) {
        self.counters.restored_records += 1;
        match record {
            Record::Session(state) => self.restore_session(*state),
            Record::Gone(session) => self.restore_end(&session),
            Record::Subscribed { session, filter, entry } => self.restore_subscription(&session, &filter, entry),
            Record::Unsubscribed { session, filter } => self.restore_unsubscription(&session, &filter),
            Record::Enqueued {
                order,
                message,
                targets,
            } => self.restore_enqueued((partition, position), order, &message, targets),
            Record::Retained(message) => self.restore_retained(message),
            Record::RetainedDeleted { message, tenant, topic } => {
                self.note_number(number_of(message));
                self.restoring().seen.retained_deleted(message);
                self.restore_retained_deleted(tenant.as_ref(), &topic);
            }
            Record::Banned(ban) => self.restore_ban(*ban),
            Record::Lifted(subject) => self.restore_lifted(&subject),
            of_messages => self.restore_message_state(of_messages),
        }
    }

    /// A number above all that records of this shard have used for messages and their order.
    pub fn first_free_number(&self) -> u64 {
        self.restoring.as_ref().map_or(0, |restoring| restoring.last_number) + 1
    }

    fn restore_message_state(&mut self, record: Record) {
        match record {
            Record::Acknowledged { session, order } => {
                self.note_number(order);
                self.messages_of(&session).acknowledged(order);
            }
            Record::Received {
                session,
                packet_id,
                messages,
            } => self.restore_received(&session, packet_id, messages),
            Record::Routed { session, packet_id } => {
                if let Some((_, unrouted)) = self.messages_of(&session).received.get_mut(&packet_id) {
                    *unrouted = Vec::new();
                }
            }
            Record::Released { session, packet_id } => {
                self.messages_of(&session).received.remove(&packet_id);
            }
            Record::Sent {
                session,
                packet_id,
                order,
            } => {
                self.note_number(order);
                let sent = UnderWay::Sent(order);
                self.messages_of(&session).sent.insert(packet_id, sent);
            }
            Record::HandedOver {
                session,
                packet_id,
                order,
            } => {
                self.note_number(order);
                self.messages_of(&session).handed_over(packet_id, order);
            }
            Record::Completed { session, packet_id } => {
                self.messages_of(&session).sent.remove(&packet_id);
            }
            other => debug_assert!(false, "{other:?}"),
        }
    }

    pub(super) fn restoring(&mut self) -> &mut Restoring {
        self.restoring.get_or_insert_default()
    }

    fn note_number(&mut self, number: u64) {
        let restoring = self.restoring();
        restoring.last_number = restoring.last_number.max(number);
    }

    fn note_message(&mut self, message: &Message) {
        self.note_number(number_of(message.id));
    }

    /// The session of a key; made where its own record is still to come.
    fn restored_session(&mut self, key: &ClientKey) -> u32 {
        match self.sessions.find(key.tenant.as_deref(), &key.client_id) {
            Some(slot) => slot,
            None => self.new_session(Arc::new(unknown_client(key))),
        }
    }

    fn messages_of(&mut self, key: &ClientKey) -> &mut Messages {
        let slot = self.restored_session(key) as usize;
        self.restoring().messages_at(slot)
    }

    fn restore_session(&mut self, state: SessionState) {
        let slot = self.restored_session(&ClientKey::of(&state.client));
        self.sessions.mark_stored(slot as usize);
        let Some(s) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        s.expiry_interval_s = state.expiry_interval_s;
        s.expires_at = state.expires_at;
        s.will_at = state.will.as_ref().and_then(|will| will.due_at);
        s.will = state.will.map(will_of);
        s.client = state.client;
        s.set_quotas(state.quotas);
    }

    fn restore_end(&mut self, key: &ClientKey) {
        let Some(slot) = self.sessions.find(key.tenant.as_deref(), &key.client_id) else {
            return;
        };
        while let Some(filter) = self.last_filter(slot) {
            self.take_filter(slot, &filter);
        }
        self.restoring().messages.remove(slot as usize);
        if let Some(s) = self.sessions.try_remove(slot as usize) {
            self.leave_space(s.space);
        }
    }

    fn last_filter(&self, slot: u32) -> Option<String> {
        let s = self.sessions.get(slot as usize)?;
        let filter = *s.subscriptions.filters().last()?;
        let space = self.spaces.get(s.space as usize)?;
        Some(space.index.text(filter).to_owned())
    }

    /// Shared ones are entered in their groups when all records are read.
    fn restore_subscription(&mut self, key: &ClientKey, filter: &Utf8String, entry: Entry) {
        let slot = self.restored_session(key);
        match split(filter) {
            (None, topic) => _ = self.enter_filter(slot, topic, entry),
            (Some(_), _) => {
                if let Some(s) = self.sessions.get_mut(slot as usize) {
                    s.subscriptions.insert_shared(detached(filter), entry);
                }
            }
        }
    }

    fn restore_unsubscription(&mut self, key: &ClientKey, filter: &Utf8String) {
        let slot = self.restored_session(key);
        match split(filter) {
            (None, topic) => _ = self.take_filter(slot, topic),
            (Some(_), _) => {
                if let Some(s) = self.sessions.get_mut(slot as usize) {
                    s.subscriptions.remove_shared(filter);
                }
            }
        }
    }

    fn restore_enqueued(
        &mut self,
        place: (Partition, Position),
        order: u64,
        message: &Arc<Message>,
        targets: Vec<EnqueuedFor>,
    ) {
        self.note_number(order);
        self.note_message(message);
        self.restoring().seen.enqueued(place.0, message, &targets);
        self.sharing.note(message.queue_bytes() as u64, targets.len());
        for target in targets {
            let slot = self.restored_session(&target.session) as usize;
            let restoring = self.restoring.get_or_insert_default();
            let queued = restoring.copy(message, order, place.1, target);
            restoring.messages_at(slot).queue.insert(queued);
        }
    }

    fn restore_received(&mut self, key: &ClientKey, packet_id: PacketId, messages: Vec<Arc<Message>>) {
        messages.iter().for_each(|message| self.note_message(message));
        let first = messages.first().map_or(0, |message| message.id);
        let messages = messages.into_iter().map(in_memory).collect();
        self.messages_of(key).received.insert(packet_id, (first, messages));
    }

    fn restore_retained(&mut self, message: Arc<Message>) {
        self.note_message(&message);
        self.restoring().seen.retained(&message);
        let space = self.space_of(message.tenant.as_ref());
        let mut message = Arc::unwrap_or_clone(in_memory(message));
        message.source = message.source.map(|source| self.restoring().source(source));
        self.set_retained(space, &Arc::new(message));
    }

    fn restore_retained_deleted(&mut self, tenant: Option<&Arc<str>>, topic: &Utf8String) {
        let space = self.space_of(tenant);
        if let Some(space) = self.spaces.get_mut(space as usize) {
            let before = ShardInfo::of(&space.retained);
            space.retained.remove(topic);
            self.retained.exchange(before, ShardInfo::of(&space.retained));
        }
        self.release_space(space);
    }
}

impl Restoring {
    /// Most publishers have many messages retained, and their facts were recorded with each.
    fn source(&mut self, source: Source) -> Source {
        let known = self.sources.entry(source.client.client_id.clone());
        let known = known.or_insert_with(|| source.client.clone());
        if **known != *source.client {
            *known = source.client;
        }
        Source::unjudged(known.clone())
    }

    fn messages_at(&mut self, slot: usize) -> &mut Messages {
        self.messages.get_or_insert_default(slot)
    }

    /// A copy as it waits in a queue. What came by a shared subscription may go to another member and keeps its body.
    fn copy(&mut self, message: &Arc<Message>, order: u64, position: Position, target: EnqueuedFor) -> Queued {
        let mut queued = match target.shared {
            None => Queued::stored(message, order, target.qos, target.retain),
            Some(key) => {
                let key = self.shared_keys.get_or_insert_with(&key, Arc::clone).clone();
                Queued::new(in_memory(message.clone()), order, target.qos, target.retain).by(Some(key))
            }
        };
        queued.place(Some(position));
        queued.with_identifiers(&target.identifiers)
    }
}

impl Messages {
    fn acknowledged(&mut self, order: u64) {
        self.queue.remove(order);
        self.sent.retain(|_, sent| *sent != UnderWay::Sent(order));
    }

    fn handed_over(&mut self, packet_id: PacketId, order: u64) {
        self.queue.remove(order);
        self.sent.insert(packet_id, UnderWay::HandedOver(order));
    }
}

/// What its number is in the count of its shard.
pub(super) fn number_of(message: MessageId) -> u64 {
    message & ((1 << super::MESSAGE_NUMBER_BITS) - 1)
}

/// A message that keeps no larger buffer alive.
fn in_memory(message: Arc<Message>) -> Arc<Message> {
    let mut message = Arc::unwrap_or_clone(message);
    message.app.detach();
    Arc::new(message)
}

fn will_of(stored: StoredWill) -> Box<Will> {
    let StoredWill {
        mut message, delay_s, ..
    } = stored;
    message.detach();
    Box::new(Will { message, delay_s })
}

/// Whose session it is, until its record says more.
fn unknown_client(key: &ClientKey) -> Client {
    Client::unknown(key.client_id.clone(), key.tenant.clone())
}
