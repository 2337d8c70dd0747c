//! What one client can cost: rates that it shares or has alone, bounds of one packet, takeovers without end, bans.

use super::restart::stored;
use super::scene::{Who, client, filter, publish, text, v5, v311, will};
use super::{Broker, C, each, each_version, each_with};
use crate::handshake::{Accepted, SharedRates};
use crate::limits::{ClientLimits, RATE_PAUSE_MS, ShardConfig};
use crate::rate::SharedRate;
use crate::store::{BannedSubject, StoredBan};
use crate::time::Millis;
use nervewire_codec::{Packet, Properties, Publish, ReasonCode, UserProperty, Version};
use std::sync::Arc;

fn received(b: &Broker) -> u64 {
    b.total(|c| c.received_messages[0])
}

fn burst(b: &mut Broker, c: C, count: usize, payload: &str) {
    for _ in 0..count {
        b.send_later(c, Packet::Publish(publish("t", 0, payload)));
    }
    b.settle();
}

/// A rate that others have used up: after each message it is to be waited for.
#[derive(Debug)]
struct UsedUp(Millis);

impl SharedRate for UsedUp {
    fn take(&self, now: Millis, tokens: u64) -> Option<Millis> {
        assert_eq!(tokens, 1, "packets are counted");
        Some(now + self.0)
    }
}

/// Opens a connection that shares these rates.
fn open_sharing(b: &mut Broker, id: &str, rates: SharedRates) -> C {
    let mut accepted: Accepted = v5(id).accepted();
    accepted.rates = rates;
    let c = b.open_accepted(accepted);
    b.settle();
    b.take(c);
    c
}

#[test]
fn a_client_over_its_bytes_per_second_is_read_later() {
    each_with(
        |config| config.per_client.publish_bytes_per_s = 1_000,
        |b| {
            let (c, other) = (b.connect(v5("a")), b.connect(v5("b")));
            burst(b, c, 10, &"x".repeat(399));
            assert_eq!(received(b), 3, "a second of it, and one in debt");
            burst(b, other, 1, "x");
            assert_eq!(received(b), 4, "others are read");
            b.advance(1_000);
            assert!((5..=7).contains(&received(b)), "{}", received(b));
            assert!(b.total(|c| c.paused_publish_bytes) > 0 && b.is_open(c));
            b.advance(10_000);
            assert_eq!(received(b), 11, "nothing is lost");
        },
    );
}

#[test]
fn a_client_over_its_rate_of_filters_is_read_later() {
    each_with(
        |config| config.per_client.subscribe_rate_per_s = 4,
        |b| {
            let c = b.connect(v5("a"));
            b.subscribe_all(c, (0..5).map(|n| filter(&n.to_string(), 0)).collect(), None);
            assert_eq!(b.total(|c| c.paused_subscribe_rate), 1);
            b.send(c, Packet::PingReq);
            assert!(b.take(c).is_empty(), "it is not read");
            b.advance(1_000);
            assert!(matches!(b.take(c)[..], [Packet::PingResp]));
        },
    );
}

#[test]
fn a_client_whose_user_is_over_its_rate_is_read_later() {
    each(|b| {
        let rates = SharedRates {
            user: Some(Arc::new(UsedUp(500))),
            address: None,
        };
        let (c, other) = (open_sharing(b, "a", rates), b.connect(v5("other")));
        burst(b, c, 3, "x");
        burst(b, other, 20, "x");
        assert_eq!(received(b), 21, "others have nothing to do with it");
        b.advance(500);
        assert_eq!(received(b), 22);
        b.advance(500);
        assert_eq!(received(b), 23);
        assert_eq!(b.total(|c| c.paused_user_publish_rate), 3);
    });
}

#[test]
fn a_client_looks_again_whether_its_address_has_paid_its_debt() {
    each(|b| {
        let rates = SharedRates {
            user: None,
            address: Some(Arc::new(UsedUp(3_600_000))),
        };
        let c = open_sharing(b, "a", rates);
        burst(b, c, 2, "x");
        assert_eq!(received(b), 1);
        b.advance(RATE_PAUSE_MS);
        assert_eq!(received(b), 2);
        assert_eq!(b.total(|c| c.paused_address_publish_rate), 2);
    });
}

