//! Which certificate a client is shown, by the name that it asks for (SNI, RFC 6066 section 3).

use super::facts::general_name;
use super::files::{Contents, PairFiles};
use super::problem::{Part, TlsError, TlsProblem, about};
use super::x509_reason;
use crate::config::SniSettings;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// A certificate with its key, and until when it can be shown.
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) not_after: ASN1Time,
    pub(super) cert: PathBuf,
}

impl Pair {
    pub(super) fn load(files: &PairFiles, provider: &CryptoProvider, now: ASN1Time) -> Result<Self, TlsError> {
        let chain = files.cert.certificates()?;
        let not_after = match chain.first() {
            Some(first) => valid_until(first, now).map_err(|problem| files.cert.error(problem))?,
            None => return Err(files.cert.error(TlsProblem::NoCertificate)),
        };
        let key = files.key.private_key()?;
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| files.key.error(pair_problem(error, &files.cert)))?;
        Ok(Self {
            certified: Arc::new(certified),
            not_after,
            cert: files.cert.path.clone(),
        })
    }

    /// Whether a client that asks for this name accepts the certificate.
    fn check_name(&self, name: &str) -> Result<(), TlsProblem> {
        let der = self.certified.end_entity_cert().ok();
        // A label that nobody has stands for any of those that `*` stands for.
        let example = match name.strip_prefix("*.") {
            Some(domain) => format!("any-label-of-nervewire.{domain}"),
            None => name.to_owned(),
        };
        let is_valid = der.and_then(|der| {
            let parsed = ParsedCertificate::try_from(der).ok()?;
            verify_server_name(&parsed, &ServerName::try_from(example).ok()?).ok()
        });
        is_valid.ok_or_else(|| TlsProblem::OtherName {
            name: name.to_owned(),
            names: der.map_or_else(String::new, names_of),
        })
    }
}

fn pair_problem(error: Error, cert: &Contents) -> TlsProblem {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsProblem::KeyMismatch(cert.path.clone()),
        error => TlsProblem::UnusableKey(error),
    }
}

fn valid_until(certificate: &CertificateDer<'_>, now: ASN1Time) -> Result<ASN1Time, TlsProblem> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| TlsProblem::InvalidCertificate(x509_reason(&error)))?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(TlsProblem::NotYetValid(validity.not_before));
    }
    if now > validity.not_after {
        return Err(TlsProblem::Expired(validity.not_after));
    }
    Ok(validity.not_after)
}

/// The names that a certificate is for, for a person.
fn names_of(der: &CertificateDer<'_>) -> String {
    let names = X509Certificate::from_der(der).ok().and_then(|(_, certificate)| {
        let extension = certificate.subject_alternative_name().ok()??;
        let names = extension.value.general_names.iter().filter_map(general_name);
        Some(names.collect::<Vec<_>>().join(", "))
    });
    match names {
        Some(names) if !names.is_empty() => names.escape_debug().to_string(),
        _ => "no name at all".to_owned(),
    }
}

/// The pairs of a listener.
#[derive(Debug)]
pub(super) struct Names {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`: one label stands before it.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
}

impl Names {
    /// `pairs`: those of `sni`, in its order.
    pub(super) fn new(default: &Pair, sni: &[SniSettings], pairs: &[Pair]) -> Result<Self, Vec<TlsError>> {
        let mut names = Self {
            default: default.certified.clone(),
            exact: HashMap::new(),
            wildcards: HashMap::new(),
        };
        let mut errors = Vec::new();
        for (at, (entry, pair)) in sni.iter().zip(pairs).enumerate() {
            if let Err(problem) = pair.check_name(&entry.name) {
                errors.push(about(Part::SniName(at), &entry.cert)(problem));
            }
            let (map, key) = match entry.name.strip_prefix("*.") {
                Some(domain) => (&mut names.wildcards, domain),
                None => (&mut names.exact, &*entry.name),
            };
            if map.insert(key.to_owned(), pair.certified.clone()).is_some() {
                let name = PathBuf::from(&entry.name);
                errors.push(about(Part::SniName(at), &name)(TlsProblem::NameTwice));
            }
        }
        if errors.is_empty() { Ok(names) } else { Err(errors) }
    }

    /// For a client that asks for no name, or for one that is not here, the default.
    fn of(&self, asked: Option<&str>) -> &Arc<CertifiedKey> {
        let found = asked.map(str::to_ascii_lowercase).and_then(|name| {
            let wildcard = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(wildcard)
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.of(hello.server_name()).clone())
    }
}

/// When each pair ends, by the name that it is shown for.
pub(super) fn ends(default: &Pair, sni: &[SniSettings], pairs: &[Pair]) -> BTreeMap<String, (PathBuf, ASN1Time)> {
    let default = ("default".to_owned(), (default.cert.clone(), default.not_after));
    let named = sni.iter().zip(pairs);
    let named = named.map(|(entry, pair)| (entry.name.clone(), (pair.cert.clone(), pair.not_after)));
    std::iter::once(default).chain(named).collect()
}
