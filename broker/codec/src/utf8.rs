//! The UTF-8 Encoded String of MQTT (5.0 section 1.5.4).
#![allow(unsafe_code)] // One call, argued where it stands: a broker reads every topic far more often than it validates it.

use bytes::Bytes;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Longest UTF-8 Encoded String or Binary Data in bytes: the length prefix has two bytes.
pub const MAX_STRING_BYTES: usize = 65_535;

/// A valid UTF-8 Encoded String: UTF-8 without U+0000, at most 65,535 bytes. Cloning shares the bytes.
#[derive(Clone, Default)]
pub struct Utf8String(Bytes); // Invariant: `scan_string` accepted these bytes. `Bytes` never change.

/// Why bytes are not a UTF-8 Encoded String.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StringError {
    /// [MQTT-1.5.4-1]
    #[error("a string is not valid UTF-8")]
    NotUtf8,
    /// [MQTT-1.5.4-2]
    #[error("a string contains the null character U+0000")]
    NullCharacter,
    /// Longer than its length prefix can say.
    #[error("a string is longer than 65535 bytes")]
    TooLong,
}

/// What one pass over a string finds; the topic checks need nothing more of a topic name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) wildcard: bool,
    pub(crate) separators: usize,
}

impl Utf8String {
    /// A constant string.
    ///
    /// # Panics
    /// Where the string contains U+0000 or is too long; in a constant that is a compile error.
    pub const fn from_static(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        assert!(bytes.len() <= MAX_STRING_BYTES, "longer than 65535 bytes");
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] != 0, "contains U+0000");
            at += 1;
        }
        Self(Bytes::from_static(bytes))
    }

    /// The string.
    #[inline]
    pub fn as_str(&self) -> &str {
        // SAFETY: the field is private to this module and set in three places only: by `slice` and `try_from`, after
        // `scan_string` ran `str::from_utf8` over the very bytes or saw that all are ASCII; by `from_static`, from a `str`; and
        // by `Default`, empty. `Bytes` are immutable and shared, so they are still those bytes.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The bytes, shareable without a copy.
    #[inline]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// `source[start..end]` as a string that shares `source`, with what the validating pass saw.
    #[inline]
    pub(crate) fn slice(source: &Bytes, start: usize, end: usize) -> Result<(Self, Scan), StringError> {
        let scan = scan_string(&source[start..end])?;
        Ok((Self(source.slice(start..end)), scan))
    }
}

/// Validates in one pass that the compiler can vectorize; only strings beyond ASCII pay for a second one.
#[inline]
pub(crate) fn scan_string(bytes: &[u8]) -> Result<Scan, StringError> {
    if bytes.len() > MAX_STRING_BYTES {
        return Err(StringError::TooLong);
    }
    let (mut seen, mut null, mut wildcard, mut separators) = (0u8, false, false, 0usize);
    for &byte in bytes {
        seen |= byte;
        null |= byte == 0;
        wildcard |= (byte == b'#') | (byte == b'+');
        separators += usize::from(byte == b'/');
    }
    if !seen.is_ascii() && std::str::from_utf8(bytes).is_err() {
        return Err(StringError::NotUtf8);
    }
    if null {
        return Err(StringError::NullCharacter);
    }
    Ok(Scan { wildcard, separators })
}

impl TryFrom<Bytes> for Utf8String {
    type Error = StringError;
    fn try_from(bytes: Bytes) -> Result<Self, StringError> {
        scan_string(&bytes)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Utf8String {
    type Error = StringError;
    fn try_from(text: String) -> Result<Self, StringError> {
        Self::try_from(Bytes::from(text))
    }
}

impl TryFrom<&str> for Utf8String {
    type Error = StringError;
    fn try_from(text: &str) -> Result<Self, StringError> {
        Self::try_from(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Deref for Utf8String {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Utf8String {
    #[inline]
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Utf8String {
    #[inline]
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Utf8String {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Utf8String {}

impl PartialEq<str> for Utf8String {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8String {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Utf8String {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Utf8String {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

// As `str` hashes, not as bytes do: `Borrow<str>` promises that maps can be asked with a `&str`.
impl Hash for Utf8String {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Utf8String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn strings_are_validated_once_at_the_door() {
        let check = |bytes: &[u8], expected: Result<(), StringError>| {
            let got = Utf8String::try_from(Bytes::copy_from_slice(bytes));
            assert_eq!(got.as_ref().map(|_| ()).map_err(|e| *e), expected, "{bytes:?}");
            if let Ok(text) = got {
                assert_eq!(text.as_str().as_bytes(), bytes);
            }
        };
        check(b"", Ok(()));
        check(b"plain/ascii", Ok(()));
        check("größe/温度/🦀".as_bytes(), Ok(()));
        check(&[0xEF, 0xBB, 0xBF], Ok(())); // [MQTT-1.5.4-3]: U+FEFF is a character like any other
        check(&[b'a'; MAX_STRING_BYTES], Ok(()));
        check(&[b'a'; MAX_STRING_BYTES + 1], Err(StringError::TooLong));
        check(b"a\0b", Err(StringError::NullCharacter));
        check("ä\0".as_bytes(), Err(StringError::NullCharacter));
        check(&[0xC0, 0x80], Err(StringError::NotUtf8)); // overlong U+0000
        check(&[0xED, 0xA0, 0x80], Err(StringError::NotUtf8)); // surrogate U+D800
        check(&[b'a', 0xE2, 0x82], Err(StringError::NotUtf8)); // cut inside a character
        check(&[0xF4, 0x90, 0x80, 0x80], Err(StringError::NotUtf8)); // beyond U+10FFFF
    }

    #[test]
    fn the_pass_counts_what_topics_need() {
        let check = |text: &str, wildcard, separators| {
            assert_eq!(
                scan_string(text.as_bytes()),
                Ok(Scan { wildcard, separators }),
                "{text:?}"
            );
        };
        check("", false, 0);
        check("a/b/c", false, 2);
        check("a/+/c", true, 2);
        check("#", true, 0);
        check("/ä/", false, 2);
    }

    #[test]
    fn a_slice_shares_its_source() {
        let source = Bytes::from_static("xtöpicx".as_bytes());
        let (text, _) = Utf8String::slice(&source, 1, 7).expect("valid");
        assert_eq!(text, "töpic");
        assert_eq!(text.as_bytes().as_ptr(), source[1..].as_ptr());
        assert_eq!(text.clone().into_bytes().as_ptr(), source[1..].as_ptr());
        assert_eq!(Utf8String::slice(&source, 3, 5), Err(StringError::NotUtf8));
    }

    #[test]
    fn maps_can_be_asked_with_a_str() {
        let map = HashMap::from([(Utf8String::from_static("key"), 1)]);
        assert_eq!(map.get("key"), Some(&1));
        assert_eq!(map.get("other"), None);
    }

    #[test]
    fn it_prints_orders_and_compares_as_a_str() {
        let text = Utf8String::try_from(String::from("b\"c")).expect("valid");
        assert_eq!(format!("{text} {text:?}"), "b\"c \"b\\\"c\"");
        assert!(Utf8String::from_static("a") < text && text == *"b\"c" && text == "b\"c");
        assert!(Utf8String::default().is_empty() && Utf8String::from_static("").is_empty());
    }

    #[test]
    #[should_panic(expected = "U+0000")]
    fn a_constant_with_a_null_character_is_refused() {
        let _ = Utf8String::from_static("a\0");
    }
}
