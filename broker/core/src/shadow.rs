//! Plugins in shadow mode: asked what the enforced ones are asked, compared, never obeyed.
//!
//! What is compared is the ruling of two chains: the enforced one, and the one in which the plugin stands in its place. Rules are
//! evaluated natively, like those that are obeyed. Where somebody must be asked, the question goes out as a [`ShadowCall`] after
//! the client was answered, and the comparison waits here; with too many waiting it is left out, and counted.

mod calls;
mod differences;
mod transforms;
mod words;

pub use calls::{ShadowAnswer, ShadowCall, ShadowQuestion};
pub use differences::{Differences, Kind, Noticed, Sample, ShadowHook, Tally, Words};
pub use transforms::{Outcome, difference};
pub(crate) use words::why;

use crate::fold::failed_decision;
use crate::hook::{
    Action, AppMessage, CallFailed, Client, Decision, OnFailure, Request, Rule, Transformation, Verdict,
};
use crate::limits::{MAX_SHADOW_COMPARISONS, SHADOW_RETRY_MS};
use crate::policy::{Authorizer, AuthorizerRules, ClientRules, Member, Place, Policy, RequestRef, Shadow, Supposed};
use crate::time::Millis;
use crate::verdicts::{SessionVerdicts, SharedVerdicts};
use hashbrown::HashMap;
use nervewire_codec::Utf8String;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A request that the enforced chain has ruled on.
#[derive(Clone, Copy)]
pub(crate) struct Ruled<'a> {
    /// Slot and serial of the client's session.
    pub(crate) session: Option<(u32, u64)>,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) policy: &'a Arc<Policy>,
    pub(crate) rules: &'a Arc<ClientRules>,
    pub(crate) request: RequestRef<'a>,
    pub(crate) allowed: bool,
    /// What authorizers said that were asked, by position.
    pub(crate) answered: &'a [(usize, Decision)],
}

/// The comparisons of one shard, by one policy that has plugins in shadow mode.
#[derive(Debug)]
pub(crate) struct Shadowing {
    policy: Arc<Policy>,
    clients: HashMap<u32, ShadowClient>,
    purge_at: usize,
    /// For each plugin the latest client's rules: the next client's are often the same, and shared with it.
    latest: Vec<Arc<AuthorizerRules>>,
    verdicts: SharedVerdicts,
    pending: HashMap<u64, Pending>,
    /// Comparisons among `pending`.
    comparisons: usize,
    next_id: u64,
    questions: VecDeque<ShadowQuestion>,
    differences: Vec<Differences>,
    over_bound: u64,
    refused: Vec<(Arc<str>, Arc<str>, String)>,
}

/// What is known of the client of a session.
#[derive(Debug)]
struct ShadowClient {
    serial: u64,
    client: Arc<Client>,
    verdicts: SessionVerdicts,
    rules: Vec<Known>,
}

#[derive(Clone, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// The question under this number is under way.
    Asked(u64),
    /// Until then, where it is said.
    Rules(Arc<AuthorizerRules>, Option<Millis>),
}

#[derive(Debug)]
enum Pending {
    /// With the comparisons that wait for them.
    Rules(usize, Option<(u32, u64)>, Arc<Client>, Vec<Supposing>),
    Authorize(Box<Supposing>),
    Transform(usize, Arc<Client>, AppMessage, Transformation, Arc<str>),
}

/// One comparison that waits.
#[derive(Debug)]
struct Supposing {
    shadow: usize,
    session: Option<(u32, u64)>,
    client: Arc<Client>,
    enforced: Arc<ClientRules>,
    request: Request,
    allowed: bool,
    answered: SmallVec<[(Member, Decision); 2]>,
    rules: Option<Arc<AuthorizerRules>>,
    asked: Member,
}

const FIRST_PURGE_CLIENTS: usize = 1_024;

