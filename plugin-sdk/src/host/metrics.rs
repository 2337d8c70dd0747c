//! Counters with a name that is checked when the plugin is compiled; they show in the broker's metrics as
//! `nervewire_plugin_counter_total{plugin,counter}`.
//!
//! ```
//! use nervewire_plugin_sdk::{metrics, testing};
//! const REFUSED_BYTES: metrics::Counter = metrics::Counter::new("refused_bytes");
//!
//! metrics::counter!("refused").increment(1);
//! REFUSED_BYTES.increment(4096);
//! assert_eq!((testing::counter("refused"), testing::counter("refused_bytes")), (1, 4096));
//! ```
//!
//! A name that the broker would drop does not compile:
//!
//! ```compile_fail
//! nervewire_plugin_sdk::metrics::counter!("Refused: all").increment(1);
//! ```
//!
//! The broker keeps at most 64 counters per plugin. For names that are only known later there is [`counters::add`].
//!
//! [`counters::add`]: crate::counters::add

#[doc(inline)]
pub use crate::__counter as counter;

const MAX_NAME_BYTES: usize = 64;

/// A counter of the plugin, over all its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(&'static str);

impl Counter {
    /// A counter of this name: lower-case ASCII letters, digits and `_`, at most 64 of them.
    ///
    /// # Panics
    /// For any other name; in a `const`, as [`counter!`] makes one, the compiler says so.
    pub const fn new(name: &'static str) -> Self {
        assert!(
            is_valid(name.as_bytes()),
            "a counter's name is 1 to 64 lower-case ASCII letters, digits and `_`"
        );
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Counts `delta` more.
    pub fn increment(self, delta: u64) {
        crate::counters::add(self.0, delta);
    }
}

const fn is_valid(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        if !matches!(first, b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        rest = tail;
    }
    !name.is_empty() && name.len() <= MAX_NAME_BYTES
}

/// The [`Counter`](crate::metrics::Counter) of this name, which the compiler checks: `counter!("refused").increment(1)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __counter {
    ($name:expr) => {{
        const COUNTER: $crate::metrics::Counter = $crate::metrics::Counter::new($name);
        COUNTER
    }};
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn names_are_those_of_the_contract() {
        for name in ["a", "refused_total", "0_9", &"a".repeat(64)] {
            assert!(is_valid(name.as_bytes()), "{name}");
        }
        for name in ["", "A", "a-b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_valid(name.as_bytes()), "{name}");
        }
    }
}
