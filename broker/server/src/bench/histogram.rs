//! A histogram of durations with a fixed relative error.

/// Each power of two is divided into this many buckets, so a reported value is at most 1/64 too high.
const SUB_BUCKETS: u64 = 64;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
const BUCKETS: usize = ((64 - SUB_BITS + 1) as usize) * SUB_BUCKETS as usize;

/// Counts values from 0 to `u64::MAX` in 30 kB, whatever their number.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            max: 0,
        }
    }

    /// Counts one value.
    #[inline]
    pub(super) fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The largest value recorded, exactly.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `percent` of the recorded values do not exceed; 0 when there are none.
    pub(super) fn percentile(&self, percent: f64) -> u64 {
        let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(index).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    // `value >> shift` lies in SUB_BUCKETS..2 * SUB_BUCKETS; its leading one is what moves to the next group.
    (u64::from(shift) * SUB_BUCKETS + (value >> shift)) as usize
}

/// The largest value that falls into bucket `index`.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB_BUCKETS {
        return index;
    }
    let shift = index / SUB_BUCKETS - 1;
    let mantissa = index % SUB_BUCKETS + SUB_BUCKETS;
    (mantissa << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_a_sixtyfourth_below_its_bucket_end() {
        for value in [
            0,
            1,
            63,
            64,
            65,
            127,
            128,
            129,
            1_000,
            1_000_003,
            u64::MAX / 3,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let top = highest(bucket(value));
            assert!(top >= value, "{value} is above the end {top} of its bucket");
            assert!(top - value <= value / SUB_BUCKETS, "{value} is too far from {top}");
        }
    }

    #[test]
    fn buckets_are_contiguous() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(highest(index)), index);
            assert_eq!(bucket(highest(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        (1..=100).for_each(|value| histogram.record(value * 1_000));
        let near = |percent, expected: u64| {
            let found = histogram.percentile(percent);
            assert!(
                found >= expected && found - expected <= expected / 64,
                "p{percent} is {found}"
            );
        };
        near(50.0, 50_000);
        near(99.0, 99_000);
        near(100.0, 100_000);
        assert_eq!(histogram.max(), 100_000);
        assert_eq!(histogram.count, 100);
    }

    #[test]
    fn an_empty_histogram_says_zero() {
        assert_eq!(Histogram::new().percentile(99.0), 0);
    }
}
