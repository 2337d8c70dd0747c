//! One measurement: a step of an engine in this process, its figures on standard output as `name value` lines.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Options;
use crate::engine::{self, Engine};
use crate::workload::{self, RECORD_BYTES};

/// Time enough for any number of records.
const NO_END: Duration = Duration::from_secs(3_600);
/// Batches that fill a log quickly.
const FILL_BATCH: usize = 10_000;

/// `commit-N`, `fill`, `replay` or `reclaim`, in the directory of the options.
pub(crate) fn step(name: &str, step: &str, options: &Options) -> Result<()> {
    let dir = &options.dir;
    match step {
        "fill" => {
            let engine = engine::open(name, dir)?;
            workload::produce(&*engine, FILL_BATCH, NO_END, options.records)?;
            engine.settle()
        }
        "replay" => replay(name, options),
        "reclaim" => reclaim(&*engine::open(name, dir)?, dir),
        _ => match step.strip_prefix("commit-") {
            Some(records) => commit(&*engine::open(name, dir)?, records.parse()?, options.length()),
            None => bail!("{step} is no step"),
        },
    }
}

fn commit(engine: &dyn Engine, batch: usize, length: Duration) -> Result<()> {
    let before = Usage::now()?;
    let produced = workload::produce(engine, batch, length, u64::MAX)?;
    let wall = before.from.elapsed();
    engine.settle()?;
    let used = before.until_now()?;
    let records = produced.records as f64;
    say("cpu_us_per_record", used.cpu.as_secs_f64() * 1e6 / records);
    say("commits_per_s", produced.commits as f64 / wall.as_secs_f64());
    say(
        "written_per_byte",
        used.written as f64 / (records * RECORD_BYTES as f64),
    );
    Ok(())
}

fn replay(name: &str, options: &Options) -> Result<()> {
    let resident_before = resident_bytes()?;
    let from = Instant::now();
    let engine = engine::open(name, &options.dir)?;
    let mut records = 0;
    engine.replay(&mut |_, record| {
        std::hint::black_box(record);
        records += 1;
    })?;
    ensure!(records == options.records, "{records} of {} records", options.records);
    say("replay_s", from.elapsed().as_secs_f64());
    say(
        "resident_mib",
        (resident_bytes()? - resident_before) / f64::from(1 << 20),
    );
    Ok(())
}

fn reclaim(engine: &dyn Engine, dir: &Path) -> Result<()> {
    let before = Usage::now()?;
    engine.reclaim(&workload::is_live)?;
    let used = before.until_now()?;
    say("reclaim_s", used.wall.as_secs_f64());
    say("reclaim_cpu_s", used.cpu.as_secs_f64());
    say("reclaim_written_mb", used.written as f64 / 1e6);
    say("left_on_disk_mb", disk_bytes(dir)? as f64 / 1e6);
    Ok(())
}

fn say(name: &str, value: f64) {
    println!("{name} {value}");
}

/// What this process has used.
struct Usage {
    from: Instant,
    wall: Duration,
    cpu: Duration,
    /// Bytes that it gave to the kernel to be written.
    written: u64,
}

impl Usage {
    fn now() -> Result<Self> {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let io = fs::read_to_string("/proc/self/io")?;
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("wchar: "))
            .context("wchar")?;
        Ok(Self {
            from: Instant::now(),
            wall: Duration::ZERO,
            cpu: Duration::new(cpu.tv_sec.try_into()?, cpu.tv_nsec.try_into()?),
            written: written.parse()?,
        })
    }

    fn until_now(&self) -> Result<Self> {
        let now = Self::now()?;
        Ok(Self {
            from: self.from,
            wall: now.from - self.from,
            cpu: now.cpu - self.cpu,
            written: now.written - self.written,
        })
    }
}

fn resident_bytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// What the files take on the disk, which is not their length where there are holes.
fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
