//! `builtin:acl`: who may publish and subscribe where, as rules in the configuration.
//!
//! ```toml
//! [[plugin]]
//! name = "acl"
//! component = "builtin:acl"
//! config.rules = [
//!   { allow = "both", topics = ["dev/${client_id}/#"] },
//!   { allow = "subscribe", user = "dashboard-*", topics = ["dev/+/status"], max_qos = 1 },
//!   { allow = "all", attributes = { role = "admin" }, topics = ["#", "$SYS/#"] },
//!   { deny = "publish", topics = ["cmd/#"], retain = true },
//! ]
//! ```
//!
//! The first rule that applies decides; where none does, the plugin abstains: another authorizer may allow, else
//! `[auth] default` holds. A rule has:
//!
//! | key | meaning |
//! |---|---|
//! | `allow` or `deny` | one of them: `"publish"`, `"subscribe"`, `"deliver"`, `"both"` (publish and subscribe) or `"all"` |
//! | `topics` | topic filters; `${client_id}`, `${username}` and `${attr.NAME}` stand for the client's own |
//! | `client`, `user` | only clients whose identifier or user name matches this pattern, where `*` stands for anything |
//! | `attributes` | only clients with all these attributes; values are patterns, too |
//! | `max_qos` | only requests of at most this QoS |
//! | `retain` | only messages with this retain flag |
//!
//! A name that is empty or holds `+`, `#`, `/` or a control character makes a rule that substitutes it match nothing, and
//! so does one that would make a topic begin with `$`: no client can widen a rule by its name. A `deny` that must hold
//! for everybody is therefore written without names.
//!
//! The rules are compiled by the broker once per connection: this plugin is not called for each message.

mod pattern;
mod rule;

use nervewire_plugin_sdk::{Effect, export, prelude::*};
use rule::{AccessRule, RuleConfig};

/// What the broker takes about one client (`authorizer.rules` in `wit/hooks.wit`).
const MAX_RULES: usize = 1_024;
const MAX_FILTER_BYTES: usize = 65_536;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rules: Vec<RuleConfig>,
}

/// The plugin: an ordered list of rules.
#[derive(Debug)]
pub struct Acl {
    rules: Vec<AccessRule>,
}

impl Plugin for Acl {
    type Config = Config;

    fn init(config: Config, _files: Files) -> Result<Self, String> {
        let numbered = config.rules.into_iter().zip(1..);
        let compile = |(rule, number): (RuleConfig, u32)| {
            AccessRule::compile(rule).map_err(|error| format!("config.rules, entry {number}: {error}"))
        };
        let rules: Vec<AccessRule> = numbered.map(compile).collect::<Result<_, _>>()?;
        check_size(&rules)?;
        Ok(Self { rules })
    }
}

/// More than the broker takes would let nobody in: better to be told when it is configured.
fn check_size(rules: &[AccessRule]) -> Result<(), String> {
    let filters = || rules.iter().flat_map(AccessRule::filters_for_everybody);
    let (number, bytes) = (filters().count(), filters().map(|filter| filter.len()).sum::<usize>());
    if number <= MAX_RULES && bytes <= MAX_FILTER_BYTES {
        return Ok(());
    }
    Err(format!(
        "config.rules: {number} topic filters of {bytes} bytes are about every client, and the broker takes {MAX_RULES} of \
         {MAX_FILTER_BYTES} bytes; write wildcards, or say with user, client or attributes whom a rule is about"
    ))
}

impl Authorize for Acl {
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        Some(self.rules.iter().flat_map(|rule| rule.for_client(client)).collect())
    }

    /// The same decision for one request. The broker asks for none, since it has the rules; whoever does is told the truth.
    fn authorize(&mut self, client: &Client, request: &Request) -> Verdict {
        match self.rules.iter().find_map(|rule| rule.decide(client, request)) {
            Some(Effect::Allow) => Verdict::allow(),
            Some(Effect::Deny) => Verdict::deny(),
            Some(Effect::Ask) | None => Verdict::abstain(),
        }
    }
}

export!(Acl: authorize);

#[cfg(test)]
mod tests;
