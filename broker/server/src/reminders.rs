//! Says in the log what of the listeners' TLS is about to run out: at the start, after a reload, once a day, and when something
//! begins to be urgent.

use crate::driver::ListenerSettings;
use crate::tls::{End, look_again_s};
use std::sync::Arc;

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Reminders {
    generation: u64,
    next_s: i64,
}

impl Reminders {
    /// What is to be said now; most often nothing, and then nothing is looked at.
    pub(crate) fn due(&mut self, generation: u64, now_s: i64, listeners: &[Arc<ListenerSettings>]) -> Vec<String> {
        if self.generation == generation && now_s < self.next_s {
            return Vec::new();
        }
        self.generation = generation;
        self.next_s = look_again_s(ends(listeners).map(|(_, end)| end), now_s);
        warnings(listeners, now_s)
    }
}

/// All that is about to run out.
pub(crate) fn warnings(listeners: &[Arc<ListenerSettings>], now_s: i64) -> Vec<String> {
    let warning = |(listener, end): (&ListenerSettings, &End)| {
        let words = end.warning(now_s)?;
        Some(format!("listener {}: {words}", listener.name))
    };
    ends(listeners).filter_map(warning).collect()
}

/// What runs out, of each listener.
pub(crate) fn ends(listeners: &[Arc<ListenerSettings>]) -> impl Iterator<Item = (&ListenerSettings, &End)> {
    listeners.iter().flat_map(|listener| {
        let tls = listener.tls.iter();
        tls.flat_map(|tls| tls.ends()).map(|end| (&**listener, end))
    })
}
