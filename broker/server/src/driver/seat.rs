//! What a connection takes up of what is counted, for as long as its socket lives.

use super::accept::ListenerSettings;
use super::worker::Shared;
use crate::defence::{AddressSlot, Refused};
use nervewire_core::time::Millis;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A place among the connections of the broker and of its listener. Dropping it gives both back.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    listener: Arc<ListenerSettings>,
    /// Its place in the count of its address.
    address: Option<AddressSlot>,
}

/// Which bound left no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Broker,
    Listener,
}

impl Seat {
    /// Takes a place, if there is one.
    pub(super) fn take(shared: &Arc<Shared>, listener: &Arc<ListenerSettings>) -> Result<Self, Full> {
        if !count(&shared.connections, shared.max_connections.load(Ordering::Relaxed)) {
            return Err(Full::Broker);
        }
        if !count(&listener.connections, listener.max_connections) {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Listener);
        }
        Ok(Self {
            shared: shared.clone(),
            listener: listener.clone(),
            address: None,
        })
    }

    /// Counts it for the client's address, once that is known.
    pub(super) fn count(&mut self, address: IpAddr, now: Millis) -> Result<(), Refused> {
        self.address = Some(self.shared.defence.connection(address, now)?);
        Ok(())
    }

    /// The listener that let the connection in, as it was then.
    pub(super) fn listener(&self) -> &Arc<ListenerSettings> {
        &self.listener
    }
}

fn count(counter: &AtomicUsize, bound: usize) -> bool {
    let fits = counter.fetch_add(1, Ordering::Relaxed) < bound;
    if !fits {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
    fits
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.listener.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
