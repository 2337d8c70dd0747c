//! Messages on topics that are drawn at random from many, so that nothing a broker remembers of a topic serves it.

use super::filters::Filters;

/// Bytes that follow the stamp in the payload: which message of this publisher to this subscriber it is.
pub(super) const NTH_BYTES: usize = 8;

/// Which filter a message is for. It is a function of publisher and number, so that the receiving side finds it out without
/// being told.
#[derive(Debug)]
pub(super) struct Scatter {
    filters: Filters,
    count: u64,
    subscribers: u64,
    /// Messages so far, by publisher and subscriber.
    sent: Vec<u64>,
}

/// Where one message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) filter: u64,
    /// Which message of its publisher to its subscriber it is, from 0.
    pub(super) nth: u64,
}

impl Scatter {
    /// Filter number `n` of `count` belongs to subscriber `n` modulo `subscribers`.
    pub(super) fn new(filters: Filters, count: u64, publishers: usize, subscribers: usize) -> Self {
        Self {
            filters,
            count,
            subscribers: subscribers as u64,
            sent: vec![0; publishers * subscribers],
        }
    }

    /// Takes the next message, number `sequence` of `publisher`.
    #[inline]
    pub(super) fn aim(&mut self, publisher: usize, sequence: u64) -> Aim {
        let filter = self.filter(publisher, sequence);
        let pair = self.pair(publisher, self.owner(filter));
        let nth = self.sent[pair];
        self.sent[pair] += 1;
        Aim { filter, nth }
    }

    /// Writes the topic for `filter` over the one in an encoded packet.
    #[inline]
    pub(super) fn write_topic(&self, filter: u64, topic: &mut [u8]) {
        self.filters.topic.write(filter, topic);
    }

    /// The pair of publisher and subscriber that message `sequence` of `publisher` belongs to.
    #[inline]
    pub(super) fn pair_of(&self, publisher: usize, sequence: u64) -> usize {
        self.pair(publisher, self.owner(self.filter(publisher, sequence)))
    }

    #[inline]
    pub(super) fn pair(&self, publisher: usize, subscriber: usize) -> usize {
        publisher * self.subscribers as usize + subscriber
    }

    /// Messages sent from publisher to subscriber of `pair`.
    pub(super) fn sent(&self, pair: usize) -> u64 {
        self.sent[pair]
    }

    #[inline]
    fn owner(&self, filter: u64) -> usize {
        (filter % self.subscribers) as usize
    }

    #[inline]
    fn filter(&self, publisher: usize, sequence: u64) -> u64 {
        let random = mix(((publisher as u64) << 40) ^ sequence);
        ((u128::from(random) * u128::from(self.count)) >> 64) as u64
    }
}

/// The finalizer of splitmix64: neighbouring numbers become unrelated ones.
#[inline]
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::filters::FilterShape;
    use super::*;

    fn scatter(count: u64) -> Scatter {
        Scatter::new(Filters::new(FilterShape::Flat, "p", count), count, 2, 3)
    }

    #[test]
    fn messages_spread_over_all_filters() {
        let mut scatter = scatter(100);
        let mut hits = [0; 100];
        (0..100_000).for_each(|sequence| hits[scatter.aim(1, sequence).filter as usize] += 1);
        assert!(hits.iter().all(|&hits| (800..1_200).contains(&hits)), "{hits:?}");
    }

    #[test]
    fn both_ends_agree_on_the_subscriber_and_count_for_it() {
        let mut scatter = scatter(50);
        let mut expected = [0; 6];
        for sequence in 0..1_000 {
            for publisher in 0..2 {
                let aim = scatter.aim(publisher, sequence);
                let pair = scatter.pair(publisher, aim.filter as usize % 3);
                assert_eq!(scatter.pair_of(publisher, sequence), pair);
                assert_eq!(aim.nth, expected[pair]);
                expected[pair] += 1;
                assert_eq!(scatter.sent(pair), expected[pair]);
            }
        }
    }
}
