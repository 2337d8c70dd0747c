//! The store seam: what a shard wants kept, and how it learns that it is. Pure data; the medium is somebody else's.
//!
//! A shard with [`Durability::Stored`] emits an [`Append`] for every change that must outlive the process
//! ([`Shard::next_append`](crate::shard::Shard::next_append)) and is told the outcome of each by
//! [`Shard::stored`](crate::shard::Shard::stored). What clients are told waits for that; nothing else does.
//!
//! What holds between shard and driver:
//! - The appends of one partition are carried out in the order in which they were emitted, and complete in that order without
//!   gaps: an append that fails fails all that follow it until the partition was fenced again.
//! - Each ticket is answered exactly once. An outcome that is not known is [`AppendFailed::Doubtful`].
//! - The driver takes appends after every call. What exceeds its own bound in bytes it answers with [`AppendFailed::Full`].
//! - Only the shard that owns a partition ([`Partition::owner`]) appends to it.
//!
//! # What waits, with [`Durability::Stored`]
//!
//! - PUBACK and PUBREC: for the records of the message in every partition with durable targets, on whatever shard, and of its
//!   topic where it is retained; always in the order of the PUBLISHes [MQTT-4.6.0-2].
//! - Routing a QoS 2 message of a durable session: for its identifier.
//! - CONNACK, SUBACK, UNSUBACK, PUBCOMP, PUBREL and the outgoing QoS 2 PUBLISH of a durable session: for their own records. A
//!   Clean Start that ends a durable session: for its end.
//! - What fails is never acknowledged. A 5.0 publisher gets 0x97 in PUBACK or PUBREC, a refused CONNECT its CONNACK; all others
//!   are disconnected (0x97 under 5.0), and may try again.
//! - A client that has [`MAX_PENDING_ACKNOWLEDGEMENTS`](crate::limits::MAX_PENDING_ACKNOWLEDGEMENTS) to come is not read.
//!
//! QoS 0, and the packets of sessions that end with their connection, do not wait, except for the durable targets of a message.
//! Retained messages that a SUBSCRIBE has asked for are recorded as they enter the session's queue; those that still wait for the
//! client to take them end with its connection, as they do without a store.
//! Nobody waits for records that only free something (acknowledged, completed, routed) or follow a lost connection.
//!
//! # What the durability issue adds
//!
//! The broker runs with [`Durability::Memory`]: nothing is appended, nothing waits, nothing survives. Still to come:
//! - **Recovery**: replaying records into sessions at start, and again after a failed append (fence, replay, resume). Until then
//!   a shard whose append failed goes on from its memory, which is ahead of the log: it has subscriptions, messages and ends of
//!   sessions that the log does not have, none of which it has acknowledged.
//! - **QoS 2 across partitions**: [`Record::Received`] without its [`Record::Routed`] is routed again at recovery, under the same
//!   message ids; a partition that has enqueued an id passes it over. Today, where one of several partitions fails, a 3.1.1
//!   publisher sends the message again and the targets in the others have it twice.
//! - **Message ids** that no earlier run of the broker has used: they count from the shard's number at every start.
//! - **The index on disk**: queues are in memory, and their bounds are memory's.
//! - **Moving between partitions**: a shared message that leaves an ended session is enqueued elsewhere while the end is being
//!   stored, and a will under judgement is in no log, so a crash at that moment can lose either.
//! - **Group commit**, checkpoints and truncation, all behind the log seam of `nervewire-store`; and a driver that carries
//!   [`Shard::next_append`](crate::shard::Shard::next_append) to it.

use crate::hook::{AppMessage, Client};
use crate::limits::PARTITIONS;
use crate::message::{Message, MessageId};
use crate::shard::{Entry, SharedKey};
use crate::time::Millis;
use nervewire_codec::{PacketId, QoS, Utf8String};
use smallvec::SmallVec;
use std::sync::Arc;

