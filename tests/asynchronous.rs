//! Plugins that ask HTTP backends, in the running broker: many clients at once, backends that are slow, silent or gone, and reloads
//! in the middle of calls. Nobody waits but the client whose question it is.

#[path = "support/backend.rs"]
mod backend;
mod support;

use backend::{Answer, Asked, Backend, Door};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::*;

/// The guest `asking` in front of this backend, for these hooks, with more limits.
fn asking(backend: &Backend, hooks: &str, limits: &str) -> String {
    let url = backend.url();
    format!(
        "[[plugin]]\nname = \"asking\"\ncomponent = \"asking.wasm\"\nhooks = [{hooks}]\ngrants = [\"{url}\"]\n\
         limits = {{ authenticate_call_ms = 10000, {limits} }}\nconfig = {{ url = \"{url}\" }}\n"
    )
}

fn setup(toml: &str) -> Setup {
    Setup::new().file("asking.wasm", guest("asking")).toml(toml)
}

/// A login of a client whose name is its user name.
fn named(name: &str) -> Connect {
    login(Version::V5, name, name, "secret")
}

/// How a connection attempt ends.
fn reason(broker: &Broker, name: &str) -> u8 {
    Client::try_connect(broker, named(name)).1.reason as u8
}

/// A connection whose CONNECT is sent and not answered yet.
fn knocking(broker: &Broker, name: &str) -> Client {
    let mut client = Client::open(broker, Version::V5);
    client.send(Packet::Connect(Box::new(named(name))));
    client
}

fn calls(broker: &Broker, hook: &str, outcome: &str) -> f64 {
    metric(
        broker,
        "nervewire_plugin_calls_total",
        &[("hook", hook), ("outcome", outcome)],
    )
}

fn bound_hit(broker: &Broker, bound: &str) -> f64 {
    metric(broker, "nervewire_bounds_hit_total", &[("bound", bound)])
}

/// A backend that answers 200, to some only when the door is open.
fn guarded(waits: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> (Backend, Arc<Door>) {
    let door: Arc<Door> = Arc::default();
    let inside = door.clone();
    let backend = Backend::start(move |asked| {
        if waits(asked) {
            inside.wait();
        }
        Some(Answer::status(200).body("asked"))
    });
    (backend, door)
}

const CLIENTS: usize = 5_000;
const CALLS: usize = 64;
const BACKEND_MS: u64 = 20;

fn room_for_connections() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit can be the hard one");
}

/// Publishes and receives, one message after the other, until it is told to stop.
fn exchange(broker: &Broker, stop: &AtomicBool, rounds: &AtomicUsize) {
    let mut client = Client::connect(broker, named("bystander")).0;
    client.subscribe("bystander", QoS::AtLeastOnce);
    while !stop.load(Ordering::SeqCst) {
        client.publish("bystander", "x", QoS::AtLeastOnce);
        client.expect_payload("x");
        rounds.fetch_add(1, Ordering::SeqCst);
    }
}

/// Answers after 20 ms; of the clients `c...` nobody is answered before the first [`CALLS`] of them have come.
fn backend_that_sees_the_pool_full() -> Backend {
    let (come, together) = (AtomicUsize::new(0), Barrier::new(CALLS));
    Backend::start(move |asked| {
        if asked.field("username").starts_with('c') && come.fetch_add(1, Ordering::SeqCst) < CALLS {
            together.wait();
        }
        std::thread::sleep(Duration::from_millis(BACKEND_MS));
        Some(Answer::status(200))
    })
}

