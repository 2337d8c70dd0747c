//! Authorization: rules, verdicts, their cache, generations, failures.

use super::super::Answer;
use super::scene::{client, filter, payloads, publish, text, v5};
use super::script::{deliver_rule, policy, rule, skipping, verdict};
use super::{each, each_version};
use crate::fold::DefaultDecision;
use crate::hook::{Action, Actions, CallFailed, Decision, Effect, Rule};
use crate::policy::{Authorizer, Policy};
use nervewire_codec::{ReasonCode, Version};
use std::collections::BTreeSet;
use std::sync::Arc;

const DENIED: Option<ReasonCode> = Some(ReasonCode::NotAuthorized);
const OK: Option<ReasonCode> = Some(ReasonCode::Success);

#[test]
fn a_forbidden_publish_is_refused_and_reaches_nobody() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Deny, "secret/#"), rule(Effect::Allow, "#")]);
        let c = b.connect(client(version, "a"));
        b.subscribe(c, "+", 2);
        b.subscribe(c, "other/#", 2);
        // 3.1.1 has no reason: acknowledged, counted, delivered to nobody.
        let denied = if version == Version::V5 { DENIED } else { OK };
        assert_eq!(b.publish(c, "secret/x", 1, "x"), denied);
        assert_eq!(b.publish(c, "secret/x", 2, "x"), denied);
        assert_eq!(b.publish(c, "secret/x", 0, "x"), None);
        assert_eq!(b.publish(c, "other/x", 1, "y"), OK);
        assert_eq!(b.payloads(c), ["y"]);
        assert_eq!(b.total(|c| c.denied_publish), 3);
        assert_eq!(b.verdict_calls(), 0, "rules are evaluated natively");
    });
}

#[test]
fn a_refused_qos_2_message_leaves_its_identifier_free() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Deny, "no"), rule(Effect::Allow, "#")]);
        let c = b.connect(v5("a"));
        b.subscribe(c, "yes", 2);
        let packet = |topic| nervewire_codec::Publish {
            packet_id: Some(super::scene::id(5)),
            ..publish(topic, 2, topic)
        };
        assert_eq!(b.publish_packet(c, packet("no")), DENIED);
        assert_eq!(b.publish_packet(c, packet("yes")), OK);
        assert_eq!(b.payloads(c), ["yes"]);
    });
}

#[test]
fn subscribe_is_denied_for_one_filter_alone() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Deny, "secret/#"), rule(Effect::Allow, "#")]);
        let c = b.connect(client(version, "a"));
        let filters = vec![
            filter("a", 1),
            filter("secret/x", 1),
            filter("$share/g/secret/y", 0),
            filter("b", 0),
        ];
        let reasons = b.subscribe_all(c, filters, None);
        let no = if version == Version::V5 {
            ReasonCode::NotAuthorized
        } else {
            ReasonCode::UnspecifiedError
        };
        assert_eq!(reasons, [ReasonCode::GrantedQoS1, no, no, ReasonCode::Success]);
        assert_eq!(b.total(|c| c.denied_subscribe), 2);
    });
}

#[test]
fn what_no_authorizer_decides_follows_the_default() {
    each(|b| {
        for (default, expected) in [(DefaultDecision::Deny, DENIED), (DefaultDecision::Allow, OK)] {
            b.set_policy(Policy {
                default,
                ..policy(1, 1, 0)
            });
            b.rules(Vec::new());
            let c = b.connect(v5("a"));
            assert_eq!(b.publish(c, "t", 1, "x"), expected);
        }
    });
}

#[test]
fn an_authorizer_without_rules_is_asked_each_time() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(
            || vec![Ok(None)],
            |_, request| {
                verdict(
                    if &*request.topic == "no" {
                        Decision::Deny
                    } else {
                        Decision::Allow
                    },
                    0,
                )
            },
        );
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "yes", 1, "x"), OK);
        assert_eq!(b.publish(c, "yes", 1, "x"), OK);
        assert_eq!(b.publish(c, "no", 1, "x"), DENIED);
        assert_eq!(b.subscribe(c, "no", 1), ReasonCode::NotAuthorized);
        assert_eq!(b.verdict_calls(), 4);
    });
}

#[test]
fn a_rule_may_ask() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(
            || vec![Ok(Some(vec![rule(Effect::Ask, "ask/#"), rule(Effect::Allow, "#")]))],
            |_, _| verdict(Decision::Deny, 0),
        );
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "free", 1, "x"), OK);
        assert_eq!(b.publish(c, "ask/x", 1, "x"), DENIED);
        assert_eq!(b.verdict_calls(), 1);
    });
}

#[test]
fn every_authorizer_is_heard_and_a_deny_wins() {
    each(|b| {
        b.set_policy(policy(1, 3, 0));
        b.authorize(
            || vec![Ok(None), Ok(Some(vec![rule(Effect::Allow, "#")])), Ok(None)],
            |position, request| match (position, &*request.topic) {
                (0, "first") | (2, "last") => verdict(Decision::Deny, 0),
                _ => verdict(Decision::Abstain, 0),
            },
        );
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        assert_eq!(b.verdict_calls(), 2);
        assert_eq!(b.publish(c, "first", 1, "x"), DENIED);
        assert_eq!(b.verdict_calls(), 3, "nobody is asked after a deny");
        assert_eq!(b.publish(c, "last", 1, "x"), DENIED);
    });
}

