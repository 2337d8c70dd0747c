//! What happens between a call and its answer: connections that go, sessions that end, slots that are used again.

use super::super::{Answer, COMMON_SPACE};
use super::scene::{ack, client, id, publish, v5, will};
use super::script::{deliver_rule, policy, rule, verdict};
use super::{Broker, each, each_version};
use crate::hook::{Decision, Effect, Transformation};
use nervewire_codec::{Packet, Publish, ReasonCode};

fn allow_all() -> Answer {
    Answer::Rules(vec![Ok(Some(vec![rule(Effect::Allow, "#")]))])
}

/// Everybody may do everything, and each PUBLISH waits for a transform.
fn holding_transforms(b: &mut Broker) {
    b.set_policy(policy(1, 1, 1));
    b.script = Box::new(|call| matches!(call, super::Call::Rules { .. }).then(allow_all));
}

#[test]
fn a_qos_2_message_whose_sender_left_meanwhile_is_routed_once() {
    each_version(|b, version| {
        holding_transforms(b);
        let (s, p) = (
            b.connect(client(version, "s")),
            b.connect(client(version, "pub").lasting()),
        );
        b.subscribe(s, "t", 2);
        let packet = Publish {
            packet_id: Some(id(3)),
            ..publish("t", 2, "once")
        };
        b.publish_packet(p, packet.clone());
        b.lose(p);
        let p = b.connect(client(version, "pub").lasting());
        b.publish_packet(p, Publish { dup: true, ..packet });
        while !b.held.is_empty() {
            b.answer_held(Answer::Transform(Ok(Transformation::Pass)));
        }
        assert_eq!(b.payloads(s), ["once"]);
        assert!(b.take(p).iter().any(|packet| matches!(packet, Packet::PubRec(_))));
    });
}

#[test]
fn a_qos_0_message_whose_sender_left_meanwhile_is_routed() {
    each_version(|b, version| {
        holding_transforms(b);
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe(s, "t", 2);
        b.publish(p, "t", 0, "x");
        b.lose(p);
        b.answer_held(Answer::Transform(Ok(Transformation::Pass)));
        assert_eq!(b.payloads(s), ["x"]);
    });
}

#[test]
fn an_answer_for_a_connection_that_left_does_not_touch_its_successor() {
    each(|b| {
        b.set_policy(policy(1, 1, 2));
        b.script = Box::new(|call| matches!(call, super::Call::Rules { .. }).then(allow_all));
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 0, "x");
        b.lose(p);
        let next = b.connect(v5("pub"));
        assert_eq!(b.links[p].id, b.links[next].id, "the same slot");
        b.call_ns = u64::MAX / 4;
        b.answer_held(Answer::Transform(Ok(Transformation::Pass)));
        b.send(next, Packet::PingReq);
        assert_eq!(b.take(next), [Packet::PingResp], "neither waiting nor paused");
    });
}

#[test]
fn nothing_is_sent_behind_a_disconnect() {
    each(|b| {
        holding_transforms(b);
        let p = b.connect(v5("pub").lasting());
        b.links[p].stuck = true;
        b.publish(p, "t", 1, "x");
        let (shard, link, now) = (b.links[p].shard, b.links[p].id, b.now);
        b.shards[shard].kick(now, None, "pub");
        let before = b.shards[shard].output(link).map(|out| out.len());
        let held = b.held.pop_front().expect("a held call");
        b.shards[shard].answer(now, held.1, Answer::Transform(Ok(Transformation::Pass)), 0);
        assert_eq!(b.shards[shard].output(link).map(|out| out.len()), before);
        b.settle();
        assert_eq!(b.farewell(p), Some(ReasonCode::AdministrativeAction));
    });
}

#[test]
fn rules_of_an_earlier_identity_never_become_those_of_a_later_one() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|_| Some(allow_all()));
        let admin = b.connect(v5("a").lasting().username("admin"));
        b.set_policy(policy(2, 1, 0));
        b.hold_calls();
        b.publish(admin, "secret", 1, "x");
        let deny = || Answer::Rules(vec![Ok(Some(vec![rule(Effect::Deny, "#")]))]);
        b.script = Box::new(move |_| Some(deny()));
        let guest = b.connect(v5("a").lasting().username("guest"));
        b.answer_held(allow_all());
        assert_eq!(b.publish(guest, "secret", 1, "x"), Some(ReasonCode::NotAuthorized));
    });
}

