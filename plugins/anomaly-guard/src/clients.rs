//! What is known of each client, for a bounded number of clients.

use crate::baseline::{ByHour, Count, Usual};
use nervewire_plugin_sdk::{Window, counters};
use std::collections::BTreeMap;

/// The rules that speak about one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    RateSpike,
    Silence,
    TopicScan,
    DenialBurst,
    CredentialStuffing,
    PayloadDrift,
    StolenIdentity,
}

impl Rule {
    pub(crate) const COUNT: usize = 7;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RateSpike => "rate_spike",
            Self::Silence => "silence",
            Self::TopicScan => "topic_scan",
            Self::DenialBurst => "denial_burst",
            Self::CredentialStuffing => "credential_stuffing",
            Self::PayloadDrift => "payload_drift",
            Self::StolenIdentity => "stolen_identity",
        }
    }
}

/// What is known of one client. Windows are numbered as they come.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) rate: Count,
    pub(crate) topics: Count,
    pub(crate) denials: Count,
    pub(crate) payload: Usual,
    /// Of the rate.
    pub(crate) hours: Option<Box<ByHour>>,
    /// Windows it was seen in.
    pub(crate) windows: u32,
    pub(crate) first_seen_ms: u64,
    pub(crate) last_seen: u64,
    /// The last window with a message.
    pub(crate) last_active: u64,
    /// Windows in a row without a message, at most.
    pub(crate) longest_pause: u32,
    /// The pause of now was told.
    pub(crate) is_told_silent: bool,
    /// Windows in a row over the rate, over the number of topics, and off in their payloads.
    pub(crate) over_rate: u8,
    pub(crate) over_topics: u8,
    pub(crate) off_payload: u8,
    /// How long and how far the rate has been above what is usual.
    pub(crate) pressure: f32,
    pub(crate) places: Places,
    /// Windows up to which a rule is quiet.
    pub(crate) quiet_until: [u64; Rule::COUNT],
}

/// Where a client has been.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Hashes of its last addresses, the present one first; 0: none.
    last: [u64; 4],
    /// Returns to an address it had left, of which those long ago count less.
    pub(crate) returns: f32,
    /// The window in which it came to an address that is not among the last.
    pub(crate) new_at: Option<u64>,
}

impl Places {
    /// Within ten windows a return counts half.
    const FADING: f32 = 0.933;

    pub(crate) fn is_at(&mut self, address: &str, window: u64) {
        self.returns *= Self::FADING;
        let here = hash(address);
        match self.last.iter().position(|known| *known == here) {
            Some(0) => {}
            Some(position) => {
                self.returns += 1.0;
                if let Some(moved) = self.last.get_mut(..=position) {
                    moved.rotate_right(1);
                }
            }
            None => {
                let is_first = self.last[0] == 0;
                self.last.rotate_right(1);
                self.last[0] = here;
                self.new_at = (!is_first).then_some(window);
            }
        }
    }
}

/// FNV-1a: it only tells addresses of one client apart.
fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix).max(1)
}

/// The profiles, by client identifier and user name: the same identifier may exist in several tenants.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    known: BTreeMap<Box<str>, Profile>,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The profile of a window's client.
    pub(crate) fn of(&mut self, window: &Window, max_clients: usize) -> &mut Profile {
        let key = key(window);
        if self.known.len() >= max_clients && !self.known.contains_key(&key) {
            self.forget(max_clients);
        }
        self.known.entry(key).or_default()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Profile)> {
        self.known.iter_mut().map(|(key, profile)| (client_id_of(key), profile))
    }

    /// Makes room: those of which least is known go first, and of these the ones that were not seen for longest. A flood of new
    /// clients drives out itself.
    fn forget(&mut self, max_clients: usize) {
        const LITTLE: u32 = 30;
        let spare = (max_clients / 16).max(1);
        let mut order: Vec<(u32, u64)> = self
            .known
            .values()
            .map(|profile| (profile.windows.min(LITTLE), profile.last_seen))
            .collect();
        let spare = spare.min(order.len());
        let Some(at) = spare.checked_sub(1) else { return };
        let (_, last, _) = order.select_nth_unstable(at);
        let last = *last;
        let mut left = spare;
        self.known.retain(|_, profile| {
            let goes = left > 0 && (profile.windows.min(LITTLE), profile.last_seen) <= last;
            left -= usize::from(goes);
            !goes
        });
        counters::add("clients_forgotten", (spare - left) as u64);
    }
}

fn key(window: &Window) -> Box<str> {
    // No MQTT string has a NUL.
    let username = window.username.as_deref().unwrap_or_default();
    format!("{}\0{username}", window.client_id).into()
}

fn client_id_of(key: &str) -> &str {
    key.split_once('\0').map_or(key, |(client_id, _)| client_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nervewire_plugin_sdk::testing;

    fn see(clients: &mut Clients, client_id: &str, windows: u32, last_seen: u64) {
        let profile = clients.of(&testing::window(client_id), 4);
        (profile.windows, profile.last_seen) = (windows, last_seen);
    }

    #[test]
    fn those_of_whom_least_is_known_are_forgotten() {
        let mut clients = Clients::default();
        see(&mut clients, "old", 500, 1);
        see(&mut clients, "older", 400, 0);
        see(&mut clients, "new-1", 1, 9);
        see(&mut clients, "new-2", 2, 9);
        see(&mut clients, "new-3", 1, 10);
        see(&mut clients, "new-4", 1, 11);
        let known: Vec<&str> = clients.iter_mut().map(|(id, _)| id).collect();
        assert_eq!(known, ["new-2", "new-4", "old", "older"]);
        assert_eq!(testing::counter("clients_forgotten"), 2);
    }

    #[test]
    fn a_return_is_told_from_a_journey() {
        let mut places = Places::default();
        for (window, address) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            places.is_at(address, window as u64);
        }
        assert_eq!((places.returns, places.new_at), (0.0, Some(4)));
        for address in ["d", "e", "d"] {
            places.is_at(address, 5);
        }
        assert!(places.returns > 2.5, "{places:?}");
        for _ in 0..40 {
            places.is_at("d", 6);
        }
        assert!(places.returns < 0.5, "{places:?}");
    }
}
