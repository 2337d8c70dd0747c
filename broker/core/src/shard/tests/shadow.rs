//! Plugins in shadow mode: what would have been is told, and nothing is changed by it.

use super::scene::{payloads, v5, will};
use super::script::{deliver_rule, policy, rule, verdict};
use super::{Broker, each};
use crate::fold::DefaultDecision;
use crate::hook::{Action, AppMessage, CallFailed, Decision, Effect, Rule, Transformation, Verdict};
use crate::limits::MAX_SHADOW_COMPARISONS;
use crate::policy::{Authorizer, Place, Policy, Shadow, Transform};
use crate::shadow::{Kind, Sample, ShadowAnswer, ShadowCall, ShadowHook, Tally};
use crate::shard::Answer;
use nervewire_codec::ReasonCode;

const DENIED: Option<ReasonCode> = Some(ReasonCode::NotAuthorized);
const OK: Option<ReasonCode> = Some(ReasonCode::Success);

fn named(name: &str) -> Authorizer {
    Authorizer {
        name: name.into(),
        ..Authorizer::default()
    }
}

/// Enforced `acl`, then as many others as there are, and `next` in this place.
fn shadowed(generation: u64, authorizers: usize, place: Place) -> Policy {
    let mut policy = policy(generation, authorizers, 0);
    for (n, authorizer) in policy.authorizers.iter_mut().enumerate() {
        authorizer.name = if n == 0 {
            "acl".into()
        } else {
            format!("other{n}").into()
        };
    }
    policy.shadows.push(Shadow {
        name: "next".into(),
        since: generation,
        authorizes: Some((named("next"), place)),
        transforms: None,
    });
    policy
}

fn transforming(generation: u64, transforms: usize, place: Place) -> Policy {
    let mut policy = policy(generation, 0, transforms);
    policy.default = DefaultDecision::Allow;
    policy
        .transforms
        .iter_mut()
        .for_each(|transform| transform.name = "loud".into());
    policy.shadows.push(Shadow {
        name: "next".into(),
        since: generation,
        authorizes: None,
        transforms: Some((Transform::default(), place)),
    });
    policy
}

/// The plugin in shadow mode answers these rules to everybody, and this where it is asked.
fn next(b: &mut Broker, rules: Option<Vec<Rule>>, asked: Decision) {
    b.shadow_script = Box::new(move |call| {
        Some(match call {
            ShadowCall::Rules { .. } => ShadowAnswer::Rules(Ok(rules.clone())),
            ShadowCall::Authorize { .. } => ShadowAnswer::Authorize(Ok(Verdict {
                decision: asked,
                cache_ms: 0,
                depends_on_client: true,
                depends_on_user: true,
                depends_on_topic: true,
            })),
            ShadowCall::Transform { .. } => panic!("it transforms nothing"),
        })
    });
}

/// Of all shards, most frequent first.
fn samples(b: &Broker) -> Vec<Sample> {
    let shards = b.shards.iter().flat_map(|shard| shard.shadow_differences());
    let mut samples: Vec<_> = shards.flat_map(|known| known.samples().to_vec()).collect();
    samples.sort_by(|a, b| b.count.cmp(&a.count).then(a.topic.cmp(&b.topic)));
    samples
}

fn tally(b: &Broker) -> Tally {
    let mut sum = Tally::default();
    let shards = b.shards.iter().flat_map(|shard| shard.shadow_differences());
    shards.for_each(|known| sum.add(&known.recent));
    sum
}

/// Kind, client, topic and count of each.
fn seen(b: &Broker) -> Vec<(Kind, String, String, u64)> {
    let samples = samples(b).into_iter();
    samples
        .map(|s| (s.kind, s.client_id.to_string(), s.topic, s.count))
        .collect()
}

