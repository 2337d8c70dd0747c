//! A generation on probation: whether the plugins that a reload brought fail so often that the reload is to be taken back, and
//! what there is to go back to.

use crate::config::{self, Config};
use crate::driver::ListenerSettings;
use crate::generation::{Generation, LoadedPlugin};
use nervewire_plugin_host::{Call, Outcome, Plugin, PluginStats};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A generation that came through its probation: everything to bring it back, in memory.
#[derive(Clone)]
pub(crate) struct Fallback {
    pub(crate) number: u64,
    pub(crate) config: Config,
    pub(crate) plugins: Vec<LoadedPlugin>,
    /// With the certificates as they were.
    pub(crate) listeners: Vec<Arc<ListenerSettings>>,
}

/// Why something is taken back, for [`LastRollback`](crate::admin::backend::LastRollback) and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Automatic,
    Manual,
}

impl Cause {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::Automatic => "automatic",
            Cause::Manual => "manual",
        }
    }
}

/// How often each happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rollbacks {
    pub(crate) automatic: u64,
    pub(crate) manual: u64,
}

impl Rollbacks {
    pub(crate) fn count(&mut self, cause: Cause) {
        match cause {
            Cause::Automatic => self.automatic += 1,
            Cause::Manual => self.manual += 1,
        }
    }
}

/// The plugins that are new since the last good generation, and what was counted about them before.
pub(crate) struct Probation {
    began: Instant,
    watched: Vec<Watched>,
    /// It failed, and could not be taken back.
    given_up: bool,
}

struct Watched {
    plugin: Arc<Plugin>,
    before: Tally,
}

/// What a look at a probation says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on.
    Undecided,
    /// It is over.
    Passed,
    /// Taken back.
    Failed(Trouble),
}

/// Calls of one plugin by outcome, in the order of [`Outcome::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally([u64; Outcome::ALL.len()]);

/// A plugin that fails too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    plugin: String,
    tally: Tally,
    after: Duration,
}

impl Probation {
    /// Watches the plugins that were loaded after generation `good`, but those in shadow mode, whose failures harm nobody. Those
    /// that were watched already keep their count.
    pub(crate) fn begin(generation: &Generation, good: u64, before: Option<&Probation>) -> Self {
        let fresh = generation
            .plugins
            .iter()
            .filter(|loaded| loaded.is_enforced() && loaded.since > good);
        let watch = |loaded: &LoadedPlugin| {
            let mut known = before.iter().flat_map(|probation| &probation.watched);
            let known = known.find(|watched| Arc::ptr_eq(&watched.plugin, &loaded.plugin));
            Watched {
                plugin: loaded.plugin.clone(),
                before: known.map_or_else(|| Tally::of(loaded.plugin.stats()), |watched| watched.before),
            }
        };
        Self {
            began: Instant::now(),
            watched: fresh.map(watch).collect(),
            given_up: false,
        }
    }

    pub(crate) fn judge(&self, settings: &config::Reload, now: Instant) -> Verdict {
        let after = now.saturating_duration_since(self.began);
        let failing = self.watched.iter().find_map(|watched| {
            let tally = Tally::of(watched.plugin.stats()).since(watched.before);
            let trouble = || Trouble {
                plugin: watched.plugin.name().to_owned(),
                tally,
                after,
            };
            tally.is_too_bad(settings).then(trouble)
        });
        match failing {
            Some(trouble) if !self.given_up => Verdict::Failed(trouble),
            // What cannot be taken back has not come through either.
            Some(_) => Verdict::Undecided,
            None if after >= window(settings) && !self.given_up => Verdict::Passed,
            None => Verdict::Undecided,
        }
    }

    /// It cannot be taken back: said once.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }

    pub(crate) fn left_ms(&self, settings: &config::Reload) -> u64 {
        let left = window(settings).saturating_sub(self.began.elapsed());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }
}

fn window(settings: &config::Reload) -> Duration {
    Duration::from_millis(u64::from(settings.rollback_window_ms.get()))
}

impl Tally {
    fn of(stats: &PluginStats) -> Self {
        Self(Outcome::ALL.map(|outcome| Call::ALL.iter().map(|call| stats.calls(*call, outcome)).sum()))
    }

    fn since(self, before: Self) -> Self {
        let mut difference = self;
        difference
            .0
            .iter_mut()
            .zip(before.0)
            .for_each(|(now, before)| *now = now.saturating_sub(before));
        difference
    }

