//! The stand-in for the broker on targets other than wasm: one per thread, so that tests do not see each other.

pub(crate) mod http;
pub(crate) mod kv;

use crate::log::Level;
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// What the stand-in remembers.
pub(crate) struct Host {
    pub(crate) now_ms: u64,
    pub(crate) lines: Vec<(Level, String)>,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) store: kv::Store,
    pub(crate) backend: Option<http::Backend>,
    random_state: u64,
}

/// Lets `f` at the stand-in of this thread.
pub(crate) fn with<R>(f: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(f)
}

impl Default for Host {
    fn default() -> Self {
        Self {
            now_ms: 0,
            lines: Vec::new(),
            counters: BTreeMap::new(),
            store: kv::Store::default(),
            backend: None,
            random_state: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

impl Host {
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        self.lines.push((level, message.to_owned()));
    }

    pub(crate) fn add(&mut self, name: &str, delta: u64) {
        let valid =
            (1..=64).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let known = self.counters.contains_key(name);
        if valid && (known || self.counters.len() < 64) {
            let counter = self.counters.entry(name.to_owned()).or_default();
            *counter = counter.saturating_add(delta);
        }
    }

    pub(crate) fn random(&mut self, length: u32) -> Vec<u8> {
        (0..length).map(|_| self.random_byte()).collect()
    }

    /// xorshift64*: enough for tests that want the bytes to differ.
    fn random_byte(&mut self) -> u8 {
        self.random_state ^= self.random_state >> 12;
        self.random_state ^= self.random_state << 25;
        self.random_state ^= self.random_state >> 27;
        self.random_state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
    }
}
