//! Bans as an operator asks for them.

use super::{Ban, BanError, BanRequest, Defence, Subject};
use crate::admin::bans::{BanInfo, BanList, BanRefused, BanTarget, Banned, Lifted};
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

/// For how long an operator waits for the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// A hundred years: more is for good, and does not overflow.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;
const BY: &str = "admin API";

impl Defence {
    /// `GET /v1/bans`.
    pub(crate) fn list(&self) -> BanList {
        BanList {
            bans: self.bans().iter().map(info).collect(),
        }
    }

    /// `POST /v1/bans`; answers when the ban is stored, or after a while. `keeps`: there is a store.
    pub(crate) fn ban_as_asked(&self, target: BanTarget, keeps: bool) -> Result<Banned, BanRefused> {
        let subject = subject_of(&target)?;
        let until_unix_ms = match target.seconds {
            None => None,
            Some(seconds) if (1..=MAX_SECONDS).contains(&seconds) => Some(self.clock.now() + seconds * 1_000),
            Some(_) => return Err(request(&format!("seconds must be from 1 to {MAX_SECONDS}"))),
        };
        let (sender, stored) = channel();
        let request = BanRequest {
            subject,
            until_unix_ms,
            reason: target.reason.unwrap_or_default(),
            by: BY.to_owned(),
        };
        let ban = self.ban_and_tell(request, Some(sender))?;
        Ok(Banned {
            ban: info(&ban),
            stored: keeps && stored.recv_timeout(PATIENCE).is_ok(),
        })
    }

    /// `POST /v1/bans/lift`; answers when that is stored, or after a while.
    pub(crate) fn lift_as_asked(&self, target: &BanTarget) -> Result<Lifted, BanRefused> {
        if target.seconds.is_some() || target.reason.is_some() {
            return Err(request("seconds and reason are for a ban, not for lifting one"));
        }
        let subject = subject_of(target)?;
        let (sender, stored) = channel();
        let Some(ban) = self.lift(&subject, Some(sender)) else {
            let hint = "GET /v1/bans (nervewire bans) lists who is";
            return Err(BanRefused::NotFound(format!("{subject} is not banned; {hint}")));
        };
        let _ = stored.recv_timeout(PATIENCE); // It is lifted all the same.
        Ok(Lifted { ban: info(&ban) })
    }
}

impl From<BanError> for BanRefused {
    fn from(error: BanError) -> Self {
        match error {
            BanError::TooMany => Self::Impossible(error.to_string()),
            BanError::Over | BanError::Text => Self::Request(error.to_string()),
        }
    }
}

fn request(words: &str) -> BanRefused {
    BanRefused::Request(words.to_owned())
}

fn info(ban: &Ban) -> BanInfo {
    BanInfo {
        kind: ban.subject.kind().to_owned(),
        subject: ban.subject.text(),
        tenant: ban.subject.tenant().map(str::to_owned),
        since_unix_s: ban.since_unix_ms / 1_000,
        until_unix_s: ban.until_unix_ms.map(|until| until.div_ceil(1_000)),
        reason: ban.reason.clone(),
        by: ban.by.clone(),
    }
}

fn subject_of(target: &BanTarget) -> Result<Subject, BanRefused> {
    let tenant = target.tenant.as_deref();
    let named = [&target.client, &target.user, &target.address, &target.network];
    if named.iter().filter(|name| name.is_some()).count() != 1 {
        return Err(request("name exactly one of client, user, address and network"));
    }
    if tenant.is_some() && target.client.is_none() && target.user.is_none() {
        return Err(request("a tenant has clients and users, but no addresses"));
    }
    if let Some(client_id) = &target.client {
        return Ok(Subject::client_id(client_id, tenant));
    }
    if let Some(username) = &target.user {
        return Ok(Subject::user(username, tenant));
    }
    if let Some(address) = &target.address {
        let parsed: Result<IpAddr, _> = address.parse();
        let address = parsed.map_err(|_| request(&format!("{address:?} is no IP address, such as 192.0.2.1")))?;
        return Ok(Subject::Address(address).canonical());
    }
    let network = target.network.as_deref().unwrap_or_default();
    network_of(network).ok_or_else(|| request(&format!("{network:?} is no IP network, such as 192.0.2.0/24")))
}

fn network_of(text: &str) -> Option<Subject> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
    (bits <= super::subject::width(address)).then(|| Subject::Network(address, bits).canonical())
}

#[cfg(test)]
mod tests;