#[test]
fn an_authorizer_is_heard_only_about_its_topics() {
    each(|b| {
        let mut policy = policy(1, 1, 0);
        policy.authorizers[0] = Authorizer {
            topics: Some(vec![text("mine/#")]),
            ..Authorizer::default()
        };
        policy.default = DefaultDecision::Allow;
        b.set_policy(policy);
        b.rules(vec![rule(Effect::Deny, "#")]);
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "other", 1, "x"), OK);
        assert_eq!(b.publish(c, "mine/x", 1, "x"), DENIED);
        assert_eq!(b.subscribe(c, "+/x", 1), ReasonCode::NotAuthorized, "they overlap");
    });
}

#[test]
fn a_verdict_is_cached_for_as_long_as_it_says() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(|| vec![Ok(None)], |_, _| verdict(Decision::Allow, 1_000));
        let c = b.connect(v5("a"));
        for _ in 0..3 {
            b.publish(c, "t", 1, "x");
        }
        assert_eq!(b.verdict_calls(), 1);
        b.publish(c, "u", 1, "x");
        b.publish(c, "t", 0, "x");
        assert_eq!(b.verdict_calls(), 3, "another topic, another QoS");
        b.advance(1_000);
        b.publish(c, "t", 1, "x");
        assert_eq!(b.verdict_calls(), 4);
        b.set_policy(policy(2, 1, 0));
        b.publish(c, "t", 1, "x");
        assert_eq!(b.verdict_calls(), 5, "another generation");
    });
}

#[test]
fn the_verdict_cache_is_bounded() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(|| vec![Ok(None)], |_, _| verdict(Decision::Allow, 1_000_000));
        let c = b.connect(v5("a"));
        for n in 0..=crate::limits::MAX_CACHED_VERDICTS {
            b.publish(c, &n.to_string(), 1, "x");
        }
        assert_eq!(b.total(|c| c.verdict_cache_cleared), 1);
    });
}

#[test]
fn rules_are_asked_once_per_connection_and_again_when_the_policy_changes() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Allow, "#")]);
        let c = b.connect(v5("a").lasting());
        b.subscribe(c, "t", 1);
        b.publish(c, "t", 1, "x");
        assert_eq!(b.rule_calls(), 1);
        b.set_policy(policy(2, 1, 0));
        b.rules(vec![rule(Effect::Deny, "#")]);
        assert_eq!(b.rule_calls(), 1, "not before they are needed");
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.rule_calls(), 2);
        assert_eq!(b.subscribe(c, "t", 1), ReasonCode::NotAuthorized);
        assert_eq!(b.rule_calls(), 2);
        b.set_policy(policy(3, 1, 0));
        b.rules(vec![rule(Effect::Allow, "#")]);
        assert_eq!(b.subscribe(c, "t", 1), ReasonCode::GrantedQoS1);
        assert_eq!(b.rule_calls(), 3);
        b.lose(c);
        b.connect(v5("a").lasting());
        assert_eq!(b.rule_calls(), 4);
    });
}

#[test]
fn clients_with_the_same_rules_share_them() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        for (effect, ids) in [(Effect::Allow, 0..6), (Effect::Deny, 6..12)] {
            b.rules(vec![rule(effect, "#")]);
            let clients: Vec<_> = ids.map(|id| b.connect(v5(&id.to_string()))).collect();
            let expected = if effect == Effect::Allow { OK } else { DENIED };
            clients
                .iter()
                .for_each(|c| assert_eq!(b.publish(*c, "t", 1, "x"), expected));
        }
        for shard in &b.shards {
            let rules = shard.sessions.iter().filter_map(|(_, session)| session.rules.as_ref());
            let kept: BTreeSet<_> = rules.map(Arc::as_ptr).collect();
            assert!(kept.len() <= 2, "{} for two kinds of clients", kept.len());
        }
    });
}

#[test]
fn deliveries_are_judged_by_the_rules_of_this_moment() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Allow, "#")]);
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe(s, "#", 1);
        b.publish(p, "a/secret", 1, "before");
        b.set_policy(policy(2, 1, 0));
        b.rules(vec![deliver_rule(Effect::Deny, "+/secret"), rule(Effect::Allow, "#")]);
        for level in 0..3 {
            b.publish(p, "a/secret", level, "no");
            b.publish(p, "a/open", level, "yes");
        }
        assert_eq!(b.payloads(s), ["before", "yes", "yes", "yes"]);
        assert_eq!((b.total(|c| c.denied_deliver), b.total(|c| c.dropped.denied)), (3, 3));
    });
}

