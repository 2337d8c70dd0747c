//! What kind of run a seed stands for.

use crate::random::Random;
use nervewire_codec::Version;
use nervewire_core::limits::{QueuePolicy, ShardConfig};
use nervewire_core::store::Durability;

/// More than a client ever leaves in a queue.
const QUEUE_MESSAGES: u32 = 1_000;

/// The constants of a run. Chances are in a thousand per step.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shards: u16,
    pub(crate) durability: Durability,
    /// Chaos, quiet and checks, so many times.
    pub(crate) rounds: usize,
    /// Steps of chaos in each.
    pub(crate) steps: usize,
    pub(crate) lose_link: u64,
    pub(crate) trouble: u64,
    pub(crate) crash: u64,
    pub(crate) checkpoint: u64,
    /// Percent of the disk's steps that sync.
    pub(crate) sync: u64,
    /// Percent of a connected client's actions that are another connection.
    pub(crate) take_over: u64,
    /// Bytes that a link takes before its client has read them.
    pub(crate) link_bytes: usize,
    pub(crate) queue_messages: u32,
    pub(crate) queue_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) queue_policy: QueuePolicy,
    pub(crate) clients: Vec<Habits>,
}

/// What one client does, for as long as the run lasts.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) version: Version,
    /// Session Expiry Interval in seconds; 0: its sessions end with their connections.
    pub(crate) expiry_s: u32,
    /// It is a member of the shared subscription, and has no other.
    pub(crate) shares: bool,
    pub(crate) publishes: bool,
    pub(crate) has_wills: bool,
    /// Percent of its connections that it ends, or begins anew, with a clean slate.
    pub(crate) forgets: u64,
    pub(crate) receive_maximum: u16,
}

impl Plan {
    pub(crate) fn of(random: &mut Random) -> Self {
        let durability = if random.percent(8) {
            Durability::Memory
        } else {
            Durability::Stored
        };
        let stored = u64::from(durability == Durability::Stored);
        let tight = random.percent(20);
        let often = *random.pick(&[0, 4, 12]);
        Self {
            shards: 1 + random.below(3) as u16,
            durability,
            rounds: 1 + random.index(3),
            steps: 200 + random.index(800),
            lose_link: often,
            trouble: stored * *random.pick(&[0, 0, 4]),
            crash: stored * *random.pick(&[0, 4, 10]),
            sync: *random.pick(&[60, 30, 10]),
            take_over: *random.pick(&[1, 5]),
            checkpoint: stored * *random.pick(&[0, 10, 30]),
            link_bytes: *random.pick(&[40, 300, 10_000]),
            queue_messages: if tight {
                2 + random.below(6) as u32
            } else {
                QUEUE_MESSAGES
            },
            queue_bytes: if tight && random.percent(30) { 900 } else { 1_000_000 },
            memory_bytes: if tight && random.percent(30) { 3_000 } else { u64::MAX },
            queue_policy: *random.pick(&[QueuePolicy::DropOldest, QueuePolicy::RefuseNew]),
            clients: (0..3 + random.index(4)).map(|_| Habits::of(random)).collect(),
        }
    }

    /// Bounds drop messages.
    pub(crate) fn is_tight(&self) -> bool {
        self.queue_messages < QUEUE_MESSAGES
    }

    /// Some other number of shards may follow a crash.
    pub(crate) fn config(&self, shard: u16, shards: u16) -> ShardConfig {
        ShardConfig {
            shard,
            shards,
            durability: self.durability,
            queue_messages: self.queue_messages,
            queue_bytes: self.queue_bytes,
            memory_bytes: self.memory_bytes,
            queue_policy: self.queue_policy,
            ..ShardConfig::default()
        }
    }
}

impl Habits {
    fn of(random: &mut Random) -> Self {
        let version = *random.pick(&[Version::V311, Version::V5]);
        let lasting_s = match version {
            Version::V5 if random.percent(30) => 60,
            _ => u32::MAX,
        };
        Self {
            version,
            expiry_s: if random.percent(75) { lasting_s } else { 0 },
            shares: random.percent(25),
            publishes: random.percent(70),
            has_wills: random.percent(30),
            forgets: if random.percent(30) { 20 } else { 0 },
            receive_maximum: *random.pick(&[1, 2, 5, 65_535]),
        }
    }

    /// Who comes at the end to look at the retained messages.
    pub(crate) fn of_observer() -> Self {
        Self {
            version: Version::V311,
            expiry_s: 0,
            shares: false,
            publishes: false,
            has_wills: false,
            forgets: 0,
            receive_maximum: 65_535,
        }
    }

    /// Its sessions outlive their connections.
    pub(crate) fn is_lasting(&self) -> bool {
        self.expiry_s > 0
    }

    /// What a message may at most be sent before it is acknowledged.
    pub(crate) fn window(&self) -> usize {
        match self.version {
            Version::V5 => usize::from(self.receive_maximum),
            _ => usize::from(u16::MAX),
        }
    }
}
