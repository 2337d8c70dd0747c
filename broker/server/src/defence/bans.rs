//! The bans in force: a bounded table, and a way past it without a lock while it is empty.

use super::subject::{Name, Subject, masked};
use nervewire_core::store::StoredBan;
use nervewire_core::time::Millis;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bans at one time.
pub(crate) const MAX_BANS: usize = 65_536;
/// Bans at one time that nobody asked for; above, an operator still has room.
pub(crate) const MAX_AUTOMATIC_BANS: usize = 32_768;
/// Bytes of a reason and of a name.
pub(crate) const MAX_TEXT_BYTES: usize = 1_024;
/// Who bans where nobody asked for it.
pub(crate) const AUTOMATIC: &str = "failed logins";

/// A ban in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) subject: Subject,
    pub(crate) since_unix_ms: u64,
    /// `None`: until it is lifted.
    pub(crate) until_unix_ms: Option<u64>,
    pub(crate) reason: String,
    /// Who wanted it: an operator, a plugin, or the broker itself.
    pub(crate) by: String,
}

/// A ban to be.
#[derive(Clone, Debug)]
pub(crate) struct BanRequest {
    pub(crate) subject: Subject,
    /// `None`: until it is lifted.
    pub(crate) until_unix_ms: Option<u64>,
    pub(crate) reason: String,
    pub(crate) by: String,
}

/// Why there is no ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BanError {
    #[error("there are {MAX_BANS} bans already; lift some, or ban a network instead of its addresses")]
    TooMany,
    #[error("a ban must end in the future; leave the end out for one that lasts until it is lifted")]
    Over,
    #[error("a name and a reason may have {MAX_TEXT_BYTES} bytes each, and a name must not be empty")]
    Text,
}

/// All bans.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    /// Of the table, to be read without its lock.
    len: AtomicUsize,
    table: RwLock<Table>,
    over_bound: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_subject: HashMap<Subject, Ban>,
    /// Bans of networks by their bits: what an address is looked up as.
    networks: BTreeMap<u8, usize>,
    /// Bans that only clients of a tenant can be under.
    within_tenants: usize,
    automatic: usize,
}

/// A client as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) address: IpAddr,
    pub(crate) tenant: Option<&'a str>,
}

impl Bans {
    /// The ban that a client is under. Costs one load where there is none at all.
    pub(crate) fn of(&self, suspect: &Suspect<'_>, now: Millis) -> Option<Ban> {
        if self.is_empty() {
            return None;
        }
        self.read().of(suspect, now).cloned()
    }

    /// The ban that an address is under.
    pub(crate) fn of_address(&self, address: IpAddr, now: Millis) -> Option<Ban> {
        if self.is_empty() {
            return None;
        }
        self.read().of_address(address, now).cloned()
    }

    /// One ban more, or another in the place of that of the same subject.
    pub(crate) fn add(&self, request: BanRequest, now: Millis) -> Result<Ban, BanError> {
        let ban = ban_of(request, now)?;
        let mut table = self.write();
        if !table.has_room_for(&ban) {
            table.forget_expired(now);
            if !table.has_room_for(&ban) {
                self.over_bound.fetch_add(1, Ordering::Relaxed);
                return Err(BanError::TooMany);
            }
        }
        table.insert(ban.clone());
        self.count(&table);
        Ok(ban)
    }

    /// A ban that the store held, if it has not ended meanwhile.
    pub(crate) fn restore(&self, ban: Ban, now: Millis) {
        let mut table = self.write();
        if ban.is_in_force(now) && table.has_room_for(&ban) {
            table.insert(ban);
        }
        self.count(&table);
    }

    /// Ends a ban; answers it, where there was one in force.
    pub(crate) fn lift(&self, subject: &Subject, now: Millis) -> Option<Ban> {
        let mut table = self.write();
        let lifted = table.remove(&subject.clone().canonical());
        self.count(&table);
        lifted.filter(|ban| ban.is_in_force(now))
    }

