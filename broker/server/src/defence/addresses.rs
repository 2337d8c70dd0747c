//! What is known of addresses: their connections, how fast they make them, how often they have failed to log in.
//!
//! An address with connections is always known. Without any it is remembered while that matters, and only so many are: who comes
//! with many addresses cannot push out an address that has failed more often than each of those.

use super::bucket::SharedBucket;
use super::subject::{ADDRESS_BITS_V6, masked};
use super::{DefenceLimits, Refused};
use nervewire_core::rate::Leak;
use nervewire_core::time::Millis;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses without connections that are remembered.
pub(crate) const MAX_REMEMBERED_ADDRESSES: usize = 65_536;
/// How many of them are compared when one is to be forgotten.
const COMPARED: usize = 16;
/// The longest that failed logins keep an address out, short of a ban.
const MAX_BACK_OFF_MS: u64 = 60_000;
const BACK_OFF_MS: u64 = 1_000;
const MINUTES_PER_HOUR: u64 = 60;
const HOUR_MS: u64 = 3_600_000;

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AddressKey {
    V4(u32),
    V6(u64),
}

impl AddressKey {
    pub(super) fn of(address: IpAddr) -> Self {
        match masked(address.to_canonical(), ADDRESS_BITS_V6) {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> ADDRESS_BITS_V6) as u64),
        }
    }
}

/// All addresses that are known.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: Mutex<Known>,
    over_bound: AtomicU64,
    /// The latest moment that anybody told, for connections that end.
    latest: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<AddressKey, Address>,
    /// Those without connections, and some that have got one since.
    remembered: VecDeque<AddressKey>,
}

#[derive(Debug, Default)]
struct Address {
    connections: u32,
    /// It is in `remembered`.
    is_listed: bool,
    connects: Option<Box<SharedBucket>>,
    failures: Failures,
    publishes: Option<Arc<SharedBucket>>,
}

/// Failed logins of an address.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    of_late: Leak,
    /// In minutes that are hours.
    until_ban: Leak,
    /// Over the rate, one after the other.
    in_a_row: u32,
    kept_out_until: Millis,
    /// Of the last hour, roughly: none where there was none in the last hour.
    count: u32,
    last_at: Millis,
}

/// What follows from a failed login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    None,
    /// The address is kept out for a while.
    KeptOut,
    /// It is to be banned.
    Ban,
}

/// One connection of an address: it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    addresses: Arc<Addresses>,
    key: AddressKey,
}

