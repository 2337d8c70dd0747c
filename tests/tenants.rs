//! Tenants are name spaces that know nothing of each other, and the quotas of an identity bound its client alone.

mod support;

use serde_json::Value;
use support::*;

/// Two tenants, and what lies outside all of them.
const SPACES: [&str; 3] = ["acme/", "umbrella/", ""];

fn setup(shards: u16, keys: &str) -> Setup {
    Setup::new()
        .shards(shards)
        .broker(keys)
        .file("tenants.wasm", guest("tenants"))
        .toml(&format!(
            "[[plugin]]\nname = \"tenants\"\ncomponent = \"tenants.wasm\"\n{PATIENT}"
        ))
}

/// Runs a test on one shard, on two, and on two with a store.
fn each(test: impl Fn(&Broker)) {
    for (shards, keys) in [(1, IN_MEMORY), (2, IN_MEMORY), (2, ON_DISK)] {
        eprintln!("-- with shards = {shards}\n{keys}");
        test(&setup(shards, keys).start());
    }
}

/// A CONNECT of a user of a space, `acme/` for example.
fn of(space: &str, connect: Connect) -> Connect {
    with_quotas(space, "", connect)
}

fn with_quotas(space: &str, quotas: &str, connect: Connect) -> Connect {
    let login = login(connect.version, "", &format!("{space}somebody"), quotas);
    Connect {
        username: login.username,
        password: login.password,
        ..connect
    }
}

/// A client of this space and identifier.
#[track_caller]
fn enter(broker: &Broker, space: &str, id: &str) -> Client {
    Client::connect(broker, of(space, hello(Version::V5, id))).0
}

#[track_caller]
fn resume(broker: &Broker, space: &str, id: &str) -> (Client, bool) {
    let (client, connack) = Client::connect(broker, of(space, durable(Version::V5, id)));
    (client, connack.session_present)
}

fn bound_hit(broker: &Broker, bound: &str) -> f64 {
    metric(broker, "nervewire_bounds_hit_total", &[("bound", bound)])
}

