//! The periods of one length in the order in which they end, in the store, which cannot list what it holds: an entry has a number,
//! `tail` is the last that was given, `head` the last that is done with.
//!
//! Any instance adds, only the one that ticks takes. A number whose entry is missing is either being written at this moment, or never
//! will be: it is passed over as soon as a later one is due, because that one is older than a call may take.

use nervewire_plugin_sdk::prelude::*;
use std::time::Duration;

/// Entries looked at in one tick.
const MAX_LOOKED_AT: u64 = 1_024;
/// After this an entry of periods that nobody ends any more is forgotten, beyond its period.
const KEPT_MS: u64 = 600_000;
/// So far ahead of its period's length no end can be, unless the clock was put back.
const CLOCK_SLACK_MS: u64 = 1_000;

/// The queue of all periods of one length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    period_ms: u64,
}

/// What the queue has to say next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The period of this topic is over.
    Ended(String),
    /// None is over, or enough were looked at.
    Nothing,
}

/// Goes through what is due.
#[derive(Debug)]
pub(crate) struct Walk {
    queue: Queue,
    first: u64,
    head: u64,
    at: u64,
    tail: u64,
    last: u64,
}

/// How long the store keeps what belongs to a period of this length.
pub(crate) fn kept_for(period_ms: u64) -> Duration {
    Duration::from_millis(period_ms + KEPT_MS)
}

/// Whether a period of this length that should end then is over, or its end was said by a clock that has been put back.
pub(crate) fn is_over(due_ms: u64, period_ms: u64, now_ms: u64) -> bool {
    due_ms <= now_ms || due_ms > now_ms + period_ms + CLOCK_SLACK_MS
}

impl Queue {
    pub(crate) fn new(period_ms: u64) -> Self {
        Self { period_ms }
    }

    /// Periods under way, and what is left of others.
    pub(crate) fn len(self) -> u64 {
        self.number("tail").saturating_sub(self.number("head"))
    }

    /// The number of the entry.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) fn add(self, topic: &str, due_ms: u64) -> Result<u64, kv::Error> {
        let number = kv::increment(&self.key("tail"), 1, None)?.unsigned_abs();
        let mut entry = due_ms.to_be_bytes().to_vec();
        entry.extend_from_slice(topic.as_bytes());
        kv::set(&self.entry_key(number), entry, kept_for(self.period_ms))?;
        Ok(number)
    }

    pub(crate) fn remove(self, number: u64) {
        kv::delete(&self.entry_key(number));
    }

    pub(crate) fn walk(self) -> Walk {
        let (head, tail) = (self.number("head"), self.number("tail"));
        Walk {
            queue: self,
            first: head,
            head,
            at: head,
            tail,
            last: tail.min(head.saturating_add(MAX_LOOKED_AT)),
        }
    }

    fn entry(self, number: u64) -> Option<(u64, String)> {
        let entry = kv::get(&self.entry_key(number))?;
        let (due_ms, topic) = entry.split_first_chunk()?;
        Some((u64::from_be_bytes(*due_ms), String::from_utf8(topic.to_vec()).ok()?))
    }

    fn number(self, name: &str) -> u64 {
        let text = kv::get(&self.key(name)).and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn key(self, name: &str) -> String {
        format!("queue/{}/{name}", self.period_ms)
    }

    fn entry_key(self, number: u64) -> String {
        format!("queue/{}/{number}", self.period_ms)
    }
}

impl Walk {
    pub(crate) fn next(&mut self, now_ms: u64) -> Next {
        while self.at < self.last {
            let number = self.at + 1;
            match self.queue.entry(number) {
                Some((due_ms, _)) if !is_over(due_ms, self.queue.period_ms, now_ms) => return Next::Nothing,
                Some((_, topic)) => {
                    self.queue.remove(number);
                    (self.at, self.head) = (number, number);
                    return Next::Ended(topic);
                }
                None => self.at = number,
            }
        }
        // Nothing but missing ones as far as it looked: what is behind them must not wait for them for ever.
        if self.at == self.last && self.last < self.tail {
            self.head = self.at;
        }
        Next::Nothing
    }

    /// Remembers how far it came.
    pub(crate) fn finish(self) {
        if self.head == self.first {
            return;
        }
        // It holds a number already, or the store has room for one more: else it is looked at again.
        let _ = kv::set(&self.queue.key("head"), self.head.to_string(), None);
    }
}
