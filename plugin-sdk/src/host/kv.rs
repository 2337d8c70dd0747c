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
//!
//! Values are bytes; [`get_json`], [`set_json`] and [`update_json`] keep values of a type of yours instead.

#[cfg(target_arch = "wasm32")]
use crate::guest::kv as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::kv as host;
use serde::{Serialize, de::DeserializeOwned};
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
    /// [`get_json`] and [`update_json`] found something else than JSON of the type asked for, or [`set_json`] was given
    /// what cannot be written as JSON.
    NotJson,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the plugin's key-value store is full",
            Self::TooLarge => "the key is over 1 KiB or the value over 64 KiB",
            Self::NotANumber => "the value is not a number",
            Self::NotJson => "the value is not JSON of the expected type",
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

/// Replaces a value by what `change` makes of the current one (`None`: absent, delete), and answers what is there now.
///
/// Other instances may change the value meanwhile; then `change` is called again with what they left. It should depend on
/// nothing but its argument.
///
/// ```
/// use nervewire_plugin_sdk::kv;
/// // The last three addresses of a client, newest first.
/// let remember = |address: &str| kv::update("addresses/7", None, |current| {
///     let old = String::from_utf8(current.unwrap_or_default()).unwrap_or_default();
///     let all = [address].into_iter().chain(old.lines());
///     Some(all.take(3).collect::<Vec<_>>().join("\n").into_bytes())
/// });
/// for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"] {
///     remember(address)?;
/// }
/// assert_eq!(kv::get("addresses/7").as_deref(), Some(&b"192.0.2.4\n192.0.2.3\n192.0.2.2"[..]));
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// [`Error::Full`], [`Error::TooLarge`].
pub fn update(
    key: &str,
    expires: impl Into<Option<Duration>>,
    mut change: impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Error> {
    let expires = expires.into();
    // Where a swap fails another instance's has succeeded, so this ends; what bounds it is the deadline of the call.
    loop {
        let current = get(key);
        let wanted = change(current.clone());
        if compare_and_swap(key, current.as_deref(), wanted.as_deref(), expires)? {
            return Ok(wanted);
        }
    }
}

/// The value of a key that [`set_json`] has set.
///
/// # Errors
/// [`Error::NotJson`].
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    get(key).as_deref().map(from_json).transpose()
}

/// Sets the value of a key to one of a type of yours, kept as JSON.
///
/// ```
/// use nervewire_plugin_sdk::kv;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Door { open: bool, width_mm: u32 }
///
/// kv::set_json("doors/7", &Door { open: true, width_mm: 900 }, None)?;
/// assert_eq!(kv::get_json("doors/7")?, Some(Door { open: true, width_mm: 900 }));
/// assert_eq!(kv::get_json::<Door>("doors/8")?, None);
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// [`Error::Full`], [`Error::TooLarge`], [`Error::NotJson`].
pub fn set_json<T: Serialize + ?Sized>(
    key: &str,
    value: &T,
    expires: impl Into<Option<Duration>>,
) -> Result<(), Error> {
    set(key, to_json(value)?, expires)
}

/// [`update`] for values that are kept as JSON.
///
/// ```
/// use nervewire_plugin_sdk::kv;
/// let seen = |client_id: &str| kv::update_json("seen", None, |seen: Option<Vec<String>>| {
///     let mut seen = seen.unwrap_or_default();
///     seen.push(client_id.to_owned());
///     Some(seen)
/// });
/// seen("7")?;
/// assert_eq!(seen("8")?, Some(vec!["7".to_owned(), "8".to_owned()]));
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// [`Error::Full`], [`Error::TooLarge`], [`Error::NotJson`]; the value is left as it is.
pub fn update_json<T: Serialize + DeserializeOwned>(
    key: &str,
    expires: impl Into<Option<Duration>>,
    mut change: impl FnMut(Option<T>) -> Option<T>,
) -> Result<Option<T>, Error> {
    let expires = expires.into();
    loop {
        let current = get(key);
        let value = change(current.as_deref().map(from_json).transpose()?);
        let wanted = value.as_ref().map(to_json).transpose()?;
        if compare_and_swap(key, current.as_deref(), wanted.as_deref(), expires)? {
            return Ok(value);
        }
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|_| Error::NotJson)
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|_| Error::NotJson)
}

fn milliseconds(duration: impl Into<Option<Duration>>) -> Option<u64> {
    duration
        .into()
        .map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
