//! What every log keeps, as one suite of tests: each medium's own tests call [`check`].

use crate::log::{Entry, Epoch, Log, LogError};
use nervewire_core::store::{ClientKey, Partition, Position, Record};
use std::time::{Duration, Instant};

/// The bound in bytes that the logs under test are to have.
pub const MOST_BYTES: u64 = 64 * 1024;

/// A log that has not completed an append by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
const PARTITION: Partition = Partition(7);
const OTHER: Partition = Partition(8);

/// Checks logs of a bound of [`MOST_BYTES`]; each call of `open` makes a new, empty one.
///
/// # Panics
///
/// Where a log does not keep the contract of [`Log`].
pub fn check<L: Log>(open: &mut impl FnMut() -> L) {
    an_empty_partition_has_nothing(open());
    records_are_read_in_the_order_of_their_appends(open());
    partitions_are_apart(open());
    completion_is_in_order_and_without_gaps(open());
    a_stale_owner_is_refused(open());
    a_new_owner_goes_on_behind_the_last(open());
    truncation_keeps_positions(open());
    truncation_stops_at_what_is_durable(open());
    a_full_log_refuses_all_or_nothing(open());
}

fn an_empty_partition_has_nothing(mut log: impl Log) {
    assert_eq!(log.durable(PARTITION), Ok(Position(0)));
    assert_eq!(log.read(PARTITION, Position(0), 10), Ok(Vec::new()));
    let unowned = log.append(PARTITION, Epoch(0), vec![record(0)]);
    assert_eq!(unowned, Err(LogError::StaleOwner), "nobody owns it");
}

fn records_are_read_in_the_order_of_their_appends(mut log: impl Log) {
    let epoch = fence(&mut log);
    assert_eq!(append(&mut log, epoch, 0..3), Position(3));
    assert_eq!(append(&mut log, epoch, 3..4), Position(4));
    wait(&mut log, Position(4));
    assert_eq!(numbers(&mut log, 0), [0, 1, 2, 3]);
    assert_eq!(numbers(&mut log, 2), [2, 3], "from a position on");
    assert_eq!(numbers(&mut log, 4), [0; 0], "from the end on");
    let two = read(&mut log, 1, 2);
    let positions: Vec<u64> = two.iter().map(|entry| entry.position.0).collect();
    assert_eq!(positions, [1, 2], "no more than asked for");
    assert!(two.iter().all(|entry| entry.epoch == epoch));
}

fn partitions_are_apart(mut log: impl Log) {
    let epoch = fence(&mut log);
    append(&mut log, epoch, 0..2);
    wait(&mut log, Position(2));
    assert_eq!(log.durable(OTHER), Ok(Position(0)));
    assert_eq!(log.read(OTHER, Position(0), 10), Ok(Vec::new()));
    let fenced = log.fence(OTHER);
    assert!(fenced.is_ok(), "{fenced:?}");
    append(&mut log, epoch, 2..3);
}

/// Whatever is said to be durable can be read, from the first on.
fn completion_is_in_order_and_without_gaps(mut log: impl Log) {
    let epoch = fence(&mut log);
    let mut seen = Position(0);
    for number in 0..50 {
        append(&mut log, epoch, number..number + 1);
        let durable = durable(&mut log);
        assert!(durable >= seen, "{durable:?} after {seen:?}");
        assert!(durable.0 <= number + 1, "{durable:?} was not even appended");
        assert!(
            numbers(&mut log, 0)
                .into_iter()
                .take(durable.0 as usize)
                .eq(0..durable.0)
        );
        seen = durable;
    }
    wait(&mut log, Position(50));
    assert!(numbers(&mut log, 0).into_iter().eq(0..50));
}

fn a_stale_owner_is_refused(mut log: impl Log) {
    let first = fence(&mut log);
    append(&mut log, first, 0..1);
    wait(&mut log, Position(1));
    let second = fence(&mut log);
    assert!(second > first, "{second:?} after {first:?}");
    let stale = log.append(PARTITION, first, vec![record(1)]);
    assert_eq!(stale, Err(LogError::StaleOwner));
    assert_eq!(log.truncate(PARTITION, first, Position(1)), Err(LogError::StaleOwner));
    assert_eq!(numbers(&mut log, 0), [0], "nothing of that was done");
}

