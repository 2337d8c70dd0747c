//! Plugins as tests script them.

use super::super::{Answer, Answered, Batch, Call, PluginsHere};
use super::scene::text;
use super::{Broker, Script};
use crate::fold::DefaultDecision;
use crate::hook::{
    Actions, AppMessageRef, CallFailed, Client, Decision, Effect, OnFailure, Request, Rule, Transformation,
    Transformations, Verdict,
};
use crate::policy::{Authorizer, Policy, RequestRef, Transform};
use nervewire_codec::QoS;
use std::sync::Arc;

/// What a scripted authorizer answers for its rules.
pub(super) type Rules = Result<Option<Vec<Rule>>, CallFailed>;

/// A policy of so many authorizers and transforms that are concerned by everything.
pub(super) fn policy(generation: u64, authorizers: usize, transforms: usize) -> Policy {
    Policy {
        generation,
        authorizers: vec![Authorizer::default(); authorizers],
        transforms: vec![Transform::default(); transforms],
        default: DefaultDecision::Deny,
        ..Policy::default()
    }
}

pub(super) fn skipping(mut policy: Policy) -> Policy {
    policy
        .authorizers
        .iter_mut()
        .for_each(|a| a.on_failure = OnFailure::Skip);
    policy
        .transforms
        .iter_mut()
        .for_each(|t| t.on_failure = OnFailure::Skip);
    policy
}

pub(super) fn granted(mut policy: Policy, filter: &str) -> Policy {
    policy
        .transforms
        .iter_mut()
        .for_each(|t| t.publish_grants.push(text(filter)));
    policy
}

/// A rule about every action.
pub(super) fn rule(effect: Effect, topic_filter: &str) -> Rule {
    let actions = Actions {
        publish: true,
        subscribe: true,
        deliver: false,
    };
    Rule {
        effect,
        actions,
        topic_filter: topic_filter.into(),
        max_qos: QoS::ExactlyOnce,
        retain: None,
    }
}

pub(super) fn deliver_rule(effect: Effect, topic_filter: &str) -> Rule {
    Rule {
        actions: Actions {
            publish: false,
            subscribe: false,
            deliver: true,
        },
        ..rule(effect, topic_filter)
    }
}

pub(super) fn verdict(decision: Decision, cache_ms: u32) -> Answer {
    Answer::Authorize(Ok(Verdict {
        decision,
        cache_ms,
        depends_on_client: true,
        depends_on_user: true,
        depends_on_topic: true,
    }))
}

/// The script's plugins, called on a shard's thread, unless they take their time.
pub(super) struct Here<'a> {
    /// So many of each kind are.
    pub(super) here: usize,
    pub(super) script: &'a mut Script,
    pub(super) calls: &'a mut Vec<Call>,
    pub(super) call_ns: u64,
}

impl Here<'_> {
    fn ask(&mut self, position: usize, call: Call) -> Option<Answer> {
        if position >= self.here {
            return None;
        }
        let answer = (self.script)(&call)?;
        self.calls.push(call);
        Some(answer)
    }

    fn answered<T>(&self, answer: Result<T, CallFailed>) -> Option<Answered<T>> {
        Some(Answered {
            answer,
            spent_ns: self.call_ns,
        })
    }
}

impl PluginsHere for Here<'_> {
    fn authorize(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        request: &RequestRef<'_>,
    ) -> Option<Answered<Verdict>> {
        let call = Call::Authorize {
            generation,
            authorizer,
            client: Arc::new(client.clone()),
            request: request.to_request(),
        };
        match self.ask(authorizer, call)? {
            Answer::Authorize(answer) => self.answered(answer),
            other => panic!("not an authorizer's: {other:?}"),
        }
    }

    fn transform(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        message: &AppMessageRef<'_>,
    ) -> Option<Answered<Transformation>> {
        let call = Call::Transform {
            generation,
            transform,
            client: Arc::new(client.clone()),
            message: message.to_message(),
        };
        match self.ask(transform, call)? {
            Answer::Transform(answer) => self.answered(answer),
            other => panic!("not a transform's: {other:?}"),
        }
    }

    fn authorize_all(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        requests: &[RequestRef<'_>],
    ) -> Batch<Vec<Verdict>> {
        self.all(requests, |here, request| {
            here.authorize(generation, authorizer, client, request)
        })
    }

    fn transform_all(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        messages: &[AppMessageRef<'_>],
    ) -> Batch<Transformations> {
        self.all(messages, |here, message| {
            here.transform(generation, transform, client, message)
        })
    }
}

impl Here<'_> {
    /// Where one question fails, all do.
    fn all<Q, T, A: Default + FromIterator<T>>(
        &mut self,
        questions: &[Q],
        ask: impl Fn(&mut Self, &Q) -> Option<Answered<T>>,
    ) -> Batch<A> {
        let answers: Option<A> = questions
            .iter()
            .map(|question| ask(self, question)?.answer.ok())
            .collect();
        Batch {
            answers: answers.unwrap_or_default(),
            spent_ns: self.call_ns,
        }
    }
}

impl Broker {
    /// Every authorizer answers these rules to everybody; verdicts come from `judge`.
    pub(super) fn authorize(
        &mut self,
        rules: impl Fn() -> Vec<Rules> + 'static,
        judge: impl Fn(usize, &Request) -> Answer + 'static,
    ) {
        self.script = Box::new(move |call| {
            Some(match call {
                Call::Rules { .. } => Answer::Rules(rules()),
                Call::Authorize {
                    authorizer, request, ..
                } => judge(*authorizer, request),
                other => panic!("not an authorizer's: {other:?}"),
            })
        });
    }

    /// One authorizer with these rules, which never needs to be asked.
    pub(super) fn rules(&mut self, rules: Vec<Rule>) {
        self.authorize(
            move || vec![Ok(Some(rules.clone()))],
            |_, request| panic!("asked about {request:?}"),
        );
    }

    /// Transforms answer by position and message.
    pub(super) fn transform(
        &mut self,
        answer: impl Fn(usize, &crate::hook::AppMessage) -> Result<Transformation, CallFailed> + 'static,
    ) {
        self.script = Box::new(move |call| {
            Some(match call {
                Call::Rules { .. } => Answer::Rules(vec![Ok(Some(vec![rule(Effect::Allow, "#")]))]),
                Call::Transform { transform, message, .. } => Answer::Transform(answer(*transform, message)),
                other => panic!("not a transform's: {other:?}"),
            })
        });
    }

    /// Plugins take their time.
    pub(super) fn hold_calls(&mut self) {
        self.script = Box::new(|_| None);
    }

    pub(super) fn count_calls(&self, wanted: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| wanted(call)).count()
    }

    pub(super) fn rule_calls(&self) -> usize {
        self.count_calls(|call| matches!(call, Call::Rules { .. }))
    }

    pub(super) fn verdict_calls(&self) -> usize {
        self.count_calls(|call| matches!(call, Call::Authorize { .. }))
    }
}
