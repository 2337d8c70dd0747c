//! What every log keeps, as one suite of tests: each medium's own tests call [`check`].

use crate::log::{Completion, Entry, Epoch, Log, LogError};
use nervewire_core::store::{Append, AppendFailed, ClientKey, Partition, Position, Record, Ticket};
use std::time::{Duration, Instant};

/// The bound in bytes that the logs under test are to have.
pub const MOST_BYTES: u64 = 64 * 1024;

const PARTITION: Partition = Partition(7);
const OTHER: Partition = Partition(8);

/// A log that can be made to fail.
pub trait Fails: Log {
    /// From now on, nothing that is appended completes; `false`: it works again.
    fn fail(&mut self, fails: bool);

    /// What it has not done by then it never does.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Checks logs of a bound of [`MOST_BYTES`]; each call of `open` makes a new, empty one.
///
/// # Panics
///
/// Where a log does not keep the contract of [`Log`].
pub fn check<L: Fails>(open: &mut impl FnMut() -> L) {
    an_empty_partition_has_nothing(Owner::of(open()));
    records_are_read_in_the_order_of_their_appends(Owner::of(open()));
    an_append_without_records_completes(Owner::of(open()));
    partitions_are_apart(Owner::of(open()));
    completion_is_in_order_and_without_gaps(Owner::of(open()));
    a_record_is_found_by_its_position(Owner::of(open()));
    a_stale_owner_is_refused(Owner::of(open()));
    a_new_owner_finds_what_was_appended_before(Owner::of(open()));
    what_is_doubtful_completes_once_when_it_works_again(Owner::of(open()));
    truncation_keeps_positions(Owner::of(open()));
    truncation_stops_at_what_is_there(Owner::of(open()));
    beyond_its_bound_a_log_is_in_trouble_until_truncation_makes_room(Owner::of(open()));
}

fn an_empty_partition_has_nothing(mut o: Owner<impl Fails>) {
    assert_eq!(o.log.read(PARTITION, Position(0), 10), Ok(Vec::new()));
    assert_eq!(o.log.trouble(), None);
    let unowned = o.log.append(Epoch(0), &append(1, PARTITION, 0..1));
    assert_eq!(unowned, Err(LogError::StaleOwner), "nobody owns it");
    assert_eq!(o.completed(), [], "nothing was done");
}

fn records_are_read_in_the_order_of_their_appends(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..3);
    o.append(epoch, 3..4);
    let positions = o.wait(4);
    assert_eq!(o.numbers(Position(0)), [0, 1, 2, 3]);
    assert_eq!(o.numbers(positions[2]), [2, 3], "from a position on");
    let two = o.read(positions[1], 2);
    let found: Vec<Position> = two.iter().map(|entry| entry.position).collect();
    assert_eq!(found, positions[1..3], "no more than asked for");
    assert!(two.iter().all(|entry| entry.epoch == epoch));
}

fn an_append_without_records_completes(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..1);
    o.append(epoch, 1..1);
    o.append(epoch, 1..2);
    o.wait(2);
    o.wait_for(Ticket(3));
    let counts: Vec<usize> = o.completed.iter().map(|done| done.positions.len()).collect();
    assert_eq!(counts, [1, 0, 1]);
}

fn partitions_are_apart(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..2);
    let positions = o.wait(2);
    assert_eq!(o.log.read(OTHER, Position(0), 10), Ok(Vec::new()));
    let elsewhere = o.log.get(OTHER, positions[1]);
    assert!(elsewhere.is_err(), "{elsewhere:?}");
    let fenced = o.log.fence(OTHER);
    assert!(fenced.is_ok(), "{fenced:?}");
    o.append(epoch, 2..3);
    o.wait(3);
    assert_eq!(o.numbers(Position(0)), [0, 1, 2]);
}

