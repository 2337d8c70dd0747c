//! What a match, a subscription and a retained message cost, and how many bytes a subscription occupies.
//!
//! Every subscription has a wildcard, every topic matches exactly one, and topics are uniformly random over all filters, so
//! that nothing which remembers topics could answer for the index.
//!
//!     cargo bench -p nervewire-core --bench index

mod workload;

use bytes::Bytes;
use divan::{Bencher, black_box, counter::ItemsCount};
use nervewire_codec::{QoS, Utf8String};
use nervewire_core::hook::AppMessage;
use nervewire_core::index::Index;
use nervewire_core::message::Message;
use nervewire_core::retained::Retained;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use workload::{Numbers, WORKLOADS, Workload};

const SUBSCRIPTIONS: [usize; 3] = [1_000, 100_000, 1_000_000];

/// As many topics as a pass may read: they are in the processor's cache when they are matched, the index is not.
const BATCH: usize = 256;

const RETAINED: usize = 100_000;

fn main() {
    divan::main();
    print_bytes_per_subscription();
}

/// What a broker keeps with a subscription.
#[derive(Clone, Copy)]
struct Options {
    _subscription_identifier: u32,
    _flags: u32,
}

fn options(n: usize) -> Options {
    Options {
        _subscription_identifier: n as u32,
        _flags: 0,
    }
}

fn filled(workload: &Workload, subscriptions: usize) -> Index<Options> {
    let mut index = Index::new();
    for n in 0..subscriptions {
        index.insert(&(workload.filter)(n), n as u32, options(n));
    }
    index
}

/// Topics that are made before they are measured.
fn batch(text: fn(usize) -> String, numbers: &mut Numbers) -> Vec<String> {
    (0..BATCH).map(|_| text(numbers.next())).collect()
}

mod matching {
    use super::*;

    #[divan::bench(args = WORKLOADS, consts = SUBSCRIPTIONS, sample_count = 1_000, sample_size = 1)]
    fn topics<const SUBSCRIPTIONS: usize>(bencher: Bencher<'_, '_>, workload: &Workload) {
        let index = filled(workload, SUBSCRIPTIONS);
        let mut numbers = Numbers::below(SUBSCRIPTIONS);
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(|| batch(workload.topic, &mut numbers))
            .bench_local_values(|topics| {
                let mut found = 0;
                for topic in &topics {
                    index.matches(topic, &mut |subscriber, options| {
                        black_box((subscriber, options));
                        found += 1;
                    });
                }
                assert_eq!(found, BATCH, "every topic matches one filter");
                topics
            });
    }
}

mod looking_ahead {
    use super::*;

    /// The same, prepared for by windows of sixteen.
    #[divan::bench(args = WORKLOADS, consts = SUBSCRIPTIONS, sample_count = 1_000, sample_size = 1)]
    fn topics<const SUBSCRIPTIONS: usize>(bencher: Bencher<'_, '_>, workload: &Workload) {
        let index = filled(workload, SUBSCRIPTIONS);
        let mut numbers = Numbers::below(SUBSCRIPTIONS);
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(|| batch(workload.topic, &mut numbers))
            .bench_local_values(|topics| {
                for window in topics.chunks(16) {
                    index.prepare(window.iter().map(|topic| topic.as_bytes()));
                    for topic in window {
                        index.matches(topic, &mut |subscriber, options| _ = black_box((subscriber, options)));
                    }
                }
                topics
            });
    }
}

mod changing {
    use super::*;

    /// Beside so many others, a batch of subscriptions comes and goes.
    #[divan::bench(args = WORKLOADS, consts = SUBSCRIPTIONS, sample_count = 100, sample_size = 1)]
    fn insert<const SUBSCRIPTIONS: usize>(bencher: Bencher<'_, '_>, workload: &Workload) {
        let mut index = filled(workload, SUBSCRIPTIONS);
        let mut next = SUBSCRIPTIONS;
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(|| {
                next += BATCH;
                (next - BATCH..next).map(workload.filter).collect::<Vec<_>>()
            })
            .bench_local_values(|filters| {
                for filter in &filters {
                    index.insert(filter, 0, options(0));
                }
                filters
            });
    }

    #[divan::bench(args = WORKLOADS, consts = SUBSCRIPTIONS, sample_count = 100, sample_size = 1)]
    fn remove<const SUBSCRIPTIONS: usize>(bencher: Bencher<'_, '_>, workload: &Workload) {
        let more = 100 * BATCH;
        let mut index = filled(workload, SUBSCRIPTIONS + more);
        let mut left: Vec<_> = (SUBSCRIPTIONS..SUBSCRIPTIONS + more).collect();
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(|| {
                let gone = left.split_off(left.len() - BATCH).into_iter();
                gone.map(|n| (n, (workload.filter)(n))).collect::<Vec<_>>()
            })
            .bench_local_values(|filters| {
                for (n, filter) in &filters {
                    assert!(index.remove(filter, *n as u32).is_some());
                }
                filters
            });
    }
}

mod retained {
    use super::*;

    fn message(n: usize) -> Arc<Message> {
        let topic = format!("building/{}/room/{n}/temperature", n % 100);
        let app = AppMessage {
            topic: Utf8String::try_from(topic).expect("a valid string"),
            payload: Bytes::from_static(&[0; 64]),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: None,
        };
        Arc::new(Message {
            id: n as u64,
            accepted_at: 0,
            app,
            expires_at: None,
            publisher: None,
            tenant: None,
            source: None,
        })
    }

    fn filled() -> Retained {
        let mut retained = Retained::new(usize::MAX, usize::MAX);
        for n in 0..RETAINED {
            retained.set(message(n));
        }
        retained
    }

    #[divan::bench(sample_count = 20, sample_size = 1)]
    fn set_new(bencher: Bencher<'_, '_>) {
        bencher
            .counter(ItemsCount::new(RETAINED))
            .with_inputs(|| (0..RETAINED).map(message).collect::<Vec<_>>())
            .bench_local_values(|messages| {
                let mut retained = Retained::new(usize::MAX, usize::MAX);
                for message in messages {
                    retained.set(message);
                }
                retained
            });
    }

    #[divan::bench(sample_count = 100, sample_size = 1)]
    fn replace(bencher: Bencher<'_, '_>) {
        let mut retained = filled();
        let mut numbers = Numbers::below(RETAINED);
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(|| (0..BATCH).map(|_| message(numbers.next())).collect::<Vec<_>>())
            .bench_local_values(|messages| {
                for message in messages {
                    retained.set(message);
                }
            });
    }

    #[divan::bench(args = ["#", "building/+/room/+/temperature"], sample_count = 20, sample_size = 1)]
    fn gather(bencher: Bencher<'_, '_>, filter: &str) {
        let retained = filled();
        bencher.counter(ItemsCount::new(RETAINED)).bench_local(|| {
            let mut found = Vec::new();
            retained.matching(filter, 0, &mut |message| found.push(message.clone()));
            assert_eq!(found.len(), RETAINED);
            found
        });
    }
}

/// Counts allocated bytes, rounded and with the bookkeeping of glibc's allocator.
struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

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

fn print_bytes_per_subscription() {
    for workload in &WORKLOADS {
        for subscriptions in SUBSCRIPTIONS {
            let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
            let index = filled(workload, subscriptions);
            let bytes = (ALLOCATED_BYTES.load(Ordering::Relaxed) - before) / subscriptions;
            println!("{workload}, {subscriptions} subscriptions: {bytes} bytes for each");
            drop(index);
        }
    }
}
