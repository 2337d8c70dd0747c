//! Unit tests for a plugin, with neither broker nor wasm: `cargo test`.
//!
//! A stand-in for the broker, one per thread (so one per test), answers the host functions: its clock stands where the
//! test puts it, log lines and counters are kept to look at.
//!
//! ```
//! use nervewire_plugin_sdk::{prelude::*, testing};
//! struct Doorman;
//! impl Plugin for Doorman {
//!     type Config = ();
//!     fn init(_: (), _: Files) -> Result<Self, String> { Ok(Doorman) }
//! }
//! impl Authenticate for Doorman {
//!     fn authenticate(&mut self, client: &Client, _: &Credentials) -> Authentication {
//!         log::info!("{} at the door", client.client_id);
//!         Authentication::allow()
//!     }
//! }
//!
//! let mut doorman: Doorman = testing::load("{}").unwrap();
//! let answer = doorman.authenticate(&testing::client("7"), &testing::credentials("ann", "secret"));
//! assert_eq!(answer, Authentication::allow());
//! assert_eq!(testing::log_lines(), ["7 at the door"]);
//! ```

mod decision;

pub use decision::decide;

use crate::{
    Action, Certificate, Client, Credentials, Files, Message, Plugin, Property, Protocol, Qos, Request, Window, native,
};
use std::time::Duration;

/// An instance as the broker would make it from this `config` table, written as JSON.
///
/// # Errors
/// What the broker would show: of the configuration, or from [`Plugin::init`].
pub fn load<P: Plugin>(config: &str) -> Result<P, String> {
    load_with_files(config, [])
}

/// [`load`], with a `files` table of these names and contents.
///
/// # Errors
/// As [`load`].
pub fn load_with_files<'a, P: Plugin>(
    config: &str,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<P, String> {
    P::init(crate::config::parse(config)?, Files::from_iter(files))
}

/// A client of this identifier that speaks MQTT 5 from 192.0.2.1.
pub fn client(client_id: &str) -> Client {
    Client {
        client_id: client_id.to_owned(),
        username: None,
        address: "192.0.2.1".to_owned(),
        port: 49_152,
        listener: "0.0.0.0:1883".to_owned(),
        protocol: Protocol::Mqtt5,
        certificate: None,
        attributes: Vec::new(),
        tenant: None,
    }
}

/// For tests.
impl Client {
    /// With this user name.
    pub fn with_username(mut self, username: &str) -> Self {
        self.username = Some(username.to_owned());
        self
    }

    /// With one more attribute.
    pub fn with_attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push(Property::new(name, value));
        self
    }

    /// In this tenant's name space.
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// With this certificate.
    pub fn with_certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }
}

/// A user name and a password.
pub fn credentials(username: &str, password: &str) -> Credentials {
    Credentials {
        username: Some(username.to_owned()),
        password: Some(password.into()),
        ..Credentials::default()
    }
}

/// A request at QoS 0 for a message that is not retained.
pub fn request(action: Action, topic: &str) -> Request {
    Request {
        action,
        topic: topic.to_owned(),
        qos: Qos::AtMostOnce,
        retain: false,
    }
}

/// A window of ten seconds up to now in which this client did nothing.
pub fn window(client_id: &str) -> Window {
    const MILLISECONDS: u32 = 10_000;
    Window {
        client_id: client_id.to_owned(),
        address: "192.0.2.1".to_owned(),
        started: crate::clock::now_ms().saturating_sub(u64::from(MILLISECONDS)),
        milliseconds: MILLISECONDS,
        ..Window::default()
    }
}

/// What the plugin publishes at a [`tick`](Plugin::tick) that comes so much later.
pub fn tick_after<P: Plugin>(plugin: &mut P, duration: Duration) -> Vec<Message> {
    advance(duration);
    plugin.tick(crate::clock::now_ms())
}

/// Puts the stand-in's clock to this Unix time in milliseconds; it begins at 0.
pub fn set_clock_ms(now_ms: u64) {
    native::with(|host| host.now_ms = now_ms);
}

/// Lets time pass.
pub fn advance(duration: Duration) {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    native::with(|host| host.now_ms = host.now_ms.saturating_add(milliseconds));
}

/// What was logged since the last call.
pub fn log_lines() -> Vec<String> {
    native::with(|host| std::mem::take(&mut host.lines))
        .into_iter()
        .map(|(_, line)| line)
        .collect()
}

/// What was logged since the last call, with its levels.
pub fn log_lines_with_levels() -> Vec<(crate::log::Level, String)> {
    native::with(|host| std::mem::take(&mut host.lines))
}

/// The value of a counter.
pub fn counter(name: &str) -> u64 {
    native::with(|host| host.counters.get(name).copied().unwrap_or(0))
}

/// Bounds the key-value store to so many bytes of keys and values, to see what a full one does; it begins at 1 MiB.
pub fn set_kv_capacity_bytes(capacity_bytes: usize) {
    native::with(|host| host.store.capacity_bytes = capacity_bytes);
}

/// Installs what answers the requests of [`http`](crate::http) in this test. Every request comes here, also those that follow a redirect.
pub fn http(backend: impl FnMut(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error> + 'static) {
    native::with(|host| host.backend = Some(Box::new(backend)));
}