#[test]
fn a_client_that_stays_over_its_rate_is_disconnected_at_last() {
    each_with(
        |config| (config.publish_rate_per_s, config.per_client.over_rate_s) = (10, 5),
        |b| {
            let c = b.connect(v5("a"));
            burst(b, c, 200, "x");
            b.advance(4_000);
            assert!(b.is_open(c));
            for _ in 0..20 {
                b.advance(100);
            }
            assert_eq!(b.farewell(c), Some(ReasonCode::MessageRateTooHigh));
            assert_eq!(b.total(|c| c.over_rate_disconnected), 1);
        },
    );
}

#[test]
fn a_client_that_pauses_between_its_bursts_is_never_disconnected() {
    each_with(
        |config| (config.publish_rate_per_s, config.per_client.over_rate_s) = (10, 5),
        |b| {
            let c = b.connect(v311("a"));
            for _ in 0..20 {
                burst(b, c, 15, "x");
                b.advance(4_000);
            }
            assert!(b.is_open(c));
            assert_eq!(received(b), 300);
        },
    );
}

fn refusal(b: &mut Broker, who: Who) -> ReasonCode {
    let c = b.open(who);
    b.settle();
    b.connack(c).reason
}

fn small(config: &mut ShardConfig) {
    config.per_client.topic_levels = 3;
    config.per_client.topic_bytes = 20;
    config.per_client.user_properties = 2;
    config.per_client.subscriptions_per_client = 2;
}

#[test]
fn topics_and_filters_have_a_depth_and_a_length() {
    each_with(small, |b| {
        let c = b.connect(v5("a"));
        assert_eq!(b.publish(c, "a/b/c", 1, ""), Some(ReasonCode::Success));
        assert_eq!(b.subscribe(c, "a/b/c/d", 0), ReasonCode::TopicFilterInvalid);
        assert_eq!(
            b.subscribe(c, "123456789012345678901", 0),
            ReasonCode::TopicFilterInvalid
        );
        assert_eq!(b.subscribe(c, "a/b/#", 0), ReasonCode::Success);
        for topic in ["a/b/c/d", "123456789012345678901"] {
            let c = b.connect(v5("p"));
            b.send(c, Packet::Publish(publish(topic, 0, "")));
            assert_eq!(b.farewell(c), Some(ReasonCode::TopicNameInvalid));
        }
        assert_eq!(
            refusal(b, v5("w").will(will("a/b/c/d", 0, ""))),
            ReasonCode::TopicNameInvalid
        );
        assert_eq!(b.total(|c| c.topics_over_bound), 5);
    });
}

fn properties(count: usize) -> Properties {
    let property: UserProperty = (text("n"), text("v"));
    Properties {
        user_properties: vec![property; count],
        ..Properties::default()
    }
}

#[test]
fn user_properties_of_a_packet_are_bounded() {
    each_with(small, |b| {
        let c = b.connect(v5("a").with(|p| p.user_properties = properties(2).user_properties));
        let with = |count| Publish {
            properties: Some(Box::new(properties(count))),
            ..publish("t", 0, "")
        };
        b.send(c, Packet::Publish(with(2)));
        assert!(b.is_open(c));
        b.send(c, Packet::Publish(with(3)));
        assert_eq!(b.farewell(c), Some(ReasonCode::QuotaExceeded));
        let many = v5("b").with(|p| p.user_properties = properties(3).user_properties);
        assert_eq!(refusal(b, many), ReasonCode::QuotaExceeded);
        assert_eq!(b.total(|c| c.user_properties_over_bound), 2);
    });
}

#[test]
fn subscriptions_of_a_client_are_as_many_as_configured() {
    each_with(small, |b| {
        let c = b.connect(v5("a"));
        let reasons = b.subscribe_all(c, vec![filter("a", 0), filter("b", 0), filter("c", 0)], None);
        assert_eq!(reasons[2], ReasonCode::QuotaExceeded);
    });
}

