use super::*;
use crate::defence::DefenceLimits;
use crate::transport::upgrade::Rules;
use nervewire_core::fold::{AnonymousPolicy, DefaultDecision};
use nervewire_core::hook::OnFailure;
use nervewire_core::limits::{ClientLimits, QueuePolicy};
use nervewire_plugin_host::{Grant, Hook, Limits as PluginLimits};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

#[test]
fn the_embedded_defaults_are_what_is_left_out() {
    let defaults = Config::defaults(&BUILTINS).unwrap();
    let least = accepted(LISTENER);
    assert_eq!(defaults.broker, least.broker);
    assert_eq!(defaults.listeners, least.listeners);
    assert_eq!(defaults.auth, least.auth);
    assert_eq!(defaults.limits, least.limits);
    assert_eq!(defaults.reload, least.reload);
    assert_eq!(defaults.detect, least.detect);
    assert_eq!(defaults.reload.rollback_failures_percent, NonZeroU32::new(10));
    assert_eq!(defaults.admin, least.admin);
    assert_eq!(defaults.broker.data_dir.as_deref(), Some(Path::new("nervewire-data")));
    assert_eq!(defaults.plugins.len(), 1);
    assert_eq!(
        serde_json::Value::Object(defaults.plugins[0].config.clone()),
        serde_json::json!({ "rules": [{ "allow": "both", "topics": ["#"] }] })
    );
}

#[test]
fn a_copy_of_the_defaults_is_a_configuration_with_paths_from_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nervewire.toml");
    fs::write(&file, DEFAULTS_TOML).unwrap();
    let config = Config::load(&file, &BUILTINS).unwrap();
    assert_eq!(config.broker.data_dir, Some(directory.path().join("nervewire-data")));
    assert_eq!(config.watched_files(), [file]);
    assert_eq!(
        config.summary(),
        "listeners: 127.0.0.1:1883; plugins: acl; admin: 127.0.0.1:8080"
    );
}

#[test]
fn every_value_of_the_example_arrives() {
    let directory = example_directory();
    let at = |name: &str| directory.path().join(name);
    let config = Config::load(&at("nervewire.toml"), &BUILTINS).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        config.broker,
        Broker {
            data_dir: None,
            shards: NonZeroU16::new(2),
            durability: Durability::Memory,
            response_information: Some("reply".to_owned()),
        }
    );
    assert_eq!(config.listeners[0].tls, None);
    assert_eq!(config.listeners[1].bind.address, "0.0.0.0:8883".parse().unwrap());
    let client = ClientCertificates {
        client_ca: at("ca.pem"),
        crl: Vec::new(),
        required: true,
        identity: Some(CertificateIdentity::CommonName),
    };
    let tls = TlsSettings {
        cert: at("server.pem"),
        key: at("server.key"),
        sni: vec![SniSettings {
            name: "*.a.example".to_owned(),
            cert: at("wild.pem"),
            key: at("wild.key"),
        }],
        client: Some(client),
        resumption_bytes: 4_096,
    };
    assert_eq!(config.listeners[1].tls, Some(tls));
    assert_eq!(config.listeners[1].own, OwnSettings::default());
    let rules = Rules {
        path: "/mqtt/v5".to_owned(),
        allowed_origins: vec!["https://app.example.com".to_owned(), "http://localhost:8000".to_owned()],
    };
    let web = Listener {
        bind: Bind {
            text: "[::]:8084".into(),
            address: "[::]:8084".parse().unwrap(),
        },
        transport: Transport::Ws(rules),
        tls: None,
        proxies: ["10.0.0.0/8", "2001:db8::7"].map(|text| text.parse().unwrap()).to_vec(),
        own: OwnSettings {
            anonymous: Some(AnonymousPolicy::Allow),
            authenticators: Some(vec!["password".into()]),
            max_connections: NonZeroU32::new(9),
            max_packet_bytes: NonZeroU32::new(2_000),
            connect_timeout_ms: NonZeroU32::new(4_000),
        },
    };
    assert_eq!(config.listeners[2], web);
    assert_eq!(
        config.auth,
        Auth {
            anonymous: AnonymousPolicy::Deny,
            default: DefaultDecision::Allow,
            max_connection_s: NonZeroU32::new(86_400),
        }
    );
    assert_eq!(
        config.limits,
        Limits {
            max_packet_bytes: NonZeroU32::new(2_097_152).unwrap(),
            max_connections: NonZeroU32::new(10).unwrap(),
            max_sessions: NonZeroU32::new(20).unwrap(),
            connect_timeout_ms: NonZeroU32::new(5_000).unwrap(),
            queue_messages: NonZeroU32::new(7).unwrap(),
            queue_bytes: NonZeroU64::new(4_096).unwrap(),
            queue_policy: QueuePolicy::RefuseNew,
            memory_bytes: NonZeroU64::new(1_048_576),
            retained_messages: NonZeroU32::new(5).unwrap(),
            retained_bytes: NonZeroU64::new(2_048).unwrap(),
            store_bytes: NonZeroU64::new(9_000_000),
            max_keep_alive_s: NonZeroU16::new(300),
            publish_rate_per_s: NonZeroU32::new(100),
            per_client: ClientLimits {
                publish_bytes_per_s: 101,
                subscribe_rate_per_s: 102,
                over_rate_s: 103,
                takeovers_per_minute: 104,
                topic_levels: 105,
                topic_bytes: 106,
                subscriptions_per_client: 107,
                user_properties: 108,
                receive_maximum: 109,
                in_flight_messages: 110,
            },
            defence: DefenceLimits {
                connections_per_address: 111,
                connect_rate_per_s: 112,
                connect_rate_per_s_per_address: 113,
                failed_logins_per_minute: 0,
                failed_logins_per_hour: 115,
                failed_login_ban_s: 116,
                user_publish_rate_per_s: 117,
                address_publish_rate_per_s: 118,
            },
        }
    );
    assert_eq!(
        config.reload,
        Reload {
            rollback_failures_percent: None,
            rollback_min_failures: NonZeroU32::new(3).unwrap(),
            rollback_window_ms: NonZeroU32::new(9_000).unwrap(),
        }
    );
    assert_eq!(
        config.detect,
        Detect {
            window_ms: NonZeroU32::new(5_000).unwrap(),
            max_clients: NonZeroU32::new(77).unwrap(),
            alerts: NonZeroU32::new(11).unwrap(),
            throttle_s: None,
        }
    );
    assert_eq!(config.admin.token.as_deref(), Some("0123456789abcdef"));
    assert_eq!(
        config.watched_files(),
        [
            "ca.pem",
            "nervewire.toml",
            "passwd",
            "policy.wasm",
            "server.key",
            "server.pem",
            "wild.key",
            "wild.pem"
        ]
        .map(at)
    );
}

