//! Makes tokens.

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Signer;
use serde_json::{Value, json};
use sha2::Sha256;

/// 2023-11-14.
pub(super) const NOW_S: u64 = 1_700_000_000;

pub(super) fn base64url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// Header and payload.
pub(super) fn message(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    )
}

pub(super) fn hs256(secret: &str, claims: &Value) -> String {
    hs256_with(&json!({"alg": "HS256"}), secret.as_bytes(), claims)
}

pub(super) fn hs256_with(header: &Value, secret: &[u8], claims: &Value) -> String {
    let message = message(header, claims);
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).unwrap();
    let signature = mac.chain_update(message.as_bytes()).finalize().into_bytes();
    format!("{message}.{}", base64url(&signature))
}

/// A key of P-256, by a name and the number it is made of.
pub(super) struct EcKey {
    pub(super) id: &'static str,
    key: p256::ecdsa::SigningKey,
}

impl EcKey {
    pub(super) fn new(id: &'static str, number: u8) -> Self {
        let key = p256::ecdsa::SigningKey::from_slice(&[number; 32]).unwrap();
        Self { id, key }
    }

    pub(super) fn jwk(&self) -> Value {
        let point = self.key.verifying_key().to_sec1_point(false);
        let bytes = point.as_bytes();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig",
               "x": base64url(&bytes[1..33]), "y": base64url(&bytes[33..])})
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        let message = message(&json!({"alg": "ES256", "kid": self.id}), claims);
        let signature: p256::ecdsa::Signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", base64url(&signature.to_bytes()))
    }
}
