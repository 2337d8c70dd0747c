//! Why nothing completes at present, or why nothing more should come.

use super::{Sink, StoreEvent, lock};
use nervewire_core::store::AppendFailed;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Where the shards hear of things.
pub(super) type Sinks = OnceLock<Box<[Sink]>>;

/// See the module. Shards are told when the answer changes.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Causes>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes {
    /// The last write, sync or new segment failed.
    pub(super) disk_fails: bool,
    /// The journal is beyond its bound: what makes room again still completes.
    pub(super) over_bound: bool,
    /// A write or a sync does not come back.
    pub(super) stuck: bool,
}

impl Causes {
    fn worst(self) -> Option<AppendFailed> {
        match self {
            Self { disk_fails: true, .. } | Self { stuck: true, .. } => Some(AppendFailed::Doubtful),
            Self { over_bound: true, .. } => Some(AppendFailed::Full),
            _ => None,
        }
    }
}

impl Trouble {
    pub(super) fn present(&self) -> Option<AppendFailed> {
        self.causes().worst()
    }

    /// Under the lock, so that the shards hear of changes in their order.
    pub(super) fn change(&self, sinks: &Sinks, change: impl FnOnce(&mut Causes)) {
        let mut causes = self.causes();
        let before = causes.worst();
        change(&mut causes);
        let now = causes.worst();
        if before != now {
            let sinks = sinks.get().into_iter().flatten();
            sinks.for_each(|sink| sink(StoreEvent::Trouble(now)));
        }
    }

    fn causes(&self) -> MutexGuard<'_, Causes> {
        lock(&self.0)
    }
}
