//! One request put to the policy: the client's rules, then cached verdicts, then one authorizer after the other.

use super::here::{Elsewhere, PluginsHere};
use super::{Answer, Call, Notice, Shard};
use crate::fold::failed_decision;
use crate::hook::{Action, CallFailed, Client, Decision, Request, Rule, Verdict};
use crate::policy::{ClientRules, Native, Policy, RequestRef};
use crate::session::Session;
use crate::time::Millis;
use crate::verdicts::{CachedVerdict, Put};
use nervewire_codec::PublishRef;
use smallvec::SmallVec;
use std::sync::Arc;

/// Who is judged, by which policy, and what plugins said about the request in hand.
#[derive(Debug)]
pub(super) struct Judge {
    /// Slot and serial of the client's session; `None` at CONNECT.
    pub(super) session: Option<(u32, u64)>,
    pub(super) client: Arc<Client>,
    pub(super) policy: Arc<Policy>,
    pub(super) rules: Option<Arc<ClientRules>>,
    about: Option<Request>,
    /// The authorizer that was asked last.
    asked: usize,
    answered: SmallVec<[(usize, Decision); 2]>,
    /// An authorizer did not answer.
    failed: bool,
    /// Plugin time that the client has not been charged for.
    pub(super) spent_ns: u64,
    /// Not the client's rules are being asked for, but those of whoever had a message retained.
    pub(super) source: Option<Arc<Client>>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Judgement {
    Allowed,
    Denied,
    Ask(Call),
}

impl Judge {
    pub(super) fn new(
        session: Option<(u32, u64)>,
        client: Arc<Client>,
        policy: Arc<Policy>,
        rules: Option<Arc<ClientRules>>,
    ) -> Self {
        Self {
            session,
            client,
            policy,
            rules,
            about: None,
            asked: 0,
            answered: SmallVec::new(),
            failed: false,
            spent_ns: 0,
            source: None,
        }
    }

    /// Whether some authorizer failed to answer: what it decided by that need not be what it would have said.
    pub(super) fn has_failed(&self) -> bool {
        self.failed || self.rules.as_ref().is_some_and(|rules| rules.has_failed())
    }

    /// Answers about one request are none about the next.
    fn forget_unless_about(&mut self, request: &RequestRef<'_>) {
        if self.about.as_ref().is_some_and(|about| !about.is(request)) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.about = None;
        self.answered.clear();
    }

    fn ask_for_rules(&self) -> Call {
        Call::Rules {
            generation: self.policy.generation,
            client: self.client.clone(),
        }
    }

    fn ask(&mut self, authorizer: usize, request: &RequestRef<'_>) -> Call {
        // A copy: what a verdict is cached under must not keep the buffer alive that the packet was read into.
        let request = request.to_request();
        self.asked = authorizer;
        self.about = Some(request.clone());
        Call::Authorize {
            generation: self.policy.generation,
            authorizer,
            client: self.client.clone(),
            request,
        }
    }
}

impl Shard {
    /// A judge of what a session's client asks for, by the policy in force.
    pub(super) fn judge_of(&self, session: u32) -> Option<Judge> {
        let s = self.sessions.get(session as usize)?;
        let rules = self.fresh_rules(session).cloned();
        Some(Judge::new(
            Some((session, s.serial)),
            s.client.clone(),
            self.policy.clone(),
            rules,
        ))
    }

    /// The rules of a session, where they are of the policy in force and complete.
    pub(super) fn fresh_rules(&self, session: u32) -> Option<&Arc<ClientRules>> {
        if self.policy.authorizers.is_empty() {
            return Some(&self.no_rules);
        }
        self.current_rules(session)
    }

    /// What a session's authorizers said, unless the policy has changed since or one of them failed.
    pub(super) fn current_rules(&self, session: u32) -> Option<&Arc<ClientRules>> {
        let rules = self.sessions.get(session as usize)?.rules.as_ref()?;
        (rules.generation == self.policy.generation && !rules.has_failed()).then_some(rules)
    }

