//! Retained messages (MQTT 5.0 sections 3.3.1.3, 3.8.3.1).

use super::super::topic_owner;
use super::scene::{client, filter, publish, qos, v5};
use super::{Broker, each, each_version, each_with};
use crate::limits::ShardConfig;
use nervewire_codec::{Publish, RetainHandling};

// [MQTT-3.3.1-5], [MQTT-3.3.1-8]
#[test]
fn a_new_subscription_gets_the_last_retained_message_of_each_topic() {
    each_version(|b, version| {
        let p = b.connect(client(version, "pub"));
        b.publish_retained(p, "a/1", 1, "old");
        b.publish_retained(p, "a/1", 2, "new");
        b.publish_retained(p, "a/2", 0, "two");
        b.publish_retained(p, "b", 1, "other");
        b.publish(p, "a/3", 1, "not retained");
        let s = b.connect(client(version, "s"));
        b.subscribe(s, "a/#", 1);
        let mut messages = b.messages(s);
        messages.sort_by(|a, b| a.topic.cmp(&b.topic));
        let seen: Vec<_> = messages
            .iter()
            .map(|m| (&*m.topic, &m.payload[..], m.qos, m.retain))
            .collect();
        assert_eq!(
            seen,
            [("a/1", &b"new"[..], qos(1), true), ("a/2", b"two", qos(0), true)]
        );
    });
}

// [MQTT-3.3.1-6], [MQTT-3.3.1-7]
#[test]
fn an_empty_retained_message_deletes_and_is_delivered_as_any_other() {
    each_version(|b, version| {
        let (s, p) = (b.connect(client(version, "s")), b.connect(client(version, "pub")));
        b.publish_retained(p, "t", 1, "x");
        b.subscribe(s, "t", 1);
        b.publish_retained(p, "t", 1, "");
        assert_eq!(b.payloads(s), ["x", ""]);
        b.subscribe(s, "t", 1);
        assert!(b.payloads(s).is_empty());
    });
}

// [MQTT-3.3.1-12], [MQTT-3.3.1-13]
#[test]
fn the_retain_flag_of_a_live_message_stays_only_as_published() {
    each(|b| {
        let (plain, published) = (b.connect(v5("plain")), b.connect(v5("published")));
        b.subscribe(plain, "t", 1);
        b.subscribe_with(published, "t", 1, |o| o.retain_as_published = true);
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "t", 1, "x");
        b.publish(p, "t", 1, "y");
        let flags = |messages: Vec<Publish>| messages.iter().map(|m| m.retain).collect::<Vec<_>>();
        assert_eq!(flags(b.messages(plain)), [false, false]);
        assert_eq!(flags(b.messages(published)), [true, false]);
    });
}

// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "t", 1, "x");
        let rows = [
            (RetainHandling::Send, [1, 1]),
            (RetainHandling::SendIfNew, [1, 0]),
            (RetainHandling::DoNotSend, [0, 0]),
        ];
        for (handling, expected) in rows {
            let s = b.connect(v5("s"));
            for count in expected {
                b.subscribe_with(s, "t", 1, |o| o.retain_handling = handling);
                assert_eq!(b.messages(s).len(), count, "{handling:?}");
            }
        }
    });
}

#[test]
fn a_retained_message_expires() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.publish_with(
            p,
            Publish {
                retain: true,
                ..publish("t", 1, "x")
            },
            |p| p.message_expiry_interval = Some(10),
        );
        b.advance(4_000);
        let s = b.connect(v5("s"));
        b.subscribe(s, "t", 1);
        assert_eq!(
            b.messages(s)[0].properties.as_ref().unwrap().message_expiry_interval,
            Some(6)
        );
        b.advance(6_000);
        b.subscribe(s, "t", 1);
        assert!(b.messages(s).is_empty());
        b.advance(1_000);
        assert_eq!(
            b.shards
                .iter()
                .map(|shard| shard.info_totals().retained_messages)
                .sum::<usize>(),
            0
        );
    });
}

#[test]
fn a_retained_message_carries_the_identifier_of_its_subscription() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "t", 1, "x");
        b.subscribe_all(p, vec![filter("#", 1)], Some(9));
        let messages = b.messages(p);
        assert_eq!(messages[0].properties.as_ref().unwrap().subscription_identifiers, [9]);
    });
}

#[test]
fn retained_messages_stay_when_their_publisher_goes() {
    each_version(|b, version| {
        let p = b.connect(client(version, "pub"));
        b.publish_retained(p, "t", 1, "x");
        b.lose(p);
        let s = b.connect(client(version, "s"));
        b.subscribe(s, "+", 1);
        assert_eq!(b.payloads(s), ["x"]);
    });
}

// MQTT 5.0 section 4.8.2
#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "t", 1, "x");
        b.subscribe(p, "$share/g/t", 1);
        assert!(b.messages(p).is_empty());
    });
}

#[test]
fn dollar_topics_are_hidden_from_wildcards_when_retained() {
    each_version(|b, version| {
        let p = b.connect(client(version, "pub"));
        b.publish_retained(p, "$x/t", 1, "x");
        b.subscribe(p, "#", 1);
        assert!(b.messages(p).is_empty());
    });
}

#[test]
fn a_retained_answer_older_than_a_live_message_is_dropped() {
    let mut b = Broker::new(ShardConfig {
        shards: 3,
        ..ShardConfig::default()
    });
    let (s, p) = (b.connect(v5("s")), b.connect(v5("pub")));
    // A third shard owns the topic: its answer and the publisher's message take different ways to the subscriber.
    let owner = (0..3)
        .find(|shard| [s, p].iter().all(|c| b.links[*c].shard != *shard))
        .unwrap();
    let topic = (0..)
        .map(|n| format!("t{n}"))
        .find(|t| usize::from(topic_owner(None, t, 3)) == owner)
        .unwrap();
    b.publish_retained(p, &topic, 1, "old");
    b.make_known(s, &topic);
    b.advance(1);
    b.held_from = Some(owner);
    b.subscribe(s, &topic, 1);
    b.publish_retained(p, &topic, 1, "new");
    b.held_from = None;
    b.settle();
    assert_eq!(b.payloads(s), ["new"]);
    b.subscribe(s, &topic, 1);
    assert_eq!(b.payloads(s), ["new"], "what is retained now");
}

#[test]
fn retained_messages_are_bounded_for_all_tenants_together() {
    each_with(
        |config| config.retained_messages = 2,
        |b| {
            for tenant in ["x", "y", "z"] {
                let p = b.connect(v5("pub").tenant(tenant));
                for n in 0..10 {
                    b.publish_retained(p, &format!("t/{n}"), 1, "x");
                }
            }
            for shard in &b.shards {
                assert!(shard.info_totals().retained_messages <= 2);
            }
            assert!(b.total(|c| c.retained_refused) > 0);
        },
    );
}
