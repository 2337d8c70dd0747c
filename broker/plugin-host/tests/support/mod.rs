//! What the tests of the plugin host share: guests, specifications, and facts to ask about.
#![allow(dead_code)] // Each test target uses its part.

#[path = "../../../../tests/guests/build_guests.rs"]
pub(crate) mod guests;

use bytes::Bytes;
use nervewire_codec::{QoS, Utf8String, Version};
use nervewire_core::hook::{Action, AppMessage, Certificate, Client, Credentials, Request};
use nervewire_plugin_host::{Clock, Grant, Host, HostConfig, Limits, Plugin, PluginSpec};
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

pub(crate) fn text(text: &str) -> Utf8String {
    Utf8String::try_from(text).expect("an MQTT string")
}