#[test]
fn a_wrong_rule_names_whom_it_would_lock_out_and_locks_out_nobody() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        next(
            b,
            Some(vec![rule(Effect::Allow, "ok/#"), rule(Effect::Deny, "plant/+/temp")]),
            Decision::Abstain,
        );
        let c = b.connect(v5("meter").username("ann"));
        assert_eq!(b.publish(c, "plant/7/temp", 1, "x"), OK);
        assert_eq!(b.publish(c, "plant/7/temp", 1, "x"), OK);
        assert_eq!(b.publish(c, "ok/x", 1, "x"), OK);
        assert_eq!(b.publish(c, "else", 1, "x"), OK);
        assert_eq!(b.subscribe(c, "plant/7/temp", 1), ReasonCode::GrantedQoS1);
        let expected = [
            (Kind::WouldDeny, "meter", "plant/7/temp", 2),
            (Kind::WouldDeny, "meter", "else", 1),
            (Kind::WouldDeny, "meter", "plant/7/temp", 1),
        ];
        let seen = seen(b);
        let seen: Vec<_> = seen
            .iter()
            .map(|(kind, id, topic, n)| (*kind, &**id, &**topic, *n))
            .collect();
        assert_eq!(seen, expected);
        let sample = &samples(b)[0];
        assert_eq!(sample.enforced, "allowed by acl, rule 1: allow publish,subscribe #");
        assert_eq!(
            sample.shadow,
            "denied by next, rule 2: deny publish,subscribe plant/+/temp"
        );
        assert_eq!(
            (sample.action, sample.username.as_deref()),
            (Some(Action::Publish), Some("ann"))
        );
        assert_eq!(
            samples(b)[1].shadow,
            "denied, nobody decides: [auth] default = \"deny\""
        );
        assert_eq!(tally(b).compared(ShadowHook::Authorize), 5);
        assert_eq!(tally(b).differences(ShadowHook::Authorize, Kind::WouldDeny), 4);
        let asked = b.shadow_calls.len();
        assert_eq!(asked, 1, "its rules are evaluated natively");
    });
}

#[test]
fn one_more_in_the_chain_changes_only_what_the_others_leave_open() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::Before(1)));
        b.rules(vec![rule(Effect::Deny, "no"), rule(Effect::Allow, "yes")]);
        next(b, Some(vec![rule(Effect::Allow, "#")]), Decision::Abstain);
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "no", 1, "x"), DENIED);
        assert_eq!(b.publish(c, "yes", 1, "x"), OK);
        assert_eq!(b.publish(c, "open", 1, "x"), DENIED);
        assert_eq!(seen(b), [(Kind::WouldAllow, "a".into(), "open".into(), 1)]);
    });
}

#[test]
fn it_is_asked_where_its_rules_ask_and_the_client_waits_for_nothing() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        let c = b.connect(v5("a"));
        b.shadow_script = Box::new(|_| None);
        assert_eq!(b.publish(c, "t", 1, "x"), OK, "nobody answers the comparison");
        assert_eq!(seen(b), []);
        assert_eq!(b.total(|c| c.shadow_over_bound), 1, "it is left out, and counted");
        let c = b.connect(v5("b"));
        next(b, Some(vec![rule(Effect::Ask, "#")]), Decision::Deny);
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        assert_eq!(b.publish(c, "t", 0, "x"), None);
        assert_eq!(seen(b), [(Kind::WouldDeny, "b".into(), "t".into(), 2)]);
        assert_eq!(
            samples(b)[0].shadow,
            "denied by next, asked by rule 1: ask publish,subscribe #"
        );
    });
}

#[test]
fn its_verdicts_are_cached_as_those_that_are_obeyed() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        b.shadow_script = Box::new(|call| {
            Some(match call {
                ShadowCall::Rules { .. } => ShadowAnswer::Rules(Ok(None)),
                _ => ShadowAnswer::Authorize(Ok(Verdict {
                    decision: Decision::Deny,
                    cache_ms: 1_000,
                    depends_on_client: true,
                    depends_on_user: false,
                    depends_on_topic: false,
                })),
            })
        });
        let c = b.connect(v5("a"));
        for topic in ["t", "u", "v"] {
            assert_eq!(b.publish(c, topic, 1, "x"), OK);
        }
        assert_eq!(b.shadow_calls.len(), 2, "rules, and one question");
        assert_eq!(seen(b).len(), 3);
        b.advance(1_000);
        b.publish(c, "t", 1, "x");
        assert_eq!(b.shadow_calls.len(), 3);
    });
}

