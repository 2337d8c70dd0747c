//! Arbitrary bytes as a record and as the only segment of a store: nothing panics, what decodes says the same when it is written again,
//! and a store that was repaired can be opened. Checksums are not looked at, which is what `--cfg fuzzing` does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nervewire_store::record::{decode, encode};
use nervewire_store::{Journal, OpenError, Repaired};
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

fuzz_target!(|data: &[u8]| {
    record(data);
    for entry in std::fs::read_dir(DIR.path()).expect("the directory") {
        std::fs::remove_file(entry.expect("a file").path()).expect("removed");
    }
    std::fs::write(DIR.path().join("0000000001.log"), data).expect("written");
    segment(DIR.path());
});

fn record(data: &[u8]) {
    if let Ok(record) = decode(data) {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        assert_eq!(decode(&bytes), Ok(record));
    }
}

fn segment(dir: &Path) {
    let found = Journal::check(dir);
    match Journal::repair(dir) {
        Ok(repaired) => {
            assert_eq!(repaired == Repaired::default(), found.is_ok());
            assert!(Journal::check(dir).is_ok(), "{repaired:?}");
        }
        Err(error) => assert!(matches!(error, OpenError::Version { .. }), "{error}"),
    }
}
