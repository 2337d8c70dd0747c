//! Time as the core sees it: a number that is handed in.

/// Milliseconds since the Unix epoch on a clock that never goes back.
pub type Millis = u64;
