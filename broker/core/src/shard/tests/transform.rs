//! Transforms of accepted messages.

use super::super::Answer;
use super::scene::{client, text, v5};
use super::script::{granted, policy, rule, skipping, verdict};
use super::{Broker, each, each_version};
use crate::hook::{AppMessage, CallFailed, Decision, Effect, MAX_EMITTED_MESSAGES, Transformation};
use crate::limits::MAX_MESSAGES_PER_PUBLISH;
use crate::policy::Transform;
use nervewire_codec::{ReasonCode, Version};

const OK: Option<ReasonCode> = Some(ReasonCode::Success);

fn with_payload(message: &AppMessage, payload: String) -> AppMessage {
    AppMessage {
        payload: payload.into(),
        ..message.clone()
    }
}

fn to(topic: &str, message: &AppMessage) -> AppMessage {
    AppMessage {
        topic: text(topic),
        ..message.clone()
    }
}

fn appended(message: &AppMessage, suffix: &str) -> AppMessage {
    let payload = String::from_utf8(message.payload.to_vec()).expect("text") + suffix;
    with_payload(message, payload)
}

/// Which payload topic `t` gets at each QoS after "x" was published to it, and the reasons.
fn check(
    version: Version,
    b: &mut Broker,
    answer: impl Fn(usize, &AppMessage) -> Result<Transformation, CallFailed> + 'static,
    expected: (&[&str], ReasonCode),
) {
    b.transform(answer);
    let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
    b.subscribe(s, "t", 2);
    for level in 0..3 {
        let reason = b.publish(p, "t", level, "x");
        let told = if version == Version::V5 {
            expected.1
        } else {
            ReasonCode::Success
        };
        assert_eq!(reason, (level > 0).then_some(told));
        assert_eq!(b.payloads(s), expected.0);
    }
}

#[test]
fn each_answer_does_what_it_says_at_every_qos() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 1));
        check(
            version,
            b,
            |_, _| Ok(Transformation::Pass),
            (&["x"], ReasonCode::Success),
        );
        check(
            version,
            b,
            |_, m| Ok(Transformation::Replace(appended(m, "y"))),
            (&["xy"], ReasonCode::Success),
        );
        let emit = |_, m: &AppMessage| Ok(Transformation::Emit(vec![appended(m, "1"), appended(m, "2")]));
        check(version, b, emit, (&["x1", "x2"], ReasonCode::Success));
        check(version, b, |_, _| Ok(Transformation::Drop), (&[], ReasonCode::Success));
        assert_eq!(b.total(|c| c.transform_dropped), 3);
        let reject = |_, _: &AppMessage| Ok(Transformation::Reject(ReasonCode::PayloadFormatInvalid));
        check(version, b, reject, (&[], ReasonCode::PayloadFormatInvalid));
        assert_eq!(b.total(|c| c.transform_rejected), 3);
    });
}

#[test]
fn a_failing_transform_rejects_or_is_skipped_as_configured() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 1));
        check(
            version,
            b,
            |_, _| Err(CallFailed),
            (&[], ReasonCode::ImplementationSpecificError),
        );
        b.set_policy(skipping(policy(2, 1, 1)));
        check(version, b, |_, _| Err(CallFailed), (&["x"], ReasonCode::Success));
    });
}

#[test]
fn transforms_run_in_order_and_emitted_messages_go_on_with_the_next() {
    each(|b| {
        b.set_policy(policy(1, 1, 3));
        let answer = |position, m: &AppMessage| {
            Ok(match position {
                1 => Transformation::Emit(vec![appended(m, "b"), appended(m, "B")]),
                n => Transformation::Replace(appended(m, &n.to_string())),
            })
        };
        check(Version::V5, b, answer, (&["x0b2", "x0B2"], ReasonCode::Success));
    });
}

#[test]
fn a_transform_is_called_only_for_its_topics() {
    each(|b| {
        let mut policy = policy(1, 0, 1);
        policy.default = crate::fold::DefaultDecision::Allow;
        policy.transforms[0] = Transform {
            topics: Some(vec![text("mine/#")]),
            ..Transform::default()
        };
        b.set_policy(policy);
        b.transform(|_, _| Ok(Transformation::Drop));
        let c = b.connect(v5("a"));
        b.subscribe(c, "#", 1);
        b.publish(c, "mine/x", 1, "x");
        b.publish(c, "other", 1, "y");
        assert_eq!(b.payloads(c), ["y"]);
        assert_eq!(b.calls.len(), 1);
    });
}

#[test]
fn a_changed_topic_needs_a_grant_or_the_clients_own_permission() {
    each(|b| {
        let moved = |target: &'static str| move |_: usize, m: &AppMessage| Ok(Transformation::Replace(to(target, m)));
        let setup = |b: &mut Broker, target: &'static str| {
            let transform = moved(target);
            b.script = Box::new(move |call| {
                Some(match call {
                    super::Call::Rules { .. } => Answer::Rules(vec![Ok(Some(vec![
                        rule(Effect::Deny, "secret"),
                        rule(Effect::Allow, "#"),
                    ]))]),
                    super::Call::Transform {
                        transform: n, message, ..
                    } => Answer::Transform(transform(*n, message)),
                    other => panic!("{other:?}"),
                })
            });
        };
        b.set_policy(policy(1, 1, 1));
        setup(b, "free");
        let p = b.connect(v5("pub"));
        b.subscribe(p, "free", 1);
        assert_eq!(b.publish(p, "t", 1, "x"), OK);
        assert_eq!(b.payloads(p), ["x"]);
        setup(b, "secret");
        assert_eq!(b.publish(p, "t", 1, "x"), Some(ReasonCode::NotAuthorized));
        b.set_policy(granted(policy(2, 1, 1), "secret"));
        assert_eq!(b.publish(p, "t", 1, "x"), OK);
    });
}

