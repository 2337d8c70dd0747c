//! A rule's topic filter, sorted by how it is matched: most rules are a literal prefix and `#`.

use nervewire_codec::topic::{self, TopicError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `#`
    Everything,
    /// No wildcard.
    Exact,
    /// `a/b/#`: the only wildcard is the `#` behind the prefix.
    Prefix,
    /// Has a `+`.
    General,
}

/// A valid topic filter.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    kind: Kind,
    filter: Box<str>,
}

impl Pattern {
    pub(super) fn compile(filter: &str) -> Result<Self, TopicError> {
        topic::validate_topic_filter(filter)?;
        let kind = match filter {
            "#" => Kind::Everything,
            _ if filter.contains('+') => Kind::General,
            _ if filter.ends_with("/#") => Kind::Prefix,
            _ => Kind::Exact,
        };
        Ok(Pattern {
            kind,
            filter: filter.into(),
        })
    }

    /// Whether it matches a topic name.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self.kind {
            Kind::Everything => !name.starts_with('$'),
            Kind::Exact => *self.filter == *name,
            Kind::Prefix => self.is_prefix_of(name),
            Kind::General => topic::matches(&self.filter, name),
        }
    }

    /// `a/b/#` matches `a/b`, and what starts with `a/b/`.
    fn is_prefix_of(&self, name: &str) -> bool {
        let with_slash = &self.filter.as_bytes()[..self.filter.len() - 1];
        let name = name.as_bytes();
        name.starts_with(with_slash) || *name == with_slash[..with_slash.len() - 1]
    }

    /// Whether every topic that `filter` matches is matched.
    pub(super) fn covers(&self, filter: &str) -> bool {
        topic::covers(&self.filter, filter)
    }

    /// Whether a topic exists that both match.
    pub(super) fn overlaps(&self, filter: &str) -> bool {
        topic::overlaps(&self.filter, filter)
    }
}
