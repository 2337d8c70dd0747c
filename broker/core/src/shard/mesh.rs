//! What shards say to each other. Nothing here assumes that they share memory.

use super::arriving::Arriving;
use super::lane::NotStored;
use super::packed::Packed;
use super::restored::Step;
use super::subscribe::Entry;
use super::{CommitId, Shard};
use crate::interest::Announcement;
use crate::limits::WEIGHED_BYTES;
use crate::message::{Message, MessageId};
use crate::queued::Queued;
use crate::store::Partition;
use crate::time::Millis;
use nervewire_codec::Utf8String;
use std::sync::Arc;

/// A message from one shard to another. Between two shards order holds.
#[derive(Clone, Debug)]
pub enum MeshMessage {
    /// A message to route to the receiver's own sessions, shared groups and retained messages.
    Publish {
        /// What.
        message: Arc<Message>,
        /// Who waits until its records are durable.
        confirm: Option<Confirm>,
    },
    /// Small messages to route, nobody waits for their records.
    Packed(Packed),
    /// What interests a shard has changed: see `interest.rs`.
    Interest {
        /// Whose interest.
        from: u16,
        /// To be confirmed under this number.
        number: Option<u64>,
        /// The change.
        announcement: Announcement,
    },
    /// A shard knows what interests the receiver, up to this announcement. Whatever the shard has routed without knowing it is
    /// in the inboxes before.
    InterestKnown {
        /// Who knows.
        shard: u16,
        /// Of the announcement.
        number: u64,
    },
    /// The records that a message made on another shard are durable, or the shard is in trouble and took not all of it.
    Confirmed {
        /// Who waited.
        commit: CommitId,
        /// It took all.
        taken: bool,
    },
    /// The retained messages of one filter are wanted.
    Gather {
        /// Who asks.
        session: SessionRef,
        /// Handed back.
        ticket: u64,
        /// Name space.
        tenant: Option<Arc<str>>,
        /// Topic filter.
        filter: Utf8String,
    },
    /// The answer of one shard, complete.
    Gathered {
        /// Who asked.
        session: SessionRef,
        /// From the question.
        ticket: u64,
        /// All that match.
        messages: Vec<Arc<Message>>,
    },
    /// A session joins a shared subscription, or changes its options.
    SharedJoin {
        /// Which.
        key: Arc<SharedKey>,
        /// Who.
        session: SessionRef,
        /// How.
        entry: Entry,
        /// Connected.
        online: bool,
        /// Who waits until every shard knows that this filter is of interest.
        confirm: Option<Confirm>,
    },
    /// A session leaves a shared subscription.
    SharedLeave {
        /// Which.
        key: Arc<SharedKey>,
        /// Who.
        session: SessionRef,
    },
    /// A member's connection came or went.
    SharedPresence {
        /// Which.
        key: Arc<SharedKey>,
        /// Who.
        session: SessionRef,
        /// Connected.
        online: bool,
    },
    /// A shared message for one member.
    Assign {
        /// Whom.
        session: SessionRef,
        /// What.
        delivery: Assignment,
    },
    /// A member's session ended with this message unacknowledged: another member shall have it [MQTT-4.8.2-5].
    Reassign(Assignment),
    /// A shard that is being restored has come so far.
    Restored(Step),
    /// A message that is routed again needs no member of this shared subscription any more.
    SharedHas {
        /// Which.
        key: Arc<SharedKey>,
        /// What.
        message: MessageId,
    },
}

/// A message on its way through a shared subscription.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub(crate) queued: Queued,
    pub(crate) confirm: Option<Confirm>,
}

/// Whom to tell when records are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// The shard that waits.
    pub(super) shard: u16,
    /// What waits there.
    pub(super) commit: CommitId,
    /// The message is in the log already: it must be taken, whatever trouble the store is in.
    pub(super) owned: bool,
}

/// A session on some shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// Its shard.
    pub shard: u16,
    /// Its slot there.
    pub slot: u32,
    /// Tells it from a later session in the same slot.
    pub serial: u64,
}

/// A shared subscription: all sessions that named the same group and filter (MQTT 5.0 section 4.8.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedKey {
    /// Name space.
    pub tenant: Option<Arc<str>>,
    /// ShareName.
    pub group: Utf8String,
    /// Topic filter.
    pub filter: Utf8String,
}

impl MeshMessage {
    /// How many messages it counts for in a bound.
    pub fn weight(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len(),
            // A large message counts for as many as its memory would hold of small ones.
            Self::Publish { message, .. } => 1 + message.app.payload.len() / WEIGHED_BYTES,
            _ => 1,
        }
    }
}

