//! What the tests of the plugin host share: guests, specifications, and facts to ask about.
#![allow(dead_code)] // Each test target uses its part.

#[path = "../../../../tests/guests/build_guests.rs"]
pub(crate) mod guests;

use bytes::Bytes;
use nervewire_codec::{QoS, Utf8String, Version};
use nervewire_core::hook::{Action, AppMessage, Certificate, Client, Credentials, Request, Window};
use nervewire_plugin_host::{
    Call, Clock, Grant, Host, HostConfig, Instance, Limits, Outcome, Plugin, PluginSpec, Role,
};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// One host for all tests of a process: its pool reserves address space for each instance.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(small_config()).expect("a host"))
}

pub(crate) fn small_config() -> HostConfig {
    // Kept from run to run, so that a component is compiled once for all tests.
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("components"));
    HostConfig {
        max_instances: 64,
        cache_dir,
        ..HostConfig::default()
    }
}

/// A host with a clock that the test moves.
pub(crate) fn host_with_clock() -> (Host, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&now);
    let clock = Clock::new(move || read.load(Ordering::SeqCst));
    (
        Host::new(HostConfig {
            clock,
            ..small_config()
        })
        .expect("a host"),
        now,
    )
}

/// A guest of tests/guests with generous deadlines, so that a busy machine fails no test that is about something else.
pub(crate) fn spec(name: &str) -> PluginSpec {
    PluginSpec {
        name: name.to_owned(),
        component: guests::component(name).into(),
        hooks: None,
        grants: Vec::new(),
        limits: Limits {
            call_ms: 10_000,
            authenticate_call_ms: 10_000,
            ..Limits::default()
        },
        files: Vec::new(),
        config_json: "{}".to_owned(),
    }
}

pub(crate) fn load(spec: PluginSpec) -> Arc<Plugin> {
    host().load(spec).expect("it loads")
}

/// A plugin of its own: statistics are kept by name.
pub(crate) fn load_as(name: &str, spec: PluginSpec) -> Arc<Plugin> {
    load(PluginSpec {
        name: name.to_owned(),
        ..spec
    })
}

pub(crate) fn granted(grants: &[&str], spec: PluginSpec) -> PluginSpec {
    let grants: Vec<Grant> = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    PluginSpec { grants, ..spec }
}

/// Where a function is called.
pub(crate) fn role(call: Call) -> Role {
    match call {
        Call::Authenticate => Role::Authenticate,
        Call::Tick | Call::Detect => Role::Background,
        Call::Rules | Call::Authorize | Call::Transform => Role::Shard,
    }
}

/// Calls a function with something harmless; whether there was an answer.
pub(crate) fn is_answered(instance: &mut Instance, call: Call) -> bool {
    match call {
        Call::Authenticate => instance.authenticate(&known_client(), &credentials("u", "p")).is_ok(),
        Call::Rules => instance.rules(&known_client()).is_ok(),
        Call::Authorize => instance.authorize(&known_client(), &request("t")).is_ok(),
        Call::Transform => instance.transform(&known_client(), &message("t")).is_ok(),
        Call::Tick => instance.tick(1).is_ok(),
        Call::Detect => instance.detect(&[window("c")]).is_ok(),
    }
}

/// How often the calls of a function ended how.
pub(crate) fn outcomes(plugin: &Plugin, call: Call) -> Vec<(&'static str, u64)> {
    let counted = Outcome::ALL.map(|outcome| (outcome.label(), plugin.stats().calls(call, outcome)));
    counted.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// A client about which nothing special is known.
pub(crate) fn client(id: &str) -> Client {
    Client {
        client_id: id.into(),
        username: None,
        address: Ipv4Addr::LOCALHOST.into(),
        port: 4711,
        listener: "127.0.0.1:1883".into(),
        protocol: Version::V311,
        certificate: None,
        attributes: Vec::new(),
        tenant: None,
    }
}

/// A client about which everything is known.
pub(crate) fn known_client() -> Client {
    Client {
        username: Some("ursula".into()),
        address: "2001:db8::7".parse().expect("an address"),
        protocol: Version::V5,
        certificate: Some(Arc::new(certificate())),
        attributes: vec![("role".into(), "admin".into()), ("site".into(), "Zürich".into())],
        tenant: Some("acme".into()),
        ..client("c1")
    }
}

fn certificate() -> Certificate {
    Certificate {
        subject: "CN=c1,O=Acme".into(),
        issuer: "CN=CA".into(),
        common_name: Some("c1".into()),
        alternative_names: vec!["c1.example".into(), "c1@example".into()],
        serial: "0a".into(),
        fingerprint: "ff00".into(),
        not_before: -5,
        not_after: 4_000_000_000,
    }
}

pub(crate) fn credentials(username: &str, password: &str) -> Credentials {
    Credentials {
        username: Some(text(username)),
        password: Some(Bytes::copy_from_slice(password.as_bytes())),
        ..Credentials::default()
    }
}

pub(crate) fn request(topic: &str) -> Request {
    Request {
        action: Action::Publish,
        topic: text(topic),
        qos: QoS::AtMostOnce,
        retain: false,
    }
}

pub(crate) fn message(topic: &str) -> AppMessage {
    AppMessage {
        topic: text(topic),
        payload: Bytes::from_static(b"payload"),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: None,
    }
}

/// A minute in which next to nothing happened.
pub(crate) fn window(client_id: &str) -> Window {
    Window {
        client_id: client_id.into(),
        username: None,
        address: Ipv4Addr::LOCALHOST.into(),
        started_unix_ms: 1_700_000_000_000,
        length_ms: 60_000,
        messages_in: 1,
        messages_out: 0,
        bytes_in: 10,
        bytes_out: 0,
        distinct_topics: 1,
        denials: 0,
        malformed_packets: 0,
        failed_logins: 0,
        connects: 1,
        payload_bytes_min: 7,
        payload_bytes_max: 7,
        payload_bytes_mean: 7.0,
        payload_bytes_deviation: 0.0,
    }
}

pub(crate) fn text(text: &str) -> Utf8String {
    Utf8String::try_from(text).expect("an MQTT string")
}
