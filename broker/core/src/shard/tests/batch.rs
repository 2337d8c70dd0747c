//! Plugins that are asked about several PUBLISHes at once: nothing that anybody sees depends on it.

use super::super::{Ahead, Answer, Call, MAX_BATCH_MESSAGES, may_be_asked_ahead};
use super::here::{Sent, packet, plugins, seen_by, sent, two_clients};
use super::scene::{publish, text, v5};
use super::script::{Here, policy};
use super::{Broker, C};
use crate::hook::{CallFailed, Decision, OnFailure, Transformation, Verdict};
use crate::limits::ShardConfig;
use crate::policy::Policy;
use crate::shard::Feed;
use nervewire_codec::{Packet, Publish, PublishRef, QoS};
use proptest::prelude::*;

/// A broker with such plugins, all of them called where the shard is, and a client that publishes.
fn broker(policy: Policy, script: impl FnMut(&Call) -> Answer + 'static) -> (Broker, C) {
    let mut b = Broker {
        here: usize::MAX,
        ..Broker::new(ShardConfig::default())
    };
    b.set_policy(policy);
    let mut script = script;
    b.script = Box::new(move |call| Some(script(call)));
    let c = b.connect(v5("a"));
    b.subscribe(c, "#", 0);
    // From now on its rules are known.
    b.publish_packet(c, publish("t", 0, "first"));
    b.calls.clear();
    (b, c)
}

/// The run is asked about, by a broker that goes on as `then` says.
fn ask<'r>(b: &mut Broker, c: C, run: &[PublishRef<'r>]) -> Option<Ahead<'r>> {
    let (shard, id) = (b.links[c].shard, b.links[c].id);
    let mut here = Here {
        here: b.here,
        script: &mut b.script,
        calls: &mut b.calls,
        call_ns: b.call_ns,
    };
    b.shards[shard].ask_ahead(b.now, id, run, &mut here)
}

/// A PUBLISH is fed, with what was said about this position.
fn feed(b: &mut Broker, c: C, publish: PublishRef<'_>, ahead: Option<&mut Ahead<'_>>, position: usize) -> Feed {
    let (shard, id) = (b.links[c].shard, b.links[c].id);
    let mut here = Here {
        here: b.here,
        script: &mut b.script,
        calls: &mut b.calls,
        call_ns: b.call_ns,
    };
    let feed = match ahead {
        Some(ahead) => b.shards[shard].publish(b.now, id, publish, &mut ahead.at(position, &mut here)),
        None => b.shards[shard].publish(b.now, id, publish, &mut here),
    };
    b.run_calls(shard);
    feed
}

/// Feeds PUBLISHes that lie behind one another, with or without asking ahead.
fn feed_all(b: &mut Broker, c: C, all: &[Publish], is_ahead: bool) {
    let mut fed = 0;
    while let Some(first) = all.get(fed) {
        let run: Vec<PublishRef<'_>> = all[fed..]
            .iter()
            .map(PublishRef::from)
            .take_while(may_be_asked_ahead)
            .take(MAX_BATCH_MESSAGES)
            .collect();
        let mut ahead = if is_ahead { ask(b, c, &run) } else { None };
        let run = if run.is_empty() { vec![first.into()] } else { run };
        for (position, publish) in run.into_iter().enumerate() {
            fed += 1;
            if feed(b, c, publish, ahead.as_mut(), position) == Feed::Stop {
                break;
            }
        }
        if let Some(ahead) = ahead {
            let (shard, id) = (b.links[c].shard, b.links[c].id);
            b.shards[shard].settle_ahead(b.now, id, &ahead);
        }
        b.settle();
    }
}

fn verdict(decision: Decision) -> Verdict {
    Verdict {
        decision,
        cache_ms: 0,
        depends_on_client: true,
        depends_on_user: true,
        depends_on_topic: true,
    }
}

