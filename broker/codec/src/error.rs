//! What can be wrong with a packet, and the Reason Code that tells the peer.

use crate::topic::TopicError;
use crate::utf8::StringError;
use crate::{PacketType, PropertyId, PropertyOwner, ReasonCode, Version};

/// Why received bytes are not an acceptable packet. Always the sender's fault; [`DecodeError::reason`] is what to tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The upper half of the first byte is 0.
    #[error("packet type 0 is reserved")]
    ReservedPacketType,
    /// [MQTT-2.1.3-1], [MQTT-3.3.1-2], [MQTT-3.3.1-4]
    #[error("{packet} with the fixed header flags {flags:#06b}")]
    HeaderFlags {
        /// Type of the packet.
        packet: PacketType,
        /// The lower half of the first byte.
        flags: u8,
    },
    /// [MQTT-1.5.5-1], and more than four bytes.
    #[error("a variable byte integer has more than four bytes or more than it needs")]
    VariableByteInteger,
    /// Refused from its fixed header.
    #[error("a packet of {bytes} bytes is over the limit of {limit_bytes} bytes")]
    PacketTooLarge {
        /// Whole packet with its fixed header.
        bytes: u64,
        /// The limit it breaks.
        limit_bytes: u32,
    },
    /// [MQTT-3.1.0-1]
    #[error("the first packet is {packet}, not CONNECT")]
    ConnectExpected {
        /// Type of the packet.
        packet: PacketType,
    },
    /// AUTH before 5.0.
    #[error("{packet} does not exist in MQTT {version}")]
    PacketNotInVersion {
        /// Type of the packet.
        packet: PacketType,
        /// Version of the connection.
        version: Version,
    },
    /// A field runs over the end of the packet or of its property block.
    #[error("the packet ends inside a field")]
    Truncated,
    /// The packet is longer than its fields.
    #[error("{packet} has {bytes} bytes behind its last field")]
    TrailingBytes {
        /// Type of the packet.
        packet: PacketType,
        /// How many.
        bytes: usize,
    },
    /// [MQTT-1.5.4-1], [MQTT-1.5.4-2]
    #[error(transparent)]
    String(#[from] StringError),
    /// [MQTT-3.1.2-1]
    #[error("the protocol name is neither MQTT nor MQIsdp")]
    ProtocolName,
    /// [MQTT-3.1.2-2]
    #[error("protocol level {level} is not supported with this protocol name")]
    ProtocolVersion {
        /// The Protocol Level byte.
        level: u8,
    },
    /// [MQTT-3.1.2-3]
    #[error("the reserved bit of the CONNECT flags is set")]
    ConnectFlagReserved,
    /// [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    #[error("Will QoS or Will Retain without a Will Message")]
    WillFlags,
    /// [MQTT-3.1.2-12]
    #[error("Will QoS 3")]
    WillQoS,
    /// [MQTT-3.1.2-22] of 3.1.1
    #[error("a password without a user name")]
    PasswordWithoutUserName,
    /// [MQTT-3.1.3-8] of 3.1.1
    #[error("an empty Client Identifier, which MQTT 3.1 never and 3.1.1 only with Clean Session allows")]
    ClientIdentifier,
    /// [MQTT-2.2.1-3], [MQTT-2.2.1-4]
    #[error("packet identifier 0")]
    PacketIdentifier,
    /// [MQTT-3.3.2-2], [MQTT-4.7.3-1]
    #[error("invalid topic name: {0}")]
    TopicName(TopicError),
    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[error("invalid topic filter: {0}")]
    TopicFilter(TopicError),
    /// [MQTT-3.3.2-8]
    #[error("Topic Alias 0")]
    TopicAlias,
    /// An empty topic name needs a Topic Alias (3.3.2.1).
    #[error("an empty topic name without a Topic Alias")]
    TopicNameMissing,
    /// [MQTT-3.8.3-2], [MQTT-3.10.3-2]
    #[error("{packet} without a topic filter")]
    TopicFilterMissing {
        /// Type of the packet.
        packet: PacketType,
    },
    /// [MQTT-3.8.3-5]
    #[error("reserved bits of the subscription options are set: {options:#04x}")]
    SubscriptionOptions {
        /// The options byte.
        options: u8,
    },
    /// A protocol error by 3.8.3.1.
    #[error("maximum QoS 3 in the subscription options")]
    SubscriptionQoS,
    /// A protocol error by 3.8.3.1.
    #[error("Retain Handling 3 in the subscription options")]
    RetainHandling,
    /// [MQTT-3.8.3-4]
    #[error("No Local on a shared subscription")]
    NoLocalOnSharedSubscription,
    /// [MQTT-3.2.2-1]
    #[error("reserved CONNACK flags are set: {flags:#04x}")]
    ConnAckFlags {
        /// The Connect Acknowledge Flags.
        flags: u8,
    },
    /// [MQTT-3.2.2-6]
    #[error("Session Present in a CONNACK that refuses")]
    SessionPresent,
    /// No such code, or not one of this packet type.
    #[error("reason code {code:#04x} in {packet}")]
    ReasonCode {
        /// Type of the packet.
        packet: PacketType,
        /// The byte.
        code: u8,
    },
    /// SUBACK and 5.0 UNSUBACK answer at least one filter.
    #[error("{packet} without a reason code")]
    ReasonCodeMissing {
        /// Type of the packet.
        packet: PacketType,
    },
    /// Malformed by 2.2.2.2.
    #[error("unknown property identifier {id:#04x}")]
    UnknownProperty {
        /// The identifier.
        id: u8,
    },
    /// Malformed by 2.2.2.2.
    #[error("{property} is not a property of {owner}")]
    MisplacedProperty {
        /// The property.
        property: PropertyId,
        /// Where it stood.
        owner: PropertyOwner,
    },
    /// A protocol error by the property's own section.
    #[error("{property} twice")]
    DuplicateProperty {
        /// The property.
        property: PropertyId,
    },
    /// A protocol error by the property's own section.
    #[error("{property} has a value outside its range")]
    PropertyValue {
        /// The property.
        property: PropertyId,
    },
    /// Protocol errors by 3.1.2.11.10 and 3.15.2.2.2.
    #[error("{owner} needs an Authentication Method")]
    AuthenticationMethodMissing {
        /// Where it is missing.
        owner: PropertyOwner,
    },
}

