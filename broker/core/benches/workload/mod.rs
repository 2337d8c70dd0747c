//! Families of filters with a wildcard each, of which every topic matches exactly one.

use std::fmt;

/// One family: its filters and the topics that they match, by number.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    name: &'static str,
    pub(crate) filter: fn(usize) -> String,
    pub(crate) topic: fn(usize) -> String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

pub(crate) const FLAT: Workload = Workload {
    name: "flat",
    filter: |n| format!("dev/{n}/+"),
    topic: |n| format!("dev/{n}/up"),
};

pub(crate) const DEEP: Workload = Workload {
    name: "deep",
    filter: |n| deep_filter(n, 1 + n % 4),
    topic: deep_topic,
};

/// More shapes than one broker's clients are likely to think of.
pub(crate) const MANY_SHAPES: Workload = Workload {
    name: "many shapes",
    filter: |n| deep_filter(n, 1 + n % 127),
    topic: deep_topic,
};

pub(crate) const WORKLOADS: [Workload; 3] = [FLAT, DEEP, MANY_SHAPES];

fn deep_topic(n: usize) -> String {
    let (site, hall, line, cell) = (n % 7, n % 31, n % 101, n % 307);
    format!("site{site}/hall{hall}/line{line}/cell{cell}/robot/axis/sensor/{n}/value")
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

/// Numbers below `bound`, uniformly random, the same in every run.
pub(crate) struct Numbers {
    state: u64,
    bound: usize,
}

impl Numbers {
    pub(crate) fn below(bound: usize) -> Self {
        Self {
            state: 0x2545_F491_4F6C_DD1D,
            bound,
        }
    }

    pub(crate) fn next(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % self.bound
    }
}
