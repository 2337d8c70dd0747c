//! The driver of the shards: threads, sockets and clocks around the state machine in `core`.
//!
//! Each shard is one thread with a readiness loop of its own. A pass reads and feeds everything that is ready, then carries out
//! plugin calls, hands batches to other shards, and writes each touched connection once.

mod accept;
mod certificates;
mod handshake;
mod holding;
mod inbox;
mod io;
mod memory;
mod newcomers;
mod plugins;
mod read;
mod requests;
mod runs;
mod seat;
mod secure;
mod socket;
mod store;
mod told;
mod worker;

pub(crate) use accept::ListenerSettings;
pub(crate) use certificates::revoked_certificates;
pub(crate) use handshake::busy;
pub(crate) use inbox::{ShardEvent, Swap, bounds};
pub(crate) use plugins::{Place, ShardPlugins};
pub(crate) use requests::{ShardReport, ask_all, ask_home};
pub(crate) use store::{ShardStore, store_sinks};
pub(crate) use told::Told;
pub(crate) use worker::{ShardSetup, Shared, Worker, inboxes, spawn};

use crate::unix_time::unix_ms;
use nervewire_core::time::Millis;
use std::time::Instant;

/// The broker's clock: Unix time at start plus a monotonic clock, so that it never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at_ms: Millis,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            started_at_ms: unix_ms(),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.started_at_ms + self.started.elapsed().as_millis() as Millis
    }

    pub(crate) fn started_at_ms(&self) -> Millis {
        self.started_at_ms
    }
}
