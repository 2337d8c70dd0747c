//! Durability: what was acknowledged is there after `kill -9` and a restart of the real binary, within its bounds, and where it
//! cannot be stored it is not acknowledged. Random moments and named steps are the crash tests' (tests/crash).

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod files;
mod modes;
mod survives;

use support::*;

/// Everything on disk, under this name beside the configuration.
const DATA: &str = "data";

/// A broker that stores, per shard count.
fn each_shard_count(test: impl Fn(Setup)) {
    for shards in SHARD_COUNTS {
        eprintln!("-- with shards = {shards}");
        test(stored("fsync").shards(shards));
    }
}

fn each_version_and_shard_count(test: impl Fn(Setup, Version)) {
    for version in [Version::V311, Version::V5] {
        eprintln!("-- with {version:?}");
        each_shard_count(|setup| test(setup, version));
    }
}

fn stored(durability: &str) -> Setup {
    Setup::new().broker(&format!("data_dir = \"{DATA}\"\ndurability = \"{durability}\""))
}

/// The same broker after `kill -9`. For what was not acknowledged: when all is stored that the broker has been told.
fn killed_when_stored(broker: Broker) -> Broker {
    wait_for("everything to be stored", || {
        (metric(&broker, "nervewire_store_pending_bytes", &[]) == 0.0).then_some(())
    });
    killed(broker)
}

/// The same broker after `kill -9`.
fn killed(broker: Broker) -> Broker {
    broker.kill9().0.start()
}

/// Makes a durable session that subscribes and goes away.
#[track_caller]
fn leave_subscribed(broker: &Broker, version: Version, id: &str, filter: &str) {
    let (mut client, _) = Client::connect(broker, durable(version, id));
    client.subscribe(filter, QoS::ExactlyOnce);
    client.disconnect();
}

/// Connects to a session that must be there.
#[track_caller]
fn resume(broker: &Broker, version: Version, id: &str) -> Client {
    let (client, answer) = Client::connect(broker, durable(version, id));
    assert!(answer.session_present, "the session of {id} is lost");
    client
}

/// The files of the store that hold records, oldest first.
fn segments(setup: &Setup) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(setup.path(DATA).join("store")).expect("the store");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}
