//! Plugins that are called on the shard's own thread: they decide as those do that are asked through calls, without the detour.

use super::super::{Answer, Call};
use super::scene::{client, publish, text, v5};
use super::script::policy;
use super::{Broker, C, each};
use crate::fold::DefaultDecision;
use crate::hook::{AppMessage, CallFailed, Decision, OnFailure, Transformation, Verdict};
use crate::limits::ShardConfig;
use crate::policy::{Authorizer, Policy, Transform};
use nervewire_codec::{Packet, Publish, ReasonCode, Version};
use proptest::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};

const OK: Option<ReasonCode> = Some(ReasonCode::Success);

#[test]
fn a_message_that_passes_leaves_no_call_behind() {
    each(|b| {
        b.here = usize::MAX;
        b.set_policy(policy(1, 2, 2));
        b.script = Box::new(|call| Some(pass(call)));
        let c = b.connect(v5("a"));
        b.subscribe(c, "t", 0);
        assert_eq!(b.publish(c, "t", 1, "the rules are asked for"), OK);
        let calls = b.calls.len();
        b.feed_packet(c, Packet::Publish(publish("t", 0, "x")));
        let shard = &mut b.shards[b.links[c].shard];
        assert!(shard.next_call().is_none());
        b.settle();
        assert_eq!(b.payloads(c).last().map(String::as_str), Some("x"));
        assert_eq!(b.calls.len(), calls + 4, "each plugin was asked");
    });
}

fn pass(call: &Call) -> Answer {
    match call {
        Call::Rules { .. } => Answer::Rules(vec![Ok(None); 2]),
        Call::Authorize { .. } => Answer::Authorize(Ok(verdict(Decision::Allow, 0))),
        Call::Transform { .. } => Answer::Transform(Ok(Transformation::Pass)),
        other => panic!("{other:?}"),
    }
}

fn verdict(decision: Decision, cache_ms: u32) -> Verdict {
    Verdict {
        decision,
        cache_ms,
        depends_on_client: cache_ms.is_multiple_of(2),
        depends_on_user: false,
        depends_on_topic: true,
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) from: usize,
    topic: usize,
    level: u8,
    retain: bool,
    with_alias: bool,
    payload: u8,
}

const TOPICS: [&str; 3] = ["a", "b", "a/b"];
const PLUGINS: usize = 2;

pub(super) fn sent() -> impl Strategy<Value = Sent> {
    (0..2usize, 0..3usize, 0..3u8, any::<(bool, bool)>(), 0..6u8).prop_map(
        |(from, topic, level, (retain, with_alias), payload)| Sent {
            from,
            topic,
            level,
            retain,
            with_alias,
            payload,
        },
    )
}

pub(super) fn packet(sent: &Sent) -> Publish {
    let mut packet = Publish {
        retain: sent.retain,
        ..publish(TOPICS[sent.topic], sent.level, &sent.payload.to_string())
    };
    if sent.with_alias && sent.from == 0 {
        packet.properties.get_or_insert_default().topic_alias = Some(1);
    }
    packet
}

/// Some answer, always the same to the same question of a seed.
fn answer(seed: u64, call: &Call) -> Answer {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    match call {
        Call::Rules { .. } => return Answer::Rules(vec![Ok(None); PLUGINS]),
        Call::Authorize {
            authorizer, request, ..
        } => (authorizer, request).hash(&mut hasher),
        Call::Transform { transform, message, .. } => {
            (transform, &*message.topic, &message.payload, message.retain).hash(&mut hasher);
        }
        Call::Authenticate { .. } => {}
    }
    let choice = hasher.finish() % 16;
    match call {
        Call::Transform { message, .. } => Answer::Transform(transformed(choice, message)),
        _ => Answer::Authorize(match choice {
            0 => Err(CallFailed),
            1 => Ok(verdict(Decision::Deny, 0)),
            2 | 3 => Ok(verdict(Decision::Abstain, 0)),
            // Is kept by the session, or by the shard.
            4 | 5 => Ok(verdict(Decision::Allow, choice as u32 * 1_000 + 1_000 + choice as u32)),
            _ => Ok(verdict(Decision::Allow, 0)),
        }),
    }
}

