//! Who passes, who is held, and what is published when a period ends.

use crate::held::{Held, Period};
use crate::queue::{Next, Queue, is_over, kept_for};
use nervewire_plugin_sdk::prelude::*;

/// As many as a tick may publish.
const MAX_PUBLISHED: usize = 256;
/// How often another instance may come in between before a message passes.
const ATTEMPTS: u32 = 8;
/// The least time without a tick after which messages pass.
const LATE_MS: u64 = 2_000;
const LATE_TICKS: u64 = 5;
/// After the store was full it is left alone for so long, because each attempt leaves a gap in a queue.
const FULL_PAUSE_MS: u64 = 1_000;

/// What the configuration says.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) periods_ms: Vec<u64>,
    pub(crate) max_topics: u64,
    pub(crate) tick_ms: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// And is counted under this name.
    Passed(&'static str),
    Held,
}

/// The periods of all topics, in the store that all instances share.
#[derive(Debug)]
pub(crate) struct Gate {
    settings: Settings,
    full_until_ms: u64,
}

impl Gate {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            full_until_ms: 0,
        }
    }

    /// A message on a topic with a rule.
    pub(crate) fn offer(&mut self, message: Message, period_ms: u64, now_ms: u64) -> Outcome {
        for _ in 0..ATTEMPTS {
            let seen = kv::get(&key(&message.topic));
            let period = seen.as_deref().and_then(|bytes| Period::decode(&message.topic, bytes));
            let outcome = match period {
                Some(period) if self.is_under_way(&period, period_ms, now_ms) => {
                    hold(&message, seen.as_deref(), &period, period_ms, now_ms)
                }
                late => self.begin(&message.topic, seen.as_deref(), late, period_ms, now_ms),
            };
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::Passed("passed_full")
    }

    /// A message passes whatever is held on its topic: that is older, and must not be seen after it.
    pub(crate) fn overtake(&mut self, topic: &str, now_ms: u64) {
        for _ in 0..ATTEMPTS {
            let Some(seen) = kv::get(&key(topic)) else { return };
            match Period::decode(topic, &seen) {
                Some(period) if period.held.is_some() => {
                    let left_ms = period.due_ms.saturating_sub(now_ms);
                    if forget_held(topic, &seen, &period, left_ms) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// The last values of the periods that have ended.
    pub(crate) fn end_periods(&mut self, now_ms: u64) -> Vec<Message> {
        let mut published = Vec::new();
        for period_ms in &self.settings.periods_ms {
            let queue = Queue::new(*period_ms);
            let mut walk = queue.walk();
            while published.len() < MAX_PUBLISHED {
                let Next::Ended(topic) = walk.next(now_ms) else { break };
                published.extend(end(&topic, queue, *period_ms, now_ms));
            }
            walk.finish();
        }
        counters::add("published", published.len() as u64);
        published
    }

    /// One that has ended may wait a little for its tick.
    fn is_under_way(&self, period: &Period, period_ms: u64, now_ms: u64) -> bool {
        let late_ms = LATE_MS.max(LATE_TICKS * u64::from(self.settings.tick_ms));
        !is_over(period.due_ms.saturating_add(late_ms), period_ms + late_ms, now_ms)
    }

    /// `None`: somebody else was faster.
    fn begin(
        &mut self,
        topic: &str,
        seen: Option<&[u8]>,
        late: Option<Period>,
        period_ms: u64,
        now_ms: u64,
    ) -> Option<Outcome> {
        if now_ms < self.full_until_ms {
            return Some(Outcome::Passed("passed_full"));
        }
        let periods: u64 = self.settings.periods_ms.iter().map(|ms| Queue::new(*ms).len()).sum();
        if periods >= self.settings.max_topics {
            return Some(Outcome::Passed("passed_topics"));
        }
        match begin_period(topic, seen, Queue::new(period_ms), period_ms, now_ms) {
            Ok(true) => Some(Outcome::Passed(match late {
                Some(period) => {
                    counters::add("superseded", u64::from(period.held.is_some()));
                    "passed_late"
                }
                None => "first",
            })),
            Ok(false) => None,
            Err(kv::Error::Full) => {
                self.full_until_ms = now_ms + FULL_PAUSE_MS;
                Some(Outcome::Passed("passed_full"))
            }
            Err(_) => Some(Outcome::Passed("passed_full")),
        }
    }
}

/// Into the queue first: a period that nobody ends would hold its topic's messages, an entry without a period does nothing.
/// `false`: somebody else was faster.
fn begin_period(
    topic: &str,
    seen: Option<&[u8]>,
    queue: Queue,
    period_ms: u64,
    now_ms: u64,
) -> Result<bool, kv::Error> {
    let due_ms = now_ms + period_ms;
    let number = queue.add(topic, due_ms)?;
    let period = Period::until(due_ms).encode();
    let begun = kv::compare_and_swap(&key(topic), seen, period.as_deref(), kept_for(period_ms));
    if begun != Ok(true) {
        queue.remove(number);
    }
    begun
}

/// `None`: somebody else was faster.
fn hold(message: &Message, seen: Option<&[u8]>, period: &Period, period_ms: u64, now_ms: u64) -> Option<Outcome> {
    let with_message = Period {
        due_ms: period.due_ms,
        held: Some(Held {
            since_ms: now_ms,
            message: message.clone(),
        }),
    };
    let held = with_message
        .encode()
        .map(|bytes| kv::compare_and_swap(&key(&message.topic), seen, Some(&bytes), kept_for(period_ms)));
    match held {
        Some(Ok(true)) => {
            counters::add("superseded", u64::from(period.held.is_some()));
            Some(Outcome::Held)
        }
        Some(Ok(false)) => None,
        // It passes, and what it would have replaced is older.
        Some(Err(_)) | None => match seen {
            Some(seen) if period.held.is_some() && !forget_held(&message.topic, seen, period, period_ms) => None,
            _ => Some(Outcome::Passed("passed_full")),
        },
    }
}

/// `false`: somebody else was faster.
fn forget_held(topic: &str, seen: &[u8], period: &Period, left_ms: u64) -> bool {
    let without = Period::until(period.due_ms).encode();
    let forgotten = kv::compare_and_swap(&key(topic), Some(seen), without.as_deref(), kept_for(left_ms));
    if forgotten == Ok(true) {
        counters::add("superseded", 1);
    }
    // Shorter than what it replaces, so that there is room; else there is nothing to be done.
    forgotten != Ok(false)
}

/// What was held on a topic whose period has ended. Then the next one begins, else the topic is quiet.
fn end(topic: &str, queue: Queue, period_ms: u64, now_ms: u64) -> Option<Message> {
    for _ in 0..ATTEMPTS {
        let seen = kv::get(&key(topic))?;
        let period = Period::decode(topic, &seen).filter(|period| is_over(period.due_ms, period_ms, now_ms))?;
        let ended = match &period.held {
            Some(_) => begin_period(topic, Some(&seen), queue, period_ms, now_ms),
            None => kv::compare_and_swap(&key(topic), Some(&seen), None, None),
        };
        match (ended, period.held) {
            (Ok(false), _) => {}
            (Ok(true), held) => return published(held?, now_ms),
            // No room for another period: the topic begins anew with its next message.
            (Err(_), held) => {
                kv::delete(&key(topic));
                return published(held?, now_ms);
            }
        }
    }
    None
}

fn published(held: Held, now_ms: u64) -> Option<Message> {
    let message = held.published(now_ms);
    counters::add("expired", u64::from(message.is_none()));
    message
}

fn key(topic: &str) -> String {
    format!("topic/{topic}")
}
