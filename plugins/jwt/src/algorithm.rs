//! The signature algorithms of RFC 7518 and RFC 8037 that are known. `none` is not among them.

use serde::Deserialize;

/// What the `alg` of a header may say.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    /// RFC 8037, and RFC 9864 under its own name.
    #[serde(rename = "EdDSA", alias = "Ed25519")]
    EdDsa,
}

/// The hash function that an algorithm names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    /// By its registered name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
    }

    /// The hash; EdDSA has its own.
    pub(crate) fn hash(self) -> Hash {
        match self {
            Self::Hs256 | Self::Rs256 | Self::Ps256 | Self::Es256 => Hash::Sha256,
            Self::Hs384 | Self::Rs384 | Self::Ps384 | Self::Es384 => Hash::Sha384,
            Self::Hs512 | Self::Rs512 | Self::Ps512 | Self::EdDsa => Hash::Sha512,
        }
    }
}
