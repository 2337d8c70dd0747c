//! Subscriptions (MQTT 5.0 sections 3.8, 3.10, 4.7).

use super::scene::{client, filter, qos, v5};
use super::{each, each_version};
use crate::hook::Quotas;
use nervewire_codec::{ReasonCode, Version};

// [MQTT-3.8.4-5], [MQTT-3.9.3-1]
#[test]
fn each_filter_gets_its_reason_in_order() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        let reasons = b.subscribe_all(c, vec![filter("a", 2), filter("b/#", 0), filter("+/c", 1)], None);
        assert_eq!(
            reasons,
            [ReasonCode::GrantedQoS2, ReasonCode::Success, ReasonCode::GrantedQoS1]
        );
    });
}

// [MQTT-3.8.4-8]
#[test]
fn the_lower_qos_of_message_and_subscription_holds() {
    each_version(|b, version| {
        for sub in 0..3 {
            let s = b.connect(client(version, "s"));
            let p = b.connect(client(version, "pub"));
            b.subscribe(s, "t", sub);
            for level in 0..3 {
                b.publish(p, "t", level, "x");
                assert_eq!(b.messages(s)[0].qos, qos(level.min(sub)));
            }
        }
    });
}

// [MQTT-3.3.4-2]
#[test]
fn overlapping_subscriptions_deliver_once_at_the_highest_qos() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe_all(s, vec![filter("a/#", 0), filter("a/+", 2), filter("a/b", 1)], None);
        b.publish(p, "a/b", 2, "x");
        let messages = b.messages(s);
        assert_eq!((messages.len(), messages[0].qos), (1, qos(2)));
    });
}

// [MQTT-3.3.4-3], [MQTT-3.3.4-4]
#[test]
fn all_identifiers_of_matching_subscriptions_are_sent() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe_all(s, vec![filter("a/#", 0)], Some(1));
        b.subscribe_all(s, vec![filter("a/+", 1)], Some(2));
        b.subscribe_all(s, vec![filter("a/b", 1)], None);
        b.subscribe_all(s, vec![filter("other", 1)], Some(3));
        for level in [0, 1] {
            b.publish(p, "a/b", level, "x");
            let message = b.messages(s).remove(0);
            let mut identifiers = message.properties.unwrap().subscription_identifiers;
            identifiers.sort_unstable();
            assert_eq!(identifiers, [1, 2]);
        }
    });
}

// [MQTT-3.8.4-3]
#[test]
fn an_equal_filter_replaces_the_subscription() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe_all(s, vec![filter("t", 2)], Some(1));
        b.subscribe_all(s, vec![filter("t", 0)], Some(2));
        b.publish(p, "t", 2, "x");
        let messages = b.messages(s);
        assert_eq!((messages.len(), messages[0].qos), (1, qos(0)));
        assert_eq!(messages[0].properties.as_ref().unwrap().subscription_identifiers, [2]);
        assert_eq!(b.total(|c| c.subscriptions), 1);
    });
}

// [MQTT-3.8.3-3]
#[test]
fn no_local_spares_the_publisher_its_own_messages() {
    each(|b| {
        let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
        b.subscribe_with(s, "t", 1, |o| o.no_local = true);
        b.publish(s, "t", 1, "own");
        b.publish(p, "t", 1, "other");
        assert_eq!(b.payloads(s), ["other"]);
    });
}

// [MQTT-4.7.2-1]
#[test]
fn topics_that_begin_with_a_dollar_are_hidden_from_wildcards_at_the_start() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe_all(s, vec![filter("#", 1), filter("+/b", 1)], None);
        b.publish(p, "$a/b", 1, "hidden");
        assert!(b.payloads(s).is_empty());
        b.subscribe(s, "$a/#", 1);
        b.publish(p, "$a/b", 1, "seen");
        assert_eq!(b.payloads(s), ["seen"]);
    });
}

// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.11.3-2]
#[test]
fn unsubscribe_ends_exactly_the_named_subscriptions() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.subscribe_all(
            s,
            vec![filter("a/#", 1), filter("a/b", 1), filter("$share/g/a/b", 1)],
            None,
        );
        let reasons = b.unsubscribe(s, &["a/b", "nothing", "$share/g/a/b"]);
        if version == Version::V5 {
            let expected = [
                ReasonCode::Success,
                ReasonCode::NoSubscriptionExisted,
                ReasonCode::Success,
            ];
            assert_eq!(reasons, expected);
        }
        b.publish(p, "a/b", 1, "x");
        assert_eq!(b.payloads(s), ["x"], "by a/# alone");
        b.unsubscribe(s, &["a/#"]);
        b.publish(p, "a/b", 1, "x");
        assert!(b.payloads(s).is_empty());
        assert_eq!(b.total(|c| c.subscriptions), 0);
    });
}

#[test]
fn a_quota_bounds_the_subscriptions_of_a_session() {
    each(|b| {
        let c = b.connect(v5("a").quotas(Quotas {
            subscriptions: Some(2),
            ..Quotas::default()
        }));
        let reasons = b.subscribe_all(
            c,
            vec![filter("a", 0), filter("b", 0), filter("c", 0), filter("a", 1)],
            None,
        );
        let (ok, full) = (ReasonCode::Success, ReasonCode::QuotaExceeded);
        assert_eq!(reasons, [ok, ok, full, ReasonCode::GrantedQoS1]);
        assert_eq!(b.total(|c| c.subscriptions_refused), 1);
    });
}

