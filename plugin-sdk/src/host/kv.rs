//! State shared by all instances of a plugin: bounded, in memory, kept across swaps. Needs the grant `kv`.
//!
//! ```
//! use nervewire_plugin_sdk::kv;
//! use std::time::Duration;
//! let failures = kv::increment("failures/7", 1, Duration::from_secs(60))?;
//! if failures > 5 {
//!     kv::set("locked/7", "yes", Duration::from_secs(600))?;
//! }
//! # Ok::<(), kv::Error>(())
//! ```

#[cfg(target_arch = "wasm32")]
use crate::guest::kv as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::kv as host;
use std::fmt;
use std::time::Duration;

/// Why something was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The store is full; what it holds is kept.
    Full,
    /// A key over 1 KiB or a value over 64 KiB.
    TooLarge,
    /// [`increment`] found something that is not a number.
    NotANumber,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the plugin's key-value store is full",
            Self::TooLarge => "the key is over 1 KiB or the value over 64 KiB",
            Self::NotANumber => "the value is not a number",
        })
    }
}

impl std::error::Error for Error {}

/// The value of a key.
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::get(key)
}

/// Sets the value of a key; it expires after so long (`None`: never).
///
/// # Errors
/// [`Error::Full`], [`Error::TooLarge`].
pub fn set(key: &str, value: impl AsRef<[u8]>, expires: impl Into<Option<Duration>>) -> Result<(), Error> {
    host::set(key, value.as_ref(), milliseconds(expires))
}

/// Forgets a key.
pub fn delete(key: &str) {
    host::delete(key);
}

/// Writes `value` (`None`: deletes) where the current value is `expected` (`None`: absent), and says whether it did.
///
/// # Errors
/// [`Error::Full`], [`Error::TooLarge`].
pub fn compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
    expires: impl Into<Option<Duration>>,
) -> Result<bool, Error> {
    host::compare_and_swap(key, expected, value, milliseconds(expires))
}

/// Adds to a decimal number (absent: 0) and answers the sum; a new key gets the expiry, an old one keeps its own.
///
/// # Errors
/// [`Error::Full`], [`Error::TooLarge`] for the key, [`Error::NotANumber`].
pub fn increment(key: &str, delta: i64, expires: impl Into<Option<Duration>>) -> Result<i64, Error> {
    host::increment(key, delta, milliseconds(expires))
}

fn milliseconds(duration: impl Into<Option<Duration>>) -> Option<u64> {
    duration
        .into()
        .map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
