//! A plugin's lines in the broker's log: marked with its name, bounded in length and rate.

use crate::clock::Clock;
use crate::printable::printable;
use crate::stats::PluginStats;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines per second and plugin, as many in a burst.
pub const MAX_LOG_LINES_PER_S: u64 = 100;

/// The log of one plugin name.
#[derive(Debug)]
pub(crate) struct PluginLog {
    name: Arc<str>,
    clock: Clock,
    bucket: Mutex<LineBucket>,
    stats: Arc<PluginStats>,
}

impl PluginLog {
    pub(crate) fn new(name: Arc<str>, clock: Clock, stats: Arc<PluginStats>) -> Self {
        let bucket = Mutex::new(LineBucket::full(clock.now_ms()));
        Self {
            name,
            clock,
            bucket,
            stats,
        }
    }

    /// Writes one line, unless the rate is used up.
    pub(crate) fn line(&self, level: tracing::Level, text: &str) {
        let taken = self
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(self.clock.now_ms());
        if !taken {
            return self.stats.drop_log_line();
        }
        let (plugin, text) = (&*self.name, printable(text));
        match level {
            tracing::Level::ERROR => tracing::error!(target: "plugin", plugin, "{text}"),
            tracing::Level::WARN => tracing::warn!(target: "plugin", plugin, "{text}"),
            tracing::Level::INFO => tracing::info!(target: "plugin", plugin, "{text}"),
            tracing::Level::DEBUG => tracing::debug!(target: "plugin", plugin, "{text}"),
            tracing::Level::TRACE => tracing::trace!(target: "plugin", plugin, "{text}"),
        }
    }

    /// Writes what the guest printed, line by line.
    pub(crate) fn output(&self, printed: &[u8]) {
        let text = String::from_utf8_lossy(printed);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.line(tracing::Level::WARN, line);
        }
    }
}

/// Lines that may still be written, refilled with time.
#[derive(Debug)]
struct LineBucket {
    /// In thousandths of a line, so that a millisecond refills a whole number.
    milli_lines: u64,
    filled_at_ms: u64,
}

impl LineBucket {
    fn full(now_ms: u64) -> Self {
        Self {
            milli_lines: MAX_LOG_LINES_PER_S * 1000,
            filled_at_ms: now_ms,
        }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let gained = now_ms
            .saturating_sub(self.filled_at_ms)
            .saturating_mul(MAX_LOG_LINES_PER_S);
        self.milli_lines = self.milli_lines.saturating_add(gained).min(MAX_LOG_LINES_PER_S * 1000);
        self.filled_at_ms = now_ms;
        let has_one = self.milli_lines >= 1000;
        self.milli_lines -= if has_one { 1000 } else { 0 };
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut LineBucket, tries: usize, now_ms: u64) -> usize {
        (0..tries).filter(|_| bucket.take(now_ms)).count()
    }

    #[test]
    fn lines_are_bounded_to_a_hundred_a_second() {
        let mut bucket = LineBucket::full(0);
        assert_eq!(taken(&mut bucket, 150, 0), 100);
        assert_eq!(taken(&mut bucket, 150, 9), 0);
        assert_eq!(taken(&mut bucket, 150, 10), 1);
        assert_eq!(taken(&mut bucket, 150, 510), 50);
        assert_eq!(taken(&mut bucket, 150, 60_000), 100);
    }

    #[test]
    fn lines_over_the_rate_are_counted() {
        let stats = Arc::new(PluginStats::default());
        let log = PluginLog::new("p".into(), Clock::new(|| 0), Arc::clone(&stats));
        (0..103).for_each(|_| log.line(tracing::Level::INFO, "line"));
        assert_eq!(stats.log_lines_dropped(), 3);
        log.output(b"one\n\ntwo\n");
        assert_eq!(stats.log_lines_dropped(), 5);
    }
}
