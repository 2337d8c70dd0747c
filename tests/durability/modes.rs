//! The three modes, the orderly end, and who may have the files.

use crate::support::*;
use crate::*;
use std::os::unix::fs::PermissionsExt;

/// What README.md says of it: sessions, queues and retained messages end with the process.
#[test]
fn memory_loses_everything() {
    let setup = Setup::new().broker(&format!("data_dir = \"{DATA}\"\ndurability = \"memory\""));
    let broker = setup.start();
    leave_subscribed(&broker, Version::V5, "d", "a");
    Client::new(&broker, Version::V5, "p").retain("a", "x", QoS::AtLeastOnce);
    assert!(!broker.path(DATA).join("store").exists());
    let broker = killed(broker);
    let (mut client, answer) = Client::connect(&broker, durable(Version::V5, "d"));
    assert!(!answer.session_present);
    client.subscribe("a", QoS::AtLeastOnce);
    client.expect_idle();
}

/// The operating system outlives the process.
#[test]
fn os_survives_kill_9_and_the_mode_may_change() {
    let broker = stored("os").start();
    leave_subscribed(&broker, Version::V5, "d", "a");
    Client::new(&broker, Version::V5, "p").publish("a", "x", QoS::AtLeastOnce);
    assert_eq!(status(&broker)["durability"], "os");
    let (setup, _) = broker.kill9();
    let fsync = format!("data_dir = \"{DATA}\"\ndurability = \"fsync\"");
    let broker = setup.broker(&fsync).start();
    assert_eq!(status(&broker)["durability"], "fsync");
    resume(&broker, Version::V5, "d").expect_payload("x");
}

/// On SIGTERM wills are sent, and stored for those who are away.
#[test]
fn an_orderly_end_stores_everything() {
    each_shard_count(|setup| {
        let broker = setup.start();
        leave_subscribed(&broker, Version::V5, "watcher", "#");
        let connect = Connect {
            will: Some(Box::new(will("will", "gone", QoS::AtLeastOnce))),
            ..durable(Version::V5, "c")
        };
        let (mut client, _) = Client::connect(&broker, connect);
        client.publish("a", "x", QoS::AtLeastOnce);
        broker.signal("TERM");
        client.expect_disconnect(0x8B);
        assert!(broker.ended().success());
        let (setup, log) = broker.kill9();
        assert!(!log.contains("ERROR"), "{log}");
        let broker = setup.start();
        let mut watcher = resume(&broker, Version::V5, "watcher");
        watcher.expect_payload("x");
        watcher.expect_payload("gone");
        watcher.expect_idle();
        resume(&broker, Version::V5, "c");
    });
}

#[test]
fn a_second_broker_on_the_same_files_is_refused() {
    let broker = stored("fsync").start();
    let data_dir = broker.path(DATA);
    let second = Setup::new().broker(&format!("data_dir = {data_dir:?}"));
    let (_, exit, log) = *second.try_start().err().expect("a refusal");
    assert_eq!(exit.code(), Some(1), "{log}");
    assert!(log.contains("another broker"), "{log}");
    Client::new(&broker, Version::V5, "c").publish("a", "x", QoS::AtLeastOnce);
    let dir = data_dir.join("store");
    for command in ["check", "repair"] {
        let output = nervewire()
            .args(["store", command])
            .arg(&dir)
            .output()
            .expect("run nervewire");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

/// What an operator sees of the store, in memory and on disk.
#[test]
fn the_store_shows_in_status_and_metrics() {
    let broker = Setup::new().start();
    assert_eq!(status(&broker)["store"], serde_json::Value::Null);
    assert!(!get(&broker, "/metrics").body.contains("nervewire_store_"));
    let broker = stored("fsync").start();
    leave_subscribed(&broker, Version::V5, "d", "a");
    assert_eq!(status(&broker)["store"]["trouble"], serde_json::Value::Null);
    assert!(status(&broker)["store"]["bytes"].as_u64().expect("a number") > 0);
    assert!(metric(&broker, "nervewire_store_commits_total", &[]) > 0.0);
    assert_eq!(
        metric(&broker, "nervewire_store_commits_total", &[]),
        metric(&broker, "nervewire_store_commit_seconds_count", &[])
    );
    assert_eq!(metric(&broker, "nervewire_store_trouble", &[]), 0.0);
}

/// Messages are nobody else's business.
#[test]
fn the_files_are_readable_by_their_owner_alone() {
    let broker = stored("fsync").start();
    for dir in [DATA.to_owned(), format!("{DATA}/store")] {
        let mode = std::fs::metadata(broker.path(&dir)).expect(&dir).permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
}

fn status(broker: &Broker) -> serde_json::Value {
    get(broker, "/v1/status").json()
}
