//! A change of policy or identity reaches what was subscribed to, queued, assigned and sent before.

use super::super::{Answer, Call};
use super::scene::{ack, client, v5};
use super::script::{Rules, policy, rule, verdict};
use super::{Broker, each, each_version};
use crate::hook::{Action, Actions, CallFailed, Client, Decision, Effect, Rule};
use nervewire_codec::{Packet, ReasonCode, Version};

/// Everybody may publish; subscribe to these.
pub(super) fn only(filters: &[&str]) -> Vec<Rule> {
    let publish = Rule {
        actions: Actions {
            publish: true,
            subscribe: false,
            deliver: false,
        },
        ..rule(Effect::Allow, "#")
    };
    let subscribe = |filter: &&str| Rule {
        actions: Actions {
            publish: false,
            subscribe: true,
            deliver: false,
        },
        ..rule(Effect::Allow, filter)
    };
    std::iter::once(publish).chain(filters.iter().map(subscribe)).collect()
}

/// A policy of one authorizer with rules for each client.
pub(super) fn rules_of(b: &mut Broker, generation: u64, rules: impl Fn(&Client) -> Rules + 'static) {
    b.set_policy(policy(generation, 1, 0));
    b.script = Box::new(move |call| match call {
        Call::Rules { client, .. } => Some(Answer::Rules(vec![rules(client)])),
        other => panic!("asked {other:?}"),
    });
}

fn allow(b: &mut Broker, generation: u64, filters: &'static [&'static str]) {
    rules_of(b, generation, move |_| Ok(Some(only(filters))));
}

/// The authorizer gives no rules, and says about subscriptions what `decide` says.
fn asked(b: &mut Broker, generation: u64, decide: impl Fn(&str) -> Option<Answer> + 'static) {
    b.set_policy(policy(generation, 1, 0));
    b.script = Box::new(move |call| match call {
        Call::Rules { .. } => Some(Answer::Rules(vec![Ok(None)])),
        Call::Authorize { request, .. } if request.action == Action::Subscribe => decide(&request.topic),
        _ => Some(verdict(Decision::Allow, 0)),
    });
}

#[test]
fn a_subscription_is_silent_while_its_client_may_not_have_it() {
    each_version(|b, version| {
        for level in 0..3 {
            allow(b, 1, &["#"]);
            let (s, p) = (b.connect(client(version, "s")), b.connect(v5("pub")));
            b.subscribe(s, "a/#", level);
            b.subscribe(s, "b", level);
            allow(b, 2, &["b"]);
            for topic in ["a/x", "b"] {
                b.publish(p, topic, level, topic);
            }
            assert_eq!(b.payloads(s), ["b"]);
            allow(b, 3, &["#"]);
            b.publish(p, "a/x", level, "again");
            assert_eq!(b.payloads(s), ["again"]);
            b.lose(s);
            b.lose(p);
        }
    });
}

#[test]
fn what_another_subscription_matches_still_arrives() {
    each(|b| {
        allow(b, 1, &["#"]);
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "a/#", 1);
        b.subscribe(s, "a/x", 1);
        allow(b, 2, &["a/x"]);
        b.publish(p, "a/x", 1, "x");
        b.publish(p, "a/y", 1, "y");
        assert_eq!(b.payloads(s), ["x"]);
        assert_eq!(b.total(|c| c.denied_subscribe), 1);
    });
}

#[test]
fn a_queue_is_judged_when_it_goes_out() {
    each_version(|b, version| {
        allow(b, 1, &["#"]);
        let (s, p) = (b.connect(client(version, "s").lasting()), b.connect(v5("pub")));
        b.subscribe(s, "a/#", 2);
        b.subscribe(s, "b", 2);
        b.lose(s);
        for (topic, level) in [("a/1", 1), ("b", 1), ("a/2", 2), ("b", 2)] {
            b.publish(p, topic, level, topic);
        }
        allow(b, 2, &["b"]);
        let s = b.connect(client(version, "s").lasting());
        assert_eq!(b.payloads(s), ["b", "b"]);
        assert_eq!(b.total(|c| c.dropped.denied), 2);
        assert_eq!(b.total(|c| c.queued_messages), 0);
    });
}