#[test]
fn verdicts_about_an_earlier_identity_never_answer_for_a_later_one() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| match call {
            super::Call::Rules { .. } => Some(Answer::Rules(vec![Ok(None)])),
            super::Call::Authorize { client, .. } if client.username.as_deref() == Some("guest") => {
                Some(verdict(Decision::Deny, 0))
            }
            _ => None,
        });
        let admin = b.connect(v5("a").lasting().username("admin"));
        b.publish(admin, "secret", 1, "x");
        let guest = b.connect(v5("a").lasting().username("guest"));
        b.answer_held(verdict(Decision::Allow, 1_000_000));
        assert_eq!(b.publish(guest, "secret", 1, "x"), Some(ReasonCode::NotAuthorized));
    });
}

#[test]
fn rules_for_a_delivery_belong_to_the_generation_they_were_asked_of() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| match call {
            super::Call::Rules { client, .. } if *client.client_id == *"pub" => Some(allow_all()),
            _ => None,
        });
        b.publish(p, "t", 1, "x");
        assert_eq!(b.held.len(), 1);
        b.set_policy(policy(2, 1, 0));
        b.script = Box::new(|_| {
            Some(Answer::Rules(vec![Ok(Some(vec![
                deliver_rule(Effect::Deny, "t"),
                rule(Effect::Allow, "#"),
            ]))]))
        });
        b.answer_held(allow_all());
        assert!(
            b.payloads(s).is_empty(),
            "the old generation's rules are not the new one's"
        );
        assert_eq!(b.total(|c| c.denied_deliver), 1);
    });
}

#[test]
fn slow_authorizers_are_each_asked_once_about_a_delivery() {
    each(|b| {
        b.set_policy(policy(1, 2, 0));
        let rules = || {
            let asks = Some(vec![deliver_rule(Effect::Ask, "#"), rule(Effect::Allow, "#")]);
            Answer::Rules(vec![Ok(asks.clone()), Ok(asks)])
        };
        b.script = Box::new(move |call| matches!(call, super::Call::Rules { .. }).then(rules));
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "#", 1);
        b.publish(p, "t", 1, "x");
        for _ in 0..2 {
            b.advance(50);
            b.answer_held(verdict(Decision::Abstain, 0));
        }
        assert_eq!(b.payloads(s), ["x"]);
        assert_eq!(b.verdict_calls(), 2);
    });
}

#[test]
fn a_take_over_while_a_delivery_is_judged_loses_and_doubles_nothing() {
    each(|b| {
        let (s, p) = (b.connect(v5("s").lasting()), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| match call {
            super::Call::Rules { client, .. } if *client.client_id == *"pub" => Some(allow_all()),
            _ => None,
        });
        b.publish(p, "t", 1, "1");
        b.publish(p, "t", 1, "2");
        assert_eq!(b.held.len(), 1, "one question at a time");
        b.script = Box::new(|_| Some(allow_all()));
        let s = b.connect(v5("s").lasting());
        while !b.held.is_empty() {
            b.answer_held(allow_all());
        }
        assert_eq!(b.payloads(s), ["1", "2"]);
    });
}

#[test]
fn a_delivery_answer_for_a_session_that_ended_is_discarded() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| match call {
            super::Call::Rules { client, .. } if *client.client_id == *"pub" => Some(allow_all()),
            _ => None,
        });
        b.publish(p, "t", 1, "x");
        b.lose(s);
        b.script = Box::new(|_| Some(allow_all()));
        b.answer_held(allow_all());
        assert_eq!((b.total(|c| c.queued_messages), b.total(|c| c.queued_bytes)), (0, 0));
        assert_eq!(b.total(|c| c.dropped.session_ended), 1);
    });
}

