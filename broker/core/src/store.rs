//! The store seam: what a shard wants kept, and how it learns that it is. Pure data; the medium is somebody else's.
//!
//! A shard with [`Durability::Stored`] emits an [`Append`] for every change that must outlive the process
//! ([`Shard::next_append`](crate::shard::Shard::next_append)) and is told by [`Shard::stored`](crate::shard::Shard::stored) when
//! it is durable. What clients are told waits for that; nothing else does.
//!
//! What holds between shard and driver:
//! - Tickets of a shard count up by one, and complete in that order without gaps, each once.
//! - What was appended is not forgotten while the process lives: an append that is not durable yet will be, or the process ends.
//!   Memory is what the log says together with what is still to come, and is never undone.
//! - While the store is full or nothing completes the shard is in trouble
//!   ([`Shard::store_trouble`](crate::shard::Shard::store_trouble)): who waits is told so where nothing completes, and what is new
//!   and needs the store is refused before anything changes.
//! - The driver takes appends and fetches after every call.
//! - Only the shard that owns a partition ([`Partition::owner`]) appends to it.
//!
//! # What waits, with [`Durability::Stored`]
//!
//! - PUBACK and PUBREC: for the records of the message in every partition with durable targets, on whatever shard, and of its
//!   topic where it is retained; always in the order of the PUBLISHes [MQTT-4.6.0-2].
//! - Routing a QoS 2 message of a durable session: for its identifier.
//! - CONNACK, SUBACK, UNSUBACK, PUBCOMP, PUBREL and the outgoing QoS 2 PUBLISH of a durable session: for their own records. A
//!   Clean Start that ends a durable session: for its end.
//! - A client that has [`MAX_PENDING_ACKNOWLEDGEMENTS`](crate::limits::MAX_PENDING_ACKNOWLEDGEMENTS) to come is not read.
//!
//! QoS 0, and the packets of sessions that end with their connection, do not wait, except for the durable targets of a message.
//! Retained messages that a SUBSCRIBE has asked for are recorded as they enter the session's queue; those that still wait for the
//! client to take them end with its connection, as they do without a store.
//! Nobody waits for records that only free something (acknowledged, completed, routed) or follow a lost connection.
//!
//! # In trouble
//!
//! - A message that is not refused may already be on its way into the log, so its publisher hears 0x97 in PUBACK at QoS 1, and is
//!   disconnected at QoS 2: the identifier stays, and the PUBLISH that comes again is acknowledged when the record is durable.
//! - A PUBLISH that would need the store is refused: 0x97 in PUBACK or PUBREC, under 3.1.1 the connection closes.
//! - A CONNECT is refused that would begin, take over or end a durable session (0x97 in CONNACK, return code 3 under 3.x), and the
//!   filters of a durable session's SUBSCRIBE (0x97 in SUBACK, 0x80 under 3.1.1). In a full store, where appends still complete,
//!   only what makes it grow is: an existing session may connect, take its messages and acknowledge them.
//! - QoS 1 and 2 messages that wait for durable sessions wait on. QoS 0 and sessions that end with their connection are served.
//! - What only frees something happens all the same (a session expires, a message is acknowledged), and is durable later. So do
//!   wills of durable sessions: they were in the log before.
//!
//! # Moving between partitions
//!
//! Only records that are appended together become durable together, so what leaves one partition for another is in both logs for a
//! moment, never in none:
//! - **QoS 2 from a client.** [`Record::Received`] holds the messages until [`Record::Routed`] says that they are with all their
//!   targets. After a crash between, they are routed again under the same message ids, and each partition, group and topic that has
//!   an id passes it over.
//! - **Shared messages of a session that ends** go to other members before [`Record::Gone`], and **a will** to its targets before
//!   the record of the session that is without it. A crash between repeats what has arrived already: a will, or a message of a
//!   group, may come twice then, whatever its QoS. Meanwhile the client's next CONNACK waits.
//!
//! # Reading the log
//!
//! At start the driver gives every shard the records of its partitions ([`Shard::restore`](crate::shard::Shard::restore)), then lets
//! all go on from there ([`Shard::restored`](crate::shard::Shard::restored)) with numbers for messages that no record has used.
//! Partitions belong to other shards where the number of shards has changed. The crash has ended all connections: sessions that had
//! one count their expiry and the delay of their wills from the start.
//!
//! A checkpoint shows old records to their shard ([`Shard::examine`](crate::shard::Shard::examine)), always the oldest of the log,
//! and drops them when what the shard has appended again is durable. Therefore records say what is and not what changes, a
//! message keeps its order, and reading tolerates any record twice, and records of a session that comes further on.
//!
//! # Bodies
//!
//! A queue holds the places of its messages in the log; the messages themselves only while they are needed. What is durable and
//! waits for a session that is away, or far back in a queue, leaves memory and is fetched ([`Fetch`]) when its turn comes.