#[test]
fn who_was_not_asked_because_another_denied_is_asked_for_the_comparison() {
    each(|b| {
        b.set_policy(shadowed(1, 2, Place::InsteadOf(0)));
        b.authorize(
            || vec![Ok(Some(vec![rule(Effect::Deny, "#")])), Ok(None)],
            |position, _| {
                assert_eq!(position, 1, "asked for nothing");
                verdict(Decision::Allow, 0)
            },
        );
        b.shadow_script = Box::new(|call| {
            Some(match call {
                ShadowCall::Rules { .. } => ShadowAnswer::Rules(Ok(Some(vec![]))),
                ShadowCall::Authorize { shadow, authorizer, .. } => {
                    assert_eq!((*shadow, *authorizer), (None, 1));
                    let Answer::Authorize(answer) = verdict(Decision::Allow, 0) else {
                        panic!()
                    };
                    ShadowAnswer::Authorize(answer)
                }
                other => panic!("{other:?}"),
            })
        });
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.verdict_calls(), 0);
        assert_eq!(seen(b), [(Kind::WouldAllow, "a".into(), "t".into(), 1)]);
        assert_eq!(samples(b)[0].shadow, "allowed by other1, asked");
    });
}

#[test]
fn a_failing_plugin_counts_as_it_would_and_harms_nobody() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        b.shadow_script = Box::new(|_| Some(ShadowAnswer::Rules(Err(CallFailed))));
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        assert_eq!(b.shadow_calls.len(), 1, "it is not asked again at once");
        assert_eq!(
            samples(b)[0].shadow,
            "denied by next, it failed to give its rules, on_failure = \"deny\""
        );
        b.advance(crate::limits::SHADOW_RETRY_MS);
        next(b, Some(vec![rule(Effect::Allow, "#")]), Decision::Abstain);
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        assert_eq!(seen(b), [(Kind::WouldDeny, "a".into(), "t".into(), 2)]);
    });
}

#[test]
fn deliveries_and_wills_are_compared() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        let rules = vec![
            deliver_rule(Effect::Deny, "a/secret"),
            rule(Effect::Deny, "last"),
            rule(Effect::Allow, "#"),
        ];
        next(b, Some(rules), Decision::Abstain);
        let s = b.connect(v5("s"));
        assert_eq!(b.subscribe(s, "a/#", 1), ReasonCode::GrantedQoS1);
        let p = b.connect(v5("p").will(will("last", 0, "bye")));
        b.publish(p, "a/secret", 1, "x");
        b.publish(p, "a/open", 1, "y");
        assert_eq!(payloads(&b.messages(s)), ["x", "y"]);
        b.lose(p);
        let mut seen = seen(b);
        seen.sort_by(|a, b| a.1.cmp(&b.1));
        let expected = [
            // At CONNECT, and again when it was sent.
            (Kind::WouldDeny, "p".into(), "last".into(), 2),
            (Kind::WouldDeny, "s".into(), "a/secret".into(), 1),
        ];
        assert_eq!(seen, expected);
        let delivery = samples(b).into_iter().find(|s| &*s.client_id == "s").expect("one");
        assert_eq!(delivery.action, Some(Action::Deliver));
        assert_eq!(delivery.enforced, "allowed by acl, rule 1: allow publish,subscribe #");
    });
}

fn transforms(b: &mut Broker, enforced: fn(&AppMessage) -> Transformation, shadow: fn(&AppMessage) -> Transformation) {
    b.transform(move |_, message| Ok(enforced(message)));
    b.shadow_script = Box::new(move |call| match call {
        ShadowCall::Transform { message, .. } => Some(ShadowAnswer::Transform(Ok(shadow(message)))),
        other => panic!("{other:?}"),
    });
}

fn louder(message: &AppMessage) -> Transformation {
    Transformation::Replace(AppMessage {
        payload: [&message.payload[..], b"!"].concat().into(),
        ..message.clone()
    })
}

