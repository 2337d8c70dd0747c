//! What is known of addresses that have connections.

use super::subject::{ADDRESS_BITS_V6, masked};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Counts of connections by address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    connections: Mutex<HashMap<AddressKey, u32>>,
}

/// One connection of an address: it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    addresses: Arc<Addresses>,
    key: AddressKey,
}

impl Addresses {
    /// One connection more.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> AddressSlot {
        let key = AddressKey::of(address);
        *self.lock().entry(key).or_default() += 1;
        AddressSlot {
            addresses: self.clone(),
            key,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AddressKey, u32>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut connections = self.addresses.lock();
        if let Some(count) = connections.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(addresses: &Addresses, address: &str) -> Option<u32> {
        let key = AddressKey::of(address.parse().unwrap());
        addresses.lock().get(&key).copied()
    }

    #[test]
    fn connections_are_counted_by_address_until_they_are_dropped() {
        let addresses = Arc::new(Addresses::default());
        let first = addresses.enter("192.0.2.1".parse().unwrap());
        let second = addresses.enter("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(count(&addresses, "192.0.2.1"), Some(2));
        drop(first);
        assert_eq!(count(&addresses, "192.0.2.1"), Some(1));
        drop(second);
        assert_eq!(count(&addresses, "192.0.2.1"), None, "nothing is left of it");
    }

    #[test]
    fn ipv6_addresses_count_by_their_64_bits_of_network() {
        let addresses = Arc::new(Addresses::default());
        let _first = addresses.enter("2001:db8::1".parse().unwrap());
        let _second = addresses.enter("2001:db8::ffff:1".parse().unwrap());
        assert_eq!(count(&addresses, "2001:db8::2"), Some(2));
        assert_eq!(count(&addresses, "2001:db8:0:1::1"), None);
    }
}
