//! Topic names and topic filters (MQTT 5.0 sections 4.7 and 4.8): what is valid, what matches what.
//!
//! Everything here walks bytes once and allocates nothing; `/`, `+`, `#` and `$` are ASCII, so bytes of other characters never
//! look like them.

use crate::utf8::{Scan, StringError, scan_string};

/// Most levels in a topic name or filter; deeper ones are refused as invalid, which bounds every walk over a subscription tree.
pub const MAX_TOPIC_LEVELS: usize = 128;

const SHARE_PREFIX: &str = "$share/";

/// Why a topic name or filter is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("it is empty")]
    Empty,
    /// [MQTT-3.3.2-2]
    #[error("a topic name must not contain the wildcards + and #")]
    WildcardInName,
    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2]
    #[error("the wildcards + and # must be a whole level")]
    WildcardInsideLevel,
    /// [MQTT-4.7.1-1]
    #[error("the wildcard # must be the last level")]
    MultiLevelNotLast,
    /// A limit of this implementation.
    #[error("it has more than 128 levels")]
    TooManyLevels,
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[error("the share name of a shared subscription must not be empty or contain a wildcard")]
    ShareName,
    /// [MQTT-4.8.2-2]
    #[error("a shared subscription needs a topic filter behind its share name")]
    SharedFilterMissing,
    /// [MQTT-1.5.4-2], and the length of a string.
    #[error(transparent)]
    String(#[from] StringError),
}

/// Whether messages may be published to `topic`.
pub fn validate_topic_name(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    check_scanned_name(scan_string(topic.as_bytes())?)
}

/// The checks of a topic name that remain after the pass that validated it as a string.
#[inline]
pub(crate) fn check_scanned_name(scan: Scan) -> Result<(), TopicError> {
    if scan.wildcard {
        return Err(TopicError::WildcardInName);
    }
    if scan.separators >= MAX_TOPIC_LEVELS {
        return Err(TopicError::TooManyLevels);
    }
    Ok(())
}

/// Whether `filter` may be subscribed to, with `$share/name/` where given.
pub fn validate_topic_filter(filter: &str) -> Result<(), TopicError> {
    scan_string(filter.as_bytes())?;
    match SharedFilter::split(filter)? {
        Some(shared) => validate_plain_filter(shared.filter.as_bytes()),
        None => validate_plain_filter(filter.as_bytes()),
    }
}

fn validate_plain_filter(filter: &[u8]) -> Result<(), TopicError> {
    if filter.is_empty() {
        return Err(TopicError::Empty);
    }
    let mut levels = Levels::of(filter);
    let mut count = 0;
    while let Some(level) = levels.next() {
        count += 1;
        if level == b"#" && levels.rest.is_some() {
            return Err(TopicError::MultiLevelNotLast);
        }
        if level.len() > 1 && level.iter().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err(TopicError::WildcardInsideLevel);
        }
    }
    if count > MAX_TOPIC_LEVELS {
        Err(TopicError::TooManyLevels)
    } else {
        Ok(())
    }
}

/// A shared subscription `$share/{group}/{filter}` (4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The ShareName.
    pub group: &'a str,
    /// The topic filter that selects messages.
    pub filter: &'a str,
}

impl<'a> SharedFilter<'a> {
    /// The parts of a valid shared filter; `None` for any other string.
    pub fn parse(filter: &'a str) -> Option<Self> {
        Self::split(filter).ok().flatten()
    }

    fn split(filter: &'a str) -> Result<Option<Self>, TopicError> {
        let Some(rest) = filter.strip_prefix(SHARE_PREFIX) else {
            return Ok(None);
        };
        let (group, filter) = rest.split_once('/').unwrap_or((rest, ""));
        if group.is_empty() || group.contains(['+', '#']) {
            return Err(TopicError::ShareName);
        }
        if filter.is_empty() {
            return Err(TopicError::SharedFilterMissing);
        }
        Ok(Some(Self { group, filter }))
    }
}

/// Whether a valid filter (without `$share/`) selects a valid topic name.
#[inline]
pub fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic) = (filter.as_bytes(), topic.as_bytes());
    if hides(filter, topic) {
        return false;
    }
    let (mut filter, mut topic) = (Levels::of(filter), Levels::of(topic));
    loop {
        match (filter.next(), topic.next()) {
            (Some(b"#"), _) | (None, None) => return true,
            (Some(b"+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether `filter` selects every topic that `other` selects; both valid and without `$share/`.
pub fn covers(filter: &str, other: &str) -> bool {
    let (filter, other) = (filter.as_bytes(), explicit(other));
    if hides(filter, other) {
        return false;
    }
    let (mut filter, mut other) = (Levels::of(filter), Levels::of(other));
    loop {
        match (filter.next(), other.next()) {
            (Some(b"#"), _) | (None, None) => return true,
            (_, Some(b"#")) => return false,
            (Some(b"+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether some topic is selected by both filters; both valid and without `$share/`.
pub fn overlaps(a: &str, b: &str) -> bool {
    let (a, b) = (explicit(a), explicit(b));
    if hides(a, b) || hides(b, a) {
        return false;
    }
    let (mut a, mut b) = (Levels::of(a), Levels::of(b));
    loop {
        match (a.next(), b.next()) {
            (Some(b"#"), _) | (_, Some(b"#")) | (None, None) => return true,
            (Some(b"+"), Some(_)) | (Some(_), Some(b"+")) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

/// `#` includes its parent level, but no topic has no level and none is one empty level [MQTT-4.7.3-1]: these two filters do
/// not select the parent they seem to, and what they do select is said exactly by the longer forms.
fn explicit(filter: &str) -> &[u8] {
    match filter {
        "#" => b"+/#",
        "/#" => b"/+/#",
        other => other.as_bytes(),
    }
}

/// [MQTT-4.7.2-1]: a leading wildcard does not select topics that begin with `$`.
#[inline]
fn hides(filter: &[u8], other: &[u8]) -> bool {
    other.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#'))
}

/// The levels of a topic name or filter. Topics are short: a plain loop beats setting up a vectorized search.
struct Levels<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Levels<'a> {
    #[inline]
    fn of(topic: &'a [u8]) -> Self {
        Self { rest: Some(topic) }
    }

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match rest.iter().position(|&byte| byte == b'/') {
            Some(end) => {
                self.rest = Some(&rest[end + 1..]);
                Some(&rest[..end])
            }
            None => self.rest.take(),
        }
    }
}

#[cfg(test)]
#[path = "topic_tests.rs"]
mod tests;
