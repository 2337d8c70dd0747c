//! TLS of listeners: loads what a configuration names, judges clients' certificates, and reads from them what plugins are told.

mod distinguished_name;
mod ends;
mod facts;
mod failure;
mod files;
mod names;
mod numbers;
mod problem;
mod sessions;
mod trust;

pub(crate) use ends::{End, What, look_again_s};
pub(crate) use facts::{certificate_facts, identity_name};
pub(crate) use failure::{Failure, is_tls_handshake};
pub(crate) use numbers::TlsMetrics;
pub(crate) use problem::{Part, TlsError};
pub(crate) use sessions::sessions_over_bound;
pub(crate) use trust::Trust;

use crate::config::TlsSettings;
use files::Files;
use names::{Names, Pair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use sessions::Sessions;
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, X509Error};

/// A `tls` table with all its files loaded.
#[derive(Debug)]
pub(crate) struct Secured {
    config: Arc<ServerConfig>,
    trust: Option<Arc<Trust>>,
    ends: Vec<End>,
    /// What it was made of: the settings, and the bytes of all files.
    origin: (TlsSettings, [u8; 32]),
}

impl Secured {
    /// TLS 1.2 and 1.3 with these files; everything that could fail is found out here, not at the first handshake. Where
    /// nothing has changed `previous` stays, with the sessions that may be resumed.
    ///
    /// # Errors
    /// All that is wrong with the files; at least one thing.
    pub(crate) fn load(settings: &TlsSettings, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, Vec<TlsError>> {
        Self::load_at(settings, previous, ASN1Time::now())
    }

    fn load_at(
        settings: &TlsSettings,
        previous: Option<&Arc<Self>>,
        now: ASN1Time,
    ) -> Result<Arc<Self>, Vec<TlsError>> {
        let files = Files::read(settings)?;
        let origin = (settings.clone(), files.digest());
        if let Some(same) = previous.filter(|previous| previous.origin == origin) {
            return Ok(same.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut errors = Vec::new();
        let default = noted(Pair::load(&files.default, &provider, now), &mut errors);
        let sni = files.sni.iter().map(|pair| Pair::load(pair, &provider, now));
        let sni: Vec<Pair> = sni.filter_map(|pair| noted(pair, &mut errors)).collect();
        let trust = settings
            .client
            .as_ref()
            .zip(files.clients.as_ref())
            .map(|(client, files)| {
                let previous = previous.and_then(|previous| previous.trust.as_ref());
                Trust::load(files, client.required, &provider, now, previous)
            });
        let trust = trust.transpose().unwrap_or_else(|more| {
            errors.extend(more);
            None
        });
        let Some(default) = default.filter(|_| errors.is_empty()) else {
            return Err(errors);
        };
        let names = Names::new(&default, &settings.sni, &sni)?;
        let ends = ends_of(settings, &default, &sni, trust.as_deref());
        let config = server_config(&provider, names, trust.as_deref(), settings.resumption_bytes).map_err(|error| {
            vec![problem::about(Part::Cert, &settings.cert)(
                problem::TlsProblem::UnusableKey(error),
            )]
        })?;
        Ok(Arc::new(Self {
            config: Arc::new(config),
            trust,
            ends,
            origin,
        }))
    }

    /// For rustls.
    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// By what clients' certificates are judged; `None`: they are not asked for one.
    pub(crate) fn trust(&self) -> Option<&Arc<Trust>> {
        self.trust.as_ref()
    }

    /// What runs out.
    pub(crate) fn ends(&self) -> &[End] {
        &self.ends
    }
}

fn noted<T>(result: Result<T, TlsError>, errors: &mut Vec<TlsError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    names: Names,
    trust: Option<&Trust>,
    resumption_bytes: u64,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = trust.map_or_else(WebPkiClientVerifier::no_client_auth, Trust::verifier);
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(names));
    // Kept here and not in tickets: what is forgotten with this table cannot be resumed, by nobody who has our keys either.
    match usize::try_from(resumption_bytes) {
        Ok(0) => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        max_bytes => {
            config.session_storage = Arc::new(Sessions::new(max_bytes.unwrap_or(usize::MAX)));
            // A device has one connection, and gets another ticket with the next.
            config.send_tls13_tickets = 1;
        }
    }
    Ok(config)
}

fn ends_of(settings: &TlsSettings, default: &Pair, sni: &[Pair], trust: Option<&Trust>) -> Vec<End> {
    let pairs = names::ends(default, &settings.sni, sni).into_iter();
    let mut all: Vec<End> = pairs
        .map(|(name, (file, at))| ends::end(What::Certificate(name), &file, at))
        .collect();
    if let Some((trust, client)) = trust.zip(settings.client.as_ref()) {
        let authorities = trust.authorities_end().iter();
        all.extend(authorities.map(|(name, at)| ends::end(What::Authority(name.clone()), &client.client_ca, *at)));
        let lists = trust.next_updates().iter();
        all.extend(lists.map(|(file, at)| ends::end(What::List, file, *at)));
    }
    all
}

/// What x509-parser says, without its wrapping.
fn x509_reason(error: &x509_parser::nom::Err<X509Error>) -> String {
    match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error.to_string(),
        x509_parser::nom::Err::Incomplete(_) => "it ends too early".to_owned(),
    }
}

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod tests;