    /// Judges natively as far as possible.
    pub(super) fn judge(&mut self, now: Millis, judge: &mut Judge, request: &RequestRef<'_>) -> Judgement {
        self.judge_here(now, judge, request, &mut Elsewhere)
    }

    /// Judges as far as possible natively and by authorizers that answer at once.
    pub(super) fn judge_here(
        &mut self,
        now: Millis,
        judge: &mut Judge,
        request: &RequestRef<'_>,
        plugins: &mut dyn PluginsHere,
    ) -> Judgement {
        judge.forget_unless_about(request);
        loop {
            let authorizer = match self.judge_known(now, judge, request) {
                None => return Judgement::Ask(judge.ask_for_rules()),
                Some(Native::Decided(true)) => return Judgement::Allowed,
                Some(Native::Decided(false)) => return Judgement::Denied,
                Some(Native::Ask(authorizer)) => authorizer,
            };
            let generation = judge.policy.generation;
            let Some(answered) = plugins.authorize(generation, authorizer, &judge.client, request) else {
                return Judgement::Ask(judge.ask(authorizer, request));
            };
            judge.spent_ns += answered.spent_ns;
            judge.asked = authorizer;
            // What it was about is copied only where it is to be cached.
            let is_cached = answered.answer.is_ok_and(|verdict| verdict.cache_ms > 0);
            judge.about = is_cached.then(|| request.to_request());
            self.hear_verdict(now, judge, answered.answer);
        }
    }

    /// Judges by what is known already; `None`: not even the client's rules are.
    fn judge_known(&mut self, now: Millis, judge: &mut Judge, request: &RequestRef<'_>) -> Option<Native> {
        let rules = judge.rules.as_ref()?;
        let (session, client, policy) = (judge.session, &judge.client, &judge.policy);
        let answered = &mut judge.answered;
        let known = |authorizer| {
            let said = answered.iter().find(|(position, _)| *position == authorizer);
            if let Some((_, decision)) = said {
                return Some(*decision);
            }
            let cached = self.cached(now, session, client, policy.generation, authorizer, request)?;
            self.count_cache_hit(policy.generation, authorizer);
            // It holds for this request even where its time ends while another authorizer is asked.
            answered.push((authorizer, cached.decision));
            Some(cached.decision)
        };
        let native = rules.judge(policy, request, known);
        if let Native::Decided(allowed) = native {
            if self.shadowing.is_some() {
                let (rules, answered) = (rules.clone(), std::mem::take(&mut judge.answered));
                self.shadow_judged(now, judge, &rules, request, allowed, &answered);
            }
            judge.forget();
        }
        Some(native)
    }

    /// Takes the answer to what [`Shard::judge`] asked.
    pub(super) fn hear(&mut self, now: Millis, judge: &mut Judge, answer: Answer) {
        match answer {
            Answer::Rules(answers) => {
                if let Some(source) = judge.source.take() {
                    return self.hear_source(now, judge.policy.generation, source, answers);
                }
                let rules = self.compile_rules(judge.policy.generation, &judge.client.client_id, answers);
                if let Some(s) = self.judged_session(judge)
                    && s.rules
                        .as_ref()
                        .is_none_or(|known| known.generation <= rules.generation)
                {
                    s.rules = Some(rules.clone());
                }
                judge.rules = Some(rules);
            }
            Answer::Authorize(verdict) => self.hear_verdict(now, judge, verdict),
            Answer::Transform(_) | Answer::Authenticate(_) => {}
        }
    }

    fn hear_verdict(&mut self, now: Millis, judge: &mut Judge, verdict: Result<Verdict, CallFailed>) {
        let authorizer = judge.asked;
        let on_failure = judge
            .policy
            .authorizers
            .get(authorizer)
            .map(|a| a.on_failure)
            .unwrap_or_default();
        judge.failed |= verdict.is_err();
        let decision = verdict.map_or_else(|_| failed_decision(on_failure), |verdict| verdict.decision);
        judge.answered.push((authorizer, decision));
        if let Ok(verdict) = verdict
            && verdict.cache_ms > 0
        {
            self.cache(now, judge, &verdict);
        }
    }

