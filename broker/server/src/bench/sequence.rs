//! What one subscriber has seen of one publisher: gaps, duplicates and messages out of order.

/// Bytes at the beginning of each payload that say where and when the message came from.
pub(super) const STAMP_BYTES: usize = 20;

/// Gaps remembered per pair; the oldest is given up as lost for good when another one opens.
const MAX_GAPS: usize = 1_024;

/// Publisher, sequence number and time of sending, carried in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) publisher: u32,
    /// Counts from 0 for each publisher.
    pub(super) sequence: u64,
    /// Nanoseconds on the generator's clock.
    pub(super) sent_ns: u64,
}

impl Stamp {
    #[inline]
    pub(super) fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..4].copy_from_slice(&self.publisher.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..].copy_from_slice(&self.sent_ns.to_le_bytes());
        bytes
    }

    /// `None` when the payload is too short to hold a stamp.
    #[inline]
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            publisher: u32::from_le_bytes(*publisher),
            sequence: u64::from_le_bytes(*sequence),
            sent_ns: u64::from_le_bytes(*sent_ns),
        })
    }
}

/// How a message fits to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Never seen, and later than all before it; it may have left a gap.
    New,
    /// Never seen, but a later one came first.
    Reordered,
    /// Seen before.
    Duplicate,
}

/// The sequence numbers of one publisher as one subscriber receives them.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    next: u64,
    /// Boxed because there is one `Sequence` per pair and next to none has a gap.
    gaps: Option<Box<Gaps>>,
}

#[derive(Debug, Default)]
struct Gaps {
    /// Half-open ranges, ascending.
    open: Vec<(u64, u64)>,
    /// Messages in gaps that are no longer remembered.
    given_up: u64,
}

impl Sequence {
    /// Takes note of sequence number `number`.
    #[inline]
    pub(super) fn observe(&mut self, number: u64) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::New;
        }
        self.observe_out_of_step(number)
    }

    #[cold]
    fn observe_out_of_step(&mut self, number: u64) -> Arrival {
        if number < self.next {
            let filled = self.gaps.as_mut().is_some_and(|gaps| gaps.fill(number));
            return if filled { Arrival::Reordered } else { Arrival::Duplicate };
        }
        self.gaps.get_or_insert_default().open(self.next, number);
        self.next = number + 1;
        Arrival::New
    }

    /// How many of the first `sent` messages have not arrived.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        let in_gaps = self.gaps.as_ref().map_or(0, |gaps| gaps.missing());
        in_gaps + sent.saturating_sub(self.next)
    }

    /// The first of the first `sent` messages that has not arrived, as far as gaps are remembered.
    pub(super) fn first_missing(&self, sent: u64) -> Option<u64> {
        let in_gap = self.gaps.as_ref().and_then(|gaps| gaps.open.first()).map(|gap| gap.0);
        in_gap.or_else(|| (self.next < sent).then_some(self.next))
    }
}

impl Gaps {
    fn open(&mut self, from: u64, to: u64) {
        if self.open.len() >= MAX_GAPS {
            let (start, end) = self.open.remove(0);
            self.given_up += end - start;
        }
        self.open.push((from, to));
    }

    /// Removes `number` from its gap; false when it is in none.
    fn fill(&mut self, number: u64) -> bool {
        let at = self.open.partition_point(|gap| gap.1 <= number);
        let Some(&(start, end)) = self.open.get(at).filter(|gap| gap.0 <= number) else {
            return false;
        };
        let parts = [(start, number), (number + 1, end)]
            .into_iter()
            .filter(|(from, to)| from < to);
        self.open.splice(at..=at, parts);
        true
    }

    fn missing(&self) -> u64 {
        self.given_up + self.open.iter().map(|(from, to)| to - from).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::Arrival::{Duplicate, New, Reordered};
    use super::*;

    fn check(arrivals: &[(u64, Arrival)], sent: u64, missing: u64, first: Option<u64>) {
        let mut sequence = Sequence::default();
        for &(number, expected) in arrivals {
            assert_eq!(sequence.observe(number), expected, "message {number} of {arrivals:?}");
        }
        assert_eq!(sequence.missing(sent), missing, "{arrivals:?}");
        assert_eq!(sequence.first_missing(sent), first, "{arrivals:?}");
    }

    #[test]
    fn arrivals_are_told_apart() {
        check(&[], 0, 0, None);
        check(&[], 3, 3, Some(0));
        check(&[(0, New), (1, New), (2, New)], 3, 0, None);
        check(&[(0, New), (0, Duplicate), (1, New), (0, Duplicate)], 2, 0, None);
        check(&[(0, New), (2, New), (1, Reordered), (1, Duplicate)], 3, 0, None);
        check(&[(0, New), (5, New), (3, Reordered), (3, Duplicate)], 6, 3, Some(1));
        check(
            &[(4, New), (0, Reordered), (3, Reordered), (1, Reordered), (2, Reordered)],
            5,
            0,
            None,
        );
        check(&[(1, New), (4, New), (2, Reordered), (0, Reordered)], 7, 3, Some(3));
    }

    #[test]
    fn gaps_beyond_the_bound_stay_counted() {
        let mut sequence = Sequence::default();
        let last = 2 * (MAX_GAPS as u64 + 10);
        (1..=last)
            .step_by(2)
            .for_each(|number| assert_eq!(sequence.observe(number), New));
        assert_eq!(sequence.missing(last), last / 2);
    }

    #[test]
    fn stamps_survive_the_payload() {
        let stamp = Stamp {
            publisher: 7,
            sequence: u64::MAX - 1,
            sent_ns: 1 << 40,
        };
        let mut payload = stamp.encode().to_vec();
        assert_eq!(Stamp::decode(&payload), Some(stamp));
        payload.extend_from_slice(b"xxx");
        assert_eq!(Stamp::decode(&payload), Some(stamp));
        assert_eq!(Stamp::decode(&payload[..STAMP_BYTES - 1]), None);
    }
}
