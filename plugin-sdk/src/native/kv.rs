//! The key-value store of the stand-in, with the contract of wit/host.wit.

use super::with;
use crate::kv::Error;
use std::collections::BTreeMap;

const MAX_KEY_BYTES: usize = 1024;
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Keys and values, each with the time it expires, in Unix milliseconds.
pub(crate) struct Store {
    entries: BTreeMap<String, (Vec<u8>, Option<u64>)>,
    pub(crate) capacity_bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            capacity_bytes: 1024 * 1024,
        }
    }
}

impl Store {
    fn get(&mut self, key: &str, now_ms: u64) -> Option<Vec<u8>> {
        self.entries
            .retain(|_, (_, expires)| expires.is_none_or(|expires| now_ms < expires));
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    fn put(&mut self, key: &str, value: &[u8], expires: Option<u64>) -> Result<(), Error> {
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(Error::TooLarge);
        }
        let others: usize = self
            .entries
            .iter()
            .filter(|(known, _)| *known != key)
            .map(|(key, (value, _))| key.len() + value.len())
            .sum();
        if others + key.len() + value.len() > self.capacity_bytes {
            return Err(Error::Full);
        }
        self.entries.insert(key.to_owned(), (value.to_vec(), expires));
        Ok(())
    }
}

pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
    with(|host| host.store.get(key, host.now_ms))
}

pub(crate) fn set(key: &str, value: &[u8], expires_milliseconds: Option<u64>) -> Result<(), Error> {
    with(|host| {
        host.store.get(key, host.now_ms); // Makes room: what has expired goes.
        host.store.put(
            key,
            value,
            expires_milliseconds.map(|ms| host.now_ms.saturating_add(ms)),
        )
    })
}

pub(crate) fn delete(key: &str) {
    with(|host| host.store.entries.remove(key));
}

pub(crate) fn compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
    expires_milliseconds: Option<u64>,
) -> Result<bool, Error> {
    if get(key).as_deref() != expected {
        return Ok(false);
    }
    match value {
        Some(value) => set(key, value, expires_milliseconds)?,
        None => delete(key),
    }
    Ok(true)
}

pub(crate) fn increment(key: &str, delta: i64, expires_milliseconds: Option<u64>) -> Result<i64, Error> {
    let Some(value) = get(key) else {
        set(key, delta.to_string().as_bytes(), expires_milliseconds)?;
        return Ok(delta);
    };
    let number: i64 = std::str::from_utf8(&value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Error::NotANumber)?;
    let sum = number.checked_add(delta).ok_or(Error::NotANumber)?;
    with(|host| {
        let expires = host.store.entries.get(key).and_then(|(_, expires)| *expires);
        host.store.put(key, sum.to_string().as_bytes(), expires)
    })?;
    Ok(sum)
}