#[test]
fn five_thousand_clients_connect_at_once_while_messages_flow() {
    room_for_connections();
    let backend = backend_that_sees_the_pool_full();
    let limits = "http_calls = 64, http_call_ms = 60000";
    let broker = setup(&asking(&backend, "\"authenticate\"", limits)).shards(2).start();
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| exchange(&broker, &stop, &rounds));
        wait_for("the bystander", || (rounds.load(Ordering::SeqCst) > 0).then_some(()));
        let (begun, before) = (Instant::now(), rounds.load(Ordering::SeqCst));
        let mut clients: Vec<_> = (0..CLIENTS).map(|n| knocking(&broker, &format!("c{n}"))).collect();
        for client in &mut clients {
            assert_eq!(client.expect_connack().reason as u8, 0);
        }
        let (took, after) = (begun.elapsed(), rounds.load(Ordering::SeqCst));
        stop.store(true, Ordering::SeqCst);
        bystander.join().expect("the bystander is served to the end");
        let ideal = Duration::from_millis(BACKEND_MS) * (CLIENTS / CALLS) as u32;
        eprintln!(
            "{CLIENTS} clients in {took:?} (ideal {ideal:?}), {} messages meanwhile",
            after - before
        );
        assert!(after - before >= 50, "{} messages meanwhile", after - before);
    });
    assert_eq!(backend.requests(), CLIENTS + 1);
    // All of the pool was made use of, and no more: how long they took on a busy machine says nothing.
    assert_eq!(backend.most_at_once(), CALLS);
    let connections = backend.connections();
    assert!(
        connections <= 2 * CALLS,
        "{connections} connections for {CLIENTS} requests"
    );
    assert_eq!(calls(&broker, "authenticate", "ok"), (CLIENTS + 1) as f64);
}

#[test]
fn who_finds_the_queue_full_is_told_that_the_server_is_busy() {
    let (backend, door) = guarded(|_| true);
    let broker = setup(&asking(
        &backend,
        "\"authenticate\"",
        "http_calls = 1, http_queue_calls = 1, http_call_ms = 60000",
    ))
    .start();
    let mut first = knocking(&broker, "first");
    wait_for("the first question", || (backend.requests() == 1).then_some(()));
    // Of these two one waits, the other one is too many.
    let mut others = [knocking(&broker, "second"), knocking(&broker, "third")];
    wait_for("the bound", || {
        (bound_hit(&broker, "http_queue_calls") == 1.0).then_some(())
    });
    door.open();
    assert_eq!(first.expect_connack().reason as u8, 0);
    let mut reasons = others.each_mut().map(|client| client.expect_connack().reason as u8);
    reasons.sort_unstable();
    assert_eq!(reasons, [0, 0x89]);
}

#[test]
fn a_redirect_to_an_origin_that_is_not_granted_is_not_followed() {
    let other = Backend::start(|_| Some(Answer::status(200)));
    let elsewhere = other.url();
    let backend = Backend::start(move |_| Some(Answer::status(307).header("location", &elsewhere)));
    let toml = asking(&backend, "\"authenticate\"", "http_calls = 2");
    let broker = setup(&toml.replace("config = { ", "config = { max_redirects = 3, ")).start();
    assert!(reason(&broker, "ann") >= 0x80);
    broker.logs("the plugin has no grant for this origin");
    assert_eq!((backend.requests(), other.requests()), (1, 0));
}

