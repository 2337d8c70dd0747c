//! What the core says to plugins and hears from them: the plugin contract's nouns as plain data. The driver carries the calls
//! out; nothing here knows how.

use crate::policy::RequestRef;
use bytes::Bytes;
use nervewire_codec::{Properties, QoS, ReasonCode, Utf8Ref, Utf8String, Version};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Facts about one connection, built once and kept by the session for as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Client identifier, after assignment.
    pub client_id: Arc<str>,
    /// The identity's user name; before authentication the claimed one.
    pub username: Option<Arc<str>>,
    /// Peer address.
    pub address: IpAddr,
    /// Peer port.
    pub port: u16,
    /// The listener's `bind` as configured.
    pub listener: Arc<str>,
    /// Protocol version.
    pub protocol: Version,
    /// A verified client certificate.
    pub certificate: Option<Arc<Certificate>>,
    /// Attached by the authenticator.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    /// Name space of its topics and client identifier.
    pub tenant: Option<Arc<str>>,
}

impl Client {
    /// A client of which only the name is known.
    pub fn unknown(client_id: Arc<str>, tenant: Option<Arc<str>>) -> Self {
        Self {
            client_id,
            username: None,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
            listener: "".into(),
            protocol: Version::V5,
            certificate: None,
            attributes: Vec::new(),
            tenant,
        }
    }
}

/// What was verified about a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of wit/types.wit, where they are explained.
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub common_name: Option<String>,
    pub alternative_names: Vec<String>,
    pub serial: String,
    pub fingerprint: String,
    pub not_before: i64,
    pub not_after: i64,
}

/// Input of the hook `authenticate` beside the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User Name of the CONNECT.
    pub username: Option<Utf8String>,
    /// Password of the CONNECT.
    pub password: Option<Bytes>,
    /// Authentication Method (MQTT 5.0 section 4.12).
    pub method: Option<Utf8String>,
    /// Authentication Data.
    pub data: Option<Bytes>,
    /// What the plugin handed out with its last challenge.
    pub state: Option<Bytes>,
    /// The client is connected and authenticates again.
    pub reauthentication: bool,
}

/// An authenticator's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Let in as this.
    Allow(Identity),
    /// Refused: one of the reason codes that a CONNACK may carry.
    Deny(ReasonCode),
    /// One more step.
    Challenge {
        /// Authentication Data of the AUTH packet.
        data: Bytes,
        /// Handed back with the client's answer.
        state: Bytes,
    },
    /// Ask the next.
    Abstain,
}

/// Who the client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Replaces the claimed user name.
    pub username: Option<Arc<str>>,
    /// Attributes for authorizers.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    /// Name space of topics and client identifiers.
    pub tenant: Option<Arc<str>>,
    /// Bounds for this client.
    pub quotas: Quotas,
    /// Authentication Data of the CONNACK or AUTH packet.
    pub data: Option<Bytes>,
}

impl Identity {
    /// Whether the facts about a client are others with it.
    pub(crate) fn changes_facts(&self) -> bool {
        self.username.is_some() || !self.attributes.is_empty() || self.tenant.is_some()
    }
}

/// Bounds for one client; `None`: the configured ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// PUBLISH packets per second.
    pub publish_rate_per_s: Option<u32>,
    /// Messages in its queue.
    pub queue_messages: Option<u32>,
    /// Bytes in its queue.
    pub queue_bytes: Option<u64>,
    /// Subscriptions of its session.
    pub subscriptions: Option<u32>,
}

/// What a client asks to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// PUBLISH, a Will Message, a message a plugin made in the client's name.
    Publish,
    /// SUBSCRIBE; the topic is a filter.
    Subscribe,
    /// A message on its way to the client.
    Deliver,
}

/// Input of the hook `authorize` beside the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What it wants to do.
    pub action: Action,
    /// Topic name, or the topic filter without `$share/group/` for [`Action::Subscribe`].
    pub topic: Utf8String,
    /// QoS of the message, or the requested maximum.
    pub qos: QoS,
    /// RETAIN flag of the message.
    pub retain: bool,
}

impl Request {
    /// The same request, borrowed.
    pub fn by_reference(&self) -> RequestRef<'_> {
        RequestRef {
            action: self.action,
            topic: &self.topic,
            qos: self.qos,
            retain: self.retain,
        }
    }

    /// Whether it is this request.
    pub(crate) fn is(&self, other: &RequestRef<'_>) -> bool {
        self.action == other.action
            && self.qos == other.qos
            && self.retain == other.retain
            && *self.topic == *other.topic
    }
}

/// One authorizer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Decision {
    Allow,
    Deny,
    Abstain,
}

/// Answer of the hook `authorize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// How long the same request may be answered from a cache, in milliseconds; 0: never.
    pub cache_ms: u32,
    /// The answer depends on the client identifier.
    pub depends_on_client: bool,
    /// The answer depends on the user name.
    pub depends_on_user: bool,
    /// The answer depends on the topic.
    pub depends_on_topic: bool,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Effect {
    Allow,
    Deny,
    Ask,
}