#[test]
fn a_will_that_waits_for_an_answer_never_reaches_another_tenant() {
    each(|b| {
        holding_transforms(b);
        let c = b.connect(v5("c").tenant("old").will(will("t", 1, "private")));
        b.lose(c);
        let other = b.connect(v5("c").tenant("new"));
        b.subscribe(other, "#", 1);
        let friend = b.connect(v5("friend").tenant("old"));
        b.subscribe(friend, "#", 1);
        b.answer_held(Answer::Transform(Ok(Transformation::Pass)));
        assert!(b.payloads(other).is_empty());
        assert_eq!(b.payloads(friend), ["private"]);
        assert!(
            b.shards
                .iter()
                .all(|shard| shard.spaces.contains(COMMON_SPACE as usize))
        );
    });
}

#[test]
fn a_subscribe_whose_client_left_meanwhile_enters_nothing() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| match call {
            super::Call::Rules { .. } => Some(Answer::Rules(vec![Ok(None)])),
            _ => None,
        });
        let c = b.connect(v5("a").lasting());
        let filters = vec![super::scene::filter("t", 1)];
        let packet = nervewire_codec::Subscribe {
            packet_id: id(1),
            properties: None,
            filters,
        };
        b.send(c, Packet::Subscribe(packet));
        b.lose(c);
        b.answer_held(verdict(Decision::Allow, 0));
        assert_eq!(b.total(|c| c.subscriptions), 0);
    });
}

#[test]
fn a_connect_whose_client_left_meanwhile_makes_no_session() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.hold_calls();
        let c = b.open(v5("a").lasting());
        b.lose(c);
        b.answer_held(allow_all());
        assert_eq!((b.sessions(), b.total(|c| c.connections)), (0, 0));
    });
}

#[test]
fn receivers_of_one_message_never_see_what_another_had_queued() {
    each_version(|b, version| {
        // Both on one shard of three: the routing of one message passes from one to the other.
        let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
        let shards = b.shards.len() as u16;
        let together = names
            .iter()
            .filter(|name| super::home_shard(None, name, shards) == 0)
            .take(6);
        let all: Vec<_> = together.map(|name| b.connect(client(version, name))).collect();
        let p = b.connect(client(version, "pub"));
        for c in &all {
            b.subscribe(*c, "shared", 0);
            b.subscribe(*c, &format!("own/{c}"), 0);
        }
        let large = "x".repeat(900);
        for c in all.iter().step_by(2) {
            b.links[*c].stuck = true;
            for n in 0..320 {
                b.publish(p, &format!("own/{c}"), 0, &format!("{c} {n} {large}"));
            }
            // It reads some, but the driver has not said so yet: there is room again, and a queue.
            let (shard, link) = (b.links[*c].shard, b.links[*c].id);
            let out = b.shards[shard].output(link).unwrap();
            let waiting = out.len();
            let mut taken = Vec::new();
            while waiting - out.len() < 2_000 {
                taken.push(out.front()[0]);
                out.advance(1);
            }
        }
        b.publish(p, "shared", 0, "for all");
        for c in all.iter().skip(1).step_by(2) {
            assert_eq!(b.payloads(*c), ["for all"]);
        }
    });
}

#[test]
fn a_late_acknowledgement_of_an_earlier_connection_is_taken() {
    each_version(|b, version| {
        let (s, p) = (
            b.connect(client(version, "s").lasting()),
            b.connect(client(version, "pub")),
        );
        b.manual(s);
        b.subscribe(s, "t", 1);
        b.publish(p, "t", 1, "x");
        let packet_id = b.messages(s)[0].packet_id.unwrap().get();
        b.lose(s);
        let s = b.connect(client(version, "s").lasting());
        b.send(s, Packet::PubAck(ack(packet_id, ReasonCode::Success)));
        b.lose(s);
        let s = b.connect(client(version, "s").lasting());
        assert!(b.payloads(s).is_empty());
    });
}

