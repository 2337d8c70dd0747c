//! The key-value store behind the grant `kv`: one per plugin name, in memory, bounded, kept across swaps. Time is passed in.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries of one store.
pub const MAX_KV_ENTRIES: usize = 65_536;
/// Bytes of one store: keys, values and [`ENTRY_OVERHEAD_BYTES`] for each entry.
pub const MAX_KV_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of one key.
pub const MAX_KEY_BYTES: usize = 1024;
/// Bytes of one value.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// What an entry is counted for beside key and value.
pub const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Why something was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// [`MAX_KV_ENTRIES`] or [`MAX_KV_BYTES`] is reached.
    #[error("the key-value store is full")]
    Full,
    /// [`MAX_KEY_BYTES`] or [`MAX_VALUE_BYTES`] is exceeded.
    #[error("the key or the value is too large")]
    TooLarge,
    /// The value to be incremented is no decimal number, or the sum does not fit.
    #[error("the value is not a number")]
    NotANumber,
}

/// Entries with their expiry.
#[derive(Debug, Default)]
pub struct KvStore {
    entries: HashMap<String, Entry>,
    bytes: usize,
    refused: u64,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    expires_at_ms: Option<u64>,
}

impl Entry {
    fn lives(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at| at > now_ms)
    }
}

impl KvStore {
    /// The value of `key`, unless it expired.
    pub fn get(&self, key: &str, now_ms: u64) -> Option<&[u8]> {
        self.entries
            .get(key)
            .filter(|entry| entry.lives(now_ms))
            .map(|entry| entry.value.as_slice())
    }

    /// Writes `value`, which expires after `expires_ms`.
    ///
    /// # Errors
    /// [`KvError::Full`] and [`KvError::TooLarge`]; what was there stays.
    pub fn set(&mut self, key: &str, value: Vec<u8>, expires_ms: Option<u64>, now_ms: u64) -> Result<(), KvError> {
        let written = self.write(key, value, expires_ms.map(|after| now_ms.saturating_add(after)), now_ms);
        self.count_refusal(written)
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= cost(key.len(), entry.value.len());
        }
    }

    /// Writes `value` (`None`: deletes) where the current value is `expected` (`None`: absent), and says whether it did.
    ///
    /// # Errors
    /// As for [`KvStore::set`].
    pub fn compare_and_swap(
        &mut self,
        key: &str,
        expected: Option<&[u8]>,
        value: Option<Vec<u8>>,
        expires_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<bool, KvError> {
        if self.get(key, now_ms) != expected {
            return Ok(false);
        }
        match value {
            Some(value) => self.set(key, value, expires_ms, now_ms)?,
            None => self.delete(key),
        }
        Ok(true)
    }

    /// Adds `delta` to a decimal number (absent: 0) and answers the sum. A new key gets the expiry, an old one keeps its own.
    ///
    /// # Errors
    /// [`KvError::NotANumber`] where the value is none or the sum does not fit, else as for [`KvStore::set`].
    pub fn increment(&mut self, key: &str, delta: i64, expires_ms: Option<u64>, now_ms: u64) -> Result<i64, KvError> {
        let old = self.entries.get(key).filter(|entry| entry.lives(now_ms));
        let expires_at_ms = match old {
            Some(entry) => entry.expires_at_ms,
            None => expires_ms.map(|after| now_ms.saturating_add(after)),
        };
        let sum = old
            .map_or(Some(0), |entry| number(&entry.value))
            .and_then(|n| n.checked_add(delta));
        let written = match sum {
            Some(sum) => self
                .write(key, sum.to_string().into_bytes(), expires_at_ms, now_ms)
                .map(|()| sum),
            None => Err(KvError::NotANumber),
        };
        self.count_refusal(written)
    }

    /// Entries, expired ones that were not yet removed included.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Bytes they are counted for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes that were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn write(&mut self, key: &str, value: Vec<u8>, expires_at_ms: Option<u64>, now_ms: u64) -> Result<(), KvError> {
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(KvError::TooLarge);
        }
        if !self.has_room(key, value.len()) {
            self.remove_expired(now_ms);
            if !self.has_room(key, value.len()) {
                return Err(KvError::Full);
            }
        }
        self.delete(key);
        self.bytes += cost(key.len(), value.len());
        self.entries.insert(key.to_owned(), Entry { value, expires_at_ms });
        Ok(())
    }

    fn has_room(&self, key: &str, value_bytes: usize) -> bool {
        let old = self.entries.get(key);
        let entries = self.entries.len() + usize::from(old.is_none());
        let freed = old.map_or(0, |entry| cost(key.len(), entry.value.len()));
        entries <= MAX_KV_ENTRIES && self.bytes - freed + cost(key.len(), value_bytes) <= MAX_KV_BYTES
    }

    /// Only a full store is searched for expired entries.
    fn remove_expired(&mut self, now_ms: u64) {
        let mut freed = 0;
        self.entries.retain(|key, entry| {
            let lives = entry.lives(now_ms);
            freed += if lives { 0 } else { cost(key.len(), entry.value.len()) };
            lives
        });
        self.bytes -= freed;
    }

    fn count_refusal<T>(&mut self, result: Result<T, KvError>) -> Result<T, KvError> {
        self.refused += u64::from(result.is_err());
        result
    }
}

