//! Keeps checkpoints from going round and round: what the shards say they need is an estimate, and where it is too low, a journal
//! that holds nothing to be freed would be written again for ever.

/// How large the journal is, and what the shards would need of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) journal_bytes: u64,
    pub(super) live_bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Segments in a row of which most was still true.
    fruitless: u64,
    /// The size when the last segment of a round that freed little was begun.
    resting: Option<Size>,
}

impl Pace {
    /// Whether another segment may be gone through: always, until a whole round was in vain. Then a segment's bytes must have come, or
    /// a segment's bytes must have become needless.
    pub(super) fn goes_on(&mut self, size: Size, segment_bytes: u64) -> bool {
        let changed = |at: &Size| {
            size.journal_bytes >= at.journal_bytes.saturating_add(segment_bytes)
                || size.live_bytes.saturating_add(segment_bytes) <= at.live_bytes
        };
        if self.resting.as_ref().is_some_and(changed) {
            self.resting = None;
        }
        self.resting.is_none()
    }

    /// A segment is gone, and so many of its bytes were appended again. `segments`: how many there are; `size`: when it was begun, because
    /// what has become needless since was still true in it.
    pub(super) fn gone_through(&mut self, segment_bytes: u64, relocated_bytes: u64, segments: u64, size: Size) {
        let in_vain = relocated_bytes.saturating_mul(4) >= segment_bytes.saturating_mul(3);
        self.fruitless = if in_vain { self.fruitless + 1 } else { 0 };
        if self.fruitless >= segments {
            (self.fruitless, self.resting) = (0, Some(size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 100;

    fn size(journal_bytes: u64, live_bytes: u64) -> Size {
        Size {
            journal_bytes,
            live_bytes,
        }
    }

    /// After as many segments in vain as there are.
    fn resting() -> Pace {
        let mut pace = Pace::default();
        for _ in 0..5 {
            assert!(pace.goes_on(size(500, 200), SEGMENT));
            pace.gone_through(SEGMENT, 90, 5, size(500, 200));
        }
        assert!(!pace.goes_on(size(500, 200), SEGMENT));
        pace
    }

    #[test]
    fn a_round_in_vain_is_the_last_until_something_has_changed() {
        assert!(!resting().goes_on(size(599, 101), SEGMENT), "too little");
        assert!(resting().goes_on(size(600, 200), SEGMENT), "a segment has come");
        assert!(
            resting().goes_on(size(500, 100), SEGMENT),
            "a segment's bytes are needless"
        );
    }

    #[test]
    fn a_segment_that_freed_something_begins_the_round_again() {
        let mut pace = Pace::default();
        for round in 0..50 {
            assert!(pace.goes_on(size(500, 200), SEGMENT));
            let relocated = if round % 5 == 0 { 10 } else { 100 };
            pace.gone_through(SEGMENT, relocated, 5, size(500, 200));
        }
    }
}
