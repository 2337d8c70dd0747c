//! Rights that somebody else grants, a token or a backend: an access list, and a time after which nothing is allowed.
//!
//! An authenticator attaches them to the client as attributes ([`Granted::attach`]), and the authorizer of the same plugin
//! holds the client to them ([`Rights::of`]): any instance can, because nothing but the attributes is needed.
//!
//! Two ways to hold a client to a time that comes while it is connected:
//!
//! - Rules are evaluated inside the broker and know no time, so where an expiry counts every publish, subscribe and delivery
//!   is asked for ([`Rights::rules`]); verdicts say themselves until when they may be cached ([`Rights::decide`]).
//! - Without an expiry the access list becomes rules, and a call is made only for what rules cannot say.

mod entry;
mod list;
mod placeholder;

pub use entry::{Effects, Entry};
pub use list::{AccessList, MAX_ENTRIES};
pub use placeholder::is_placeholder;

use nervewire_plugin_sdk::{Action, Client, Decision, Identity, Request, Rule, Verdict, clock, counters};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Access lists that an instance keeps parsed.
const MAX_PARSED_LISTS: usize = 256;
/// Bytes of an access list as it is attached: with the rest it must fit into the 16 KiB of a client's attributes.
pub const MAX_LIST_BYTES: usize = 12 * 1024;

/// The end of rights that have none.
const NEVER: &str = "never";

/// What is attached to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Unix time in seconds from which on nothing is allowed any more.
    pub expires_at_s: Option<u64>,
    /// The access list, as JSON.
    pub list: Option<String>,
}

impl Granted {
    /// Attaches this to an identity, as attributes `PREFIX.exp` and `PREFIX.acl`.
    ///
    /// # Errors
    /// Why not: the list is none, or too large.
    pub fn attach(self, prefix: &str, identity: Identity) -> Result<Identity, String> {
        let mut identity = identity;
        if let Some(list) = self.list {
            if list.len() > MAX_LIST_BYTES {
                return Err(format!(
                    "an access list of {} bytes, at most {MAX_LIST_BYTES} are taken",
                    list.len()
                ));
            }
            AccessList::parse(&list)?;
            identity = identity.attribute(format!("{prefix}.acl"), list);
        }
        // Attached in any case: it tells whose client this is.
        let end = self
            .expires_at_s
            .map_or_else(|| NEVER.to_owned(), |at_s| at_s.to_string());
        Ok(identity.attribute(format!("{prefix}.exp"), end))
    }
}

/// Reads what was attached, and remembers the lists it has parsed.
#[derive(Debug)]
pub struct Rights {
    exp: String,
    acl: String,
    parsed: HashMap<String, Rc<AccessList>>,
}

impl Rights {
    /// Of what was attached under this prefix.
    pub fn new(prefix: &str) -> Self {
        Self {
            exp: format!("{prefix}.exp"),
            acl: format!("{prefix}.acl"),
            parsed: HashMap::new(),
        }
    }

    /// Whether rights were attached to the client under this prefix. Where not, it is another authenticator's.
    pub fn are_of(&self, client: &Client) -> bool {
        client.attribute(&self.exp).is_some()
    }

    /// When the client's rights end, in seconds of Unix time.
    ///
    /// An attribute that is no time is one that is over: whoever wrote it meant an end.
    pub fn expires_at_s(&self, client: &Client) -> Option<u64> {
        let end = client.attribute(&self.exp).filter(|end| *end != NEVER)?;
        Some(end.parse().unwrap_or(0))
    }

    /// The client's own access list, as it came with its rights. One that cannot be read denies everything.
    pub fn list(&mut self, client: &Client) -> Option<Rc<AccessList>> {
        let text = client.attribute(&self.acl)?;
        if let Some(list) = self.parsed.get(text) {
            return Some(list.clone());
        }
        let list = Rc::new(AccessList::parse(text).unwrap_or_else(|_| AccessList::deny_all()));
        if self.parsed.len() >= MAX_PARSED_LISTS {
            self.parsed.clear();
            counters::add("access_lists_forgotten", 1);
        }
        self.parsed.insert(text.to_owned(), list.clone());
        Some(list)
    }

    /// The rules of a client that has these lists, the first of them heard first.
    pub fn rules(&self, client: &Client, lists: &[&AccessList]) -> Vec<Rule> {
        if self.expires_at_s(client).is_some() {
            return ask_for_everything(client, lists);
        }
        let mut rules = Vec::new();
        for list in lists {
            list.push_rules(client, &mut rules);
            if list.denies_the_rest() {
                break; // What comes behind is never reached.
            }
        }
        rules
    }

    /// The answer to one request of a client that has these lists, the first of them heard first.
    pub fn decide(&self, client: &Client, request: &Request, lists: &[&AccessList]) -> Verdict {
        let remaining = match self.remaining(client) {
            Ok(remaining) => remaining,
            Err(over) => return over,
        };
        let decision = lists.iter().find_map(|list| list.decide(client, request));
        let verdict = match decision {
            Some(Decision::Allow) => Verdict::allow(),
            Some(Decision::Deny) => Verdict::deny(),
            Some(Decision::Abstain) | None => Verdict::abstain(),
        };
        let verdict = verdict.cache(remaining);
        if lists.is_empty() {
            verdict.for_any_topic()
        } else {
            verdict
        }
    }

    /// How long the client's rights last.
    ///
    /// # Errors
    /// The answer to everything once they are over.
    pub fn remaining(&self, client: &Client) -> Result<Duration, Verdict> {
        let Some(end_s) = self.expires_at_s(client) else {
            return Ok(Duration::MAX);
        };
        match end_s.saturating_mul(1000).checked_sub(clock::now_ms()) {
            None | Some(0) => {
                counters::add("requests_after_expiry", 1);
                Err(Verdict::deny().cache(Duration::MAX).for_any_topic())
            }
            Some(remaining_ms) => Ok(Duration::from_millis(remaining_ms)),
        }
    }
}

/// Rules by which everything is asked for, deliveries too. `#` does not stand for what begins with `$`, so that is named: what
/// the broker has, and what the lists speak of.
pub fn ask_for_everything(client: &Client, lists: &[&AccessList]) -> Vec<Rule> {
    let mut hidden: Vec<String> = vec!["$SYS/#".to_owned()];
    for topic in lists.iter().flat_map(|list| list.topics(client)) {
        let root = topic.split('/').next().unwrap_or_default();
        if root.starts_with('$') {
            hidden.push(format!("{root}/#"));
        }
    }
    hidden.sort();
    hidden.dedup();
    std::iter::once("#".to_owned())
        .chain(hidden)
        .map(|filter| Rule::ask().topic(filter))
        .collect()
}

/// Whether a delivery is meant, which only a deny can stop.
fn is_delivery(request: &Request) -> bool {
    request.action == Action::Deliver
}

#[cfg(test)]
mod tests;
