//! Whole shards of the real core under a simulated network, clock, mesh and store, with clients that keep to the protocol; every
//! choice follows from one seed. Checked is what an acknowledgement promises: nothing that was acknowledged is lost to a durable
//! session, QoS 2 comes once, order holds, no session and no retained message is lost or comes back, bounds hold, and everything
//! comes to rest when faults are over.
//!
//! `NERVEWIRE_SIM_SEEDS=10000 cargo test -p nervewire-store --test simulation` runs so many seeds instead of a few hundred;
//! `NERVEWIRE_SIM_SEED=123` runs one, and prints all that happened in it.

mod broker;
mod checks;
mod client;
mod disk;
mod hearing;
mod net;
mod oracle;
mod plan;
mod random;
mod store;
mod trace;
mod world;

use nervewire_core::planted::Planted;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use trace::Trace;
use world::{Bug, World};

/// Seeds that `cargo test` runs.
const SEEDS: u64 = 500;
/// Within so many every planted bug is found.
const SEEDS_PER_BUG: u64 = 500;
/// Lines of a failing run that are printed, the last ones.
const LINES: usize = 150;

/// A seed that does not hold what was promised.
struct Failure {
    seed: u64,
    why: String,
}

#[test]
fn every_seed_keeps_what_was_promised() {
    if let Some(seed) = number("NERVEWIRE_SIM_SEED") {
        let (outcome, trace) = run(seed, None, Trace::recording());
        println!("{}", trace.lines.unwrap_or_default().join("\n"));
        return assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err());
    }
    let seeds = number("NERVEWIRE_SIM_SEEDS").unwrap_or(SEEDS);
    if let Some(failure) = first_failure(seeds, None) {
        panic!("{}", told(&failure, None));
    }
}

#[test]
fn a_bug_that_acknowledges_before_the_commit_is_found() {
    find(Bug::OfCore(Planted::AcknowledgeBeforeCommit));
}

#[test]
fn a_bug_that_forgets_a_qos_2_identifier_is_found() {
    find(Bug::OfCore(Planted::ForgetIdentifier));
}

#[test]
fn a_bug_that_drops_a_message_on_takeover_is_found() {
    find(Bug::OfCore(Planted::DropOnTakeover));
}

#[test]
fn a_bug_that_reorders_after_redelivery_is_found() {
    find(Bug::OfCore(Planted::ReorderAfterRedelivery));
}

#[test]
fn a_bug_that_applies_records_of_a_stale_epoch_is_found() {
    find(Bug::StaleEpoch);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let hashes = [(); 2].map(|()| run(seed, None, Trace::recording()).1.hash());
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}

/// The bug is found, and it is the bug that is found.
fn find(bug: Bug) {
    let Some(failure) = first_failure(SEEDS_PER_BUG, Some(bug)) else {
        panic!("{bug:?} is not found in {SEEDS_PER_BUG} seeds");
    };
    println!("{bug:?} is found by seed {}: {}", failure.seed, failure.why);
    let (without, _) = run(failure.seed, None, Trace::default());
    assert_eq!(without, Ok(()), "{}", told(&failure, None));
}

/// One run, and why it failed.
fn run(seed: u64, planted: Option<Bug>, trace: Trace) -> (Result<(), String>, Trace) {
    let mut world = World::new(seed, planted, trace);
    let outcome = match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(kept) => kept.map_err(|violation| violation.0),
        Err(panic) => Err(format!("panicked: {}", message_of(&*panic))),
    };
    (outcome, world.trace)
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// Runs seeds on all processors until one fails; the lowest of those that did.
fn first_failure(seeds: u64, planted: Option<Bug>) -> Option<Failure> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sender, failures) = mpsc::channel();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (next, failed, sender) = (&next, &failed, sender.clone());
            scope.spawn(move || {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let (Err(why), _) = run(seed, planted, Trace::default()) {
                        failed.store(true, Ordering::Relaxed);
                        let _ = sender.send(Failure { seed, why }); // Received below, behind all workers.
                    }
                }
            });
        }
    });
    drop(sender);
    failures.into_iter().min_by_key(|failure| failure.seed)
}

/// What happened in a run, to be read, and how to run it again.
fn told(failure: &Failure, planted: Option<Bug>) -> String {
    let seed = failure.seed;
    let lines = run(seed, planted, Trace::recording()).1.lines.unwrap_or_default();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let again = format!("NERVEWIRE_SIM_SEED={seed} cargo test -p nervewire-store --test simulation every_seed");
    format!(
        "{last}\nseed {seed}: {}\nagain, with everything that led to it: {again}",
        failure.why
    )
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text}")),
    )
}