#[test]
fn what_was_sent_is_judged_before_it_is_sent_again() {
    each_version(|b, version| {
        allow(b, 1, &["#"]);
        let (s, p) = (b.connect(client(version, "s").lasting()), b.connect(v5("pub")));
        b.manual(s);
        b.subscribe(s, "+", 2);
        b.subscribe(s, "b", 2);
        for (topic, level) in [("a", 1), ("a", 2), ("b", 1), ("b", 2)] {
            b.publish(p, topic, level, topic);
        }
        let first: Vec<_> = b.messages(s).iter().map(|m| m.packet_id).collect();
        b.lose(s);
        allow(b, 2, &["b"]);
        let s = b.connect(client(version, "s").lasting());
        let sent = b.take(s);
        let again = sent.iter().filter_map(|packet| match packet {
            Packet::Publish(publish) => Some((publish.packet_id, publish.dup, &*publish.topic)),
            _ => None,
        });
        assert_eq!(
            again.collect::<Vec<_>>(),
            [(first[2], true, "b"), (first[3], true, "b")]
        );
        let released = sent.iter().filter_map(|packet| match packet {
            Packet::PubRel(ack) => Some(Some(ack.packet_id)),
            _ => None,
        });
        // [MQTT-4.3.3-4]: the identifier that the client may remember is given up.
        assert!(released.into_iter().any(|id| id == first[1]), "{sent:?}");
        assert_eq!(b.total(|c| c.denied_deliver), 2);
    });
}

#[test]
fn a_shared_message_goes_to_a_member_that_may_have_it() {
    each(|b| {
        for level in 1..3 {
            let generation = u64::from(level) * 10;
            allow(b, generation, &["#"]);
            let all: Vec<_> = ["bad", "good"].map(|name| b.connect(v5(name).lasting())).into();
            for c in &all {
                b.subscribe(*c, "$share/g/t", level);
                b.lose(*c);
            }
            let p = b.connect(v5("pub"));
            for n in 0..4 {
                b.publish(p, "t", level, &n.to_string());
            }
            rules_of(b, generation + 1, |client| {
                let filters: &[&str] = if &*client.client_id == "bad" { &["x"] } else { &["#"] };
                Ok(Some(only(filters)))
            });
            let bad = b.connect(v5("bad").lasting());
            assert_eq!(b.payloads(bad), [""; 0]);
            b.publish(p, "t", level, "4");
            let good = b.connect(v5("good").lasting());
            let mut payloads = b.payloads(good);
            payloads.sort();
            assert_eq!(payloads, ["0", "1", "2", "3", "4"]);
            assert_eq!(b.total(|c| c.dropped.no_shared_member), 0);
            for c in [bad, good] {
                b.unsubscribe(c, &["$share/g/t"]);
                b.lose(c);
            }
            b.lose(p);
        }
    });
}

#[test]
fn a_member_that_may_again_is_a_member_again() {
    each(|b| {
        allow(b, 1, &["#"]);
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "$share/g/t", 1);
        allow(b, 2, &["x"]);
        b.publish(p, "t", 1, "no");
        allow(b, 3, &["#"]);
        b.subscribe(s, "wake", 0);
        b.publish(p, "wake", 0, "reviewed");
        b.publish(p, "t", 1, "yes");
        assert_eq!(b.payloads(s), ["reviewed", "yes"]);
    });
}

#[test]
fn authorizers_without_rules_are_asked_again_about_each_filter() {
    each(|b| {
        asked(b, 1, |_| Some(verdict(Decision::Allow, 0)));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "a", 1);
        b.subscribe(s, "b", 1);
        asked(b, 2, |filter| (filter != "a").then(|| verdict(Decision::Allow, 0)));
        b.publish(p, "a", 1, "a");
        b.publish(p, "b", 1, "b");
        assert!(b.payloads(s).is_empty(), "nothing goes out before the answer");
        b.answer_held(verdict(Decision::Deny, 0));
        assert_eq!(b.payloads(s), ["b"]);
        let calls = b.verdict_calls();
        b.publish(p, "b", 1, "b");
        assert_eq!(b.payloads(s), ["b"]);
        assert_eq!(
            b.verdict_calls(),
            calls + 1,
            "about the PUBLISH; once a generation about each filter"
        );
    });
}

#[test]
fn an_authorizer_that_fails_is_asked_again() {
    each(|b| {
        asked(b, 1, |_| Some(verdict(Decision::Allow, 0)));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "a", 1);
        asked(b, 2, |_| Some(Answer::Authorize(Err(CallFailed))));
        b.publish(p, "a", 1, "while it fails");
        assert_eq!(b.payloads(s), [""; 0]);
        b.script = Box::new(|_| Some(verdict(Decision::Allow, 0)));
        b.publish(p, "a", 1, "later");
        assert_eq!(b.payloads(s), ["later"]);
    });
}

#[test]
fn a_policy_that_changes_while_a_plugin_is_asked_is_the_one_that_counts() {
    each(|b| {
        asked(b, 1, |_| Some(verdict(Decision::Allow, 0)));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "a", 1);
        asked(b, 2, |_| None);
        b.publish(p, "a", 1, "x");
        allow(b, 3, &["other"]);
        b.answer_held(verdict(Decision::Allow, 0));
        assert_eq!(b.payloads(s), [""; 0]);
        assert_eq!(b.total(|c| c.dropped.denied), 1);
    });
}

