//! The nouns every hook speaks of.

mod client;
mod message;

pub use client::{Certificate, Client, Protocol};
pub use message::{Message, Qos};

use std::fmt;

/// A name and a value: an attribute of an identity, a user property of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name; names may repeat.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Property {
    /// A property of this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// The files named in the plugin's `files` table, as the broker read them.
#[derive(Clone, Default)]
pub struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    /// The bytes of the file called `name` in the `files` table.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, contents)| contents.as_slice())
    }

    /// The text of the file called `name`.
    ///
    /// # Errors
    /// In words for the person who wrote the configuration: the table has no such entry, or the file is not UTF-8.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        let contents = self
            .get(name)
            .ok_or_else(|| format!("needs a file: write files = {{ {name} = \"path\" }} in this plugin"))?;
        std::str::from_utf8(contents).map_err(|error| format!("file {name:?} is not UTF-8 text: {error}"))
    }

    /// The names in the `files` table.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl<N: Into<String>, C: Into<Vec<u8>>> FromIterator<(N, C)> for Files {
    fn from_iter<I: IntoIterator<Item = (N, C)>>(files: I) -> Self {
        Self(
            files
                .into_iter()
                .map(|(name, contents)| (name.into(), contents.into()))
                .collect(),
        )
    }
}

impl fmt::Debug for Files {
    /// Names and sizes only: the contents may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, contents)| (name, contents.len())))
            .finish()
    }
}
