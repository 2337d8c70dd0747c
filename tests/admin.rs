//! The admin interface over HTTP, and the commands that speak to it.

mod support;

use serde_json::Value;
use support::*;

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
        .iter()
        .collect()
}

/// What a command prints with `--json`.
#[track_caller]
fn json(broker: &Broker, args: &[&str]) -> Value {
    let output = broker.cli(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error} in {output:?}"))
}

/// What a command prints for a person.
#[track_caller]
fn printed(broker: &Broker, args: &[&str]) -> String {
    let output = broker.cli(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn health_is_answered() {
    each_broker(|broker| {
        let answer = get(broker, "/healthz");
        assert_eq!((answer.status, &answer.json()["status"]), (200, &Value::from("ok")));
    });
}

#[test]
fn status_counts_what_is_there() {
    each_broker(|broker| {
        let shards = json(broker, &["status"])["shards"].clone();
        let mut client = Client::new(broker, Version::V5, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        client.retain("r", "x", QoS::AtLeastOnce);
        let (mut absent, _) = Client::connect(broker, durable(Version::V311, "absent"));
        absent.subscribe("t", QoS::AtLeastOnce);
        absent.disconnect();
        client.publish("t", "queued", QoS::AtLeastOnce);
        let status = get(broker, "/v1/status").json();
        let expected = [
            ("connections", 1),
            ("sessions", 2),
            ("subscriptions", 2),
            ("retained_messages", 1),
            ("queued_messages", 1),
        ];
        for (key, number) in expected {
            assert_eq!(status[key], number, "{key} in {status}");
        }
        assert_eq!(status["shards"], shards);
        assert!(["memory", "fsync"].contains(&status["durability"].as_str().expect("a word")));
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["last_reload"], Value::Null);
        assert_eq!(status["listeners"][0]["bind"], broker.address().to_string());
        assert!(printed(broker, &["status"]).contains(&broker.address().to_string()));
    });
}

#[test]
fn clients_are_listed_and_shown() {
    each_broker(|broker| {
        let (mut client, _) = Client::connect(broker, durable(Version::V5, "here"));
        client.subscribe("t", QoS::AtLeastOnce);
        let (away, _) = Client::connect(broker, durable(Version::V311, "a/w&a y"));
        away.disconnect();
        let page = json(broker, &["clients"]);
        assert_eq!(page["total"], 2);
        assert_eq!(list(&page, "clients").len(), 2);
        let here = get(broker, "/v1/clients/here").json();
        for (key, value) in [
            ("client_id", Value::from("here")),
            ("connected", true.into()),
            ("protocol", "5.0".into()),
        ] {
            assert_eq!(here[key], value, "{key} in {here}");
        }
        assert_eq!(
            (&here["subscriptions"], &here["session_expiry_s"]),
            (&1.into(), &3600.into())
        );
        let away = json(broker, &["clients", "a/w&a y"]);
        assert_eq!(
            (&away["connected"], &away["protocol"]),
            (&false.into(), &"3.1.1".into()),
            "{away}"
        );
        assert_eq!(get(broker, "/v1/clients/nobody").status, 404);
        assert_eq!(
            list(&get(broker, "/v1/clients?limit=1&page=2").json(), "clients").len(),
            1
        );
        assert_eq!(get(broker, "/v1/clients?limit=x").status, 400);
        let printed = printed(broker, &["clients"]);
        assert!(printed.contains("here") && printed.contains("a/w&a y"), "{printed}");
        client.expect_idle();
    });
}

/// 0x98: administrative action.
#[test]
fn a_kicked_client_is_told_why() {
    each_version(|broker, version| {
        for by_command in [true, false] {
            let mut client = Client::new(broker, version, "victim");
            match by_command {
                true => assert!(broker.cli(&["kick", "victim"]).status.success()),
                false => assert_eq!(post_json(broker, "/v1/clients/victim/kick", "").status, 200),
            }
            client.expect_disconnect(0x98);
        }
        assert_eq!(post_json(broker, "/v1/clients/victim/kick", "{}").status, 404);
        assert_eq!(broker.cli(&["kick", "victim"]).status.code(), Some(1));
    });
}

#[test]
fn plugins_are_listed_in_the_order_of_the_chain() {
    let plugins = r##"
[[plugin]]
name = "first"
component = "builtin:acl"
config.rules = [{ allow = "both", topics = ["#"] }]
[[plugin]]
name = "second"
component = "builtin:acl"
config.rules = []
"##;
    each_setup(plugins, |broker| {
        let all = json(broker, &["plugins"]);
        let names: Vec<_> = all
            .as_array()
            .expect("a list")
            .iter()
            .map(|plugin| plugin["name"].as_str())
            .collect();
        assert_eq!(names, [Some("first"), Some("second")]);
        assert_eq!(all[0]["component"], "builtin:acl");
        assert_eq!(all[0]["hooks"], serde_json::json!(["authorize"]));
        assert_eq!(all[0]["breaker"], "closed");
        assert_eq!(all[0]["digest"].as_str().map(str::len), Some(64));
        assert_eq!(all, get(broker, "/v1/plugins").json());
        assert!(printed(broker, &["plugins"]).contains("second"));
    });
}

#[test]
fn reload_says_what_changed_or_why_not() {
    each_broker(|broker| {
        let before = json(broker, &["status"])["generation"].as_u64().expect("a number");
        broker.replace_toml("[limits]\nqueue_messages = 5\n");
        let report = json(broker, &["reload"]);
        assert_eq!(report["generation"], before + 1);
        assert_eq!(list(&report, "changes").len(), 1, "{report}");
        broker.replace_toml("[limits]\nqueue_mesages = 5\n");
        let refused = post_json(broker, "/v1/reload", "{}");
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(
            refused.body.contains("queue_messages"),
            "it names the nearest key: {refused:?}"
        );
        assert_eq!(broker.reload().status.code(), Some(1));
        let status = json(broker, &["status"]);
        assert_eq!(status["generation"], before + 1);
        assert_eq!(status["last_reload"]["ok"], false);
    });
}

#[test]
fn metrics_can_be_parsed() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        client.publish("t", "x", QoS::AtLeastOnce);
        client.expect_payload("x");
        let text = get(broker, "/metrics").body;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
            assert!(value.parse::<f64>().is_ok(), "{line:?}");
            assert!(series.starts_with("nervewire_"), "{line:?}");
        }
        assert_eq!(metric(broker, "nervewire_connections", &[]), 1.0);
        assert_eq!(
            metric(broker, "nervewire_messages_received_total", &[("qos", "1")]),
            1.0
        );
        assert_eq!(metric(broker, "nervewire_messages_sent_total", &[("qos", "1")]), 1.0);
        // Labels are bounded enumerations, never names that clients choose.
        assert!(!text.contains("\"c\"") && !text.contains("\"t\""));
    });
}