/// One authorizer and one transform; `forbidden` is denied, and `dropped` dropped.
fn judges(call: &Call) -> Answer {
    match call {
        Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
        Call::Authorize { request, .. } if &*request.topic == "forbidden" => {
            Answer::Authorize(Ok(verdict(Decision::Deny)))
        }
        Call::Authorize { .. } => Answer::Authorize(Ok(verdict(Decision::Allow))),
        Call::Transform { message, .. } if &*message.topic == "dropped" => Answer::Transform(Ok(Transformation::Drop)),
        Call::Transform { .. } => Answer::Transform(Ok(Transformation::Pass)),
        other => panic!("{other:?}"),
    }
}

/// Who was asked about which topic, in order.
fn asked(b: &mut Broker) -> Vec<(&'static str, String)> {
    let told = |call: Call| match call {
        Call::Authorize { request, .. } => Some(("authorize", request.topic.to_string())),
        Call::Transform { message, .. } => Some(("transform", message.topic.to_string())),
        _ => None,
    };
    std::mem::take(&mut b.calls).into_iter().filter_map(told).collect()
}

#[test]
fn a_run_is_asked_about_before_the_first_of_it_is_fed_and_nobody_is_asked_again() {
    let (mut b, c) = broker(policy(1, 1, 1), judges);
    let all = ["one", "forbidden", "dropped", "two"].map(|topic| publish(topic, 0, "x"));
    let run: Vec<PublishRef<'_>> = all.iter().map(PublishRef::from).collect();
    let mut ahead = ask(&mut b, c, &run).unwrap();
    let expected = [
        ("authorize", "one"),
        ("authorize", "forbidden"),
        ("authorize", "dropped"),
        ("authorize", "two"),
        ("transform", "one"),
        ("transform", "dropped"),
        ("transform", "two"),
    ];
    assert_eq!(asked(&mut b), expected.map(|(hook, topic)| (hook, topic.to_owned())));
    for (position, publish) in run.into_iter().enumerate() {
        feed(&mut b, c, publish, Some(&mut ahead), position);
    }
    b.settle();
    assert_eq!(asked(&mut b), []);
    let topics: Vec<String> = b.messages(c).iter().map(|message| message.topic.to_string()).collect();
    assert_eq!(topics, ["t", "one", "two"]);
    assert_eq!(b.total(|counters| counters.denied_publish), 1);
    assert_eq!(b.total(|counters| counters.transform_dropped), 1);
}

/// The first transform drops every third message, the second every fifth of the run: each is asked about gaps that others left.
#[test]
fn in_the_longest_run_every_answer_goes_to_its_own_publish() {
    fn nth(topic: &str) -> usize {
        topic.parse().unwrap_or(1)
    }
    let (mut b, c) = broker(policy(1, 1, 2), |call| match call {
        Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
        Call::Authorize { request, .. } if nth(&request.topic).is_multiple_of(7) => {
            Answer::Authorize(Ok(verdict(Decision::Deny)))
        }
        Call::Authorize { .. } => Answer::Authorize(Ok(verdict(Decision::Allow))),
        Call::Transform { transform, message, .. } if nth(&message.topic).is_multiple_of([3, 5][*transform]) => {
            Answer::Transform(Ok(Transformation::Drop))
        }
        Call::Transform { .. } => Answer::Transform(Ok(Transformation::Pass)),
        other => panic!("{other:?}"),
    });
    let all: Vec<Publish> = (0..MAX_BATCH_MESSAGES)
        .map(|position| publish(&(100 + position).to_string(), 0, "x"))
        .collect();
    let run: Vec<PublishRef<'_>> = all.iter().map(PublishRef::from).collect();
    let mut ahead = ask(&mut b, c, &run).unwrap();
    let is = |topic: &&usize, by: usize| topic.is_multiple_of(by);
    let topics: Vec<usize> = (100..100 + MAX_BATCH_MESSAGES).collect();
    let allowed: Vec<usize> = topics.iter().filter(|topic| !is(topic, 7)).copied().collect();
    let left: Vec<usize> = allowed.iter().filter(|topic| !is(topic, 3)).copied().collect();
    let questions = [&topics, &allowed, &left].map(Vec::len).iter().sum::<usize>();
    assert_eq!(asked(&mut b).len(), questions);
    for (position, publish) in run.into_iter().enumerate() {
        feed(&mut b, c, publish, Some(&mut ahead), position);
    }
    b.settle();
    assert_eq!(asked(&mut b), [], "each was told what is about it");
    let delivered: Vec<String> = b
        .messages(c)
        .iter()
        .skip(1)
        .map(|message| message.topic.to_string())
        .collect();
    let expected = left.iter().filter(|topic| !is(topic, 5)).map(usize::to_string);
    assert_eq!(delivered, expected.collect::<Vec<_>>());
}

