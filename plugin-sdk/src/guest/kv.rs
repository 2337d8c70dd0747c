//! The key-value store of the broker, with this crate's errors.

use crate::bindings::host::kv as host;
use crate::kv::Error;

pub(crate) use host::{delete, get};

pub(crate) fn set(key: &str, value: &[u8], expires_milliseconds: Option<u64>) -> Result<(), Error> {
    Ok(host::set(key, value, expires_milliseconds)?)
}

pub(crate) fn compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
    expires_milliseconds: Option<u64>,
) -> Result<bool, Error> {
    Ok(host::compare_and_swap(key, expected, value, expires_milliseconds)?)
}

pub(crate) fn increment(key: &str, delta: i64, expires_milliseconds: Option<u64>) -> Result<i64, Error> {
    Ok(host::increment(key, delta, expires_milliseconds)?)
}
