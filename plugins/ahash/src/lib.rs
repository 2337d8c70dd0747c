//! The two names of the crate `ahash` that `boon` uses, from the standard library. The original asks the operating system for
//! random numbers, which would be the grant `random` for a plugin that only checks payloads; the standard library makes do with the
//! seed that every plugin gets.

pub use std::collections::HashMap as AHashMap;
pub use std::collections::hash_map::DefaultHasher as AHasher;
