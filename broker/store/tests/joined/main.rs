//! Shards whose appends go to a log that completes by script: what clients are told waits for what is stored.

mod bench;
mod waiting;