/// What a backend needs to speak TLS as `localhost`.
fn tls_config(certificates: &Certificates) -> Arc<ServerConfig> {
    let identity = certificates.issue("backend");
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("protocol versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).expect("a certificate"))
}

/// `https` trusts the machine's authorities, here those of a file that the environment names.
#[test]
fn a_backend_behind_tls_is_asked_if_its_certificate_is_trusted() {
    let (trusted, other) = (Certificates::new(), Certificates::new());
    for (signed_by, expected) in [(&trusted, true), (&other, false)] {
        let config = tls_config(signed_by);
        let wrap = move |stream| -> Box<dyn backend::Stream> {
            let connection = ServerConnection::new(config.clone()).expect("a TLS server");
            Box::new(StreamOwned::new(connection, stream))
        };
        let backend = Backend::start_over(([127, 0, 0, 1], 0).into(), wrap, |_| Some(Answer::status(200)));
        let toml = asking(&backend, "\"authenticate\"", "http_calls = 2").replace("http://", "https://");
        let setup = setup(&toml).file("authorities.pem", trusted.authority());
        let authorities = setup.path("authorities.pem");
        let broker = setup.env("SSL_CERT_FILE", authorities).start();
        assert_eq!(reason(&broker, "ann") == 0, expected);
        assert_eq!(backend.requests(), usize::from(expected));
        if !expected {
            broker.logs("the certificate is not trusted");
        }
    }
}

#[test]
fn a_backend_that_never_answers_costs_only_its_clients() {
    let backend = Backend::start(|asked| match asked.field("username") {
        "unlucky" => None,
        _ => Some(Answer::status(200)),
    });
    let broker = setup(&asking(
        &backend,
        "\"authenticate\"",
        "http_calls = 8, http_call_ms = 1000",
    ))
    .start();
    let mut unlucky: Vec<_> = (0..3).map(|_| knocking(&broker, "unlucky")).collect();
    wait_for("three questions", || (backend.requests() == 3).then_some(()));
    assert_eq!(reason(&broker, "lucky"), 0);
    for client in &mut unlucky {
        assert!(client.expect_connack().reason as u8 >= 0x80);
    }
    assert_eq!(calls(&broker, "authenticate", "timeout"), 3.0);
    assert_eq!(reason(&broker, "lucky"), 0);
}

#[test]
fn who_leaves_before_the_answer_leaves_nothing_behind() {
    let (backend, door) = guarded(|asked| asked.field("username") == "leaving");
    let broker = setup(&asking(
        &backend,
        "\"authenticate\"",
        "http_calls = 2, http_call_ms = 60000",
    ))
    .start();
    let leaving = knocking(&broker, "leaving");
    wait_for("the question", || (backend.requests() == 1).then_some(()));
    drop(leaving);
    assert_eq!(reason(&broker, "staying"), 0);
    door.open();
    wait_for("the answer", || {
        (calls(&broker, "authenticate", "ok") == 2.0).then_some(())
    });
    assert_eq!(reason(&broker, "staying"), 0);
}

/// A chain of three: what abstains passes the question on, whether it was asked here or elsewhere.
#[test]
fn an_answer_from_elsewhere_goes_on_along_the_chain() {
    let backend = Backend::start(|asked| {
        Some(Answer::status(match asked.field("username") {
            "hattie" => 200,
            "mallory" => 403,
            _ => 204,
        }))
    });
    let password = |name: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"builtin:password\"\nfiles = {{ users = \"{name}\" }}\n{PATIENT}"
        )
    };
    let chain = [
        password("first"),
        asking(&backend, "\"authenticate\"", "http_calls = 2"),
        password("last"),
    ]
    .concat();
    let setup = setup(&chain);
    for (file, user) in [("first", "ann"), ("last", "zoe"), ("last", "mallory")] {
        let file = setup.path(file).display().to_string();
        let output = nervewire_with_input(&["passwd", &file, user], "secret\n");
        assert!(output.status.success(), "{output:?}");
    }
    let broker = setup.start();
    assert_eq!((reason(&broker, "ann"), backend.requests()), (0, 0));
    assert_eq!((reason(&broker, "hattie"), backend.requests()), (0, 1));
    assert_eq!((reason(&broker, "zoe"), backend.requests()), (0, 2));
    assert!(
        reason(&broker, "mallory") >= 0x80,
        "the backend decides before the last one is asked"
    );
    assert!(reason(&broker, "nobody") >= 0x80);
    assert_eq!(backend.requests(), 4);
}

fn auth(reason: ReasonCode, data: Option<&'static [u8]>) -> Packet {
    let properties = props(|p| {
        p.authentication_method = Some(text("ASK"));
        p.authentication_data = data.map(bytes::Bytes::from_static);
    });
    Packet::Auth(Auth { reason, properties })
}

/// Section 4.12.1: while the backend thinks about who the client is now, its next message waits, and other clients' do not.
#[test]
fn a_connected_client_authenticates_again_by_a_backend() {
    for shards in SHARD_COUNTS {
        let door: Arc<Door> = Arc::default();
        let inside = door.clone();
        let backend = Backend::start(move |asked| {
            if asked.field("data") == "again" {
                inside.wait();
            }
            Some(match asked.field("data") {
                "please" | "again" => Answer::status(200),
                _ if asked.path == "/authenticate" => Answer::status(200),
                "" => Answer::status(401).body("say please"),
                _ => Answer::status(403),
            })
        });
        let broker = setup(&asking(
            &backend,
            "\"authenticate\"",
            "http_calls = 2, http_call_ms = 60000",
        ))
        .shards(shards)
        .start();
        let mut client = Client::open(&broker, Version::V5);
        client.send(Packet::Connect(Box::new(Connect {
            properties: props(|p| p.authentication_method = Some(text("ASK"))),
            ..hello(Version::V5, "c")
        })));
        let challenged = |client: &mut Client, data| {
            let challenge = client.expect_auth();
            assert_eq!(challenge.reason, ReasonCode::ContinueAuthentication);
            client.send(auth(ReasonCode::ContinueAuthentication, Some(data)));
        };
        let mut other = Client::connect(&broker, named("other")).0;
        challenged(&mut client, b"please");
        assert_eq!(client.expect_connack().reason, ReasonCode::Success);
        client.send(auth(ReasonCode::ReAuthenticate, None));
        challenged(&mut client, b"again");
        wait_for("the question", || (backend.requests() == 5).then_some(()));
        client.send_publish(message("later", "x", QoS::AtLeastOnce));
        other.publish("meanwhile", "x", QoS::AtLeastOnce);
        door.open();
        assert_eq!(client.expect_auth().reason, ReasonCode::Success);
        assert!((client.expect_puback().reason as u8) < 0x80);
        client.send(auth(ReasonCode::ReAuthenticate, None));
        challenged(&mut client, b"wrong");
        client.expect_disconnect(0x87);
    }
}

