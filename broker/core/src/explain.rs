//! What is known natively about a request that nobody has made, so that it can be explained how it would be decided.

use crate::hook::Client;
use crate::policy::ClientRules;
use crate::verdicts::CachedVerdict;
use nervewire_codec::Utf8String;
use std::sync::Arc;

/// What a shard knows about a request of one client.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// Whether its session is connected; `None`: there is no session.
    pub connected: Option<bool>,
    /// The facts of the session's client.
    pub client: Option<Arc<Client>>,
    /// Of the policy in force.
    pub generation: u64,
    /// The session's rules, where they are of that policy and complete.
    pub rules: Option<Arc<ClientRules>>,
    /// Of a delivery: the session's filters that match and are suspended, because their right was taken away.
    pub suspended: Vec<Utf8String>,
    /// They are all that matches, so that nothing is delivered.
    pub withheld: bool,
    /// The session's filters were not judged by that policy yet, which they are before the next delivery.
    pub unreviewed: bool,
    /// What a cache answers in the place of each authorizer, with milliseconds since it was asked and until it is again.
    pub cached: Vec<Option<Remembered>>,
}

/// A cached verdict and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// What was said.
    pub verdict: CachedVerdict,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// Milliseconds for which it still holds.
    pub remaining_ms: u64,
}