impl Addresses {
    /// One connection more, or why not.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &DefenceLimits,
        now: Millis,
    ) -> Result<AddressSlot, Refused> {
        let key = AddressKey::of(address);
        self.latest.fetch_max(now, Ordering::Relaxed);
        let mut known = self.lock();
        let entry = known.by_key.entry(key).or_default();
        let admitted = entry.admit(limits, now);
        if admitted.is_ok() {
            entry.connections += 1;
        } else {
            self.remember(&mut known, key, now);
        }
        admitted.map(|()| AddressSlot {
            addresses: self.clone(),
            key,
        })
    }

    /// A login from this address failed.
    pub(super) fn failed(&self, address: IpAddr, limits: &DefenceLimits, now: Millis) -> Consequence {
        let key = AddressKey::of(address);
        self.latest.fetch_max(now, Ordering::Relaxed);
        let mut known = self.lock();
        let entry = known.by_key.entry(key).or_default();
        let consequence = entry.failures.add(limits, now);
        if entry.connections == 0 {
            self.remember(&mut known, key, now);
        }
        consequence
    }

    /// The bucket that all connections of an address share.
    pub(super) fn publishes(&self, address: IpAddr, rate_per_s: u32) -> Option<Arc<SharedBucket>> {
        if rate_per_s == 0 {
            return None;
        }
        let mut known = self.lock();
        // Without an entry the connection has just ended.
        let entry = known.by_key.get_mut(&AddressKey::of(address))?;
        let bucket = entry
            .publishes
            .get_or_insert_with(|| Arc::new(SharedBucket::new(rate_per_s)));
        bucket.set_rate(rate_per_s);
        Some(bucket.clone())
    }

    /// Addresses that were forgotten although that mattered.
    pub(super) fn over_bound(&self) -> u64 {
        self.over_bound.load(Ordering::Relaxed)
    }

    /// An address without connections stays known as long as it matters, and there is room.
    fn remember(&self, known: &mut Known, key: AddressKey, now: Millis) {
        let Some(entry) = known.by_key.get_mut(&key) else {
            return;
        };
        if entry.connections > 0 || entry.is_listed {
            return;
        }
        if entry.is_forgettable(now) {
            known.by_key.remove(&key);
            return;
        }
        entry.is_listed = true;
        known.remembered.push_back(key);
        while known.remembered.len() > MAX_REMEMBERED_ADDRESSES {
            if !known.forget_one(now) {
                self.over_bound.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes one off the list: one that does not matter, else of some that have waited longest the one that has failed least.
    /// Whether it did not matter.
    fn forget_one(&mut self, now: Millis) -> bool {
        let mut compared: Vec<AddressKey> = Vec::with_capacity(COMPARED);
        while compared.len() < COMPARED {
            let Some(key) = self.remembered.pop_front() else { break };
            let Some(entry) = self.by_key.get_mut(&key) else {
                continue;
            };
            if entry.connections > 0 {
                entry.is_listed = false;
                self.remembered.extend(compared);
                return true;
            }
            if entry.is_forgettable(now) {
                self.by_key.remove(&key);
                self.remembered.extend(compared);
                return true;
            }
            compared.push(key);
        }
        let weight = |key: &AddressKey| self.by_key.get(key).map_or(0, |entry| entry.failures.weight(now));
        let least = compared.iter().copied().min_by_key(weight);
        compared.retain(|key| Some(*key) != least);
        self.remembered.extend(compared);
        if let Some(key) = least {
            self.by_key.remove(&key);
        }
        false
    }
}

impl Address {
    fn admit(&mut self, limits: &DefenceLimits, now: Millis) -> Result<(), Refused> {
        if self.failures.kept_out_until > now {
            return Err(Refused::FailedLogins);
        }
        let most = limits.connections_per_address;
        if most > 0 && self.connections >= most {
            return Err(Refused::ConnectionsPerAddress);
        }
        let rate = limits.connect_rate_per_s_per_address;
        if rate > 0 {
            let bucket = self.connects.get_or_insert_with(|| Box::new(SharedBucket::new(rate)));
            bucket.set_rate(rate);
            if !bucket.try_take(now) {
                return Err(Refused::ConnectRatePerAddress);
            }
        }
        Ok(())
    }

    fn is_forgettable(&self, now: Millis) -> bool {
        self.connects.as_ref().is_none_or(|bucket| bucket.is_full(now)) && self.failures.weight(now) == 0
    }
}

impl Failures {
    fn add(&mut self, limits: &DefenceLimits, now: Millis) -> Consequence {
        self.count = self.weight(now).saturating_add(1);
        self.last_at = now;
        let (per_minute, per_hour) = (limits.failed_logins_per_minute, limits.failed_logins_per_hour);
        let of_late = self.of_late.add(now, per_minute);
        // A leak forgets by the minute: an hour of it is sixty times as slow.
        let until_ban = self.until_ban.add(now / MINUTES_PER_HOUR, per_hour);
        if per_hour > 0 && until_ban > u64::from(per_hour) {
            *self = Self::default();
            return Consequence::Ban;
        }
        if per_minute == 0 || of_late <= u64::from(per_minute) {
            self.in_a_row = 0;
            return Consequence::None;
        }
        let back_off_ms = BACK_OFF_MS << self.in_a_row.min(6);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.kept_out_until = now + back_off_ms.min(MAX_BACK_OFF_MS);
        Consequence::KeptOut
    }

    /// How much would be lost if they were forgotten.
    fn weight(&self, now: Millis) -> u32 {
        if now.saturating_sub(self.last_at) > HOUR_MS {
            return 0;
        }
        self.count
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut known = self.addresses.lock();
        let Some(entry) = known.by_key.get_mut(&self.key) else {
            return;
        };
        entry.connections -= 1;
        if entry.connections == 0 {
            entry.publishes = None;
            let now = self.addresses.latest.load(Ordering::Relaxed);
            self.addresses.remember(&mut known, self.key, now);
        }
    }
}

#[cfg(test)]
mod tests;
