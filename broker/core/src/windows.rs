//! What each client did since the last window was closed, for plugins that say what is odd in it (hook `detect`).
//!
//! Counting costs a message some additions, and one branch where no plugin asks for it. A window is closed by taking it away
//! whole: a session notices by the window's number that its place in the last one is gone.

mod merge;
mod tally;

pub use merge::{ClientWindow, Span, batches, merge};
pub use tally::Tally;

use crate::hook::Client;
use hashbrown::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

/// Where a session is counted: a slot, below the last bits of the window's number. It holds for one window, and is small, because
/// every session has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place(u32);

impl Place {
    const SLOT_BITS: u32 = 24;
    const NO_SLOT: u32 = (1 << Self::SLOT_BITS) - 1;

    fn new(window: u8, slot: u32) -> Self {
        Self(u32::from(window) << Self::SLOT_BITS | slot)
    }

    fn is_of(self, window: u8) -> bool {
        self.0 >> Self::SLOT_BITS == u32::from(window)
    }

    /// There was no room for its client in this window.
    fn is_nowhere(self) -> bool {
        self.0 & Self::NO_SLOT == Self::NO_SLOT
    }

    fn slot(self) -> usize {
        (self.0 & Self::NO_SLOT) as usize
    }
}

/// Hashes of topics. Nobody can choose topics that seem to be one; and an estimate that a test looks at is the same every time.
#[cfg(not(test))]
type TopicHasher = hashbrown::DefaultHashBuilder;
#[cfg(test)]
type TopicHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// One shard's open window.
#[derive(Debug)]
pub(crate) struct Windows {
    /// Comes again after 255 windows. Never 0, so that a new session is in none.
    number: u8,
    /// Clients with a session, and as many without one.
    max_clients: usize,
    tallies: Vec<Tally>,
    by_key: HashMap<(Option<Arc<str>>, Arc<str>), u32>,
    /// Who was not let in, by the client identifier it claimed and its address.
    strangers: HashMap<(Arc<str>, IpAddr), Tally>,
    hasher: TopicHasher,
    over_bound: u64,
}

impl Windows {
    pub(crate) fn new(max_clients: usize) -> Self {
        Self {
            number: 1,
            max_clients: max_clients.min(Place::NO_SLOT as usize),
            tallies: Vec::new(),
            by_key: HashMap::new(),
            strangers: HashMap::new(),
            hasher: TopicHasher::default(),
            over_bound: 0,
        }
    }

    pub(crate) fn set_max_clients(&mut self, max_clients: usize) {
        self.max_clients = max_clients.min(Place::NO_SLOT as usize);
    }

    /// Clients that were not counted in some window, because there were too many.
    pub(crate) fn over_bound(&self) -> u64 {
        self.over_bound
    }

    /// What is counted of a session's client.
    #[inline]
    pub(crate) fn tally(&mut self, place: &mut Place, client: &Arc<Client>) -> Option<&mut Tally> {
        if !self.holds(*place, client) {
            *place = Place::new(self.number, self.enter(client));
        }
        self.tallies.get_mut(place.slot())
    }

    /// A PUBLISH of a session's client.
    #[inline]
    pub(crate) fn message_in(&mut self, place: &mut Place, client: &Arc<Client>, topic: &str, payload_bytes: usize) {
        let hash = self.hasher.hash_one(topic);
        if let Some(tally) = self.tally(place, client) {
            tally.message_in(hash, payload_bytes);
        }
    }

    /// A client whose CONNECT was refused, or broke the protocol before that; what it says of itself was not believed.
    pub(crate) fn stranger(&mut self, client: &Arc<Client>) -> Option<&mut Tally> {
        let key = (client.client_id.clone(), client.address);
        if self.strangers.len() >= self.max_clients && !self.strangers.contains_key(&key) {
            self.over_bound += 1;
            return None;
        }
        Some(self.strangers.entry(key).or_insert_with(|| Tally::of_stranger(client)))
    }

    /// Ends the window and begins the next.
    pub(crate) fn close(&mut self) -> Vec<Tally> {
        self.number = self.number.wrapping_add(1).max(1);
        self.by_key.clear();
        // As much room as the last window needed would be kept for ever after a flood of clients.
        self.by_key.shrink_to(self.tallies.len());
        let mut closed = std::mem::take(&mut self.tallies);
        closed.extend(std::mem::take(&mut self.strangers).into_values());
        closed
    }

    /// A place may be one of long ago, whose window had the same number, or of an earlier detector.
    #[inline]
    fn holds(&self, place: Place, client: &Arc<Client>) -> bool {
        let is_of = |tally: &Tally| {
            let known = &tally.client;
            let is_same = || (&known.tenant, &known.client_id) == (&client.tenant, &client.client_id);
            Arc::ptr_eq(known, client) || is_same()
        };
        place.is_of(self.number) && (place.is_nowhere() || self.tallies.get(place.slot()).is_some_and(is_of))
    }

    /// The place of a client that does something for the first time in this window, or comes with a new session.
    #[cold]
    fn enter(&mut self, client: &Arc<Client>) -> u32 {
        let key = (client.tenant.clone(), client.client_id.clone());
        if let Some(slot) = self.by_key.get(&key) {
            return *slot;
        }
        if self.tallies.len() >= self.max_clients {
            self.over_bound += 1;
            return Place::NO_SLOT;
        }
        let slot = self.tallies.len() as u32;
        self.tallies.push(Tally::of(client));
        self.by_key.insert(key, slot);
        slot
    }
}

#[cfg(test)]
mod tests;