/// The shard that owns the session of this key: its partition modulo the number of shards.
pub fn home_shard(tenant: Option<&str>, client_id: &str, shards: u16) -> u16 {
    Partition::of_session(tenant, client_id).owner(shards)
}

/// The shard that owns the retained message of a topic.
pub fn topic_owner(tenant: Option<&str>, topic: &str, shards: u16) -> u16 {
    Partition::of_topic(tenant, topic).owner(shards)
}

/// FNV-1a: the same on every machine and in every version, which placement needs.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut byte = |b: u8| state = (state ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        part.iter().for_each(|b| byte(*b));
        byte(0xff); // Never in UTF-8: keeps ("a", "b") from ("ab", "").
    }
    // The low bits of FNV-1a are its weak ones.
    state ^ (state >> 32)
}

impl Shard {
    /// A message from another shard.
    pub fn mesh(&mut self, now: Millis, message: MeshMessage) {
        match message {
            MeshMessage::Publish { message, confirm } => {
                self.confirming(now, confirm, |shard| {
                    shard.route_here(now, &mut Arriving::kept(&message))
                });
            }
            MeshMessage::Packed(packed) => self.within(None, |shard| shard.route_packed(now, &packed)),
            MeshMessage::Interest {
                from,
                number,
                announcement,
            } => self.interest_changed(from, number, &announcement),
            MeshMessage::InterestKnown { shard, number } => self.interest_known(now, shard, number),
            MeshMessage::Confirmed { commit, taken } => {
                self.part_settled(now, commit, taken.then_some(()).ok_or(NotStored::Refused));
            }
            MeshMessage::Gather {
                session,
                ticket,
                tenant,
                filter,
            } => {
                let messages = self.retained_matching(now, tenant.as_ref(), &filter);
                self.send_mesh(
                    now,
                    session.shard,
                    MeshMessage::Gathered {
                        session,
                        ticket,
                        messages,
                    },
                );
            }
            MeshMessage::Gathered {
                session,
                ticket,
                messages,
            } => self.gathered(now, session, ticket, messages),
            MeshMessage::SharedJoin {
                key,
                session,
                entry,
                online,
                confirm,
            } => self.confirming(now, confirm, |shard| {
                shard.shared_join(now, key, session, (entry, online));
            }),
            MeshMessage::SharedLeave { key, session } => self.shared_leave(&key, session),
            MeshMessage::SharedPresence { key, session, online } => self.shared_presence(&key, session, online),
            MeshMessage::Assign { session, delivery } => {
                self.confirming(now, delivery.confirm, |shard| {
                    shard.assigned(now, session, delivery.queued)
                });
            }
            MeshMessage::Reassign(delivery) => {
                self.confirming(now, delivery.confirm, |shard| shard.reassign(now, delivery.queued));
            }
            MeshMessage::Restored(step) => self.restored_elsewhere(now, step),
            MeshMessage::SharedHas { key, message } => self.group_has(message, key),
        }
    }

    /// To another shard with the next batch; to this one at once.
    pub(super) fn send_mesh(&mut self, now: Millis, shard: u16, message: MeshMessage) {
        if shard == self.config.shard {
            self.mesh(now, message);
        } else if let Some(batch) = self.mesh_out.get_mut(usize::from(shard)) {
            batch.push(message);
        }
    }

    /// A message for another shard to route.
    pub(super) fn send_publish(&mut self, shard: u16, arriving: &mut Arriving<'_>) {
        let confirm = self.confirm();
        let Some(batch) = self.mesh_out.get_mut(usize::from(shard)) else {
            return;
        };
        let content = &arriving.content;
        if confirm.is_some() || !Packed::suits(content) {
            let message = arriving.keep().clone();
            return batch.push(MeshMessage::Publish { message, confirm });
        }
        match batch.last_mut() {
            Some(MeshMessage::Packed(packed)) if packed.has_room(content) => packed.push(content),
            _ => {
                let mut packed = Packed::default();
                packed.push(content);
                batch.push(MeshMessage::Packed(packed));
            }
        }
    }

    pub(super) fn other_shards(&self) -> impl Iterator<Item = u16> + use<> {
        let own = self.config.shard;
        (0..self.config.shards).filter(move |shard| *shard != own)
    }
}

impl SharedKey {
    pub(super) fn owner(&self, shards: u16) -> u16 {
        let tenant = self.tenant.as_deref().unwrap_or("");
        (hash(&[tenant.as_bytes(), self.group.as_bytes(), self.filter.as_bytes()]) % u64::from(shards.max(1))) as u16
    }
}
