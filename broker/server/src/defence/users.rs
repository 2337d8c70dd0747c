//! What is known of user names: how often logins with them have failed, from where they have succeeded, and the rates that all
//! clients of one user share.
//!
//! Failures are counted in a table of fixed size, so that nobody can push a name out of it: names that fall into the same
//! places slow each other at worst. A failure never locks a name out, because anybody can fail with it from anywhere.

use super::addresses::AddressKey;
use super::bucket::SharedBucket;
use nervewire_core::rate::Leak;
use nervewire_core::time::Millis;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Places of a name, of which the lowest count holds.
const ROWS: usize = 4;
/// Places in each row.
const PLACES: usize = 16_384;
/// Names that are known to have logged in from an address.
const GOOD_LOGINS: usize = 65_536;
/// The longest that a login waits because others have failed with its name.
const MAX_WAIT_MS: u64 = 5_000;
const WAIT_MS: u64 = 250;

/// All user names.
pub(super) struct Users {
    hasher: RandomState,
    logins: Mutex<Logins>,
    rates: Mutex<Rates>,
}

struct Logins {
    failures: Vec<Leak>,
    good: Vec<u64>,
}

/// Tenant and name.
type UserKey = (Option<Arc<str>>, Arc<str>);

#[derive(Default)]
struct Rates {
    by_user: HashMap<UserKey, Weak<SharedBucket>>,
    /// Those without clients are looked for when there are so many.
    sweep_at: usize,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            logins: Mutex::new(Logins {
                failures: vec![Leak::default(); ROWS * PLACES],
                good: vec![0; GOOD_LOGINS],
            }),
            rates: Mutex::default(),
        }
    }
}

impl Users {
    /// A login with this name failed.
    pub(super) fn failed(&self, username: &str, per_minute: u32, now: Millis) {
        let places = self.places(username);
        let mut logins = self.lock();
        for place in places {
            if let Some(failures) = logins.failures.get_mut(place) {
                failures.add(now, per_minute);
            }
        }
    }

    /// It succeeded from this address, where it need not wait from now on.
    pub(super) fn succeeded(&self, username: &str, address: IpAddr) {
        let (place, mark) = self.good_login(username, address);
        if let Some(good) = self.lock().good.get_mut(place) {
            *good = mark;
        }
    }

    /// For how long a login with this name is to wait before it is judged.
    pub(super) fn wait_ms(&self, username: &str, address: IpAddr, per_minute: u32, now: Millis) -> u64 {
        if per_minute == 0 {
            return 0;
        }
        let places = self.places(username);
        let (place, mark) = self.good_login(username, address);
        let logins = self.lock();
        let counts = places.iter().filter_map(|place| logins.failures.get(*place));
        let count = counts.map(|failures| failures.count(now, per_minute)).min();
        let over = count.unwrap_or(0).saturating_sub(u64::from(per_minute));
        if over == 0 || logins.good.get(place) == Some(&mark) {
            return 0;
        }
        (WAIT_MS << (over - 1).min(5)).min(MAX_WAIT_MS)
    }

    /// The bucket that all clients of a user share.
    pub(super) fn publishes(
        &self,
        tenant: Option<&Arc<str>>,
        username: &Arc<str>,
        rate_per_s: u32,
    ) -> Arc<SharedBucket> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.cloned(), username.clone());
        let bucket = match rates.by_user.get(&key).and_then(Weak::upgrade) {
            Some(bucket) => bucket,
            None => {
                rates.sweep();
                let bucket = Arc::new(SharedBucket::new(rate_per_s));
                rates.by_user.insert(key, Arc::downgrade(&bucket));
                bucket
            }
        };
        bucket.set_rate(rate_per_s);
        bucket
    }

    fn places(&self, username: &str) -> [usize; ROWS] {
        std::array::from_fn(|row| {
            let hash = self.hash(&(row, username));
            row * PLACES + hash as usize % PLACES
        })
    }

    fn good_login(&self, username: &str, address: IpAddr) -> (usize, u64) {
        let mark = self.hash(&(username, AddressKey::of(address))) | 1;
        ((mark >> 1) as usize % GOOD_LOGINS, mark)
    }

    fn hash(&self, what: &impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }

    fn lock(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rates {
    /// There are never more than twice as many as users with clients, and some.
    fn sweep(&mut self) {
        const SPARE: usize = 1_024;
        if self.by_user.len() >= self.sweep_at {
            self.by_user.retain(|_, bucket| bucket.strong_count() > 0);
            self.sweep_at = 2 * self.by_user.len() + SPARE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_MINUTE: u32 = 10;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn users_with_failures(username: &str, count: usize) -> Users {
        let users = Users::default();
        for _ in 0..count {
            users.failed(username, PER_MINUTE, 1_000);
        }
        users
    }

    fn wait_ms(users: &Users, username: &str, from: &str) -> u64 {
        users.wait_ms(username, address(from), PER_MINUTE, 1_000)
    }

    #[test]
    fn a_name_that_fails_often_waits_ever_longer_and_not_for_ever() {
        let users = users_with_failures("alice", 10);
        assert_eq!(wait_ms(&users, "alice", "192.0.2.1"), 0);
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                users.failed("alice", PER_MINUTE, 1_000);
                wait_ms(&users, "alice", "192.0.2.1")
            })
            .collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]);
        assert_eq!(users.wait_ms("alice", address("192.0.2.1"), PER_MINUTE, 120_000), 0);
        assert_eq!(wait_ms(&users, "bob", "192.0.2.1"), 0);
    }

    #[test]
    fn who_has_logged_in_from_an_address_does_not_wait_there() {
        let users = users_with_failures("alice", 100);
        users.succeeded("alice", address("192.0.2.7"));
        assert_eq!(wait_ms(&users, "alice", "192.0.2.7"), 0);
        assert!(wait_ms(&users, "alice", "192.0.2.8") > 0);
        users.succeeded("mallory", address("192.0.2.8"));
        assert!(
            wait_ms(&users, "alice", "192.0.2.8") > 0,
            "another name's success is not its"
        );
    }

    #[test]
    fn no_number_of_other_names_makes_a_name_forgotten() {
        let users = users_with_failures("alice", 20);
        for n in 0..50_000 {
            users.failed(&format!("made up {n}"), PER_MINUTE, 1_000);
        }
        assert!(wait_ms(&users, "alice", "192.0.2.1") > 0);
    }

    #[test]
    fn clients_of_a_user_share_a_bucket_and_tenants_do_not() {
        let users = Users::default();
        let (alice, acme): (Arc<str>, Arc<str>) = ("alice".into(), "acme".into());
        let first = users.publishes(None, &alice, 5);
        assert!(Arc::ptr_eq(&first, &users.publishes(None, &alice, 5)));
        assert!(!Arc::ptr_eq(&first, &users.publishes(Some(&acme), &alice, 5)));
    }

    #[test]
    fn users_without_clients_are_forgotten() {
        let users = Users::default();
        for n in 0..10_000 {
            users.publishes(None, &n.to_string().into(), 5);
        }
        assert!(users.rates.lock().unwrap().by_user.len() < 2_000);
    }
}
