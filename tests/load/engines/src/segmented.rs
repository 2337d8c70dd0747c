//! A prototype of an own log: segments of 64 MiB, one writer thread, one write and one fdatasync for all that waits. It keeps no
//! index: what the store derives from the records is the index.
//!
//! A batch is `[bytes: u32][crc32c: u32]` and its records `[bytes: u32][partition: u8][record]`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

use crate::engine::Engine;
use crate::workload::Record;

const SEGMENT_BYTES: u64 = 64 << 20;
const RECLAIM_STEP_BYTES: usize = 256 << 10;
const FRAME_BYTES: usize = 8;

pub(crate) struct Segmented {
    dir: PathBuf,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Encoded records that the writer has not taken.
    waiting: Vec<u8>,
    /// The batch that `waiting` becomes, and the last durable one.
    next_batch: u64,
    durable_batch: u64,
    /// The first segment that is not yet sealed.
    active_segment: u64,
    failed: Option<String>,
    closed: bool,
}

impl Segmented {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let first_free = segments(dir)?.last().map_or(1, |(number, _)| number + 1);
        let shared = Arc::new(Shared::default());
        shared.lock().next_batch = 1;
        let writer = Writer::open(dir, first_free)?;
        shared.lock().active_segment = writer.number;
        let of_writer = shared.clone();
        let thread = std::thread::spawn(move || writer.run(&of_writer));
        Ok(Self {
            dir: dir.into(),
            shared,
            writer: Some(thread),
        })
    }

    /// Adds the records to the next batch and waits until it is durable.
    fn commit_encoded(&self, encoded: &[u8]) -> Result<()> {
        let mut state = self.shared.lock();
        state.waiting.extend_from_slice(encoded);
        let batch = state.next_batch;
        self.shared.changed.notify_all();
        while state.durable_batch < batch && state.failed.is_none() {
            state = self.shared.changed.wait(state).expect("no one panics");
        }
        ensure!(state.failed.is_none(), "{:?}", state.failed);
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no one panics")
    }
}

impl Engine for Segmented {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let mut encoded = Vec::with_capacity(records.iter().map(|record| record.bytes.len() + 5).sum());
        for record in records {
            encode(record.partition, &record.bytes, &mut encoded);
        }
        self.commit_encoded(&encoded)
    }

    fn replay(&self, each: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
        for (_, path) in segments(&self.dir)? {
            read_segment(&path, each)?;
        }
        Ok(())
    }

    /// Oldest first: what is live of a segment is appended again, then the file goes.
    fn reclaim(&self, is_live: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let active = self.shared.lock().active_segment;
        for (_, path) in segments(&self.dir)?.into_iter().filter(|(number, _)| *number < active) {
            let mut steps = vec![Vec::new()];
            read_segment(&path, &mut |partition, record| {
                if is_live(record) {
                    if steps.last().is_some_and(|step| step.len() >= RECLAIM_STEP_BYTES) {
                        steps.push(Vec::new());
                    }
                    encode(partition, record, steps.last_mut().expect("one is there"));
                }
            })?;
            for step in steps.iter().filter(|step| !step.is_empty()) {
                self.commit_encoded(step)?;
            }
            fs::remove_file(path)?;
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Segmented {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(writer) = self.writer.take() {
            writer.join().expect("the writer");
        }
    }
}

struct Writer {
    dir: PathBuf,
    file: File,
    number: u64,
    written: u64,
}

impl Writer {
    fn open(dir: &Path, number: u64) -> Result<Self> {
        let file = File::create_new(dir.join(format!("{number:020}.log")))?;
        // The length is set once: otherwise every fdatasync would have to commit a new one as well.
        file.set_len(SEGMENT_BYTES)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            dir: dir.into(),
            file,
            number,
            written: 0,
        })
    }

    fn run(mut self, shared: &Shared) {
        let mut batch = Vec::new();
        loop {
            let mut state = shared.lock();
            while state.waiting.is_empty() && !state.closed {
                state = shared.changed.wait(state).expect("no one panics");
            }
            if state.waiting.is_empty() {
                drop(state);
                return self.seal().expect("a segment can be cut");
            }
            batch.clear();
            std::mem::swap(&mut batch, &mut state.waiting);
            let number = state.next_batch;
            state.next_batch += 1;
            drop(state);
            let written = self.write(&batch);
            let mut state = shared.lock();
            state.durable_batch = number;
            state.active_segment = self.number;
            state.failed = written.err().map(|error| error.to_string());
            shared.changed.notify_all();
        }
    }

    /// Cuts what was not written.
    fn seal(&self) -> Result<()> {
        self.file.set_len(self.written)?;
        Ok(self.file.sync_all()?)
    }

    fn write(&mut self, batch: &[u8]) -> Result<()> {
        if self.written >= SEGMENT_BYTES {
            self.seal()?;
            *self = Self::open(&self.dir, self.number + 1)?;
        }
        let mut frame = Vec::with_capacity(FRAME_BYTES + batch.len());
        frame.extend_from_slice(&(batch.len() as u32).to_le_bytes());
        frame.extend_from_slice(&crc32c::crc32c(batch).to_le_bytes());
        frame.extend_from_slice(batch);
        self.file.write_all(&frame)?;
        self.file.sync_data()?;
        self.written += frame.len() as u64;
        Ok(())
    }
}

fn encode(partition: u8, record: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&(record.len() as u32).to_le_bytes());
    into.push(partition);
    into.extend_from_slice(record);
}

fn read_segment(path: &Path, each: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
    let bytes = fs::read(path)?;
    let mut rest = &bytes[..];
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        // Zeros: nothing was written from here on.
        if *head == [0; 4] {
            break;
        }
        let (crc, tail) = tail.split_first_chunk::<4>().context("torn")?;
        let (batch, tail) = tail
            .split_at_checked(u32::from_le_bytes(*head) as usize)
            .context("torn")?;
        ensure!(crc32c::crc32c(batch) == u32::from_le_bytes(*crc), "damaged");
        read_batch(batch, each)?;
        rest = tail;
    }
    Ok(())
}

fn read_batch(mut batch: &[u8], each: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
    while let Some((bytes, rest)) = batch.split_first_chunk::<4>() {
        let (partition, rest) = rest.split_first().context("no partition")?;
        let (record, rest) = rest
            .split_at_checked(u32::from_le_bytes(*bytes) as usize)
            .context("no record")?;
        each(*partition, record);
        batch = rest;
    }
    Ok(())
}

/// The segments by number, oldest first.
fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        found.push((number.context("a stranger")?, path));
    }
    found.sort();
    Ok(found)
}