fn transformed(choice: u64, message: &AppMessage) -> Result<Transformation, CallFailed> {
    let other = |topic: &str, payload: &'static str| AppMessage {
        topic: text(topic),
        payload: payload.into(),
        ..message.clone()
    };
    Ok(match choice {
        0 => return Err(CallFailed),
        1 => Transformation::Drop,
        2 => Transformation::Reject(ReasonCode::PayloadFormatInvalid),
        3 => Transformation::Replace(other(&message.topic, "other")),
        4 => Transformation::Replace(other("b", "elsewhere")),
        5 => Transformation::Emit(vec![other("a", "1"), other("granted", "2"), other("b", "3")]),
        _ => Transformation::Pass,
    })
}

pub(super) fn plugins(on_failure: OnFailure) -> Policy {
    let authorizer = Authorizer {
        on_failure,
        ..Authorizer::default()
    };
    let transform = Transform {
        on_failure,
        publish_grants: vec![text("granted")],
        ..Transform::default()
    };
    Policy {
        generation: 1,
        default: DefaultDecision::Allow,
        authorizers: vec![authorizer; PLUGINS],
        transforms: vec![transform; PLUGINS],
        ..Policy::default()
    }
}

/// Shards with the plugins of a seed, so many of each kind called here, and two clients, each subscribed twice.
pub(super) fn two_clients(here: usize, config: &ShardConfig, policy: &Policy, seed: u64) -> (Broker, [C; 2]) {
    let mut b = Broker {
        here,
        ..Broker::new(config.clone())
    };
    b.set_policy(policy.clone());
    b.script = Box::new(move |call| Some(answer(seed, call)));
    let clients = [b.connect(v5("a")), b.connect(client(Version::V311, "b"))];
    for topic in ["#", "a"] {
        b.subscribe(clients[0], topic, 2);
        b.subscribe(clients[1], topic, 1);
    }
    (b, clients)
}

/// What each of them received, and what was counted.
pub(super) fn seen_by(b: &mut Broker, clients: [C; 2]) -> (Vec<Vec<Packet>>, String) {
    b.check_kept();
    let received = clients.map(|c| {
        let of_client = b.seen.iter().filter(|(_, of, _)| *of == c);
        of_client.map(|(_, _, packet)| packet.clone()).collect()
    });
    let counters: Vec<_> = b.shards.iter().map(|shard| shard.counters()).collect();
    (received.to_vec(), format!("{counters:#?}"))
}

/// What everybody received, what plugins were asked, and what was counted, when so many of each kind are called here.
fn outcome(here: usize, config: &ShardConfig, policy: &Policy, seed: u64, all: &[Sent]) -> (Vec<Vec<Packet>>, String) {
    let (mut b, clients) = two_clients(here, config, policy, seed);
    for sent in all {
        b.publish_packet(clients[sent.from], packet(sent));
    }
    let (received, counters) = seen_by(&mut b, clients);
    (received, format!("{:#?} {counters}", b.calls))
}

proptest! {
    #[test]
    fn where_a_plugin_is_called_makes_no_difference(
        seed: u64,
        all in prop::collection::vec(sent(), 1..12),
        shards in prop_oneof![Just(1u16), Just(3)],
        is_stored: bool,
        denies: bool,
    ) {
        use crate::store::Durability;
        let durability = if is_stored { Durability::Stored } else { Durability::Memory };
        let config = ShardConfig { shards, durability, ..ShardConfig::default() };
        let policy = plugins(if denies { OnFailure::Deny } else { OnFailure::Skip });
        let elsewhere = outcome(0, &config, &policy, seed, &all);
        for here in [1, usize::MAX] {
            let (received, said) = outcome(here, &config, &policy, seed, &all);
            prop_assert_eq!(&received, &elsewhere.0);
            prop_assert_eq!(&said, &elsewhere.1);
        }
    }
}