/// One client per space.
fn one_each<T>(make: impl FnMut(&'static str) -> T) -> [T; 3] {
    SPACES.map(make)
}

/// Everybody publishes to the same topic, and what each sees is its own tenant's, whatever it subscribes to.
#[test]
fn messages_stay_in_their_tenant() {
    each(|broker| {
        for filter in ["#", "+/+", "site/temperature", "$share/group/site/#"] {
            let mut clients = one_each(|space| enter(broker, space, &format!("listens-{}", space.len())));
            for client in &mut clients {
                client.subscribe(filter, QoS::AtLeastOnce);
            }
            for (client, space) in clients.iter_mut().zip(SPACES) {
                client.publish("site/temperature", format!("of {space}"), QoS::AtLeastOnce);
            }
            for (client, space) in clients.iter_mut().zip(SPACES) {
                let seen = client.expect_payload(&format!("of {space}"));
                assert_eq!(&*seen.topic, "site/temperature", "no prefix is seen, {filter}");
                client.expect_idle();
            }
        }
    });
}

/// A topic that begins with the name of a tenant is a topic like any other.
#[test]
fn no_topic_and_no_filter_leads_into_another_tenant() {
    each(|broker| {
        let mut acme = enter(broker, "acme/", "a");
        acme.subscribe("#", QoS::AtLeastOnce);
        let mut intruders = one_each(|space| enter(broker, if space == "acme/" { "umbrella/" } else { space }, "b"));
        for intruder in &mut intruders[1..] {
            for topic in ["acme/t", "/acme/t", "acme", "$tenant/acme/t", "$acme/t"] {
                intruder.publish(topic, "intruding", QoS::AtLeastOnce);
            }
            for filter in ["acme/#", "+/t", "$share/g/acme/#", "$share/acme/#", "#"] {
                intruder.subscribe(filter, QoS::AtLeastOnce);
            }
        }
        acme.publish("t", "own", QoS::AtLeastOnce);
        acme.expect_payload("own");
        acme.expect_idle();
        intruders[1..].iter_mut().for_each(Client::expect_idle);
    });
}

/// Members of groups of the same name take turns within their tenant only.
#[test]
fn shared_groups_of_the_same_name_do_not_share() {
    each(|broker| {
        let mut members = one_each(|space| {
            [1, 2].map(|n| {
                let mut member = enter(broker, space, &format!("m{n}"));
                member.subscribe("$share/workers/jobs/#", QoS::AtLeastOnce);
                member
            })
        });
        for space in SPACES {
            let mut publisher = enter(broker, space, "p");
            for n in 0..4 {
                publisher.publish("jobs/new", format!("{space}{n}"), QoS::AtLeastOnce);
            }
        }
        for (pair, space) in members.iter_mut().zip(SPACES) {
            let mut seen: Vec<String> = Vec::new();
            for member in pair.iter_mut() {
                for _ in 0..2 {
                    let payload = member.receive().payload;
                    seen.push(String::from_utf8_lossy(&payload).into_owned());
                }
                member.expect_idle();
            }
            seen.sort();
            assert_eq!(seen, [0, 1, 2, 3].map(|n| format!("{space}{n}")));
        }
    });
}

#[test]
fn retained_messages_are_their_tenants_own() {
    each(|broker| {
        for space in ["acme/", "umbrella/"] {
            enter(broker, space, "p").retain("state", space, QoS::AtLeastOnce);
        }
        for filter in ["#", "state"] {
            for space in ["acme/", "umbrella/"] {
                let mut client = enter(broker, space, "s");
                client.subscribe(filter, QoS::AtLeastOnce);
                assert!(client.expect_payload(space).retain);
                client.expect_idle();
            }
            let mut outside = enter(broker, "", "s");
            outside.subscribe(filter, QoS::AtLeastOnce);
            outside.expect_idle();
        }
        // Deleting one leaves the other.
        enter(broker, "acme/", "p").retain("state", "", QoS::AtLeastOnce);
        let mut client = enter(broker, "acme/", "s");
        client.subscribe("#", QoS::AtLeastOnce);
        client.expect_idle();
        let mut client = enter(broker, "umbrella/", "s");
        client.subscribe("#", QoS::AtLeastOnce);
        client.expect_payload("umbrella/");
    });
}

/// At once, and after their delay.
#[test]
fn wills_are_sent_in_their_tenant() {
    each(|broker| {
        for delay_s in [None, Some(1)] {
            let mut clients = one_each(|space| enter(broker, space, "listens"));
            for client in &mut clients {
                client.subscribe("#", QoS::AtLeastOnce);
            }
            for space in ["acme/", "umbrella/"] {
                let mut last_words = will("last/words", space, QoS::AtLeastOnce);
                last_words.properties = props(|p| p.will_delay_interval = delay_s);
                let connect = Connect {
                    will: Some(Box::new(last_words)),
                    ..durable(Version::V5, "mortal")
                };
                // Gone without a DISCONNECT.
                drop(Client::connect(broker, of(space, connect)));
            }
            for (client, space) in clients.iter_mut().zip(SPACES).take(2) {
                client.expect_payload(space);
                client.expect_idle();
            }
            clients[2].expect_idle();
        }
    });
}

/// A request is answered within the tenant; the same topics elsewhere hear neither.
#[test]
fn requests_and_responses_stay_in_their_tenant() {
    each(|broker| {
        let mut parties = one_each(|space| {
            let [mut asks, mut answers] = ["asks", "answers"].map(|id| enter(broker, space, id));
            asks.subscribe("answer/+", QoS::AtLeastOnce);
            answers.subscribe("question", QoS::AtLeastOnce);
            (asks, answers)
        });
        let (asks, answers) = &mut parties[0];
        asks.deliver(Publish {
            properties: props(|p| {
                p.response_topic = Some(text("answer/1"));
                p.correlation_data = Some("7".into());
            }),
            ..message("question", "?", QoS::AtLeastOnce)
        });
        let question = properties(&answers.expect_payload("?").properties);
        let answer_to = question.response_topic.expect("a response topic");
        assert_eq!(&*answer_to, "answer/1");
        answers.publish(&answer_to, "!", QoS::AtLeastOnce);
        asks.expect_payload("!");
        for (asks, answers) in &mut parties {
            asks.expect_idle();
            answers.expect_idle();
        }
    });
}

/// No takeover, and each resumes its own session, with its own messages.
#[test]
fn equal_client_identifiers_do_not_meet() {
    each(|broker| {
        let mut clients = one_each(|space| resume(broker, space, "same").0);
        for (client, space) in clients.iter_mut().zip(SPACES) {
            client.subscribe("t", QoS::AtLeastOnce);
            client.publish("t", space, QoS::AtLeastOnce);
            client.expect_payload(space);
        }
        clients.iter_mut().for_each(Client::expect_idle);
        clients.into_iter().for_each(Client::disconnect);
        for space in SPACES {
            enter(broker, space, "p").publish("t", format!("while {space} was away"), QoS::AtLeastOnce);
        }
        // One starts anew: the others' sessions are still there.
        let (mut anew, connack) = Client::connect(broker, of("umbrella/", hello(Version::V5, "same")));
        assert!(!connack.session_present);
        anew.expect_idle();
        for space in ["acme/", ""] {
            let (mut client, present) = resume(broker, space, "same");
            assert!(present, "{space}");
            client.expect_payload(&format!("while {space} was away"));
            client.expect_idle();
        }
        anew.expect_idle();
        // In the same tenant there is a takeover.
        let _second = enter(broker, "umbrella/", "same");
        anew.expect_disconnect(0x8E);
    });
}

#[test]
fn after_a_restart_everything_is_in_the_tenant_it_was_in() {
    for shards in SHARD_COUNTS {
        let broker = setup(shards, ON_DISK).start();
        for space in SPACES {
            let (mut client, _) = resume(&broker, space, "same");
            client.subscribe("t", QoS::AtLeastOnce);
            client.subscribe("$share/g/jobs", QoS::AtLeastOnce);
            client.retain("state", format!("state of {space}"), QoS::AtLeastOnce);
            client.disconnect();
            let mut publisher = enter(&broker, space, "p");
            publisher.publish("t", format!("t of {space}"), QoS::AtLeastOnce);
            publisher.publish("jobs", format!("job of {space}"), QoS::AtLeastOnce);
        }
        let broker = broker.kill9().0.start();
        for space in SPACES {
            enter(&broker, space, "p").publish("t", format!("after, in {space}"), QoS::AtLeastOnce);
        }
        for space in SPACES {
            let (mut client, present) = resume(&broker, space, "same");
            assert!(present, "{space}");
            for payload in ["t of ", "job of ", "after, in "] {
                client.expect_payload(&format!("{payload}{space}"));
            }
            client.subscribe("state", QoS::AtLeastOnce);
            client.expect_payload(&format!("state of {space}"));
            client.expect_idle();
        }
    }
}

/// A will that was due later when the broker died.
#[test]
fn a_delayed_will_is_sent_in_its_tenant_after_a_restart() {
    for shards in SHARD_COUNTS {
        let broker = setup(shards, ON_DISK).start();
        let (mut listens, _) = resume(&broker, "acme/", "listens");
        listens.subscribe("#", QoS::AtLeastOnce);
        let mut last_words = will("last/words", "farewell", QoS::AtLeastOnce);
        last_words.properties = props(|p| p.will_delay_interval = Some(1));
        let connect = Connect {
            will: Some(Box::new(last_words)),
            ..durable(Version::V5, "mortal")
        };
        let mortal = Client::connect(&broker, of("acme/", connect)).0;
        let broker = broker.kill9().0.start();
        drop((listens, mortal));
        let mut elsewhere = one_each(|space| enter(&broker, space, "elsewhere"));
        for client in &mut elsewhere[1..] {
            client.subscribe("#", QoS::AtLeastOnce);
        }
        resume(&broker, "acme/", "listens").0.expect_payload("farewell");
        elsewhere[1..].iter_mut().for_each(Client::expect_idle);
    }
}

#[track_caller]
fn json(broker: &Broker, args: &[&str]) -> Value {
    let output = broker.cli(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error} in {output:?}"))
}

#[test]
fn the_administrator_sees_and_kicks_clients_by_tenant() {
    each(|broker| {
        let mut clients = one_each(|space| enter(broker, space, "same"));
        assert_eq!(json(broker, &["clients"])["total"], 3);
        for (space, tenant) in SPACES.into_iter().zip([Some("acme"), Some("umbrella"), None]) {
            let of_tenant: Vec<&str> = tenant.iter().flat_map(|tenant| ["--tenant", tenant]).collect();
            let shown = json(broker, &[&["clients", "same"], &of_tenant[..]].concat());
            assert_eq!(shown["tenant"], tenant.map_or(Value::Null, Value::from), "{space}");
            assert_eq!(shown["username"], "somebody");
        }
        assert_eq!(
            broker.cli(&["clients", "same", "--tenant", "nobody"]).status.code(),
            Some(1)
        );
        assert!(broker.cli(&["kick", "same", "--tenant", "umbrella"]).status.success());
        clients[1].expect_disconnect(0x98);
        assert_eq!(
            broker.cli(&["kick", "same", "--tenant", "umbrella"]).status.code(),
            Some(1)
        );
        clients[0].expect_idle();
        clients[2].expect_idle();
        assert!(broker.cli(&["kick", "same"]).status.success());
        clients[2].expect_disconnect(0x98);
        clients[0].expect_idle();
    });
}

/// Of the messages for a client that is away, the oldest go; another client of the tenant keeps all of them.
#[test]
fn the_queue_of_an_identity_is_bounded_by_its_quotas() {
    each(|broker| {
        for (quotas, kept, bound) in [("messages=3", 3, "queue_messages"), ("bytes=2000", 1, "queue_bytes")] {
            let before = bound_hit(broker, bound);
            for (id, quotas) in [("small", quotas), ("large", "")] {
                let connect = with_quotas("acme/", quotas, durable(Version::V5, id));
                let mut client = Client::connect(broker, connect).0;
                client.subscribe("t", QoS::AtLeastOnce);
                client.disconnect();
            }
            let mut publisher = enter(broker, "acme/", "p");
            for n in 0..5 {
                publisher.publish("t", format!("{n}{}", "x".repeat(1000)), QoS::AtLeastOnce);
            }
            assert_eq!(bound_hit(broker, bound) - before, f64::from(5 - kept), "{quotas}");
            for (id, kept) in [("small", kept), ("large", 5)] {
                let mut client = resume(broker, "acme/", id).0;
                for n in 5 - kept..5 {
                    let payload = client.receive().payload;
                    assert!(payload.starts_with(n.to_string().as_bytes()), "{id}, {quotas}: {n}");
                }
                client.expect_idle();
            }
        }
    });
}

#[test]
fn quotas_of_an_identity_hold_after_a_restart() {
    for shards in SHARD_COUNTS {
        let broker = setup(shards, ON_DISK).start();
        let connect = with_quotas("acme/", "messages=3", durable(Version::V5, "small"));
        let mut client = Client::connect(&broker, connect).0;
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        let broker = broker.kill9().0.start();
        let mut publisher = enter(&broker, "acme/", "p");
        for n in 0..5 {
            publisher.publish("t", n.to_string(), QoS::AtLeastOnce);
        }
        assert_eq!(bound_hit(&broker, "queue_messages"), 2.0);
        let mut client = resume(&broker, "acme/", "small").0;
        for n in 2..5 {
            client.expect_payload(&n.to_string());
        }
        client.expect_idle();
    }
}

#[test]
fn subscriptions_of_an_identity_are_bounded_by_its_quotas() {
    each(|broker| {
        let connect = with_quotas("acme/", "subscriptions=2", hello(Version::V5, "c"));
        let mut client = Client::connect(broker, connect).0;
        let filters = ["a", "b/+", "c", "$share/g/d"].map(|name| filter(name, QoS::AtLeastOnce));
        let answer = client.subscribe_with(filters.to_vec(), None);
        assert_eq!(codes(&answer.reasons), [1, 1, 0x97, 0x97]);
        assert_eq!(bound_hit(broker, "subscriptions"), 2.0);
        client.subscribe("a", QoS::AtMostOnce);
        client.unsubscribe("a");
        client.subscribe("c", QoS::AtLeastOnce);
        let mut other = enter(broker, "acme/", "other");
        for name in ["a", "b", "c"] {
            other.subscribe(name, QoS::AtLeastOnce);
        }
    });
}

/// A client over its rate is read later, and nobody else is.
#[test]
fn the_rate_of_an_identity_is_bounded_by_its_quotas() {
    each(|broker| {
        let connect = with_quotas("acme/", "rate=2", hello(Version::V5, "fast"));
        let mut fast = Client::connect(broker, connect).0;
        let mut other = enter(broker, "umbrella/", "fast");
        for n in 0..4 {
            fast.send_publish(message("t", n.to_string(), QoS::AtMostOnce));
        }
        for n in 0..100 {
            other.publish("t", n.to_string(), QoS::AtLeastOnce);
        }
        // It is served in the end.
        fast.publish("t", "last", QoS::AtLeastOnce);
        assert!(bound_hit(broker, "publish_rate_per_s") >= 1.0);
    });
}
