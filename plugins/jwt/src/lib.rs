//! `builtin:jwt`: clients that bring a JSON Web Token (RFC 7519).
//!
//! ```toml
//! [[plugin]]
//! name = "jwt"
//! component = "builtin:jwt"
//! files = { jwks = "jwks.json" }
//! config.issuer = "https://id.example.com"
//! config.audience = "mqtt"
//! config.username_claim = "sub"
//! config.attributes = { role = "role", dept = "org.dept" }
//! config.rules = [{ allow = "both", topics = ["tenants/${claim.org.id}/#"] }]
//! ```
//!
//! # Keys
//!
//! | `files` entry | contents |
//! |---|---|
//! | `jwks` | a JSON Web Key Set: RSA, P-256, P-384 and Ed25519 keys, and secrets (`oct`) |
//! | `pem` | public keys in PEM |
//! | `secret` | one HMAC secret, at least 32 bytes |
//!
//! Several files of a kind are named `pem-a`, `pem-b` and so on. `config.jwks_url` fetches a set, which needs the grant
//! for its origin, such as `grants = ["https://id.example.com"]`; secrets in it are ignored. A `tick` fetches it before `jwks_refresh_s`
//! are over, so that no client waits for it. Each of the instances that work at a time has keys of its own, and a tick reaches one, the busiest;
//! the others fetch with their first token, and the first one after `jwks_refresh_s`. So does each when a token names a key (`kid`) that is not known.
//! An instance tries at most once in `jwks_retry_s`. Where the set cannot be fetched the keys known so far are used on, for at most
//! `jwks_max_age_s`; without keys every token is refused.
//!
//! The type of a key says which algorithms it takes: `RS*` and `PS*` an RSA key, `ES256` and `ES384` a key of that curve,
//! `EdDSA` an Ed25519 key, `HS*` a secret. A key that names its `alg` takes only that. `config.algorithms` allows fewer.
//!
//! # Who is let in
//!
//! A client without password (or user name, as `from` says), or whose password has not the form of a token, is left to the
//! next authenticator. So are tokens of other issuers with `other_issuer = "abstain"`. A token that does not hold is refused.
//!
//! | `config` key | default | meaning |
//! |---|---|---|
//! | `from` | `"password"` | where the token is: `"password"` or `"username"` |
//! | `method` | `"JWT"` | MQTT 5 clients may instead send it as the data of this authentication method, and a new one while they are connected |
//! | `algorithms` | those of the keys | `["ES256", "RS256"]`: no others |
//! | `secret_encoding` | `"text"` | of `secret`: `"text"`, `"base64"` or `"base64url"` |
//! | `require_exp` | `true` | a token without `exp` is refused |
//! | `leeway_s` | `10` | by how much clocks may differ: for `exp`, `nbf` and `iat` |
//! | `max_age_s` | none | refuses tokens whose `iat` is longer ago |
//! | `issuer` | any | `iss` must be this, or one of these |
//! | `audience` | none | `aud` must name this, or one of these; none: a token with an `aud` is refused; `[]`: any |
//! | `other_issuer` | `"deny"` | another `iss`: `"deny"`, or `"abstain"` for several of these plugins |
//! | `require` | none | `{ scope = "mqtt", device = "${client_id}" }`: claims that must be, or contain, this |
//! | `client_id_claim` | none | this claim must be the client identifier |
//! | `username_claim` | none | this claim becomes the user name |
//! | `tenant_claim` | none | this claim becomes the tenant |
//! | `attributes` | none | `{ ATTRIBUTE = "CLAIM" }`; a path such as `org.dept`; a list becomes several attributes of that name |
//! | `acl_claim` | `"acl"` | this claim is an access list, as EMQX has it |
//! | `rules` | none | heard before the access list: `allow` or `deny` (`"publish"`, `"subscribe"`, `"both"`), `topics` with `${claim.PATH}`, `${client_id}`, `${username}`; `max_qos`, `retain` |
//! | `expiry` | `"connected"` | `"connected"`: after `exp` and `leeway_s` everything is denied; `"connect"`: it counts when a client connects |
//! | `jwks_url`, `jwks_headers` | none | where keys are fetched, with these headers |
//! | `jwks_refresh_s`, `jwks_retry_s`, `jwks_max_age_s`, `jwks_timeout_ms` | `300`, `30`, `86_400`, `3_000` | how often, how soon after the last attempt, how long keys are used that cannot be fetched again, how long one fetch may take |
//!
//! # What they may do
//!
//! With the hook `authorize` the plugin denies everything once the token is over: a client cannot stay longer than its
//! rights, whatever other authorizers say. It may bring a new token by authenticating again. For that each request is asked
//! for, and answers are cached; `expiry = "connect"` makes rules of the access list instead.
//!
//! An access list is either `[{"permission": "allow", "action": "publish", "topic": "t/${clientid}"}]`, optionally with
//! `qos` and `retain`, whose first line that applies decides and which leaves the rest to other authorizers, or
//! `{"pub": [...], "sub": [...], "all": [...]}`, which denies the rest. `eq TOPIC` is this very topic filter. A list with
//! something in it that is not understood refuses the client. A name or claim that is empty or holds `+`, `#`, `/` or a
//! control character makes a line with it apply to nothing.