#[test]
fn an_emitted_message_that_is_not_allowed_is_left_out() {
    each(|b| {
        b.set_policy(policy(1, 1, 1));
        b.script = Box::new(|call| {
            Some(match call {
                super::Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
                super::Call::Authorize { request, .. } => verdict(
                    if &*request.topic == "secret" {
                        Decision::Deny
                    } else {
                        Decision::Allow
                    },
                    0,
                ),
                super::Call::Transform { message, .. } => Answer::Transform(Ok(Transformation::Emit(vec![
                    to("secret", message),
                    to("open", message),
                ]))),
                other => panic!("{other:?}"),
            })
        });
        let p = b.connect(v5("pub"));
        b.subscribe(p, "open", 1);
        assert_eq!(b.publish(p, "t", 1, "x"), OK);
        assert_eq!(b.payloads(p), ["x"]);
        assert_eq!(b.total(|c| c.denied_publish), 1);
    });
}

#[test]
fn what_one_publish_may_become_is_bounded() {
    each(|b| {
        b.set_policy(policy(1, 1, 3));
        b.transform(|_, m| Ok(Transformation::Emit(vec![m.clone(); MAX_EMITTED_MESSAGES])));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 0);
        assert_eq!(b.publish(p, "t", 1, "x"), OK);
        assert_eq!(b.messages(s).len(), MAX_MESSAGES_PER_PUBLISH);
        assert!(b.total(|c| c.emitted_over_bound) > 0);
        let calls = b.count_calls(|call| matches!(call, super::Call::Transform { .. }));
        assert!(calls <= 1 + 16 + 256, "{calls}");
    });
}

#[test]
fn one_call_emits_no_more_than_its_bound() {
    each(|b| {
        b.set_policy(policy(1, 1, 1));
        b.transform(|_, m| Ok(Transformation::Emit(vec![m.clone(); MAX_EMITTED_MESSAGES + 3])));
        let p = b.connect(v5("pub"));
        b.subscribe(p, "t", 0);
        b.publish(p, "t", 1, "x");
        assert_eq!(b.messages(p).len(), MAX_EMITTED_MESSAGES);
        assert_eq!(b.total(|c| c.emitted_over_bound), 3);
    });
}

#[test]
fn a_rejection_of_one_emitted_message_rejects_them_all() {
    each(|b| {
        b.set_policy(policy(1, 1, 2));
        let answer = |position, m: &AppMessage| {
            Ok(match (position, &m.payload[..]) {
                (0, _) => Transformation::Emit(vec![appended(m, "1"), appended(m, "2")]),
                (_, b"x2") => Transformation::Reject(ReasonCode::QuotaExceeded),
                _ => Transformation::Pass,
            })
        };
        check(Version::V5, b, answer, (&[], ReasonCode::QuotaExceeded));
    });
}

#[test]
fn a_retained_message_is_stored_transformed() {
    each(|b| {
        b.set_policy(policy(1, 1, 1));
        b.transform(|_, m| Ok(Transformation::Replace(appended(m, "!"))));
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "t", 1, "x");
        b.subscribe(p, "t", 1);
        assert_eq!(b.payloads(p), ["x!"]);
    });
}

#[test]
fn a_transform_may_change_the_expiry_and_other_properties() {
    each(|b| {
        b.set_policy(policy(1, 1, 1));
        b.transform(|_, m| {
            let mut message = m.clone();
            let properties = nervewire_codec::Properties {
                message_expiry_interval: Some(5),
                content_type: Some(text("new")),
                ..Default::default()
            };
            message.properties = Some(std::sync::Arc::new(properties));
            Ok(Transformation::Replace(message))
        });
        let p = b.connect(v5("pub"));
        b.subscribe(p, "t", 1);
        b.publish(p, "t", 1, "x");
        let messages = b.messages(p);
        let properties = messages[0].properties.as_ref().unwrap();
        assert_eq!(properties.message_expiry_interval, Some(5));
        assert_eq!(properties.content_type.as_deref(), Some("new"));
    });
}

#[test]
fn a_message_that_keeps_its_topic_is_not_authorized_again() {
    each(|b| {
        b.set_policy(policy(1, 1, 1));
        b.script = Box::new(|call| {
            Some(match call {
                super::Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
                super::Call::Authorize { .. } => verdict(Decision::Allow, 0),
                super::Call::Transform { message, .. } => {
                    Answer::Transform(Ok(Transformation::Emit(vec![appended(message, "1"), to("u", message)])))
                }
                other => panic!("{other:?}"),
            })
        });
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "x");
        assert_eq!(b.verdict_calls(), 2, "the message, and the one with another topic");
    });
}
