//! Exchanges of plugins in shadow mode with clients that authenticate in several steps. Such a plugin gets its own state back, and
//! only where it had challenged with the same data: else what the client answers is no answer to it.

use bytes::Bytes;
use nervewire_core::hook::Client;
use nervewire_core::limits::MAX_SHADOW_COMPARISONS;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// Those that are open, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    generation: u64,
    open: VecDeque<(Key, Bytes)>,
    over_bound: u64,
}

/// A plugin by its position, and the connection.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    watching: usize,
    listener: Arc<str>,
    address: IpAddr,
    port: u16,
}

impl Exchanges {
    /// Positions are those of one generation.
    pub(super) fn keep_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.open.clear();
        }
    }

    /// What a plugin wants back with the next answer of a client that it challenged. Too many: the oldest is forgotten.
    pub(super) fn put(&mut self, watching: usize, client: &Client, state: Bytes) {
        if self.open.len() >= MAX_SHADOW_COMPARISONS {
            self.open.pop_front();
            self.over_bound += 1;
        }
        self.open.push_back((key(watching, client), state));
    }

    /// The state that belongs to the next step, which is thereby over.
    pub(super) fn take(&mut self, watching: usize, client: &Client) -> Option<Bytes> {
        if self.open.is_empty() {
            return None;
        }
        let key = key(watching, client);
        let at = self.open.iter().position(|(known, _)| *known == key)?;
        self.open.remove(at).map(|(_, state)| state)
    }

    /// How many were forgotten since the last time.
    pub(super) fn take_over_bound(&mut self) -> u64 {
        std::mem::take(&mut self.over_bound)
    }
}

fn key(watching: usize, client: &Client) -> Key {
    Key {
        watching,
        listener: client.listener.clone(),
        address: client.address,
        port: client.port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> Client {
        Client {
            port,
            ..Client::unknown("c".into(), None)
        }
    }

    #[test]
    fn each_plugin_gets_its_own_state_of_each_connection_back_once() {
        let mut exchanges = Exchanges::default();
        exchanges.put(0, &client(1), "a".into());
        exchanges.put(1, &client(1), "b".into());
        exchanges.put(0, &client(2), "c".into());
        assert_eq!(exchanges.take(1, &client(2)), None);
        assert_eq!(exchanges.take(0, &client(2)).as_deref(), Some(&b"c"[..]));
        assert_eq!(exchanges.take(0, &client(2)), None);
        assert_eq!(exchanges.take(1, &client(1)).as_deref(), Some(&b"b"[..]));
        exchanges.keep_generation(1);
        assert_eq!(exchanges.take(0, &client(1)), None, "positions have changed");
    }

    #[test]
    fn the_oldest_is_forgotten_and_counted() {
        let mut exchanges = Exchanges::default();
        let ports = 0..u16::try_from(MAX_SHADOW_COMPARISONS).unwrap() + 2;
        ports.for_each(|port| exchanges.put(0, &client(port), Bytes::new()));
        assert_eq!((exchanges.take_over_bound(), exchanges.take_over_bound()), (2, 0));
        assert_eq!(
            (exchanges.take(0, &client(1)), exchanges.open.len()),
            (None, MAX_SHADOW_COMPARISONS)
        );
        assert!(exchanges.take(0, &client(2)).is_some());
    }
}
