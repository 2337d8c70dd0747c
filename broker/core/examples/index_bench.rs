//! Measures the subscription index: nanoseconds per match and resident bytes per subscription, where every subscription has a
//! wildcard, every topic matches exactly one, and topics are uniformly random over all filters.
//!
//! `cargo run --release --example index_bench -p nervewire-core`

use nervewire_core::index::Index;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const MATCHES: usize = 2_000_000;

/// Topics that are made before they are matched.
const BATCH: usize = 256;

/// Counts allocated bytes, rounded and with the bookkeeping of glibc's allocator.
struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

fn footprint(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call is handed on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(footprint(layout), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(footprint(layout), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a broker keeps with a subscription.
#[derive(Clone, Copy)]
struct Options {
    _subscription_identifier: u32,
    _flags: u32,
}

/// Filters and matching topics of one workload, by number.
struct Workload {
    name: &'static str,
    filter: fn(usize) -> String,
    topic: fn(usize) -> String,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "flat dev<n>/#",
        filter: |n| format!("dev{n}/#"),
        topic: |n| format!("dev{n}/up"),
    },
    Workload {
        name: "flat dev/<n>/+",
        filter: |n| format!("dev/{n}/+"),
        topic: |n| format!("dev/{n}/up"),
    },
    Workload {
        name: "deep, 8 shapes",
        filter: |n| deep_filter(n, n % 8),
        topic: |n| deep_topic(n),
    },
    Workload {
        name: "deep, 127 shapes",
        filter: |n| deep_filter(n, 1 + n % 127),
        topic: |n| deep_topic(n),
    },
];

fn deep_topic(n: usize) -> String {
    format!(
        "site{}/hall{}/line{}/cell{}/robot/axis/sensor/{n}/value",
        n % 7,
        n % 31,
        n % 101,
        n % 307
    )
}

/// The topic's filter with `+` at the bits among its first levels, and `#` at the end of every second one.
fn deep_filter(n: usize, bits: usize) -> String {
    let topic = deep_topic(n);
    let levels = topic.split('/').enumerate();
    let levels = levels.map(|(at, level)| match (at, bits >> at & 1 == 1) {
        (8, _) if n.is_multiple_of(2) => "#",
        (8, _) | (0..=6, true) => "+",
        _ => level,
    });
    levels.collect::<Vec<_>>().join("/")
}

/// A small generator, so that both measurements see the same topics.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

fn measure(workload: &Workload, subscriptions: usize) {
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    let started = Instant::now();
    let mut index = Index::new();
    for n in 0..subscriptions {
        let options = Options {
            _subscription_identifier: n as u32,
            _flags: 0,
        };
        index.insert(&(workload.filter)(n), n as u32, options);
    }
    let insert_ns = started.elapsed().as_nanos() as usize / subscriptions;
    let bytes = (ALLOCATED_BYTES.load(Ordering::Relaxed) - before) / subscriptions;

    let mut state = 0x2545_F491_4F6C_DD1D;
    let mut found = 0;
    let mut batches_ns = Vec::new();
    for _ in 0..MATCHES / BATCH {
        // As many topics as a pass reads: they are in the processor's cache when they are matched, the index is not.
        let topics: Vec<_> = (0..BATCH)
            .map(|_| (workload.topic)(random(&mut state) % subscriptions))
            .collect();
        let started = Instant::now();
        for topic in &topics {
            index.matches(topic, &mut |subscriber, options| {
                black_box((subscriber, options));
                found += 1;
            });
        }
        batches_ns.push(started.elapsed().as_nanos() as usize);
    }
    let matches = MATCHES / BATCH * BATCH;
    // The median, because other processes take their share of some batches.
    batches_ns.sort_unstable();
    let match_ns = batches_ns[batches_ns.len() / 2] / BATCH;
    assert_eq!(found, matches, "{}: every topic matches one filter", workload.name);
    println!(
        "{:<18} {subscriptions:>9} subscriptions: {match_ns:>5} ns per match, {bytes:>4} bytes per subscription, {insert_ns:>5} ns per insertion",
        workload.name
    );
}

fn main() {
    for workload in &WORKLOADS {
        for subscriptions in [1_000, 100_000, 1_000_000] {
            measure(workload, subscriptions);
        }
    }
}
