//! All keys: those of files, and those of a URL.

use crate::algorithm::Algorithm;
use crate::config::{Config, SecretEncoding};
use crate::jwk::{KeySet, Origin};
use crate::key::Key;
use crate::pem;
use crate::remote::Remote;
use crate::token::Token;
use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use nervewire_plugin_sdk::prelude::*;

/// What tokens are verified with.
#[derive(Debug)]
pub(crate) struct Keys {
    local: Vec<Key>,
    remote: Option<Remote>,
    /// `None`: those that fit the keys.
    algorithms: Option<Vec<Algorithm>>,
}

/// Why a signature was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unverified {
    /// No key that may verify it is known, or none fits.
    Wrong,
    /// The keys of the URL are not known: it may be right.
    NoKeys,
}

impl Keys {
    /// # Errors
    /// Which file, and what is wrong with it.
    pub(crate) fn load(config: &Config, files: &Files) -> Result<Self, String> {
        let mut local = Vec::new();
        for name in files.names() {
            let keys = from_file(name, config, files).map_err(|error| format!("file {name:?}: {error}"))?;
            local.extend(keys);
        }
        let remote = config.jwks_url.as_deref().map(|url| Remote::new(url, config));
        if local.is_empty() && remote.is_none() {
            return Err(
                "needs keys: write files = { jwks = \"PATH\" }, { pem = \"PATH\" } or { secret = \"PATH\" } in this \
                        plugin, or config.jwks_url"
                    .to_owned(),
            );
        }
        let keys = Self {
            algorithms: config.algorithms()?,
            local,
            remote,
        };
        keys.check_algorithms()?;
        Ok(keys)
    }

    /// A key that no allowed algorithm can use is a mistake.
    fn check_algorithms(&self) -> Result<(), String> {
        let Some(allowed) = &self.algorithms else { return Ok(()) };
        let usable = |key: &Key| allowed.iter().any(|algorithm| key.takes(*algorithm));
        if self.remote.is_none() && !self.local.iter().any(usable) {
            return Err(format!("config.algorithms: no key fits any of {allowed:?}"));
        }
        Ok(())
    }

    /// Whether the signature is that of a key we know, made by an algorithm that the key and the configuration allow.
    pub(crate) fn verify(&mut self, token: &Token<'_>) -> Result<(), Unverified> {
        if self
            .algorithms
            .as_ref()
            .is_some_and(|allowed| !allowed.contains(&token.algorithm))
        {
            return Err(Unverified::Wrong);
        }
        self.find_new_keys(token);
        let id = token.key_id.as_deref();
        let fetched = self.remote.as_ref().map_or(&[][..], Remote::keys);
        let candidates = self.local.iter().chain(fetched).filter(|key| key.is_named(id));
        for key in candidates {
            if key.verifies(token.algorithm, token.message, &token.signature) {
                return Ok(());
            }
        }
        let no_keys = self.remote.is_some() && fetched.is_empty();
        Err(if no_keys { Unverified::NoKeys } else { Unverified::Wrong })
    }

    /// How often [`Keys::refresh_ahead`] is to be called; `None`: never.
    pub(crate) fn tick_ms(&self) -> Option<u32> {
        self.remote.as_ref().map(Remote::tick_ms)
    }

    /// Fetches the keys of the URL before they are due.
    pub(crate) fn refresh_ahead(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.refresh_ahead();
        }
    }

    fn find_new_keys(&mut self, token: &Token<'_>) {
        let Some(remote) = &mut self.remote else { return };
        remote.refresh();
        if let Some(id) = &token.key_id
            && !self.local.iter().any(|key| key.id.as_ref() == Some(id))
        {
            remote.look_for(id);
        }
    }
}

/// The kind of a file is its name, or begins it: `jwks`, `jwks-old`, `pem`, `pem-2026`, `secret`.
fn from_file(name: &str, config: &Config, files: &Files) -> Result<Vec<Key>, String> {
    let kind = name.split_once('-').map_or(name, |(kind, _)| kind);
    let contents = files.get(name).unwrap_or_default();
    match kind {
        "jwks" => {
            let set = KeySet::parse(contents, Origin::File)?;
            if !set.skipped.is_empty() {
                log::warn!("file {name:?}: keys that are not used{}", set.reasons());
            }
            Ok(set.keys)
        }
        "pem" => pem::parse(files.text(name)?),
        "secret" => Ok(vec![Key::hmac(secret(contents, config.secret_encoding)?)?]),
        _ => {
            Err("not known to this plugin, name it jwks, pem or secret, or jwks-NAME and so on for several".to_owned())
        }
    }
}

fn secret(contents: &[u8], encoding: SecretEncoding) -> Result<Vec<u8>, String> {
    // Editors end a file with a line end, which is no part of the secret.
    let text = contents.strip_suffix(b"\n").unwrap_or(contents);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if matches!(encoding, SecretEncoding::Text) {
        return Ok(text.to_vec());
    }
    let text = std::str::from_utf8(text).map_err(|_| "not text")?;
    let decoded = match encoding {
        SecretEncoding::Base64 => Base64::decode_vec(text),
        _ => Base64UrlUnpadded::decode_vec(text.trim_end_matches('=')),
    };
    decoded.map_err(|_| format!("not {encoding:?}, which config.secret_encoding says").to_lowercase())
}