mod algorithm;
mod claims;
mod config;
mod jwk;
mod key;
mod keys;
mod pem;
mod remote;
mod token;

use base64ct::{Base64UrlUnpadded, Encoding};
use claims::{Claims, Flaw};
pub use config::Config;
use config::{Expiry, From};
use keys::{Keys, Unverified};
use nervewire_plugin_sdk::{export, grants, prelude::*};
use nervewire_rights::{AccessList, Granted, Rights};
use token::Token;

/// The prefix of the attributes that hold a token's rights.
const PREFIX: &str = "jwt";

/// The plugin: keys, and what a token must say.
#[derive(Debug)]
pub struct Jwt {
    config: Config,
    keys: Keys,
    rules: AccessList,
    claims_of_rules: Vec<String>,
    rights: Rights,
}

impl Plugin for Jwt {
    type Config = Config;

    fn init(config: Config, files: Files) -> Result<Self, String> {
        config.check()?;
        Ok(Self {
            keys: Keys::load(&config, &files)?,
            rules: config.rules()?,
            claims_of_rules: config.claims_of_rules(),
            rights: Rights::new(PREFIX),
            config,
        })
    }

    fn tick_milliseconds(&self) -> Option<u32> {
        self.keys.tick_ms()
    }

    fn tick(&mut self, _: u64) -> Vec<Message> {
        self.keys.refresh_ahead();
        Vec::new()
    }
}

impl Authenticate for Jwt {
    fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Authentication {
        let Some(text) = self.offered(credentials) else {
            return Authentication::Abstain;
        };
        match self.judge(client, text) {
            Ok(identity) => identity.into(),
            Err(Refused::NotOurs) => Authentication::Abstain,
            Err(Refused::NoKeys) => Authentication::Deny(Refusal::ServerUnavailable),
            Err(Refused::Flawed(why)) => {
                counters::add("tokens_refused", 1);
                log::info!("{:?}: token refused: {why}", client.client_id);
                Authentication::Deny(Refusal::BadUserNameOrPassword)
            }
        }
    }
}

impl Authorize for Jwt {
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        if !self.rights.are_of(client) {
            return Some(Vec::new());
        }
        let own = self.rights.list(client);
        let lists: Vec<&AccessList> = std::iter::once(&self.rules).chain(own.as_deref()).collect();
        Some(self.rights.rules(client, &lists))
    }

    fn authorize(&mut self, client: &Client, request: &Request) -> Verdict {
        if !self.rights.are_of(client) {
            return Verdict::abstain();
        }
        let own = self.rights.list(client);
        let mut lists: Vec<&AccessList> = own.as_deref().into_iter().collect();
        if !self.config.rules.is_empty() {
            lists.insert(0, &self.rules);
        }
        self.rights.decide(client, request, &lists)
    }
}

