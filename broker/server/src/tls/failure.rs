//! Why a client did not get through the TLS handshake: a bounded set, for metrics and logs.

use rustls::{CertificateError, Error};

/// The reason of a failed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It speaks MQTT without TLS.
    PlainMqtt,
    /// It speaks something else.
    NotTls,
    /// The other way round: TLS where the listener has none.
    TlsToPlain,
    NoCertificate,
    CertificateExpired,
    CertificateRevoked,
    /// No list says whether its certificate was revoked, or only one that is too old.
    RevocationUnknown,
    UnknownAuthority,
    BadCertificate,
    /// No version, cipher or signature in common.
    Incompatible,
    /// The client ended it with an alert, most often because it does not trust our certificate.
    RefusedByClient,
    /// The client left in the middle.
    Closed,
    Other,
}

impl Failure {
    /// All of them, in the order in which they are counted.
    pub(crate) const ALL: [Self; 13] = [
        Self::PlainMqtt,
        Self::NotTls,
        Self::TlsToPlain,
        Self::NoCertificate,
        Self::CertificateExpired,
        Self::CertificateRevoked,
        Self::RevocationUnknown,
        Self::UnknownAuthority,
        Self::BadCertificate,
        Self::Incompatible,
        Self::RefusedByClient,
        Self::Closed,
        Self::Other,
    ];

    /// Its label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::PlainMqtt => "plain_mqtt",
            Self::NotTls => "not_tls",
            Self::TlsToPlain => "tls_to_plain",
            Self::NoCertificate => "no_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::UnknownAuthority => "unknown_authority",
            Self::BadCertificate => "bad_certificate",
            Self::Incompatible => "incompatible",
            Self::RefusedByClient => "refused_by_client",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    /// What somebody who looks after the broker should know, where the client is only configured wrongly.
    pub(crate) fn advice(self) -> Option<&'static str> {
        match self {
            Self::PlainMqtt => Some(
                "a client speaks MQTT without TLS to a TLS listener; switch on TLS in the client, or use another port",
            ),
            Self::TlsToPlain => Some(
                "a client speaks TLS to a listener without tls; give the listener tls = { ... }, or use another port",
            ),
            _ => None,
        }
    }

    /// What rustls says; `first`: the first byte that the client sent.
    pub(crate) fn of(error: &Error, first: Option<u8>) -> Self {
        const MQTT_CONNECT: u8 = 0x10;
        const TLS_HANDSHAKE: u8 = 0x16;
        match error {
            Error::InvalidMessage(_) if first == Some(MQTT_CONNECT) => Self::PlainMqtt,
            Error::InvalidMessage(_) if first != Some(TLS_HANDSHAKE) => Self::NotTls,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::AlertReceived(_) => Self::RefusedByClient,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::CertificateExpired,
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationUnknown,
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            _ => Self::BadCertificate,
        }
    }
}

/// Whether bytes on a listener without TLS begin a TLS handshake: a record of that type, version 3.x.
pub(crate) fn is_tls_handshake(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::InvalidMessage;

    #[test]
    fn the_first_byte_tells_what_was_spoken_instead() {
        let error = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(Failure::of(&error, Some(0x10)), Failure::PlainMqtt);
        assert_eq!(Failure::of(&error, Some(b'G')), Failure::NotTls);
        assert_eq!(Failure::of(&error, Some(0x16)), Failure::Other);
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<_> = Failure::ALL.iter().map(|failure| failure.label()).collect();
        assert_eq!(labels.len(), Failure::ALL.len());
    }

    #[test]
    fn a_tls_record_on_a_plain_listener_is_recognized() {
        assert!(is_tls_handshake(&[0x16, 3, 1, 2, 0]));
        assert!(!is_tls_handshake(&[0x16]));
        assert!(!is_tls_handshake(&[0x10, 13]));
    }
}
