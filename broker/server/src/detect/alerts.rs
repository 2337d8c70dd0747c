//! What detectors have found: the last ones for the admin API, and how many there were.

use crate::admin::alerts::{Alert, AlertPage};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Findings of one plugin in one window that are told; the others are carried out and counted.
pub(crate) const PLUGIN_ALERTS_PER_WINDOW: u32 = 1_000;

/// Findings of one plugin, by what they ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Carried out.
    pub(crate) enforced: u64,
    /// In shadow mode.
    pub(crate) shadow: u64,
}

/// By plugin and response.
pub(crate) type FoundBy = BTreeMap<(Arc<str>, &'static str), Found>;

/// The last findings. They end with the process.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    state: Mutex<State>,
    untold: AtomicU64,
    unasked: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    last: VecDeque<Alert>,
    total: u64,
    found: FoundBy,
}

impl Alerts {
    /// Counts a finding.
    pub(super) fn count(&self, plugin: &Arc<str>, response: &'static str, is_shadow: bool) {
        let mut state = self.lock();
        let found = state.found.entry((plugin.clone(), response)).or_default();
        match is_shadow {
            true => found.shadow += 1,
            false => found.enforced += 1,
        }
    }

    /// Keeps a finding in the place of the oldest.
    pub(super) fn keep(&self, alert: Alert, most: usize) {
        let mut state = self.lock();
        state.total += 1;
        state.last.push_back(alert);
        while state.last.len() > most {
            state.last.pop_front();
        }
    }

    /// One was only counted.
    pub(super) fn count_untold(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
    }

    /// A plugin was not asked about some windows, because too many calls of it wait.
    pub(super) fn count_unasked(&self) {
        self.unasked.fetch_add(1, Ordering::Relaxed);
    }

    /// Findings over [`PLUGIN_ALERTS_PER_WINDOW`].
    pub(crate) fn untold(&self) -> u64 {
        self.untold.load(Ordering::Relaxed)
    }

    /// Calls that were left out.
    pub(crate) fn unasked(&self) -> u64 {
        self.unasked.load(Ordering::Relaxed)
    }

    /// How many there were.
    pub(crate) fn found(&self) -> FoundBy {
        self.lock().found.clone()
    }

    /// The last ones, the newest first.
    pub(crate) fn page(&self, limit: usize) -> AlertPage {
        let state = self.lock();
        AlertPage {
            total: state.total,
            kept: state.last.len() as u64,
            alerts: state.last.iter().rev().take(limit).cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_alerts_are_kept() {
        let alerts = Alerts::default();
        for number in 0..5u64 {
            let alert = Alert {
                at_unix_ms: number,
                ..Alert::default()
            };
            alerts.keep(alert, 3);
        }
        let times = |limit| -> Vec<u64> { alerts.page(limit).alerts.iter().map(|alert| alert.at_unix_ms).collect() };
        assert_eq!(times(10), [4, 3, 2]);
        assert_eq!(times(1), [4]);
        assert_eq!((alerts.page(1).total, alerts.page(1).kept), (5, 3));
    }

    #[test]
    fn findings_are_counted_by_plugin_and_response() {
        let (alerts, plugin) = (Alerts::default(), Arc::from("guard"));
        alerts.count(&plugin, "alert", false);
        alerts.count(&plugin, "alert", true);
        alerts.count(&plugin, "ban", false);
        let found = alerts.found();
        let of = |response| found.get(&(plugin.clone(), response)).copied();
        assert_eq!(of("alert"), Some(Found { enforced: 1, shadow: 1 }));
        assert_eq!(of("ban"), Some(Found { enforced: 1, shadow: 0 }));
        assert_eq!(of("throttle"), None);
    }
}
