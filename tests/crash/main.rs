//! Acknowledged means stored: the real binary under a mixed load, killed at any moment, and judged by what its clients saw.
//! See README.md here for how to run more of it.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod clients;
mod disk_faults;
mod fleet;
mod link;
mod oracle;
mod power;
mod random;
mod run;

use oracle::Figures;
use random::Random;
use run::{FailPoint, Run, from_environment};
use std::time::SystemTime;

/// Cycles of each kind unless the environment wants another number.
const CYCLES: u64 = 5;

/// Where a debug build of the broker can kill itself: the steps of a commit, then those of a checkpoint.
const FAIL_POINTS: [&str; 8] = [
    "before-write",
    "mid-write",
    "after-write",
    "after-sync",
    "after-complete",
    "after-new-segment",
    "before-delete",
    "after-delete",
];

fn seed() -> u64 {
    let now = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
    };
    from_environment("NERVEWIRE_CRASH_SEED", || u64::from(now().subsec_nanos()))
}

#[test]
fn killed_at_any_moment_it_loses_nothing_acknowledged() {
    let mut run = Run::new(seed(), "fsync");
    for _ in 0..from_environment("NERVEWIRE_CRASH_CYCLES", || CYCLES) {
        run.cycle(None);
    }
    expect_nothing_wrong(run);
}

/// Each point once; with more cycles in the environment again and again.
#[test]
#[cfg(debug_assertions)] // A release build has no such points.
fn killed_at_each_step_of_a_commit_it_loses_nothing_acknowledged() {
    let seed = seed();
    let (mut run, mut random) = (Run::new(seed, "fsync"), Random::new(seed));
    let cycles = from_environment("NERVEWIRE_CRASH_CYCLES", || 0).max(FAIL_POINTS.len() as u64);
    for cycle in 0..cycles {
        let name = FAIL_POINTS[cycle as usize % FAIL_POINTS.len()];
        // Segments begin and end seldom.
        let hit = if name.ends_with("write") || name.starts_with("after-sync") || name == "after-complete" {
            random.within(1..200)
        } else {
            random.within(1..3)
        };
        run.cycle(Some(FailPoint { name, hit }));
    }
    let figures = expect_nothing_wrong(run);
    for name in FAIL_POINTS {
        assert!(
            figures.fail_points.contains_key(name),
            "the broker was never killed at {name}"
        );
    }
}

#[test]
fn a_power_cut_takes_nothing_acknowledged() {
    let mut run = Run::new(seed(), "fsync").with_power_cuts(true);
    for _ in 0..from_environment("NERVEWIRE_POWER_CUTS", || CYCLES) {
        run.cycle(None);
    }
    expect_nothing_wrong(run);
}

/// The cuts above are none if they spare what was written and not synced.
#[test]
fn a_power_cut_takes_what_was_only_written() {
    let mut run = Run::new(seed(), "os").with_large_segments().with_power_cuts(false);
    for _ in 0..2 {
        run.cycle(None);
    }
    let (figures, violations) = run.end();
    assert!(figures.lost > 0, "{violations:#?}");
}

/// What the oracle finds above is the broker's doing, not its own.
#[test]
fn the_oracle_finds_nothing_wrong_with_a_broker_that_lives() {
    let mut run = Run::new(seed(), "os");
    run.load(5_000);
    expect_nothing_wrong(run);
}

/// The same load on a broker that keeps nothing: what would go unseen here would go unseen above.
#[test]
fn the_oracle_sees_what_a_broker_loses_that_keeps_nothing() {
    let mut run = Run::new(seed(), "memory");
    for _ in 0..2 {
        run.cycle(None);
    }
    let (figures, violations) = run.end();
    assert!(
        figures.lost > 0 && figures.sessions_lost > 0 && figures.retained_wrong > 0,
        "{violations:#?}"
    );
}

fn expect_nothing_wrong(run: Run) -> Figures {
    let (figures, violations) = run.end();
    assert!(violations.is_empty(), "{violations:#?}\n{figures}");
    assert_eq!(figures.dropped, 0, "bounds of this load drop nothing");
    figures
}
