//! What the black-box tests share: the broker under test, a raw MQTT client, and the programs that others wrote.
#![allow(dead_code, unused_imports)] // Each test target uses its own part of this module.

mod broker;
mod certificates;
mod client;
mod guests;
mod http;
mod jwt;
mod tools;
mod websocket;

pub(crate) use broker::{Broker, CONFIGURATION, PATIENT, Setup, nervewire, nervewire_with_input};
pub(crate) use certificates::{Certificates, Identity, connect_with, moment};
pub(crate) use client::*;
pub(crate) use guests::*;
pub(crate) use http::*;
pub(crate) use jwt::*;
pub(crate) use tools::*;
pub(crate) use websocket::*;

use std::time::{Duration, Instant};

/// How long any single expectation may take. Generous: it only ends tests that have failed already.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `done` answers something, and fails with `what` when it does not in time.
pub(crate) fn wait_for<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, done)
}

/// As [`wait_for`], for what takes longer than any single expectation.
pub(crate) fn wait_within<T>(patience: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = done() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The shard counts every protocol behaviour is shown with.
pub(crate) const SHARD_COUNTS: [u16; 2] = [1, 2];

/// What each of them is shown with in memory, and one of them with everything on disk.
const MODES: [(u16, &str); 3] = [(1, IN_MEMORY), (2, IN_MEMORY), (2, ON_DISK)];

/// The keys of `[broker]` of a broker that keeps nothing.
pub(crate) const IN_MEMORY: &str = "data_dir = \"\"\ndurability = \"memory\"";

/// The keys of `[broker]` of a broker that stores what it acknowledges, beside its configuration.
pub(crate) const ON_DISK: &str = "data_dir = \"data\"\ndurability = \"fsync\"";

/// Runs a test against fresh brokers: per shard count, and with a store.
pub(crate) fn each_broker(test: impl Fn(&Broker)) {
    each_setup("", test);
}

/// As [`each_broker`], with more configuration.
pub(crate) fn each_setup(toml: &str, test: impl Fn(&Broker)) {
    for (shards, keys) in MODES {
        eprintln!("-- with shards = {shards}\n{keys}");
        test(&Setup::new().shards(shards).broker(keys).toml(toml).start());
    }
}

/// As [`each_broker`], for MQTT 3.1.1 and 5.0.
pub(crate) fn each_version(test: impl Fn(&Broker, Version)) {
    each_version_setup("", test);
}

/// As [`each_version`], with more configuration.
pub(crate) fn each_version_setup(toml: &str, test: impl Fn(&Broker, Version)) {
    for version in [Version::V311, Version::V5] {
        eprintln!("-- with {version:?}");
        each_setup(toml, |broker| test(broker, version));
    }
}
