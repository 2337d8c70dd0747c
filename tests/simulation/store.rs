//! What the driver does between shards and the disk, and what the disk does by itself: completions, trouble, checkpoints, fetches.

use crate::broker::Event;
use crate::trace::{Kept, check};
use crate::world::World;
use nervewire_core::limits::PARTITIONS;
use nervewire_core::store::{AppendFailed, FetchFailed, Partition, Position, Record};
use nervewire_store::Log;

/// A checkpoint under way: everything before this is to be taken over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint {
    before: Position,
}

impl World {
    pub(crate) fn take_appends(&mut self, s: usize) -> Kept<bool> {
        let mut busy = false;
        while let Some(append) = self.stations[s].shard.next_append() {
            busy = true;
            let station = &mut self.stations[s];
            station.last_ticket += 1;
            check(append.ticket.0 == station.last_ticket, || {
                format!(
                    "shard {s} appends under {:?} after {}",
                    append.ticket,
                    station.last_ticket - 1
                )
            })?;
            check(usize::from(append.partition.owner(self.shards())) == s, || {
                format!("shard {s} appends to {:?}", append.partition)
            })?;
            self.trace.note(|| format!("shard {s}: appends {append:?}"));
            let epoch = self.disk.borrow().epoch(append.partition);
            let appended = self.stations[s].log.append(epoch, &append);
            check(appended.is_ok(), || {
                format!("{appended:?} for the owner of {:?}", append.partition)
            })?;
        }
        Ok(busy)
    }

    pub(crate) fn take_fetches(&mut self, s: usize) -> bool {
        let mut busy = false;
        while let Some(fetch) = self.stations[s].shard.next_fetch() {
            busy = true;
            self.trace.note(|| format!("shard {s}: wants {fetch:?}"));
            let partition = fetch.partition;
            let mut get = |position| self.stations[s].log.get(partition, position);
            let entries: Vec<_> = fetch.positions.iter().map(|position| get(*position)).collect();
            let records = entries
                .into_iter()
                .map(|entry| entry.map(|entry| entry.record).map_err(|_| FetchFailed));
            let records: Vec<Result<Record, FetchFailed>> = records.collect();
            self.stations[s].reads.push_back((fetch.ticket, records));
        }
        busy
    }

    /// Some of the reads are done.
    pub(crate) fn answer_fetches(&mut self, s: usize) -> bool {
        let count = self.random.index(self.stations[s].reads.len() + 1);
        let count = if self.calm { self.stations[s].reads.len() } else { count };
        for _ in 0..count {
            let any = self.random.index(self.stations[s].reads.len());
            let station = &mut self.stations[s];
            if let Some((ticket, records)) = station.reads.remove(any) {
                station.shard.fetched(self.now, ticket, records);
            }
        }
        count > 0
    }

    /// The disk goes on by one step.
    pub(crate) fn step_disk(&mut self) -> bool {
        let mut busy = self.disk.borrow_mut().write(&mut self.random);
        if self.random.percent(10) {
            let late = self.disk.borrow_mut().arrive_late();
            if late > 0 {
                self.has_stale_writes = true;
                self.trace
                    .note(|| format!("disk: {late} appends of a stale owner arrive"));
            }
        }
        if self.calm || self.random.percent(self.plan.sync) {
            busy |= self.disk.borrow_mut().sync();
        }
        self.hear_completions();
        busy | self.finish_checkpoint()
    }

    fn hear_completions(&mut self) {
        for station in &mut self.stations {
            let mut completions = Vec::new();
            station.log.completions(&mut completions);
            if !completions.is_empty() {
                station.inbox.push_back(Event::Completed(completions));
            }
        }
    }

    /// Trouble begins or ends; every shard hears of it when it comes to it.
    pub(crate) fn set_trouble(&mut self, trouble: Option<AppendFailed>) {
        if self.stations.iter().all(|station| station.log.trouble() == trouble) {
            return;
        }
        self.trace.note(|| format!("disk: {trouble:?}"));
        self.oracle.may_refuse |= trouble.is_some();
        self.disk.borrow_mut().set_trouble(trouble);
        for station in &mut self.stations {
            station.inbox.push_back(Event::Trouble(trouble));
        }
    }

    pub(crate) fn change_trouble(&mut self) {
        let trouble = match self.stations[0].log.trouble() {
            Some(_) => None,
            None => Some(*self.random.pick(&[AppendFailed::Full, AppendFailed::Doubtful])),
        };
        self.set_trouble(trouble);
    }

    /// The oldest part of the log is shown to the shards, which append again what is still true.
    pub(crate) fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_some() || self.stations.iter().any(|station| station.examined.is_some()) {
            return;
        }
        let count = self.random.index(self.disk.borrow().records() + 1);
        let mut shown: Vec<Vec<_>> = self.stations.iter().map(|_| Vec::new()).collect();
        let mut before = Position(0);
        for (partition, entry) in self.live_entries().into_iter().take(count) {
            before = Position(entry.position.0 + 1);
            let owner = usize::from(partition.owner(self.shards()));
            shown[owner].push((partition, entry.position, entry.record));
        }
        if before == Position(0) {
            return;
        }
        self.trace
            .note(|| format!("disk: a checkpoint of everything before {before:?}"));
        self.checkpoint = Some(Checkpoint { before });
        for (station, records) in self.stations.iter_mut().zip(shown) {
            let mut records = records.into_iter().peekable();
            while records.peek().is_some() {
                let chunk = records.by_ref().take(1 + self.random.index(20)).collect();
                station.inbox.push_back(Event::Examine(chunk));
            }
            station.inbox.push_back(Event::Examined);
        }
    }

    /// The old part goes when all of what replaces it is durable.
    fn finish_checkpoint(&mut self) -> bool {
        let Some(checkpoint) = self.checkpoint else {
            return false;
        };
        let replaced = |station: &crate::broker::Station| {
            let examined = station.examined;
            examined.is_some_and(|ticket| station.durable_ticket >= ticket)
        };
        if !self.stations.iter().all(replaced) {
            return false;
        }
        self.trace
            .note(|| format!("disk: everything before {:?} is gone", checkpoint.before));
        for partition in (0..PARTITIONS as u16).map(Partition) {
            let owner = usize::from(partition.owner(self.shards()));
            let epoch = self.disk.borrow().epoch(partition);
            let truncated = self.stations[owner].log.truncate(partition, epoch, checkpoint.before);
            assert_eq!(truncated, Ok(()), "{partition:?} belongs to shard {owner}");
        }
        self.stations.iter_mut().for_each(|station| station.examined = None);
        self.checkpoint = None;
        true
    }
}
