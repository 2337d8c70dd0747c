//! All measurements in turn, and their medians as a Markdown table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::engine::ENGINES;

const BATCHES: [usize; 3] = [1, 100, 10_000];
const FLOOR: &str = ENGINES[0];

/// The figures of every engine by step and name, one of each repetition.
type Figures = BTreeMap<(String, String, String), Vec<f64>>;

pub(crate) fn all(options: &Options) -> Result<()> {
    let mut figures = Figures::new();
    for repetition in 1..=options.repetitions {
        for engine in ENGINES {
            for batch in BATCHES {
                fresh(&options.dir)?;
                run(engine, &format!("commit-{batch}"), options, &mut figures)?;
            }
            if engine != FLOOR {
                fresh(&options.dir)?;
                for step in ["fill", "replay", "reclaim"] {
                    run(engine, step, options, &mut figures)?;
                }
            }
            eprintln!("{repetition}: {engine}");
        }
    }
    fs::remove_dir_all(&options.dir)?;
    print_table(&figures);
    Ok(())
}

fn fresh(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

/// A step in a process of its own.
fn run(engine: &str, step: &str, options: &Options, figures: &mut Figures) -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--step", engine, step, "--dir"])
        .arg(&options.dir)
        .args([
            "--seconds",
            &options.seconds.to_string(),
            "--records",
            &options.records.to_string(),
        ])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{engine}, {step}: {errors}");
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, value) = line.split_once(' ').context("name and value")?;
        let key = (engine.to_owned(), step.to_owned(), name.to_owned());
        figures.entry(key).or_default().push(value.parse()?);
    }
    Ok(())
}

fn print_table(figures: &Figures) {
    println!("| | {} |\n|---|{}", ENGINES.join(" | "), "---|".repeat(ENGINES.len()));
    for (title, name) in [
        ("CPU microseconds per record", "cpu_us_per_record"),
        ("durable commits per second", "commits_per_s"),
        ("bytes written per byte of records", "written_per_byte"),
    ] {
        for batch in BATCHES {
            row(
                figures,
                &format!("{title}, {batch} per commit"),
                &format!("commit-{batch}"),
                name,
            );
        }
    }
    for (title, step, name) in [
        ("open and replay all records (s)", "replay", "replay_s"),
        ("resident then (MiB)", "replay", "resident_mib"),
        ("reclaim with 90% dead (s)", "reclaim", "reclaim_s"),
        ("the same, CPU (s)", "reclaim", "reclaim_cpu_s"),
        ("the same, written (MB)", "reclaim", "reclaim_written_mb"),
        ("left on the disk after it (MB)", "reclaim", "left_on_disk_mb"),
    ] {
        row(figures, title, step, name);
    }
}

fn row(figures: &Figures, title: &str, step: &str, name: &str) {
    let cells = ENGINES.map(|engine| {
        let key = (engine.to_owned(), step.to_owned(), name.to_owned());
        figures.get(&key).map_or(String::new(), |values| number(median(values)))
    });
    println!("| {title} | {} |", cells.join(" | "));
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
