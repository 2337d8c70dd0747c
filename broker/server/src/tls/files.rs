//! Reads the files that a `tls` table names, each once, so that what is judged is what is used.

use super::problem::{Part, TlsError, TlsProblem, about, pem_problem};
use crate::config::TlsSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// One file's bytes.
pub(super) struct Contents {
    pub(super) part: Part,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// A certificate's file and its key's.
pub(super) struct PairFiles {
    pub(super) cert: Contents,
    pub(super) key: Contents,
}

/// All files of a `tls` table.
pub(super) struct Files {
    pub(super) default: PairFiles,
    /// In the order of `sni`.
    pub(super) sni: Vec<PairFiles>,
    pub(super) clients: Option<ClientFiles>,
}

/// What clients' certificates are judged by.
pub(super) struct ClientFiles {
    pub(super) authorities: Contents,
    pub(super) lists: Vec<Contents>,
}

impl Files {
    /// Everything that can be read, or everything that cannot.
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, Vec<TlsError>> {
        let mut errors = Vec::new();
        let mut contents = |part, path: &Path| match std::fs::read(path) {
            Ok(bytes) => Some(Contents {
                part,
                path: path.to_owned(),
                bytes,
            }),
            Err(error) => {
                errors.push(about(part, path)(TlsProblem::Unreadable(error)));
                None
            }
        };
        let cert = contents(Part::Cert, &settings.cert);
        let key = contents(Part::Key, &settings.key);
        let mut sni = Vec::new();
        for (at, entry) in settings.sni.iter().enumerate() {
            let cert = contents(Part::SniCert(at), &entry.cert);
            let key = contents(Part::SniKey(at), &entry.key);
            sni.extend(cert.zip(key).map(|(cert, key)| PairFiles { cert, key }));
        }
        let clients = settings.client.as_ref().map(|client| {
            let lists = client.crl.iter().enumerate();
            let lists: Vec<_> = lists.filter_map(|(at, list)| contents(Part::Crl(at), list)).collect();
            contents(Part::ClientCa, &client.client_ca).map(|authorities| ClientFiles { authorities, lists })
        });
        match (cert.zip(key), errors.is_empty()) {
            (Some((cert, key)), true) => Ok(Self {
                default: PairFiles { cert, key },
                sni,
                clients: clients.flatten(),
            }),
            _ => Err(errors),
        }
    }

    /// Equal where all bytes are.
    pub(super) fn digest(&self) -> [u8; 32] {
        let pairs = std::iter::once(&self.default).chain(&self.sni);
        let pairs = pairs.flat_map(|pair| [&pair.cert, &pair.key]);
        digest(pairs.chain(self.clients.iter().flat_map(ClientFiles::all)))
    }
}

impl ClientFiles {
    /// Equal where all bytes are.
    pub(super) fn digest(&self) -> [u8; 32] {
        digest(self.all())
    }

    fn all(&self) -> impl Iterator<Item = &Contents> {
        std::iter::once(&self.authorities).chain(&self.lists)
    }
}

fn digest<'a>(contents: impl Iterator<Item = &'a Contents>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for contents in contents {
        digest.update((contents.bytes.len() as u64).to_be_bytes());
        digest.update(&contents.bytes);
    }
    digest.finalize().into()
}

impl Contents {
    pub(super) fn error(&self, problem: TlsProblem) -> TlsError {
        about(self.part, &self.path)(problem)
    }

    /// The certificates of a PEM file; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match read {
            Ok(certificates) if certificates.is_empty() => Err(self.error(TlsProblem::NoCertificate)),
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(self.error(pem_problem(error, TlsProblem::NoCertificate))),
        }
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let has = |text: &[u8]| self.bytes.windows(text.len()).any(|bytes| bytes == text);
        // PKCS #8 says it in the label, the older forms in a header.
        if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
            return Err(self.error(TlsProblem::EncryptedKey));
        }
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| self.error(pem_problem(error, TlsProblem::NoKey)))
    }

    /// The revocation lists of a PEM file, or the one of a DER file; at least one.
    pub(super) fn lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        const DER_SEQUENCE: u8 = 0x30;
        if self.bytes.first() == Some(&DER_SEQUENCE) {
            return Ok(vec![CertificateRevocationListDer::from(self.bytes.clone())]);
        }
        let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&self.bytes).collect();
        match read {
            Ok(lists) if lists.is_empty() => Err(self.error(TlsProblem::NoList)),
            Ok(lists) => Ok(lists),
            Err(error) => Err(self.error(pem_problem(error, TlsProblem::NoList))),
        }
    }
}
