//! Rates and budgets: a client over its bound is not read for a while.

use super::scene::{publish, v5};
use super::script::{deliver_rule, policy, rule, verdict};
use super::{Answer, Call, each, each_with};
use crate::hook::{Decision, Effect, Quotas};
use crate::limits::PLUGIN_TIME_NS_PER_S;
use nervewire_codec::{Packet, ReasonCode};

const PLUGIN_TIME_NS: u64 = PLUGIN_TIME_NS_PER_S as u64;

fn burst(b: &mut super::Broker, c: super::C, count: usize) {
    for _ in 0..count {
        b.send_later(c, Packet::Publish(publish("t", 0, "x")));
    }
    b.settle();
}

#[test]
fn a_client_over_its_publish_rate_is_paused_and_resumed() {
    each_with(
        |config| config.publish_rate_per_s = 10,
        |b| {
            let (c, other) = (b.connect(v5("a")), b.connect(v5("b")));
            burst(b, c, 30);
            assert_eq!(
                b.total(|c| c.received_messages[0]),
                11,
                "a second of it, and one in debt"
            );
            burst(b, other, 1);
            assert_eq!(b.total(|c| c.received_messages[0]), 12, "others are read");
            b.advance(1_000);
            assert_eq!(b.total(|c| c.received_messages[0]), 22);
            b.advance(1_000);
            assert_eq!(b.total(|c| c.received_messages[0]), 31);
            assert!(b.total(|c| c.paused_publish_rate) >= 19);
        },
    );
}

#[test]
fn a_quota_of_the_identity_is_its_publish_rate() {
    each(|b| {
        let c = b.connect(v5("a").quotas(Quotas {
            publish_rate_per_s: Some(2),
            ..Quotas::default()
        }));
        burst(b, c, 10);
        assert_eq!(b.total(|c| c.received_messages[0]), 3);
    });
}

#[test]
fn a_client_over_its_plugin_time_is_paused() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(|| vec![Ok(None)], |_, _| verdict(Decision::Allow, 0));
        let (c, other) = (b.connect(v5("a")), b.connect(v5("b")));
        b.call_ns = PLUGIN_TIME_NS / 2 + 1;
        burst(b, c, 5);
        assert_eq!(b.total(|c| c.received_messages[0]), 2);
        assert_eq!(b.total(|c| c.paused_plugin_time), 1);
        burst(b, other, 1);
        assert_eq!(b.total(|c| c.received_messages[0]), 3);
        b.advance(1_000);
        assert!(b.total(|c| c.received_messages[0]) >= 4);
        b.advance(3_000);
        assert_eq!(b.total(|c| c.received_messages[0]), 6);
    });
}

/// Whether a client's next packet is read at once.
fn is_read(b: &mut super::Broker, c: super::C) -> bool {
    b.send(c, Packet::PingReq);
    !b.pick(c, |packet| matches!(packet, Packet::PingResp)).is_empty()
}

#[test]
fn plugin_time_of_connect_is_the_clients() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        b.authorize(|| vec![Ok(None)], |_, _| verdict(Decision::Allow, 0));
        b.call_ns = 2 * PLUGIN_TIME_NS;
        let c = b.connect(v5("a"));
        assert!(!is_read(b, c));
        assert_eq!(b.total(|c| c.paused_plugin_time), 1);
        b.advance(1_000);
        assert_eq!(b.take(c), [Packet::PingResp]);
    });
}

/// A policy that asks about each delivery and about nothing else; no answer comes by itself.
fn ask_about_deliveries(b: &mut super::Broker) {
    b.set_policy(policy(1, 1, 0));
    b.script = Box::new(|call| {
        let rules = || vec![deliver_rule(Effect::Ask, "#"), rule(Effect::Allow, "#")];
        matches!(call, Call::Rules { .. }).then(|| Answer::Rules(vec![Ok(Some(rules()))]))
    });
}

#[test]
fn plugin_time_of_deliveries_is_the_receivers() {
    each(|b| {
        ask_about_deliveries(b);
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe(s, "t", 0);
        b.publish(p, "t", 0, "x");
        b.call_ns = 2 * PLUGIN_TIME_NS;
        b.answer_held(verdict(Decision::Allow, 0));
        assert_eq!(b.payloads(s), ["x"]);
        assert!(is_read(b, s), "it may have been read already");
        assert_eq!((is_read(b, s), is_read(b, p)), (false, true));
        b.advance(1_000);
        assert_eq!(b.take(s), [Packet::PingResp]);
    });
}

#[test]
fn plugin_time_of_a_connection_that_left_is_not_its_successors() {
    each(|b| {
        ask_about_deliveries(b);
        let (s, p) = (b.connect(v5("s").lasting()), b.connect(v5("pub")));
        b.subscribe(s, "t", 1);
        b.publish(p, "t", 1, "x");
        b.lose(s);
        let s = b.connect(v5("s").lasting());
        b.call_ns = 2 * PLUGIN_TIME_NS;
        b.answer_held(verdict(Decision::Allow, 0));
        assert!(is_read(b, s) && is_read(b, s));
        assert_eq!(b.total(|c| c.paused_plugin_time), 0);
    });
}

#[test]
fn changed_bounds_hold_from_the_next_message_on() {
    each(|b| {
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 1);
        b.lose(s);
        for shard in &mut b.shards {
            shard.set_config(crate::limits::ShardConfig {
                queue_messages: 1,
                ..Default::default()
            });
        }
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "1");
        b.publish(p, "t", 1, "2");
        let s = b.connect(v5("s").lasting());
        assert_eq!(b.payloads(s), ["2"]);
    });
}

// What a hundred thousand idle clients cost is mostly this.
#[test]
fn an_idle_client_is_small() {
    assert!(size_of::<super::super::conn::Conn>() <= 240);
    assert!(size_of::<crate::session::Session>() <= 368);
}

#[test]
fn a_session_too_many_is_refused_and_those_that_exist_may_come_back() {
    each_with(
        |config| config.sessions = 1,
        |b| {
            // As many sessions as there are shards, wherever their keys belong: at least one more is refused.
            let clients: Vec<_> = (0..64).map(|n| b.open(v5(&format!("c{n}")).lasting())).collect();
            let answers: Vec<_> = clients.iter().map(|c| b.connack(*c).reason).collect();
            let kept: Vec<usize> = (0..64).filter(|n| answers[*n] == ReasonCode::Success).collect();
            assert_eq!(kept.len() as u64, b.sessions());
            assert!(answers.contains(&ReasonCode::QuotaExceeded));
            assert_eq!(b.total(|c| c.sessions_refused), 64 - kept.len() as u64);
            for n in kept {
                b.disconnect(clients[n]);
                let (_, again) = b.connect_for(v5(&format!("c{n}")).lasting().clean_start(false));
                assert!(again.session_present, "c{n}");
            }
        },
    );
}