    /// Keeps a verdict for as long as it says, under what it says that it depends on.
    fn cache(&mut self, now: Millis, judge: &Judge, verdict: &Verdict) {
        let (generation, authorizer) = (judge.policy.generation, judge.asked);
        let Some(request) = &judge.about else { return };
        let put = if !verdict.depends_on_client {
            let client = &judge.client;
            self.verdicts.put(generation, authorizer, client, request, verdict, now)
        } else if let Some(s) = self.judged_session(judge) {
            s.verdicts.put(generation, authorizer, request, verdict, now)
        } else {
            return;
        };
        self.counters.verdict_cache_cleared += u64::from(put == Put::OverBound);
    }

    /// The session that was judged, unless it ended or has become another identity's meanwhile.
    fn judged_session(&mut self, judge: &Judge) -> Option<&mut Session> {
        let (slot, serial) = judge.session?;
        let s = self.sessions.get_mut(slot as usize)?;
        (s.serial == serial && Arc::ptr_eq(&s.client, &judge.client)).then_some(s)
    }

    /// What an authorizer said to this request before, where that holds still.
    pub(super) fn cached(
        &self,
        now: Millis,
        session: Option<(u32, u64)>,
        client: &Arc<Client>,
        generation: u64,
        authorizer: usize,
        request: &RequestRef<'_>,
    ) -> Option<CachedVerdict> {
        let own = session.and_then(|(slot, serial)| {
            let s = self.sessions.get(slot as usize)?;
            let same = s.serial == serial && Arc::ptr_eq(&s.client, client);
            same.then(|| s.verdicts.get(generation, authorizer, request, now))?
        });
        own.or_else(|| self.verdicts.get(generation, authorizer, client, request, now))
    }

    fn count_cache_hit(&mut self, generation: u64, authorizer: usize) {
        if generation == self.policy.generation
            && let Some(hits) = self.cache_hits.get_mut(authorizer)
        {
            *hits += 1;
        }
    }

    /// How often each authorizer of the policy in force was spared a question since this was last asked, by position. To be asked
    /// before a policy is replaced.
    pub fn take_cache_hits(&mut self) -> Vec<u64> {
        let none = vec![0; self.policy.authorizers.len()];
        std::mem::replace(&mut self.cache_hits, none)
    }

    /// Compiles what authorizers answered; refused rules are logged and count as a failure. Clients with the same rules, one after
    /// the other, share them.
    pub(super) fn compile_rules(
        &mut self,
        generation: u64,
        client_id: &Arc<str>,
        answers: Vec<Result<Option<Vec<Rule>>, CallFailed>>,
    ) -> Arc<ClientRules> {
        let (rules, errors) = ClientRules::new(generation, answers);
        for (authorizer, error) in errors {
            let notice = Notice::RulesRefused {
                authorizer,
                client_id: client_id.clone(),
                error: error.to_string(),
            };
            self.notices.push_back(notice);
        }
        if *self.latest_rules != rules {
            self.latest_rules = Arc::new(rules);
        }
        self.latest_rules.clone()
    }
}

/// The request to publish a message that lies where it was read.
pub(super) fn request_of<'a>(publish: &'a PublishRef<'_>) -> RequestRef<'a> {
    RequestRef {
        action: Action::Publish,
        topic: &publish.topic,
        qos: publish.qos,
        retain: publish.retain,
    }
}

/// The request to publish a message.
pub(super) fn publish_request(message: &crate::hook::AppMessage) -> RequestRef<'_> {
    RequestRef {
        action: Action::Publish,
        topic: &message.topic,
        qos: message.qos,
        retain: message.retain,
    }
}
