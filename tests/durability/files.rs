//! Files that are not as they were left.

use crate::support::*;
use crate::*;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A write that did not end is cut off and counted; nothing else is lost.
#[test]
fn an_unfinished_write_is_cut_off() {
    each_shard_count(|setup| {
        let (setup, _) = with_a_message(setup).kill9();
        let last = segments(&setup).pop().expect("a segment");
        append(&last, &[0x5A; 100]);
        let output = check(&setup);
        assert!(output.status.success(), "{output:?}");
        let broker = setup.start();
        assert!(metric(&broker, "nervewire_store_cut_bytes", &[]) >= 100.0);
        broker.logs("nothing of that had been acknowledged");
        resume(&broker, Version::V5, "d").expect_payload("x");
        let broker = killed(broker);
        assert_eq!(metric(&broker, "nervewire_store_cut_bytes", &[]), 0.0);
    });
}

/// Damage in the middle is not taken for an end: the broker says where it is, and starts only after a repair.
#[test]
fn a_damaged_store_is_refused_until_it_is_repaired() {
    each_shard_count(|setup| {
        let broker = with_a_message(setup);
        leave_subscribed(&broker, Version::V5, "later", "a");
        let (setup, _) = broker.kill9();
        let file = segments(&setup).remove(0);
        damage(&file);
        let (setup, exit, log) = *setup.try_start().err().expect("a refusal");
        assert_eq!(exit.code(), Some(1), "{log}");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(log.contains(&name) && log.contains("nervewire store repair"), "{log}");
        let output = check(&setup);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&name), "{output:?}");
        let repaired = store_command(&setup, "repair");
        assert!(repaired.status.success(), "{repaired:?}");
        assert!(
            String::from_utf8_lossy(&repaired.stdout).contains("set aside"),
            "{repaired:?}"
        );
        assert!(check(&setup).status.success());
        let broker = setup.start();
        resume(&broker, Version::V5, "later");
    });
}

#[test]
fn a_directory_that_is_none_is_no_store() {
    let setup = stored("fsync");
    let output = check(&setup);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!setup.path(DATA).exists());
}

fn with_a_message(setup: Setup) -> Broker {
    let broker = setup.start();
    leave_subscribed(&broker, Version::V5, "d", "a");
    Client::new(&broker, Version::V5, "p").publish("a", "x", QoS::AtLeastOnce);
    broker
}

fn check(setup: &Setup) -> std::process::Output {
    store_command(setup, "check")
}

fn store_command(setup: &Setup, command: &str) -> std::process::Output {
    let dir = setup.path(DATA).join("store");
    let output = nervewire().args(["store", command]).arg(dir).output();
    output.expect("run nervewire")
}

fn append(file: &Path, bytes: &[u8]) {
    let mut file = File::options().append(true).open(file).expect("open a segment");
    file.write_all(bytes).expect("append to a segment");
}

/// Turns a byte in the middle of what was written.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("read a segment");
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something was written");
    bytes[end / 2] ^= 0xFF;
    std::fs::write(file, bytes).expect("write a segment");
}