#[test]
fn the_windows_both_ways_are_as_configured() {
    each_with(
        |config| (config.per_client.receive_maximum, config.per_client.in_flight_messages) = (7, 2),
        |b| {
            let (s, connack) = b.connect_for(v5("s"));
            assert_eq!(connack.properties.and_then(|p| p.receive_maximum), Some(7));
            b.subscribe(s, "t", 1);
            b.manual(s);
            let p = b.connect(v5("p"));
            for _ in 0..5 {
                b.publish(p, "t", 1, "x");
            }
            assert_eq!(b.messages(s).len(), 2);
        },
    );
}

#[test]
fn two_clients_with_one_identifier_wait_for_each_other_ever_longer() {
    for version in [Version::V311, Version::V5] {
        each_with(
            |config| config.per_client.takeovers_per_minute = 3,
            |b| {
                let mut last = b.connect(client(version, "twin"));
                for _ in 0..3 {
                    let next = b.connect(client(version, "twin"));
                    assert!(!b.is_open(last));
                    last = next;
                }
                let waits = b.open(client(version, "twin"));
                b.settle();
                assert!(b.take(waits).is_empty() && b.is_open(last), "its turn comes later");
                assert_eq!((b.total(|c| c.takeovers_delayed), b.taken_over_often), (1, 1));
                // One more takes the place of the one that waits.
                let newer = b.open(client(version, "twin"));
                b.settle();
                assert!(!b.is_open(waits) && b.is_open(last));
                b.advance(10_000);
                assert!(!b.is_open(last));
                assert!(matches!(b.take(newer)[..], [Packet::ConnAck(_)]));
                assert_eq!(b.taken_over_often, 1, "it is said once");
                assert_eq!(b.sessions(), 1);
                // Others are let in at once.
                b.connect(client(version, "other"));
            },
        );
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_to_take_over_leaves_nothing() {
    each_with(
        |config| config.per_client.takeovers_per_minute = 1,
        |b| {
            b.connect(v5("twin"));
            let last = b.connect(v5("twin"));
            let waits = b.open(v5("twin"));
            b.settle();
            b.lose(waits);
            b.advance(120_000);
            assert!(b.is_open(last));
            b.connect(v5("twin"));
        },
    );
}

#[test]
fn a_client_that_comes_back_after_its_connection_ended_takes_nothing_over() {
    each_with(
        |config| config.per_client.takeovers_per_minute = 1,
        |b| {
            for _ in 0..20 {
                let c = b.connect(v5("a").lasting());
                b.lose(c);
            }
            assert_eq!(b.total(|c| c.takeovers_delayed), 0);
        },
    );
}

#[test]
fn a_client_that_waits_to_take_over_can_be_banned() {
    each_version(|b, version| {
        for shard in &mut b.shards {
            let config = ShardConfig {
                shards: 1,
                per_client: ClientLimits {
                    takeovers_per_minute: 1,
                    ..ClientLimits::default()
                },
                ..ShardConfig::default()
            };
            shard.set_config(config);
        }
        b.connect(client(version, "twin"));
        b.connect(client(version, "twin"));
        let waits = b.open(client(version, "twin"));
        b.settle();
        let now = b.now;
        let ended: usize = b.shards.iter_mut().map(|shard| shard.banish(now, |_| true)).sum();
        b.settle();
        assert_eq!(ended, 2);
        assert!(!b.is_open(waits));
    });
}

fn ban(name: &str, until: Option<u64>) -> StoredBan {
    StoredBan {
        subject: BannedSubject::ClientId {
            tenant: None,
            client_id: name.into(),
        },
        since: 1,
        until,
        reason: "because".into(),
        by: "operator".into(),
    }
}

/// Records bans on the shard that does so.
fn keep(b: &mut Broker, name: &str, until: Option<u64>, number: u64) {
    let now = b.now;
    let keeper = b.shards.iter_mut().find(|shard| shard.keeps_bans()).expect("one");
    keeper.keep_ban(now, ban(name, until), number);
    b.settle();
}

fn kept(b: &Broker) -> Vec<StoredBan> {
    let mut all: Vec<StoredBan> = b.shards.iter().flat_map(|shard| shard.kept_bans().cloned()).collect();
    all.sort_by_key(|ban| format!("{ban:?}"));
    all
}

#[test]
fn bans_are_there_after_a_crash_and_after_checkpoints_and_lifted_ones_are_not() {
    for (from, to) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
        let mut b = stored(from);
        let later = b.now + 60_000;
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            keep(&mut b, name, None, number as u64);
        }
        keep(&mut b, "timed", Some(later), 3);
        let now = b.now;
        let keeper = b.shards.iter_mut().find(|shard| shard.keeps_bans()).expect("one");
        keeper.lift_ban(now, ban("b", None).subject, 4);
        b.settle();
        keep(&mut b, "c", Some(later), 5);
        let expected = [ban("a", None), ban("c", Some(later)), ban("timed", Some(later))];
        assert_eq!(b.kept_bans, [0, 1, 2, 3, 4, 5]);
        assert_eq!(kept(&b), expected);
        assert_eq!(kept(&b.restarted_with(to)), expected);
        b.checkpoint(b.journal.len());
        assert_eq!(kept(&b.restarted_with(to)), expected);
        // What has ended by itself is not kept for ever.
        b.advance(60_000);
        b.checkpoint(b.journal.len());
        assert_eq!(kept(&b.restarted_with(to)), [ban("a", None)]);
    }
}