impl Shadowing {
    /// For a new policy; `None` where nobody is in shadow mode. What was seen of a plugin that did not change is kept.
    pub(crate) fn succeed(before: Option<Box<Self>>, policy: &Arc<Policy>) -> Option<Box<Self>> {
        if policy.shadows.is_empty() {
            return None;
        }
        let (mut known, next_id, over_bound) = before.map_or((Vec::new(), 0, 0), |before| {
            (before.differences, before.next_id, before.over_bound)
        });
        let differences = policy.shadows.iter().map(|shadow| {
            let at = known.iter().position(|known| known.plugin == shadow.name);
            let Some(at) = at else {
                return Differences::new(shadow.name.clone(), shadow.since);
            };
            let mut known = known.swap_remove(at);
            if known.since != shadow.since {
                known.reset();
                known.since = shadow.since;
            }
            known
        });
        Some(Box::new(Self {
            differences: differences.collect(),
            policy: policy.clone(),
            clients: HashMap::new(),
            purge_at: FIRST_PURGE_CLIENTS,
            latest: policy.shadows.iter().map(|_| Arc::new(AuthorizerRules::Ask)).collect(),
            verdicts: SharedVerdicts::default(),
            pending: HashMap::new(),
            comparisons: 0,
            next_id,
            questions: VecDeque::new(),
            over_bound,
            refused: Vec::new(),
        }))
    }

    pub(crate) fn next_question(&mut self) -> Option<ShadowQuestion> {
        self.questions.pop_front()
    }

    pub(crate) fn differences(&self) -> &[Differences] {
        &self.differences
    }

    /// Forgets the differences of one plugin; whether it is in shadow mode.
    pub(crate) fn reset(&mut self, plugin: &str) -> bool {
        let known = self.differences.iter_mut().find(|known| *known.plugin == *plugin);
        known.map(Differences::reset).is_some()
    }

    /// Comparisons that were left out.
    pub(crate) fn over_bound(&self) -> u64 {
        self.over_bound
    }

    /// Plugins whose rules were refused, with the client's identifier and why.
    pub(crate) fn take_refused(&mut self) -> Vec<(Arc<str>, Arc<str>, String)> {
        std::mem::take(&mut self.refused)
    }

    /// Whether it should be asked which sessions there still are.
    pub(crate) fn is_crowded(&self) -> bool {
        self.clients.len() >= self.purge_at
    }

    /// Forgets sessions that are no more.
    pub(crate) fn purge(&mut self, is_there: impl Fn(u32, u64) -> bool) {
        self.clients.retain(|slot, known| is_there(*slot, known.serial));
        self.purge_at = (2 * self.clients.len()).max(FIRST_PURGE_CLIENTS);
    }

    /// Compares what was ruled with what would have been, plugin by plugin.
    pub(crate) fn authorize(&mut self, now: Millis, ruled: &Ruled<'_>) {
        if ruled.policy.generation != self.policy.generation {
            return;
        }
        for shadow in 0..self.differences.len() {
            if self
                .policy
                .shadows
                .get(shadow)
                .is_some_and(|s| is_concerned(&self.policy, s, &ruled.request))
            {
                self.compare(now, shadow, ruled);
            }
        }
    }

    fn compare(&mut self, now: Millis, shadow: usize, ruled: &Ruled<'_>) {
        let known = known_rules(&self.clients, now, shadow, ruled.session, ruled.client);
        let place = self
            .policy
            .shadows
            .get(shadow)
            .and_then(|shadow| shadow.authorizes.as_ref());
        let (Known::Rules(rules, _), Some((authorizer, place))) = (known, place) else {
            return self.wait(now, shadow, ruled, None);
        };
        let nobody_denies = !ruled.rules.may_deny_deliveries() && !rules.may_deny_deliveries();
        if ruled.request.action == Action::Deliver && nobody_denies {
            return;
        }
        let said = |member| match member {
            Member::Enforced(position) => {
                let said = ruled.answered.iter().find(|(known, _)| *known == position);
                said.map(|(_, decision)| *decision)
            }
            Member::Shadow => None,
        };
        match ruled
            .rules
            .suppose(&self.policy, Some((authorizer, *place, rules)), &ruled.request, said)
        {
            Supposed::Ruled(ruling) if ruling.allowed == ruled.allowed => {
                if let Some(differences) = self.differences.get_mut(shadow) {
                    differences.compared(ShadowHook::Authorize);
                }
            }
            // Asked, or told in words.
            _ => {
                let rules = Some(rules.clone());
                self.wait(now, shadow, ruled, rules);
            }
        }
    }

