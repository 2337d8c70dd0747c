//! Shards whose appends go to a log that completes and fails by script: what clients are told waits for what is stored.

mod bench;
mod failures;
mod waiting;