    /// Every ban in force, by subject. Those that have ended are forgotten.
    pub(crate) fn all(&self, now: Millis) -> Vec<Ban> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut table = self.write();
        table.forget_expired(now);
        self.count(&table);
        let mut all: Vec<Ban> = table.by_subject.values().cloned().collect();
        drop(table);
        all.sort_by(|a, b| a.subject.cmp(&b.subject));
        all
    }

    /// Bans that were refused because there were too many.
    pub(crate) fn over_bound(&self) -> u64 {
        self.over_bound.load(Ordering::Relaxed)
    }

    /// Bans that are kept, those included that have ended and are not forgotten yet.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn count(&self, table: &Table) {
        self.len.store(table.by_subject.len(), Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ban {
    pub(crate) fn is_in_force(&self, now: Millis) -> bool {
        self.until_unix_ms.is_none_or(|until| until > now)
    }

    /// As the store keeps it.
    pub(super) fn stored(&self) -> StoredBan {
        StoredBan {
            subject: self.subject.stored(),
            since: self.since_unix_ms,
            until: self.until_unix_ms,
            reason: self.reason.as_str().into(),
            by: self.by.as_str().into(),
        }
    }

    /// As it was before it was stored.
    pub(super) fn restored(stored: &StoredBan) -> Self {
        Self {
            subject: Subject::restored(&stored.subject),
            since_unix_ms: stored.since,
            until_unix_ms: stored.until,
            reason: stored.reason.to_string(),
            by: stored.by.to_string(),
        }
    }

    fn is_automatic(&self) -> bool {
        self.by == AUTOMATIC
    }
}

fn ban_of(request: BanRequest, now: Millis) -> Result<Ban, BanError> {
    let BanRequest {
        subject,
        until_unix_ms,
        reason,
        by,
    } = request;
    let fits = |text: &str| text.len() <= MAX_TEXT_BYTES;
    if let Subject::ClientId(name) | Subject::User(name) = &subject
        && (name.name.is_empty() || !fits(&name.name) || !name.tenant.as_deref().is_none_or(fits))
    {
        return Err(BanError::Text);
    }
    if !fits(&reason) || !fits(&by) {
        return Err(BanError::Text);
    }
    let ban = Ban {
        subject: subject.canonical(),
        since_unix_ms: now,
        until_unix_ms,
        reason,
        by,
    };
    if ban.is_in_force(now) {
        Ok(ban)
    } else {
        Err(BanError::Over)
    }
}

impl Table {
    fn of(&self, suspect: &Suspect<'_>, now: Millis) -> Option<&Ban> {
        let Suspect {
            client_id,
            username,
            address,
            tenant,
        } = *suspect;
        let client = self.of_name(Subject::ClientId, client_id, tenant, now);
        let user = || username.and_then(|username| self.of_name(Subject::User, username, tenant, now));
        client.or_else(user).or_else(|| self.of_address(address, now))
    }

    /// A ban of the name everywhere, or in its tenant.
    fn of_name(&self, kind: fn(Name) -> Subject, name: &str, tenant: Option<&str>, now: Millis) -> Option<&Ban> {
        let everywhere = self.in_force_of(&kind(Name::new(name, None)), now);
        let tenant = tenant.filter(|_| self.within_tenants > 0);
        everywhere.or_else(|| self.in_force_of(&kind(Name::new(name, Some(tenant?))), now))
    }

    fn of_address(&self, address: IpAddr, now: Millis) -> Option<&Ban> {
        let address = address.to_canonical();
        let alone = self.in_force_of(&Subject::Address(address), now);
        let mut bits = self.networks.keys();
        let network = |bits: &u8| self.in_force_of(&Subject::Network(masked(address, *bits), *bits), now);
        alone.or_else(|| bits.find_map(network))
    }

    fn in_force_of(&self, subject: &Subject, now: Millis) -> Option<&Ban> {
        self.by_subject.get(subject).filter(|ban| ban.is_in_force(now))
    }

    fn has_room_for(&self, ban: &Ban) -> bool {
        let fits = !ban.is_automatic() || self.automatic < MAX_AUTOMATIC_BANS;
        self.by_subject.contains_key(&ban.subject) || (fits && self.by_subject.len() < MAX_BANS)
    }

    fn insert(&mut self, ban: Ban) {
        self.remove(&ban.subject);
        if let Subject::Network(_, bits) = ban.subject {
            *self.networks.entry(bits).or_default() += 1;
        }
        self.within_tenants += usize::from(ban.subject.tenant().is_some());
        self.automatic += usize::from(ban.is_automatic());
        self.by_subject.insert(ban.subject.clone(), ban);
    }

    fn remove(&mut self, subject: &Subject) -> Option<Ban> {
        let ban = self.by_subject.remove(subject)?;
        if let Subject::Network(_, bits) = subject
            && let Some(count) = self.networks.get_mut(bits)
        {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(bits);
            }
        }
        self.within_tenants -= usize::from(subject.tenant().is_some());
        self.automatic -= usize::from(ban.is_automatic());
        Some(ban)
    }

    fn forget_expired(&mut self, now: Millis) {
        let over = self.by_subject.values().filter(|ban| !ban.is_in_force(now));
        let over: Vec<Subject> = over.map(|ban| ban.subject.clone()).collect();
        for subject in &over {
            self.remove(subject);
        }
    }
}

#[cfg(test)]
mod tests;
