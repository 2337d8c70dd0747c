//! A journal that was cut off at any byte.

use super::*;
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, Piece, SEGMENT_HEADER_BYTES, SYNCED_BEFORE, Scan, SegmentHeader};
use crate::journal::segments::path;
use std::fs;

/// The only segment of a journal with so many batches, and where each of them ends.
fn segment_of(batches: u64) -> (Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    write_each(options(&dir), 0..batches);
    let bytes = fs::read(path(&options(&dir).dir, 1)).unwrap();
    let header = SegmentHeader::parse(&bytes).unwrap();
    let ends = Scan::new(&bytes, &header).map(|piece| match piece {
        Piece::Batch(at, batch) => at + batch.bytes(),
        Piece::Damage(range) => panic!("{range:?}"),
    });
    let ends = ends.collect();
    (bytes, ends)
}

/// A journal whose first segment is what is given.
fn with_segment(bytes: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    fs::create_dir(&options.dir).unwrap();
    fs::write(path(&options.dir, 1), bytes).unwrap();
    dir
}

/// Opens what a crash has left: whole batches up to there are replayed, and it goes on behind them.
fn goes_on_behind(bytes: &[u8], whole_batches: u64, cut_bytes: usize) {
    let dir = with_segment(bytes);
    let found = Journal::check(&options(&dir).dir).unwrap();
    let (journal, recovery, replayed) = open(options(&dir)).unwrap();
    assert!(numbers(&replayed).into_iter().eq(0..whole_batches), "{replayed:?}");
    assert_eq!(recovery.cut_bytes, cut_bytes as u64);
    assert_eq!(found, recovery, "looking does not change anything");
    drop(journal);
    write_each(options(&dir), whole_batches..whole_batches + 1);
    let (_, recovery, replayed) = open(options(&dir)).unwrap();
    assert!(numbers(&replayed).into_iter().eq(0..=whole_batches), "{replayed:?}");
    assert_eq!(recovery.cut_bytes, 0);
}

#[test]
fn every_prefix_is_whole_batches_and_nothing_else() {
    let (bytes, ends) = segment_of(4);
    for len in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= len).count();
        let kept = match whole {
            0 if len < SEGMENT_HEADER_BYTES => 0,
            0 => SEGMENT_HEADER_BYTES,
            _ => ends[whole - 1],
        };
        let torn = bytes[kept..len].iter().rposition(|byte| *byte != 0);
        goes_on_behind(&bytes[..len], whole as u64, torn.map_or(0, |last| last + 1));
    }
}

/// The length of a new file may be durable before anything in it.
#[test]
fn a_segment_that_has_its_length_and_no_header_was_never_begun() {
    let (bytes, _) = segment_of(1);
    for written in 0..SEGMENT_HEADER_BYTES {
        let mut file = bytes[..written].to_vec();
        let cut = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        file.resize(8 * 1024, 0);
        goes_on_behind(&file, 0, cut);
    }
}

/// What was room in the file is zeros, or what a disk makes of it.
#[test]
fn what_stands_behind_the_last_whole_batch_does_not_matter() {
    let (bytes, ends) = segment_of(4);
    for len in (ends[2]..ends[3]).step_by(3) {
        let mut zeros = bytes[..len].to_vec();
        zeros.resize(8 * 1024, 0);
        let torn = bytes[ends[2]..len].iter().rposition(|byte| *byte != 0);
        goes_on_behind(&zeros, 3, torn.map_or(0, |last| last + 1));
        let mut noise = bytes[..len].to_vec();
        noise.extend((0..500_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 1));
        goes_on_behind(&noise, 3, noise.len() - ends[2]);
    }
}

#[test]
fn a_batch_in_the_payload_of_a_torn_message_is_no_batch() {
    let forged = BatchHeader {
        flags: SYNCED_BEFORE,
        sequence: 1_000,
        bytes: 0,
        count: 0,
    };
    let (bytes, ends) = segment_of(2);
    let header = SegmentHeader::parse(&bytes).unwrap();
    let payload = forged.encode(0);
    assert_ne!(header.salt, 0);
    let mut torn = bytes[..ends[0] + BATCH_HEADER_BYTES].to_vec();
    torn.extend_from_slice(&payload);
    goes_on_behind(&torn, 1, torn.len() - ends[0]);
    // With the number that nobody knows it would be taken for one: the test sees what it is for.
    let end = torn.len() - payload.len();
    torn[end..].copy_from_slice(&forged.encode(header.salt));
    let dir = with_segment(&torn);
    assert!(matches!(open(options(&dir)), Err(OpenError::Damaged { .. })));
}

/// Where the operating system decides what reaches the disk first, a later batch may be there without an earlier one.
#[test]
fn without_fsync_everything_behind_a_missing_batch_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let with_os = |dir: &TempDir| JournalOptions {
        sync: SyncPolicy::Os,
        ..options(dir)
    };
    let written = write_each(with_os(&dir), 0..5);
    let file = path(&options(&dir).dir, 1);
    let mut bytes = fs::read(&file).unwrap();
    let (_, third) = crate::journal::segments::place(written[2].1);
    bytes[third as usize + 20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (_, recovery, replayed) = open(with_os(&dir)).unwrap();
    assert_eq!(numbers(&replayed), [0, 1]);
    assert_eq!(
        recovery.cut_bytes as usize,
        bytes.len() - third as usize + BATCH_HEADER_BYTES
    );
}

#[test]
fn a_second_copy_of_a_batch_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    write_each(options(&dir), 0..2);
    write_each(options(&dir), 2..4);
    let [first, second] = [1, 2].map(|number| path(&options(&dir).dir, number));
    let mut left_by_a_failed_write = fs::read(&first).unwrap();
    let salt = SegmentHeader::parse(&left_by_a_failed_write).unwrap().salt;
    let bytes = fs::read(&second).unwrap();
    let header = SegmentHeader::parse(&bytes).unwrap();
    let Some(Piece::Batch(_, batch)) = Scan::new(&bytes, &header).next() else {
        panic!("no batch");
    };
    batch.copy_to(&mut left_by_a_failed_write, batch.header, salt);
    fs::write(&first, &left_by_a_failed_write).unwrap();
    let (_, recovery, replayed) = open(options(&dir)).unwrap();
    assert_eq!(numbers(&replayed), [0, 1, 2, 3]);
    assert_eq!(recovery.repeated_batches, 1);
    // Half of one, too.
    left_by_a_failed_write.truncate(left_by_a_failed_write.len() - 5);
    fs::write(&first, &left_by_a_failed_write).unwrap();
    let (_, recovery, replayed) = open(options(&dir)).unwrap();
    assert_eq!(numbers(&replayed), [0, 1, 2, 3]);
    assert_eq!(recovery.cut_bytes as usize, batch.bytes() - 5);
}