#[test]
fn a_token_is_required_where_one_is_set() {
    let broker = Setup::new()
        .admin("token = \"secret\"")
        .file("token", "secret\n")
        .file("wrong", "guess")
        .start();
    let host = broker.admin_address();
    let with = |value: &str| {
        let authorization = if value.is_empty() {
            String::new()
        } else {
            format!("Authorization: {value}\r\n")
        };
        request(
            &broker,
            &format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\n{authorization}"),
            "",
        )
        .status
    };
    for (value, status) in [
        ("", 401),
        ("Bearer guess", 401),
        ("Basic secret", 401),
        ("Bearer secret", 200),
    ] {
        assert_eq!(with(value), status, "{value:?}");
    }
    assert_eq!(get(&broker, "/metrics").status, 401);
    assert_eq!(get(&broker, "/healthz").status, 200);
    let status = |file: &str| {
        broker
            .cli(&["status", "--token-file", &broker.path(file).display().to_string()])
            .status
            .code()
    };
    assert_eq!((status("token"), status("wrong")), (Some(0), Some(1)));
}

/// A page in a browser must not reach it: other host names, forms, and requests with an origin are refused.
#[test]
fn web_pages_are_kept_out() {
    let broker = Setup::new().start();
    let host = broker.admin_address();
    let rows = [
        ("GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), false),
        (format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\n"), true),
        ("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n".to_owned(), true),
        (
            format!("POST /v1/reload HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n"),
            false,
        ),
        (format!("POST /v1/reload HTTP/1.1\r\nHost: {host}\r\n"), false),
        (
            format!(
                "POST /v1/reload HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nOrigin: http://a\r\n"
            ),
            false,
        ),
        (
            format!("POST /v1/reload HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"),
            true,
        ),
    ];
    for (head, allowed) in rows {
        let answer = request(&broker, &head, "");
        assert_eq!(answer.status == 200, allowed, "{head:?}: {answer:?}");
        assert!(
            !answer.head.to_ascii_lowercase().contains("access-control"),
            "no CORS: {answer:?}"
        );
    }
}

#[test]
fn the_commands_find_the_broker_by_its_configuration() {
    let broker = Setup::new().admin("token = \"secret\"").start();
    let output = nervewire()
        .args(["status", "--config"])
        .arg(broker.path(CONFIGURATION))
        .output()
        .expect("run");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn without_a_broker_a_command_fails_and_says_so() {
    let output = nervewire()
        .args(["status", "--admin", "http://127.0.0.1:9"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("127.0.0.1:9"),
        "{output:?}"
    );
}