    /// Keeps what a comparison needs and goes on with it.
    fn wait(&mut self, now: Millis, shadow: usize, ruled: &Ruled<'_>, rules: Option<Arc<AuthorizerRules>>) {
        let Ok(topic) = Utf8String::try_from(ruled.request.topic) else {
            return;
        };
        let answered = ruled.answered.iter();
        let supposing = Supposing {
            shadow,
            session: ruled.session,
            client: ruled.client.clone(),
            enforced: ruled.rules.clone(),
            request: Request {
                action: ruled.request.action,
                topic,
                qos: ruled.request.qos,
                retain: ruled.request.retain,
            },
            allowed: ruled.allowed,
            answered: answered
                .map(|(at, decision)| (Member::Enforced(*at), *decision))
                .collect(),
            rules,
            asked: Member::Shadow,
        };
        self.step(now, supposing);
    }

    /// Goes on natively as far as possible.
    fn step(&mut self, now: Millis, mut waiting: Supposing) {
        let policy = self.policy.clone();
        let Some(shadow) = policy.shadows.get(waiting.shadow) else {
            return;
        };
        let Some((authorizer, place)) = &shadow.authorizes else {
            return;
        };
        let Some(rules) = waiting.rules.clone() else {
            return self.ask_for_rules(now, waiting);
        };
        let request = waiting.request.by_reference();
        let known = |member| {
            let said = waiting.answered.iter().find(|(known, _)| *known == member);
            let said = said.map(|(_, decision)| *decision);
            said.or_else(|| self.cached(now, &waiting, member))
        };
        match waiting
            .enforced
            .suppose(&policy, Some((authorizer, *place, &rules)), &request, known)
        {
            Supposed::Ruled(ruling) => {
                let Some(differences) = self.differences.get_mut(waiting.shadow) else {
                    return;
                };
                differences.compared(ShadowHook::Authorize);
                if ruling.allowed != waiting.allowed {
                    let noticed = Noticed {
                        hook: ShadowHook::Authorize,
                        kind: if ruling.allowed {
                            Kind::WouldAllow
                        } else {
                            Kind::WouldDeny
                        },
                        client: &waiting.client,
                        action: Some(request.action),
                        topic: request.topic,
                        qos: request.qos,
                        retain: request.retain,
                        payload: None,
                    };
                    let words = || {
                        words::of_ruling(&policy, shadow, &rules, &waiting.enforced, &request, ruling, |at| {
                            let said = waiting.answered.iter().find(|(known, _)| *known == at);
                            said.map(|(_, decision)| *decision)
                        })
                    };
                    differences.note(now, &noticed, words);
                }
            }
            Supposed::Ask(member) => {
                waiting.asked = member;
                let (shadow, authorizer) = match member {
                    Member::Shadow => (Some(waiting.shadow), 0),
                    Member::Enforced(position) => (None, position),
                };
                let call = ShadowCall::Authorize {
                    shadow,
                    authorizer,
                    client: waiting.client.clone(),
                    request: waiting.request.clone(),
                };
                if self.has_room() {
                    self.ask(call, Pending::Authorize(Box::new(waiting)));
                }
            }
        }
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.comparisons < MAX_SHADOW_COMPARISONS;
        self.over_bound += u64::from(!has_room);
        has_room
    }

    fn ask(&mut self, call: ShadowCall, pending: Pending) {
        let id = self.next_id;
        self.next_id += 1;
        self.comparisons += 1;
        self.pending.insert(id, pending);
        self.questions.push_back(ShadowQuestion {
            id,
            generation: self.policy.generation,
            call,
        });
    }

