//! The compact serialization of RFC 7515, taken apart.

use crate::algorithm::Algorithm;
use crate::base64url;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longer tokens are not looked at.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token whose signature nobody has verified yet.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What is signed.
    pub(crate) message: &'a [u8],
    pub(crate) signature: Vec<u8>,
    pub(crate) claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Whether this has the form of a token, so that what is wrong with it is this plugin's business.
pub(crate) fn looks_like_token(text: &[u8]) -> bool {
    let part = |part: &[u8]| {
        part.iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
    };
    // Base64url of `{"`: a header is a JSON object.
    text.starts_with(b"eyJ")
        && text.split(|byte| *byte == b'.').count() == 3
        && text.split(|byte| *byte == b'.').all(part)
}

impl<'a> Token<'a> {
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, String> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(format!(
                "a token of {} bytes, at most {MAX_TOKEN_BYTES} are taken",
                text.len()
            ));
        }
        let text = std::str::from_utf8(text).map_err(|_| "not text")?;
        let (message, signature) = text.rsplit_once('.').ok_or("not a token")?;
        let (header, payload) = message.split_once('.').ok_or("not a token")?;
        let decoded = |name: &str, part: &str| base64url(part).ok_or_else(|| format!("the {name} is not base64url"));
        let header: Header = serde_json::from_slice(&decoded("header", header)?)
            .map_err(|_| "the header is not that of a signed token")?;
        if header.crit.is_some() {
            return Err("the header demands extensions (crit)".to_owned());
        }
        let algorithm =
            Algorithm::parse(&header.alg).ok_or_else(|| format!("algorithm {:?} is not taken", header.alg))?;
        Ok(Self {
            algorithm,
            key_id: header.kid,
            message: message.as_bytes(),
            signature: decoded("signature", signature)?,
            claims: serde_json::from_slice(&decoded("payload", payload)?)
                .map_err(|_| "the payload is not a JSON object")?,
        })
    }
}
