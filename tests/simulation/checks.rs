//! The promises that are looked at as a whole: bounds after every pass, everything else when all is quiet.

use crate::client::{Client, Phase};
use crate::oracle::MessageNumber;
use crate::trace::{Kept, check};
use crate::world::World;
use nervewire_codec::QoS;
use nervewire_core::limits::MAX_IN_FLIGHT_MESSAGES;

impl World {
    /// No queue is longer than it may be, and totals are the sums of their parts.
    pub(crate) fn check_bounds(&mut self, s: usize) -> Kept {
        let shard = &self.stations[s].shard;
        let sessions = shard.sessions(0, usize::MAX);
        let counters = shard.counters();
        // What was in flight at QoS 1 when the broker was killed is in the queue again.
        let (more, times) = if self.crashes > 0 {
            (usize::from(MAX_IN_FLIGHT_MESSAGES), 2)
        } else {
            (0, 1)
        };
        for session in &sessions {
            let messages = session.queued_messages <= self.plan.queue_messages as usize + more;
            let within = messages && session.queued_bytes <= times * self.plan.queue_bytes;
            check(within, || format!("shard {s}: a queue is over its bound: {session:?}"))?;
        }
        let messages: usize = sessions.iter().map(|session| session.queued_messages).sum();
        let bytes: u64 = sessions.iter().map(|session| session.queued_bytes).sum();
        check(
            (counters.queued_messages, counters.queued_bytes) == (messages as u64, bytes),
            || {
                format!(
                    "shard {s}: {} messages of {} bytes are counted, {messages} of {bytes} queued",
                    counters.queued_messages, counters.queued_bytes
                )
            },
        )?;
        check(counters.dropped.unreadable == 0, || {
            format!("shard {s}: a message could not be read back")
        })
    }

    pub(crate) fn check_all(&mut self) -> Kept {
        self.check_owed()?;
        self.check_retained_messages()
    }

    /// What is missing was dropped at a bound, and counted.
    fn check_owed(&self) -> Kept {
        let missing = self.oracle.missing();
        let dropped = self.dropped_so_far();
        check(missing.len() as u64 <= dropped, || {
            format!(
                "{dropped} were dropped at bounds, but missing are {}",
                self.told(&missing)
            )
        })?;
        let most = self.oracle.most_dropped();
        check(most.is_none_or(|most| dropped <= most), || {
            format!("{dropped} are counted as dropped, but no more than {most:?} are missing")
        })
    }

    fn told(&self, missing: &[(usize, MessageNumber)]) -> String {
        let told = missing.iter().take(5).map(|(c, number)| {
            let whom = if *c == usize::MAX {
                "the group".into()
            } else {
                Client::name(*c)
            };
            format!("message {number} for {whom}: {:?}", self.oracle.messages[*number])
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Somebody who was never here asks for every retained message.
    fn check_retained_messages(&mut self) -> Kept {
        let observer = self.plan.clients.len();
        self.oracle.accounts[observer].retained_seen.clear();
        self.connect(observer);
        self.settle()?;
        check(self.clients[observer].phase == Phase::Connected, || {
            "the observer is not let in".into()
        })?;
        self.subscribe_to(observer, "#", QoS::ExactlyOnce);
        self.settle()?;
        let seen = std::mem::take(&mut self.oracle.accounts[observer].retained_seen);
        self.oracle.check_retained(&seen)?;
        self.disconnect(observer, 0);
        self.settle()
    }
}
