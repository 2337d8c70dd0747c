//! The bounds of one shard, each with its unit in its name.

use crate::store::Durability;

/// Configured bounds and the place of this shard among its siblings.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Number of this shard, below `shards`.
    pub shard: u16,
    /// Shards in this broker, at least 1.
    pub shards: u16,
    /// Largest packet a client may send, in bytes.
    pub max_packet_bytes: u32,
    /// Sessions of this shard, connected or not.
    pub sessions: usize,
    /// Messages that one offline or slow session may queue.
    pub queue_messages: u32,
    /// Bytes that one offline or slow session may queue.
    pub queue_bytes: u64,
    /// What happens at the queue's bound.
    pub queue_policy: QueuePolicy,
    /// Bytes in memory of all queues of this shard together.
    pub memory_bytes: u64,
    /// PUBLISH packets per second and client, 0 = no bound; the burst is one second of it.
    pub publish_rate_per_s: u32,
    /// What one client may do.
    pub per_client: ClientLimits,
    /// Longest keep alive in seconds; 5.0 clients are told [MQTT-3.1.2-21]. 0 = no bound.
    pub max_keep_alive_s: u16,
    /// How long a client may stay connected without authenticating again, in seconds. 0 = no bound.
    pub max_connection_s: u32,
    /// Prefix of the Response Information that 5.0 clients may ask for; `None`: there is none.
    pub response_information: Option<String>,
    /// Retained messages of this shard.
    pub retained_messages: usize,
    /// Bytes of retained messages of this shard.
    pub retained_bytes: usize,
    /// Clients whose actions are counted in one window on this shard, and as many that were not let in; where a plugin has the
    /// hook `detect`.
    pub window_clients: usize,
    /// What an acknowledgement promises. Fixed when the shard is made.
    pub durability: Durability,
}

/// What one client may do, beside its rate of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Bytes of topics and payloads per second that a client may publish, 0 = no bound.
    pub publish_bytes_per_s: u32,
    /// Filters per second that a client may subscribe to or unsubscribe from, 0 = no bound.
    pub subscribe_rate_per_s: u32,
    /// Seconds without a break over some rate after which a client is disconnected, 0 = never.
    pub over_rate_s: u32,
    /// Takeovers of one client identifier in a minute; above, the one who takes over waits. 0 = no bound.
    pub takeovers_per_minute: u32,
    /// Levels of a topic or a filter, at least 1.
    pub topic_levels: u32,
    /// Bytes of a topic or a filter, at least 1.
    pub topic_bytes: u32,
    /// Subscriptions of one session, unless its identity's quota says otherwise.
    pub subscriptions_per_client: u32,
    /// User Properties of one packet.
    pub user_properties: u32,
    /// QoS 2 messages in flight from one client, our Receive Maximum; at least 1.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages in flight to one client, unless it asks for fewer (its Receive Maximum); at least 1.
    pub in_flight_messages: u16,
}

/// `queue_policy`: what gives way when a session's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueuePolicy {
    /// The oldest message makes room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    RefuseNew,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            shards: 1,
            max_packet_bytes: 1_048_576,
            sessions: 10_000_000,
            queue_messages: 1_000,
            queue_bytes: 16_777_216,
            queue_policy: QueuePolicy::DropOldest,
            memory_bytes: u64::MAX,
            publish_rate_per_s: 0,
            per_client: ClientLimits::default(),
            max_keep_alive_s: 0,
            max_connection_s: 0,
            response_information: None,
            retained_messages: 10_000_000,
            retained_bytes: usize::MAX,
            window_clients: 100_000,
            durability: Durability::Memory,
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            publish_bytes_per_s: 0,
            subscribe_rate_per_s: 0,
            over_rate_s: 0,
            takeovers_per_minute: 0,
            topic_levels: 128,
            topic_bytes: 65_535,
            subscriptions_per_client: MAX_SUBSCRIPTIONS,
            user_properties: 1_024,
            receive_maximum: RECEIVE_MAXIMUM,
            in_flight_messages: MAX_IN_FLIGHT_MESSAGES,
        }
    }
}

/// [`ClientLimits::in_flight_messages`] where nothing else is configured.
pub const MAX_IN_FLIGHT_MESSAGES: u16 = 256;
/// [`ClientLimits::receive_maximum`] where nothing else is configured.
pub const RECEIVE_MAXIMUM: u16 = 1_024;
/// Acknowledgements of one client that may wait for the store; at this bound its socket is not read.
pub const MAX_PENDING_ACKNOWLEDGEMENTS: usize = 1_024;
/// Messages that one fetch brings back from the store; a connected session asks when half as many are left in memory.
pub const MAX_FETCH_MESSAGES: usize = 64;
/// Their bytes, where it is more than one message.
pub const MAX_FETCH_BYTES: u64 = 256 * 1024;
/// Durable messages at the head of a connected session's queue that stay in memory.
pub const MAX_RESIDENT_MESSAGES: usize = 256;
/// Bytes of a connected session's messages in memory above which those behind leave it once they are durable.
pub const MAX_RESIDENT_BYTES: u64 = 256 * 1024;
/// Topic aliases a client may use towards us.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 64;
/// Topic aliases we use towards a client that allows them.
pub const MAX_OUTBOUND_TOPIC_ALIASES: u16 = 64;
/// Bytes waiting in a connection's output buffer above which its session queues instead.
pub const OUTPUT_HIGH_WATER_BYTES: usize = 256 * 1024;
/// Bytes of small messages that are packed for another shard, and routed there, at once.
pub const MAX_PACKED_BYTES: usize = 32 * 1024;
/// Capacity in bytes of output buffers that a shard keeps for the next connection that needs one.
pub const MAX_SPARE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Payloads of at least so many bytes are shared by several receivers instead of copied into the output of each.
pub const SHARED_PAYLOAD_BYTES: usize = 2_048;
/// The same where there is one receiver: it must be copied once in any case.
pub const SINGLE_SHARED_PAYLOAD_BYTES: usize = 32_768;