#[test]
fn an_answer_is_of_no_use_to_another_publish() {
    let (mut b, c) = broker(policy(1, 1, 0), judges);
    let all = ["one", "two"].map(|topic| publish(topic, 0, "x"));
    let run: Vec<PublishRef<'_>> = all.iter().map(PublishRef::from).collect();
    let mut ahead = ask(&mut b, c, &run).unwrap();
    asked(&mut b);
    let forbidden = publish("forbidden", 0, "x");
    feed(&mut b, c, (&forbidden).into(), Some(&mut ahead), 0);
    let same_topic_elsewhere = publish("two", 0, "x");
    feed(&mut b, c, (&same_topic_elsewhere).into(), Some(&mut ahead), 1);
    let expected = [("authorize", "forbidden".to_owned()), ("authorize", "two".to_owned())];
    assert_eq!(asked(&mut b), expected);
    assert_eq!(b.total(|counters| counters.denied_publish), 1);
}

#[test]
fn what_the_policy_before_said_is_void() {
    let (mut b, c) = broker(policy(1, 1, 0), judges);
    let all = [publish("t", 0, "1"), publish("t", 0, "2")];
    let run: Vec<PublishRef<'_>> = all.iter().map(PublishRef::from).collect();
    let mut ahead = ask(&mut b, c, &run).unwrap();
    b.set_policy(policy(2, 1, 0));
    b.script = Box::new(|call| {
        Some(match call {
            Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
            _ => Answer::Authorize(Ok(verdict(Decision::Deny))),
        })
    });
    for (position, publish) in run.into_iter().enumerate() {
        if feed(&mut b, c, publish, Some(&mut ahead), position) == Feed::Stop {
            b.settle();
        }
    }
    assert_eq!(b.total(|counters| counters.denied_publish), 2);
}

#[test]
fn what_is_beyond_a_clients_rate_is_not_asked_about() {
    let mut b = Broker {
        here: usize::MAX,
        ..Broker::new(ShardConfig {
            publish_rate_per_s: 3,
            ..ShardConfig::default()
        })
    };
    b.set_policy(policy(1, 1, 0));
    b.script = Box::new(|call| Some(judges(call)));
    let c = b.connect(v5("a"));
    b.publish_packet(c, publish("t", 0, "its rules are known"));
    asked(&mut b);
    let all: [Publish; 10] = std::array::from_fn(|_| publish("t", 0, "x"));
    let run: Vec<PublishRef<'_>> = all.iter().map(PublishRef::from).collect();
    ask(&mut b, c, &run).unwrap();
    assert_eq!(asked(&mut b).len(), 2);
}

#[test]
fn a_call_that_fails_is_made_again_message_by_message() {
    let (mut b, c) = broker(policy(1, 1, 0), |call| match call {
        Call::Authorize { request, .. } if &*request.topic == "trap" => Answer::Authorize(Err(CallFailed)),
        call => judges(call),
    });
    let all = ["one", "trap", "two"].map(|topic| publish(topic, 0, "x"));
    feed_all(&mut b, c, &all, true);
    let topics: Vec<String> = b.messages(c).iter().map(|message| message.topic.to_string()).collect();
    assert_eq!(topics, ["t", "one", "two"]);
    assert_eq!(b.total(|counters| counters.denied_publish), 1);
}