    fn of_outcome(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Calls without an answer, for which the plugin itself is to blame; the breaker keeps calls away only from who has failed.
    fn failures(&self) -> u64 {
        FAILURES.iter().map(|outcome| self.of_outcome(*outcome)).sum()
    }

    fn calls(&self) -> u64 {
        self.failures() + self.of_outcome(Outcome::Ok)
    }

    fn is_too_bad(&self, settings: &config::Reload) -> bool {
        let Some(percent) = settings.rollback_failures_percent else {
            return false;
        };
        let (failures, calls) = (u128::from(self.failures()), u128::from(self.calls()));
        failures >= u128::from(settings.rollback_min_failures.get())
            && failures * 100 >= calls * u128::from(percent.get())
    }
}

const FAILURES: [Outcome; 5] = [
    Outcome::Trap,
    Outcome::Timeout,
    Outcome::Memory,
    Outcome::Invalid,
    Outcome::Breaker,
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, seconds) = (&self.tally, self.after.as_secs_f64());
        let kinds = FAILURES.into_iter().filter(|outcome| tally.of_outcome(*outcome) > 0);
        let kinds: Vec<String> = kinds
            .map(|outcome| format!("{} {}", tally.of_outcome(outcome), outcome.label()))
            .collect();
        write!(
            f,
            "plugin \"{}\" failed in {} of {} calls ({}) within {seconds:.1} s",
            self.plugin,
            tally.failures(),
            tally.calls(),
            kinds.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn settings(percent: u32, min: u32) -> config::Reload {
        config::Reload {
            rollback_failures_percent: NonZeroU32::new(percent),
            rollback_min_failures: NonZeroU32::new(min).unwrap(),
            rollback_window_ms: NonZeroU32::new(60_000).unwrap(),
        }
    }

    fn tally(counts: &[(Outcome, u64)]) -> Tally {
        let mut tally = Tally::default();
        counts
            .iter()
            .for_each(|(outcome, count)| tally.0[*outcome as usize] = *count);
        tally
    }

    #[test]
    fn both_the_share_and_the_number_of_failures_must_be_reached() {
        use Outcome::*;
        let check = |counts: &[(Outcome, u64)], percent, min, expected| {
            assert_eq!(
                tally(counts).is_too_bad(&settings(percent, min)),
                expected,
                "{counts:?}"
            );
        };
        check(&[], 10, 1, false);
        check(&[(Trap, 1)], 10, 20, false);
        check(&[(Trap, 19)], 10, 20, false);
        check(&[(Trap, 20)], 10, 20, true);
        check(&[(Trap, 20), (Ok, 180)], 10, 20, true);
        check(&[(Trap, 20), (Ok, 181)], 10, 20, false);
        check(
            &[(Trap, 4), (Timeout, 4), (Memory, 4), (Invalid, 4), (Breaker, 4)],
            10,
            20,
            true,
        );
        // No room for an instance is not the plugin's fault.
        check(&[(Unavailable, 100)], 10, 20, false);
        check(&[(Trap, 1_000)], 0, 1, false);
        check(&[(Trap, u64::MAX / 2)], 100, 1, true);
    }

    #[test]
    fn only_what_happened_since_counts_and_is_said_in_words() {
        use Outcome::*;
        let now = tally(&[(Trap, 30), (Ok, 100), (Timeout, 2)]);
        let tally = now.since(tally(&[(Trap, 12), (Ok, 60)]));
        let trouble = Trouble {
            plugin: "acl".to_owned(),
            tally,
            after: Duration::from_millis(1_500),
        };
        assert_eq!(
            trouble.to_string(),
            "plugin \"acl\" failed in 20 of 60 calls (18 trap, 2 timeout) within 1.5 s"
        );
    }

    fn probation(age: Duration) -> Probation {
        Probation {
            began: Instant::now().checked_sub(age).unwrap(),
            watched: Vec::new(),
            given_up: false,
        }
    }

    #[test]
    fn who_comes_through_the_window_has_passed() {
        let now = Instant::now();
        let young = probation(Duration::from_secs(1)).judge(&settings(10, 20), now);
        assert!(matches!(young, Verdict::Undecided));
        let mut old = probation(Duration::from_secs(61));
        assert!(matches!(old.judge(&settings(10, 20), now), Verdict::Passed));
        assert_eq!(old.left_ms(&settings(10, 20)), 0);
        old.give_up();
        assert!(matches!(old.judge(&settings(10, 20), now), Verdict::Undecided));
    }
}
