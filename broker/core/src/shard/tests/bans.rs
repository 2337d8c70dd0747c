//! Bans, certificates that run out, other users under a known identifier, and the longest a connection may last: in each order in
//! which they can cross what a client does.

use super::super::{Answer, Call};
use super::scene::{client, filter, publish, v5, will};
use super::script::{policy, rule, verdict};
use super::{Broker, each, each_version, each_with};
use crate::bans::{Bans, Nobody};
use crate::hook::{Certificate, Client, Decision, Effect, Transformation};
use crate::time::Millis;
use nervewire_codec::{Packet, ReasonCode, Subscribe, Version};
use std::sync::Arc;

/// Bans one client identifier.
#[derive(Debug)]
struct Bad;

impl Bans for Bad {
    fn is_banned(&self, client: &Client, _: Millis) -> bool {
        &*client.client_id == "bad"
    }
}

impl Broker {
    fn set_bans(&mut self, bans: impl Bans + 'static) {
        let bans = Arc::new(bans);
        self.shards.iter_mut().for_each(|shard| shard.set_bans(bans.clone()));
    }

    /// The ban is in force, then its client is disconnected, as the driver does it.
    fn ban(&mut self) {
        self.set_bans(Bad);
        self.kick("bad");
    }

    fn kick(&mut self, client_id: &str) {
        let now = self.now;
        for shard in &mut self.shards {
            shard.kick(now, None, client_id);
        }
        self.settle();
    }

    fn subscribe_without_answer(&mut self, c: super::C, topic: &str) {
        let packet_id = self.packet_id(c);
        self.send(
            c,
            Packet::Subscribe(Subscribe {
                packet_id,
                properties: None,
                filters: vec![filter(topic, 1)],
            }),
        );
    }
}

fn allow_all() -> Answer {
    Answer::Rules(vec![Ok(Some(vec![rule(Effect::Allow, "#")]))])
}

/// CVE-2025-59946, CVE-2026-22040: whoever is banned while its CONNECT waits for a plugin is not let in by the answer.
#[test]
fn a_ban_that_crosses_a_connect_leaves_no_connection() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 0));
        b.hold_calls();
        let bad = b.open(client(version, "bad").lasting().will(will("t", 1, "will")));
        b.ban();
        b.answer_held(allow_all());
        let reason = b.connack(bad).reason;
        if version == Version::V5 {
            assert_eq!(reason, ReasonCode::Banned);
        }
        assert!(reason.is_error() && !b.is_open(bad));
        assert_eq!((b.sessions(), b.total(|c| c.connections)), (0, 0));
    });
}

/// In each order of question, answer and kick: nothing of the SUBSCRIBE is left, neither in the index nor in a group.
#[test]
fn a_kick_that_crosses_a_subscribe_leaves_no_subscription() {
    for topic in ["t", "$share/g/t"] {
        for lasting in [false, true] {
            each(|b| {
                b.set_policy(policy(1, 1, 0));
                b.script = Box::new(|call| matches!(call, Call::Rules { .. }).then(|| Answer::Rules(vec![Ok(None)])));
                let who = || if lasting { v5("bad").lasting() } else { v5("bad") };
                let bad = b.connect(who());
                b.subscribe_without_answer(bad, topic);
                b.kick("bad");
                assert_eq!(b.farewell(bad), Some(ReasonCode::AdministrativeAction));
                // Its successor has the same slot and the same number, and must not inherit what was asked for.
                let next = b.connect(who());
                b.answer_held(verdict(Decision::Allow, 0));
                assert_eq!(b.total(|c| c.subscriptions), 0);
                assert!(b.take(next).is_empty());
            });
        }
    }
}

#[test]
fn a_takeover_that_crosses_a_subscribe_leaves_no_subscription() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 0));
        b.script = Box::new(|call| matches!(call, Call::Rules { .. }).then(|| Answer::Rules(vec![Ok(None)])));
        let old = b.connect(client(version, "c").lasting());
        b.subscribe_without_answer(old, "t");
        let new = b.connect(client(version, "c").lasting());
        b.answer_held(verdict(Decision::Allow, 0));
        assert_eq!(b.total(|c| c.subscriptions), 0);
        assert!(b.is_open(new) && !b.is_open(old));
    });
}

/// The CONNACK waits for the store when the kick comes.
#[test]
fn a_kick_before_the_connack_ends_the_connection() {
    let mut b = super::restart::stored(1);
    b.store_held = true;
    let c = b.open(v5("bad").lasting());
    assert!(b.take(c).is_empty());
    b.kick("bad");
    b.store_held = false;
    b.settle();
    assert!(!b.is_open(c));
    assert_eq!(b.total(|c| c.connections), 0);
    assert!(b.take(c).is_empty(), "no CONNACK to somebody who was kicked");
}

