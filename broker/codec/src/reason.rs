//! Reason Codes (MQTT 5.0 section 2.4) and the CONNACK return codes of 3.x.

use crate::{PacketType, Version};
use std::fmt;

/// Writes the enum and everything that is looked up by code from one table: name, code, text, packets that may carry it.
macro_rules! reason_codes {
    ($($name:ident = $code:literal $text:literal in $($packet:ident)*;)*) => {
        /// A Reason Code; names and values are the specification's. `Success` is also Normal disconnection and Granted QoS 0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $text] $name = $code,)*
        }

        impl ReasonCode {
            /// Every reason code, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name the specification gives it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn packets(self) -> u16 {
                match self { $(Self::$name => 0 $(| 1 << PacketType::$packet as u8)*,)* }
            }
        }

        impl TryFrom<u8> for ReasonCode {
            type Error = u8;
            /// Gives the byte back where no reason code has this value.
            fn try_from(code: u8) -> Result<Self, u8> {
                match code { $($code => Ok(Self::$name),)* other => Err(other) }
            }
        }
    };
}

reason_codes! {
    Success = 0x00 "Success" in ConnAck PubAck PubRec PubRel PubComp SubAck UnsubAck Disconnect Auth;
    GrantedQoS1 = 0x01 "Granted QoS 1" in SubAck;
    GrantedQoS2 = 0x02 "Granted QoS 2" in SubAck;
    DisconnectWithWillMessage = 0x04 "Disconnect with Will Message" in Disconnect;
    NoMatchingSubscribers = 0x10 "No matching subscribers" in PubAck PubRec;
    NoSubscriptionExisted = 0x11 "No subscription existed" in UnsubAck;
    ContinueAuthentication = 0x18 "Continue authentication" in Auth;
    ReAuthenticate = 0x19 "Re-authenticate" in Auth;
    UnspecifiedError = 0x80 "Unspecified error" in ConnAck PubAck PubRec SubAck UnsubAck Disconnect;
    MalformedPacket = 0x81 "Malformed Packet" in ConnAck Disconnect;
    ProtocolError = 0x82 "Protocol Error" in ConnAck Disconnect;
    ImplementationSpecificError = 0x83 "Implementation specific error" in ConnAck PubAck PubRec SubAck UnsubAck Disconnect;
    UnsupportedProtocolVersion = 0x84 "Unsupported Protocol Version" in ConnAck;
    ClientIdentifierNotValid = 0x85 "Client Identifier not valid" in ConnAck;
    BadUserNameOrPassword = 0x86 "Bad User Name or Password" in ConnAck;
    NotAuthorized = 0x87 "Not authorized" in ConnAck PubAck PubRec SubAck UnsubAck Disconnect;
    ServerUnavailable = 0x88 "Server unavailable" in ConnAck;
    ServerBusy = 0x89 "Server busy" in ConnAck Disconnect;
    Banned = 0x8A "Banned" in ConnAck;
    ServerShuttingDown = 0x8B "Server shutting down" in Disconnect;
    BadAuthenticationMethod = 0x8C "Bad authentication method" in ConnAck Disconnect;
    KeepAliveTimeout = 0x8D "Keep Alive timeout" in Disconnect;
    SessionTakenOver = 0x8E "Session taken over" in Disconnect;
    TopicFilterInvalid = 0x8F "Topic Filter invalid" in SubAck UnsubAck Disconnect;
    TopicNameInvalid = 0x90 "Topic Name invalid" in ConnAck PubAck PubRec Disconnect;
    PacketIdentifierInUse = 0x91 "Packet Identifier in use" in PubAck PubRec SubAck UnsubAck;
    PacketIdentifierNotFound = 0x92 "Packet Identifier not found" in PubRel PubComp;
    ReceiveMaximumExceeded = 0x93 "Receive Maximum exceeded" in Disconnect;
    TopicAliasInvalid = 0x94 "Topic Alias invalid" in Disconnect;
    PacketTooLarge = 0x95 "Packet too large" in ConnAck Disconnect;
    MessageRateTooHigh = 0x96 "Message rate too high" in Disconnect;
    QuotaExceeded = 0x97 "Quota exceeded" in ConnAck PubAck PubRec SubAck Disconnect;
    AdministrativeAction = 0x98 "Administrative action" in Disconnect;
    PayloadFormatInvalid = 0x99 "Payload format invalid" in ConnAck PubAck PubRec Disconnect;
    RetainNotSupported = 0x9A "Retain not supported" in ConnAck Disconnect;
    QoSNotSupported = 0x9B "QoS not supported" in ConnAck Disconnect;
    UseAnotherServer = 0x9C "Use another server" in ConnAck Disconnect;
    ServerMoved = 0x9D "Server moved" in ConnAck Disconnect;
    SharedSubscriptionsNotSupported = 0x9E "Shared Subscriptions not supported" in SubAck Disconnect;
    ConnectionRateExceeded = 0x9F "Connection rate exceeded" in ConnAck Disconnect;
    MaximumConnectTime = 0xA0 "Maximum connect time" in Disconnect;
    SubscriptionIdentifiersNotSupported = 0xA1 "Subscription Identifiers not supported" in SubAck Disconnect;
    WildcardSubscriptionsNotSupported = 0xA2 "Wildcard Subscriptions not supported" in SubAck Disconnect;
}

