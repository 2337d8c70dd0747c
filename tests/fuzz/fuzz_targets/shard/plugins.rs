//! What plugins answer.

use crate::operations::Operations;
use crate::world::{TOPICS, text};
use bytes::Bytes;
use nervewire_codec::{QoS, ReasonCode};
use nervewire_core::fold::DefaultDecision;
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::hook::*;
use nervewire_core::policy::{Authorizer, Policy, RequestRef, Transform};
use nervewire_core::shard::{Answer, Answered, Batch, Call, PluginsHere};
use std::sync::Arc;

pub(crate) fn policy(generation: u64, has_plugins: bool) -> Arc<Policy> {
    let count = usize::from(has_plugins);
    Arc::new(Policy {
        generation,
        default: DefaultDecision::Allow,
        authorizers: vec![
            Authorizer {
                name: "authorizer".into(),
                ..Authorizer::default()
            };
            count
        ],
        transforms: vec![
            Transform {
                name: "transform".into(),
                ..Transform::default()
            };
            count
        ],
        ..Policy::default()
    })
}

/// Called on the shard's own thread, most of the time.
pub(crate) struct Here<'o, 'd>(pub(crate) &'o mut Operations<'d>);

impl Here<'_, '_> {
    fn answer(&mut self, call: &Call) -> Option<(Answer, u64)> {
        if self.0.byte() % 8 == 7 {
            return None;
        }
        let answer = answer_to(call, self.0);
        Some((answer, self.0.pick(&[0, 1_000, 100_000_000])))
    }
}

impl PluginsHere for Here<'_, '_> {
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
        match self.answer(&call)? {
            (Answer::Authorize(answer), spent_ns) => Some(Answered { answer, spent_ns }),
            (other, _) => panic!("{other:?}"),
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
        match self.answer(&call)? {
            (Answer::Transform(answer), spent_ns) => Some(Answered { answer, spent_ns }),
            (other, _) => panic!("{other:?}"),
        }
    }

    fn authorize_all(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        requests: &[RequestRef<'_>],
    ) -> Batch<Vec<Verdict>> {
        let one = |here: &mut Self, request: &RequestRef<'_>| here.authorize(generation, authorizer, client, request);
        self.all(requests, one)
    }

    fn transform_all(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        messages: &[AppMessageRef<'_>],
    ) -> Batch<Transformations> {
        let one = |here: &mut Self, message: &AppMessageRef<'_>| here.transform(generation, transform, client, message);
        let batch = self.all(messages, one);
        Batch {
            answers: batch.answers.into_iter().collect(),
            spent_ns: batch.spent_ns,
        }
    }
}

impl Here<'_, '_> {
    /// Where one question has no answer, none has.
    fn all<Q, T>(&mut self, questions: &[Q], ask: impl Fn(&mut Self, &Q) -> Option<Answered<T>>) -> Batch<Vec<T>> {
        let mut batch: Batch<Vec<T>> = Batch::default();
        for question in questions {
            match ask(self, question).map(|answered| (answered.answer, answered.spent_ns)) {
                Some((Ok(answer), spent_ns)) => {
                    batch.answers.push(answer);
                    batch.spent_ns += spent_ns;
                }
                _ => batch.answers.clear(),
            }
        }
        if batch.answers.len() < questions.len() {
            batch.answers.clear();
        }
        batch
    }
}

pub(crate) fn answer_to(call: &Call, operations: &mut Operations<'_>) -> Answer {
    let kind = operations.byte();
    let is_failed = kind % 8 == 7;
    match call {
        Call::Rules { .. } => {
            let rule = |effect, filter: &str| Rule {
                effect,
                actions: Actions {
                    publish: true,
                    subscribe: true,
                    deliver: kind & 64 != 0,
                },
                topic_filter: filter.to_owned(),
                max_qos: QoS::ExactlyOnce,
                retain: None,
            };
            let rules = match kind % 4 {
                0 => Some(vec![rule(Effect::Allow, "#"), rule(Effect::Allow, "$d")]),
                1 => Some(vec![rule(Effect::Deny, "t/u"), rule(Effect::Ask, "#")]),
                2 => Some(vec![rule(Effect::Ask, "t/#")]),
                _ => None,
            };
            Answer::Rules(vec![if is_failed { Err(CallFailed) } else { Ok(rules) }])
        }
        Call::Authorize { .. } if is_failed => Answer::Authorize(Err(CallFailed)),
        Call::Authorize { .. } => Answer::Authorize(Ok(Verdict {
            decision: [Decision::Allow, Decision::Deny, Decision::Abstain][usize::from(kind) % 3],
            cache_ms: if kind & 16 != 0 { 1_000 } else { 0 },
            depends_on_client: kind & 32 != 0,
            depends_on_user: false,
            depends_on_topic: kind & 64 != 0,
        })),
        Call::Transform { .. } if is_failed => Answer::Transform(Err(CallFailed)),
        Call::Transform { message, .. } => Answer::Transform(Ok(match kind % 6 {
            0 | 1 => Transformation::Pass,
            2 => Transformation::Replace(AppMessage {
                topic: text(TOPICS[usize::from(kind / 6) % 4]),
                ..message.clone()
            }),
            // Not the same message any more.
            3 => Transformation::Emit(vec![
                AppMessage {
                    payload: Bytes::from_static(b"many"),
                    ..message.clone()
                };
                3
            ]),
            4 => Transformation::Drop,
            _ => Transformation::Reject(ReasonCode::NotAuthorized),
        })),
        Call::Authenticate { .. } => Answer::Authenticate(ChainOutcome {
            answer: Authentication::Abstain,
            authenticator: 0,
            failed: false,
        }),
    }
}
