//! What plugins are told about a client's certificate, and whom it stands for.

use super::distinguished_name;
use crate::config::CertificateIdentity;
use nervewire_core::hook::Certificate;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Error};

/// A certificate that nothing is told about: its client is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactsError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] X509Error),
    /// CR, LF or NUL in a name would be a header or a line of its own wherever somebody writes the name down.
    #[error("it has a control character in a name")]
    ControlCharacter,
}

/// What plugins are told about a client's certificate, which the handshake has verified already.
pub(crate) fn certificate_facts(der: &[u8]) -> Result<Certificate, FactsError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
        x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
    })?;
    let alternative_names = certificate
        .subject_alternative_name()?
        .map_or_else(Vec::new, |extension| {
            extension.value.general_names.iter().filter_map(general_name).collect()
        });
    let common_name = certificate
        .subject()
        .iter_common_name()
        .find_map(distinguished_name::attribute_text);
    let mut names = common_name.iter().chain(&alternative_names);
    if names.any(|name| name.contains(char::is_control)) {
        return Err(FactsError::ControlCharacter);
    }
    Ok(Certificate {
        subject: distinguished_name::rfc4514(certificate.subject()),
        issuer: distinguished_name::rfc4514(certificate.issuer()),
        common_name,
        alternative_names,
        serial: serial(certificate.raw_serial()),
        fingerprint: hexadecimal(&Sha256::digest(der)),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// The user name that a verified certificate stands for; `None` where it has no such name, or one that is no MQTT user name.
pub(crate) fn identity_name(certificate: &Certificate, identity: CertificateIdentity) -> Option<String> {
    let name = match identity {
        CertificateIdentity::CommonName => certificate.common_name.as_ref(),
        CertificateIdentity::AlternativeName => certificate.alternative_names.first(),
        CertificateIdentity::Fingerprint => Some(&certificate.fingerprint),
    };
    name.filter(|name| !name.is_empty() && !name.contains(char::is_control))
        .cloned()
}

/// A serial number as text.
pub(super) fn serial(raw: &[u8]) -> String {
    hexadecimal(match raw {
        // The sign byte of a positive DER integer is not part of the number.
        [0, serial @ ..] if !serial.is_empty() => serial,
        serial => serial,
    })
}

/// DNS names, e-mail addresses, URIs and IP addresses; the other kinds have no common text form.
pub(super) fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
