//! Property identifiers and where each may stand (MQTT 5.0 table 2-4).

use crate::PacketType;
use std::fmt;

/// What a set of properties belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyOwner {
    /// The variable header of a packet.
    Packet(PacketType),
    /// The Will Properties in the payload of a CONNECT.
    Will,
}

/// Writes the enum and its lookups from one table: name, identifier, text, owners.
macro_rules! property_ids {
    ($($name:ident = $id:literal $text:literal in $($owner:ident)*;)*) => {
        /// A property identifier; names and values are the specification's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $(#[doc = $text] $name = $id,)*
        }

        impl PropertyId {
            /// The property with this identifier.
            pub(crate) const fn from_byte(id: u8) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// The name the specification gives it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn owners(self) -> u16 {
                match self { $(Self::$name => 0 $(| owner_bit::$owner)*,)* }
            }
        }
    };
}

/// One bit for every owner: packet types at their own number, the will at the unused 0.
#[allow(non_upper_case_globals)] // Spelled as in the table below.
mod owner_bit {
    use crate::PacketType;

    pub(super) const Will: u16 = 1;
    pub(super) const Connect: u16 = 1 << PacketType::Connect as u8;
    pub(super) const ConnAck: u16 = 1 << PacketType::ConnAck as u8;
    pub(super) const Publish: u16 = 1 << PacketType::Publish as u8;
    pub(super) const Subscribe: u16 = 1 << PacketType::Subscribe as u8;
    pub(super) const Disconnect: u16 = 1 << PacketType::Disconnect as u8;
    pub(super) const Auth: u16 = 1 << PacketType::Auth as u8;
    /// Every acknowledgement below CONNACK.
    pub(super) const Acks: u16 = (1 << PacketType::PubAck as u8)
        | (1 << PacketType::PubRec as u8)
        | (1 << PacketType::PubRel as u8)
        | (1 << PacketType::PubComp as u8)
        | (1 << PacketType::SubAck as u8)
        | (1 << PacketType::UnsubAck as u8);
    pub(super) const Everything: u16 =
        Will | Connect | ConnAck | Publish | Subscribe | 1 << PacketType::Unsubscribe as u8 | Disconnect | Auth | Acks;
}

property_ids! {
    PayloadFormatIndicator = 0x01 "Payload Format Indicator" in Publish Will;
    MessageExpiryInterval = 0x02 "Message Expiry Interval" in Publish Will;
    ContentType = 0x03 "Content Type" in Publish Will;
    ResponseTopic = 0x08 "Response Topic" in Publish Will;
    CorrelationData = 0x09 "Correlation Data" in Publish Will;
    SubscriptionIdentifier = 0x0B "Subscription Identifier" in Publish Subscribe;
    SessionExpiryInterval = 0x11 "Session Expiry Interval" in Connect ConnAck Disconnect;
    AssignedClientIdentifier = 0x12 "Assigned Client Identifier" in ConnAck;
    ServerKeepAlive = 0x13 "Server Keep Alive" in ConnAck;
    AuthenticationMethod = 0x15 "Authentication Method" in Connect ConnAck Auth;
    AuthenticationData = 0x16 "Authentication Data" in Connect ConnAck Auth;
    RequestProblemInformation = 0x17 "Request Problem Information" in Connect;
    WillDelayInterval = 0x18 "Will Delay Interval" in Will;
    RequestResponseInformation = 0x19 "Request Response Information" in Connect;
    ResponseInformation = 0x1A "Response Information" in ConnAck;
    ServerReference = 0x1C "Server Reference" in ConnAck Disconnect;
    ReasonString = 0x1F "Reason String" in ConnAck Acks Disconnect Auth;
    ReceiveMaximum = 0x21 "Receive Maximum" in Connect ConnAck;
    TopicAliasMaximum = 0x22 "Topic Alias Maximum" in Connect ConnAck;
    TopicAlias = 0x23 "Topic Alias" in Publish;
    MaximumQoS = 0x24 "Maximum QoS" in ConnAck;
    RetainAvailable = 0x25 "Retain Available" in ConnAck;
    UserProperty = 0x26 "User Property" in Everything;
    MaximumPacketSize = 0x27 "Maximum Packet Size" in Connect ConnAck;
    WildcardSubscriptionAvailable = 0x28 "Wildcard Subscription Available" in ConnAck;
    SubscriptionIdentifierAvailable = 0x29 "Subscription Identifier Available" in ConnAck;
    SharedSubscriptionAvailable = 0x2A "Shared Subscription Available" in ConnAck;
}

impl PropertyId {
    /// Whether `owner` may carry this property.
    #[inline]
    pub const fn allowed_in(self, owner: PropertyOwner) -> bool {
        let bit = match owner {
            PropertyOwner::Packet(packet) => 1 << packet as u8,
            PropertyOwner::Will => owner_bit::Will,
        };
        self.owners() & bit != 0
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for PropertyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(packet) => packet.fmt(f),
            Self::Will => f.write_str("the Will Properties"),
        }
    }
}
