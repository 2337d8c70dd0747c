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

    /// The same string by reference.
    #[inline]
    pub fn borrowed(&self) -> Utf8Ref<'_> {
        Utf8Ref(&self.0)
    }
}

/// A valid UTF-8 Encoded String that is still where it was read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Utf8Ref<'a>(&'a [u8]); // Invariant: `scan_string` accepted these bytes.

impl<'a> Utf8Ref<'a> {
    /// The string.
    #[inline]
    pub fn as_str(self) -> &'a str {
        // SAFETY: the field is private to this module and set in three places only: by `scan`, after `scan_string` ran
        // `str::from_utf8` over the very bytes or saw that all are ASCII, from a `Utf8String`, whose invariant is the same, and
        // by `Default`, empty.
        // The borrow keeps anybody from changing them.
        unsafe { std::str::from_utf8_unchecked(self.0) }
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A copy that owns its bytes.
    pub fn to_utf8_string(self) -> Utf8String {
        Utf8String(Bytes::copy_from_slice(self.0))
    }

    /// The same string in `source`, which it is a part of: shared where it can be, else copied.
    pub(crate) fn shared_by(self, source: Option<&Bytes>) -> Utf8String {
        Utf8String(share(self.0, source))
    }

    /// Validates, and says what the validating pass saw.
    #[inline]
    pub(crate) fn scan(bytes: &'a [u8]) -> Result<(Self, Scan), StringError> {
        let scan = scan_string(bytes)?;
        Ok((Self(bytes), scan))
    }
}

impl<'a> TryFrom<&'a [u8]> for Utf8Ref<'a> {
    type Error = StringError;
    #[inline]
    fn try_from(bytes: &'a [u8]) -> Result<Self, StringError> {
        Self::scan(bytes).map(|(text, _)| text)
    }
}

impl Deref for Utf8Ref<'_> {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Utf8Ref<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A part of `source` that shares it; a copy where there is nothing to share.
#[inline]
pub(crate) fn share(part: &[u8], source: Option<&Bytes>) -> Bytes {
    match source {
        Some(source) => source.slice_ref(part),
        None => Bytes::copy_from_slice(part),
    }
}

/// Validates in one pass over eight bytes at a time, because topics are short; only strings beyond ASCII pay for a second pass.
#[inline]
pub(crate) fn scan_string(bytes: &[u8]) -> Result<Scan, StringError> {
    if bytes.len() > MAX_STRING_BYTES {
        return Err(StringError::TooLong);
    }
    let mut seen = Seen::default();
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        seen.word(u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        // Filled up with a byte that nobody looks for.
        let mut last = [b'x'; 8];
        last[..rest.len()].copy_from_slice(rest);
        seen.word(u64::from_le_bytes(last));
    }
    seen.verdict(bytes)
}

/// What eight bytes at a time add up to.
#[derive(Default)]
struct Seen {
    any: u64,
    null: u64,
    wildcard: u64,
    separators: u32,
}

impl Seen {
    #[inline]
    fn word(&mut self, word: u64) {
        self.any |= word;
        self.null |= zero_bytes(word);
        self.wildcard |= zero_bytes(word ^ every(b'#')) | zero_bytes(word ^ every(b'+'));
        self.separators += zero_bytes(word ^ every(b'/')).count_ones();
    }

    #[inline]
    fn verdict(self, bytes: &[u8]) -> Result<Scan, StringError> {
        if self.any & HIGH_BITS != 0 && std::str::from_utf8(bytes).is_err() {
            return Err(StringError::NotUtf8);
        }
        if self.null != 0 {
            return Err(StringError::NullCharacter);
        }
        Ok(Scan {
            wildcard: self.wildcard != 0,
            separators: self.separators as usize,
        })
    }
}

const HIGH_BITS: u64 = every(0x80);

/// The byte in all eight places.
const fn every(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// The high bit of every byte that is zero, and no other: the sum cannot carry from one byte into the next.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    !(((word & !HIGH_BITS) + !HIGH_BITS) | word | !HIGH_BITS)
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
    fn every_byte_is_seen_at_every_place() {
        for len in 1..=17 {
            for place in 0..len {
                for byte in 0..=0xFFu8 {
                    let mut bytes = vec![b'.'; len];
                    bytes[place] = byte;
                    let expected = match byte {
                        0 => Err(StringError::NullCharacter),
                        0x80.. => Err(StringError::NotUtf8),
                        _ => Ok(Scan {
                            wildcard: matches!(byte, b'#' | b'+'),
                            separators: usize::from(byte == b'/'),
                        }),
                    };
                    assert_eq!(scan_string(&bytes), expected, "{byte} at {place} of {len}");
                }
            }
        }
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
        let (text, _) = Utf8Ref::scan(&source[1..7]).expect("valid");
        let text = text.shared_by(Some(&source));
        assert_eq!(text, "töpic");
        assert_eq!(text.as_bytes().as_ptr(), source[1..].as_ptr());
        assert_eq!(text.clone().into_bytes().as_ptr(), source[1..].as_ptr());
        assert_eq!(Utf8Ref::scan(&source[3..5]), Err(StringError::NotUtf8));
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