#[test]
fn retained_messages_for_a_session_that_ended_meanwhile_go_nowhere() {
    each_version(|b, version| {
        let p = b.connect(client(version, "pub"));
        for topic in ["a", "b", "c", "d"] {
            b.publish_retained(p, topic, 1, "x");
        }
        let s = b.connect(client(version, "s"));
        b.make_known(s, "+");
        b.mesh_held = true;
        b.subscribe(s, "+", 1);
        b.lose(s);
        let next = b.connect(client(version, "s"));
        b.mesh_held = false;
        b.settle();
        assert!(b.payloads(next).is_empty());
        assert_eq!((b.total(|c| c.queued_messages), b.total(|c| c.subscriptions)), (0, 0));
    });
}

#[test]
fn retained_messages_for_a_connection_that_was_replaced_meanwhile_go_nowhere() {
    each(|b| {
        let p = b.connect(v5("pub"));
        for topic in ["a", "b", "c", "d"] {
            b.publish_retained(p, topic, 1, "x");
        }
        let s = b.connect(v5("s").lasting());
        b.make_known(s, "+");
        b.mesh_held = true;
        b.subscribe(s, "+", 1);
        let early = b.payloads(s).len();
        b.lose(s);
        let s = b.connect(v5("s").lasting());
        b.mesh_held = false;
        b.settle();
        assert!(b.payloads(s).is_empty() && early <= 4);
        assert_eq!(b.total(|c| c.queued_messages), 0);
    });
}

#[test]
fn a_verdict_cached_for_one_identity_is_not_the_next_ones() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| {
            Some(match call {
                super::Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
                super::Call::Authorize { client, .. } if client.username.as_deref() == Some("admin") => {
                    verdict(Decision::Allow, 1_000_000)
                }
                _ => verdict(Decision::Deny, 0),
            })
        });
        let admin = b.connect(v5("a").lasting().username("admin"));
        assert_eq!(b.publish(admin, "secret", 1, "x"), Some(ReasonCode::Success));
        let guest = b.connect(v5("a").lasting().username("guest"));
        assert_eq!(b.publish(guest, "secret", 1, "x"), Some(ReasonCode::NotAuthorized));
    });
}

#[test]
fn a_message_of_an_earlier_identity_is_not_judged_by_what_a_later_one_may_do() {
    each(|b| {
        b.set_policy(policy(1, 2, 0));
        b.script = Box::new(|call| match call {
            super::Call::Rules { .. } => Some(Answer::Rules(vec![Ok(None), Ok(None)])),
            super::Call::Authorize {
                client, authorizer: 0, ..
            } if client.username.as_deref() == Some("guest") => None,
            super::Call::Authorize { client, .. } if client.username.as_deref() == Some("admin") => {
                Some(verdict(Decision::Allow, 1_000_000))
            }
            _ => Some(verdict(Decision::Deny, 0)),
        });
        let watcher = b.connect(v5("w").username("admin"));
        b.subscribe(watcher, "secret", 1);
        let guest = b.connect(v5("a").lasting().username("guest"));
        b.publish(guest, "secret", 0, "forbidden");
        let admin = b.connect(v5("a").lasting().username("admin"));
        b.publish(admin, "secret", 0, "allowed");
        b.answer_held(verdict(Decision::Abstain, 0));
        assert_eq!(b.payloads(watcher), ["allowed"]);
    });
}

#[test]
fn a_verdict_about_a_message_that_gave_way_is_none_about_the_next() {
    super::each_with(
        |config| config.queue_messages = 1,
        |b| {
            b.set_policy(policy(1, 1, 0));
            b.script = Box::new(|call| match call {
                super::Call::Rules { .. } => Some(Answer::Rules(vec![Ok(Some(vec![
                    deliver_rule(Effect::Ask, "#"),
                    rule(Effect::Allow, "#"),
                ]))])),
                _ => None,
            });
            let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
            b.subscribe(s, "#", 1);
            b.publish(p, "no", 1, "no");
            b.publish(p, "yes", 1, "yes");
            b.answer_held(verdict(Decision::Deny, 0));
            assert_eq!(b.held.len(), 1, "asked about the other one");
            b.answer_held(verdict(Decision::Allow, 0));
            assert_eq!(b.payloads(s), ["yes"]);
        },
    );
}
