//! Keys that are fetched: again by a tick before they are due, by a token after that, and at once when a token names one that is not
//! known.

use crate::config::Config;
use crate::jwk::{KeySet, Origin};
use crate::key::Key;
use nervewire_plugin_sdk::{clock, counters, http, log};
use std::time::Duration;

/// Bytes of a set.
const MAX_SET_BYTES: usize = 256 * 1024;

/// The keys behind a URL, as this instance knows them.
#[derive(Debug)]
pub(crate) struct Remote {
    url: String,
    headers: Vec<(String, String)>,
    timeout: Duration,
    refresh_ms: u64,
    retry_ms: u64,
    max_age_ms: u64,
    keys: Vec<Key>,
    /// When the keys were fetched; `None`: never.
    fetched_ms: Option<u64>,
    /// When it was last tried.
    tried_ms: Option<u64>,
}

impl Remote {
    pub(crate) fn new(url: &str, config: &Config) -> Self {
        let milliseconds = |seconds: u32| u64::from(seconds) * 1000;
        Self {
            url: url.to_owned(),
            headers: config
                .jwks_headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            timeout: Duration::from_millis(u64::from(config.jwks_timeout_ms)),
            refresh_ms: milliseconds(config.jwks_refresh_s),
            retry_ms: milliseconds(config.jwks_retry_s),
            max_age_ms: milliseconds(config.jwks_max_age_s),
            keys: Vec::new(),
            fetched_ms: None,
            tried_ms: None,
        }
    }

    /// The keys that may be used now: none, once they have grown too old.
    pub(crate) fn keys(&self) -> &[Key] {
        let fresh = age(self.fetched_ms).is_some_and(|age_ms| age_ms <= self.max_age_ms);
        if fresh { &self.keys } else { &[] }
    }

    /// How often [`Remote::refresh_ahead`] is to be called: several times in an interval, so that one fetch may fail.
    pub(crate) fn tick_ms(&self) -> u32 {
        const LEAST_MS: u32 = 1_000;
        const MOST_MS: u32 = 60_000;
        let quarter = u32::try_from(self.refresh_ms / 4).unwrap_or(u32::MAX);
        quarter.clamp(LEAST_MS, MOST_MS)
    }

    /// Fetches them again where they would soon be due, so that no client waits for it. Keys that cannot be fetched stay.
    pub(crate) fn refresh_ahead(&mut self) {
        let ahead_ms = 2 * u64::from(self.tick_ms());
        let soon = age(self.fetched_ms).is_none_or(|age_ms| age_ms.saturating_add(ahead_ms) >= self.refresh_ms);
        if soon && !self.just_tried() {
            self.fetch_now();
        }
    }

    /// Fetches them again where it is time to.
    pub(crate) fn refresh(&mut self) {
        if age(self.fetched_ms).is_none_or(|age_ms| age_ms >= self.refresh_ms) {
            self.fetch_unless_just_tried();
        }
    }

    /// A token names a key that is not known: perhaps it is new. Not more often than `jwks_retry_s` says, because anybody can
    /// send such tokens.
    pub(crate) fn look_for(&mut self, key_id: &str) {
        if !self.keys.iter().any(|key| key.id.as_deref() == Some(key_id)) {
            self.fetch_unless_just_tried();
        }
    }

    fn fetch_unless_just_tried(&mut self) {
        match self.just_tried() {
            true => counters::add("jwks_fetches_held_back", 1),
            false => self.fetch_now(),
        }
    }

    fn just_tried(&self) -> bool {
        age(self.tried_ms).is_some_and(|age_ms| age_ms < self.retry_ms)
    }

    fn fetch_now(&mut self) {
        self.tried_ms = Some(clock::now_ms());
        match self.fetch() {
            Ok(set) => {
                if !set.skipped.is_empty() {
                    log::debug!("{}: keys that are not used{}", self.url, set.reasons());
                }
                self.keys = set.keys;
                self.fetched_ms = Some(clock::now_ms());
                counters::add("jwks_fetches", 1);
            }
            Err(error) => {
                counters::add("jwks_fetches_failed", 1);
                log::warn!("{}: {error}; {}", self.url, self.consequence());
            }
        }
    }

    fn fetch(&self) -> Result<KeySet, String> {
        let mut request = http::get(&self.url)
            .header("accept", "application/jwk-set+json, application/json")
            .timeout(self.timeout)
            .max_body_bytes(MAX_SET_BYTES);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().map_err(|error| match error {
            http::Error::NotGranted => "not granted, write its origin into `grants` of this plugin".to_owned(),
            other => other.to_string(),
        })?;
        if response.status() != 200 {
            return Err(format!("status {}, not 200", response.status()));
        }
        KeySet::parse(response.body(), Origin::Url)
    }

    fn consequence(&self) -> &'static str {
        if self.keys().is_empty() {
            "there are no keys, tokens are refused"
        } else {
            "the keys known so far are used on"
        }
    }
}

/// `None`: never. A clock that was put back makes nothing younger than now.
fn age(since_ms: Option<u64>) -> Option<u64> {
    since_ms.map(|since_ms| clock::now_ms().saturating_sub(since_ms))
}
