//! The records of `wit/`, as they cross the boundary: borrowed on the way in, so that payloads and names are copied once,
//! straight into the guest's memory; owned and untrusted on the way out.

use wasmtime::component::{ComponentType, Lift, Lower, flags};

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Protocol {
    #[component(name = "mqtt31")]
    Mqtt31,
    #[component(name = "mqtt311")]
    Mqtt311,
    #[component(name = "mqtt5")]
    Mqtt5,
}

#[derive(Clone, Copy, Debug, ComponentType, Lower, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(clippy::enum_variant_names)] // The contract's names.
pub(crate) enum Qos {
    #[component(name = "at-most-once")]
    AtMostOnce,
    #[component(name = "at-least-once")]
    AtLeastOnce,
    #[component(name = "exactly-once")]
    ExactlyOnce,
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct PropertyRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct CertificateRef<'a> {
    pub(crate) subject: &'a str,
    pub(crate) issuer: &'a str,
    #[component(name = "common-name")]
    pub(crate) common_name: Option<&'a str>,
    #[component(name = "alternative-names")]
    pub(crate) alternative_names: &'a [String],
    pub(crate) serial: &'a str,
    pub(crate) fingerprint: &'a str,
    #[component(name = "not-before")]
    pub(crate) not_before: i64,
    #[component(name = "not-after")]
    pub(crate) not_after: i64,
}

#[derive(ComponentType)]
#[component(record)]
pub(crate) struct ClientRef<'a> {
    #[component(name = "client-id")]
    pub(crate) client_id: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    pub(crate) listener: &'a str,
    pub(crate) protocol: Protocol,
    pub(crate) certificate: Option<CertificateRef<'a>>,
    pub(crate) attributes: &'a [PropertyRef<'a>],
    pub(crate) tenant: Option<&'a str>,
}

#[derive(ComponentType)]
#[component(record)]
pub(crate) struct MessageRef<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    #[component(name = "payload-is-utf8")]
    pub(crate) payload_is_utf8: bool,
    #[component(name = "content-type")]
    pub(crate) content_type: Option<&'a str>,
    #[component(name = "response-topic")]
    pub(crate) response_topic: Option<&'a str>,
    #[component(name = "correlation-data")]
    pub(crate) correlation_data: Option<&'a [u8]>,
    #[component(name = "message-expiry-seconds")]
    pub(crate) message_expiry_seconds: Option<u32>,
    #[component(name = "user-properties")]
    pub(crate) user_properties: &'a [PropertyRef<'a>],
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    #[component(name = "payload-is-utf8")]
    pub(crate) payload_is_utf8: bool,
    #[component(name = "content-type")]
    pub(crate) content_type: Option<String>,
    #[component(name = "response-topic")]
    pub(crate) response_topic: Option<String>,
    #[component(name = "correlation-data")]
    pub(crate) correlation_data: Option<Vec<u8>>,
    #[component(name = "message-expiry-seconds")]
    pub(crate) message_expiry_seconds: Option<u32>,
    #[component(name = "user-properties")]
    pub(crate) user_properties: Vec<Property>,
}

// lifecycle

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct FileRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) contents: &'a [u8],
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Ready {
    #[component(name = "tick-milliseconds")]
    pub(crate) tick_milliseconds: Option<u32>,
}

