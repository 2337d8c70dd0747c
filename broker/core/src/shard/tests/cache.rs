//! The verdict cache as clients see it: it never changes an answer of a plugin that says truthfully what its answers depend on.

use super::super::{Answer, Call};
use super::scene::{filter, publish, text, v5};
use super::script::policy;
use super::{Broker, C, each};
use crate::fold::{DefaultDecision, fold_authorization};
use crate::handshake::ChainOutcome;
use crate::hook::{Action, Authentication, Client, Decision, Identity, Request, Verdict};
use crate::limits::ShardConfig;
use nervewire_codec::{Auth, Packet, Properties, ReasonCode};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

const DENIED: Option<ReasonCode> = Some(ReasonCode::NotAuthorized);
const OK: Option<ReasonCode> = Some(ReasonCode::Success);

/// One authorizer without rules.
fn asks(b: &mut Broker, judge: impl Fn(&Client, &Request) -> Verdict + 'static) {
    b.script = Box::new(move |call| {
        Some(match call {
            Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
            Call::Authorize { client, request, .. } => Answer::Authorize(Ok(judge(client, request))),
            other => panic!("{other:?}"),
        })
    });
}

fn of_user(decision: Decision) -> Verdict {
    Verdict {
        decision,
        cache_ms: 60_000,
        depends_on_client: false,
        depends_on_user: true,
        depends_on_topic: false,
    }
}

fn is_ann(client: &Client, _: &Request) -> Verdict {
    let is_ann = client.username.as_deref() == Some("ann");
    of_user(if is_ann { Decision::Allow } else { Decision::Deny })
}

fn hits(b: &mut Broker) -> u64 {
    b.shards.iter_mut().flat_map(|shard| shard.take_cache_hits()).sum()
}

#[test]
fn one_answer_about_a_user_serves_all_her_clients_and_topics_on_a_shard() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        asks(b, is_ann);
        for n in 0..10 {
            let c = b.connect(v5(&n.to_string()).username("ann"));
            assert_eq!(b.publish(c, &format!("topic/{n}"), 1, "x"), OK);
            let c = b.connect(v5(&format!("bob{n}")).username("bob"));
            assert_eq!(b.publish(c, &format!("topic/{n}"), 1, "x"), DENIED);
        }
        let asked = b.verdict_calls();
        assert!(asked <= 2 * b.shards.len(), "{asked} questions about two users");
        assert_eq!(hits(b), 20 - asked as u64);
        assert_eq!(hits(b), 0, "they were taken");
    });
}

#[test]
fn a_new_policy_decides_the_very_next_request() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        asks(b, |_, _| of_user(Decision::Allow));
        let c = b.connect(v5("a").username("ann"));
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        b.set_policy(policy(2, 1, 0));
        asks(b, |_, _| of_user(Decision::Deny));
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.verdict_calls(), 2);
    });
}

#[test]
fn a_new_identity_decides_the_very_next_request() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        asks(b, is_ann);
        let c = b.connect(v5("a").username("ann").lasting());
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
        let c = b.connect(v5("a").username("bob").lasting());
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED, "the session was taken over");
        let c = b.connect(v5("a").username("ann").lasting());
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
    });
}

#[test]
fn what_depends_on_the_client_is_forgotten_when_it_authenticates_again() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        // The user name stays; what the authenticator attaches are facts about the client.
        let judge = |client: &Client| Verdict {
            depends_on_client: true,
            depends_on_user: false,
            ..of_user(if client.attributes.is_empty() {
                Decision::Deny
            } else {
                Decision::Allow
            })
        };
        b.script = Box::new(move |call| {
            Some(match call {
                Call::Rules { .. } => Answer::Rules(vec![Ok(None)]),
                Call::Authorize { client, .. } => Answer::Authorize(Ok(judge(client))),
                Call::Authenticate { .. } => Answer::Authenticate(ChainOutcome {
                    answer: Authentication::Allow(Identity {
                        attributes: vec![("role".into(), "admin".into())],
                        ..Identity::default()
                    }),
                    authenticator: 0,
                    failed: false,
                }),
                other => panic!("{other:?}"),
            })
        });
        let c = b.connect(
            v5("a")
                .username("ann")
                .with(|p| p.authentication_method = Some(text("m"))),
        );
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.publish(c, "t", 1, "x"), DENIED);
        assert_eq!(b.verdict_calls(), 1);
        let properties = Properties {
            authentication_method: Some(text("m")),
            ..Properties::default()
        };
        b.send(
            c,
            Packet::Auth(Auth {
                reason: ReasonCode::ReAuthenticate,
                properties: Some(Box::new(properties)),
            }),
        );
        assert_eq!(b.publish(c, "t", 1, "x"), OK);
    });
}