    fn ask_for_rules(&mut self, now: Millis, waiting: Supposing) {
        if !self.has_room() {
            return;
        }
        let (shadow, session, client) = (waiting.shadow, waiting.session, waiting.client.clone());
        if let Known::Asked(id) = known_rules(&self.clients, now, shadow, session, &client)
            && let Some(Pending::Rules(_, _, _, others)) = self.pending.get_mut(id)
        {
            others.push(waiting);
            self.comparisons += 1;
            return;
        }
        let id = self.next_id;
        if let Some(known) = self.client_mut(session, &client)
            && let Some(known) = known.rules.get_mut(shadow)
        {
            *known = Known::Asked(id);
        }
        let call = ShadowCall::Rules {
            shadow,
            client: client.clone(),
        };
        self.ask(call, Pending::Rules(shadow, session, client, vec![waiting]));
    }

    /// What is kept of a session's client, which is made where it was of another identity.
    fn client_mut(&mut self, session: Option<(u32, u64)>, client: &Arc<Client>) -> Option<&mut ShadowClient> {
        let (slot, serial) = session?;
        let new = || ShadowClient {
            serial,
            client: client.clone(),
            verdicts: SessionVerdicts::default(),
            rules: vec![Known::Nothing; self.policy.shadows.len()],
        };
        let known = self.clients.entry(slot).or_insert_with(new);
        if known.serial < serial || (known.serial == serial && !Arc::ptr_eq(&known.client, client)) {
            *known = ShadowClient {
                serial,
                client: client.clone(),
                verdicts: SessionVerdicts::default(),
                rules: vec![Known::Nothing; self.policy.shadows.len()],
            };
        }
        (known.serial == serial).then_some(known)
    }

    fn cached(&self, now: Millis, waiting: &Supposing, member: Member) -> Option<Decision> {
        if member != Member::Shadow {
            return None;
        }
        let (generation, shadow) = (self.policy.generation, waiting.shadow);
        let request = waiting.request.by_reference();
        let own = waiting.session.and_then(|(slot, serial)| {
            let known = self.clients.get(&slot)?;
            let same = known.serial == serial && Arc::ptr_eq(&known.client, &waiting.client);
            same.then(|| known.verdicts.get(generation, shadow, &request, now))?
        });
        let cached = own.or_else(|| self.verdicts.get(generation, shadow, &waiting.client, &request, now));
        cached.map(|verdict| verdict.decision)
    }

