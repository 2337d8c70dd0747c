//! JSON Web Key Sets (RFC 7517).

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::key::Key;
use serde::Deserialize;

/// Keys of one set. More would be a way to keep the authentication workers busy with tokens that name none.
pub(crate) const MAX_KEYS: usize = 64;

/// Where a set comes from decides about symmetric keys: what anybody may fetch is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File,
    Url,
}

/// A set as it was read: the keys that can be used, and why others cannot.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<Key>,
    pub(crate) skipped: Vec<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part, of whichever type.
    d: Option<serde_json::Value>,
}

impl KeySet {
    /// Reads a set. Keys for other purposes and of other types are skipped (RFC 7517 section 5).
    ///
    /// # Errors
    /// Not a set, or one without a key that can be used.
    pub(crate) fn parse(json: &[u8], origin: Origin) -> Result<Self, String> {
        let set: Set = serde_json::from_slice(json).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("{} keys, at most {MAX_KEYS} are taken", set.keys.len()));
        }
        let mut read = Self::default();
        for (value, number) in set.keys.into_iter().zip(1_u32..) {
            let key = serde_json::from_value::<Jwk>(value)
                .map_err(|error| error.to_string())
                .and_then(|jwk| jwk.key(origin));
            match key {
                Ok(key) => read.keys.push(key),
                Err(error) => read.skipped.push(format!("key {number}: {error}")),
            }
        }
        if read.keys.is_empty() {
            return Err(format!("no key that can be used{}", read.reasons()));
        }
        Ok(read)
    }

    /// `: key 1: ..., key 2: ...`, or nothing.
    pub(crate) fn reasons(&self) -> String {
        if self.skipped.is_empty() {
            String::new()
        } else {
            format!(": {}", self.skipped.join(", "))
        }
    }
}

impl Jwk {
    fn key(&self, origin: Origin) -> Result<Key, String> {
        self.check_purpose()?;
        let mut key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) if origin == Origin::Url => return Err("a secret that anybody may fetch".to_owned()),
            ("oct", _) => Key::hmac(member("k", self.k.as_deref())?)?,
            (_, _) if self.d.is_some() => {
                return Err("a private key, keep it where tokens are made and write its public part".to_owned());
            }
            ("RSA", _) => Key::rsa(&member("n", self.n.as_deref())?, &member("e", self.e.as_deref())?)?,
            ("EC", Some("P-256")) => Key::p256(&self.point(32)?)?,
            ("EC", Some("P-384")) => Key::p384(&self.point(48)?)?,
            ("OKP", Some("Ed25519")) => Key::ed25519(&member("x", self.x.as_deref())?)?,
            (kty, crv) => return Err(format!("type {kty:?}, curve {crv:?} is not known")),
        };
        key.id.clone_from(&self.kid);
        if let Some(name) = &self.alg {
            let algorithm = Algorithm::parse(name).ok_or_else(|| format!("algorithm {name:?} is not known"))?;
            if !key.takes(algorithm) {
                return Err(format!("algorithm {name} does not fit the key"));
            }
            key.algorithm = Some(algorithm);
        }
        Ok(key)
    }

    fn check_purpose(&self) -> Result<(), String> {
        if let Some(other) = self.r#use.as_deref().filter(|purpose| *purpose != "sig") {
            return Err(format!("for {other:?}, not for signatures"));
        }
        match &self.key_ops {
            Some(operations) if !operations.iter().any(|operation| operation == "verify") => {
                Err("not for verifying".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// SEC 1, uncompressed. Coordinates have the full length (RFC 7518 section 6.2.1.2).
    fn point(&self, bytes: usize) -> Result<Vec<u8>, String> {
        let (x, y) = (member("x", self.x.as_deref())?, member("y", self.y.as_deref())?);
        if x.len() != bytes || y.len() != bytes {
            return Err(format!("coordinates that are not of {bytes} bytes"));
        }
        Ok([&[4], x.as_slice(), y.as_slice()].concat())
    }
}

fn member(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("{name} is missing"))?;
    base64url(text).ok_or_else(|| format!("{name} is not base64url"))
}
