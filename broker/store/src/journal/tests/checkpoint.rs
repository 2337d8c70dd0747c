//! Room comes back, and nothing that is still true goes with it.

use super::*;
use crate::journal::checkpoint::due;
use crate::journal::fault::Fault;
use nervewire_core::store::Fetch;
use std::collections::BTreeMap;

/// A shard that knows which of its records are still true, and where they are.
struct Shard {
    handle: Handle,
    number: u16,
    next_ticket: u64,
    live: BTreeMap<u64, Option<Position>>,
    appended: BTreeMap<Ticket, u64>,
}

impl Shard {
    fn new(journal: &Journal, number: u16) -> Self {
        Self {
            handle: journal.handle(number),
            number,
            next_ticket: 0,
            live: BTreeMap::new(),
            appended: BTreeMap::new(),
        }
    }

    fn append(&mut self, number: u64) {
        let append = self.next_append(number);
        self.handle.append(vec![append]);
    }

    fn next_append(&mut self, number: u64) -> Append {
        self.next_ticket += 1;
        self.live.entry(number).or_default();
        self.appended.insert(Ticket(self.next_ticket), number);
        append(self.next_ticket, number)
    }

    fn hear(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Completed(completions) => completions.iter().for_each(|completion| self.stored(completion)),
            StoreEvent::Examine(records) => self.examine(&records),
            StoreEvent::Trouble(_) => {}
            StoreEvent::Fetched(..) => panic!("nothing was fetched"),
        }
    }

    fn stored(&mut self, completion: &Completion) {
        let number = self.appended.remove(&completion.ticket).unwrap();
        if let Some(position) = self.live.get_mut(&number) {
            *position = Some(completion.positions[0]);
        }
    }

    fn examine(&mut self, records: &[(Partition, Position, Record)]) {
        let owner = |partition: &Partition| partition.owner(2) == self.number;
        assert!(records.iter().all(|(partition, _, _)| owner(partition)));
        let still_there = |(_, position, record): &(_, Position, _)| {
            let number = number(record);
            (self.live.get(&number) == Some(&Some(*position))).then_some(number)
        };
        let live: Vec<u64> = records.iter().filter_map(still_there).collect();
        let appends = live.into_iter().map(|number| self.next_append(number)).collect();
        self.handle.examined(appends);
    }
}

/// Two shards and their journal.
struct Scene {
    journal: Journal,
    heard: Heard,
    shards: [Shard; 2],
}

impl Scene {
    fn new(options: JournalOptions) -> Self {
        let (journal, _, _) = open(options).unwrap();
        let heard = Heard::start(&journal, 2);
        let shards = [0, 1].map(|number| Shard::new(&journal, number));
        Self { journal, heard, shards }
    }

    fn shard_of(&mut self, number: u64) -> &mut Shard {
        &mut self.shards[usize::from(append(0, number).partition.owner(2))]
    }

    /// Takes what the shards are told until it holds.
    fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline);
            // What it waits for need not be something that a shard is told.
            if let Ok((shard, event)) = self.heard.0.recv_timeout(Duration::from_millis(1)) {
                self.shards[usize::from(shard)].hear(event);
            }
        }
    }

    fn until_stored(&mut self) {
        self.until(|scene| scene.shards.iter().all(|shard| shard.appended.is_empty()));
    }

    /// Appends records of which every ninth stays true.
    fn churn(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.shard_of(number).append(number);
            if !number.is_multiple_of(9) {
                self.until_stored();
                self.shard_of(number).live.remove(&number);
            }
        }
        self.until_stored();
    }

    /// Appends records that all stay true; answers how large the journal is then.
    fn fill(&mut self, numbers: u64) -> u64 {
        for number in 0..numbers {
            self.shard_of(number).append(number);
            if number.is_multiple_of(50) {
                self.until_stored();
            }
        }
        self.until_stored();
        self.journal.counters().journal_bytes
    }

    fn live_bytes(&self) -> u64 {
        let live = self.shards.iter().map(|shard| shard.live.len() as u64);
        live.sum::<u64>() * 40
    }

    fn report(&self) {
        self.report_each(self.live_bytes() / 2);
    }

    /// Says of each shard that it needs so much.
    fn report_each(&self, bytes: u64) {
        let shards = self.shards.iter();
        shards.for_each(|shard| shard.handle.report_live_bytes(bytes));
        self.journal.shared.work.look();
    }
}

fn roomy(dir: &TempDir) -> JournalOptions {
    JournalOptions {
        most_bytes: 1 << 20,
        ..options(dir)
    }
}