    /// The answer to a question. One of an earlier policy, or of a session that is gone, changes nothing.
    pub(crate) fn answered(&mut self, now: Millis, id: u64, answer: ShadowAnswer) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        match (pending, answer) {
            (Pending::Rules(shadow, session, client, waiting), ShadowAnswer::Rules(answer)) => {
                self.comparisons -= waiting.len();
                let rules = self.keep_rules(now, shadow, session, &client, answer);
                for mut waiting in waiting {
                    waiting.rules = Some(rules.clone());
                    self.step(now, waiting);
                }
            }
            (Pending::Authorize(mut waiting), ShadowAnswer::Authorize(answer)) => {
                self.comparisons -= 1;
                self.keep_verdict(now, &waiting, &answer);
                let on_failure = self.on_failure(waiting.shadow, waiting.asked);
                let decision = answer.map_or_else(|_| failed_decision(on_failure), |verdict| verdict.decision);
                waiting.answered.push((waiting.asked, decision));
                self.step(now, *waiting);
            }
            (Pending::Transform(shadow, client, message, outcome, by), ShadowAnswer::Transform(answer)) => {
                self.comparisons -= 1;
                self.compare_outcomes(now, shadow, &client, &message, (outcome, &by), answer);
            }
            (pending, _) => self.comparisons -= pending.comparisons(),
        }
    }

    /// Nobody will answer a question.
    pub(crate) fn unanswered(&mut self, id: u64) {
        if let Some(pending) = self.pending.remove(&id) {
            let comparisons = pending.comparisons();
            self.comparisons -= comparisons;
            self.over_bound += comparisons as u64;
        }
    }

    fn on_failure(&self, shadow: usize, member: Member) -> OnFailure {
        let authorizer = match member {
            Member::Shadow => {
                let shadow = self.policy.shadows.get(shadow);
                shadow
                    .and_then(|shadow| shadow.authorizes.as_ref())
                    .map(|(authorizer, _)| authorizer)
            }
            Member::Enforced(position) => self.policy.authorizers.get(position),
        };
        authorizer.map(|authorizer| authorizer.on_failure).unwrap_or_default()
    }

    fn keep_rules(
        &mut self,
        now: Millis,
        shadow: usize,
        session: Option<(u32, u64)>,
        client: &Arc<Client>,
        answer: Result<Option<Vec<Rule>>, CallFailed>,
    ) -> Arc<AuthorizerRules> {
        let rules = AuthorizerRules::compile(answer).unwrap_or_else(|error| {
            if let Some(shadow) = self.policy.shadows.get(shadow) {
                let refused = (shadow.name.clone(), client.client_id.clone(), error.to_string());
                self.refused.push(refused);
            }
            AuthorizerRules::Failed
        });
        let until = matches!(rules, AuthorizerRules::Failed).then_some(now + SHADOW_RETRY_MS);
        let rules = match self.latest.get_mut(shadow) {
            Some(latest) => {
                if **latest != rules {
                    *latest = Arc::new(rules);
                }
                latest.clone()
            }
            None => Arc::new(rules),
        };
        if let Some(known) = self.client_mut(session, client)
            && let Some(known) = known.rules.get_mut(shadow)
        {
            *known = Known::Rules(rules.clone(), until);
        }
        rules
    }

    fn keep_verdict(&mut self, now: Millis, waiting: &Supposing, answer: &Result<Verdict, CallFailed>) {
        let Ok(verdict) = answer else { return };
        if waiting.asked != Member::Shadow || verdict.cache_ms == 0 {
            return;
        }
        let (generation, shadow, request) = (self.policy.generation, waiting.shadow, &waiting.request);
        if !verdict.depends_on_client {
            self.verdicts
                .put(generation, shadow, &waiting.client, request, verdict, now);
        } else if let Some(known) = self.client_mut(waiting.session, &waiting.client) {
            known.verdicts.put(generation, shadow, request, verdict, now);
        }
    }
}

impl Pending {
    fn comparisons(&self) -> usize {
        match self {
            Self::Rules(_, _, _, waiting) => waiting.len(),
            Self::Authorize(_) | Self::Transform(..) => 1,
        }
    }
}

/// The plugin, or the one in whose place it stands, is heard about this.
fn is_concerned(policy: &Policy, shadow: &Shadow, request: &RequestRef<'_>) -> bool {
    let concerns = |authorizer: &Authorizer| authorizer.concerns(request.action, request.topic);
    match &shadow.authorizes {
        None => false,
        Some((authorizer, Place::Before(_))) => concerns(authorizer),
        Some((authorizer, Place::InsteadOf(position))) => {
            concerns(authorizer) || policy.authorizers.get(*position).is_some_and(concerns)
        }
    }
}

fn known_rules<'a>(
    clients: &'a HashMap<u32, ShadowClient>,
    now: Millis,
    shadow: usize,
    session: Option<(u32, u64)>,
    client: &Arc<Client>,
) -> &'a Known {
    let known = session.and_then(|(slot, serial)| {
        let known = clients.get(&slot)?;
        let same = known.serial == serial && Arc::ptr_eq(&known.client, client);
        same.then(|| known.rules.get(shadow))?
    });
    match known {
        Some(Known::Rules(_, Some(until))) if *until <= now => &Known::Nothing,
        Some(known) => known,
        None => &Known::Nothing,
    }
}