/// `durability`: what an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Accepted. Nothing is appended, acknowledgements leave at once.
    #[default]
    Memory,
    /// Stored. Acknowledgements leave when every append they depend on is durable.
    Stored,
}

/// One ordered log of records. Its number is independent of the number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Partition {
    /// Where a session lives.
    pub fn of_session(tenant: Option<&str>, client_id: &str) -> Self {
        Self::of(tenant, client_id)
    }

    /// Where the retained message of a topic lives.
    pub fn of_topic(tenant: Option<&str>, topic: &str) -> Self {
        Self::of(tenant, topic)
    }

    /// The shard that appends to it.
    pub fn owner(self, shards: u16) -> u16 {
        self.0 % shards.max(1)
    }

    fn of(tenant: Option<&str>, name: &str) -> Self {
        let hash = crate::shard::hash(&[tenant.unwrap_or("").as_bytes(), name.as_bytes()]);
        Self((hash % PARTITIONS) as u16)
    }
}

/// Names an append until its outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Records to append together: all of them become durable or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// Handed back with the outcome.
    pub ticket: Ticket,
    /// To which log.
    pub partition: Partition,
    /// In this order.
    pub records: Vec<Record>,
}

/// Why an append is not known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendFailed {
    /// It was not stored: there is no room.
    #[error("the store is full")]
    Full,
    /// It was not stored: the partition has another owner.
    #[error("the partition has another owner")]
    StaleOwner,
    /// It may have been stored.
    #[error("whether it was stored is not known")]
    Doubtful,
}

/// Whose session; packet identifiers and slots mean nothing in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Name space.
    pub tenant: Option<Arc<str>>,
    /// Client identifier.
    pub client_id: Arc<str>,
}

/// One entry of a partition's log. The state of a partition is what its records say in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A session as it is now; replaces what an earlier record said, but not its subscriptions and messages.
    Session(Box<SessionState>),
    /// The session has ended, with everything that belongs to it.
    Gone(ClientKey),
    /// A subscription, replacing an equal one.
    Subscribed {
        /// Whose.
        session: ClientKey,
        /// As subscribed, with `$share/group/`.
        filter: Utf8String,
        /// How.
        entry: Entry,
    },
    /// A subscription is no more.
    Unsubscribed {
        /// Whose.
        session: ClientKey,
        /// As subscribed.
        filter: Utf8String,
    },
    /// A message for sessions of this partition, its body once.
    Enqueued {
        /// What.
        message: Arc<Message>,
        /// For whom.
        targets: Vec<EnqueuedFor>,
    },
    /// One copy of a message is done with for a session: acknowledged at QoS 1, refused by the client, or dropped and counted.
    Acknowledged {
        /// Whose.
        session: ClientKey,
        /// Which; where a session has several copies, the oldest.
        message: MessageId,
    },
    /// A QoS 2 identifier came from the client, and what its message became. A later one of the same identifier replaces it.
    Received {
        /// From whom.
        session: ClientKey,
        /// Until [`Record::Released`].
        packet_id: PacketId,
        /// To be routed, where no [`Record::Routed`] follows.
        messages: Vec<Arc<Message>>,
    },
    /// The messages of a [`Record::Received`] are with all their targets.
    Routed {
        /// From whom.
        session: ClientKey,
        /// Of the PUBLISH.
        packet_id: PacketId,
    },
    /// PUBREL came: the identifier is free again.
    Released {
        /// From whom.
        session: ClientKey,
        /// Of the PUBLISH.
        packet_id: PacketId,
    },
    /// A QoS 2 message goes out under this identifier.
    Sent {
        /// To whom.
        session: ClientKey,
        /// Until [`Record::Completed`].
        packet_id: PacketId,
        /// Which.
        message: MessageId,
    },
    /// PUBREC came: the message is the client's now, PUBREL is due [MQTT-4.3.3-4].
    HandedOver {
        /// To whom.
        session: ClientKey,
        /// Of the PUBLISH.
        packet_id: PacketId,
    },
    /// PUBCOMP came: the identifier is free again.
    Completed {
        /// Of whom.
        session: ClientKey,
        /// Of the PUBLISH.
        packet_id: PacketId,
    },
    /// The retained message of its topic.
    Retained(Arc<Message>),
    /// A topic has no retained message any more.
    RetainedDeleted {
        /// Name space.
        tenant: Option<Arc<str>>,
        /// Which.
        topic: Utf8String,
    },
}

