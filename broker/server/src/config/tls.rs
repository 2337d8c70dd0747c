//! The table `tls` of a listener: its keys, and everything that is wrong with the files it names.

use super::schema::{CertificateIdentity, ClientCertificates, SniSettings, TlsSettings};
use super::section::{Section, Words};
use super::validate::{self, Surroundings};
use crate::tls::{Part, Secured};
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;

const IDENTITIES: Words<CertificateIdentity> = Words {
    known: &[
        ("cn", CertificateIdentity::CommonName),
        ("san", CertificateIdentity::AlternativeName),
        ("fingerprint", CertificateIdentity::Fingerprint),
    ],
    later: &[],
};
/// `client_cert`: not asked for, or asked for and whether it is required.
const CLIENT_CERTS: Words<Option<bool>> = Words {
    known: &[("none", None), ("optional", Some(false)), ("required", Some(true))],
    later: &[],
};

/// Reads the table. Also loads the files, because a listener that could not be bound must be refused with the configuration.
pub(super) fn tls(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Option<TlsSettings> {
    let readable = |text: &str| surroundings.readable_file(text);
    let cert = section.required("cert", "server.pem", readable);
    let key = section.required("key", "server.key", readable);
    let client_ca = section.parsed("client_ca", "ca.pem", readable);
    let crl = section.spanned_list("crl", "ca.crl", readable);
    let client = client_certificates(section, client_ca.as_ref(), crl.as_deref());
    let sni = section.tables("sni", |entry| server_name(entry, surroundings));
    let resumption_bytes = section.bounded(
        "resumption_bytes",
        0..=TlsSettings::MAX_RESUMPTION_BYTES,
        TlsSettings::DEFAULT_RESUMPTION_BYTES,
    );
    let named = sni.iter().flatten().count();
    let sni: Vec<Entry> = sni.into_iter().flatten().flatten().collect();
    let (cert, key) = (cert?, key?);
    let settings = TlsSettings {
        cert: cert.get_ref().clone(),
        key: key.get_ref().clone(),
        sni: sni.iter().map(Entry::settings).collect(),
        client: client?,
        resumption_bytes,
    };
    if sni.len() < named {
        return None; // What is wrong with one of them was noted, and positions would be others.
    }
    let span = |part| match part {
        Part::Cert => Some(cert.span()),
        Part::Key => Some(key.span()),
        Part::ClientCa => client_ca.as_ref().map(Spanned::span),
        Part::Crl(at) => Some(crl.as_ref()?.get(at)?.span()),
        Part::SniName(at) => Some(sni.get(at)?.name.span()),
        Part::SniCert(at) => Some(sni.get(at)?.cert.span()),
        Part::SniKey(at) => Some(sni.get(at)?.key.span()),
    };
    for error in Secured::load(&settings, None).err().into_iter().flatten() {
        let at = span(error.part()).unwrap_or_else(|| section.span());
        section.problem(&at, error.to_string());
    }
    Some(settings)
}

/// An entry of `sni`, with where it says what.
struct Entry {
    name: Spanned<String>,
    cert: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
}

impl Entry {
    fn settings(&self) -> SniSettings {
        SniSettings {
            name: self.name.get_ref().clone(),
            cert: self.cert.get_ref().clone(),
            key: self.key.get_ref().clone(),
        }
    }
}

fn server_name(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Option<Entry> {
    let readable = |text: &str| surroundings.readable_file(text);
    let name = section.required("name", "mqtt.example.com", validate::server_name);
    let cert = section.required("cert", "server.pem", readable);
    let key = section.required("key", "server.key", readable);
    Some(Entry {
        name: name?,
        cert: cert?,
        key: key?,
    })
}

/// `None`: something is wrong, which was noted.
fn client_certificates(
    section: &mut Section<'_>,
    client_ca: Option<&Spanned<PathBuf>>,
    crl: Option<&[Spanned<PathBuf>]>,
) -> Option<Option<ClientCertificates>> {
    let client_cert = section.word("client_cert", &CLIENT_CERTS).map(Spanned::into_inner);
    let identity = section.word("identity", &IDENTITIES);
    let required = match client_cert {
        Some(Some(required)) => required,
        // A wrong word, which was noted: what was meant is unknown.
        None if section.has("client_cert") => return None,
        _ => {
            refuse_without_client_cert(section, client_ca.map(Spanned::span), "client_ca");
            let first = crl.and_then(<[_]>::first);
            refuse_without_client_cert(section, first.map(Spanned::span), "crl");
            refuse_without_client_cert(section, identity.map(|identity| identity.span()), "identity");
            return Some(None);
        }
    };
    if !section.has("client_ca") {
        section.problem(
            &section.span(),
            "client_cert needs authorities; write client_ca = \"ca.pem\"",
        );
    }
    Some(Some(ClientCertificates {
        client_ca: client_ca?.get_ref().clone(),
        crl: crl
            .unwrap_or_default()
            .iter()
            .map(|list| list.get_ref().clone())
            .collect(),
        required,
        identity: identity.map(Spanned::into_inner),
    }))
}

fn refuse_without_client_cert(section: &Section<'_>, span: Option<Range<usize>>, key: &str) {
    const WRONG: &str = "does nothing where clients are not asked for a certificate";
    if let Some(span) = span {
        let advice = "write client_cert = \"optional\" or \"required\"";
        section.problem(&span, format!("{key} {WRONG}; {advice}"));
    }
}
