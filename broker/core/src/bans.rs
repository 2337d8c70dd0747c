//! Who is kept out. Core asks at the moments at which something of a client comes true that was decided earlier: its CONNECT, its
//! will, a PUBLISH that waited for a plugin, what it had retained.

use crate::hook::Client;
use crate::time::Millis;
use std::fmt::Debug;

/// The bans in force, kept by whoever drives the shards and asked by all of them.
pub trait Bans: Debug + Send + Sync {
    /// Whether a client is banned at this moment, in Unix milliseconds. To be cheap while there are no bans.
    fn is_banned(&self, client: &Client, now: Millis) -> bool;
}

/// Nobody is banned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Bans for Nobody {
    fn is_banned(&self, _: &Client, _: Millis) -> bool {
        false
    }
}
