//! What a verified token says: whether it is for us and in force (RFC 7519 section 4.1), and what is in it.

use crate::config::{Config, Other};
use nervewire_plugin_sdk::Client;
use serde_json::{Map, Value};

/// Elements of one claim that become attributes.
const MAX_VALUES: usize = 32;

/// The payload of a token.
#[derive(Debug)]
pub(crate) struct Claims(pub(crate) Map<String, Value>);

/// Why a token does not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// In words for the log.
    Refused(String),
    /// Another issuer's, which is left to another authenticator.
    NotOurs,
}

impl From<String> for Flaw {
    fn from(words: String) -> Self {
        Self::Refused(words)
    }
}

impl From<&str> for Flaw {
    fn from(words: &str) -> Self {
        Self::Refused(words.to_owned())
    }
}

impl Claims {
    /// Whose token it is. May be asked before it is verified: it decides nothing but who verifies it.
    pub(crate) fn check_issuer(&self, config: &Config) -> Result<(), Flaw> {
        let Some(issuers) = &config.issuer else { return Ok(()) };
        let iss = self.0.get("iss").and_then(Value::as_str);
        if iss.is_some_and(|iss| issuers.as_slice().iter().any(|issuer| issuer == iss)) {
            return Ok(());
        }
        match config.other_issuer {
            Other::Abstain => Err(Flaw::NotOurs),
            Other::Deny => Err(format!("of issuer {iss:?}").into()),
        }
    }

    /// Whether it may be used now, by this client. Answers when it ends, in seconds of Unix time.
    pub(crate) fn check(&self, config: &Config, client: &Client, now_s: u64) -> Result<Option<u64>, Flaw> {
        self.check_audience(config)?;
        let expires_at_s = self.check_times(config, now_s)?;
        self.check_required(config, client)?;
        Ok(expires_at_s)
    }

    fn check_times(&self, config: &Config, now_s: u64) -> Result<Option<u64>, Flaw> {
        let latest = now_s.saturating_add(config.leeway_s);
        let exp = self.time("exp")?;
        if exp.is_none() && config.require_exp {
            return Err("no exp".into());
        }
        let expires_at_s = exp.map(|exp| exp.saturating_add(config.leeway_s));
        if expires_at_s.is_some_and(|end| now_s >= end) {
            return Err("expired".into());
        }
        if self.time("nbf")?.is_some_and(|nbf| nbf > latest) {
            return Err("not valid yet (nbf)".into());
        }
        let iat = self.time("iat")?;
        if iat.is_some_and(|iat| iat > latest) {
            return Err("issued in the future (iat)".into());
        }
        if let Some(max_age_s) = config.max_age_s {
            let iat = iat.ok_or("no iat, which max_age_s needs")?;
            if now_s > iat.saturating_add(max_age_s).saturating_add(config.leeway_s) {
                return Err("issued too long ago (max_age_s)".into());
            }
        }
        Ok(expires_at_s)
    }

    /// A token that says whom it is for is for nobody else: without a configured audience it is not for us.
    fn check_audience(&self, config: &Config) -> Result<(), Flaw> {
        let audience = match self.0.get("aud") {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err("an aud that is none".into()),
        };
        match &config.audience {
            None if self.0.contains_key("aud") => {
                Err(format!("for {audience:?}: write config.audience, [] for any").into())
            }
            Some(wanted) if !wanted.as_slice().is_empty() => {
                let ours = wanted.as_slice().iter().any(|one| audience.contains(&one.as_str()));
                ours.then_some(())
                    .ok_or_else(|| format!("for {audience:?} (aud)").into())
            }
            _ => Ok(()),
        }
    }

    fn check_required(&self, config: &Config, client: &Client) -> Result<(), Flaw> {
        if let Some(path) = &config.client_id_claim
            && self.texts(path) != [client.client_id.as_str()]
        {
            return Err(format!("{path} is not the client identifier").into());
        }
        for (path, wanted) in &config.require {
            let wanted = match wanted.as_str() {
                "${client_id}" | "${clientid}" => Some(client.client_id.as_str()),
                "${username}" => client.username.as_deref(),
                text => Some(text),
            };
            let texts = self.texts(path);
            if !wanted.is_some_and(|wanted| texts.iter().any(|text| text == wanted)) {
                return Err(format!("{path} is not what is required").into());
            }
        }
        Ok(())
    }

    /// NumericDate: seconds, which may have a fraction.
    fn time(&self, name: &str) -> Result<Option<u64>, Flaw> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_u64().or_else(|| {
            let seconds = value.as_f64()?;
            // From 0 to 2^53, where a whole number is one.
            (0.0..9_007_199_254_740_992.0)
                .contains(&seconds)
                .then_some(seconds as u64)
        });
        seconds.map(Some).ok_or_else(|| format!("{name} is no time").into())
    }

    /// What is at a path such as `org.dept`: a claim of that very name, else a member of a member.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        self.0.get(path).or_else(|| {
            let mut parts = path.split('.');
            let first = self.0.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.as_object()?.get(part))
        })
    }

    /// The values at a path, as text: one, or the elements of a list; none where it is missing or something else, and none
    /// that the broker would not take as an attribute.
    pub(crate) fn texts(&self, path: &str) -> Vec<String> {
        match self.at(path) {
            Some(Value::Array(values)) => values.iter().take(MAX_VALUES).filter_map(text).collect(),
            Some(value) => text(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The one value at a path.
    pub(crate) fn text(&self, path: &str) -> Result<String, Flaw> {
        self.at(path)
            .and_then(text)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("no {path}").into())
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.contains(char::is_control)).then(|| text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
