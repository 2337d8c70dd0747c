//! Random operations of every kind under tight bounds: nothing panics, nothing is left behind.

use super::super::{Answer, Call};
use super::scene::{Who, client, filter, publish, qos, will};
use super::script::{deliver_rule, policy, rule, verdict};
use super::{Broker, C};
use crate::hook::{CallFailed, Decision, Effect, Transformation};
use crate::limits::{QueuePolicy, ShardConfig};
use crate::store::{AppendFailed, Durability};
use nervewire_codec::{Disconnect, Packet, Publish, ReasonCode, Subscribe, Unsubscribe, Version};
use proptest::prelude::*;

const CLIENTS: usize = 5;
const TOPICS: [&str; 4] = ["a", "a/b", "c", "$d"];
const FILTERS: [&str; 8] = ["a", "a/#", "+/b", "#", "$share/g/#", "$share/g/a/+", "$share/h/a", "$d"];

#[derive(Clone, Debug)]
enum Op {
    Connect {
        who: usize,
        lasting: bool,
        has_will: bool,
    },
    Lose(usize),
    Disconnect(usize, bool),
    Subscribe(usize, usize, u8),
    Unsubscribe(usize, usize),
    Publish {
        from: usize,
        topic: usize,
        level: u8,
        retain: bool,
        bytes: usize,
        expires: bool,
    },
    Stick(usize, bool),
    HoldMesh(bool),
    HoldStore(bool),
    HoldFetch(bool),
    Trouble(u8),
    Policy(usize, bool),
    Answer(u8),
    Advance(u64),
    /// Of so many eighths of the log.
    Checkpoint(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..CLIENTS;
    let flag = any::<bool>;
    prop_oneof![
        4 => (who.clone(), flag(), flag()).prop_map(|(who, lasting, has_will)| Op::Connect { who, lasting, has_will }),
        1 => who.clone().prop_map(Op::Lose),
        1 => (who.clone(), flag()).prop_map(|(who, ends)| Op::Disconnect(who, ends)),
        4 => (who.clone(), 0..FILTERS.len(), 0..3u8).prop_map(|(who, f, level)| Op::Subscribe(who, f, level)),
        1 => (who.clone(), 0..FILTERS.len()).prop_map(|(who, f)| Op::Unsubscribe(who, f)),
        8 => (who.clone(), 0..TOPICS.len(), 0..3u8, flag(), 0..2_000usize, flag()).prop_map(
            |(from, topic, level, retain, bytes, expires)| Op::Publish { from, topic, level, retain, bytes, expires }
        ),
        1 => (who, flag()).prop_map(|(who, stuck)| Op::Stick(who, stuck)),
        1 => flag().prop_map(Op::HoldMesh),
        1 => flag().prop_map(Op::HoldStore),
        1 => flag().prop_map(Op::HoldFetch),
        1 => (0..4u8).prop_map(Op::Trouble),
        1 => (0..4usize, flag()).prop_map(|(kind, holds)| Op::Policy(kind, holds)),
        3 => any::<u8>().prop_map(Op::Answer),
        1 => (0..20_000u64).prop_map(Op::Advance),
        2 => (0..=8usize).prop_map(Op::Checkpoint),
    ]
}

fn who(n: usize, lasting: bool, has_will: bool) -> Who {
    let version = if n.is_multiple_of(2) {
        Version::V5
    } else {
        Version::V311
    };
    let mut who = client(version, &format!("client {n}")).keep_alive(10 * n as u16);
    if n == 4 {
        who = who.tenant("other").with(|p| {
            p.receive_maximum = Some(1);
            p.maximum_packet_size = Some(1_000);
            p.topic_alias_maximum = Some(1);
        });
    }
    if has_will {
        who = who.will(will(TOPICS[n % TOPICS.len()], n as u8 % 3, "bye"));
    }
    if lasting { who.lasting() } else { who }
}

/// Any answer of the right kind.
fn answer(call: &Call, choice: u8) -> Answer {
    let failed = choice.is_multiple_of(5);
    match call {
        Call::Rules { .. } if failed => Answer::Rules(vec![Err(CallFailed)]),
        Call::Rules { .. } => Answer::Rules(vec![Ok(match choice % 3 {
            0 => None,
            1 => Some(vec![deliver_rule(Effect::Ask, "a/#"), rule(Effect::Allow, "#")]),
            _ => Some(vec![
                rule(Effect::Deny, "c"),
                rule(Effect::Allow, "#"),
                rule(Effect::Allow, "$d"),
            ]),
        })]),
        Call::Authorize { .. } if failed => Answer::Authorize(Err(CallFailed)),
        Call::Authorize { .. } => {
            let decision = if choice.is_multiple_of(4) {
                Decision::Deny
            } else {
                Decision::Allow
            };
            verdict(decision, u32::from(choice) * 100)
        }
        Call::Transform { .. } if failed => Answer::Transform(Err(CallFailed)),
        Call::Transform { message, .. } => Answer::Transform(Ok(match choice % 4 {
            0 => Transformation::Emit(vec![message.clone(); usize::from(choice % 20)]),
            1 => Transformation::Drop,
            2 => Transformation::Reject(ReasonCode::QuotaExceeded),
            _ => Transformation::Pass,
        })),
        Call::Authenticate { .. } => panic!("nobody authenticates again here"),
    }
}

fn apply(b: &mut Broker, links: &mut [Option<C>; CLIENTS], op: Op) {
    let link = |n: usize, b: &Broker| links[n].filter(|c| b.is_open(*c));
    match op {
        Op::Connect {
            who: n,
            lasting,
            has_will,
        } => links[n] = Some(b.open(who(n, lasting, has_will))),
        Op::Lose(n) => link(n, b).into_iter().for_each(|c| b.lose(c)),
        Op::Disconnect(n, ends) => {
            let Some(c) = link(n, b) else { return };
            let is_v5 = b.links[c].version == Version::V5;
            let properties = (ends && is_v5).then(|| {
                Box::new(nervewire_codec::Properties {
                    session_expiry_interval: Some(0),
                    ..Default::default()
                })
            });
            b.send(
                c,
                Packet::Disconnect(Disconnect {
                    reason: ReasonCode::Success,
                    properties,
                }),
            );
        }
        Op::Subscribe(n, f, level) => {
            let Some(c) = link(n, b) else { return };
            let packet_id = b.packet_id(c);
            let filters = vec![filter(FILTERS[f], level)];
            b.send(
                c,
                Packet::Subscribe(Subscribe {
                    packet_id,
                    properties: None,
                    filters,
                }),
            );
        }
        Op::Unsubscribe(n, f) => {
            let Some(c) = link(n, b) else { return };
            let packet_id = b.packet_id(c);
            let filters = vec![super::scene::text(FILTERS[f])];
            b.send(
                c,
                Packet::Unsubscribe(Unsubscribe {
                    packet_id,
                    properties: None,
                    filters,
                }),
            );
        }
        Op::Publish {
            from,
            topic,
            level,
            retain,
            bytes,
            expires,
        } => {
            let Some(c) = link(from, b) else { return };
            let packet_id = (level > 0).then(|| b.packet_id(c));
            let mut packet = Publish {
                retain,
                packet_id,
                ..publish(TOPICS[topic], level, &"x".repeat(bytes))
            };
            packet.qos = qos(level);
            packet.properties = expires.then(|| {
                Box::new(nervewire_codec::Properties {
                    message_expiry_interval: Some(5),
                    ..Default::default()
                })
            });
            b.send(c, Packet::Publish(packet));
        }
        Op::Stick(n, stuck) => {
            let Some(c) = link(n, b) else { return };
            b.links[c].stuck = stuck;
            if !stuck {
                b.unstick(c);
            }
        }
        Op::HoldMesh(held) => {
            b.mesh_held = held;
            b.settle();
        }
        Op::HoldFetch(held) => {
            b.fetch_held = held;
            b.settle();
        }
        Op::HoldStore(held) => {
            b.store_held = held;
            b.settle();
        }
        Op::Trouble(kind) => b.trouble(match kind {
            0 => Some(AppendFailed::Full),
            1 => Some(AppendFailed::Doubtful),
            _ => None,
        }),
        Op::Policy(kind, holds) => {
            let generation = b.shards[0].policy().generation + 1;
            b.set_policy(policy(generation, kind % 2, kind / 2));
            b.here = if generation.is_multiple_of(2) { 0 } else { usize::MAX };
            let mut turn = 0;
            b.script = Box::new(move |call| {
                turn += 1;
                (!holds).then(|| answer(call, turn))
            });
        }
        Op::Answer(choice) => answer_one(b, choice),
        Op::Checkpoint(eighths) => {
            // Of a session that is ending a checkpoint keeps only what is on its way elsewhere.
            if b.is_all_durable() && b.shards.iter().all(|shard| shard.unsettled.is_empty()) {
                b.checkpoint(b.journal.len() * eighths / 8);
            }
        }
        Op::Advance(ms) => b.advance(ms),
    }
}

fn answer_one(b: &mut Broker, choice: u8) {
    if let Some((_, _, call)) = b.held.front() {
        let answer = answer(call, choice);
        b.answer_held(answer);
    }
}

fn check_bounds(b: &Broker) {
    for shard in &b.shards {
        let counters = shard.counters();
        // Whoever waits may be sent one message, however full memory is.
        assert!(shard.held_bytes() <= 40_000 + CLIENTS as u64 * 2_200);
        let queued = |s: &crate::session::Session| {
            (
                s.queue.iter().map(crate::queued::Queued::bytes).sum::<u64>(),
                s.queue_bytes,
            )
        };
        assert!(
            shard
                .sessions
                .iter()
                .map(|(_, s)| queued(s))
                .all(|(sum, counted)| sum == counted)
        );
        let absent: u64 = shard.sessions.iter().map(|(_, s)| s.absent_bytes()).sum();
        assert_eq!(absent, shard.absent_bytes);
        assert!(counters.queued_bytes + shard.in_flight_bytes >= absent);
        assert!(shard.info_totals().retained_messages <= 2);
        for session in shard.sessions(0, 100) {
            assert!(
                session.queued_messages <= 5 && session.queued_bytes <= 9_000,
                "{session:?}"
            );
        }
    }
}

fn check(shards: u16, queue_policy: QueuePolicy, durability: Durability, ops: Vec<Op>) {
    let config = ShardConfig {
        shards,
        durability,
        queue_policy,
        queue_messages: 5,
        queue_bytes: 9_000,
        memory_bytes: 40_000,
        retained_messages: 2,
        publish_rate_per_s: 20,
        ..ShardConfig::default()
    };
    let mut b = Broker::new(config);
    let mut links = [None; CLIENTS];
    for op in ops {
        apply(&mut b, &mut links, op);
        check_bounds(&b);
        b.check_kept();
    }
    check_restarts(&b);
    (b.mesh_held, b.store_held, b.fetch_held) = (false, false, false);
    b.trouble(None);
    while !b.held.is_empty() {
        answer_one(&mut b, 7);
    }
    for c in 0..b.links.len() {
        b.lose(c);
    }
    // Sessions of 3.1.1 never expire: a clean start ends them.
    for n in 0..CLIENTS {
        let c = b.open(who(n, false, false));
        while !b.held.is_empty() {
            answer_one(&mut b, 7);
        }
        b.lose(c);
    }
    while !b.held.is_empty() {
        answer_one(&mut b, 7);
    }
    b.advance(10_000);
    check_empty(&b);
    b.check_kept();
}

/// What is read of the log, checkpoints and all, is what all its records say, wherever it ends.
fn check_restarts(b: &Broker) {
    if !b.shards[0].waits_for_store() {
        return;
    }
    for eighths in [0, 3, 5, 7, 8] {
        for shards in [1, 3] {
            let next = b.restarted(b.journal.len() * eighths / 8, shards);
            // And once more, of what followed from the restart.
            next.restarted_with(4 - shards);
        }
    }
}

fn check_empty(b: &Broker) {
    for shard in &b.shards {
        let c = shard.counters();
        assert_eq!((c.sessions, c.connections, c.subscriptions), (0, 0, 0));
        assert_eq!((c.queued_messages, c.queued_bytes), (0, 0));
        assert!(shard.waiters.is_empty());
        assert!(shard.commits.is_empty());
        assert_eq!((shard.in_flight_bytes, shard.absent_bytes), (0, 0));
        assert!(shard.fetches.is_empty());
        let groups = shard
            .spaces
            .iter()
            .filter(|(_, space)| !space.groups.is_empty())
            .count();
        assert_eq!(groups, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_bounds_hold_and_nothing_is_left_behind(ops in proptest::collection::vec(op(), 1..80)) {
        check(1, QueuePolicy::DropOldest, Durability::Memory, ops.clone());
        check(3, QueuePolicy::RefuseNew, Durability::Memory, ops.clone());
        check(1, QueuePolicy::RefuseNew, Durability::Stored, ops.clone());
        check(3, QueuePolicy::DropOldest, Durability::Stored, ops);
    }
}
