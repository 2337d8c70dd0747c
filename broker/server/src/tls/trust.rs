//! Whom a listener trusts: its authorities, and what they took back.

use super::facts;
use super::files::{ClientFiles, Contents};
use super::problem::{TlsError, TlsProblem};
use super::{distinguished_name, x509_reason};
use nervewire_core::certificates::{CertificateEnd, RevokedSerials};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, X509Certificate, X509Version};

/// Judges certificates of clients: in handshakes, where a session is resumed, and of live connections after a reload.
#[derive(Debug)]
pub(crate) struct Trust {
    verifier: Arc<Verifier>,
    revoked: Arc<RevokedSerials>,
    /// When each list is too old, with its file.
    next_updates: Vec<(PathBuf, ASN1Time)>,
    /// When each authority is too old, with its name.
    authorities_end: Vec<(String, ASN1Time)>,
    /// Of the files, and of whether a certificate is required.
    digest: ([u8; 32], bool),
}

impl Trust {
    /// Everything that is wrong with authorities and lists is found here. Where nothing of them has changed `previous` stays
    /// in force, so that nobody has to be judged again.
    pub(super) fn load(
        files: &ClientFiles,
        required: bool,
        provider: &Arc<CryptoProvider>,
        now: ASN1Time,
        previous: Option<&Arc<Trust>>,
    ) -> Result<Arc<Self>, Vec<TlsError>> {
        let digest = (files.digest(), required);
        if let Some(same) = previous.filter(|previous| previous.digest == digest) {
            return Ok(same.clone());
        }
        let file = &files.authorities;
        let ders = file.certificates().map_err(|error| vec![error])?;
        let authorities = ders.iter().map(|der| Authority::read(file, der));
        let authorities = collect(authorities)?;
        let lists = files
            .lists
            .iter()
            .map(|list| read_lists(list, &authorities, provider, now));
        let lists: Vec<List> = collect(lists)?.into_iter().flatten().collect();
        if !files.lists.is_empty() {
            require_lists(file, &authorities, &lists)?;
        }
        let mut revoked = RevokedSerials::default();
        for list in &lists {
            revoked.add(&list.issuer, list.serials.iter().cloned());
        }
        let verifier = Verifier::new(&authorities, &lists, required, provider);
        Ok(Arc::new(Self {
            verifier: Arc::new(verifier.map_err(|problem| vec![file.error(problem)])?),
            revoked: Arc::new(revoked),
            next_updates: lists.iter().map(|list| (list.path.clone(), list.next_update)).collect(),
            authorities_end: authorities
                .iter()
                .map(|a| (a.name(), a.parsed.validity().not_after))
                .collect(),
            digest,
        }))
    }

    /// What rustls asks.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }

    /// The certificates that the lists name.
    pub(crate) fn revoked(&self) -> &Arc<RevokedSerials> {
        &self.revoked
    }

    /// The lists' files, and when each is too old.
    pub(super) fn next_updates(&self) -> &[(PathBuf, ASN1Time)] {
        &self.next_updates
    }

    pub(super) fn authorities_end(&self) -> &[(String, ASN1Time)] {
        &self.authorities_end
    }

    /// The whole chain as a handshake would judge it now. A list whose time is over takes nobody back who was let in while it
    /// counted: new connections are refused, live ones stay.
    pub(crate) fn judge_live(&self, chain: &[CertificateDer<'_>]) -> Result<(), CertificateEnd> {
        match self.judge(chain) {
            Ok(()) => Ok(()),
            Err(error) => match &error {
                Error::InvalidCertificate(
                    CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. },
                ) => Ok(()),
                Error::InvalidCertificate(CertificateError::Revoked) => Err(CertificateEnd::Revoked),
                Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                    Err(CertificateEnd::Expired)
                }
                _ => Err(CertificateEnd::Untrusted),
            },
        }
    }

    /// The whole chain as a handshake judges it.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let (end_entity, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let verified = self
            .verifier
            .verify_client_cert(end_entity, intermediates, UnixTime::now());
        verified.map(|_| ())
    }
}

/// All values, or all that is wrong.
fn collect<T, E>(results: impl Iterator<Item = Result<T, E>>) -> Result<Vec<T>, Vec<E>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// A certificate of `client_ca`.
struct Authority<'a> {
    der: &'a CertificateDer<'static>,
    parsed: X509Certificate<'a>,
}

impl<'a> Authority<'a> {
    fn read(file: &Contents, der: &'a CertificateDer<'static>) -> Result<Self, TlsError> {
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|error| file.error(TlsProblem::UnusableAuthority(x509_reason(&error))))?;
        // Version 1 knows no extensions, so that an old root cannot say what it is.
        if parsed.version() == X509Version::V3 && !parsed.is_ca() {
            let name = distinguished_name::rfc4514(parsed.subject());
            return Err(file.error(TlsProblem::NoAuthority(name)));
        }
        Ok(Self { der, parsed })
    }

    fn name(&self) -> String {
        distinguished_name::rfc4514(self.parsed.subject())
    }

    fn may_sign_lists(&self) -> bool {
        let usage = self.parsed.key_usage().ok().flatten();
        usage.is_none_or(|usage| usage.value.crl_sign())
    }

    fn has_signed(&self, list: &CertificateRevocationList<'_>, provider: &CryptoProvider) -> bool {
        let key = &self.parsed.public_key().subject_public_key.data;
        let (signed, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        let mut algorithms = provider.signature_verification_algorithms.all.iter();
        self.parsed.subject().as_raw() == list.issuer().as_raw()
            && algorithms.any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
    }

    /// Another certificate of the file signs this one, so that this one is checked against that one's list.
    fn is_intermediate(&self, all: &[Self]) -> bool {
        let (subject, issuer) = (self.parsed.subject().as_raw(), self.parsed.issuer().as_raw());
        let is_above = |other: &Self| other.parsed.subject().as_raw() == issuer && other.der != self.der;
        subject != issuer && all.iter().any(is_above)
    }
}