/// Whatever is said to be durable can be read.
fn completion_is_in_order_and_without_gaps(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    for number in 0..50 {
        o.append(epoch, number..number + 1);
        let durable = o.completed().len() as u64;
        assert!(durable <= number + 1, "{durable} completed, {number} appended");
        assert!(o.numbers(Position(0)).into_iter().take(durable as usize).eq(0..durable));
    }
    let positions = o.wait(50);
    assert!(positions.is_sorted_by(|a, b| a < b), "positions grow: {positions:?}");
    assert!(o.numbers(Position(0)).into_iter().eq(0..50));
}

fn a_record_is_found_by_its_position(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..20);
    let positions = o.wait(20);
    for (index, position) in positions.into_iter().enumerate().rev() {
        let entry = Entry {
            position,
            epoch,
            record: record(index as u64),
        };
        assert_eq!(o.log.get(PARTITION, position), Ok(entry));
    }
}

fn a_stale_owner_is_refused(mut o: Owner<impl Fails>) {
    let first = o.fence();
    o.append(first, 0..1);
    let positions = o.wait(1);
    let second = o.fence();
    assert!(second > first, "{second:?} after {first:?}");
    let stale = o.log.append(first, &append(9, PARTITION, 1..2));
    assert_eq!(stale, Err(LogError::StaleOwner));
    let truncated = o.log.truncate(PARTITION, first, positions[0]);
    assert_eq!(truncated, Err(LogError::StaleOwner));
    o.append(second, 2..3);
    o.wait(2);
    assert_eq!(o.numbers(Position(0)), [0, 2], "nothing of that was done");
}

fn a_new_owner_finds_what_was_appended_before(mut o: Owner<impl Fails>) {
    let first = o.fence();
    o.append(first, 0..2);
    let second = o.fence();
    assert_eq!(o.numbers(Position(0)), [0, 1], "durable when fencing returns");
    o.append(second, 2..3);
    o.wait(3);
    let entries = o.read(Position(0), 10);
    let epochs: Vec<Epoch> = entries.iter().map(|entry| entry.epoch).collect();
    assert_eq!(epochs, [first, first, second]);
}

/// Nothing is lost, nothing is there twice, and nothing changes places.
fn what_is_doubtful_completes_once_when_it_works_again(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..2);
    o.wait(2);
    for round in 0..3 {
        o.log.fail(true);
        let first = 2 + round * 4;
        (first..first + 4).for_each(|number| o.append(epoch, number..number + 1));
        o.wait_until("there is trouble", |o| o.log.trouble().is_some());
        assert_eq!(o.log.trouble(), Some(AppendFailed::Doubtful));
        assert_eq!(o.completed().len() as u64, 1 + round * 4, "nothing completes");
        o.log.fail(false);
        o.wait(first as usize + 4);
        o.wait_until("the trouble is over", |o| o.log.trouble().is_none());
    }
    assert!(o.numbers(Position(0)).into_iter().eq(0..14));
}

fn truncation_keeps_positions(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..5);
    let positions = o.wait(5);
    assert_eq!(o.log.truncate(PARTITION, epoch, positions[3]), Ok(()));
    assert_eq!(o.numbers(positions[3]), [3, 4]);
    let truncated = o.log.read(PARTITION, positions[2], 10);
    assert_eq!(truncated, Err(LogError::Truncated));
    assert_eq!(o.log.get(PARTITION, positions[2]), Err(LogError::Truncated));
    let again = o.log.truncate(PARTITION, epoch, positions[1]);
    assert_eq!(again, Ok(()), "nothing is left there");
    o.append(epoch, 5..6);
    o.wait(6);
    assert_eq!(o.numbers(positions[3]), [3, 4, 5]);
}

fn truncation_stops_at_what_is_there(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    o.append(epoch, 0..2);
    o.wait(2);
    assert_eq!(o.log.truncate(PARTITION, epoch, Position(u64::MAX)), Ok(()));
    o.append(epoch, 2..3);
    let positions = o.wait(3);
    assert_eq!(o.numbers(positions[2]), [2]);
}

