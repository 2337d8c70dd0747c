//! What is usual: a mean and a deviation of which the past counts ever less, and the most that was seen.
//!
//! Counts are looked at as logarithms, so that "four times as much" is the same distance for a sensor and for a gateway, and a
//! burst does not drown what came before.

/// A weighted mean and deviation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual {
    mean: f32,
    variance: f32,
    seen: u16,
}

/// The least that is taken for a deviation: a client that never varies may begin to.
const LEAST_DEVIATION: f64 = 0.25;
/// Deviations beyond which a value is not learned as it is: who attacks must not teach us that this is usual.
const MOST_LEARNED: f64 = 3.0;

impl Usual {
    pub(crate) fn mean(&self) -> f64 {
        f64::from(self.mean)
    }

    pub(crate) fn deviation(&self) -> f64 {
        f64::from(self.variance).sqrt().max(LEAST_DEVIATION)
    }

    /// Values that were learned.
    pub(crate) fn seen(&self) -> u32 {
        u32::from(self.seen)
    }

    /// How many deviations above, or below, what is usual.
    pub(crate) fn distance(&self, value: f64) -> f64 {
        (value - self.mean()) / self.deviation()
    }

    /// Takes a value in; `weight` is that of one value among many. The first ones count alike.
    pub(crate) fn learn(&mut self, value: f64, weight: f64, is_known: bool) {
        let value = match is_known {
            true => self.mean() + self.distance(value).clamp(-MOST_LEARNED, MOST_LEARNED) * self.deviation(),
            false => value,
        };
        let weight = weight.max(1.0 / (f64::from(self.seen) + 1.0));
        let off = value - self.mean();
        self.mean = (self.mean() + weight * off) as f32;
        let variance = (1.0 - weight) * (f64::from(self.variance) + weight * off * off);
        self.variance = variance as f32;
        self.seen = self.seen.saturating_add(1);
    }
}

/// A mean for each hour of the day.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByHour([Usual; 24]);

impl ByHour {
    /// Windows of one hour after which it is known.
    const KNOWN: u32 = 30;

    pub(crate) fn at(&self, started_ms: u64) -> Option<&Usual> {
        self.0.get(hour(started_ms)).filter(|usual| usual.seen() >= Self::KNOWN)
    }

    pub(crate) fn learn(&mut self, started_ms: u64, value: f64, weight: f64) {
        if let Some(usual) = self.0.get_mut(hour(started_ms)) {
            let is_known = usual.seen() >= Self::KNOWN;
            usual.learn(value, weight, is_known);
        }
    }
}

fn hour(started_ms: u64) -> usize {
    (started_ms / 3_600_000 % 24) as usize
}

/// One count of a client, as it usually is and as it was at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) usual: Usual,
    /// Logarithm of the most, which is forgotten slowly.
    peak: f32,
    /// The same, but it rises slowly, too: what lasts for minutes only leaves it nearly as it was.
    ceiling: f32,
}

/// Deviations that are odd, where the most that was seen is exceeded, too.
const ODD_DEVIATIONS: f64 = 3.0;

impl Count {
    /// Far above what is usual, and above all that was seen.
    pub(crate) fn is_exceeded(&self, count: f64, factor: f64) -> bool {
        let value = scale(count);
        let above = (ODD_DEVIATIONS * self.usual.deviation()).max(factor.ln());
        value > self.usual.mean() + above && value > f64::from(self.peak) + ABOVE_PEAK
    }

    /// So many times what was ever seen that once is enough.
    pub(crate) fn is_dwarfed(&self, count: f64) -> bool {
        let most = f64::from(self.peak).max(self.usual.mean());
        scale(count) > most + DWARFED
    }

    /// How many deviations above the mean, where that is above all that has lasted; else 0.
    pub(crate) fn above_ceiling(&self, count: f64) -> f64 {
        let value = scale(count);
        match value > f64::from(self.ceiling) + ABOVE_CEILING {
            true => self.usual.distance(value),
            false => 0.0,
        }
    }

    /// What is usual, as a count.
    pub(crate) fn usual_count(&self) -> f64 {
        self.usual.mean().exp_m1()
    }

    /// What was seen at most, as a count.
    pub(crate) fn peak_count(&self) -> f64 {
        f64::from(self.peak).exp_m1()
    }

    /// `is_odd`: it is not to become what was seen at most.
    pub(crate) fn learn(&mut self, count: f64, weight: f64, is_known: bool, is_odd: bool) {
        let value = scale(count);
        let faded = |most: f32| f64::from(most) - FADING;
        self.peak = match is_odd {
            true => faded(self.peak),
            false => faded(self.peak).max(value),
        } as f32;
        let risen = match is_known {
            true => value.min(f64::from(self.ceiling) + RISING),
            false => value,
        };
        self.ceiling = faded(self.ceiling).max(risen) as f32;
        self.usual.learn(value, weight, is_known);
    }
}

/// Logarithms. Half as much again as ever.
const ABOVE_PEAK: f64 = 0.405;
/// Ten times as much as ever.
const DWARFED: f64 = 2.303;
/// A fifth more than what has lasted.
const ABOVE_CEILING: f64 = 0.182;
/// A tenth in a day of minutes is forgotten of the most.
const FADING: f64 = 0.000_066;
/// So much, in each window, does the ceiling rise: twice as much must last for two hours of minutes.
const RISING: f64 = 0.005;

/// Counts as they are compared.
pub(crate) fn scale(count: f64) -> f64 {
    count.max(0.0).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_the_deviation_is_that_of_what_was_seen() {
        let mut usual = Usual::default();
        for n in 0..1_000 {
            usual.learn(if n % 2 == 0 { 9.0 } else { 11.0 }, 0.01, n > 30);
        }
        assert!((usual.mean() - 10.0).abs() < 0.1, "{usual:?}");
        assert!((usual.deviation() - 1.0).abs() < 0.1, "{usual:?}");
        for _ in 0..1_000 {
            usual.learn(20.0, 0.01, true);
        }
        assert!((usual.mean() - 20.0).abs() < 0.5, "{usual:?}");
    }

    #[test]
    fn one_wild_value_teaches_little() {
        let mut usual = Usual::default();
        for _ in 0..100 {
            usual.learn(1.0, 0.01, true);
        }
        let before = usual.mean();
        usual.learn(1_000_000.0, 0.01, true);
        assert!(usual.mean() - before < 0.02, "{usual:?}");
    }

    #[test]
    fn what_is_odd_is_above_all_that_was_seen() {
        let mut count = Count::default();
        for n in 0..100 {
            count.learn(if n % 20 == 0 { 400.0 } else { 20.0 }, 0.01, n > 30, false);
        }
        assert!(!count.is_exceeded(400.0, 4.0), "it was there before");
        assert!(!count.is_exceeded(60.0, 4.0), "no four times");
        assert!(count.is_exceeded(8_000.0, 4.0));
        assert!(!count.is_dwarfed(3_900.0) && count.is_dwarfed(4_200.0));
    }

    #[test]
    fn hours_are_known_after_some_days() {
        let mut hours = ByHour::default();
        for _ in 0..30 {
            hours.learn(8 * 3_600_000, 5.0, 0.01);
        }
        assert!(hours.at(8 * 3_600_000 + 24 * 3_600_000).is_some());
        assert!(hours.at(9 * 3_600_000).is_none());
    }
}
