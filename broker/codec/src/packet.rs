//! The packets, as one representation for every protocol version.

use crate::{Properties, ReasonCode, Utf8String};
use bytes::Bytes;
use std::fmt;
use std::num::NonZeroU16;

/// A control packet (MQTT 5.0 section 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Client requests a connection (3.1).
    Connect(Box<Connect>),
    /// Connect acknowledgement (3.2).
    ConnAck(Box<ConnAck>),
    /// Publish message (3.3).
    Publish(Publish),
    /// QoS 1 acknowledgement (3.4).
    PubAck(Ack),
    /// QoS 2, part 1 (3.5).
    PubRec(Ack),
    /// QoS 2, part 2 (3.6).
    PubRel(Ack),
    /// QoS 2, part 3 (3.7).
    PubComp(Ack),
    /// Subscribe request (3.8).
    Subscribe(Subscribe),
    /// Subscribe acknowledgement (3.9).
    SubAck(SubAck),
    /// Unsubscribe request (3.10).
    Unsubscribe(Unsubscribe),
    /// Unsubscribe acknowledgement (3.11).
    UnsubAck(UnsubAck),
    /// PING request (3.12).
    PingReq,
    /// PING response (3.13).
    PingResp,
    /// Disconnect notification (3.14).
    Disconnect(Disconnect),
    /// Authentication exchange, MQTT 5.0 only (3.15).
    Auth(Auth),
}

/// The packet type in the upper half of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// Protocol version, as its protocol level byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// Quality of service (4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// Packet identifier, never zero (2.2.1).
pub type PacketId = NonZeroU16;

/// CONNECT (3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Protocol version the client asks for.
    pub version: Version,
    /// Clean Start (5.0), Clean Session (3.x).
    pub clean_start: bool,
    /// Keep Alive in seconds, 0 = off.
    pub keep_alive: u16,
    /// Client Identifier, may be empty.
    pub client_id: Utf8String,
    /// Will Message.
    pub will: Option<Box<Will>>,
    /// User Name.
    pub username: Option<Utf8String>,
    /// Password.
    pub password: Option<Bytes>,
    /// CONNECT properties.
    pub properties: Option<Box<Properties>>,
}

/// The Will Message of a CONNECT (3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Will Topic, a valid topic name.
    pub topic: Utf8String,
    /// Will Payload.
    pub payload: Bytes,
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Properties.
    pub properties: Option<Box<Properties>>,
}

/// CONNACK (3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Session Present.
    pub session_present: bool,
    /// Connect Reason Code; mapped to a return code for 3.x.
    pub reason: ReasonCode,
    /// CONNACK properties.
    pub properties: Option<Box<Properties>>,
}

/// PUBLISH (3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// DUP flag.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic Name without wildcards; empty only under 5.0 beside a Topic Alias.
    pub topic: Utf8String,
    /// Present exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// PUBLISH properties.
    pub properties: Option<Box<Properties>>,
    /// Application Message.
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Packet identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// Reason code, `Success` under 3.x.
    pub reason: ReasonCode,
    /// Reason String and User Properties.
    pub properties: Option<Box<Properties>>,
}

/// SUBSCRIBE (3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// Subscription Identifier and User Properties.
    pub properties: Option<Box<Properties>>,
    /// At least one.
    pub filters: Vec<SubscribeFilter>,
}

/// One Topic Filter of a SUBSCRIBE with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// A valid topic filter, with `$share/group/` where given.
    pub filter: Utf8String,
    /// Subscription Options.
    pub options: SubscriptionOptions,
}

/// Subscription Options (3.8.3.1); 3.x carries only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent on SUBSCRIBE (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every subscribe.
    #[default]
    Send = 0,
    /// Only where the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// SUBACK (3.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Packet identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Reason String and User Properties.
    pub properties: Option<Box<Properties>>,
    /// One per filter, in order; every failure is written as 0x80 under 3.x.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE (3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// User Properties.
    pub properties: Option<Box<Properties>>,
    /// At least one.
    pub filters: Vec<Utf8String>,
}

/// UNSUBACK (3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// Packet identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Reason String and User Properties.
    pub properties: Option<Box<Properties>>,
    /// One per filter, in order; not written under 3.x.
    pub reasons: Vec<ReasonCode>,
}

/// DISCONNECT (3.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Reason code, `Success` (normal disconnection) under 3.x.
    pub reason: ReasonCode,
    /// Session Expiry Interval, Reason String, User Properties, Server Reference.
    pub properties: Option<Box<Properties>>,
}

/// AUTH (3.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// Authentication Method and Data, Reason String, User Properties.
    pub properties: Option<Box<Properties>>,
}

impl Packet {
    /// The packet's type.
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

impl PacketType {
    /// The type in the upper half of a packet's first byte; `None` for the reserved 0.
    #[inline]
    pub(crate) const fn of_first_byte(byte: u8) -> Option<Self> {
        Some(match byte >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The name the specification gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

impl QoS {
    /// The QoS in the two lowest bits; `None` for the reserved 3.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0b11 {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}
