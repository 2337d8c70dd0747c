//! Embedded engines as the medium of the store, beside a plain segmented log, under one workload. Every measurement is a process of
//! its own in a fresh directory; all engines take their turn before the next repetition; what is printed are medians.
//!
//!   engines [--repetitions 3] [--seconds 2] [--records 1000000] [--dir target/engines]

mod bare;
mod engine;
mod fjall;
mod measure;
mod raft;
mod report;
mod segmented;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What the command line asks for.
struct Options {
    repetitions: usize,
    seconds: f64,
    records: u64,
    dir: PathBuf,
    /// Engine and step: this process is one of the measuring ones.
    step: Option<(String, String)>,
}

fn main() -> Result<()> {
    let options = parse(std::env::args().skip(1))?;
    match &options.step {
        None => report::all(&options),
        Some((engine, step)) => measure::step(engine, step, &options),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        repetitions: 3,
        seconds: 2.0,
        records: 1_000_000,
        dir: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/engines")),
        step: None,
    };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{name} needs a value"));
        match name.as_str() {
            "--repetitions" => options.repetitions = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--records" => options.records = value()?.parse()?,
            "--dir" => options.dir = value()?.into(),
            "--step" => options.step = Some((value()?, value()?)),
            _ => bail!("{name} is no option"),
        }
    }
    Ok(options)
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}
