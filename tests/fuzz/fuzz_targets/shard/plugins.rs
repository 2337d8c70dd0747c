//! What plugins answer.

use crate::operations::Operations;
use crate::world::{TOPICS, text};
use bytes::Bytes;
use nervewire_codec::{QoS, ReasonCode};
use nervewire_core::fold::DefaultDecision;
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::hook::*;
use nervewire_core::policy::{Authorizer, Policy, Transform};
use nervewire_core::shard::{Answer, Call};
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