/// A revocation list that an authority of the listener has signed.
struct List {
    path: PathBuf,
    der: CertificateRevocationListDer<'static>,
    issuer: String,
    issuer_raw: Vec<u8>,
    serials: Vec<String>,
    next_update: ASN1Time,
}

fn read_lists(
    file: &Contents,
    authorities: &[Authority<'_>],
    provider: &CryptoProvider,
    now: ASN1Time,
) -> Result<Vec<List>, TlsError> {
    let read = |der| read_list(file, der, authorities, provider, now);
    file.lists()?.into_iter().map(read).collect()
}

fn read_list(
    file: &Contents,
    der: CertificateRevocationListDer<'static>,
    authorities: &[Authority<'_>],
    provider: &CryptoProvider,
    now: ASN1Time,
) -> Result<List, TlsError> {
    let (_, list) = CertificateRevocationList::from_der(&der)
        .map_err(|error| file.error(TlsProblem::InvalidList(x509_reason(&error))))?;
    let issuer = distinguished_name::rfc4514(list.issuer());
    let signer = authorities
        .iter()
        .find(|authority| authority.has_signed(&list, provider));
    match signer {
        None => return Err(file.error(TlsProblem::ForeignList(issuer))),
        Some(signer) if !signer.may_sign_lists() => return Err(file.error(TlsProblem::NoListSigner(issuer))),
        Some(_) => {}
    }
    let Some(next_update) = list.next_update() else {
        let why = "it does not say when the next one comes (nextUpdate)".to_owned();
        return Err(file.error(TlsProblem::InvalidList(why)));
    };
    if next_update < now {
        return Err(file.error(TlsProblem::ExpiredList(next_update)));
    }
    let serials = list
        .iter_revoked_certificates()
        .map(|revoked| facts::serial(revoked.raw_serial()));
    let (serials, issuer_raw) = (serials.collect(), list.issuer().as_raw().to_vec());
    // What rustls would not take is found now and not by the first client.
    let taken = WebPkiClientVerifier::builder_with_provider(one_root(authorities), Arc::new(provider.clone()));
    if let Err(error) = taken.with_crls([der.clone()]).build() {
        return Err(file.error(TlsProblem::InvalidList(error.to_string())));
    }
    Ok(List {
        path: file.path.clone(),
        der,
        issuer,
        issuer_raw,
        serials,
        next_update,
    })
}

fn one_root(authorities: &[Authority<'_>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().map(|authority| authority.der.clone()));
    Arc::new(roots)
}

/// With `crl` every authority needs a list: where there is none nobody can say that a certificate is good.
fn require_lists(file: &Contents, authorities: &[Authority<'_>], lists: &[List]) -> Result<(), Vec<TlsError>> {
    let has_list = |authority: &&Authority<'_>| {
        let name = authority.parsed.subject().as_raw();
        lists.iter().any(|list| list.issuer_raw == name)
    };
    let without = authorities.iter().filter(|authority| !has_list(authority));
    let errors: Vec<_> = without
        .map(|authority| file.error(TlsProblem::WithoutList(authority.name())))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The verifier of rustls, which also knows the intermediate authorities of `client_ca`. As trust anchors they would be above
/// the lists of their roots.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<dyn ClientCertVerifier>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(
        authorities: &[Authority<'_>],
        lists: &[List],
        required: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsProblem> {
        let (mut below, mut roots): (Vec<_>, Vec<_>) = authorities.iter().partition(|a| a.is_intermediate(authorities));
        if roots.is_empty() {
            // They have signed each other.
            roots = std::mem::take(&mut below);
        }
        let store = |authorities: &[&Authority<'_>]| {
            let mut store = RootCertStore::empty();
            for authority in authorities {
                let added = store.add(authority.der.clone());
                added.map_err(|error| TlsProblem::UnusableAuthority(error.to_string()))?;
            }
            Ok::<_, TlsProblem>(store)
        };
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store(&roots)?), provider.clone());
        // A client may choose its certificate by these names.
        let builder = builder.add_root_hint_subjects(store(&below)?.subjects());
        // The whole chain is checked, and who is on no list because there is none, or an old one, is refused.
        let builder = builder
            .with_crls(lists.iter().map(|list| list.der.clone()))
            .enforce_revocation_expiration();
        let builder = match required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let webpki = builder.build();
        Ok(Self {
            webpki: webpki.map_err(|error| TlsProblem::UnusableAuthority(error.to_string()))?,
            intermediates: below.iter().map(|authority| authority.der.clone()).collect(),
        })
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.intermediates.is_empty() {
            return self.webpki.verify_client_cert(end_entity, intermediates, now);
        }
        let ours = self.intermediates.iter().map(|der| CertificateDer::from(der.as_ref()));
        let shown = intermediates.iter().map(|der| CertificateDer::from(der.as_ref()));
        let all: Vec<_> = ours.chain(shown).collect();
        self.webpki.verify_client_cert(end_entity, &all, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