#[test]
fn without_a_quota_subscriptions_are_bounded_as_well() {
    each(|b| {
        let c = b.connect(v5("a"));
        let filters = (0..=crate::limits::MAX_SUBSCRIPTIONS)
            .map(|n| filter(&n.to_string(), 0))
            .collect();
        let reasons = b.subscribe_all(c, filters, None);
        assert_eq!(reasons.iter().filter(|reason| reason.is_error()).count(), 1);
        assert_eq!(reasons.last(), Some(&ReasonCode::QuotaExceeded));
    });
}

#[test]
fn a_client_receives_what_it_publishes_itself() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        b.subscribe(c, "t", 2);
        b.publish(c, "t", 2, "x");
        assert_eq!(b.payloads(c), ["x"]);
    });
}

#[test]
fn tenants_share_neither_topics_nor_identifiers() {
    each(|b| {
        let clients: Vec<_> = [v5("a").tenant("x"), v5("a").tenant("y"), v5("a")]
            .map(|who| b.connect(who))
            .into();
        assert_eq!(b.sessions(), 3);
        for c in &clients {
            b.subscribe_all(*c, vec![filter("#", 1), filter("$share/g/s", 1)], None);
        }
        for (n, c) in clients.iter().enumerate() {
            b.publish_retained(*c, "t", 1, &n.to_string());
            b.publish(*c, "s", 1, "shared");
        }
        for (n, c) in clients.iter().enumerate() {
            let mut seen = b.payloads(*c);
            seen.sort();
            assert_eq!(seen, [n.to_string(), "shared".into(), "shared".into()]);
            b.subscribe(*c, "t", 1);
            assert_eq!(b.payloads(*c), [n.to_string()], "retained");
        }
    });
}

#[test]
fn a_tenant_that_left_nothing_behind_is_forgotten() {
    each(|b| {
        for n in 0..10 {
            let c = b.connect(v5("a").tenant(&format!("tenant {n}")));
            b.subscribe_all(c, vec![filter("#", 1), filter("$share/g/#", 1)], None);
            b.publish_retained(c, "t", 1, "x");
            b.publish_retained(c, "t", 1, "");
            b.publish_retained(c, "never", 1, "");
            b.lose(c);
        }
        b.advance(1_000);
        let spaces: Vec<usize> = b.shards.iter().map(|shard| shard.spaces.len()).collect();
        assert!(spaces.iter().all(|spaces| *spaces == 1), "{spaces:?}");
    });
}

#[test]
fn a_tenant_stays_while_somebody_of_it_is_there() {
    each(|b| {
        let who = |id: &str| v5(id).tenant("x");
        let (s, p, passing) = (b.connect(who("s")), b.connect(who("pub")), b.connect(who("b")));
        b.subscribe(s, "t", 1);
        b.subscribe(passing, "$share/g/t", 1);
        b.unsubscribe(passing, &["$share/g/t"]);
        b.lose(passing);
        b.advance(2_000);
        b.publish(p, "t", 1, "x");
        assert_eq!(b.payloads(s), ["x"]);
    });
}

#[test]
fn each_of_equal_messages_in_a_row_follows_the_subscriptions_of_its_moment() {
    each(|b| {
        let (p, s, t) = (b.connect(v5("pub")), b.connect(v5("s")), b.connect(v5("t")));
        let expect = |b: &mut super::Broker, to_s: Option<u8>, to_t: Option<u8>| {
            b.publish(p, "a/b", 1, "x");
            b.publish(p, "a/b", 1, "x");
            for (client, expected) in [(s, to_s), (t, to_t)] {
                let levels: Vec<_> = b.messages(client).iter().map(|message| message.qos).collect();
                assert_eq!(
                    levels,
                    vec![qos(expected.unwrap_or(0)); if expected.is_some() { 2 } else { 0 }]
                );
            }
        };
        expect(b, None, None);
        b.subscribe(s, "a/+", 0);
        expect(b, Some(0), None);
        b.subscribe(s, "a/+", 1);
        expect(b, Some(1), None);
        b.subscribe(t, "a/b", 1);
        expect(b, Some(1), Some(1));
        b.unsubscribe(s, &["a/+"]);
        expect(b, None, Some(1));
        b.disconnect(t);
        let t = b.connect(v5("t"));
        b.publish(p, "a/b", 1, "x");
        assert_eq!(b.messages(t).len(), 0);
    });
}

#[test]
fn equal_messages_of_two_tenants_in_a_row_stay_apart() {
    each(|b| {
        let (x, y) = (v5("s").tenant("x"), v5("s").tenant("y"));
        let (x, y) = (b.connect(x), b.connect(y));
        b.subscribe(x, "a", 1);
        b.subscribe(y, "a", 1);
        for publisher in [x, y] {
            b.publish(publisher, "a", 1, "m");
            let received = [x, y].map(|client| b.messages(client).len());
            assert_eq!(received, [usize::from(publisher == x), usize::from(publisher == y)]);
        }
    });
}