/// Bytes from which a payload is shared.
#[inline]
pub(crate) const fn shared_payload_bytes(has_several_receivers: bool) -> usize {
    if has_several_receivers {
        SHARED_PAYLOAD_BYTES
    } else {
        SINGLE_SHARED_PAYLOAD_BYTES
    }
}

/// [`ShardConfig::subscriptions_per_client`] where nothing else is configured.
pub const MAX_SUBSCRIPTIONS: u32 = 10_000;
/// Filters that a later policy or identity does not allow, remembered for one session; with more, only what another of its
/// subscriptions matches goes out.
pub(crate) const MAX_SUSPENDED_SUBSCRIPTIONS: usize = 20_000;
/// Of them, so many are shown to an administrator.
pub(crate) const SHOWN_SUSPENDED_FILTERS: usize = 16;
/// Clients whose rules a shard remembers because they have messages retained.
pub(crate) const MAX_SOURCE_RULES: usize = 4_096;
/// How long the rules of such a client are taken to fail, once an authorizer has failed to give them.
pub(crate) const SOURCE_RULES_RETRY_MS: u64 = 1_000;
/// Members of a shared subscription that may refuse a message before it is dropped.
pub(crate) const MAX_SHARED_REFUSALS: u8 = 16;
/// Authorization verdicts cached for one session: those that depend on its client.
pub const MAX_CACHED_VERDICTS: usize = 64;
/// Authorization verdicts that a shard caches for all its clients.
pub const MAX_SHARED_VERDICTS: usize = 16_384;
/// Bytes of topic, user name and tenant together under which a verdict is cached; with more it is not.
pub const MAX_VERDICT_KEY_BYTES: usize = 1_024;
/// Comparisons with plugins in shadow mode that wait for an answer, on one shard.
pub const MAX_SHADOW_COMPARISONS: usize = 4_096;
/// Differences kept with their inputs, for one plugin in shadow mode and on one shard.
pub const MAX_SHADOW_SAMPLES: usize = 256;
/// Bytes of each text, and of a payload, that a kept difference shows.
pub const MAX_SHADOW_TEXT_BYTES: usize = 512;
/// Milliseconds after which a plugin in shadow mode that gave no rules for a client is asked for them again.
pub const SHADOW_RETRY_MS: u64 = 1_000;
/// Messages that one PUBLISH may become through all transforms.
pub const MAX_MESSAGES_PER_PUBLISH: usize = 256;
/// Plugin time per client and second, in nanoseconds; the burst is one second of it.
pub const PLUGIN_TIME_NS_PER_S: u32 = 50_000_000;
/// Bytes of a payload for which a message on its way to another shard counts once more.
pub const WEIGHED_BYTES: usize = 1_024;
/// The part of a shard's memory that is made free when it is used up, beyond what is needed.
pub const SHED_SHARE: u64 = 16;
/// Milliseconds after which making room is tried again where it was in vain.
pub const SHED_RETRY_MS: u64 = 250;
/// Milliseconds after which a client that waits for a rate it shares with others looks again; and without which a client that is
/// over its rate has not stopped to be.
pub const RATE_PAUSE_MS: u64 = 1_000;
/// Client identifiers of a shard whose takeovers are counted; of further ones they are not.
pub const MAX_WATCHED_TAKEOVERS: usize = 4_096;
/// The longest that a client waits because its identifier is taken over too often, in milliseconds.
pub const MAX_TAKEOVER_WAIT_MS: u64 = 10_000;
/// Topics remembered per retained-message gathering, to tell stale answers.
pub const MAX_GATHER_TOPICS: usize = 4_096;
/// Retained messages that wait to be sent to one session, as pointers.
pub const MAX_GATHERED_MESSAGES: usize = 1_000_000;
/// Prefixes of filters that a shard announces to the others; with more it announces that it is interested in everything.
pub const MAX_ANNOUNCED_PREFIXES: usize = 65_536;
/// Expired messages of one kind, or of one queue, removed in one tick.
pub const PURGE_STEP_MESSAGES: usize = 256;
/// Queued messages of sessions that are away looked at in one tick for whether they have expired.
pub const PURGE_STEP_QUEUED_MESSAGES: usize = 16_384;
/// Milliseconds between two purges of expired messages.
pub const PURGE_INTERVAL_MS: u64 = 1_000;
/// QoS 2 messages of the logs that a shard remembers while it is restored, in case they were under way at the crash. Twice as
/// many at most, each for some bytes, of which the older half is forgotten.
pub const MAX_REMEMBERED_MESSAGES: usize = 1_048_576;
/// Clients whose publish rate a detector may bound at a time, on one shard.
pub const MAX_THROTTLED_CLIENTS: usize = 65_536;
/// Partitions of the session space; fixed, independent of the number of shards.
pub const PARTITIONS: u64 = 64;
