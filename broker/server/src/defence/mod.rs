//! Who is kept out, and what one address may cost: bans, connections per address, failed logins.
//!
//! Nothing here is on the path of a message. Shards ask at accept, at CONNECT and when a client is let in.

mod addresses;
mod bans;
mod bucket;
mod limits;
mod requests;
mod subject;
mod users;

pub(crate) use addresses::AddressSlot;
pub(crate) use bans::{Ban, BanError, BanRequest};
pub(crate) use limits::DefenceLimits;
pub(crate) use subject::Subject;

use crate::driver::{Clock, ShardEvent, Shared, Worker};
use addresses::{Addresses, Consequence};
use bans::{AUTOMATIC, Bans, Suspect};
use bucket::SharedBucket;
use nervewire_core::handshake::SharedRates;
use nervewire_core::hook::Client;
use nervewire_core::store::StoredBan;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use users::Users;

/// The shard that records bans, whatever their number: theirs is partition 0.
const BANS_SHARD: u16 = 0;

/// What all shards share to defend the broker.
pub(crate) struct Defence {
    clock: Clock,
    limits: RwLock<DefenceLimits>,
    bans: Bans,
    addresses: Arc<Addresses>,
    users: Users,
    /// Connections from all addresses.
    connects: SharedBucket,
    counters: DefenceCounters,
    shared: OnceLock<Weak<Shared>>,
}

/// How often what was refused.
#[derive(Debug, Default)]
pub(crate) struct DefenceCounters {
    pub(crate) banned: AtomicU64,
    pub(crate) connections_per_address: AtomicU64,
    pub(crate) connect_rate: AtomicU64,
    pub(crate) connect_rate_per_address: AtomicU64,
    pub(crate) kept_out: AtomicU64,
    pub(crate) slowed: AtomicU64,
    pub(crate) automatic_bans: AtomicU64,
}

/// Why a connection is closed before anything is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its address is banned.
    Banned,
    /// Its address has as many connections as it may have.
    ConnectionsPerAddress,
    /// Its address makes connections too fast.
    ConnectRatePerAddress,
    /// All addresses together do.
    ConnectRate,
    /// Too many logins from its address have failed.
    FailedLogins,
}

impl nervewire_core::bans::Bans for Defence {
    fn is_banned(&self, client: &Client, now: u64) -> bool {
        self.bans_client(client, now)
    }
}

impl fmt::Debug for Defence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Defence")
    }
}

impl Defence {
    pub(crate) fn new(clock: Clock, limits: DefenceLimits) -> Self {
        Self {
            clock,
            limits: RwLock::new(limits),
            bans: Bans::default(),
            addresses: Arc::default(),
            users: Users::default(),
            connects: SharedBucket::new(limits.connect_rate_per_s),
            counters: DefenceCounters::default(),
            shared: OnceLock::new(),
        }
    }

    /// Says where live clients are, before the first ban.
    pub(crate) fn reach(&self, shared: &Arc<Shared>) {
        let _ = self.shared.set(Arc::downgrade(shared)); // Set once, at start.
    }