fn beyond_its_bound_a_log_is_in_trouble_until_truncation_makes_room(mut o: Owner<impl Fails>) {
    let epoch = o.fence();
    let mut number = 0;
    while o.log.trouble().is_none() {
        assert!(number < 10_000, "it has no bound");
        o.append(epoch, number..number + 10);
        number += 10;
        o.wait(number as usize);
    }
    assert_eq!(o.log.trouble(), Some(AppendFailed::Full));
    let last = o.completed.last().and_then(|done| done.positions.last()).copied();
    let last = last.unwrap_or(Position(0));
    assert_eq!(o.log.truncate(PARTITION, epoch, last), Ok(()));
    o.wait_until("there is room", |o| o.log.trouble().is_none());
    o.append(epoch, number..number + 1);
    o.wait(number as usize + 1);
    assert_eq!(o.numbers(last), [number - 1, number]);
}

/// A log and what it has completed, which is checked as it comes.
struct Owner<L> {
    log: L,
    appended: u64,
    completed: Vec<Completion>,
}

impl<L: Fails> Owner<L> {
    fn of(log: L) -> Self {
        Self {
            log,
            appended: 0,
            completed: Vec::new(),
        }
    }

    fn fence(&mut self) -> Epoch {
        let fenced = self.log.fence(PARTITION);
        fenced.unwrap_or_else(|error| panic!("fence: {error}"))
    }

    fn append(&mut self, epoch: Epoch, numbers: std::ops::Range<u64>) {
        self.appended += 1;
        let appended = self.log.append(epoch, &append(self.appended, PARTITION, numbers));
        appended.unwrap_or_else(|error| panic!("append: {error}"));
    }

    /// What has completed so far: tickets count up by one.
    fn completed(&mut self) -> &[Completion] {
        self.log.completions(&mut self.completed);
        let tickets = self.completed.iter().map(|completion| completion.ticket.0);
        assert!(tickets.eq(1..=self.completed.len() as u64), "{:?}", self.completed);
        assert!(self.completed.len() as u64 <= self.appended, "more than was appended");
        &self.completed
    }

    fn positions(&mut self) -> Vec<Position> {
        let completed = self.completed().iter();
        completed
            .flat_map(|completion| completion.positions.iter().copied())
            .collect()
    }

    /// Waits until so many records are durable; answers their positions.
    fn wait(&mut self, records: usize) -> Vec<Position> {
        self.wait_until("everything is durable", |o| o.positions().len() >= records);
        let positions = self.positions();
        assert_eq!(positions.len(), records);
        positions
    }

    fn wait_for(&mut self, ticket: Ticket) {
        self.wait_until("it completes", |o| {
            o.completed()
                .last()
                .is_some_and(|completion| completion.ticket >= ticket)
        });
    }

    fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + self.log.patience();
        while !holds(self) {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }

    fn read(&mut self, from: Position, most_records: usize) -> Vec<Entry> {
        let entries = self.log.read(PARTITION, from, most_records);
        entries.unwrap_or_else(|error| panic!("read: {error}"))
    }

    /// Which records are there from a position on.
    fn numbers(&mut self, from: Position) -> Vec<u64> {
        let entries = self.read(from, usize::MAX);
        assert!(entries.is_sorted_by(|a, b| a.position < b.position), "{entries:?}");
        entries.iter().map(|entry| number(&entry.record)).collect()
    }
}

fn append(ticket: u64, partition: Partition, numbers: std::ops::Range<u64>) -> Append {
    Append {
        ticket: Ticket(ticket),
        partition,
        records: numbers.map(record).collect(),
    }
}

/// A record that says which one it is, all of the same size.
fn record(number: u64) -> Record {
    Record::Gone(ClientKey {
        tenant: None,
        client_id: format!("client-{number:08}").into(),
    })
}

fn number(found: &Record) -> u64 {
    let Record::Gone(key) = found else {
        panic!("{found:?} was never appended");
    };
    let digits = key
        .client_id
        .strip_prefix("client-")
        .and_then(|digits| digits.parse().ok());
    digits.unwrap_or_else(|| panic!("{found:?} was never appended"))
}