impl ReasonCode {
    /// Codes from 0x80 say that the operation failed.
    #[inline]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether a packet of this type may carry the code under MQTT 5.0 (table 2-6).
    #[inline]
    pub const fn allowed_in(self, packet: PacketType) -> bool {
        self.packets() & (1 << packet as u8) != 0
    }

    /// The byte in a CONNACK for `version`: the code itself for 5.0, for 3.x the nearest return code of table 3.1.
    pub const fn connect_return_code(self, version: Version) -> u8 {
        match (version, self) {
            (Version::V5, _) => self as u8,
            (_, Self::UnsupportedProtocolVersion) => 1,
            (_, Self::ClientIdentifierNotValid) => 2,
            (_, Self::ServerUnavailable | Self::ServerBusy | Self::QuotaExceeded) => 3,
            (_, Self::UseAnotherServer | Self::ServerMoved | Self::ConnectionRateExceeded) => 3,
            (_, Self::BadUserNameOrPassword) => 4,
            (_, refusal) if refusal.is_error() => 5,
            _ => 0,
        }
    }

    /// The reason that a 3.x CONNACK return code stands for; `None` for reserved codes.
    pub const fn from_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_a_reason_code_or_comes_back() {
        for code in 0..=u8::MAX {
            match ReasonCode::try_from(code) {
                Ok(reason) => assert_eq!(reason as u8, code),
                Err(byte) => assert_eq!(byte, code),
            }
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
    }

    #[test]
    fn return_codes_of_3x_are_the_nearest() {
        let check = |reason: ReasonCode, expected: u8| {
            assert_eq!(reason.connect_return_code(Version::V31), expected, "{reason}");
            assert_eq!(reason.connect_return_code(Version::V311), expected, "{reason}");
            assert_eq!(reason.connect_return_code(Version::V5), reason as u8, "{reason}");
        };
        check(ReasonCode::Success, 0);
        check(ReasonCode::UnsupportedProtocolVersion, 1);
        check(ReasonCode::ClientIdentifierNotValid, 2);
        check(ReasonCode::ServerUnavailable, 3);
        check(ReasonCode::ServerBusy, 3);
        check(ReasonCode::QuotaExceeded, 3);
        check(ReasonCode::BadUserNameOrPassword, 4);
        check(ReasonCode::NotAuthorized, 5);
        check(ReasonCode::Banned, 5);
        check(ReasonCode::UnspecifiedError, 5);
    }

    #[test]
    fn return_codes_survive_the_way_there_and_back() {
        for code in 0..=5 {
            let reason = ReasonCode::from_return_code(code).expect("defined");
            assert_eq!(reason.connect_return_code(Version::V311), code);
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
    }

    // Counted in table 2-6 of the specification, column "Packets".
    #[test]
    fn each_packet_carries_as_many_codes_as_the_specification_lists() {
        let check = |packet: PacketType, expected: usize| {
            let count = ReasonCode::ALL.iter().filter(|r| r.allowed_in(packet)).count();
            assert_eq!(count, expected, "{packet:?}");
        };
        check(PacketType::ConnAck, 22);
        check(PacketType::PubAck, 9);
        check(PacketType::PubRec, 9);
        check(PacketType::PubRel, 2);
        check(PacketType::PubComp, 2);
        check(PacketType::SubAck, 12);
        check(PacketType::UnsubAck, 7);
        check(PacketType::Disconnect, 30);
        check(PacketType::Auth, 3);
        check(PacketType::Publish, 0);
    }
}
