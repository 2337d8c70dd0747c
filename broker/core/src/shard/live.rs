//! How much of the log is alive: what a fresh one would hold. A checkpoint is due where the log is much larger.

use super::Shard;

/// A record without its texts and bodies, in bytes.
const RECORD_BYTES: u64 = 64;
/// A session with its client's facts, in bytes.
const SESSION_BYTES: u64 = 256;
/// A subscription with its session's key and its filter, in bytes.
const SUBSCRIPTION_BYTES: u64 = 128;
/// Bytes of copies after which the past counts half.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// Queues account for every copy of a message, the log has a body once for all sessions of a partition: how much that saves is
/// taken from what was enqueued lately.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    once_bytes: u64,
    copied_bytes: u64,
}

impl Sharing {
    pub(super) fn note(&mut self, bytes: u64, copies: usize) {
        let copies = copies as u64;
        self.once_bytes += bytes + RECORD_BYTES + copies * RECORD_BYTES;
        self.copied_bytes += bytes * copies;
        if self.copied_bytes > MEMORY_BYTES {
            self.once_bytes /= 2;
            self.copied_bytes /= 2;
        }
    }

    /// What so many bytes of copies take in the log.
    fn in_log(&self, copied_bytes: u64) -> u64 {
        if self.copied_bytes == 0 {
            return copied_bytes;
        }
        let bytes = u128::from(copied_bytes) * u128::from(self.once_bytes) / u128::from(self.copied_bytes);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Shard {
    /// An estimate of the bytes that a fresh log of this shard's partitions would have.
    pub fn live_bytes(&self) -> u64 {
        let sessions = self.sessions.stored() as u64;
        let subscriptions = self.spaces.iter().map(|(_, space)| space.index.len() as u64);
        let retained = self.retained.retained_bytes as u64 + self.retained.retained_messages as u64 * RECORD_BYTES;
        self.sharing.in_log(self.counters.queued_bytes + self.in_flight_bytes)
            + sessions * SESSION_BYTES
            + subscriptions.sum::<u64>() * SUBSCRIPTION_BYTES
            + retained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_many_sessions_queue_counts_once() {
        let mut sharing = Sharing::default();
        assert_eq!(sharing.in_log(1_000), 1_000, "nothing is known");
        for _ in 0..10_000 {
            sharing.note(10_000, 100);
        }
        let once = 10_000 + 101 * RECORD_BYTES;
        let estimate = sharing.in_log(1_000_000);
        assert!(estimate.abs_diff(once) < 100, "{estimate} instead of {once}");
    }

    #[test]
    fn what_was_enqueued_lately_counts_most() {
        let mut sharing = Sharing::default();
        (0..10_000).for_each(|_| sharing.note(10_000, 100));
        (0..100_000).for_each(|_| sharing.note(10_000, 1));
        let estimate = sharing.in_log(10_000);
        assert!((9_000..=10_128).contains(&estimate), "{estimate}");
    }
}
