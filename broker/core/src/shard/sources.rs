//! Retained messages and the right of those who have published them. A retained message is judged again when it is delivered: may
//! whoever had it retained still publish it, by the rules that the policy of this moment gives for it? It stays where it is, and is
//! delivered again once that is so.
//!
//! Rules decide, as they would for that client with the facts of that time. Where an authorizer would have to be asked about the
//! message itself, what it said at the PUBLISH stands: it may have gone by a password or a token that was only to open a
//! connection. Whoever is banned has nothing delivered while that lasts.

use super::{Call, Shard};
use crate::hook::{Action, CallFailed, Client, Rule};
use crate::limits::{MAX_SOURCE_RULES, SOURCE_RULES_RETRY_MS};
use crate::message::Message;
use crate::policy::{ClientRules, Native, RequestRef};
use crate::time::Millis;
use hashbrown::HashMap;
use std::sync::Arc;

/// Rules of clients that have messages retained, as of one generation.
#[derive(Debug, Default)]
pub(super) struct SourceRules {
    generation: u64,
    /// By the address of the facts, which are kept as long as they are here.
    known: HashMap<usize, Known>,
}

#[derive(Debug)]
struct Known {
    _client: Arc<Client>,
    rules: Arc<ClientRules>,
    /// From this moment on they are asked for again.
    until: Millis,
}

impl SourceRules {
    fn get(&self, now: Millis, generation: u64, client: &Arc<Client>) -> Option<&Arc<ClientRules>> {
        if self.generation != generation {
            return None;
        }
        let known = self.known.get(&key(client))?;
        (now < known.until).then_some(&known.rules)
    }

    /// Whether others had to go for it.
    fn put(&mut self, now: Millis, client: Arc<Client>, rules: Arc<ClientRules>) -> bool {
        let over_bound = self.known.len() >= MAX_SOURCE_RULES && self.generation == rules.generation;
        if over_bound || self.generation != rules.generation {
            self.known.clear();
            self.generation = rules.generation;
        }
        let until = match rules.has_failed() {
            true => now + SOURCE_RULES_RETRY_MS,
            false => Millis::MAX,
        };
        let known = Known {
            _client: client.clone(),
            rules,
            until,
        };
        self.known.insert(key(&client), known);
        over_bound
    }
}

fn key(client: &Arc<Client>) -> usize {
    Arc::as_ptr(client).addr()
}

/// What is known about a retained message's right to be delivered.
pub(super) enum Right {
    Holds,
    Lost,
    /// Its publisher's rules must be asked for.
    Unknown(Arc<Client>),
}

impl Shard {
    /// Whether whoever had a message retained may still publish it.
    pub(super) fn right_of_source(&self, now: Millis, message: &Message) -> Right {
        let Some(source) = &message.source else {
            return Right::Holds;
        };
        if self.bans.is_banned(&source.client, now) {
            return Right::Lost;
        }
        if source.is_judged_by(self.policy.generation) {
            return Right::Holds;
        }
        let rules = match self.policy.authorizers.is_empty() {
            true => &self.no_rules,
            false => match self.sources.get(now, self.policy.generation, &source.client) {
                Some(rules) => rules,
                None => return Right::Unknown(source.client.clone()),
            },
        };
        let request = RequestRef {
            action: Action::Publish,
            topic: &message.app.topic,
            qos: message.app.qos,
            retain: true,
        };
        match rules.judge(&self.policy, &request, |_| None) {
            Native::Decided(false) => Right::Lost,
            Native::Decided(true) | Native::Ask(_) => Right::Holds,
        }
    }

    /// The question for a publisher's rules.
    pub(super) fn rules_of_source(&self, client: Arc<Client>) -> Call {
        Call::Rules {
            generation: self.policy.generation,
            client,
        }
    }

    /// The rules of a client that had messages retained.
    pub(super) fn hear_source(
        &mut self,
        now: Millis,
        generation: u64,
        client: Arc<Client>,
        answers: Vec<Result<Option<Vec<Rule>>, CallFailed>>,
    ) {
        let rules = self.compile_rules(generation, &client.client_id, answers);
        self.counters.source_rules_cleared += u64::from(self.sources.put(now, client, rules));
    }
}
