//! The broker's pure logic: sessions, index, routing, verdict folding, rules and limits. No socket, no clock, no file, no await.
//!
//! [`handshake`] takes a connection from its first byte to an accepted client; [`shard`] takes it from there. Plugin calls,
//! messages to other shards and socket writes are outputs that the driver in `server` carries out.

pub mod bans;
pub mod certificates;
pub mod counters;
pub mod explain;
pub mod fold;
mod gather;
pub mod handshake;
pub mod hook;
pub mod index;
mod interest;
pub mod limits;
pub mod message;
pub mod outbuf;
pub mod planted;
pub mod policy;
mod queued;
pub mod rate;
pub mod retained;
pub mod rules;
mod session;
pub mod shadow;
pub mod shard;
pub mod store;
mod subscriptions;
pub mod table;
pub mod time;
pub mod verdicts;
pub mod windows;
