//! Public keys in PEM: `PUBLIC KEY` (RFC 5280, what openssl writes) and `RSA PUBLIC KEY` (RFC 8017).

use crate::jwk::MAX_KEYS;
use crate::key::Key;
use base64ct::{Base64, Encoding};

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// All keys of a file.
///
/// # Errors
/// What else is in it.
pub(crate) fn parse(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body) = after.split_once("-----").ok_or("a BEGIN line without its end")?;
        let end = format!("-----END {label}-----");
        let (body, after) = body.split_once(&end).ok_or_else(|| format!("no line {end}"))?;
        let compact: String = body.split_ascii_whitespace().collect();
        let der = Base64::decode_vec(&compact).map_err(|_| format!("{label}: not base64"))?;
        keys.push(key(label, &der)?);
        rest = after;
    }
    match keys.len() {
        0 => Err("no public key in PEM, which begins with -----BEGIN PUBLIC KEY-----".to_owned()),
        1..=MAX_KEYS => Ok(keys),
        many => Err(format!("{many} keys, at most {MAX_KEYS} are taken")),
    }
}

fn key(label: &str, der: &[u8]) -> Result<Key, String> {
    let malformed = || format!("{label}: malformed");
    match label {
        "PUBLIC KEY" => subject_public_key(der).ok_or_else(malformed)?,
        "RSA PUBLIC KEY" => rsa(der).ok_or_else(malformed)?,
        "CERTIFICATE" => {
            Err("a certificate, write the public key that is in it: openssl x509 -pubkey -noout -in FILE".to_owned())
        }
        private if private.contains("PRIVATE") => Err(
            "a private key, keep it where tokens are made and write its public part: openssl pkey -pubout -in FILE"
                .to_owned(),
        ),
        other => Err(format!("{other} is no public key")),
    }
}

/// `None`: not DER of the expected form.
fn subject_public_key(der: &[u8]) -> Option<Result<Key, String>> {
    let mut info = whole(SEQUENCE, der)?;
    let mut algorithm = take(SEQUENCE, &mut info)?;
    let (unused, bits) = take(BIT_STRING, &mut info)?.split_first()?;
    if *unused != 0 || !info.is_empty() {
        return None;
    }
    let name = take(OBJECT_IDENTIFIER, &mut algorithm)?;
    Some(match name {
        RSA_ENCRYPTION => rsa(bits)?,
        EC_PUBLIC_KEY => match take(OBJECT_IDENTIFIER, &mut algorithm)? {
            P256 => Key::p256(bits),
            P384 => Key::p384(bits),
            _ => Err("a curve other than P-256 and P-384".to_owned()),
        },
        ED25519 => Key::ed25519(bits),
        _ => Err("a type other than RSA, P-256, P-384 and Ed25519".to_owned()),
    })
}

fn rsa(der: &[u8]) -> Option<Result<Key, String>> {
    let mut numbers = whole(SEQUENCE, der)?;
    let modulus = take(INTEGER, &mut numbers)?;
    let exponent = take(INTEGER, &mut numbers)?;
    numbers.is_empty().then(|| Key::rsa(modulus, exponent))
}

fn whole(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let mut rest = der;
    let value = take(tag, &mut rest)?;
    rest.is_empty().then_some(value)
}

/// The value of the first element, which must have this tag; `der` goes on behind it.
fn take<'a>(tag: u8, der: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = length(rest)?;
    if *first != tag {
        return None;
    }
    let (value, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some(value)
}

fn length(der: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let bytes = usize::from(*first & 0x7f);
    if !(1..=2).contains(&bytes) {
        return None; // No key is longer than 64 KiB.
    }
    let (digits, rest) = rest.split_at_checked(bytes)?;
    let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
    Some((length, rest))
}