enum Refused {
    Flawed(String),
    NoKeys,
    NotOurs,
}

impl std::convert::From<Flaw> for Refused {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Refused(why) => Self::Flawed(why),
            Flaw::NotOurs => Self::NotOurs,
        }
    }
}

impl Jwt {
    /// What the client offers as a token; `None`: nothing that is this plugin's business.
    fn offered<'a>(&self, credentials: &'a Credentials) -> Option<&'a [u8]> {
        if let Some(method) = &credentials.method {
            let ours = *method == self.config.method && !method.is_empty();
            return ours.then_some(credentials.data.as_deref().unwrap_or_default());
        }
        let text = match self.config.from {
            From::Password => credentials.password.as_deref(),
            From::Username => credentials.username.as_deref().map(str::as_bytes),
        };
        text.filter(|text| token::looks_like_token(text))
    }

    fn judge(&mut self, client: &Client, text: &[u8]) -> Result<Identity, Refused> {
        let token = Token::parse(text).map_err(Refused::Flawed)?;
        let claims = Claims(token.claims.clone());
        claims.check_issuer(&self.config)?;
        match self.keys.verify(&token) {
            Ok(()) => {}
            Err(Unverified::NoKeys) => return Err(Refused::NoKeys),
            Err(Unverified::Wrong) => {
                return Err(Refused::Flawed(format!(
                    "no key verifies it ({:?}, key {:?})",
                    token.algorithm, token.key_id
                )));
            }
        }
        let expires_at_s = claims.check(&self.config, client, now_s())?;
        self.identity(&claims, expires_at_s).map_err(Refused::from)
    }

    /// Who a verified token says the client is.
    fn identity(&self, claims: &Claims, expires_at_s: Option<u64>) -> Result<Identity, Flaw> {
        let mut identity = Identity::default();
        if let Some(path) = &self.config.username_claim {
            identity.username = Some(claims.text(path)?);
        }
        if let Some(path) = &self.config.tenant_claim {
            identity.tenant = Some(claims.text(path)?).filter(|name| is_tenant(name));
            identity.tenant.as_ref().ok_or_else(|| format!("{path} is no tenant"))?;
        }
        for (name, path) in &self.config.attributes {
            for value in claims.texts(path) {
                identity = identity.attribute(name, value);
            }
        }
        for path in &self.claims_of_rules {
            for value in claims.texts(path) {
                identity = identity.attribute(format!("claim.{path}"), value);
            }
        }
        let granted = Granted {
            expires_at_s: expires_at_s.filter(|_| self.config.expiry == Expiry::Connected),
            list: claims.at(&self.config.acl_claim).map(ToString::to_string),
        };
        let identity = granted.attach(PREFIX, identity)?;
        Ok(bounded(identity)?)
    }
}

/// What the broker takes of one client's attributes; it would refuse the whole answer as a broken one.
fn bounded(identity: Identity) -> Result<Identity, String> {
    const MAX_ATTRIBUTES: usize = 64;
    const MAX_ATTRIBUTES_BYTES: usize = 16 * 1024;
    let bytes: usize = identity.attributes.iter().map(|p| p.name.len() + p.value.len()).sum();
    if identity.attributes.len() > MAX_ATTRIBUTES || bytes > MAX_ATTRIBUTES_BYTES {
        return Err(format!(
            "{} attributes of {bytes} bytes, at most {MAX_ATTRIBUTES} of {MAX_ATTRIBUTES_BYTES} are taken",
            identity.attributes.len()
        ));
    }
    Ok(identity)
}

/// A tenant is one level of a topic and no wildcard.
fn is_tenant(name: &str) -> bool {
    topic::substitutable(name) && name.len() <= 256 && !name.starts_with('$')
}

fn now_s() -> u64 {
    clock::now_ms() / 1000
}

/// Strict: no padding, no other alphabet, no bits left over.
fn base64url(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}

// Keys may be in files.
grants!(optional "http");
export!(Jwt: authenticate, authorize);

#[cfg(test)]
mod tests;
