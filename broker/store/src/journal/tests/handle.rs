//! What a shard says and hears.

use super::*;
use crate::journal::fault::Fault;
use nervewire_core::store::Fetch;

#[test]
fn what_was_completed_is_replayed_with_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let mut completed = Vec::new();
    for run in 0..3_u64 {
        completed.extend(write_each(options(&dir), run * 100..run * 100 + 100));
        let (_, recovery, replayed) = open(options(&dir)).unwrap();
        assert_eq!(recovery.records, 100 + run * 100);
        assert!(recovery.segments > run);
        assert_eq!(
            (recovery.cut_bytes, recovery.repeated_batches, recovery.stale_records),
            (0, 0, 0)
        );
        assert_eq!(replayed, completed);
    }
}

#[test]
fn tickets_of_a_shard_complete_in_their_order_whatever_others_append() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, _) = open(options(&dir)).unwrap();
    let heard = Heard::start(&journal, 2);
    let append_all = |shard: u16| {
        let mut handle = journal.handle(shard);
        for number in 0..500 {
            handle.append(vec![append(2 * number, number), append(2 * number + 1, number)]);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| append_all(0));
        append_all(1);
    });
    let mut tickets = [Vec::new(), Vec::new()];
    while tickets.iter().any(|tickets| tickets.len() < 1_000) {
        if let (shard, StoreEvent::Completed(completions)) = heard.next() {
            tickets[usize::from(shard)].extend(completions.into_iter().map(|completion| completion.ticket.0));
        }
    }
    assert!(tickets.iter().all(|tickets| tickets.iter().copied().eq(0..1_000)));
    let counters = journal.counters();
    assert_eq!(counters.records, 2_000);
    assert_eq!(counters.pending_bytes, 0);
    assert_eq!(counters.commit_seconds.iter().sum::<u64>(), counters.commits);
}

#[test]
fn a_fetch_is_answered_in_the_order_of_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, _) = open(options(&dir)).unwrap();
    let heard = Heard::start(&journal, 1);
    let mut handle = journal.handle(0);
    let numbers = (0..300).map(|number| number * 64);
    handle.append(numbers.clone().map(|number| append(number, number)).collect());
    let completions = heard.completions(0, 300);
    let mut positions: Vec<Position> = completions.iter().map(|completion| completion.positions[0]).collect();
    positions.reverse();
    let nothing_there = Position(positions[0].0 + 1);
    positions.push(nothing_there);
    handle.fetch(Fetch {
        ticket: FetchTicket(7),
        partition: Partition(0),
        positions,
    });
    let (0, StoreEvent::Fetched(FetchTicket(7), mut records)) = heard.next() else {
        panic!("no answer");
    };
    assert_eq!(records.pop(), Some(Err(FetchFailed)));
    let found = records.iter().map(|record| number(record.as_ref().unwrap()));
    assert!(found.eq(numbers.rev()));
    assert_eq!(journal.counters().unreadable_records, 1);
}

#[test]
fn a_record_that_is_larger_than_a_segment_is_stored_and_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let large = Record::Gone(ClientKey {
        tenant: None,
        client_id: "x".repeat(20_000).into(),
    });
    let (journal, _, _) = open(options(&dir)).unwrap();
    let heard = Heard::start(&journal, 1);
    let mut handle = journal.handle(0);
    let appends = (0..3).map(|ticket| Append {
        ticket: Ticket(ticket),
        partition: Partition(0),
        records: vec![large.clone()],
    });
    handle.append(appends.collect());
    let positions: Vec<Position> = heard.completions(0, 3).iter().map(|done| done.positions[0]).collect();
    handle.fetch(Fetch {
        ticket: FetchTicket(0),
        partition: Partition(0),
        positions,
    });
    let (_, StoreEvent::Fetched(_, records)) = heard.next() else {
        panic!("no answer");
    };
    assert!(
        records
            .into_iter()
            .eq([large.clone(), large.clone(), large.clone()].map(Ok))
    );
    drop(journal);
    assert_eq!(open(options(&dir)).unwrap().2.len(), 3);
}

#[test]
fn every_shard_hears_of_trouble_and_of_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, _) = open(options(&dir)).unwrap();
    let heard = Heard::start(&journal, 2);
    journal.shared.fault.set(Fault::Sync);
    let mut handle = journal.handle(1);
    handle.append(vec![append(0, 0)]);
    let trouble = [heard.next(), heard.next()].map(|(shard, event)| (shard, format!("{event:?}")));
    assert_eq!(
        trouble,
        [0, 1].map(|shard| (shard, "Trouble(Some(Doubtful))".to_owned()))
    );
    assert_eq!(journal.trouble(), Some(AppendFailed::Doubtful));
    assert!(
        journal
            .last_error()
            .is_some_and(|error| error.contains("a test has it fail"))
    );
    assert!(handle.pending_bytes() > 0);
    journal.shared.fault.set(Fault::None);
    let (1, StoreEvent::Completed(completions)) = heard.next() else {
        panic!("it does not complete");
    };
    assert_eq!(completions[0].ticket, Ticket(0));
    assert!(matches!(heard.next(), (0, StoreEvent::Trouble(None))));
    assert!(matches!(heard.next(), (1, StoreEvent::Trouble(None))));
    assert!(journal.close(), "everything was stored");
}

#[test]
fn closing_gives_up_what_a_failing_disk_does_not_take_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    write_each(options(&dir), 0..1);
    let (journal, _, _) = open(options(&dir)).unwrap();
    let _heard = Heard::start(&journal, 1);
    journal.shared.fault.set(Fault::Half);
    let mut handle = journal.handle(0);
    (1..4).for_each(|number| handle.append(vec![append(number, number)]));
    assert!(!journal.close());
    drop((journal, handle));
    let (_, recovery, replayed) = open(options(&dir)).unwrap();
    assert_eq!(numbers(&replayed), [0]);
    assert_eq!(recovery.cut_bytes, 0, "it was cut when it failed");
}

#[test]
fn a_shard_that_has_lost_its_partitions_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, _) = open(options(&dir)).unwrap();
    let heard = Heard::start(&journal, 1);
    let mut handle = journal.handle(0);
    journal.shared.queue.fence(Partition(3)).unwrap();
    handle.append(vec![append(0, 2), append(1, 3)]);
    assert!(matches!(
        heard.next(),
        (0, StoreEvent::Trouble(Some(AppendFailed::StaleOwner)))
    ));
    assert_eq!(handle.pending_bytes(), 0);
    let mut successor = journal.handle(0);
    successor.append(vec![append(0, 3)]);
    heard.completions(0, 1);
    drop((journal, handle, successor));
    assert_eq!(numbers(&open(options(&dir)).unwrap().2), [3]);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(options(&dir)).unwrap();
    assert!(matches!(open(options(&dir)), Err(OpenError::Locked { .. })));
    assert!(matches!(
        Journal::repair(&dir.path().join("store")),
        Err(OpenError::Locked { .. })
    ));
    drop(first);
    assert!(open(options(&dir)).is_ok());
}