#[test]
fn what_may_be_kept_is_kept_and_counted_when_it_is_used() {
    let (mut b, c) = broker(policy(1, 1, 0), |call| match call {
        Call::Authorize { .. } => Answer::Authorize(Ok(Verdict {
            cache_ms: 60_000,
            ..verdict(Decision::Allow)
        })),
        call => judges(call),
    });
    let hits = |b: &mut Broker| -> u64 { b.shards.iter_mut().flat_map(|shard| shard.take_cache_hits()).sum() };
    asked(&mut b);
    hits(&mut b);
    let all = ["one", "two"].map(|topic| publish(topic, 0, "x"));
    feed_all(&mut b, c, &all, true);
    assert_eq!((asked(&mut b).len(), hits(&mut b)), (2, 0));
    feed_all(&mut b, c, &all, true);
    assert_eq!((asked(&mut b).len(), hits(&mut b)), (0, 2));
}

#[test]
fn time_is_paid_for_whether_the_answers_were_of_use_or_not() {
    let paused = |fed: usize| {
        let (mut b, c) = broker(policy(1, 1, 0), judges);
        // More than a client may have at a time.
        b.call_ns = 60_000_000_000;
        let all = [publish("t", 0, "1"), publish("t", 0, "2")];
        let run: Vec<PublishRef<'_>> = all.iter().map(PublishRef::from).collect();
        let mut ahead = ask(&mut b, c, &run).unwrap();
        for (position, publish) in run.into_iter().enumerate().take(fed) {
            feed(&mut b, c, publish, Some(&mut ahead), position);
        }
        let (shard, id) = (b.links[c].shard, b.links[c].id);
        b.shards[shard].settle_ahead(b.now, id, &ahead);
        b.total(|counters| counters.paused_plugin_time)
    };
    assert_eq!((0..=2).map(paused).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn what_depends_on_a_packet_before_it_is_not_asked_about_ahead() {
    let check = |publish: &Publish, expected| assert_eq!(may_be_asked_ahead(&publish.into()), expected, "{publish:?}");
    check(&publish("t", 0, "x"), true);
    check(&publish("t", 1, "x"), true);
    // It may have come before.
    check(&publish("t", 2, "x"), false);
    let mut aliased = publish("t", 0, "x");
    aliased.properties.get_or_insert_default().topic_alias = Some(1);
    check(&aliased, false);
    let mut wrong = publish("t", 0, "x");
    wrong
        .properties
        .get_or_insert_default()
        .subscription_identifiers
        .push(1);
    check(&wrong, false);
    let mut with_properties = publish("t", 0, "x");
    with_properties.properties.get_or_insert_default().content_type = Some(text("text/plain"));
    check(&with_properties, true);
}

/// What everybody received and what was counted.
fn outcome(
    is_ahead: bool,
    config: &ShardConfig,
    policy: &Policy,
    seed: u64,
    all: &[Sent],
) -> (Vec<Vec<Packet>>, String) {
    let (mut b, clients) = two_clients(usize::MAX, config, policy, seed);
    for run in all.chunk_by(|one, next| one.from == next.from) {
        let c = clients[run[0].from];
        let packets: Vec<Publish> = run
            .iter()
            .map(|sent| {
                let mut packet = packet(sent);
                if packet.qos != QoS::AtMostOnce {
                    packet.packet_id = Some(b.packet_id(c));
                }
                packet
            })
            .collect();
        feed_all(&mut b, c, &packets, is_ahead);
    }
    seen_by(&mut b, clients)
}

proptest! {
    #[test]
    fn whether_plugins_are_asked_ahead_makes_no_difference(
        seed: u64,
        all in prop::collection::vec(sent(), 1..40),
        shards in prop_oneof![Just(1u16), Just(3)],
        is_stored: bool,
        denies: bool,
    ) {
        use crate::store::Durability;
        let durability = if is_stored { Durability::Stored } else { Durability::Memory };
        let config = ShardConfig { shards, durability, ..ShardConfig::default() };
        let policy = plugins(if denies { OnFailure::Deny } else { OnFailure::Skip });
        let one_by_one = outcome(false, &config, &policy, seed, &all);
        let ahead = outcome(true, &config, &policy, seed, &all);
        prop_assert_eq!(&ahead.0, &one_by_one.0);
        prop_assert_eq!(&ahead.1, &one_by_one.1);
    }
}