#[test]
fn publishes_are_authorized_and_transformed_by_a_backend_in_their_order() {
    for shards in SHARD_COUNTS {
        let backend = Backend::start(|asked| {
            let topic = asked.field("topic");
            Some(match asked.path.as_str() {
                "/transform" => Answer::status(200).body(format!("of {topic}")),
                "/authorize" if topic.starts_with("forbidden") => Answer::status(403),
                _ => Answer::status(200),
            })
        });
        let broker = setup(&asking(&backend, "\"authorize\", \"transform\"", "http_calls = 8"))
            .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
            .shards(shards)
            .start();
        let mut subscriber = Client::new(&broker, Version::V5, "subscriber");
        subscriber.subscribe("t/+", QoS::AtLeastOnce);
        let mut publisher = Client::new(&broker, Version::V5, "publisher");
        for n in 0..20 {
            publisher.send_publish(message(&format!("t/{n}"), "x", QoS::AtLeastOnce));
        }
        for n in 0..20 {
            assert_eq!(subscriber.receive().payload, format!("of t%2F{n}"));
        }
        for _ in 0..20 {
            assert!((publisher.expect_puback().reason as u8) < 0x80);
        }
        let denied = publisher.deliver(message("forbidden", "x", QoS::AtLeastOnce));
        assert_eq!(denied, 0x87);
    }
}

/// A message that waits for a backend while plugins are replaced is treated to its end by those that it began with.
#[test]
fn a_reload_in_the_middle_of_a_call_finds_the_old_plugins_in_place() {
    for shards in SHARD_COUNTS {
        let (backend, door) = guarded(|asked| asked.field("topic") == "slow");
        let tagged = |number: u32| format!("[[plugin]]\nname = \"tag\"\ncomponent = \"tag-{number}.wasm\"\n{PATIENT}");
        let asks = asking(&backend, "\"transform\"", "http_calls = 2, http_call_ms = 60000");
        let broker = setup(&[asks, tagged(1)].concat())
            .file("tag-1.wasm", generation_guest(1))
            .file("tag-2.wasm", generation_guest(2))
            .shards(shards)
            .start();
        let mut subscriber = Client::new(&broker, Version::V5, "subscriber");
        subscriber.subscribe("+", QoS::AtLeastOnce);
        let mut waiting = Client::new(&broker, Version::V5, "waiting");
        waiting.send_publish(message("slow", "x", QoS::AtLeastOnce));
        wait_for("the question", || (backend.requests() == 1).then_some(()));
        broker.replace_toml(&tagged(2));
        broker.reloaded();
        let mut other = Client::new(&broker, Version::V5, "other");
        other.publish("quick", "x", QoS::AtLeastOnce);
        let quick = subscriber.receive();
        assert_eq!((&*quick.payload, tag(&quick)), (&b"x"[..], "0002".to_owned()));
        door.open();
        let slow = subscriber.receive();
        assert_eq!((&*slow.payload, tag(&slow)), (&b"asked"[..], "0001".to_owned()));
        assert!((waiting.expect_puback().reason as u8) < 0x80);
        waiting.publish("slow", "x", QoS::AtLeastOnce);
        assert_eq!(tag(&subscriber.receive()), "0002");
        assert_eq!(bound_hit(&broker, "earlier_generations"), 0.0);
    }
}

/// What the guest `generation` left.
fn tag(message: &Publish) -> String {
    let properties = properties(&message.properties);
    let mut tags = properties
        .user_properties
        .iter()
        .filter(|(name, _)| &**name == "generation");
    tags.next().map_or(String::new(), |(_, number)| number.to_string())
}

