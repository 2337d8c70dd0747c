//! What is counted for detectors, and what they ask for.

use super::scene::{publish, v5};
use super::{Broker, C, each};
use crate::policy::Policy;
use crate::store::ClientKey;
use crate::windows::{ClientWindow, Span, merge};
use nervewire_codec::{Packet, ReasonCode};
use std::sync::Arc;

fn detecting() -> Policy {
    Policy {
        generation: 1,
        detects: true,
        default: crate::fold::DefaultDecision::Allow,
        ..Policy::default()
    }
}

/// Ends the window of all shards.
fn close(b: &mut Broker) -> Vec<ClientWindow> {
    let tallies: Vec<_> = b.shards.iter_mut().flat_map(super::Shard::close_window).collect();
    let span = Span {
        started_unix_ms: 0,
        length_ms: 1,
    };
    merge(tallies, span)
}

fn key(client_id: &str) -> ClientKey {
    ClientKey {
        tenant: None,
        client_id: Arc::from(client_id),
    }
}

/// On every shard: only the one that owns the session can do something.
fn on_each(b: &mut Broker, change: impl Fn(&mut super::Shard) -> bool) -> usize {
    b.shards.iter_mut().map(change).filter(|did| *did).count()
}

fn received(b: &Broker) -> u64 {
    b.total(|c| c.received_messages[0])
}

fn burst(b: &mut Broker, c: C, count: usize) {
    for _ in 0..count {
        b.send_later(c, Packet::Publish(publish("t", 0, "x")));
    }
    b.settle();
}

#[test]
fn clients_are_counted_where_a_plugin_looks() {
    each(|b| {
        b.set_policy(detecting());
        let (sender, receiver) = (b.connect(v5("sender")), b.connect(v5("receiver")));
        b.subscribe(receiver, "t/#", 1);
        b.publish(sender, "t/1", 1, "12345");
        b.publish(sender, "t/2", 0, "123");
        assert_eq!(b.payloads(receiver).len(), 2);
        let windows = close(b);
        let of = |id: &str| &windows.iter().find(|c| &*c.window.client_id == id).unwrap().window;
        let window = of("sender");
        assert_eq!((window.messages_in, window.messages_out, window.connects), (2, 0, 1));
        assert_eq!(window.distinct_topics, 2);
        assert_eq!((window.payload_bytes_min, window.payload_bytes_max), (3, 5));
        let window = of("receiver");
        assert_eq!((window.messages_in, window.messages_out, window.connects), (0, 2, 1));
        assert!(close(b).is_empty(), "nobody has done anything since");
    });
}

#[test]
fn nothing_is_counted_where_none_does() {
    each(|b| {
        let c = b.connect(v5("a"));
        burst(b, c, 3);
        assert!(b.shards.iter().all(|shard| !shard.counts_windows()));
        b.set_policy(detecting());
        burst(b, c, 2);
        let windows = close(b);
        assert_eq!(windows.len(), 1);
        assert_eq!((windows[0].window.messages_in, windows[0].window.connects), (2, 0));
        b.set_policy(Policy {
            detects: false,
            ..detecting()
        });
        burst(b, c, 2);
        assert!(close(b).is_empty());
        b.set_policy(detecting());
        burst(b, c, 4);
        assert_eq!(close(b)[0].window.messages_in, 4, "of a later detector");
    });
}

#[test]
fn a_client_that_breaks_the_protocol_is_counted() {
    each(|b| {
        b.set_policy(detecting());
        let c = b.connect(v5("a"));
        b.send(c, Packet::PingResp);
        assert!(!b.is_open(c));
        assert_eq!(close(b)[0].window.malformed_packets, 1);
    });
}

#[test]
fn a_throttle_outlives_the_connection_and_ends_at_its_time() {
    each(|b| {
        let c = b.connect(v5("a"));
        let until = b.now + 5_000;
        on_each(b, |shard| shard.throttle(key("a"), 2, until));
        burst(b, c, 10);
        assert_eq!(received(b), 3, "a second of it, and one in debt");
        b.lose(c);
        let c = b.connect(v5("a"));
        burst(b, c, 10);
        assert_eq!(received(b), 6, "who comes back is bounded as before");
        let other = b.connect(v5("b"));
        burst(b, other, 10);
        assert_eq!(received(b), 16, "others are not");
        b.advance(10_000);
        assert_eq!(b.total(|c| c.throttled_clients), 0);
        let before = received(b);
        burst(b, c, 100);
        assert_eq!(received(b), before + 100);
    });
}

#[test]
fn a_throttle_is_lifted_and_0_is_not_no_bound() {
    each(|b| {
        let c = b.connect(v5("a"));
        on_each(b, |shard| shard.throttle(key("a"), 0, u64::MAX));
        burst(b, c, 10);
        assert_eq!(received(b), 2);
        assert!(on_each(b, |shard| shard.lift_throttle(&key("a"))) > 0);
        assert_eq!(on_each(b, |shard| shard.lift_throttle(&key("a"))), 0);
        b.advance(2_000);
        assert_eq!(received(b), 10);
    });
}

#[test]
fn an_odd_client_is_disconnected() {
    each(|b| {
        let c = b.connect(v5("a"));
        let now = b.now;
        assert_eq!(on_each(b, |shard| shard.end_odd(now, &key("a"))), 1);
        b.settle();
        assert_eq!(b.farewell(c), Some(ReasonCode::QuotaExceeded));
        assert_eq!(on_each(b, |shard| shard.end_odd(now, &key("a"))), 0);
    });
}

#[test]
fn the_broker_announces_past_authorization_to_those_who_may_hear() {
    each(|b| {
        let c = b.connect(v5("a"));
        b.subscribe(c, "$SYS/#", 1);
        let message = crate::hook::AppMessage {
            topic: super::scene::text("$SYS/broker/alerts"),
            payload: bytes::Bytes::from_static(b"{}"),
            qos: super::scene::qos(1),
            retain: false,
            properties: None,
        };
        let broker = Arc::new(crate::hook::Client::unknown("$broker".into(), None));
        let now = b.now;
        b.shards[0].announce(now, &broker, message);
        b.settle();
        assert_eq!(b.payloads(c), ["{}"]);
    });
}
