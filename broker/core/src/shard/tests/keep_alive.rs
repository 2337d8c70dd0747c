//! Keep Alive (MQTT 5.0 section 3.1.2.10), and timers.

use super::scene::{client, publish, v5};
use super::{each, each_version, each_with};
use nervewire_codec::{Packet, ReasonCode, Version};

// [MQTT-3.1.2-22]
#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a").keep_alive(10));
        b.advance(14_999);
        assert!(b.is_open(c));
        b.advance(1);
        let told = (version == Version::V5).then_some(ReasonCode::KeepAliveTimeout);
        assert_eq!(b.farewell(c), told);
        assert_eq!(b.total(|c| c.disconnects_keep_alive), 1);
    });
}

// [MQTT-3.12.4-1]
#[test]
fn a_ping_is_answered_and_keeps_the_connection() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a").keep_alive(10));
        for _ in 0..5 {
            b.advance(14_000);
            b.send(c, Packet::PingReq);
            assert_eq!(b.take(c), [Packet::PingResp]);
        }
        b.advance(15_000);
        assert!(!b.is_open(c));
    });
}

#[test]
fn no_keep_alive_means_no_timeout() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        b.advance(1_000_000);
        assert!(b.is_open(c));
    });
}

#[test]
fn the_servers_keep_alive_holds_for_those_who_were_told() {
    each_with(
        |config| config.max_keep_alive_s = 10,
        |b| {
            let told = b.connect(v5("a").keep_alive(100));
            let untold = b.connect(client(Version::V311, "b").keep_alive(100));
            b.advance(15_000);
            assert!(!b.is_open(told) && b.is_open(untold));
        },
    );
}

#[test]
fn a_client_that_is_not_read_is_not_silent() {
    each_with(
        |config| config.publish_rate_per_s = 1,
        |b| {
            let c = b.connect(v5("a").keep_alive(1));
            for _ in 0..6 {
                b.send_later(c, Packet::Publish(publish("t", 0, "x")));
            }
            b.settle();
            for _ in 0..4 {
                b.advance(1_000);
                assert!(b.is_open(c), "it has sent more than we read");
            }
        },
    );
}

#[test]
fn timers_of_connections_and_sessions_long_gone_are_forgotten() {
    each(|b| {
        let who = || {
            v5("a").lasting().keep_alive(60_000).will({
                let mut will = super::scene::will("t", 0, "");
                will.properties.get_or_insert_default().will_delay_interval = Some(3_000);
                will
            })
        };
        for _ in 0..5_000 {
            let c = b.connect(who());
            b.lose(c);
            b.advance(1);
        }
        b.advance(1_000);
        let timers: usize = b.shards.iter().map(|shard| shard.timers.len()).sum();
        assert!(timers <= 2_100 * b.shards.len(), "{timers} timers for one session");
        assert_eq!(b.total(|c| c.connections), 0);
        b.advance(3_600_000);
        assert_eq!(b.sessions(), 0, "the last ones still hold");
    });
}

#[test]
fn a_client_that_waits_for_a_plugin_is_not_silent() {
    each(|b| {
        b.set_policy(transforming());
        b.hold_calls();
        let c = b.connect(v5("a").keep_alive(1));
        b.send(c, Packet::Publish(publish("t", 0, "x")));
        b.advance(10_000);
        assert!(b.is_open(c));
        let pass = crate::hook::Transformation::Pass;
        b.answer_held(super::Answer::Transform(Ok(pass)));
        b.advance(1_499);
        assert!(b.is_open(c));
        b.advance(1);
        assert!(!b.is_open(c));
    });
}

#[test]
fn a_pause_as_long_as_the_keep_alive_does_not_end_the_connection() {
    each(|b| {
        b.set_policy(transforming());
        b.transform(|_, _| Ok(crate::hook::Transformation::Drop));
        let c = b.connect(v5("a").keep_alive(2));
        b.call_ns = 4 * u64::from(crate::limits::PLUGIN_TIME_NS_PER_S);
        b.send(c, Packet::Publish(publish("t", 0, "x")));
        b.call_ns = 0;
        b.send(c, Packet::PingReq);
        assert!(b.take(c).is_empty(), "paused for three seconds");
        b.advance(3_000);
        assert!(b.is_open(c));
        assert_eq!(b.take(c), [Packet::PingResp]);
    });
}

/// One transform, and nobody to authorize.
fn transforming() -> crate::policy::Policy {
    let default = crate::fold::DefaultDecision::Allow;
    crate::policy::Policy {
        default,
        ..super::script::policy(1, 0, 1)
    }
}