impl DecodeError {
    /// The Reason Code for the CONNACK or DISCONNECT that answers.
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::ReservedPacketType
            | Self::HeaderFlags { .. }
            | Self::VariableByteInteger
            | Self::Truncated
            | Self::TrailingBytes { .. }
            | Self::String(_)
            | Self::ConnectFlagReserved
            | Self::WillFlags
            | Self::WillQoS
            | Self::SubscriptionOptions { .. }
            | Self::ConnAckFlags { .. }
            | Self::UnknownProperty { .. }
            | Self::MisplacedProperty { .. } => ReasonCode::MalformedPacket,
            Self::ConnectExpected { .. }
            | Self::PacketNotInVersion { .. }
            | Self::PasswordWithoutUserName
            | Self::PacketIdentifier
            | Self::TopicNameMissing
            | Self::TopicFilterMissing { .. }
            | Self::SubscriptionQoS
            | Self::RetainHandling
            | Self::NoLocalOnSharedSubscription
            | Self::SessionPresent
            | Self::ReasonCode { .. }
            | Self::ReasonCodeMissing { .. }
            | Self::DuplicateProperty { .. }
            | Self::PropertyValue { .. }
            | Self::AuthenticationMethodMissing { .. } => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::ProtocolVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::ClientIdentifier => ReasonCode::ClientIdentifierNotValid,
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
            Self::TopicFilter(_) => ReasonCode::TopicFilterInvalid,
            Self::TopicAlias => ReasonCode::TopicAliasInvalid,
        }
    }
}

/// Why a packet cannot be written for a version. The caller's fault, never the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// AUTH, or a DISCONNECT with a reason, before 5.0: the caller closes the connection instead.
    #[error("{packet} cannot be sent under MQTT {version}")]
    PacketNotInVersion {
        /// Type of the packet.
        packet: PacketType,
        /// Version of the connection.
        version: Version,
    },
    /// Remaining Length over 268,435,455.
    #[error("a packet of {bytes} bytes is longer than MQTT can express")]
    PacketTooLarge {
        /// Bytes behind the fixed header.
        bytes: usize,
    },
    /// A string or Binary Data over 65,535 bytes.
    #[error("a field of {bytes} bytes is longer than 65535 bytes")]
    FieldTooLong {
        /// Its length.
        bytes: usize,
    },
    /// QoS 1 and 2 need a packet identifier, QoS 0 must not have one [MQTT-2.2.1-2].
    #[error("QoS and packet identifier of a PUBLISH do not fit")]
    PacketIdentifier,
    /// An empty topic name needs a Topic Alias, which only 5.0 has.
    #[error("an empty topic name without a Topic Alias")]
    TopicNameMissing,
    /// Not 1 to 268,435,455.
    #[error("subscription identifier {0} is out of range")]
    SubscriptionIdentifier(u32),
    /// Not a code of this packet type.
    #[error("{reason} is not a reason code of {packet}")]
    ReasonCode {
        /// Type of the packet.
        packet: PacketType,
        /// The code.
        reason: ReasonCode,
    },
    /// SUBSCRIBE, UNSUBSCRIBE, SUBACK, UNSUBACK answer or ask at least once.
    #[error("{packet} with an empty list")]
    EmptyList {
        /// Type of the packet.
        packet: PacketType,
    },
}