/// The SUBSCRIBE was allowed by the policy that it began with.
#[test]
fn a_subscribe_that_crosses_a_revocation_leaves_nothing_that_is_heard() {
    each_version(|b, version| {
        asked(b, 1, |_| None);
        let (s, p) = (b.connect(client(version, "s")), b.connect(v5("pub")));
        let packet_id = b.packet_id(s);
        b.send(
            s,
            Packet::Subscribe(nervewire_codec::Subscribe {
                packet_id,
                properties: None,
                filters: vec![super::scene::filter("a", 1)],
            }),
        );
        allow(b, 2, &["other"]);
        b.answer_held(verdict(Decision::Allow, 0));
        b.publish(p, "a", 1, "x");
        assert_eq!(b.payloads(s), [""; 0]);
    });
}

#[test]
fn unsubscribing_frees_nothing_that_was_revoked() {
    each(|b| {
        allow(b, 1, &["#"]);
        let who = || v5("s").lasting().with(|p| p.receive_maximum = Some(1));
        let (s, p) = (b.connect(who()), b.connect(v5("pub")));
        b.manual(s);
        b.subscribe(s, "b", 1);
        b.subscribe(s, "a", 1);
        b.publish(p, "b", 1, "b");
        b.publish(p, "a", 1, "a");
        assert_eq!(b.payloads(s), ["b"]);
        allow(b, 2, &["b"]);
        b.unsubscribe(s, &["a"]);
        b.send(s, Packet::PubAck(ack(1, ReasonCode::Success)));
        b.publish(p, "b", 1, "end");
        assert_eq!(b.payloads(s), ["end"]);
    });
}

#[test]
fn a_resumed_session_is_judged_as_who_has_resumed_it() {
    each_version(|b, version| {
        let mut roles = 0;
        let mut who = |role: &str| {
            roles += 1;
            let mut accepted = client(version, "s").lasting().username("u").accepted();
            let facts = std::sync::Arc::make_mut(&mut accepted.client);
            facts.attributes = vec![("role".into(), role.into())];
            accepted
        };
        rules_of(b, 1, |client| {
            let may = client.attributes.iter().all(|(_, role)| &**role != "guest");
            Ok(Some(only(if may { &["#"] } else { &["open"] })))
        });
        let (s, p) = (b.open_accepted(who("admin")), b.connect(v5("pub")));
        b.connack(s);
        b.subscribe(s, "a", 1);
        b.subscribe(s, "open", 1);
        b.lose(s);
        b.publish(p, "a", 1, "secret");
        b.publish(p, "open", 1, "open");
        let s = b.open_accepted(who("guest"));
        assert!(b.connack(s).session_present || version == Version::V31);
        assert_eq!(b.payloads(s), ["open"]);
        b.publish(p, "a", 1, "secret");
        assert_eq!(b.payloads(s), [""; 0]);
    });
}

/// The log says what the sessions have, at each moment of it.
#[test]
fn after_a_restart_what_was_stored_is_judged_again() {
    for shards in [1, 3] {
        let mut b = super::restart::stored(shards);
        allow(&mut b, 1, &["#"]);
        let (s, p) = (b.connect(v5("s").lasting()), b.connect(v5("pub")));
        for filter in ["a", "b", "$share/g/a"] {
            b.subscribe(s, filter, 2);
        }
        b.manual(s);
        b.publish(p, "a", 2, "in flight");
        b.lose(s);
        b.publish(p, "a", 1, "queued");
        b.publish(p, "b", 1, "b");
        let mut b = b.restarted(b.journal.len(), shards);
        allow(&mut b, 1, &["b"]);
        let s = b.connect(v5("s").lasting());
        assert_eq!(b.payloads(s), ["b"]);
        b.check_kept();
    }
}

/// Nobody of the group may have it: it does not go round for ever.
#[test]
fn a_shared_message_that_every_member_refuses_is_dropped() {
    each(|b| {
        rules_of(b, 1, |_| Ok(Some(only(&["#"]))));
        let all: Vec<_> = ["a", "b"].map(|name| b.connect(v5(name))).into();
        for c in &all {
            b.subscribe(*c, "$share/g/#", 1);
        }
        rules_of(b, 2, |client| {
            let deny = super::script::deliver_rule(Effect::Deny, "t");
            let first = (&*client.client_id != "pub").then_some(deny);
            Ok(Some(first.into_iter().chain(only(&["#"])).collect()))
        });
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "no");
        b.publish(p, "u", 1, "yes");
        let mut payloads: Vec<_> = all.iter().flat_map(|c| b.payloads(*c)).collect();
        payloads.sort();
        assert_eq!(payloads, ["yes"]);
        assert_eq!(b.total(|c| c.dropped.denied), 1);
    });
}

