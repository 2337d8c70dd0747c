//! TLS of listeners: loads what a configuration names, and reads from a client's certificate what plugins are told.

use crate::config::{CertificateIdentity, ClientCertificates, TlsSettings};
use nervewire_core::hook::Certificate;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Error};

mod distinguished_name;

/// A file of a `tls` table that cannot be used: which, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", .file.display())]
pub(crate) struct TlsError {
    file: PathBuf,
    problem: TlsProblem,
}

impl TlsError {
    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// What is wrong with a TLS file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsProblem {
    /// Missing, or no permission.
    #[error("cannot be read: {0}; write the path of a readable PEM file")]
    Unreadable(std::io::Error),
    /// Broken text.
    #[error("is not PEM: {0}; write the path of a PEM file")]
    NotPem(pem::Error),
    /// Nothing between BEGIN CERTIFICATE and END CERTIFICATE.
    #[error("has no certificate; write the path of a PEM file with BEGIN CERTIFICATE")]
    NoCertificate,
    /// No key, or an encrypted one.
    #[error("has no private key; write the path of a PEM file with an unencrypted BEGIN PRIVATE KEY")]
    NoKey,
    /// A certificate that is none.
    #[error("has a certificate that cannot be read: {0}; write the path of another")]
    InvalidCertificate(String),
    /// Its time has not come.
    #[error("has a certificate that is not valid before {0}; wait, set the clock, or write the path of another")]
    NotYetValid(ASN1Time),
    /// Its time is over.
    #[error("has a certificate that expired at {0}; write the path of a new one")]
    Expired(ASN1Time),
    /// Key and certificate belong to different pairs.
    #[error("has a private key that does not match the certificate in {}; write the paths of a pair", .0.display())]
    KeyMismatch(PathBuf),
    /// An algorithm or size that is not supported.
    #[error("has a private key that cannot be used: {0}; write the path of an RSA, ECDSA or Ed25519 key")]
    UnusableKey(rustls::Error),
    /// An authority that cannot sign certificates of clients.
    #[error("cannot be used to check clients: {0}; write the path of the certificates of your authorities")]
    UnusableAuthority(String),
}

/// TLS 1.2 and 1.3 with these certificates; everything that could fail is found out here, not at the first handshake.
pub(crate) fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&settings.cert)?;
    check_validity(&chain[0], ASN1Time::now()).map_err(about(&settings.cert))?;
    let key = private_key(&settings.key)?;
    let verifier = match &settings.client {
        Some(client) => client_verifier(client, &provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|error| pair_problem(error, &settings.cert))
        .map_err(about(&settings.key))?;
    Ok(Arc::new(config))
}

fn about(file: &Path) -> impl Fn(TlsProblem) -> TlsError + '_ {
    |problem| TlsError {
        file: file.to_owned(),
        problem,
    }
}

/// The certificates of a PEM file; at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(certificates) if certificates.is_empty() => Err(about(file)(TlsProblem::NoCertificate)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(about(file)(pem_problem(error, TlsProblem::NoCertificate))),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| about(file)(pem_problem(error, TlsProblem::NoKey)))
}

fn pem_problem(error: pem::Error, nothing_found: TlsProblem) -> TlsProblem {
    match error {
        pem::Error::Io(error) => TlsProblem::Unreadable(error),
        pem::Error::NoItemsFound => nothing_found,
        error => TlsProblem::NotPem(error),
    }
}

fn pair_problem(error: rustls::Error, cert: &Path) -> TlsProblem {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsProblem::KeyMismatch(cert.to_owned()),
        error => TlsProblem::UnusableKey(error),
    }
}

fn check_validity(certificate: &CertificateDer<'_>, now: ASN1Time) -> Result<(), TlsProblem> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| TlsProblem::InvalidCertificate(error.to_string()))?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(TlsProblem::NotYetValid(validity.not_before));
    }
    if now > validity.not_after {
        return Err(TlsProblem::Expired(validity.not_after));
    }
    Ok(())
}

fn client_verifier(
    client: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |error: String| about(&client.client_ca)(TlsProblem::UnusableAuthority(error));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&client.client_ca)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = match client.required {
        true => verifier,
        false => verifier.allow_unauthenticated(),
    };
    verifier.build().map_err(|error| unusable(error.to_string()))
}

/// What plugins are told about a client's certificate, which the handshake has verified already.
pub(crate) fn certificate_facts(der: &[u8]) -> Result<Certificate, X509Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
        x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
    })?;
    let alternative_names = certificate
        .subject_alternative_name()?
        .map_or_else(Vec::new, |extension| {
            extension.value.general_names.iter().filter_map(general_name).collect()
        });
    Ok(Certificate {
        subject: distinguished_name::rfc4514(certificate.subject()),
        issuer: distinguished_name::rfc4514(certificate.issuer()),
        common_name: certificate
            .subject()
            .iter_common_name()
            .find_map(distinguished_name::attribute_text),
        alternative_names,
        serial: hexadecimal(match certificate.raw_serial() {
            // The sign byte of a positive DER integer is not part of the number.
            [0, serial @ ..] if !serial.is_empty() => serial,
            serial => serial,
        }),
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

/// DNS names, e-mail addresses, URIs and IP addresses; the other kinds have no common text form.
fn general_name(name: &GeneralName<'_>) -> Option<String> {
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

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod tests;