use crate::hook::{AppMessage, Client, Quotas};
use crate::limits::PARTITIONS;
use crate::message::{Message, MessageId};
use crate::shard::{Entry, SharedKey};
use crate::time::Millis;
use nervewire_codec::{PacketId, QoS, Utf8String};
use smallvec::SmallVec;
use std::net::IpAddr;
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

/// The place of a record in its partition's log. Grows within a partition, not necessarily by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Names a fetch until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchTicket(pub u64);

impl FetchTicket {
    /// Of no fetch: they count from 1.
    pub(crate) const NONE: Self = Self(0);
}

/// Records that are wanted back, each an [`Record::Enqueued`] whose message is not in memory. To be answered by
/// [`Shard::fetched`](crate::shard::Shard::fetched).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Handed back with the answer.
    pub ticket: FetchTicket,
    /// From which log.
    pub partition: Partition,
    /// Which, in the order of the answer.
    pub positions: Vec<Position>,
}

/// A record cannot be read back: its message is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be read")]
pub struct FetchFailed;

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

/// Why nothing becomes durable at present, or an append was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendFailed {
    /// The bound is reached: what is appended completes, but nothing that grows should be.
    #[error("the store is full")]
    Full,
    /// The partition has another owner: nothing completes.
    #[error("the partition has another owner")]
    StaleOwner,
    /// Nothing completes at present, and what was appended may be durable or not.
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
        /// The place of the message in the order of its sessions: a number of the shard that grows with every such record. A
        /// record that is appended again keeps it.
        order: u64,
        /// What.
        message: Arc<Message>,
        /// For whom.
        targets: Vec<EnqueuedFor>,
    },
    /// One copy of a message is done with for a session: acknowledged at QoS 1, refused by the client, or dropped and counted.
    Acknowledged {
        /// Whose.
        session: ClientKey,
        /// Which: that of its [`Record::Enqueued`].
        order: u64,
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
        order: u64,
    },
    /// PUBREC came: the message is the client's now, PUBREL is due [MQTT-4.3.3-4].
    HandedOver {
        /// To whom.
        session: ClientKey,
        /// Of the PUBLISH.
        packet_id: PacketId,
        /// The copy that the session is done with.
        order: u64,
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
        /// The empty message that deleted it.
        message: MessageId,
        /// Name space.
        tenant: Option<Arc<str>>,
        /// Which.
        topic: Utf8String,
    },
    /// Somebody is kept out; replaces what an earlier record said of the same. All bans are in partition 0.
    Banned(Box<StoredBan>),
    /// Somebody is kept out no more.
    Lifted(BannedSubject),
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBan {
    /// Whom it concerns.
    pub subject: BannedSubject,
    /// When it was made.
    pub since: Millis,
    /// When it ends; `None`: when it is lifted.
    pub until: Option<Millis>,
    /// Why.
    pub reason: Arc<str>,
    /// Who wanted it.
    pub by: Arc<str>,
}

/// Whom a ban concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BannedSubject {
    /// A client identifier; without a tenant: in all of them.
    ClientId {
        tenant: Option<Arc<str>>,
        client_id: Arc<str>,
    },
    /// A user name; the same.
    User {
        tenant: Option<Arc<str>>,
        username: Arc<str>,
    },
    /// Addresses that begin with so many bits of this one.
    Network { address: IpAddr, bits: u8 },
}

impl StoredBan {
    /// Whether it has not ended by itself.
    pub fn is_in_force(&self, now: Millis) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

impl BannedSubject {
    fn bytes(&self) -> usize {
        match self {
            Self::ClientId {
                tenant,
                client_id: name,
            }
            | Self::User { tenant, username: name } => tenant.as_ref().map_or(0, |tenant| tenant.len()) + name.len(),
            Self::Network { .. } => size_of::<IpAddr>(),
        }
    }
}

/// What a session is apart from its subscriptions and messages. Moments are absolute and were stamped once.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    /// Key, identity and facts.
    pub client: Arc<Client>,
    /// Bounds that came with the identity.
    pub quotas: Quotas,
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
            Self::Enqueued { message, targets, .. } => {
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
            Self::RetainedDeleted { tenant, topic, .. } => tenant.as_ref().map_or(0, |t| t.len()) + topic.len(),
            Self::Banned(ban) => ban.subject.bytes() + ban.reason.len() + ban.by.len(),
            Self::Lifted(subject) => subject.bytes(),
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
