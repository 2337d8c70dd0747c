//! What the broker offers to every plugin. On other targets than wasm a stand-in answers, see [`testing`](crate::testing).

pub mod clock;
pub mod counters;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod random;
