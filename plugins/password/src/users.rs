//! The file of users.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordVerifier, Version};
use std::collections::BTreeMap;

/// More passes than anybody needs would be a way to keep the authentication workers busy.
const MAX_PASSES: u32 = 16;
/// Lanes are computed one after the other here; more only make entries that other tools wrote unreadable.
const MAX_LANES: u32 = 16;

/// Users and their entries, sorted by user.
#[derive(Debug)]
pub(crate) struct Users(Vec<(String, PasswordHash)>);

impl Users {
    /// # Errors
    /// The number of the line, and what is wrong with it.
    pub(crate) fn parse(text: &str, max_memory_kib: u32) -> Result<Self, String> {
        let mut users = BTreeMap::new();
        for (line, number) in text.lines().map(str::trim_end).zip(1_u32..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = parse_line(line, max_memory_kib).map_err(|error| format!("line {number}: {error}"))?;
            if users.insert(user.to_owned(), hash).is_some() {
                return Err(format!("line {number}: user {user:?} was named before"));
            }
        }
        Ok(Self(users.into_iter().collect()))
    }

    /// Whether the password is this user's; `None`: there is no such user. Takes as long in either case.
    pub(crate) fn verify(&self, user: &str, password: &[u8]) -> Option<bool> {
        let known = self
            .0
            .binary_search_by(|(name, _)| name.as_str().cmp(user))
            .ok()
            .map(|index| &self.0[index].1);
        let hash = known.or_else(|| self.decoy(user))?;
        // Algorithm, version and parameters are those of the entry, not of this value.
        let matches = Argon2::default().verify_password(password, hash).is_ok();
        known.map(|_| matches)
    }

    /// An entry for a user that is not there, always the same one for the same name: names that exist and names that do
    /// not are spread over costs alike, also in a file whose entries differ in theirs.
    fn decoy(&self, user: &str) -> Option<&PasswordHash> {
        let hash = user.bytes().fold(0_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        Some(&self.0[hash.checked_rem(self.0.len())?].1)
    }
}

fn parse_line(line: &str, max_memory_kib: u32) -> Result<(&str, PasswordHash), String> {
    let (user, hash) = line
        .split_once(':')
        .ok_or("no `:` between user and hash, write USER:$argon2id$...")?;
    if user.is_empty() {
        return Err("no user before the `:`".to_owned());
    }
    let hash = PasswordHash::new(hash).map_err(|_| format!("{user:?} has no hash in PHC format: $argon2id$..."))?;
    check_hash(&hash, max_memory_kib).map_err(|error| format!("{user:?}: {error}"))?;
    Ok((user, hash))
}

fn check_hash(hash: &PasswordHash, max_memory_kib: u32) -> Result<(), String> {
    if Algorithm::try_from(hash.algorithm.as_str()) != Ok(Algorithm::Argon2id) {
        return Err(format!("algorithm {}, only argon2id is taken", hash.algorithm));
    }
    if hash.version != Some(Version::V0x13.into()) {
        return Err("not version 19 of argon2id, write v=19".to_owned());
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("salt or hash are missing".to_owned());
    }
    let params = Params::try_from(hash).map_err(|error| format!("parameters: {error}"))?;
    check_cost(&params, max_memory_kib)
}

fn check_cost(params: &Params, max_memory_kib: u32) -> Result<(), String> {
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    if memory > max_memory_kib {
        return Err(format!(
            "m={memory} KiB is over max_memory_kib = {max_memory_kib}, raise it with limits.authenticate_memory_mib"
        ));
    }
    if passes > MAX_PASSES || lanes > MAX_LANES {
        return Err(format!(
            "t={passes},p={lanes}, at most t={MAX_PASSES},p={MAX_LANES} are taken"
        ));
    }
    Ok(())
}
