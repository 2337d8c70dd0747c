//! What happened, in lines to be read by somebody who looks for a bug. Lines are made only when a seed is run again.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The lines of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) lines: Option<Vec<String>>,
    /// Of everything that happened: two runs of a seed have the same.
    hash: DefaultHasher,
    pub(crate) step: u64,
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub(crate) struct Violation(pub(crate) String);

pub(crate) type Kept<T = ()> = Result<T, Violation>;

impl Trace {
    pub(crate) fn recording() -> Self {
        Self {
            lines: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Something happened. Answers its place in the order of everything.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) -> u64 {
        self.step += 1;
        if let Some(lines) = &mut self.lines {
            let line = line();
            line.hash(&mut self.hash);
            lines.push(format!("{:>6}  {line}", self.step));
        }
        self.step
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }
}

/// Fails where a promise is not kept.
pub(crate) fn check(kept: bool, otherwise: impl FnOnce() -> String) -> Kept {
    if kept { Ok(()) } else { Err(Violation(otherwise())) }
}
