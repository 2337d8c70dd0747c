//! JSON Web Tokens made from scratch, so that the plugin is not tested against the crate that it uses.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// 32 bytes.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs()
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    )
}

/// HMAC by its definition (RFC 2104), for a secret shorter than a block.
pub(crate) fn hs256(claims: &Value) -> String {
    let message = unsigned(&json!({"alg": "HS256"}), claims);
    let padded = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(SECRET.bytes()).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(&message)
        .finalize();
    let mac = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    format!("{message}.{}", base64url(&mac))
}