/// What a session is apart from its subscriptions and messages. Moments are absolute and were stamped once.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    /// Key, identity and facts.
    pub client: Arc<Client>,
    /// Session Expiry Interval in seconds, `u32::MAX`: never; 0: it ends with its connection, which a restart ends.
    pub expiry_interval_s: u32,
    /// When it ends; `None`: it is connected, or never ends.
    pub expires_at: Option<Millis>,
    /// The will that is due when its connection ends.
    pub will: Option<StoredWill>,
}

/// A Will Message that was not sent yet.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWill {
    /// What.
    pub message: AppMessage,
    /// Will Delay Interval in seconds.
    pub delay_s: u32,
    /// When it is sent, while the session has no connection.
    pub due_at: Option<Millis>,
}

/// One target of an [`Record::Enqueued`].
#[derive(Clone, Debug, PartialEq)]
pub struct EnqueuedFor {
    /// Whose queue.
    pub session: ClientKey,
    /// 1 or 2: QoS 0 is not kept.
    pub qos: QoS,
    /// RETAIN of the copy.
    pub retain: bool,
    /// Subscription Identifiers.
    pub identifiers: SmallVec<[u32; 2]>,
    /// The shared subscription that it came by.
    pub shared: Option<Arc<SharedKey>>,
}

impl ClientKey {
    /// The session of a client.
    pub fn of(client: &Client) -> Self {
        Self {
            tenant: client.tenant.clone(),
            client_id: client.client_id.clone(),
        }
    }

    /// Its partition.
    pub fn partition(&self) -> Partition {
        Partition::of_session(self.tenant.as_deref(), &self.client_id)
    }

    fn bytes(&self) -> usize {
        self.tenant.as_ref().map_or(0, |tenant| tenant.len()) + self.client_id.len()
    }
}

impl Record {
    /// Bytes that a bound accounts for it.
    pub fn bytes(&self) -> usize {
        const BOOKKEEPING_BYTES: usize = 32;
        let content = match self {
            Self::Session(state) => state.bytes(),
            Self::Gone(session) => session.bytes(),
            Self::Subscribed { session, filter, .. } | Self::Unsubscribed { session, filter } => {
                session.bytes() + filter.len()
            }
            Self::Enqueued { message, targets } => {
                let targets = targets.iter().map(|target| target.session.bytes() + BOOKKEEPING_BYTES);
                message.queue_bytes() + targets.sum::<usize>()
            }
            Self::Received { session, messages, .. } => {
                session.bytes() + messages.iter().map(|message| message.queue_bytes()).sum::<usize>()
            }
            Self::Acknowledged { session, .. }
            | Self::Routed { session, .. }
            | Self::Released { session, .. }
            | Self::Sent { session, .. }
            | Self::HandedOver { session, .. }
            | Self::Completed { session, .. } => session.bytes(),
            Self::Retained(message) => message.queue_bytes(),
            Self::RetainedDeleted { tenant, topic } => tenant.as_ref().map_or(0, |t| t.len()) + topic.len(),
        };
        BOOKKEEPING_BYTES + content
    }
}

impl SessionState {
    fn bytes(&self) -> usize {
        let attributes = self
            .client
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let will = self.will.as_ref().map_or(0, |will| will.message.bytes());
        ClientKey::of(&self.client).bytes() + attributes.sum::<usize>() + will
    }
}
