//! Who is kept out, and what one address may cost: bans, connections per address, failed logins.
//!
//! Nothing here is on the path of a message. Shards ask at accept, at CONNECT and when a client is let in.

mod addresses;
mod bans;
mod subject;

pub(crate) use addresses::AddressSlot;
pub(crate) use bans::{Ban, BanError, BanRequest};
pub(crate) use subject::Subject;

use crate::driver::{Clock, ShardEvent, Shared};
use addresses::Addresses;
use bans::{Bans, Suspect};
use nervewire_core::hook::Client;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};

/// What all shards share to defend the broker.
pub(crate) struct Defence {
    clock: Clock,
    bans: Bans,
    addresses: Arc<Addresses>,
    shared: OnceLock<Weak<Shared>>,
}

/// Why a connection is closed before anything is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its address is banned.
    Banned,
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
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            bans: Bans::default(),
            addresses: Arc::default(),
            shared: OnceLock::new(),
        }
    }

    /// Says where live clients are, before the first ban.
    pub(crate) fn reach(&self, shared: &Arc<Shared>) {
        let _ = self.shared.set(Arc::downgrade(shared)); // Set once, at start.
    }

    /// A connection from this address. The slot counts it as long as it lives.
    pub(crate) fn connection(&self, address: IpAddr, now_ms: u64) -> Result<AddressSlot, Refused> {
        if self.bans.of_address(address, now_ms).is_some() {
            return Err(Refused::Banned);
        }
        Ok(self.addresses.enter(address))
    }

    /// An authenticator refused a CONNECT's credentials.
    pub(crate) fn login_failed(&self, address: IpAddr, username: Option<&str>, client_id: &str, now_ms: u64) {
        let _ = (address, username, client_id, now_ms);
    }

    /// A client was let in.
    pub(crate) fn login_succeeded(&self, address: IpAddr, username: Option<&str>, client_id: &str, now_ms: u64) {
        let _ = (address, username, client_id, now_ms);
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
        let ban = self.bans.add(request, self.clock.now())?;
        tracing::warn!(
            subject = %ban.subject,
            reason = ban.reason,
            by = ban.by,
            until_unix_ms = ban.until_unix_ms,
            "banned"
        );
        self.disconnect_banned();
        Ok(ban)
    }

    /// Ends a ban; answers it, where there was one.
    pub(crate) fn lift(&self, subject: &Subject) -> Option<Ban> {
        let lifted = self.bans.lift(subject, self.clock.now());
        if let Some(ban) = &lifted {
            tracing::info!(subject = %ban.subject, "a ban was lifted");
        }
        lifted
    }

    /// Every ban in force.
    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.bans.all(self.clock.now())
    }

    /// Whoever is let in after the ban is in the table finds it there; whoever was before is found by this.
    fn disconnect_banned(&self) {
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else {
            return;
        };
        for shard in 0..shared.mesh.shards() {
            let disconnect = Box::new(crate::driver::Worker::disconnect_banned);
            shared.mesh.send(shard, ShardEvent::Ask(disconnect));
        }
    }
}

#[cfg(test)]
mod tests;
