//! What can be wrong with the files of a `tls` table, and what to do.

use rustls::pki_types::pem;
use std::path::{Path, PathBuf};
use x509_parser::prelude::ASN1Time;

/// A key of a `tls` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Cert,
    Key,
    ClientCa,
    /// The list at this position of `crl`.
    Crl(usize),
    /// `name` of the entry at this position of `sni`.
    SniName(usize),
    /// Its `cert`.
    SniCert(usize),
    /// Its `key`.
    SniKey(usize),
}

/// A value of a `tls` table that cannot be used: which, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", .file.display())]
pub(crate) struct TlsError {
    pub(super) part: Part,
    pub(super) file: PathBuf,
    pub(super) problem: TlsProblem,
}

impl TlsError {
    /// The key that names it.
    pub(crate) fn part(&self) -> Part {
        self.part
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
    /// No key.
    #[error("has no private key; write the path of a PEM file with an unencrypted BEGIN PRIVATE KEY")]
    NoKey,
    /// A key behind a passphrase that nobody could type.
    #[error(
        "has an encrypted private key, and the broker asks for no passphrase; write the path of the key as \
         `openssl pkey -in OLD -out NEW` writes it, readable for the broker alone"
    )]
    EncryptedKey,
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
    /// A certificate of a server or client where an authority's belongs.
    #[error(
        "has the certificate \"{0}\", which is no authority and can sign no client's; write the path of the certificates \
         of your authorities"
    )]
    NoAuthority(String),
    /// Not a certificate revocation list.
    #[error("has no revocation list; write the path of a PEM file with BEGIN X509 CRL, or of a DER file")]
    NoList,
    /// One that cannot be read, or asks for what is not supported.
    #[error("has a revocation list that cannot be read: {0}; write the path of a complete one, not of a delta")]
    InvalidList(String),
    /// Signed by somebody else.
    #[error(
        "has a revocation list of \"{0}\", which no authority of client_ca has signed; add that authority to client_ca, or \
         write the path of a list of one that is there"
    )]
    ForeignList(String),
    /// The authority says itself that it signs no lists.
    #[error(
        "has a revocation list of \"{0}\", whose certificate does not allow it to sign lists (key usage cRLSign); write the \
         path of a certificate that does in client_ca, or remove the list"
    )]
    NoListSigner(String),
    /// Its time is over: nobody knows what was revoked since.
    #[error("has a revocation list whose nextUpdate passed at {0}; write the path of the authority's present one")]
    ExpiredList(ASN1Time),
    /// An authority without list, whose clients would all be refused.
    #[error(
        "has the authority \"{0}\", of which crl has no list, so that all of its clients would be refused; add its list to \
         crl, or remove the authority"
    )]
    WithoutList(String),
    /// A certificate that no client would accept for this name.
    #[error(
        "has a certificate that is not valid for \"{name}\", but for {names}; write one of these names, or the path of another certificate"
    )]
    OtherName { name: String, names: String },
    /// Two entries for one name.
    #[error("is in sni twice; remove one of the entries")]
    NameTwice,
}

pub(super) fn about(part: Part, file: &Path) -> impl Fn(TlsProblem) -> TlsError + '_ {
    move |problem| TlsError {
        part,
        file: file.to_owned(),
        problem,
    }
}

/// `nothing_found`: what it means that a PEM file has nothing of the kind.
pub(super) fn pem_problem(error: pem::Error, nothing_found: TlsProblem) -> TlsProblem {
    match error {
        pem::Error::Io(error) => TlsProblem::Unreadable(error),
        pem::Error::NoItemsFound => nothing_found,
        error => TlsProblem::NotPem(error),
    }
}