#[test]
fn a_checkpoint_keeps_what_is_true_and_frees_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(roomy(&dir));
    scene.churn(0..2_000);
    let before = scene.journal.counters();
    assert_eq!(before.freed_segments, 0, "no shard has said what it needs");
    scene.report();
    let most = 2 * scene.live_bytes() + 2 * 8 * 1024;
    scene.until(|scene| scene.journal.counters().journal_bytes <= most);
    scene.until_stored();
    let after = scene.journal.counters();
    assert!(after.freed_segments > 5, "{after:?}");
    assert!(after.relocated_bytes > 0);
    let on_disk = list_bytes(&roomy(&dir).dir);
    assert!(
        on_disk <= after.journal_bytes + 8 * 1024,
        "{on_disk} bytes in files, {after:?}"
    );
    every_position_can_be_read(&mut scene);
    drop(scene);
    let (_, _, replayed) = open(roomy(&dir)).unwrap();
    let mut found = numbers(&replayed);
    found.sort_unstable();
    found.dedup();
    let expected: Vec<u64> = (0..2_000).step_by(9).collect();
    assert!(expected.iter().all(|number| found.contains(number)));
}

fn list_bytes(dir: &Path) -> u64 {
    let segments = segments::list(dir).unwrap().into_iter();
    segments
        .map(|number| segments::path(dir, number).metadata().unwrap().len())
        .sum()
}

fn every_position_can_be_read(scene: &mut Scene) {
    for shard in 0..2_usize {
        for (number, position) in scene.shards[shard].live.clone() {
            scene.shards[shard].handle.fetch(Fetch {
                ticket: FetchTicket(number),
                partition: append(0, number).partition,
                positions: vec![position.unwrap()],
            });
            let records = loop {
                match scene.heard.next() {
                    (_, StoreEvent::Fetched(_, records)) => break records,
                    (shard, event) => scene.shards[usize::from(shard)].hear(event),
                }
            };
            assert_eq!(records, [Ok(gone(number))]);
        }
    }
}

#[test]
fn a_segment_stays_until_what_was_true_in_it_is_durable_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(roomy(&dir));
    scene.churn(0..2_000);
    scene.journal.shared.fault.set(Fault::Sync);
    scene.report();
    scene.until(|scene| scene.shards.iter().all(|shard| !shard.appended.is_empty()));
    scene.until(|scene| scene.journal.trouble().is_some());
    assert_eq!(scene.journal.counters().freed_segments, 0);
    assert!(segments::path(&roomy(&dir).dir, 1).exists());
    scene.journal.shared.fault.set(Fault::None);
    scene.until(|scene| scene.journal.counters().freed_segments > 0);
    assert!(!segments::path(&roomy(&dir).dir, 1).exists());
}

#[test]
fn a_full_journal_makes_room_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(options(&dir));
    let mut number = 0;
    while scene.journal.trouble().is_none() {
        assert!(number < 5_000, "it has no bound");
        scene.churn(number..number + 10);
        number += 10;
    }
    assert_eq!(scene.journal.trouble(), Some(AppendFailed::Full));
    scene.report();
    scene.until(|scene| scene.journal.trouble().is_none());
    assert!(scene.journal.counters().journal_bytes <= contract::MOST_BYTES);
}

/// What was true while it was gone through may be needless, and known to be, before the round that was in vain has ended.
#[test]
fn what_becomes_needless_at_the_end_of_a_round_in_vain_is_freed() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(roomy(&dir));
    let bytes = scene.fill(3_000);
    // Too low: so that every segment is gone through, and nothing freed.
    scene.report_each(bytes / 10);
    loop {
        let (shard, event) = scene.heard.next();
        let counters = scene.journal.counters();
        let is_last_of_round = counters.freed_segments + 1 >= counters.segments - 1;
        let is_last_question = matches!(&event, StoreEvent::Examine(records) if records.is_empty());
        if is_last_question && is_last_of_round {
            scene.shards.iter_mut().for_each(|shard| shard.live.clear());
            scene.report_each(0);
            scene.shards[usize::from(shard)].hear(event);
            break;
        }
        scene.shards[usize::from(shard)].hear(event);
    }
    scene.until(|scene| scene.journal.counters().journal_bytes <= 2 * 8 * 1024);
}

#[test]
fn a_journal_full_of_what_is_true_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(roomy(&dir));
    let bytes = scene.fill(1_000);
    scene
        .shards
        .iter()
        .for_each(|shard| shard.handle.report_live_bytes(bytes / 2));
    assert!(due(&scene.journal.shared, 2).is_none());
    scene
        .shards
        .iter()
        .for_each(|shard| shard.handle.report_live_bytes(bytes / 10));
    assert!(due(&scene.journal.shared, 2).is_some());
}
