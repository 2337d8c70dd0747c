//! Session Expiry Interval and Message Expiry Interval (MQTT 5.0 sections 3.1.2.11.2, 3.3.2.3.3).

use super::scene::client;
use super::scene::{publish, v5, v311};
use super::{each, each_version};
use nervewire_codec::{ReasonCode, Version};

// [MQTT-3.1.2-23]
#[test]
fn a_session_ends_when_its_expiry_interval_has_passed() {
    each(|b| {
        let c = b.connect(v5("a").lasting());
        b.lose(c);
        b.advance(3_599_999);
        assert_eq!(b.sessions(), 1);
        b.advance(1);
        assert_eq!(b.sessions(), 0);
        assert!(!b.connect_for(v5("a").lasting()).1.session_present);
    });
}

#[test]
fn a_session_that_never_expires_stays() {
    each(|b| {
        for who in [
            v311("a").lasting(),
            v5("b")
                .clean_start(false)
                .with(|p| p.session_expiry_interval = Some(u32::MAX)),
        ] {
            let c = b.connect(who);
            b.lose(c);
        }
        b.advance(10_000_000);
        assert_eq!(b.sessions(), 2);
    });
}

#[test]
fn a_reconnection_stops_the_expiry() {
    each(|b| {
        let c = b.connect(v5("a").lasting());
        b.lose(c);
        b.advance(3_000_000);
        let c = b.connect(v5("a").lasting());
        b.advance(1_000_000);
        assert!(b.is_open(c));
        b.lose(c);
        b.advance(3_599_999);
        assert_eq!(b.sessions(), 1);
    });
}

#[test]
fn disconnect_changes_the_expiry_interval() {
    each(|b| {
        let c = b.connect(v5("a").lasting());
        b.disconnect_with(c, ReasonCode::Success, Some(10));
        b.advance(10_000);
        assert_eq!(b.sessions(), 0);
        let c = b.connect(v5("a").lasting());
        b.disconnect_with(c, ReasonCode::Success, Some(0));
        assert_eq!(b.sessions(), 0);
    });
}

// [MQTT-3.14.2-2]
#[test]
fn disconnect_cannot_prolong_a_session_that_ends_with_its_connection() {
    each(|b| {
        let c = b.connect(v5("a"));
        b.disconnect_with(c, ReasonCode::Success, Some(10));
        assert_eq!(b.farewell(c), Some(ReasonCode::ProtocolError));
        assert_eq!(b.sessions(), 0);
    });
}

// [MQTT-3.3.2-6]
#[test]
fn message_expiry_is_counted_down_while_a_message_waits() {
    each(|b| {
        let c = b.connect(v5("a").lasting());
        b.subscribe(c, "t", 1);
        b.lose(c);
        let p = b.connect(v5("pub"));
        b.publish_with(p, publish("t", 1, "x"), |p| p.message_expiry_interval = Some(100));
        b.advance(30_500);
        let c = b.connect(v5("a").lasting());
        let messages = b.messages(c);
        assert_eq!(
            messages[0].properties.as_ref().unwrap().message_expiry_interval,
            Some(70)
        );
    });
}

// [MQTT-3.3.2-5]
#[test]
fn an_expired_message_is_dropped() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a").lasting());
        b.subscribe(c, "t", 1);
        b.lose(c);
        let p = b.connect(v5("pub"));
        b.publish_with(p, publish("t", 1, "short"), |p| p.message_expiry_interval = Some(10));
        b.publish_with(p, publish("t", 1, "long"), |p| p.message_expiry_interval = Some(100));
        b.advance(10_000);
        let c = b.connect(client(version, "a").lasting());
        assert_eq!(b.payloads(c), ["long"]);
        assert_eq!((b.total(|c| c.dropped.expired), b.total(|c| c.queued_messages)), (1, 0));
    });
}

#[test]
fn a_message_that_expires_on_its_way_between_shards_is_dropped() {
    each(|b| {
        let c = b.connect(v5("s"));
        b.subscribe(c, "t", 1);
        let p = b.connect(v5("pub"));
        b.mesh_held = true;
        b.publish_with(p, publish("t", 1, "x"), |p| p.message_expiry_interval = Some(1));
        b.mesh_held = false;
        let before = b.payloads(c).len();
        b.now += 2_000;
        b.settle();
        let after = b.messages(c);
        assert!(after.is_empty(), "{after:?}");
        assert_eq!(before as u64 + b.total(|c| c.dropped.expired), 1);
    });
}

#[test]
fn a_lifetime_of_zero_reaches_those_who_are_there() {
    each(|b| {
        let c = b.connect(v5("a"));
        b.subscribe(c, "t", 1);
        let p = b.connect(v5("pub"));
        b.publish_with(p, publish("t", 1, "now"), |p| p.message_expiry_interval = Some(0));
        assert_eq!(b.payloads(c), ["now"]);
    });
}

#[test]
fn expired_messages_make_room_before_others_must_go() {
    super::each_with(
        |config| {
            config.queue_messages = 2;
            config.queue_policy = crate::limits::QueuePolicy::RefuseNew;
        },
        |b| {
            let c = b.connect(v5("a").lasting());
            b.subscribe(c, "t", 1);
            b.lose(c);
            let p = b.connect(client(Version::V5, "pub"));
            for payload in ["1", "2"] {
                b.publish_with(p, publish("t", 1, payload), |p| p.message_expiry_interval = Some(1));
            }
            b.advance(1_000);
            b.publish(p, "t", 1, "3");
            let c = b.connect(v5("a").lasting());
            assert_eq!(b.payloads(c), ["3"]);
            assert_eq!(
                (b.total(|c| c.dropped.expired), b.total(|c| c.dropped.queue_messages)),
                (2, 0)
            );
        },
    );
}

#[test]
fn messages_that_expire_in_the_queue_of_a_session_that_is_away_make_room() {
    each(|b| {
        let s = b.connect(v5("a").lasting());
        b.subscribe(s, "t", 1);
        b.lose(s);
        let p = b.connect(v5("pub"));
        for n in 0..600u32 {
            b.publish_with(p, publish("t", 1, &n.to_string()), |properties| {
                properties.message_expiry_interval = (n % 100 != 0).then_some(10);
            });
        }
        b.advance(9_000);
        assert_eq!(b.total(|c| c.queued_messages), 600);
        b.advance(5_000);
        assert_eq!(b.total(|c| c.queued_messages), 6);
        assert_eq!(b.total(|c| c.dropped.expired), 594);
        b.check_kept();
        let s = b.connect(v5("a").lasting());
        assert_eq!(b.payloads(s), ["0", "100", "200", "300", "400", "500"]);
    });
}
