//! Plugins that ask backends: what they may reach, how many calls there are at a time, and what becomes of calls that do not end.

mod support;

#[path = "../../../tests/support/backend.rs"]
mod backend;

use backend::{Answer, Asked, Backend, Door};
use nervewire_core::hook::{Authentication, CallFailed, Decision, Transformation};
use nervewire_plugin_host::{
    BreakerState, Busy, Call, FAILURES_TO_OPEN, FIRST_OPEN_MS, Host, HostConfig, HttpBackend, Limits, Outcome, Plugin,
    PluginSpec, Question, Reply, Role, ScriptedRequest, ScriptedResponse,
};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use support::{client, credentials, granted, host, host_with_clock, message, request, small_config, spec};

/// The guest `asking`, which asks this backend and may.
fn asking(name: &str, backend: &Backend) -> PluginSpec {
    let spec = granted(&[&backend.url()], spec("asking"));
    PluginSpec {
        name: name.to_owned(),
        config_json: format!(r#"{{"url": "{}"}}"#, backend.url()),
        ..spec
    }
}

fn limited(spec: PluginSpec, change: impl FnOnce(&mut Limits)) -> PluginSpec {
    let mut limits = spec.limits;
    change(&mut limits);
    PluginSpec { limits, ..spec }
}

fn load(spec: PluginSpec) -> Arc<Plugin> {
    host().load(spec).expect("it loads")
}

fn who(username: &str) -> Question {
    Question::Authenticate {
        client: Arc::new(client("c1")),
        credentials: credentials(username, "secret"),
    }
}

fn authenticate(plugin: &Arc<Plugin>, username: &str) -> Result<Authentication, CallFailed> {
    match plugin.ask(who(username)) {
        Reply::Authenticate(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn is_allowed(answer: &Result<Authentication, CallFailed>) -> bool {
    matches!(answer, Ok(Authentication::Allow(_)))
}

fn submit(plugin: &Arc<Plugin>, username: &str) -> Result<Receiver<Reply>, Busy> {
    let (sender, answer) = channel();
    plugin.submit(who(username), move |reply| sender.send(reply).expect("the test waits"))?;
    Ok(answer)
}

fn counter(plugin: &Plugin, name: &str) -> u64 {
    let counters = plugin.stats().counters();
    counters
        .iter()
        .find(|(known, _)| known == name)
        .map_or(0, |(_, value)| *value)
}

#[test]
fn every_hook_can_ask() {
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let seen = asked.clone();
    let backend = Backend::start(move |request| {
        seen.lock().unwrap().push(request.clone());
        Some(match request.path.as_str() {
            "/transform" => Answer::status(200).body("from the backend"),
            "/rules" => Answer::status(404),
            _ => Answer::status(200),
        })
    });
    let plugin = load(asking("every-hook", &backend));
    assert!(plugin.is_asynchronous());
    assert!(plugin.instance(Role::Shard).is_err(), "it is never called on a shard");
    assert!(is_allowed(&authenticate(&plugin, "ann")));
    let client = Arc::new(client("c1"));
    let rules = plugin.ask(Question::Rules { client: client.clone() });
    assert!(matches!(rules, Reply::Rules(Ok(None))), "{rules:?}");
    let verdict = plugin.ask(Question::Authorize {
        client: client.clone(),
        request: request("a/b"),
    });
    assert!(
        matches!(&verdict, Reply::Authorize(Ok(verdict)) if verdict.decision == Decision::Allow),
        "{verdict:?}"
    );
    let transformed = plugin.ask(Question::Transform {
        client,
        message: message("a/b"),
    });
    match transformed {
        Reply::Transform(Ok(Transformation::Replace(message))) => assert_eq!(&message.payload[..], b"from the backend"),
        other => panic!("{other:?}"),
    }
    let asked = asked.lock().unwrap();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(paths, ["/authenticate", "/rules", "/authorize", "/transform"]);
    let first = &asked[0];
    assert_eq!((first.method.as_str(), first.field("username")), ("POST", "ann"));
    assert_eq!(first.header("host"), [backend.address().to_string()]);
    assert_eq!(first.header("x-asked-by"), ["asking"]);
    assert_eq!(first.header("content-length"), [first.body.len().to_string()]);
    assert_eq!(first.header("content-type"), ["application/x-www-form-urlencoded"]);
    assert_eq!(backend.connections(), 1, "one after the other, they use one connection");
    assert_eq!(plugin.stats().calls(Call::Authorize, Outcome::Ok), 1);
}

#[test]
fn calls_at_a_time_and_calls_that_wait_are_bounded() {
    let door: Arc<Door> = Arc::default();
    let closed = door.clone();
    let backend = Backend::start(move |_| {
        closed.wait();
        Some(Answer::status(200))
    });
    let plugin = load(limited(asking("bounded", &backend), |limits| {
        limits.http_calls = 3;
        limits.http_queue_calls = 4;
        limits.http_call_ms = 30_000;
    }));
    let answers: Vec<_> = (0..7).map(|_| submit(&plugin, "ann").expect("there is room")).collect();
    assert_eq!(submit(&plugin, "ann").unwrap_err(), Busy);
    assert_eq!(plugin.stats().queue_over_bound(), 1);
    while backend.requests() < 3 {
        std::thread::yield_now();
    }
    door.open();
    for answer in answers {
        let answer = answer.recv().expect("an answer");
        assert!(
            matches!(&answer, Reply::Authenticate(answer) if is_allowed(answer)),
            "{answer:?}"
        );
    }
    assert!(is_allowed(&authenticate(&plugin, "ann")));
    assert_eq!(backend.most_at_once(), 3);
    assert!(backend.connections() <= 3, "connections are used again");
}

#[test]
fn only_granted_origins_are_reached_also_by_redirects() {
    let other = Backend::start(|_| Some(Answer::status(200)));
    let elsewhere = other.url();
    let backend = Backend::start(move |asked| {
        Some(match asked.field("username") {
            "away" => Answer::status(307).header("Location", &elsewhere),
            "home" => Answer::status(307).header("Location", "/again?username=x"),
            _ => Answer::status(200),
        })
    });
    let with = |name: &str, config: String| {
        let spec = asking(name, &backend);
        load(PluginSpec {
            config_json: config,
            ..spec
        })
    };
    let denied = |answer| matches!(answer, Ok(Authentication::Deny(_)));
    // The backend itself, by a name and by a port that nobody granted.
    let port = backend.address().port();
    for (name, url) in [
        ("by-name", format!("http://localhost:{port}")),
        ("by-port", other.url()),
        ("by-scheme", format!("https://{}", backend.address())),
    ] {
        let plugin = with(name, format!(r#"{{"url": "{url}"}}"#));
        assert!(denied(authenticate(&plugin, "ann")), "{url}");
        assert_eq!(counter(&plugin, "not_granted"), 1, "{url}");
        assert_eq!(plugin.stats().refused_grants(), 1, "{url}");
    }
    let url = backend.url();
    let plugin = with("redirected", format!(r#"{{"url": "{url}", "max_redirects": 2}}"#));
    assert!(denied(authenticate(&plugin, "away")));
    assert_eq!(
        (counter(&plugin, "not_granted"), plugin.stats().refused_grants()),
        (1, 1)
    );
    assert_eq!(other.requests(), 0, "nothing left for the other one");
    assert!(denied(authenticate(&plugin, "home")), "it redirects for ever");
    assert_eq!(counter(&plugin, "too_many_redirects"), 1);
}

#[test]
fn a_plugin_without_grant_stays_synchronous_and_reaches_nobody() {
    let backend = Backend::start(|_| Some(Answer::status(200)));
    let plugin = load(PluginSpec {
        grants: Vec::new(),
        ..asking("ungranted", &backend)
    });
    assert!(!plugin.is_asynchronous());
    let mut instance = plugin.instance(Role::Authenticate).expect("an instance");
    let answer = instance.authenticate(&client("c1"), &credentials("ann", "secret"));
    assert!(matches!(answer, Ok(Authentication::Deny(_))), "{answer:?}");
    assert_eq!(
        (counter(&plugin, "not_granted"), plugin.stats().refused_grants()),
        (1, 1)
    );
    assert_eq!(backend.requests(), 0);
}

#[test]
fn a_backend_that_never_answers_ends_as_a_timeout() {
    let backend = Backend::start(|asked| match asked.field("username") {
        "never" => None,
        _ => Some(Answer::status(200)),
    });
    let plugin = load(limited(asking("never", &backend), |limits| limits.http_call_ms = 300));
    assert!(authenticate(&plugin, "never").is_err());
    assert_eq!(plugin.stats().calls(Call::Authenticate, Outcome::Timeout), 1);
    assert_eq!(plugin.stats().instances_replaced(), 1);
    // What the plugin itself waits for no longer is an answer to the plugin.
    let spec = asking("impatient", &backend);
    let config_json = format!(r#"{{"url": "{}", "timeout_ms": 50}}"#, backend.url());
    let plugin = load(PluginSpec { config_json, ..spec });
    assert!(matches!(authenticate(&plugin, "never"), Ok(Authentication::Deny(_))));
    assert_eq!(counter(&plugin, "timeout"), 1);
    assert_eq!(plugin.stats().instances_replaced(), 0);
}

/// Connections of this process to a local port that are established.
fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("/proc");
    let is_one = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        let remote = columns
            .next()
            .is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")));
        remote && columns.next() == Some(ESTABLISHED)
    };
    table.lines().filter(is_one).count()
}

#[test]
fn calls_cancelled_in_the_middle_give_everything_back() {
    const AT_A_TIME: u32 = 8;
    const ROUNDS: usize = 5;
    let backend = Backend::start(|asked| match asked.field("username") {
        "never" => None,
        _ => Some(Answer::status(200)),
    });
    let plugin = load(limited(asking("cancelled", &backend), |limits| {
        limits.http_call_ms = 150;
        limits.http_calls = AT_A_TIME;
        limits.http_queue_calls = AT_A_TIME;
    }));
    let stats = Arc::clone(plugin.stats());
    for _ in 0..ROUNDS {
        let answers: Vec<_> = (0..AT_A_TIME)
            .map(|_| submit(&plugin, "never").expect("there is room"))
            .collect();
        for answer in answers {
            let answer = answer.recv().expect("an answer");
            assert!(matches!(answer, Reply::Authenticate(Err(_))), "{answer:?}");
        }
    }
    // Whoever was in the middle of a call is not called again.
    assert_eq!(stats.instances(), 0);
    while connections_to(backend.address().port()) > 0 {
        std::thread::yield_now();
    }
    drop(plugin);
    assert_eq!((stats.instances(), stats.memory_bytes()), (0, 0));
}

/// What a request is made of lies in the broker: a guest may hold 256 parts of requests, each with 64 KiB of headers.
#[test]
fn what_a_guest_hoards_for_requests_is_bounded() {
    let backend = Backend::start(|_| Some(Answer::status(200)));
    for who in ["hoard", "headers", "many headers"] {
        let plugin = load(asking(who, &backend));
        assert!(authenticate(&plugin, who).is_err(), "{who}");
        let outcomes = support::outcomes(&plugin, Call::Authenticate);
        assert!(matches!(outcomes[..], [("trap" | "invalid", 1)]), "{who}: {outcomes:?}");
        assert!(is_allowed(&authenticate(&plugin, "ann")), "{who}");
    }
}

#[test]
fn guests_that_compute_for_ever_keep_no_thread_from_the_others() {
    let backend = Backend::start(|_| Some(Answer::status(200)));
    let plugin = load(limited(asking("looping", &backend), |limits| {
        limits.authenticate_call_ms = 500;
        limits.http_call_ms = 60_000;
        limits.http_calls = 8;
    }));
    let (sender, ended) = channel();
    for _ in 0..4 {
        let sender = sender.clone();
        plugin
            .submit(who("loop"), move |_| sender.send("loop").expect("the test waits"))
            .unwrap();
    }
    plugin
        .submit(who("ann"), move |_| sender.send("ann").expect("the test waits"))
        .unwrap();
    let order: Vec<_> = ended.iter().collect();
    assert_eq!(order[0], "ann", "{order:?}");
    assert_eq!(plugin.stats().calls(Call::Authenticate, Outcome::Timeout), 4);
    assert!(is_allowed(&authenticate(&plugin, "ann")));
}

#[test]
fn a_backend_that_is_down_opens_the_breaker_until_it_is_back() {
    let (host, now) = host_with_clock();
    let backend = Backend::start(|_| Some(Answer::status(200)));
    let address = backend.address();
    let plugin = host.load(asking("down", &backend)).expect("it loads");
    assert!(is_allowed(&authenticate(&plugin, "ann")));
    drop(backend);
    for _ in 0..FAILURES_TO_OPEN {
        assert!(authenticate(&plugin, "ann").is_err());
    }
    assert_eq!(plugin.breaker_state(), BreakerState::Open);
    assert!(authenticate(&plugin, "ann").is_err());
    assert_eq!(plugin.stats().calls(Call::Authenticate, Outcome::Breaker), 1);
    let _back = Backend::start_at(address, |_| Some(Answer::status(200)));
    now.fetch_add(FIRST_OPEN_MS, std::sync::atomic::Ordering::SeqCst);
    assert!(is_allowed(&authenticate(&plugin, "ann")));
    assert_eq!(plugin.breaker_state(), BreakerState::Closed);
}

#[test]
fn a_trap_costs_its_instance_and_nothing_else() {
    let backend = Backend::start(|_| Some(Answer::status(200)));
    let plugin = load(limited(asking("trapping", &backend), |limits| limits.http_calls = 1));
    assert!(authenticate(&plugin, "trap").is_err());
    assert_eq!(plugin.stats().calls(Call::Authenticate, Outcome::Trap), 1);
    assert!(is_allowed(&authenticate(&plugin, "ann")));
}

#[test]
fn init_may_ask_and_refuse() {
    let backend = Backend::start(|asked| Some(Answer::status(if asked.path == "/ready" { 200 } else { 503 })));
    let with = |name: &str, path: &str| {
        let config_json = format!(r#"{{"url": "{}", "init_path": "{path}"}}"#, backend.url());
        host().load(PluginSpec {
            config_json,
            ..asking(name, &backend)
        })
    };
    assert!(with("init-ready", "/ready").is_ok());
    let error = with("init-refused", "/other").unwrap_err().to_string();
    assert!(
        error.contains("refuses its configuration: /other answers 503"),
        "{error}"
    );
}

#[test]
fn answers_are_bounded() {
    let backend = Backend::start(|_| Some(Answer::status(200).body(vec![b'x'; 64 * 1024 + 1])));
    let plugin = load(asking("large", &backend));
    assert!(matches!(authenticate(&plugin, "ann"), Ok(Authentication::Deny(_))));
    assert_eq!(counter(&plugin, "too_large"), 1);
}

#[test]
fn a_script_can_stand_in_for_all_backends() {
    let asked: Arc<Mutex<Vec<ScriptedRequest>>> = Arc::default();
    let seen = asked.clone();
    let script = move |request: &ScriptedRequest| {
        seen.lock().unwrap().push(request.clone());
        match request.url.contains("/authenticate") {
            true => Ok(ScriptedResponse {
                status: 200,
                headers: Vec::new(),
                body: Vec::new(),
                breaks_off: false,
            }),
            false => Err("nobody there".to_owned()),
        }
    };
    let host = Host::new(HostConfig {
        http: HttpBackend::Scripted(Arc::new(script)),
        ..small_config()
    });
    let plugin = host.expect("a host").load(PluginSpec {
        config_json: r#"{"url": "http://auth.example:8080"}"#.to_owned(),
        ..granted(&["http://auth.example:8080"], spec("asking"))
    });
    let plugin = plugin.expect("it loads");
    assert!(is_allowed(&authenticate(&plugin, "ann")));
    let client = Arc::new(client("c1"));
    let rules = plugin.ask(Question::Rules { client });
    assert!(matches!(rules, Reply::Rules(Ok(None))), "{rules:?}");
    let asked = asked.lock().unwrap();
    assert_eq!(
        (asked[0].method.as_str(), asked[0].url.as_str()),
        ("POST", "http://auth.example:8080/authenticate")
    );
    assert_eq!(asked[0].body, b"username=ann&client_id=c1");
}

/// Every request with a timeout once cost a handle for good, and the call that found none left failed.
#[test]
fn an_instance_asks_more_often_than_it_may_hold_handles() {
    let script = |_: &ScriptedRequest| {
        Ok(ScriptedResponse {
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
            breaks_off: false,
        })
    };
    let host = Host::new(HostConfig {
        http: HttpBackend::Scripted(Arc::new(script)),
        ..small_config()
    });
    let mut asking = granted(&["http://auth.example:8080"], spec("asking"));
    asking.config_json = r#"{"url": "http://auth.example:8080", "timeout_ms": 10000}"#.to_owned();
    asking.limits.http_calls = 1;
    let plugin = host.expect("a host").load(asking).expect("it loads");
    for number in 0..2 * nervewire_plugin_host::MAX_HTTP_HANDLES + 50 {
        assert!(is_allowed(&authenticate(&plugin, "ann")), "{number}");
    }
}
