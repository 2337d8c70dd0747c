//! One client's counters. Everything in them adds up, so that those of several shards make one.

use crate::hook::Client;
use std::sync::Arc;

/// What was counted of one client.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Who: for a stranger what its CONNECT claimed.
    pub client: Arc<Client>,
    /// It was not let in: only its address is known for certain.
    pub is_stranger: bool,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) denials: u32,
    pub(super) malformed_packets: u32,
    pub(super) failed_logins: u32,
    pub(super) connects: u32,
    pub(super) topics: Topics,
    pub(super) payloads: Payloads,
}

impl Tally {
    pub(super) fn of(client: &Arc<Client>) -> Self {
        Self {
            client: client.clone(),
            is_stranger: false,
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            denials: 0,
            malformed_packets: 0,
            failed_logins: 0,
            connects: 0,
            topics: Topics::default(),
            payloads: Payloads::default(),
        }
    }

    pub(super) fn of_stranger(client: &Arc<Client>) -> Self {
        Self {
            is_stranger: true,
            ..Self::of(client)
        }
    }

    #[inline]
    pub(super) fn message_in(&mut self, topic_hash: u64, payload_bytes: usize) {
        self.messages_in += 1;
        self.topics.insert(topic_hash);
        self.payloads.insert(payload_bytes);
    }

    pub(crate) fn message_out(&mut self) {
        self.messages_out += 1;
    }

    pub(crate) fn bytes_in(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
    }

    pub(crate) fn bytes_out(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    pub(crate) fn denial(&mut self) {
        self.denials = self.denials.saturating_add(1);
    }

    pub(crate) fn malformed_packet(&mut self) {
        self.malformed_packets = self.malformed_packets.saturating_add(1);
    }

    pub(crate) fn failed_login(&mut self) {
        self.failed_logins = self.failed_logins.saturating_add(1);
    }

    /// It was let in, perhaps from elsewhere than before.
    pub(crate) fn connect(&mut self, client: &Arc<Client>) {
        self.client = client.clone();
        self.connects = self.connects.saturating_add(1);
    }

    /// Takes in what another shard counted of the same client.
    pub(super) fn add(&mut self, other: &Self) {
        if self.is_stranger && !other.is_stranger {
            self.client = other.client.clone();
            self.is_stranger = false;
        }
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.denials = self.denials.saturating_add(other.denials);
        self.malformed_packets = self.malformed_packets.saturating_add(other.malformed_packets);
        self.failed_logins = self.failed_logins.saturating_add(other.failed_logins);
        self.connects = self.connects.saturating_add(other.connects);
        self.topics.add(&other.topics);
        self.payloads.add(&other.payloads);
    }
}

/// How many different topics, roughly, in 64 bytes: linear counting (Whang and others, 1990). Within a tenth up to 1,000, and at
/// most [`Topics::MOST`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Topics {
    bits: [u64; Self::WORDS],
}

impl Topics {
    const WORDS: usize = 8;
    const BITS: u32 = Self::WORDS as u32 * u64::BITS;
    /// What is said where every bit is set: the estimate with one bit left.
    pub(super) const MOST: u32 = 3_195;

    #[inline]
    fn insert(&mut self, hash: u64) {
        // The high bits are the better ones.
        let bit = hash >> 55;
        if let Some(word) = self.bits.get_mut((bit / 64) as usize) {
            *word |= 1 << (bit % 64);
        }
    }

    fn add(&mut self, other: &Self) {
        self.bits
            .iter_mut()
            .zip(other.bits)
            .for_each(|(ours, theirs)| *ours |= theirs);
    }

    pub(super) fn estimate(&self) -> u32 {
        let unset: u32 = self.bits.iter().map(|word| word.count_zeros()).sum();
        if unset == 0 {
            return Self::MOST;
        }
        let bits = f64::from(Self::BITS);
        (bits * (bits / f64::from(unset)).ln()).round() as u32
    }
}

/// Sizes of payloads. Sums of whole numbers lose nothing, in whatever order they are added.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Payloads {
    count: u64,
    min_bytes: u32,
    max_bytes: u32,
    sum: u64,
    sum_of_squares: u128,
}

impl Payloads {
    #[inline]
    fn insert(&mut self, bytes: usize) {
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.min_bytes = if self.count == 0 {
            size
        } else {
            self.min_bytes.min(size)
        };
        self.max_bytes = self.max_bytes.max(size);
        self.count += 1;
        self.sum += u64::from(size);
        self.sum_of_squares += u128::from(size) * u128::from(size);
    }

    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min_bytes = match self.count {
            0 => other.min_bytes,
            _ => self.min_bytes.min(other.min_bytes),
        };
        self.max_bytes = self.max_bytes.max(other.max_bytes);
        self.count += other.count;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
    }

    pub(super) fn min_bytes(&self) -> u32 {
        self.min_bytes
    }

    pub(super) fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    pub(super) fn mean(&self) -> f64 {
        match self.count {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    pub(super) fn deviation(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let count = u128::from(self.count);
        let sum = u128::from(self.sum);
        // Exact up to here: the difference of two nearly equal floats would be noise.
        let spread = (count.saturating_mul(self.sum_of_squares)).saturating_sub(sum.saturating_mul(sum));
        (spread as f64).sqrt() / self.count as f64
    }
}
