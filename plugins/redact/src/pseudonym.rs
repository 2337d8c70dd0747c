//! Pseudonyms: the same for the same content, and not to be guessed without the key.

use hmac::{Hmac, KeyInit, Mac};
use nervewire_plugin_sdk::prelude::*;
use sha2::Sha256;
use std::fmt;

/// As many as SHA-256 has, so that the key is no easier to guess than the hash.
const MIN_KEY_BYTES: usize = 32;
const DEFAULT_CHARACTERS: usize = 32;
/// Fewer would let two patients meet in one pseudonym.
const MIN_CHARACTERS: usize = 16;
const MAX_CHARACTERS: usize = 64;

/// Makes them under one key.
#[derive(Clone)]
pub(crate) struct Pseudonyms {
    keyed: Hmac<Sha256>,
    characters: usize,
}

impl Pseudonyms {
    /// # Errors
    /// What to write instead.
    pub(crate) fn new(files: &Files, characters: Option<usize>) -> Result<Self, String> {
        let key = files.get("key").unwrap_or_default().trim_ascii();
        if key.len() < MIN_KEY_BYTES {
            return Err(format!(
                "hash needs a key of at least {MIN_KEY_BYTES} bytes, this one has {}: write files = {{ key = \"pseudonym.key\" }} \
                 in this plugin, and make the file, for example with `openssl rand -hex 32`",
                key.len()
            ));
        }
        let characters = characters.unwrap_or(DEFAULT_CHARACTERS);
        if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&characters) {
            return Err(format!(
                "characters = {characters}, write {MIN_CHARACTERS} to {MAX_CHARACTERS}"
            ));
        }
        let keyed = Hmac::new_from_slice(key).map_err(|error| format!("key: {error}"))?;
        Ok(Self { keyed, characters })
    }

    pub(crate) fn of(&self, content: &str) -> String {
        let mut hash = self.keyed.clone();
        hash.update(content.as_bytes());
        let bytes = hash.finalize().into_bytes();
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits
            .filter_map(|digit| char::from_digit(u32::from(digit), 16))
            .take(self.characters)
            .collect()
    }
}

impl fmt::Debug for Pseudonyms {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pseudonyms")
            .field("characters", &self.characters)
            .finish_non_exhaustive()
    }
}