/// What the first owner was told is durable stays; what it was not told is settled one way or the other.
fn a_new_owner_goes_on_behind_the_last(mut log: impl Log) {
    let first = fence(&mut log);
    append(&mut log, first, 0..1);
    wait(&mut log, Position(1));
    append(&mut log, first, 1..2);
    let second = fence(&mut log);
    let kept = durable(&mut log);
    assert!((1..=2).contains(&kept.0), "{kept:?}");
    assert_eq!(append(&mut log, second, 2..3), Position(kept.0 + 1));
    wait(&mut log, Position(kept.0 + 1));
    let entries = read(&mut log, kept.0, 10);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].epoch, &entries[0].record), (second, &record(2)));
}

fn truncation_keeps_positions(mut log: impl Log) {
    let epoch = fence(&mut log);
    append(&mut log, epoch, 0..5);
    wait(&mut log, Position(5));
    assert_eq!(log.truncate(PARTITION, epoch, Position(3)), Ok(()));
    assert_eq!(numbers(&mut log, 3), [3, 4]);
    let truncated = log.read(PARTITION, Position(2), 10);
    assert_eq!(truncated, Err(LogError::Truncated { first: Position(3) }));
    assert_eq!(
        log.truncate(PARTITION, epoch, Position(1)),
        Ok(()),
        "nothing is left there"
    );
    assert_eq!(append(&mut log, epoch, 5..6), Position(6));
    wait(&mut log, Position(6));
    assert_eq!(numbers(&mut log, 3), [3, 4, 5]);
}

fn truncation_stops_at_what_is_durable(mut log: impl Log) {
    let epoch = fence(&mut log);
    append(&mut log, epoch, 0..2);
    wait(&mut log, Position(2));
    assert_eq!(log.truncate(PARTITION, epoch, Position(9)), Ok(()));
    assert_eq!(append(&mut log, epoch, 2..3), Position(3));
    wait(&mut log, Position(3));
    assert_eq!(numbers(&mut log, 2), [2]);
}

fn a_full_log_refuses_all_or_nothing(mut log: impl Log) {
    let epoch = fence(&mut log);
    let full = Err(LogError::Full { most_bytes: MOST_BYTES });
    let too_many: Vec<Record> = (0..=MOST_BYTES / record(0).bytes() as u64).map(record).collect();
    assert_eq!(log.append(PARTITION, epoch, too_many.clone()), full);
    assert_eq!(log.durable(PARTITION), Ok(Position(0)));
    let half = too_many.len() / 2;
    let end = log.append(PARTITION, epoch, too_many[..half].to_vec());
    assert_eq!(end, Ok(Position(half as u64)));
    assert_eq!(log.append(PARTITION, epoch, too_many[..half + 1].to_vec()), full);
    wait(&mut log, Position(half as u64));
    assert_eq!(log.truncate(PARTITION, epoch, Position(half as u64)), Ok(()));
    let again = log.append(PARTITION, epoch, too_many[..half + 1].to_vec());
    assert_eq!(again, Ok(Position(2 * half as u64 + 1)), "truncation makes room");
}

/// A record that says which one it is, all of the same size.
fn record(number: u64) -> Record {
    Record::Gone(ClientKey {
        tenant: None,
        client_id: format!("client-{number:08}").into(),
    })
}

fn fence(log: &mut impl Log) -> Epoch {
    log.fence(PARTITION).unwrap_or_else(|error| panic!("fence: {error}"))
}

fn append(log: &mut impl Log, epoch: Epoch, numbers: std::ops::Range<u64>) -> Position {
    let records = numbers.map(record).collect();
    let appended = log.append(PARTITION, epoch, records);
    appended.unwrap_or_else(|error| panic!("append: {error}"))
}

fn durable(log: &mut impl Log) -> Position {
    log.durable(PARTITION)
        .unwrap_or_else(|error| panic!("durable: {error}"))
}

fn wait(log: &mut impl Log, position: Position) {
    let deadline = Instant::now() + PATIENCE;
    while durable(log) < position {
        assert!(Instant::now() < deadline, "{position:?} is never reached");
        std::thread::yield_now();
    }
}

fn read(log: &mut impl Log, from: u64, most_records: usize) -> Vec<Entry> {
    let entries = log.read(PARTITION, Position(from), most_records);
    entries.unwrap_or_else(|error| panic!("read: {error}"))
}

/// Which records are there from a position on.
fn numbers(log: &mut impl Log, from: u64) -> Vec<u64> {
    let entries = read(log, from, usize::MAX);
    let positions = entries.iter().map(|entry| entry.position.0);
    assert!(positions.eq(from..from + entries.len() as u64), "{entries:?}");
    let number = |entry: &Entry| (0..1_000).find(|number| record(*number) == entry.record);
    entries.iter().filter_map(number).collect()
}
