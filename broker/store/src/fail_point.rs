//! What tests may do to a journal, in debug builds only. Places where a test may end the process: `NERVEWIRE_FAIL_POINT="NAME:N"` aborts it the N-th time that it
//! comes by the place of that name. A crash test thereby tries every state that a crash can leave on the disk.

/// The process ends here if it was told to.
pub(crate) fn pass(name: &str) {
    if is_due(name) {
        std::process::abort();
    }
}

#[cfg(debug_assertions)]
pub(crate) use armed::{is_due, segment_bytes};

/// Whether the process is to end at this place now.
#[cfg(not(debug_assertions))]
pub(crate) fn is_due(_: &str) -> bool {
    false
}

/// Size of a segment that a test asks for.
#[cfg(not(debug_assertions))]
pub(crate) fn segment_bytes() -> Option<u64> {
    None
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

    /// Whether the process is to end at this place now.
    pub(crate) fn is_due(name: &str) -> bool {
        match ARMED.get_or_init(from_environment) {
            Some((armed, left)) if armed == name => left.fetch_sub(1, Ordering::Relaxed) == 1,
            _ => false,
        }
    }

    /// Size of a segment that a test asks for: with small ones, a second of load goes through all that segments go through.
    pub(crate) fn segment_bytes() -> Option<u64> {
        std::env::var("NERVEWIRE_SEGMENT_BYTES").ok()?.parse().ok()
    }

    fn from_environment() -> Option<(String, AtomicU64)> {
        let value = std::env::var("NERVEWIRE_FAIL_POINT").ok()?;
        let (name, hits) = value.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(hits.parse().ok()?)))
    }
}
