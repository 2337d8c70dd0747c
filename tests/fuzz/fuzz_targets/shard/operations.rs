//! Bytes of the fuzzer as choices. Behind their end every choice is the first one.

/// What is left of the input.
pub(crate) struct Operations<'a>(&'a [u8]);

impl<'a> Operations<'a> {
    pub(crate) fn of(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn are_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Below `count`, which is not 0.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}
