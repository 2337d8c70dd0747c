//! One verification key. Its type says which algorithms it takes: a token cannot have an RSA key used as an HMAC secret.

use crate::algorithm::{Algorithm, Hash};
use hmac::{Hmac, KeyInit, Mac};
use rsa::BoxedUint;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use sha2::{Sha256, Sha384, Sha512};

/// Smaller moduli are refused (RFC 7518 section 3.3).
const MIN_RSA_BITS: u32 = 2048;
/// Larger ones would be a way to keep the authentication workers busy.
const MAX_RSA_BITS: usize = 8192;
/// The shortest HMAC secret: that of HS256 (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// A key with what is said about it.
#[derive(Debug)]
pub(crate) struct Key {
    /// A token that names another key is not for this one; `None`: it fits any name.
    pub(crate) id: Option<String>,
    /// The only algorithm that it is for, where it says so.
    pub(crate) algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    Hmac(Vec<u8>),
    Rsa(Box<rsa::PublicKey>),
    P256(Box<p256::ecdsa::VerifyingKey>),
    P384(Box<p384::ecdsa::VerifyingKey>),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

impl Key {
    /// An HMAC secret.
    pub(crate) fn hmac(secret: Vec<u8>) -> Result<Self, String> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(format!(
                "a secret of {} bytes, HS256 needs {MIN_SECRET_BYTES}, HS384 48 and HS512 64",
                secret.len()
            ));
        }
        Ok(Self::of(Material::Hmac(secret)))
    }

    /// An RSA key of this modulus and exponent, big-endian.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let number = |bytes: &[u8]| {
            let bytes = bytes
                .iter()
                .position(|byte| *byte != 0)
                .map_or(&[][..], |first| &bytes[first..]);
            let bits = u32::try_from(bytes.len().saturating_mul(8)).unwrap_or(u32::MAX);
            BoxedUint::from_be_slice(bytes, bits).map_err(|_| "a number that is none".to_owned())
        };
        if modulus.len() > MAX_RSA_BITS / 8 + 1 || exponent.len() > 8 {
            return Err(format!("an RSA key of more than {MAX_RSA_BITS} bits"));
        }
        let key = rsa::PublicKey::new(number(modulus)?, number(exponent)?)
            .map_err(|error| format!("not an RSA key: {error}"))?;
        if key.n().bit_width_vartime() < MIN_RSA_BITS {
            return Err(format!(
                "an RSA key of {} bits, at least {MIN_RSA_BITS} are needed",
                key.n().bit_width_vartime()
            ));
        }
        Ok(Self::of(Material::Rsa(Box::new(key))))
    }

    /// A point of P-256 in SEC 1 encoding.
    pub(crate) fn p256(point: &[u8]) -> Result<Self, String> {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| "not a point of P-256")?;
        Ok(Self::of(Material::P256(Box::new(key))))
    }

    /// A point of P-384 in SEC 1 encoding.
    pub(crate) fn p384(point: &[u8]) -> Result<Self, String> {
        let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| "not a point of P-384")?;
        Ok(Self::of(Material::P384(Box::new(key))))
    }

    /// A point of Ed25519.
    pub(crate) fn ed25519(point: &[u8]) -> Result<Self, String> {
        let key = <&[u8; 32]>::try_from(point)
            .ok()
            .and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(bytes).ok())
            .filter(|key| !key.is_weak())
            .ok_or("not a point of Ed25519")?;
        Ok(Self::of(Material::Ed25519(Box::new(key))))
    }

    fn of(material: Material) -> Self {
        Self {
            id: None,
            algorithm: None,
            material,
        }
    }

    /// Whether this key may verify such a signature at all.
    pub(crate) fn takes(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let of_its_type = match &self.material {
            // A key as long as the hash, or longer (RFC 7518 section 3.2).
            Material::Hmac(secret) => match algorithm {
                Hs256 => secret.len() >= 32,
                Hs384 => secret.len() >= 48,
                Hs512 => secret.len() >= 64,
                _ => false,
            },
            Material::Rsa(_) => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
        };
        of_its_type && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether a token that names this key may be verified with it.
    pub(crate) fn is_named(&self, id: Option<&str>) -> bool {
        match (&self.id, id) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        }
    }

    /// Whether the signature is this key's.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.takes(algorithm) {
            return false;
        }
        match &self.material {
            Material::Hmac(secret) => match algorithm.hash() {
                Hash::Sha256 => hmac_matches::<Hmac<Sha256>>(secret, message, signature),
                Hash::Sha384 => hmac_matches::<Hmac<Sha384>>(secret, message, signature),
                Hash::Sha512 => hmac_matches::<Hmac<Sha512>>(secret, message, signature),
            },
            Material::Rsa(key) => rsa_matches(key, algorithm, message, signature),
            Material::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Material::P384(key) => p384::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Material::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }
}

impl std::fmt::Debug for Material {
    /// The kind only: a secret must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "Hmac",
            Self::Rsa(_) => "Rsa",
            Self::P256(_) => "P256",
            Self::P384(_) => "P384",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

/// Compares in constant time.
fn hmac_matches<M: Mac + KeyInit>(secret: &[u8], message: &[u8], signature: &[u8]) -> bool {
    <M as KeyInit>::new_from_slice(secret).is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
}

fn rsa_matches(key: &rsa::PublicKey, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    match algorithm {
        Rs256 => pkcs1v15_matches(
            rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key.clone()),
            message,
            signature,
        ),
        Rs384 => pkcs1v15_matches(
            rsa::pkcs1v15::VerifyingKey::<Sha384>::new(key.clone()),
            message,
            signature,
        ),
        Rs512 => pkcs1v15_matches(
            rsa::pkcs1v15::VerifyingKey::<Sha512>::new(key.clone()),
            message,
            signature,
        ),
        Ps256 => pss_matches(rsa::pss::VerifyingKey::<Sha256>::new(key.clone()), message, signature),
        Ps384 => pss_matches(rsa::pss::VerifyingKey::<Sha384>::new(key.clone()), message, signature),
        Ps512 => pss_matches(rsa::pss::VerifyingKey::<Sha512>::new(key.clone()), message, signature),
        _ => false,
    }
}

fn pkcs1v15_matches(key: impl Verifier<rsa::pkcs1v15::Signature>, message: &[u8], signature: &[u8]) -> bool {
    rsa::pkcs1v15::Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

fn pss_matches(key: impl Verifier<rsa::pss::Signature>, message: &[u8], signature: &[u8]) -> bool {
    rsa::pss::Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}
