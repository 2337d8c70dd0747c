//! A rule's topic filter, cut up when it is compiled, so that matching is a few comparisons: most rules fail at the first.

use nervewire_codec::topic::{self, TopicError};

/// A topic name that several patterns are tried on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    name: &'a [u8],
    head: u64,
}

impl<'a> Name<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        let name = name.as_bytes();
        Name { name, head: head(name) }
    }
}

/// The first bytes of a text, the first one lowest; a text of fewer than eight ends with zeros, which no topic contains.
fn head(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => text.iter().rev().fold(0, |head, byte| head << 8 | u64::from(*byte)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// `#`
    Everything,
    /// No wildcard.
    Exact,
    /// `a/b/#`: the only wildcard is the `#` behind so many bytes.
    Below(usize),
    /// The texts before, between and behind the `+`: `a/` and `/c` of `a/+/c`, the same of `a/+/c/#`, which is open.
    Levels { texts: Box<[Box<[u8]>]>, open: bool },
}

/// A valid topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// What every matching topic begins with, at most eight bytes of it.
    head: u64,
    mask: u64,
    kind: Kind,
    filter: Box<str>,
}

impl Pattern {
    pub(super) fn compile(filter: &str) -> Result<Self, TopicError> {
        topic::validate_topic_filter(filter)?;
        let below = filter.strip_suffix("/#");
        let (kind, begins_with) = match (filter, below) {
            ("#", _) => (Kind::Everything, ""),
            _ if filter.contains('+') => Kind::levels(below.unwrap_or(filter), below.is_some()),
            (_, Some(prefix)) => (Kind::Below(prefix.len()), prefix),
            (_, None) => (Kind::Exact, filter),
        };
        let mask = u64::MAX.unbounded_shr(64 - 8 * begins_with.len().min(8) as u32);
        Ok(Pattern {
            head: head(begins_with.as_bytes()) & mask,
            mask,
            kind,
            filter: filter.into(),
        })
    }

    /// Whether a topic name begins like those it matches; most do not.
    #[inline]
    pub(super) fn may_match(&self, topic: Name<'_>) -> bool {
        topic.head & self.mask == self.head
    }

    /// Whether it matches a topic name, where it [may](Self::may_match).
    pub(super) fn matches(&self, Name { name, .. }: Name<'_>) -> bool {
        match &self.kind {
            // [MQTT-4.7.2-1]
            Kind::Everything => name.first() != Some(&b'$'),
            Kind::Exact => *self.filter.as_bytes() == *name,
            Kind::Below(prefix) => self.is_below(*prefix, name),
            Kind::Levels { texts, open } => {
                let hidden = name.first() == Some(&b'$') && self.filter.starts_with('+');
                !hidden && match_levels(texts, *open, name)
            }
        }
    }

    /// `a/b/#` matches `a/b`, and what starts with `a/b/`. Filters of one configuration often differ in their last levels only, so
    /// the end of the prefix is looked at first.
    fn is_below(&self, prefix: usize, name: &[u8]) -> bool {
        let wanted = &self.filter.as_bytes()[..prefix];
        let Some((begin, rest)) = name.split_at_checked(prefix) else {
            return false;
        };
        begin.last_chunk::<8>() == wanted.last_chunk::<8>()
            && matches!(rest.first(), None | Some(b'/'))
            && begin == wanted
    }

    /// As it was written.
    pub(super) fn filter(&self) -> &str {
        &self.filter
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

impl Kind {
    /// With what its topics begin with.
    fn levels(filter: &str, open: bool) -> (Self, &str) {
        let texts: Box<[Box<[u8]>]> = filter.split('+').map(|text| text.as_bytes().into()).collect();
        let begins_with = filter.split('+').next().unwrap_or_default();
        (Kind::Levels { texts, open }, begins_with)
    }
}

fn match_levels(texts: &[Box<[u8]>], open: bool, name: &[u8]) -> bool {
    let mut texts = texts.iter();
    let Some(mut rest) = texts.next().and_then(|first| name.strip_prefix(&**first)) else {
        return false;
    };
    for text in texts {
        let level = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let Some(behind) = rest[level..].strip_prefix(&**text) else {
            return false;
        };
        rest = behind;
    }
    rest.is_empty() || (open && rest[0] == b'/')
}