#[test]
fn a_verdict_that_may_not_be_cached_never_is() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        asks(b, |_, _| Verdict {
            cache_ms: 0,
            depends_on_user: false,
            ..of_user(Decision::Allow)
        });
        let c = b.connect(v5("a"));
        for _ in 0..5 {
            assert_eq!(b.publish(c, "t", 1, "x"), OK);
        }
        assert_eq!((b.verdict_calls(), hits(b)), (5, 0));
    });
}

/// What the honest plugin's answers change with, beside what it is asked.
type Era = (u64, u64);

const ERA_MS: u64 = 1_000;

fn digest(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Reads one fact after the other, in an order of its own, until it decides; what it has read is what its answer depends on. It
/// may be cached, where at all, until the era ends.
fn honest(authorizer: usize, generation: u64, now: u64, client: &Client, request: &Request) -> Verdict {
    let era: Era = (generation, now / ERA_MS);
    let mut read = digest((authorizer, era, request.action, request.qos, request.retain));
    let mut depends = [false; 3];
    for step in 0..3 {
        if read.is_multiple_of(4) {
            break;
        }
        let fact = (read / 4 + step) as usize % 3;
        depends[fact] = true;
        read = match fact {
            0 => digest((read, &client.client_id, &client.attributes, client.port)),
            1 => digest((read, &client.username, &client.tenant)),
            _ => digest((read, request.topic.as_str())),
        };
    }
    let decision = [Decision::Allow, Decision::Deny, Decision::Abstain][(read / 12 % 3) as usize];
    let lives = !(read / 36).is_multiple_of(4);
    Verdict {
        decision,
        cache_ms: if lives { (ERA_MS - now % ERA_MS) as u32 } else { 0 },
        depends_on_client: depends[0],
        depends_on_user: depends[1],
        depends_on_topic: depends[2],
    }
}

#[derive(Clone, Debug)]
enum Op {
    Connect {
        client: u8,
        user: u8,
        tenant: bool,
    },
    Publish {
        client: u8,
        topic: u8,
        qos: u8,
        retain: bool,
    },
    Subscribe {
        client: u8,
        topic: u8,
        qos: u8,
    },
    Advance(u64),
    NewPolicy,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..3u8, 0..3u8, any::<bool>()).prop_map(|(client, user, tenant)| Op::Connect { client, user, tenant }),
        12 => (0..3u8, 0..3u8, 0..3u8, any::<bool>())
            .prop_map(|(client, topic, qos, retain)| Op::Publish { client, topic, qos, retain }),
        4 => (0..3u8, 0..3u8, 0..3u8).prop_map(|(client, topic, qos)| Op::Subscribe { client, topic, qos }),
        2 => (1..ERA_MS).prop_map(Op::Advance),
        1 => Just(Op::NewPolicy),
    ]
}

const TOPICS: [&str; 3] = ["a", "b", "a/b"];
const AUTHORIZERS: usize = 2;

struct World {
    broker: Broker,
    /// Generation and time, as the plugin sees them.
    clock: Rc<Cell<(u64, u64)>>,
    clients: HashMap<u8, (C, Client)>,
}

