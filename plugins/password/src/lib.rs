//! `builtin:password`: user names and passwords from a file.
//!
//! ```toml
//! [[plugin]]
//! name = "password"
//! component = "builtin:password"
//! files = { users = "passwd" }
//! config = { min_length = 8 }
//! ```
//!
//! The file has a line per user, as `nervewire passwd FILE USER` writes it: `user:$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
//! Empty lines and lines that begin with `#` are skipped; a malformed line or a user named twice is refused with its
//! line number, and the running configuration stays.
//!
//! | `config` key | meaning |
//! |---|---|
//! | `min_length` | shorter passwords are refused even where they match, in bytes; default 0 |
//! | `max_memory_kib` | an entry whose hash needs more memory is refused at load; default 49152, which fits into the default `limits.authenticate_memory_mib` of 64 |
//!
//! A client without a user name, one that uses enhanced authentication and a user that is not in the file are left to the
//! next authenticator. For a user that is not in the file an entry of the file is hashed nevertheless, so that the time of
//! the answer does not tell which users exist.

mod users;

use nervewire_plugin_sdk::{export, prelude::*};
use users::Users;

/// The `config` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    min_length: usize,
    max_memory_kib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_length: 0,
            max_memory_kib: 48 * 1024,
        }
    }
}

/// The plugin: who has which password.
#[derive(Debug)]
pub struct Password {
    users: Users,
    min_length: usize,
}

impl Plugin for Password {
    type Config = Config;

    fn init(config: Config, files: Files) -> Result<Self, String> {
        let users = Users::parse(files.text("users")?, config.max_memory_kib)
            .map_err(|error| format!("file \"users\", {error}"))?;
        Ok(Self {
            users,
            min_length: config.min_length,
        })
    }
}

impl Authenticate for Password {
    fn authenticate(&mut self, _client: &Client, credentials: &Credentials) -> Authentication {
        let (Some(username), None) = (&credentials.username, &credentials.method) else {
            return Authentication::Abstain;
        };
        let password = credentials.password.as_deref().unwrap_or_default();
        match self.users.verify(username, password) {
            None => Authentication::Abstain,
            Some(true) if password.len() >= self.min_length => Authentication::allow(),
            Some(_) => Authentication::Deny(Refusal::BadUserNameOrPassword),
        }
    }
}

export!(Password: authenticate);

#[cfg(test)]
mod tests;