#[test]
fn what_waited_is_judged_when_it_is_sent() {
    each(|b| {
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "#", 1);
        b.lose(s);
        let p = b.connect(v5("pub"));
        b.publish(p, "secret", 1, "no");
        b.publish_retained(p, "open", 1, "yes");
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Deny, "secret"), rule(Effect::Allow, "#")]);
        let s = b.connect(v5("s").lasting());
        assert_eq!(b.payloads(s), ["yes"]);
        assert_eq!(b.total(|c| c.queued_messages), 0);
    });
}

#[test]
fn retained_messages_are_judged_when_they_are_sent() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![deliver_rule(Effect::Deny, "secret"), rule(Effect::Allow, "#")]);
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "secret", 1, "no");
        b.publish_retained(p, "open", 1, "yes");
        b.subscribe(p, "#", 1);
        assert_eq!(b.payloads(p), ["yes"]);
    });
}

#[test]
fn a_rule_may_ask_about_deliveries() {
    each(|b| {
        b.set_policy(policy(1, 2, 0));
        b.authorize(
            || vec![Ok(Some(vec![deliver_rule(Effect::Ask, "#"), rule(Effect::Allow, "#")])); 2],
            |position, request| {
                assert_eq!(request.action, Action::Deliver);
                verdict(
                    if position == 1 && &*request.topic == "no" {
                        Decision::Deny
                    } else {
                        Decision::Abstain
                    },
                    0,
                )
            },
        );
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "#", 1);
        b.publish(p, "no", 1, "no");
        b.publish(p, "yes", 1, "1");
        b.publish(p, "yes", 1, "2");
        assert_eq!(b.payloads(s), ["1", "2"]);
        assert_eq!(b.verdict_calls(), 6, "both authorizers about each of three deliveries");
    });
}

#[test]
fn failing_authorizers_deny_or_are_skipped_as_configured() {
    each(|b| {
        let failing = |b: &mut super::Broker| {
            b.authorize(
                || vec![Ok(None), Ok(Some(vec![rule(Effect::Allow, "#")]))],
                |_, _| Answer::Authorize(Err(CallFailed)),
            );
        };
        b.set_policy(policy(1, 2, 0));
        failing(b);
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.subscribe(c, "t", 1), ReasonCode::NotAuthorized);
        b.set_policy(skipping(policy(2, 2, 0)));
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        assert_eq!(b.subscribe(c, "t", 1), ReasonCode::GrantedQoS1);
    });
}

#[test]
fn rules_that_failed_are_asked_for_again() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(|| vec![Err(CallFailed)], |_, _| panic!("nobody to ask"));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        assert_eq!(b.publish(p, "t", 1, "x"), DENIED);
        b.rules(vec![rule(Effect::Allow, "#")]);
        assert_eq!(b.subscribe(s, "t", 1), ReasonCode::GrantedQoS1);
        assert_eq!(b.publish(p, "t", 1, "y"), OK);
        assert_eq!(b.payloads(s), ["y"]);
    });
}

#[test]
fn deliveries_stop_while_rules_fail_unless_they_are_skipped() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        let failing = |b: &mut super::Broker| {
            // The publisher's authorizer allows; the receiver's rules fail.
            b.script = Box::new(|call| match call {
                super::Call::Rules { client, .. } if *client.client_id == *"pub" => {
                    Some(Answer::Rules(vec![Ok(Some(vec![rule(Effect::Allow, "#")]))]))
                }
                super::Call::Rules { .. } => Some(Answer::Rules(vec![Err(CallFailed)])),
                other => panic!("{other:?}"),
            });
        };
        failing(b);
        b.set_policy(policy(1, 1, 0));
        b.publish(p, "t", 1, "denied");
        assert!(b.payloads(s).is_empty());
        b.rules(vec![rule(Effect::Allow, "#")]);
        b.publish(p, "t", 1, "asked again");
        assert_eq!(b.payloads(s), ["asked again"]);
        failing(b);
        b.set_policy(Policy {
            default: DefaultDecision::Allow,
            ..skipping(policy(2, 1, 0))
        });
        b.publish(p, "t", 1, "skipped");
        assert_eq!(b.payloads(s), ["skipped"]);
    });
}

#[test]
fn refused_rules_are_told_and_count_as_a_failure() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Allow, "a/#/b")]);
        let c = b.connect(v5("a"));
        assert_eq!(b.rules_refused, 1);
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
    });
}

#[test]
fn a_message_keeps_the_policy_it_was_first_judged_by() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(|| vec![Ok(None)], |_, _| verdict(Decision::Allow, 0));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        b.hold_calls();
        b.publish(p, "t", 1, "old");
        b.set_policy(policy(2, 1, 0));
        let hear = Rule {
            actions: Actions {
                subscribe: true,
                ..Actions::default()
            },
            ..rule(Effect::Allow, "#")
        };
        b.rules(vec![hear]);
        b.answer_held(verdict(Decision::Allow, 0));
        assert_eq!(payloads(&b.messages(s)), ["old"]);
        b.take(p);
        assert_eq!(b.publish(p, "t", 1, "new"), DENIED, "no rule, so the default holds");
    });
}
