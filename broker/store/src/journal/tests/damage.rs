//! Records that were durable and are not there any more.

use super::*;
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, SYNCED_BEFORE, SegmentHeader, append_frame};
use crate::journal::segments::{list, path, place};
use crate::log::Epoch;
use crate::record;
use std::fs;

const ALL: u64 = 400;

/// A journal of several segments.
fn journal() -> (TempDir, Replayed) {
    let dir = tempfile::tempdir().unwrap();
    let written = write_each(options(&dir), 0..ALL);
    assert!(list(&options(&dir).dir).unwrap().len() >= 3);
    (dir, written)
}

fn damaged(dir: &TempDir) -> (PathBuf, u64, u64) {
    match open(options(dir)).map(|_| ()) {
        Err(OpenError::Damaged {
            path,
            offset,
            lost_batches,
            ..
        }) => (path, offset, lost_batches),
        other => panic!("{other:?}"),
    }
}

/// Repairs it; what is replayed then is everything but these.
fn without(dir: &TempDir, lost: std::ops::Range<u64>) -> Repaired {
    let repaired = Journal::repair(&options(dir).dir).unwrap();
    let (journal, _, replayed) = open(options(dir)).unwrap();
    assert!(
        numbers(&replayed)
            .into_iter()
            .eq((0..ALL).filter(|number| !lost.contains(number)))
    );
    drop(journal);
    write_each(options(dir), ALL..ALL + 1);
    let (_, _, replayed) = open(options(dir)).unwrap();
    assert_eq!(numbers(&replayed).last(), Some(&ALL), "it goes on");
    let again = Journal::repair(&options(dir).dir).unwrap();
    assert_eq!(again, Repaired::default(), "there is nothing left to repair");
    repaired
}

#[test]
fn a_damaged_record_is_said_with_its_place_and_set_aside() {
    let (dir, written) = journal();
    let (segment, at) = place(written[17].1);
    let file = path(&options(&dir).dir, segment);
    let mut bytes = fs::read(&file).unwrap();
    bytes[at as usize + 12] ^= 0x40;
    fs::write(&file, &bytes).unwrap();
    let batch_at = at - BATCH_HEADER_BYTES as u64;
    assert_eq!(damaged(&dir), (file.clone(), batch_at, 1));
    assert!(Journal::check(&options(&dir).dir).is_err());
    assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was changed");
    let repaired = without(&dir, 17..18);
    assert_eq!(repaired.files.len(), 1);
    assert_eq!(fs::read(&repaired.files[0]).unwrap(), bytes, "the whole file is kept");
    let (_, next) = place(written[18].1);
    assert_eq!(repaired.damaged_bytes, next - at);
}

#[test]
fn a_damaged_last_record_of_a_segment_is_seen_by_the_next_segment() {
    let (dir, written) = journal();
    let last = written.partition_point(|(_, position, _)| place(*position).0 == 1) - 1;
    let file = path(&options(&dir).dir, 1);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let (_, at) = place(written[last].1);
    assert_eq!(damaged(&dir), (file, at - BATCH_HEADER_BYTES as u64, 1));
    without(&dir, last as u64..last as u64 + 1);
}

#[test]
fn a_missing_segment_is_seen() {
    let (dir, written) = journal();
    let of = |segment| written.partition_point(|(_, position, _)| place(*position).0 < segment) as u64;
    fs::remove_file(path(&options(&dir).dir, 2)).unwrap();
    let (file, _, lost_batches) = damaged(&dir);
    assert_eq!((file, lost_batches), (path(&options(&dir).dir, 3), of(3) - of(2)));
    let repaired = without(&dir, of(2)..of(3));
    assert_eq!(repaired.damaged_bytes, 0);
}

#[test]
fn a_segment_with_a_damaged_header_is_set_aside_as_a_whole() {
    let (dir, written) = journal();
    let of = |segment| written.partition_point(|(_, position, _)| place(*position).0 < segment) as u64;
    let file = path(&options(&dir).dir, 2);
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(damaged(&dir).0, file);
    let repaired = without(&dir, of(2)..of(3));
    assert_eq!(repaired.damaged_bytes, bytes.len() as u64);
}

#[test]
fn another_version_is_refused_by_its_number() {
    let (dir, _) = journal();
    let file = path(&options(&dir).dir, 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 9;
    let sum = crc32fast::hash(&bytes[..44]).to_le_bytes();
    bytes[44..48].copy_from_slice(&sum);
    fs::write(&file, &bytes).unwrap();
    let opened = open(options(&dir)).map(|_| ());
    assert!(
        matches!(opened, Err(OpenError::Version { version: 9, .. })),
        "{opened:?}"
    );
    assert!(matches!(
        Journal::repair(&options(&dir).dir),
        Err(OpenError::Version { .. })
    ));
}

#[test]
fn a_journal_that_can_be_opened_is_not_repaired() {
    let (dir, _) = journal();
    let files = |dir: &TempDir| {
        let segments = list(&options(dir).dir).unwrap().into_iter();
        let read = |number| fs::read(path(&options(dir).dir, number)).unwrap();
        segments.map(read).collect::<Vec<_>>()
    };
    let before = files(&dir);
    assert_eq!(Journal::repair(&options(&dir).dir).unwrap(), Repaired::default());
    assert_eq!(files(&dir), before);
}

/// A segment with one batch of the frames that are given: partition, epoch and, where it is not a fence, a record.
fn segment(frames: &[(u16, u64, Option<u64>)]) -> Vec<u8> {
    let header = SegmentHeader {
        flags: 0,
        number: 1,
        first_sequence: 0,
        epoch: Epoch(1),
        salt: 5,
    };
    let mut content = Vec::new();
    for (partition, epoch, number) in frames {
        append_frame(&mut content, Partition(*partition), Epoch(*epoch), |out| {
            number.iter().for_each(|number| record::encode(&gone(*number), out));
        });
    }
    let batch = BatchHeader {
        flags: SYNCED_BEFORE,
        sequence: 0,
        bytes: content.len() as u64,
        count: frames.len() as u32,
    };
    [&header.encode()[..], &batch.encode(5), &content].concat()
}

#[test]
fn records_of_an_owner_that_had_lost_its_partition_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let records = [
        (3, 1, Some(0)),
        (3, 2, None),
        (3, 1, Some(1)),
        (4, 1, Some(2)),
        (3, 2, Some(3)),
        (4, 0, Some(4)),
    ];
    fs::create_dir(options(&dir).dir).unwrap();
    fs::write(path(&options(&dir).dir, 1), segment(&records)).unwrap();
    let (journal, recovery, replayed) = open(options(&dir)).unwrap();
    assert_eq!(numbers(&replayed), [0, 2, 3]);
    assert_eq!(recovery.stale_records, 2);
    let epochs = journal.shared.queue.epochs();
    assert!(epochs.iter().all(|epoch| *epoch == Epoch(3)), "higher than any before");
}

#[test]
fn a_record_of_a_partition_that_does_not_exist_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(options(&dir).dir).unwrap();
    fs::write(path(&options(&dir).dir, 1), segment(&[(64, 1, Some(0))])).unwrap();
    damaged(&dir);
}
