//! TLS sessions that clients may resume. They belong to one loaded `tls` table: whoever was let in by other authorities or
//! lists shakes hands anew.

use rustls::server::StoresServerSessions;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Sessions that were taken out while there was no room, over the life of the process.
static OVER_BOUND: AtomicU64 = AtomicU64::new(0);

/// How often there was no room for all sessions.
pub(crate) fn sessions_over_bound() -> u64 {
    OVER_BOUND.load(Ordering::Relaxed)
}

/// The latest sessions of a listener, in so many bytes. TLS 1.3 sessions are taken out by who resumes them.
pub(super) struct Sessions {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, Vec<u8>>,
    /// The oldest first; those that were taken stay until they are the majority.
    order: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Sessions {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry costs: its key lies in the map and in the order.
fn cost(key: &[u8], value: &[u8]) -> usize {
    const ENTRY_BYTES: usize = 128;
    2 * key.len() + value.len() + ENTRY_BYTES
}

impl Kept {
    fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.sessions.remove(key)?;
        self.bytes -= cost(key, &value);
        Some(value)
    }

    fn forget_taken(&mut self) {
        const SPARE_KEYS: usize = 64;
        if self.order.len() > 2 * self.sessions.len() + SPARE_KEYS {
            let sessions = &self.sessions;
            self.order.retain(|key| sessions.contains_key(key));
        }
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let cost = cost(&key, &value);
        if cost > self.max_bytes {
            OVER_BOUND.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut kept = self.kept();
        kept.remove(&key);
        while kept.bytes + cost > self.max_bytes {
            let Some(oldest) = kept.order.pop_front() else { break };
            if kept.remove(&oldest).is_some() {
                OVER_BOUND.fetch_add(1, Ordering::Relaxed);
            }
        }
        kept.bytes += cost;
        kept.order.push_back(key.clone());
        kept.sessions.insert(key, value);
        kept.forget_taken();
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().sessions.get(key).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().remove(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Without the secrets.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> (Vec<u8>, Vec<u8>) {
        (number.to_be_bytes().to_vec(), vec![7; 100])
    }

    fn one_costs() -> usize {
        let (key, value) = session(0);
        cost(&key, &value)
    }

    #[test]
    fn a_session_is_found_until_it_is_taken() {
        let sessions = Sessions::new(10_000);
        let (key, value) = session(1);
        assert!(sessions.put(key.clone(), value.clone()));
        assert_eq!(sessions.get(&key), Some(value.clone()));
        assert_eq!(sessions.take(&key), Some(value));
        assert_eq!(sessions.get(&key), None);
        assert_eq!(sessions.kept().bytes, 0);
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room_and_that_is_counted() {
        let sessions = Sessions::new(3 * one_costs());
        let before = sessions_over_bound();
        for number in 0..5 {
            let (key, value) = session(number);
            assert!(sessions.put(key, value));
        }
        let found: Vec<_> = (0..5)
            .filter(|number| sessions.get(&session(*number).0).is_some())
            .collect();
        assert_eq!(found, [2, 3, 4]);
        assert!(sessions.kept().bytes <= 3 * one_costs());
        assert!(sessions_over_bound() >= before + 2);
    }

    #[test]
    fn one_that_is_too_large_is_not_kept() {
        let sessions = Sessions::new(one_costs() - 1);
        let (key, value) = session(1);
        assert!(!sessions.put(key.clone(), value));
        assert_eq!(sessions.get(&key), None);
    }

    #[test]
    fn putting_and_taking_for_ever_leaves_nothing() {
        let sessions = Sessions::new(1_000_000);
        for number in 0..10_000 {
            let (key, value) = session(number);
            sessions.put(key.clone(), value);
            sessions.take(&key);
        }
        assert_eq!(sessions.kept().bytes, 0);
        assert!(sessions.kept().order.len() < 100);
    }
}
