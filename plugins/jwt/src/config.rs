//! The `config` table.

use crate::algorithm::Algorithm;
use nervewire_plugin_sdk::prelude::*;
use nervewire_rights::{AccessList, Effects, Entry};
use std::collections::BTreeMap;

/// The `config` table; its keys are described at the [crate].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) from: From,
    pub(crate) method: String,
    pub(crate) algorithms: Option<Vec<String>>,
    pub(crate) secret_encoding: SecretEncoding,
    pub(crate) require_exp: bool,
    pub(crate) leeway_s: u64,
    pub(crate) max_age_s: Option<u64>,
    pub(crate) issuer: Option<OneOrMany>,
    pub(crate) audience: Option<OneOrMany>,
    pub(crate) other_issuer: Other,
    pub(crate) require: BTreeMap<String, String>,
    pub(crate) username_claim: Option<String>,
    pub(crate) tenant_claim: Option<String>,
    pub(crate) client_id_claim: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) acl_claim: String,
    pub(crate) rules: Vec<RuleConfig>,
    pub(crate) expiry: Expiry,
    pub(crate) jwks_url: Option<String>,
    pub(crate) jwks_headers: BTreeMap<String, String>,
    pub(crate) jwks_refresh_s: u32,
    pub(crate) jwks_retry_s: u32,
    pub(crate) jwks_max_age_s: u32,
    pub(crate) jwks_timeout_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            from: From::Password,
            method: "JWT".to_owned(),
            algorithms: None,
            secret_encoding: SecretEncoding::Text,
            require_exp: true,
            leeway_s: 10,
            max_age_s: None,
            issuer: None,
            audience: None,
            other_issuer: Other::Deny,
            require: BTreeMap::new(),
            username_claim: None,
            tenant_claim: None,
            client_id_claim: None,
            attributes: BTreeMap::new(),
            acl_claim: "acl".to_owned(),
            rules: Vec::new(),
            expiry: Expiry::Connected,
            jwks_url: None,
            jwks_headers: BTreeMap::new(),
            jwks_refresh_s: 300,
            jwks_retry_s: 30,
            jwks_max_age_s: 86_400,
            jwks_timeout_ms: 3_000,
        }
    }
}

/// Where the token is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    Password,
    Username,
}

/// How the bytes of a secret are written in its file.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SecretEncoding {
    Text,
    Base64,
    Base64url,
}

/// What becomes of a token that another issuer made.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Other {
    Deny,
    Abstain,
}

/// When the expiry of a token counts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expiry {
    /// At every request of the client.
    Connected,
    /// When it connects.
    Connect,
}

/// `"a"` or `["a", "b"]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A rule of the configuration, with claims in its topics.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    allow: Option<RuleAction>,
    deny: Option<RuleAction>,
    topics: Vec<String>,
    max_qos: Option<u8>,
    retain: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum RuleAction {
    Publish,
    Subscribe,
    Both,
}

impl RuleConfig {
    fn entries(&self) -> Result<Vec<Entry>, String> {
        let (allow, action) = match (self.allow, self.deny) {
            (Some(action), None) => (true, action),
            (None, Some(action)) => (false, action),
            _ => return Err("write either allow = \"...\" or deny = \"...\"".to_owned()),
        };
        if self.topics.is_empty() {
            return Err("topics is empty, write at least one topic filter".to_owned());
        }
        let levels = [0, 1, 2].get(..=usize::from(self.max_qos.unwrap_or(2)));
        let levels = levels.ok_or("max_qos: write 0, 1 or 2")?;
        let effects = Effects {
            allow,
            publish: action != RuleAction::Subscribe,
            subscribe: action != RuleAction::Publish,
        };
        let entry = |topic: &String| Ok(Entry::new(effects, topic)?.qos(levels)?.retain(self.retain));
        self.topics.iter().map(entry).collect()
    }
}

impl Config {
    /// The configured rules, as one list that leaves the rest to the token's own.
    pub(crate) fn rules(&self) -> Result<AccessList, String> {
        let mut entries = Vec::new();
        for (rule, number) in self.rules.iter().zip(1_u32..) {
            let parsed = rule
                .entries()
                .map_err(|error| format!("config.rules, entry {number}: {error}"))?;
            entries.extend(parsed);
        }
        Ok(AccessList::of(entries))
    }

    /// The claims that the topics of rules name: they are attached under their own names.
    pub(crate) fn claims_of_rules(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .rules
            .iter()
            .flat_map(|rule| &rule.topics)
            .filter_map(|topic| topic::Template::parse(topic).ok())
            .flat_map(|template| template.variables().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|name| name.strip_prefix("claim.").map(str::to_owned))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The allowed algorithms; `None`: those that fit the keys.
    pub(crate) fn algorithms(&self) -> Result<Option<Vec<Algorithm>>, String> {
        let Some(names) = &self.algorithms else { return Ok(None) };
        if names.is_empty() {
            return Err("config.algorithms is empty: no token could be verified".to_owned());
        }
        let parse = |name: &String| {
            Algorithm::parse(name).ok_or_else(|| {
                format!(
                    "config.algorithms: {name:?} is not taken, write HS256, HS384, HS512, RS256, RS384, RS512, PS256, \
                     PS384, PS512, ES256, ES384 or EdDSA"
                )
            })
        };
        names.iter().map(parse).collect::<Result<_, _>>().map(Some)
    }

    /// What serde cannot see.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(name) = self.attributes.keys().find(|name| is_reserved(name)) {
            return Err(format!(
                "config.attributes: {name:?} is the plugin's own, choose another name"
            ));
        }
        if self.attributes.keys().any(String::is_empty) {
            return Err("config.attributes: an attribute needs a name".to_owned());
        }
        for (key, value) in [
            ("jwks_refresh_s", self.jwks_refresh_s),
            ("jwks_retry_s", self.jwks_retry_s),
            ("jwks_timeout_ms", self.jwks_timeout_ms),
        ] {
            if value == 0 {
                return Err(format!("config.{key} is 0, write at least 1"));
            }
        }
        if self.jwks_max_age_s < self.jwks_refresh_s {
            return Err(
                "config.jwks_max_age_s is below jwks_refresh_s: keys would be gone before they are fetched again"
                    .to_owned(),
            );
        }
        match &self.jwks_url {
            Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
                Err("config.jwks_url: write a URL that begins with https:// or http://".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Names under which the plugin keeps what it needs itself.
fn is_reserved(name: &str) -> bool {
    name.starts_with("jwt.") || name.starts_with("claim.")
}