#[test]
fn every_value_of_a_plugin_arrives() {
    let directory = example_directory();
    let config = parse(EXAMPLE, directory.path()).unwrap_or_else(|errors| panic!("{errors}"));
    let [password, acl] = &config.plugins[..] else {
        panic!("two plugins")
    };
    assert_eq!(&*password.name, "password");
    assert_eq!(
        password.component,
        Component::File(directory.path().join("policy.wasm"))
    );
    assert_eq!(password.hooks, Some(vec![Hook::Authenticate]));
    assert_eq!(password.topics, ["dev/#", "+/status"]);
    assert_eq!(password.on_failure, OnFailure::Skip);
    let grants = ["kv", "publish:alerts/#", "http://auth:8080"];
    assert_eq!(password.grants.iter().map(Grant::to_string).collect::<Vec<_>>(), grants);
    let limits = PluginLimits {
        call_ms: 3,
        memory_mib: 17,
        authenticate_call_ms: 1001,
        authenticate_memory_mib: 65,
        http_calls: 65,
        http_queue_calls: 10_001,
        http_call_ms: 5_001,
        tick_call_ms: 4,
        detect_call_ms: 5,
    };
    assert_eq!(password.limits, limits);
    assert_eq!(
        password.files,
        [("users".to_owned(), directory.path().join("passwd"))].into()
    );
    assert_eq!(
        serde_json::Value::Object(password.config.clone()),
        serde_json::json!({ "min_length": 8, "ratio": 0.5, "since": "2026-01-02", "on": true })
    );
    assert_eq!(acl.component, Component::Builtin("acl".to_owned()));
    assert_eq!(
        (&acl.hooks, &acl.topics[..], acl.on_failure),
        (&None, &[][..], OnFailure::Deny)
    );
    assert_eq!(
        acl.config["rules"][1],
        serde_json::json!({ "deny": "publish", "topics": ["cmd/#"] })
    );
}

#[test]
fn changes_that_need_a_restart_are_named() {
    let old = accepted(LISTENER);
    let changed = |text: &str| restart_only_changes(&old, &accepted(&format!("{text}{LISTENER}")));
    assert_eq!(changed("[limits]\nqueue_messages = 1"), [] as [&str; 0]);
    assert_eq!(changed("[broker]\nshards = 0"), [] as [&str; 0]);
    assert_eq!(changed("[broker]\nshards = 2"), ["broker.shards"]);
    assert_eq!(
        changed("[broker]\nshards = 2\ndata_dir = \"\""),
        ["broker.shards", "broker.data_dir", "broker.durability"]
    );
    assert_eq!(changed("[broker]\ndurability = \"os\""), ["broker.durability"]);
    assert_eq!(changed("[limits]\nstore_bytes = 1_048_576"), ["limits.store_bytes"]);
}

#[test]
fn what_is_acknowledged_is_stored_where_there_is_a_place_for_it() {
    let durability = |text: &str| accepted(&format!("{text}{LISTENER}")).broker.durability;
    assert_eq!(durability(""), Durability::Fsync);
    assert_eq!(durability("[broker]\ndata_dir = \"d\""), Durability::Fsync);
    assert_eq!(durability("[broker]\ndata_dir = \"\""), Durability::Memory);
    assert_eq!(durability("[broker]\ndurability = \"os\""), Durability::Os);
    assert_eq!(durability("[broker]\ndurability = \"memory\""), Durability::Memory);
    assert_eq!(
        durability("[broker]\ndurability = \"memory\"\ndata_dir = \"\""),
        Durability::Memory
    );
}

#[test]
fn free_ports_and_different_families_do_not_collide() {
    let listener = |bind: &str| format!("[[listener]]\nbind = \"{bind}\"\n");
    let config = accepted(&(listener("127.0.0.1:0") + &listener("127.0.0.1:0") + &listener("[::1]:8080")));
    assert_eq!(config.listeners.len(), 3);
    assert_eq!(
        accepted(&listener("localhost:7")).listeners[0].bind.address,
        "127.0.0.1:7".parse().unwrap()
    );
}