impl World {
    fn new(shards: u16) -> Self {
        let config = ShardConfig {
            shards,
            ..ShardConfig::default()
        };
        let mut broker = Broker {
            here: usize::from(shards) % (AUTHORIZERS + 1),
            ..Broker::new(config)
        };
        broker.set_policy(policy(1, AUTHORIZERS, 0));
        let clock = Rc::new(Cell::new((1, broker.now)));
        let seen = clock.clone();
        broker.script = Box::new(move |call| {
            let (generation, now) = seen.get();
            Some(match call {
                Call::Rules { .. } => Answer::Rules(vec![Ok(None); AUTHORIZERS]),
                Call::Authorize {
                    authorizer,
                    client,
                    request,
                    ..
                } => Answer::Authorize(Ok(honest(*authorizer, generation, now, client, request))),
                other => panic!("{other:?}"),
            })
        });
        Self {
            broker,
            clock,
            clients: HashMap::new(),
        }
    }

    /// What holds where every authorizer is asked every time.
    fn oracle(&self, client: &Client, request: &Request) -> bool {
        let (generation, now) = self.clock.get();
        let decisions = (0..AUTHORIZERS).map(|n| honest(n, generation, now, client, request).decision);
        fold_authorization(decisions, DefaultDecision::Deny)
    }

    fn request(action: Action, topic: u8, qos: u8, retain: bool) -> Request {
        Request {
            action,
            topic: text(TOPICS[usize::from(topic)]),
            qos: super::scene::qos(qos),
            retain,
        }
    }

    fn carry_out(&mut self, op: &Op) {
        match *op {
            Op::Connect { client, user, tenant } => self.connect(client, user, tenant),
            Op::Publish {
                client,
                topic,
                qos,
                retain,
            } => self.publish(client, topic, qos, retain),
            Op::Subscribe { client, topic, qos } => self.subscribe(client, topic, qos),
            Op::Advance(ms) => {
                self.broker.advance(ms);
                self.clock.set((self.clock.get().0, self.broker.now));
            }
            Op::NewPolicy => {
                let (generation, now) = self.clock.get();
                self.broker.set_policy(policy(generation + 1, AUTHORIZERS, 0));
                self.clock.set((generation + 1, now));
            }
        }
    }

    /// A session that lasts: one who comes with another user name takes it over.
    fn connect(&mut self, client: u8, user: u8, tenant: bool) {
        let mut who = v5(&client.to_string()).lasting();
        if user > 0 {
            who = who.username(["ann", "bob"][usize::from(user - 1)]);
        }
        if tenant {
            who = who.tenant("t");
        }
        let facts = Client::clone(&who.clone().accepted().client);
        let c = self.broker.connect(who);
        self.clients.insert(client, (c, facts));
    }

    fn publish(&mut self, client: u8, topic: u8, qos: u8, retain: bool) {
        let Some((c, facts)) = self.clients.get(&client).cloned() else {
            return;
        };
        let expected = self.oracle(&facts, &Self::request(Action::Publish, topic, qos, retain));
        let before = self.broker.total(|c| c.denied_publish);
        let mut packet = publish(TOPICS[usize::from(topic)], qos, "x");
        packet.retain = retain;
        self.broker.publish_packet(c, packet);
        let denied = self.broker.total(|c| c.denied_publish) - before;
        assert_eq!(denied == 0, expected, "PUBLISH of {facts:?}");
    }

    fn subscribe(&mut self, client: u8, topic: u8, qos: u8) {
        let Some((c, facts)) = self.clients.get(&client).cloned() else {
            return;
        };
        let expected = self.oracle(&facts, &Self::request(Action::Subscribe, topic, qos, false));
        let filters = vec![filter(TOPICS[usize::from(topic)], qos)];
        let reasons = self.broker.subscribe_all(c, filters, None);
        assert_eq!(
            reasons != [ReasonCode::NotAuthorized],
            expected,
            "SUBSCRIBE of {facts:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_never_changes_an_answer(shards in prop_oneof![Just(1), Just(3)], ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new(shards);
        (0..3).for_each(|client| world.connect(client, client, false));
        ops.iter().for_each(|op| world.carry_out(op));
    }
}