    /// Other bounds from now on. Rates that a connection did not have when it came it does not get.
    pub(crate) fn set_limits(&self, limits: DefenceLimits) {
        self.connects.set_rate(limits.connect_rate_per_s);
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn limits(&self) -> DefenceLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection from this address. The slot counts it as long as it lives.
    pub(crate) fn connection(&self, address: IpAddr, now_ms: u64) -> Result<AddressSlot, Refused> {
        let entered = self.enter(address, now_ms);
        if let Err(refused) = &entered {
            let counters = &self.counters;
            let counter = match refused {
                Refused::Banned => &counters.banned,
                Refused::ConnectionsPerAddress => &counters.connections_per_address,
                Refused::ConnectRatePerAddress => &counters.connect_rate_per_address,
                Refused::ConnectRate => &counters.connect_rate,
                Refused::FailedLogins => &counters.kept_out,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// What is an address's own fault first: nobody else's share of the common rate goes for it.
    fn enter(&self, address: IpAddr, now_ms: u64) -> Result<AddressSlot, Refused> {
        if self.bans.of_address(address, now_ms).is_some() {
            return Err(Refused::Banned);
        }
        let slot = self.addresses.enter(address, &self.limits(), now_ms)?;
        match self.connects.try_take(now_ms) {
            true => Ok(slot),
            false => Err(Refused::ConnectRate),
        }
    }

    /// For how long a CONNECT is to wait before its credentials are judged.
    pub(crate) fn login_wait_ms(&self, address: IpAddr, username: Option<&str>, now_ms: u64) -> u64 {
        let per_minute = self.limits().failed_logins_per_minute;
        let wait_ms = username.map_or(0, |username| self.users.wait_ms(username, address, per_minute, now_ms));
        self.counters
            .slowed
            .fetch_add(u64::from(wait_ms > 0), Ordering::Relaxed);
        wait_ms
    }

    /// A CONNECT was refused for who it says it is. Slows its user name, and keeps its address out where that goes on.
    pub(crate) fn login_failed(&self, address: IpAddr, username: Option<&str>, client_id: &str, now_ms: u64) {
        let limits = self.limits();
        if let Some(username) = username.filter(|_| limits.failed_logins_per_minute > 0) {
            self.users.failed(username, limits.failed_logins_per_minute, now_ms);
        }
        match self.addresses.failed(address, &limits, now_ms) {
            Consequence::None => {}
            Consequence::KeptOut => {
                tracing::info!(%address, client_id, "failed logins: the address is kept out for a while")
            }
            Consequence::Ban => self.ban_for_failed_logins(address, &limits, now_ms),
        }
    }

    fn ban_for_failed_logins(&self, address: IpAddr, limits: &DefenceLimits, now_ms: u64) {
        let request = BanRequest {
            subject: Subject::whole_address(address),
            until_unix_ms: Some(now_ms + u64::from(limits.failed_login_ban_s.max(1)) * 1_000),
            reason: format!("more than {} failed logins in an hour", limits.failed_logins_per_hour),
            by: AUTOMATIC.to_owned(),
        };
        match self.ban(request) {
            Ok(_) => _ = self.counters.automatic_bans.fetch_add(1, Ordering::Relaxed),
            Err(error) => tracing::warn!(%address, %error, "not banned for its failed logins"),
        }
    }

    /// A client was let in: logins with its name need not wait at this address.
    pub(crate) fn login_succeeded(&self, address: IpAddr, username: Option<&str>, _client_id: &str, _now_ms: u64) {
        if let Some(username) = username.filter(|_| self.limits().failed_logins_per_minute > 0) {
            self.users.succeeded(username, address);
        }
    }

    /// The rates that a client shares with others.
    pub(crate) fn rates_of(&self, client: &Client) -> SharedRates {
        let limits = self.limits();
        let username = client.username.as_ref().filter(|_| limits.user_publish_rate_per_s > 0);
        SharedRates {
            user: username.map(|username| {
                let rate = limits.user_publish_rate_per_s;
                self.users.publishes(client.tenant.as_ref(), username, rate) as _
            }),
            address: self
                .addresses
                .publishes(client.address, limits.address_publish_rate_per_s)
                .map(|bucket| bucket as _),
        }
    }

    /// What was counted.
    pub(crate) fn counters(&self) -> &DefenceCounters {
        &self.counters
    }

    /// Bans that were not made, and addresses that were forgotten, for lack of room.
    pub(crate) fn over_bound(&self) -> (u64, u64) {
        (self.bans.over_bound(), self.addresses.over_bound())
    }

    /// The ban that a client is under. Costs one load where there is none at all.
    pub(crate) fn banned(
        &self,
        client_id: &str,
        username: Option<&str>,
        address: IpAddr,
        tenant: Option<&str>,
        now_ms: u64,
    ) -> Option<Ban> {
        let suspect = Suspect {
            client_id,
            username,
            address,
            tenant,
        };
        self.bans.of(&suspect, now_ms)
    }

    /// As [`Defence::banned`].
    pub(crate) fn bans_client(&self, client: &Client, now_ms: u64) -> bool {
        let (username, tenant) = (client.username.as_deref(), client.tenant.as_deref());
        self.banned(&client.client_id, username, client.address, tenant, now_ms)
            .is_some()
    }

    /// Bans from now on, and disconnects those whom it concerns. May be called on any thread: it waits for nobody.
    pub(crate) fn ban(&self, request: BanRequest) -> Result<Ban, BanError> {
        self.ban_and_tell(request, None)
    }

    /// As [`Defence::ban`]; somebody hears when it is durable.
    pub(crate) fn ban_and_tell(&self, request: BanRequest, stored: Option<Sender<()>>) -> Result<Ban, BanError> {
        let ban = self.bans.add(request, self.clock.now())?;
        tracing::warn!(
            subject = %ban.subject,
            reason = ban.reason,
            by = ban.by,
            until_unix_ms = ban.until_unix_ms,
            "banned"
        );
        self.disconnect_banned();
        let record = ban.stored();
        self.on_keeper(move |worker| worker.keep_ban(record, stored));
        Ok(ban)
    }

    /// Ends a ban; answers it, where there was one. Somebody hears when that is durable.
    pub(crate) fn lift(&self, subject: &Subject, stored: Option<Sender<()>>) -> Option<Ban> {
        let ban = self.bans.lift(subject, self.clock.now())?;
        tracing::info!(subject = %ban.subject, "a ban was lifted");
        let record = ban.subject.stored();
        self.on_keeper(move |worker| worker.lift_ban(record, stored));
        Some(ban)
    }

    /// A ban that the store held, before anybody is let in.
    pub(crate) fn restore(&self, ban: &StoredBan) {
        self.bans.restore(Ban::restored(ban), self.clock.now());
    }

    /// Bans that are kept.
    pub(crate) fn bans_count(&self) -> usize {
        self.bans.len()
    }

    /// Every ban in force.
    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.bans.all(self.clock.now())
    }

    /// On the shard that records bans.
    fn on_keeper(&self, record: impl FnOnce(&mut Worker) + Send + 'static) {
        if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
            shared.mesh.send(BANS_SHARD, ShardEvent::Ask(Box::new(record)));
        }
    }

    /// Whoever is let in after the ban is in the table finds it there; whoever was before is found by this.
    fn disconnect_banned(&self) {
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else {
            return;
        };
        for shard in 0..shared.mesh.shards() {
            let disconnect = Box::new(Worker::disconnect_banned);
            shared.mesh.send(shard, ShardEvent::Ask(disconnect));
        }
    }
}

#[cfg(test)]
mod tests;