// authentication

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct CredentialsRef<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    pub(crate) method: Option<&'a str>,
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) state: Option<&'a [u8]>,
    pub(crate) reauthentication: bool,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Quotas {
    #[component(name = "publish-rate-per-second")]
    pub(crate) publish_rate_per_second: Option<u32>,
    #[component(name = "queue-messages")]
    pub(crate) queue_messages: Option<u32>,
    #[component(name = "queue-bytes")]
    pub(crate) queue_bytes: Option<u64>,
    pub(crate) subscriptions: Option<u32>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Identity {
    pub(crate) username: Option<String>,
    pub(crate) attributes: Vec<Property>,
    pub(crate) tenant: Option<String>,
    pub(crate) quotas: Quotas,
    pub(crate) data: Option<Vec<u8>>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Challenge {
    pub(crate) data: Vec<u8>,
    pub(crate) state: Vec<u8>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // Lifting makes the variants from their numbers.
pub(crate) enum Refusal {
    #[component(name = "bad-user-name-or-password")]
    BadUserNameOrPassword,
    #[component(name = "not-authorized")]
    NotAuthorized,
    #[component(name = "banned")]
    Banned,
    #[component(name = "server-unavailable")]
    ServerUnavailable,
    #[component(name = "server-busy")]
    ServerBusy,
    #[component(name = "bad-authentication-method")]
    BadAuthenticationMethod,
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
}

#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Authentication {
    #[component(name = "allow")]
    Allow(Identity),
    #[component(name = "deny")]
    Deny(Refusal),
    #[component(name = "challenge")]
    Challenge(Challenge),
    #[component(name = "abstain")]
    Abstain,
}

// authorization

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Action {
    #[component(name = "publish")]
    Publish,
    #[component(name = "subscribe")]
    Subscribe,
    #[component(name = "deliver")]
    Deliver,
}

flags! {
    Actions {
        #[component(name = "publish")]
        const PUBLISH;
        #[component(name = "subscribe")]
        const SUBSCRIBE;
        #[component(name = "deliver")]
        const DELIVER;
    }
}

flags! {
    Dependencies {
        #[component(name = "client")]
        const CLIENT;
        #[component(name = "user")]
        const USER;
        #[component(name = "topic")]
        const TOPIC;
    }
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // Lifting makes the variants from their numbers.
pub(crate) enum Effect {
    #[component(name = "allow")]
    Allow,
    #[component(name = "deny")]
    Deny,
    #[component(name = "ask")]
    Ask,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Rule {
    pub(crate) effect: Effect,
    pub(crate) actions: Actions,
    #[component(name = "topic-filter")]
    pub(crate) topic_filter: String,
    #[component(name = "max-qos")]
    pub(crate) max_qos: Qos,
    pub(crate) retain: Option<bool>,
}

#[derive(ComponentType)]
#[component(record)]
pub(crate) struct RequestRef<'a> {
    pub(crate) action: Action,
    pub(crate) topic: &'a str,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // Lifting makes the variants from their numbers.
pub(crate) enum Decision {
    #[component(name = "allow")]
    Allow,
    #[component(name = "deny")]
    Deny,
    #[component(name = "abstain")]
    Abstain,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    #[component(name = "cache-milliseconds")]
    pub(crate) cache_milliseconds: u32,
    #[component(name = "depends-on")]
    pub(crate) depends_on: Dependencies,
}

// transformation

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // Lifting makes the variants from their numbers.
pub(crate) enum Rejection {
    #[component(name = "unspecified-error")]
    UnspecifiedError,
    #[component(name = "implementation-specific-error")]
    ImplementationSpecificError,
    #[component(name = "not-authorized")]
    NotAuthorized,
    #[component(name = "topic-name-invalid")]
    TopicNameInvalid,
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "payload-format-invalid")]
    PayloadFormatInvalid,
}

#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Transformation {
    #[component(name = "pass")]
    Pass,
    #[component(name = "replace")]
    Replace(Message),
    #[component(name = "emit")]
    Emit(Vec<Message>),
    #[component(name = "drop")]
    Drop,
    #[component(name = "reject")]
    Reject(Rejection),
}

// detection

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct WindowRef<'a> {
    #[component(name = "client-id")]
    pub(crate) client_id: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) address: String,
    pub(crate) started: u64,
    pub(crate) milliseconds: u32,
    #[component(name = "messages-in")]
    pub(crate) messages_in: u64,
    #[component(name = "messages-out")]
    pub(crate) messages_out: u64,
    #[component(name = "bytes-in")]
    pub(crate) bytes_in: u64,
    #[component(name = "bytes-out")]
    pub(crate) bytes_out: u64,
    #[component(name = "distinct-topics")]
    pub(crate) distinct_topics: u32,
    pub(crate) denials: u32,
    #[component(name = "malformed-packets")]
    pub(crate) malformed_packets: u32,
    #[component(name = "failed-logins")]
    pub(crate) failed_logins: u32,
    pub(crate) connects: u32,
    #[component(name = "payload-bytes-min")]
    pub(crate) payload_bytes_min: u32,
    #[component(name = "payload-bytes-max")]
    pub(crate) payload_bytes_max: u32,
    #[component(name = "payload-bytes-mean")]
    pub(crate) payload_bytes_mean: f64,
    #[component(name = "payload-bytes-deviation")]
    pub(crate) payload_bytes_deviation: f64,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Response {
    #[component(name = "alert")]
    Alert,
    #[component(name = "throttle")]
    Throttle(u32),
    #[component(name = "disconnect")]
    Disconnect,
    #[component(name = "ban")]
    Ban(u32),
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Finding {
    #[component(name = "client-id")]
    pub(crate) client_id: String,
    pub(crate) response: Response,
    pub(crate) evidence: String,
}

// What guests import.

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // Lifting makes the variants from their numbers.
pub(crate) enum Level {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum KvError {
    #[component(name = "full")]
    Full,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "not-a-number")]
    NotANumber,
}
