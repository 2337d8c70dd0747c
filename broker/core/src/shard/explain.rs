//! How a request would be decided, as far as a shard knows. Asking plugins is up to who wants to know.

use super::Shard;
use crate::explain::{Inquiry, Remembered};
use crate::hook::{Action, Client};
use crate::policy::RequestRef;
use crate::time::Millis;
use std::sync::Arc;

impl Shard {
    /// What is known about a request of this client, or of `supposed` where it has no session.
    pub fn inquire(&self, now: Millis, supposed: &Arc<Client>, request: &RequestRef<'_>) -> Inquiry {
        let slot = self.sessions.find(supposed.tenant.as_deref(), &supposed.client_id);
        let found = slot.and_then(|slot| Some((slot, self.sessions.get(slot as usize)?)));
        let generation = self.policy.generation;
        let session = found.map(|(slot, s)| (slot, s.serial));
        let client = found.map_or(supposed, |(_, s)| &s.client);
        let cached = (0..self.policy.authorizers.len()).map(|authorizer| {
            let verdict = self.cached(now, session, client, generation, authorizer, request)?;
            Some(Remembered {
                verdict,
                age_ms: now.saturating_sub(verdict.since),
                remaining_ms: verdict.until.saturating_sub(now),
            })
        });
        let delivered_to = found.filter(|_| request.action == Action::Deliver);
        Inquiry {
            connected: found.map(|(_, s)| s.conn.is_some()),
            client: found.map(|(_, s)| s.client.clone()),
            generation,
            rules: found.and_then(|(slot, _)| self.current_rules(slot).cloned()),
            suspended: delivered_to.map_or_else(Vec::new, |(_, s)| Self::suspended_for(s, request.topic)),
            withheld: delivered_to.is_some_and(|(slot, _)| self.is_withheld(slot, request.topic, None)),
            unreviewed: delivered_to.is_some_and(|(_, s)| s.subscriptions.len() > 0 && !self.is_reviewed(s)),
            cached: cached.collect(),
        }
    }
}