/// The rules of a client come from an authorizer here and one elsewhere.
#[test]
fn rules_are_gathered_from_here_and_elsewhere() {
    let backend = Backend::start(|asked| {
        Some(Answer::status(match asked.field("topic") {
            "backend" => 200,
            _ if asked.path == "/rules" => 200,
            _ => 403,
        }))
    });
    let acl = format!(
        "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n{PATIENT}\
         config.rules = [{{ deny = \"publish\", topics = [\"acl\"] }}]\n"
    );
    let both = [acl, asking(&backend, "\"authorize\"", "http_calls = 2")].concat();
    let broker = setup(&both)
        .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    let mut may = |topic: &str| client.deliver(message(topic, "x", QoS::AtLeastOnce)) < 0x80;
    assert!(may("backend"));
    assert!(!may("other"));
    let asked = backend.requests();
    assert!(!may("acl"));
    assert_eq!(backend.requests(), asked, "a rule that denies leaves nothing to ask");
}

#[test]
fn a_backend_that_comes_back_is_asked_again() {
    let backend = Backend::start(|_| Some(Answer::status(200)));
    let address = backend.address();
    let broker = setup(&asking(&backend, "\"authenticate\"", "http_calls = 4")).start();
    assert_eq!(reason(&broker, "ann"), 0);
    drop(backend);
    wait_for("the breaker", || {
        assert!(reason(&broker, "ann") >= 0x80);
        (calls(&broker, "authenticate", "breaker") > 0.0).then_some(())
    });
    let _back = Backend::start_at(address, |_| Some(Answer::status(200)));
    wait_for("the backend that is back", || {
        (reason(&broker, "ann") == 0).then_some(())
    });
}

/// At CONNECT, because it can be refused there only.
#[test]
fn a_will_is_authorized_by_a_backend() {
    let backend = Backend::start(|asked| {
        Some(Answer::status(match asked.field("topic") {
            "forbidden" => 403,
            _ => 200,
        }))
    });
    let broker = setup(&asking(&backend, "\"authorize\"", "http_calls = 2"))
        .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
        .start();
    let mut watcher = Client::new(&broker, Version::V5, "watcher");
    watcher.subscribe("#", QoS::AtLeastOnce);
    let dying = |topic: &str| Connect {
        will: Some(Box::new(will(topic, "gone", QoS::AtLeastOnce))),
        ..hello(Version::V5, topic)
    };
    assert_eq!(Client::try_connect(&broker, dying("forbidden")).1.reason as u8, 0x87);
    drop(Client::connect(&broker, dying("allowed")).0);
    watcher.expect_payload("gone");
}

/// A tick may wait for its backend like any other call, and nobody waits for it.
#[test]
fn a_tick_publishes_what_a_backend_answers() {
    for shards in SHARD_COUNTS {
        let (door, ticks) = (Arc::<Door>::default(), Arc::<AtomicUsize>::default());
        let (inside, counted) = (door.clone(), ticks.clone());
        let backend = Backend::start(move |asked| {
            if asked.path != "/tick" {
                return Some(Answer::status(200));
            }
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Some(Answer::status(503)),
                number => {
                    inside.wait();
                    Some(Answer::status(200).body(format!("answer {number}")))
                }
            }
        });
        let url = backend.url();
        let broker = setup(&format!(
            "[[plugin]]\nname = \"asking\"\ncomponent = \"asking.wasm\"\nhooks = [\"authenticate\"]\n\
             grants = [\"{url}\", \"publish:asked/#\"]\nlimits = {{ authenticate_call_ms = 10000, http_calls = 2, http_call_ms = 60000 }}\n\
             config = {{ url = \"{url}\", tick_ms = 50 }}\n"
        ))
        .shards(shards)
        .start();
        let mut client = Client::connect(&broker, named("c")).0;
        client.subscribe("#", QoS::AtMostOnce);
        // The first one found the backend failing, and said nothing.
        wait_for("a tick that waits", || {
            (ticks.load(Ordering::SeqCst) == 2).then_some(())
        });
        client.publish("meanwhile", "x", QoS::AtLeastOnce);
        client.expect_payload("x");
        drop(Client::connect(&broker, named("another")));
        door.open();
        for number in [1, 2] {
            client.expect_payload(&format!("answer {number}"));
        }
        wait_for("the calls", || (calls(&broker, "tick", "ok") >= 3.0).then_some(()));
    }
}
