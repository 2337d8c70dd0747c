//! Authorization verdicts that plugins allowed us to reuse, each under what it was declared to depend on, and no more.
//!
//! *User* is the user name and the tenant; *client* is every other fact about the connection. A verdict that depends on the client
//! is kept by its session, and forgotten with the facts it was given for. Any other is kept by the shard: for all clients of the
//! user, or for everybody. Action, QoS and RETAIN always count; the topic, where it was declared.

use crate::hook::{Action, Client, Decision, Request, Verdict};
use crate::limits::{MAX_CACHED_VERDICTS, MAX_SHARED_VERDICTS, MAX_VERDICT_KEY_BYTES};
use crate::policy::RequestRef;
use crate::time::Millis;
use hashbrown::{Equivalent, HashMap};
use nervewire_codec::{QoS, Utf8String};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What an authorizer said, and how long that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedVerdict {
    /// Its decision.
    pub decision: Decision,
    /// When it was asked.
    pub since: Millis,
    /// From this moment on it is asked again.
    pub until: Millis,
}

impl CachedVerdict {
    pub(crate) fn new(verdict: &Verdict, now: Millis) -> Self {
        Self {
            decision: verdict.decision,
            since: now,
            until: now.saturating_add(u64::from(verdict.cache_ms)),
        }
    }
}

/// Whether a verdict was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Kept,
    /// Others had to go first, or it is too large to be kept.
    OverBound,
}

/// What depends on the client, kept by its session. Empty, it owns nothing.
#[derive(Debug, Default)]
pub(crate) struct SessionVerdicts(Option<Box<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    /// Few, so a scan beats building a key.
    verdicts: Vec<(Key, CachedVerdict)>,
}

impl SessionVerdicts {
    pub(crate) fn get(
        &self,
        generation: u64,
        authorizer: usize,
        request: &RequestRef<'_>,
        now: Millis,
    ) -> Option<CachedVerdict> {
        let kept = self.0.as_ref().filter(|kept| kept.generation == generation)?;
        let applies = |key: &Key| key.authorizer == authorizer && key.is_about(request);
        let found = kept
            .verdicts
            .iter()
            .find(|(key, verdict)| verdict.until > now && applies(key));
        found.map(|(_, verdict)| *verdict)
    }

    pub(crate) fn put(
        &mut self,
        generation: u64,
        authorizer: usize,
        request: &Request,
        verdict: &Verdict,
        now: Millis,
    ) -> Put {
        let key = Key::new(authorizer, None, request, verdict);
        if key.bytes() > MAX_VERDICT_KEY_BYTES {
            return Put::OverBound;
        }
        let kept = self.0.get_or_insert_default();
        if kept.generation > generation {
            return Put::Kept; // A message that was first judged by an older policy; nobody asks for that any more.
        }
        let full = kept.verdicts.len() >= MAX_CACHED_VERDICTS;
        if full || kept.generation < generation {
            kept.verdicts.clear();
            kept.generation = generation;
        }
        kept.verdicts.retain(|(known, _)| *known != key);
        kept.verdicts.push((key, CachedVerdict::new(verdict, now)));
        if full { Put::OverBound } else { Put::Kept }
    }

    /// The facts about the client have changed.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

/// What does not depend on the client, kept by the shard.
#[derive(Debug, Default)]
pub(crate) struct SharedVerdicts {
    generation: u64,
    verdicts: HashMap<Key, CachedVerdict>,
    /// Whether there are any that depend on (user, topic): most plugins give one kind only, and only that is looked for.
    kinds: [[bool; 2]; 2],
}

impl SharedVerdicts {
    pub(crate) fn get(
        &self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        request: &RequestRef<'_>,
        now: Millis,
    ) -> Option<CachedVerdict> {
        if self.generation != generation {
            return None;
        }
        let kinds = [(true, true), (true, false), (false, true), (false, false)];
        let mut kinds = kinds
            .into_iter()
            .filter(|(user, topic)| self.kinds[usize::from(*user)][usize::from(*topic)]);
        kinds.find_map(|(user, topic)| {
            let key = KeyRef {
                authorizer,
                action: request.action,
                qos: request.qos,
                retain: request.retain,
                user: user.then_some((client.username.as_deref(), client.tenant.as_deref())),
                topic: topic.then_some(request.topic),
            };
            self.verdicts.get(&key).filter(|verdict| verdict.until > now).copied()
        })
    }

    pub(crate) fn put(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        request: &Request,
        verdict: &Verdict,
        now: Millis,
    ) -> Put {
        let user = verdict.depends_on_user.then(|| User {
            name: client.username.clone(),
            tenant: client.tenant.clone(),
        });
        let key = Key::new(authorizer, user, request, verdict);
        if key.bytes() > MAX_VERDICT_KEY_BYTES {
            return Put::OverBound;
        }
        if self.generation > generation {
            return Put::Kept;
        }
        if self.generation < generation {
            self.clear();
            self.generation = generation;
        }
        let full = self.verdicts.len() >= MAX_SHARED_VERDICTS && !self.make_room(now);
        self.kinds[usize::from(verdict.depends_on_user)][usize::from(verdict.depends_on_topic)] = true;
        self.verdicts.insert(key, CachedVerdict::new(verdict, now));
        if full { Put::OverBound } else { Put::Kept }
    }

    fn clear(&mut self) {
        self.verdicts.clear();
        self.kinds = Default::default();
    }

    /// Drops what has expired; where that is too little to be worth the look, everything, and answers `false`.
    fn make_room(&mut self, now: Millis) -> bool {
        self.verdicts.retain(|_, verdict| verdict.until > now);
        let is_enough = self.verdicts.len() <= MAX_SHARED_VERDICTS / 4 * 3;
        if !is_enough {
            self.clear();
        }
        is_enough
    }
}

/// What a verdict depends on.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    authorizer: usize,
    action: Action,
    qos: QoS,
    retain: bool,
    user: Option<User>,
    topic: Option<Utf8String>,
}

#[derive(Debug, PartialEq, Eq)]
struct User {
    name: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
}

impl Key {
    fn new(authorizer: usize, user: Option<User>, request: &Request, verdict: &Verdict) -> Self {
        Self {
            authorizer,
            action: request.action,
            qos: request.qos,
            retain: request.retain,
            user,
            topic: verdict.depends_on_topic.then(|| request.topic.clone()),
        }
    }

    fn is_about(&self, request: &RequestRef<'_>) -> bool {
        self.action == request.action
            && self.qos == request.qos
            && self.retain == request.retain
            && self.topic.as_deref().is_none_or(|topic| *topic == *request.topic)
    }

    fn bytes(&self) -> usize {
        let len = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let user = self.user.as_ref().map_or(0, |user| len(&user.name) + len(&user.tenant));
        user + self.topic.as_ref().map_or(0, |topic| topic.len())
    }

    fn by_reference(&self) -> KeyRef<'_> {
        KeyRef {
            authorizer: self.authorizer,
            action: self.action,
            qos: self.qos,
            retain: self.retain,
            user: self
                .user
                .as_ref()
                .map(|user| (user.name.as_deref(), user.tenant.as_deref())),
            topic: self.topic.as_deref(),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.by_reference().hash(state);
    }
}

/// A [`Key`] that nothing was copied for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    authorizer: usize,
    action: Action,
    qos: QoS,
    retain: bool,
    /// User name and tenant.
    user: Option<(Option<&'a str>, Option<&'a str>)>,
    topic: Option<&'a str>,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.by_reference()
    }
}

#[cfg(test)]
mod tests;