fn cost(key_bytes: usize, value_bytes: usize) -> usize {
    key_bytes + value_bytes + ENTRY_OVERHEAD_BYTES
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A store for the instances of all threads.
#[derive(Debug, Default)]
pub(crate) struct SharedKv(Mutex<KvStore>);

impl SharedKv {
    pub(crate) fn lock(&self) -> MutexGuard<'_, KvStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_read_until_it_expires() {
        let mut kv = KvStore::default();
        kv.set("forever", b"1".to_vec(), None, 0).unwrap();
        kv.set("brief", b"2".to_vec(), Some(100), 0).unwrap();
        let check =
            |key, now, expected: Option<&str>| assert_eq!(kv.get(key, now), expected.map(str::as_bytes), "{key}");
        check("forever", u64::MAX, Some("1"));
        check("brief", 99, Some("2"));
        check("brief", 100, None);
        check("absent", 0, None);
    }

    #[test]
    fn deleting_gives_the_bytes_back() {
        let mut kv = KvStore::default();
        kv.set("key", vec![0; 10], None, 0).unwrap();
        assert_eq!((kv.entries(), kv.bytes()), (1, 3 + 10 + ENTRY_OVERHEAD_BYTES));
        kv.set("key", vec![0; 4], None, 0).unwrap();
        assert_eq!((kv.entries(), kv.bytes()), (1, 3 + 4 + ENTRY_OVERHEAD_BYTES));
        kv.delete("key");
        kv.delete("key");
        assert_eq!((kv.entries(), kv.bytes()), (0, 0));
    }

    #[test]
    fn compare_and_swap_writes_only_over_what_is_expected() {
        let mut kv = KvStore::default();
        let mut check = |expected: Option<&str>, value: Option<&str>, swapped: bool, after: Option<&str>| {
            let value = value.map(|v| v.as_bytes().to_vec());
            let got = kv.compare_and_swap("k", expected.map(str::as_bytes), value, None, 0);
            assert_eq!(got, Ok(swapped), "{expected:?}");
            assert_eq!(kv.get("k", 0), after.map(str::as_bytes));
        };
        check(Some("a"), Some("b"), false, None);
        check(None, Some("a"), true, Some("a"));
        check(None, Some("b"), false, Some("a"));
        check(Some("a"), Some("b"), true, Some("b"));
        check(Some("a"), None, false, Some("b"));
        check(Some("b"), None, true, None);
    }

    #[test]
    fn an_expired_value_counts_as_absent_everywhere() {
        let mut kv = KvStore::default();
        kv.set("k", b"5".to_vec(), Some(10), 0).unwrap();
        assert_eq!(kv.compare_and_swap("k", Some(b"5"), None, None, 10), Ok(false));
        assert_eq!(kv.increment("k", 1, None, 10), Ok(1));
    }

    #[test]
    fn increment_counts_and_keeps_the_first_expiry() {
        let mut kv = KvStore::default();
        assert_eq!(kv.increment("n", 2, Some(100), 0), Ok(2));
        assert_eq!(kv.increment("n", -5, Some(1_000), 50), Ok(-3));
        assert_eq!(kv.get("n", 99), Some(b"-3".as_slice()));
        assert_eq!(kv.get("n", 100), None);
    }

    #[test]
    fn increment_refuses_what_is_no_number() {
        let mut kv = KvStore::default();
        kv.set("text", b"five".to_vec(), None, 0).unwrap();
        kv.set("max", i64::MAX.to_string().into_bytes(), None, 0).unwrap();
        assert_eq!(kv.increment("text", 1, None, 0), Err(KvError::NotANumber));
        assert_eq!(kv.increment("max", 1, None, 0), Err(KvError::NotANumber));
        assert_eq!(kv.refused(), 2);
        assert_eq!(kv.get("text", 0), Some(b"five".as_slice()));
    }

    #[test]
    fn keys_and_values_are_bounded() {
        let mut kv = KvStore::default();
        let mut check = |key: usize, value: usize, expected| {
            assert_eq!(
                kv.set(&"k".repeat(key), vec![0; value], None, 0),
                expected,
                "{key} {value}"
            );
        };
        check(MAX_KEY_BYTES, MAX_VALUE_BYTES, Ok(()));
        check(MAX_KEY_BYTES + 1, 0, Err(KvError::TooLarge));
        check(1, MAX_VALUE_BYTES + 1, Err(KvError::TooLarge));
    }

    #[test]
    fn a_full_store_keeps_what_it_holds_and_makes_room_by_expiry() {
        let mut kv = KvStore::default();
        let fits = MAX_KV_BYTES / cost(6, MAX_VALUE_BYTES);
        for n in 0..fits {
            kv.set(&format!("{n:06}"), vec![0; MAX_VALUE_BYTES], Some(100), 0)
                .unwrap();
        }
        assert_eq!(
            kv.set("one more", vec![0; MAX_VALUE_BYTES], None, 99),
            Err(KvError::Full)
        );
        assert_eq!((kv.entries(), kv.refused()), (fits, 1));
        assert_eq!(
            kv.set("000000", vec![1; MAX_VALUE_BYTES], Some(1), 99),
            Ok(()),
            "replacing needs no room"
        );
        assert_eq!(kv.set("one more", vec![0; MAX_VALUE_BYTES], None, 100), Ok(()));
        assert_eq!(kv.entries(), 1);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let mut kv = KvStore::default();
        for n in 0..MAX_KV_ENTRIES {
            kv.set(&n.to_string(), Vec::new(), None, 0).unwrap();
        }
        assert_eq!(kv.set("one more", Vec::new(), None, 0), Err(KvError::Full));
        assert_eq!(kv.set("1", b"new".to_vec(), None, 0), Ok(()));
    }
}
