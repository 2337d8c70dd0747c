//! The records: about as long as a queued message of 64 bytes, over 64 partitions, from two producers.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::engine::Engine;

pub(crate) const PARTITIONS: u64 = 64;
const PRODUCERS: u64 = 2;
pub(crate) const RECORD_BYTES: usize = 150;
/// One record of so many is still needed when space is reclaimed.
const LIVE_OF: u64 = 10;

/// A record and where it belongs.
pub(crate) struct Record {
    pub(crate) partition: u8,
    /// Its place in the partition: consecutive from 1.
    pub(crate) index: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The records of one producer, which owns every second partition, as a shard owns its own.
struct Producer {
    number: u64,
    produced: u64,
}

impl Producer {
    fn next(&mut self) -> Record {
        let partitions = PARTITIONS / PRODUCERS;
        let partition = (self.produced % partitions) * PRODUCERS + self.number;
        let number = self.produced * PRODUCERS + self.number;
        let index = self.produced / partitions + 1;
        self.produced += 1;
        Record {
            partition: partition as u8,
            index,
            bytes: bytes_of(number),
        }
    }

    fn batch(&mut self, records: usize) -> Vec<Record> {
        (0..records).map(|_| self.next()).collect()
    }
}

/// The record's number, and bytes that nothing can compress.
fn bytes_of(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < RECORD_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(RECORD_BYTES);
    bytes
}

pub(crate) fn is_live(record: &[u8]) -> bool {
    let number = record.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    // Divided first, so that the live ones are spread over all partitions.
    (number / PARTITIONS).is_multiple_of(LIVE_OF)
}

/// What the producers did together.
#[derive(Default)]
pub(crate) struct Produced {
    pub(crate) records: u64,
    pub(crate) commits: u64,
}

/// Both producers commit batches of this many records, one after the other, for so long or until there are so many records.
pub(crate) fn produce(engine: &dyn Engine, batch: usize, length: Duration, most_records: u64) -> Result<Produced> {
    let from = Instant::now();
    let run = |number| -> Result<Produced> {
        let mut producer = Producer { number, produced: 0 };
        let mut done = Produced::default();
        while from.elapsed() < length && done.records < most_records / PRODUCERS {
            engine.commit(&producer.batch(batch))?;
            done.records += batch as u64;
            done.commits += 1;
        }
        Ok(done)
    };
    let every = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PRODUCERS).map(|number| scope.spawn(move || run(number))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a producer"))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(every.into_iter().fold(Produced::default(), |sum, one| Produced {
        records: sum.records + one.records,
        commits: sum.commits + one.commits,
    }))
}