#[test]
fn a_banned_clients_will_goes_nowhere_at_once_or_delayed_and_after_a_restart() {
    for delay_s in [0, 5] {
        let mut b = super::restart::stored(1);
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 1);
        let mut last = will("t", 1, "will");
        last.properties = Some(Box::new(nervewire_codec::Properties {
            will_delay_interval: Some(delay_s),
            ..Default::default()
        }));
        b.connect(v5("bad").lasting().will(last));
        b.ban();
        let journaled = b.journal.len();
        b.advance(10_000);
        assert_eq!(b.payloads(s), [""; 0], "after {delay_s} s");
        if delay_s > 0 {
            let mut b = b.read_again(journaled, 1);
            b.set_bans(Bad);
            let s = b.connect(v5("s").lasting());
            b.advance(10_000);
            assert_eq!(b.payloads(s), [""; 0]);
        }
    }
}

#[test]
fn what_a_banned_client_published_before_a_plugin_answered_reaches_nobody() {
    for level in 0..3 {
        each(|b| {
            b.set_policy(policy(1, 1, 1));
            b.script = Box::new(|call| matches!(call, Call::Rules { .. }).then(allow_all));
            let (s, bad) = (b.connect(v5("s")), b.connect(v5("bad")));
            b.subscribe(s, "t", 2);
            b.publish_packet(bad, publish("t", level, "x"));
            b.ban();
            b.answer_held(Answer::Transform(Ok(Transformation::Pass)));
            assert_eq!(b.payloads(s), [""; 0]);
        });
    }
}

#[test]
fn a_will_does_not_outlive_the_certificate_it_came_with() {
    each_version(|b, version| {
        let s = b.connect(v5("s"));
        b.subscribe(s, "t", 1);
        for (id, seconds, expected) in [("a", 10, &["a"][..]), ("b", 1, &[])] {
            let mut accepted = client(version, id).will(will("t", 1, id)).accepted();
            let not_after = (b.now / 1_000 + seconds) as i64;
            Arc::make_mut(&mut accepted.client).certificate = Some(Arc::new(certificate(not_after)));
            let c = b.open_accepted(accepted);
            b.connack(c);
            b.advance(5_000);
            b.lose(c);
            assert_eq!(b.payloads(s), expected);
        }
    });
}

fn certificate(not_after: i64) -> Certificate {
    Certificate {
        subject: String::new(),
        issuer: String::new(),
        common_name: None,
        alternative_names: Vec::new(),
        serial: String::new(),
        fingerprint: String::new(),
        not_before: 0,
        not_after,
    }
}

#[test]
fn another_user_begins_a_new_session_under_the_same_identifier() {
    each_version(|b, version| {
        let who = |user: &str| client(version, "c").lasting().username(user);
        let p = b.connect(v5("pub"));
        for connected in [false, true] {
            let alice = b.connect(who("alice"));
            b.manual(alice);
            b.subscribe(alice, "t", 2);
            b.publish(p, "t", 2, "in flight");
            if !connected {
                b.lose(alice);
            }
            b.publish(p, "t", 1, "queued");
            let (bob, connack) = b.connect_for(who("bob"));
            assert!(!connack.session_present && !b.is_open(alice));
            b.publish(p, "t", 1, "later");
            assert_eq!(b.payloads(bob), [""; 0]);
            assert_eq!(b.total(|c| c.subscriptions), 0);
            let (again, connack) = b.connect_for(who("bob"));
            assert!(
                connack.session_present || version == Version::V31,
                "his own he may resume"
            );
            b.lose(again);
        }
    });
}

#[test]
fn whoever_must_authenticate_again_is_disconnected_in_time() {
    each_with(
        |config| config.max_connection_s = 60,
        |b| {
            let c = b.connect(v5("c").keep_alive(0));
            b.advance(59_999);
            assert!(b.is_open(c));
            b.advance(1);
            assert_eq!(b.farewell(c), Some(ReasonCode::MaximumConnectTime));
        },
    );
}

#[test]
fn a_shorter_life_holds_for_those_who_are_connected() {
    each(|b| {
        let c = b.connect(v5("c").keep_alive(0));
        b.advance(30_000);
        for shard in &mut b.shards {
            let config = crate::limits::ShardConfig {
                max_connection_s: 40,
                ..shard.config.clone()
            };
            shard.set_config(config);
        }
        b.advance(9_999);
        assert!(b.is_open(c));
        b.advance(1);
        assert_eq!(b.farewell(c), Some(ReasonCode::MaximumConnectTime));
    });
}

#[test]
fn a_banned_clients_retained_message_is_withheld_while_the_ban_lasts() {
    each_version(|b, version| {
        let bad = b.connect(client(version, "bad"));
        b.publish_retained(bad, "t", 1, "x");
        b.ban();
        let s = b.connect(client(version, "s"));
        b.subscribe(s, "t", 1);
        assert_eq!(b.payloads(s), [""; 0]);
        b.set_bans(Nobody);
        b.subscribe(s, "t", 1);
        assert_eq!(b.payloads(s), ["x"]);
    });
}