#[test]
fn a_ban_is_reported_as_kept_when_it_is_durable_and_not_before() {
    let mut b = stored(1);
    b.store_held = true;
    keep(&mut b, "a", None, 7);
    assert!(b.kept_bans.is_empty());
    b.store_held = false;
    b.settle();
    assert_eq!(b.kept_bans, [7]);
}

#[test]
fn without_a_store_a_ban_is_kept_at_once_and_appends_nothing() {
    let mut b = Broker::new(ShardConfig::default());
    keep(&mut b, "a", None, 7);
    assert_eq!(b.kept_bans, [7]);
    assert!(b.journal.is_empty());
}

#[test]
fn who_never_reads_loses_its_own_messages_when_memory_is_used_up() {
    let bounds = |config: &mut ShardConfig| {
        config.memory_bytes = 600_000;
        config.queue_messages = 100_000;
        config.queue_bytes = u64::MAX;
    };
    each_with(bounds, |b| {
        let slow = b.connect(v5("slow"));
        b.subscribe(slow, "t", 0);
        b.links[slow].stuck = true;
        let (reads, p) = (b.connect(v5("reads")), b.connect(v5("p")));
        b.subscribe(reads, "t", 1);
        for number in 0..200 {
            assert_eq!(
                b.publish(p, "t", 1, &format!("{number:010000}")),
                Some(ReasonCode::Success)
            );
        }
        assert_eq!(b.payloads(reads).len(), 200);
        assert!(b.total(|c| c.dropped.memory_bytes) > 0);
        assert!(b.shards.iter().all(|shard| shard.over_memory() == 0));
        // It has the latest of what waited for it.
        b.unstick(slow);
        b.publish(p, "t", 0, "last");
        assert_eq!(b.payloads(slow).last().map(String::as_str), Some("last"));
    });
}

#[test]
fn bytes_that_the_driver_holds_count_for_the_memory() {
    each_with(
        |config| config.memory_bytes = 10_000,
        |b| {
            for shard in &mut b.shards {
                shard.set_read_bytes(10_500);
                assert_eq!(shard.over_memory(), 500);
                shard.set_read_bytes(0);
                assert_eq!(shard.over_memory(), 0);
            }
        },
    );
}

#[test]
fn a_client_with_too_much_outside_of_its_session_is_told_why_it_goes() {
    each(|b| {
        let c = b.connect(v5("a"));
        let (shard, id, now) = (b.links[c].shard, b.links[c].id, b.now);
        b.shards[shard].end_for_memory(now, id);
        b.settle();
        assert_eq!(b.farewell(c), Some(ReasonCode::QuotaExceeded));
        assert_eq!(b.total(|c| c.memory_disconnected), 1);
    });
}