#[test]
fn a_transform_changes_nothing_and_is_compared_at_its_place() {
    each(|b| {
        // In front of one, behind it, and in its place: what it is asked about is what it would have been.
        for (generation, place, asked, kinds) in [
            (1, Place::Before(0), "x", vec![Kind::WouldDrop]),
            (2, Place::Before(1), "x!", vec![Kind::WouldDrop]),
            (3, Place::InsteadOf(0), "x", vec![Kind::WouldDrop]),
        ] {
            b.set_policy(transforming(generation, 1, place));
            transforms(b, louder, |_| Transformation::Drop);
            let (s, p) = (b.connect(v5("s")), b.connect(v5("p")));
            b.subscribe(s, "t", 1);
            assert_eq!(b.publish(p, "t", 1, "x"), OK);
            assert_eq!(b.payloads(s), ["x!"]);
            let samples = samples(b);
            assert_eq!(samples.iter().map(|s| s.kind).collect::<Vec<_>>(), kinds);
            assert_eq!(
                (&samples[0].payload[..], samples[0].payload_bytes),
                (asked.as_bytes(), Some(asked.len()))
            );
        }
        assert_eq!(samples(b)[0].enforced, "replaced by t x! by loud");
    });
}

#[test]
fn a_transform_is_asked_where_nobody_is_obeyed() {
    each(|b| {
        b.set_policy(transforming(1, 0, Place::Before(0)));
        transforms(b, louder, louder);
        let (s, p) = (b.connect(v5("s")), b.connect(v5("p")));
        b.subscribe(s, "t", 1);
        assert_eq!(b.publish(p, "t", 1, "x"), OK);
        assert_eq!(b.payloads(s), ["x"]);
        assert_eq!(seen(b), [(Kind::WouldChange, "p".into(), "t".into(), 1)]);
        assert_eq!(
            (&*samples(b)[0].enforced, &*samples(b)[0].shadow),
            ("passed", "replaced by t x! by next")
        );
        transforms(b, louder, |_| Transformation::Pass);
        b.publish(p, "t", 1, "x");
        assert_eq!(tally(b).compared(ShadowHook::Transform), 2);
        assert_eq!(seen(b).len(), 1);
    });
}

#[test]
fn what_was_seen_is_forgotten_when_the_plugin_changes_and_kept_when_others_do() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        next(b, Some(vec![]), Decision::Abstain);
        let c = b.connect(v5("a"));
        b.publish(c, "t", 1, "x");
        let mut same = shadowed(2, 1, Place::InsteadOf(0));
        same.shadows[0].since = 1;
        b.set_policy(same);
        b.publish(c, "t", 1, "x");
        assert_eq!(seen(b)[0].3, 2);
        assert!(b.shards.iter_mut().all(|shard| shard.reset_shadow("next")));
        assert!(!b.shards[0].reset_shadow("acl"));
        assert_eq!(seen(b), []);
        b.publish(c, "t", 1, "x");
        b.set_policy(shadowed(3, 1, Place::InsteadOf(0)));
        assert_eq!(seen(b), []);
        b.set_policy(policy(4, 1, 0));
        b.publish(c, "t", 1, "x");
        assert!(b.shards.iter().all(|shard| shard.shadow_differences().is_empty()));
    });
}

#[test]
fn comparisons_that_wait_are_bounded() {
    each(|b| {
        b.set_policy(shadowed(1, 1, Place::InsteadOf(0)));
        b.rules(vec![rule(Effect::Allow, "#")]);
        let c = b.connect(v5("a"));
        let shard = b.links[c].shard;
        // Questions are not even taken.
        let session = b.shards[shard].sessions.iter().next().map(|(slot, _)| slot as u32);
        let session = session.expect("one");
        let now = b.now;
        for _ in 0..MAX_SHADOW_COMPARISONS + 3 {
            let request = crate::policy::RequestRef {
                action: Action::Publish,
                topic: "t",
                qos: nervewire_codec::QoS::AtMostOnce,
                retain: false,
            };
            b.shards[shard].shadow_native(now, session, &request, true);
        }
        assert_eq!(b.total(|c| c.shadow_over_bound), 3);
        next(b, Some(vec![]), Decision::Abstain);
        b.settle();
        assert_eq!(
            seen(b)[0].3,
            MAX_SHADOW_COMPARISONS as u64,
            "one answer served all that waited"
        );
    });
}
