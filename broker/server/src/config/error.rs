//! What is wrong with a configuration, where, and what to write instead.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// Everything found wrong in one file, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct ConfigErrors(pub Vec<ConfigError>);

/// One thing that is wrong: `file:line:column: what is wrong; what to write instead`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The file as the user named it.
    pub file: String,
    /// Where in the file; `None`: the file itself could not be read.
    pub position: Option<Position>,
    /// What is wrong; what to write instead.
    pub message: String,
}

/// A place in a text, both numbers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names say it.
pub(crate) struct Position {
    pub line: usize,
    /// In characters, as editors count.
    pub column: usize,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// The text being read, and what was found wrong so far: reading goes on after a problem, so that one run reports them all.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    problems: RefCell<Vec<(usize, String)>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            problems: RefCell::default(),
        }
    }

    /// Notes a problem at the start of `span`.
    pub(super) fn problem(&self, span: &Range<usize>, message: impl Into<String>) {
        self.problems.borrow_mut().push((span.start, message.into()));
    }

    /// Whether nothing was found wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// All that was found wrong; an error even without problems, because only a reader that failed asks.
    pub(super) fn into_errors(self) -> ConfigErrors {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(offset, _)| *offset);
        let locate = |(offset, message)| ConfigError {
            file: self.file.to_owned(),
            position: Some(position(self.text, offset)),
            message,
        };
        ConfigErrors(problems.into_iter().map(locate).collect())
    }
}

/// Line and column of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> Position {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, offset: usize, expected: (usize, usize)) {
        let found = position(text, offset);
        assert_eq!((found.line, found.column), expected);
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        check("", 0, (1, 1));
        check("ab", 1, (1, 2));
        check("ab\ncd", 3, (2, 1));
        check("ä = 1", 3, (1, 3));
        check("ä", 1, (1, 1));
        check("a\r\nb", 3, (2, 1));
        check("a\n", 99, (2, 1));
    }
}
