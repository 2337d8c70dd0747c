//! Bans as JSON and as text: what `/v1/bans` answers and `nervewire bans` prints.

use super::table::{Table, duration, printable};
use super::view::View;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Whom a ban concerns, in the body of `POST /v1/bans` and `POST /v1/bans/lift`: exactly one of the four.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanTarget {
    /// MQTT client identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// IP network, `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The tenant of a client or user; without one it is banned in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Seconds until it ends by itself; only where a ban is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why; only where a ban is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One ban.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BanInfo {
    /// `client`, `user`, `address` or `network`.
    pub kind: String,
    /// The identifier, name, address or network.
    pub subject: String,
    /// Of a client or user; `null`: in all tenants.
    pub tenant: Option<String>,
    /// When it was made.
    pub since_unix_s: u64,
    /// When it ends; `null`: when it is lifted.
    pub until_unix_s: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who wanted it.
    pub by: String,
}

/// Answer of `GET /v1/bans`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BanList {
    /// Those in force.
    pub bans: Vec<BanInfo>,
}

/// Answer of `POST /v1/bans`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Banned {
    /// The ban as it is in force now.
    pub ban: BanInfo,
    /// It survives a restart. `false`: it ends with the process, because nothing is stored, or the store is in trouble.
    pub stored: bool,
}

/// Answer of `POST /v1/bans/lift`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lifted {
    /// The ban that is no more.
    pub ban: BanInfo,
}

/// Why there is no ban, or none to lift.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BanRefused {
    /// The request must be another.
    #[error("{0}")]
    Request(String),
    /// There is no such ban.
    #[error("{0}")]
    NotFound(String),
    /// There is no room for it, or nobody to answer.
    #[error("{0}")]
    Impossible(String),
}

impl BanInfo {
    fn name(&self) -> String {
        let tenant = self
            .tenant
            .as_deref()
            .map(|tenant| format!(" of tenant {}", printable(tenant)));
        format!(
            "{} {}{}",
            self.kind,
            printable(&self.subject),
            tenant.unwrap_or_default()
        )
    }

    fn end(&self, now_unix_s: u64) -> String {
        match self.until_unix_s {
            None => "until it is lifted".to_owned(),
            Some(until) => format!("for {}", duration(until.saturating_sub(now_unix_s))),
        }
    }
}

impl View for BanList {
    fn view(&self, now_unix_s: u64) -> String {
        if self.bans.is_empty() {
            return "nobody is banned\n".to_owned();
        }
        let mut table = Table::new(["BANNED", "ENDS", "BY", "REASON"]);
        for ban in &self.bans {
            let end = match ban.until_unix_s {
                None => "-".to_owned(),
                Some(until) => format!("in {}", duration(until.saturating_sub(now_unix_s))),
            };
            table.push([ban.name(), end, ban.by.clone(), ban.reason.clone()]);
        }
        table.to_string()
    }
}

impl View for Banned {
    fn view(&self, now_unix_s: u64) -> String {
        let mut text = format!("banned {} {}\n", self.ban.name(), self.ban.end(now_unix_s));
        if !self.stored {
            let _ = writeln!(text, "it is not stored: a restart ends it");
        }
        text
    }
}

impl View for Lifted {
    fn view(&self, _: u64) -> String {
        format!("lifted the ban of {}\n", self.ban.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(until_unix_s: Option<u64>) -> BanInfo {
        BanInfo {
            kind: "user".into(),
            subject: "mal\u{1b}ory".into(),
            tenant: Some("acme".into()),
            since_unix_s: 50,
            until_unix_s,
            reason: "spam".into(),
            by: "admin API".into(),
        }
    }

    #[test]
    fn bans_are_shown_with_their_end_and_without_what_acts_on_a_terminal() {
        let list = BanList {
            bans: vec![ban(None), ban(Some(160))],
        };
        let text = list.view(100);
        assert!(text.contains("user mal\\u{1b}ory of tenant acme"), "{text}");
        assert!(text.contains("in 1m 0s") && text.contains("spam"), "{text}");
        assert_eq!(BanList::default().view(1), "nobody is banned\n");
        let banned = Banned {
            ban: ban(Some(160)),
            stored: false,
        };
        assert_eq!(
            banned.view(100),
            "banned user mal\\u{1b}ory of tenant acme for 1m 0s\nit is not stored: a restart ends it\n"
        );
    }
}