/// The actions a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Actions {
    pub publish: bool,
    pub subscribe: bool,
    pub deliver: bool,
}

/// One rule, as the hook `rules` returned it (its filter not yet trusted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub effect: Effect,
    /// About which actions.
    pub actions: Actions,
    /// Topic filter.
    pub topic_filter: String,
    /// Applies to requests of at most this QoS.
    pub max_qos: QoS,
    /// Applies only to this RETAIN flag; `None`: to both.
    pub retain: Option<bool>,
}

/// An application message as transforms see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppMessage {
    /// Topic name.
    pub topic: Utf8String,
    /// Application Message.
    pub payload: Bytes,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Payload format, expiry, content type, response topic, correlation data and user properties; nothing else is set.
    pub properties: Option<Arc<Properties>>,
}

/// An application message that lies with somebody else: where it was read, most often.
#[derive(Clone, Copy, Debug)]
pub struct AppMessageRef<'a> {
    /// Topic name.
    pub topic: Utf8Ref<'a>,
    /// Application Message.
    pub payload: &'a [u8],
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// As in an [`AppMessage`].
    pub properties: Option<&'a Properties>,
}

impl AppMessageRef<'_> {
    /// A copy.
    pub fn to_message(&self) -> AppMessage {
        AppMessage {
            topic: self.topic.to_utf8_string(),
            payload: Bytes::copy_from_slice(self.payload),
            qos: self.qos,
            retain: self.retain,
            properties: self.properties.cloned().map(Arc::new),
        }
    }
}

impl<'a> From<&'a AppMessage> for AppMessageRef<'a> {
    fn from(message: &'a AppMessage) -> Self {
        Self {
            topic: message.topic.borrowed(),
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: message.properties.as_deref(),
        }
    }
}

/// Answer of the hook `transform`; topics and texts were parsed again by the plugin host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transformation {
    /// Unchanged.
    Pass,
    /// This instead.
    Replace(AppMessage),
    /// These instead, at most [`MAX_EMITTED_MESSAGES`].
    Emit(Vec<AppMessage>),
    /// Acknowledged, delivered to nobody.
    Drop,
    /// Refused: one of the reason codes that a PUBACK may carry.
    Reject(ReasonCode),
}

/// Answers of the hook `transform` to several messages, most of which pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transformations {
    /// Those that are unchanged: bit N stands for the message at position N, from 0.
    pub passed: u32,
    /// What was said about others, each with its position, in their order.
    pub others: Vec<(usize, Transformation)>,
}

impl Transformations {
    /// What was said about the message at this position.
    pub fn at(&self, position: usize) -> Option<&Transformation> {
        static PASS: Transformation = Transformation::Pass;
        if self.passed & 1 << position != 0 {
            return Some(&PASS);
        }
        let found = self.others.iter().find(|(at, _)| *at == position)?;
        Some(&found.1)
    }
}

impl FromIterator<Transformation> for Transformations {
    fn from_iter<I: IntoIterator<Item = Transformation>>(answers: I) -> Self {
        let mut all = Self::default();
        for (position, answer) in answers.into_iter().enumerate() {
            match answer {
                Transformation::Pass => all.passed |= 1 << position,
                other => all.others.push((position, other)),
            }
        }
        all
    }
}

/// Messages that one transform call may emit.
pub const MAX_EMITTED_MESSAGES: usize = 16;

/// Input of the hook `detect`: what one client did in one closed window, over all shards.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The names are those of wit/hooks.wit, where they are explained.
pub struct Window {
    pub client_id: Arc<str>,
    pub username: Option<Arc<str>>,
    pub address: IpAddr,
    pub started_unix_ms: u64,
    pub length_ms: u32,
    pub messages_in: u64,
    pub messages_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub distinct_topics: u32,
    pub denials: u32,
    pub malformed_packets: u32,
    pub failed_logins: u32,
    pub connects: u32,
    pub payload_bytes_min: u32,
    pub payload_bytes_max: u32,
    pub payload_bytes_mean: f64,
    pub payload_bytes_deviation: f64,
}

/// What a detector asks to be done about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// Somebody is told.
    Alert,
    /// At most so many messages per second from now on.
    Throttle(u32),
    /// Its connection is closed.
    Disconnect,
    /// It is kept out for so many seconds.
    Ban(u32),
}

/// Answer of the hook `detect`: one client that does something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who.
    pub client_id: Arc<str>,
    /// What is to be done.
    pub response: Response,
    /// Why, in printable words.
    pub evidence: String,
}

/// The call gave no answer: trap, timeout, memory limit, invalid answer, or the breaker is open. How that is judged is said by
/// the plugin's `on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFailed;

/// `on_failure` of a plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// authenticate: refuse; authorize: deny; transform: reject with 0x83.
    #[default]
    Deny,
    /// authenticate and authorize: abstain; transform: pass.
    Skip,
}
