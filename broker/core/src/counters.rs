//! What one shard counts. Plain numbers: the shard is their only writer, the driver publishes copies.

/// Counters since start and gauges as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Each is what its name says; the metrics' help texts explain them to users.
pub struct Counters {
    pub received_messages: [u64; 3],
    pub sent_messages: [u64; 3],
    pub dropped: Dropped,
    pub connects_accepted: u64,
    pub connects_refused: u64,
    pub disconnects_clean: u64,
    pub disconnects_lost: u64,
    pub disconnects_server: u64,
    pub disconnects_taken_over: u64,
    pub disconnects_keep_alive: u64,
    pub disconnects_protocol_error: u64,
    /// In the order of [`crate::certificates::CertificateEnd::ALL`]; they are among `disconnects_server`, too.
    pub disconnects_certificate: [u64; 3],
    pub denied_publish: u64,
    pub denied_subscribe: u64,
    pub denied_deliver: u64,
    pub transform_dropped: u64,
    pub transform_rejected: u64,
    pub paused_publish_rate: u64,
    pub paused_plugin_time: u64,
    pub receive_maximum_exceeded: u64,
    pub sessions_refused: u64,
    pub subscriptions_refused: u64,
    pub suspended_over_bound: u64,
    pub source_rules_cleared: u64,
    pub retained_refused: u64,
    pub verdict_cache_cleared: u64,
    pub shadow_over_bound: u64,
    pub emitted_over_bound: u64,
    pub gather_topics_over_bound: u64,
    pub spare_buffers_over_bound: u64,
    pub gathered_over_bound: u64,
    pub interest_over_bound: u64,
    pub appends: u64,
    pub appends_failed: u64,
    pub restored_records: u64,
    pub restored_messages: u64,
    pub restored_sessions: u64,
    pub restored_over_bound: u64,
    pub relocated_records: u64,
    pub paused_acknowledgements: u64,
    pub sessions: u64,
    pub connections: u64,
    pub subscriptions: u64,
    pub queued_messages: u64,
    pub queued_bytes: u64,
}

/// Messages that did not reach a session they were for, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Dropped {
    pub queue_messages: u64,
    pub queue_bytes: u64,
    pub memory_bytes: u64,
    pub expired: u64,
    pub too_large: u64,
    pub offline_qos0: u64,
    pub denied: u64,
    pub session_ended: u64,
    pub no_shared_member: u64,
    pub unreadable: u64,
}