/// CVE-2018-12546: whoever has had it retained may no longer publish it.
#[test]
fn a_retained_message_is_withheld_while_its_publisher_may_not_publish_it() {
    each_version(|b, version| {
        let may_publish = |filter: &'static str| {
            move |client: &Client| {
                let hear = Rule {
                    actions: Actions {
                        publish: false,
                        subscribe: true,
                        deliver: false,
                    },
                    ..rule(Effect::Allow, "#")
                };
                let publish = Rule {
                    actions: Actions {
                        publish: true,
                        subscribe: false,
                        deliver: false,
                    },
                    ..rule(Effect::Allow, if &*client.client_id == "p" { filter } else { "#" })
                };
                Ok(Some(vec![hear, publish]))
            }
        };
        rules_of(b, 1, may_publish("#"));
        let p = b.connect(client(version, "p"));
        for topic in ["r/1", "r/2"] {
            b.publish_retained(p, topic, 1, topic);
        }
        let other = b.connect(client(version, "other"));
        b.publish_retained(other, "r/3", 1, "r/3");
        b.lose(p);
        b.lose(other);
        let heard = |b: &mut Broker| {
            let s = b.connect(client(version, "s"));
            b.subscribe(s, "r/+", 1);
            let mut payloads = b.payloads(s);
            payloads.sort();
            b.lose(s);
            payloads
        };
        let rule_calls = b.rule_calls();
        assert_eq!(heard(b), ["r/1", "r/2", "r/3"]);
        assert_eq!(
            b.rule_calls(),
            rule_calls + 1,
            "the subscriber's alone: nothing has changed"
        );
        rules_of(b, 2, may_publish("r/2"));
        assert_eq!(heard(b), ["r/2", "r/3"]);
        rules_of(b, 3, may_publish("#"));
        assert_eq!(heard(b), ["r/1", "r/2", "r/3"]);
        // An authorizer that must be asked about messages is not asked about those that it has let in.
        asked(b, 4, |_| Some(verdict(Decision::Allow, 0)));
        assert_eq!(heard(b), ["r/1", "r/2", "r/3"]);
        // One that fails lets nothing through, and is asked again in time.
        rules_of(b, 5, |client| match &*client.client_id {
            "s" => Ok(Some(only(&["#"]))),
            _ => Err(CallFailed),
        });
        assert_eq!(heard(b), [""; 0]);
        rules_of(b, 5, may_publish("#"));
        b.advance(1_000);
        assert_eq!(heard(b), ["r/1", "r/2", "r/3"]);
    });
}

#[test]
fn who_has_had_a_message_retained_is_known_after_a_restart() {
    for (level, shards) in [(1, 1), (2, 3)] {
        let mut b = super::restart::stored(shards);
        allow(&mut b, 1, &["#"]);
        let p = b.connect(v5("p").username("u").lasting());
        b.publish_retained(p, "r/1", level, "x");
        let mut b = b.restarted(b.journal.len(), shards);
        rules_of(&mut b, 1, |client| match client.username.as_deref() {
            Some("u") => Ok(Some(Vec::new())),
            _ => Ok(Some(only(&["#"]))),
        });
        let s = b.connect(v5("s"));
        b.subscribe(s, "r/#", 1);
        assert_eq!(b.payloads(s), [""; 0]);
    }
}

/// What a plugin's grant has put on a topic is not the client's to lose.
#[test]
fn what_a_plugin_was_granted_to_have_retained_stays() {
    each(|b| {
        let mut first = super::script::granted(policy(1, 1, 1), "by-plugin");
        first.transforms[0].topics = Some(vec![super::scene::text("own")]);
        b.set_policy(first);
        b.transform(|_, message| {
            Ok(crate::hook::Transformation::Replace(crate::hook::AppMessage {
                topic: super::scene::text("by-plugin"),
                ..message.clone()
            }))
        });
        let p = b.connect(v5("p"));
        b.publish_retained(p, "own", 1, "x");
        allow(b, 2, &["#"]);
        rules_of(b, 2, |client| {
            let rules = if &*client.client_id == "p" {
                Vec::new()
            } else {
                only(&["#"])
            };
            Ok(Some(rules))
        });
        let s = b.connect(v5("s"));
        b.subscribe(s, "#", 1);
        assert_eq!(b.payloads(s), ["x"]);
    });
}
