//! What the broker and the generator used during a span of the run.

use std::time::{Duration, Instant};

use super::process::{CpuReading, Process};

/// Watches the broker, if its process is known, and the generator.
#[derive(Debug)]
pub(super) struct Meter {
    broker: Option<Process>,
    own: Process,
    /// Resident memory of the broker when the meter was made.
    pub(super) resident_before: Option<u64>,
    /// The largest seen by [`Meter::sample`].
    pub(super) resident_peak: Option<u64>,
}

/// One moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    broker: Option<CpuReading>,
    own: CpuReading,
}

/// What lies between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) elapsed: Duration,
    pub(super) broker_cpu: Option<Duration>,
    pub(super) own_cpu: Duration,
}

impl Meter {
    pub(super) fn new(broker: Option<Process>) -> Self {
        let resident = broker.and_then(|broker| broker.resident_bytes().ok());
        Self {
            broker,
            own: Process::own(),
            resident_before: resident,
            resident_peak: resident,
        }
    }

    /// Notes the broker's memory if it is a new peak, and returns it; `None` also when the broker has died.
    pub(super) fn sample(&mut self) -> Option<u64> {
        let resident = self.broker?.resident_bytes().ok();
        self.resident_peak = self.resident_peak.max(resident);
        resident
    }

    /// The counters now. A broker that has died reads as none.
    pub(super) fn read(&self) -> anyhow::Result<Reading> {
        let broker = self.broker.and_then(|broker| broker.cpu().ok());
        Ok(Reading {
            at: Instant::now(),
            broker,
            own: self.own.cpu()?,
        })
    }
}

impl Reading {
    /// What was used since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Span {
        let broker_cpu = self
            .broker
            .as_ref()
            .zip(earlier.broker.as_ref())
            .map(|(now, then)| now.since(then));
        Span {
            elapsed: self.at - earlier.at,
            broker_cpu,
            own_cpu: self.own.since(&earlier.own),
        }
    }
}
