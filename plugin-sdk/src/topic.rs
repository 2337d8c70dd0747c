//! Topic names, topic filters, and names substituted into them.

mod template;

pub use template::{Template, client_value};

/// The longest topic, in bytes [MQTT-4.7.3-3].
const MAX_TOPIC_BYTES: usize = 65_535;

/// Whether a topic filter matches a topic name.
///
/// Both are taken as valid; `$share/group/` must have been removed from the filter.
///
/// ```
/// use nervewire_plugin_sdk::topic::matches;
/// assert!(matches("dev/+/#", "dev/7/temperature"));
/// assert!(!matches("#", "$SYS/uptime"));
/// ```
pub fn matches(filter: &str, topic: &str) -> bool {
    captures(filter, topic, |_| ())
}

/// What the wildcards of a filter stand for in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture<'a> {
    /// The level a `+` stands for.
    Level(&'a str),
    /// The levels a `#` stands for, with the separators between them; `None`: it stands for none.
    Rest(Option<&'a str>),
}

/// [`matches()`], and hands out what each wildcard stands for, in order. Captures of a topic that turns out not to match
/// mean nothing.
pub fn captures<'a>(filter: &str, topic: &'a str, mut capture: impl FnMut(Capture<'a>)) -> bool {
    if hidden(filter, topic) {
        return false;
    }
    // By bytes: most filters that do not match differ in one of the first.
    let (mut filter, mut at) = (filter.as_bytes(), 0);
    loop {
        (filter, at) = match (filter, topic.as_bytes().get(at)) {
            ([], None) => return true,
            (b"#", _) => {
                capture(Capture::Rest(topic.get(at..)));
                return true;
            }
            (b"/#", None) => {
                capture(Capture::Rest(None));
                return true;
            }
            ([b'+', filter @ ..], _) => {
                let (level, _) = first_level(topic.get(at..).unwrap_or_default());
                capture(Capture::Level(level));
                (filter, at + level.len())
            }
            ([one, filter @ ..], Some(other)) if one == other => (filter, at + 1),
            _ => return false,
        };
    }
}

/// Whether every topic that matches `narrow` also matches `wide`.
///
/// ```
/// use nervewire_plugin_sdk::topic::covers;
/// assert!(covers("dev/#", "dev/+/state"));
/// assert!(!covers("dev/+", "dev/#"));
/// ```
pub fn covers(wide: &str, narrow: &str) -> bool {
    if hidden(wide, narrow) {
        return false;
    }
    // A topic has at least one level, so the two are the same.
    let wide = if wide == "+/#" { "#" } else { wide };
    let mut rest = Some(narrow);
    for level in wide.split('/') {
        if level == "#" {
            return true;
        }
        let Some(text) = rest else { return false };
        let (first, tail) = first_level(text);
        let covered = if level == "+" { first != "#" } else { level == first };
        if !covered {
            return false;
        }
        rest = tail;
    }
    rest.is_none()
}

/// Whether some topic matches both filters.
///
/// ```
/// use nervewire_plugin_sdk::topic::overlaps;
/// assert!(overlaps("dev/+/state", "dev/7/#"));
/// assert!(!overlaps("dev/+", "dev/7/state"));
/// ```
pub fn overlaps(one: &str, other: &str) -> bool {
    if hidden(one, other) || hidden(other, one) {
        return false;
    }
    let (mut one, mut other) = (Some(one), Some(other));
    loop {
        match (one.map(first_level), other.map(first_level)) {
            (Some(("#", _)), _) | (_, Some(("#", _))) | (None, None) => return true,
            (Some((left, rest)), Some((right, other_rest))) if left == "+" || right == "+" || left == right => {
                (one, other) = (rest, other_rest);
            }
            _ => return false,
        }
    }
}

/// Wildcards at the beginning do not stand for `$...` [MQTT-4.7.2-1].
fn hidden(filter: &str, topic: &str) -> bool {
    topic.starts_with('$') && filter.starts_with(['#', '+'])
}

fn first_level(topic: &str) -> (&str, Option<&str>) {
    topic
        .split_once('/')
        .map_or((topic, None), |(first, rest)| (first, Some(rest)))
}

/// Whether a name from outside may be put into a topic filter: it is not empty and holds no wildcard, separator or
/// control character. Where it would begin the filter it must not begin with `$` either; [`Template`] sees to that.
///
/// ```
/// use nervewire_plugin_sdk::topic::substitutable;
/// assert!(substitutable("sensor-7"));
/// assert!(!substitutable("+") && !substitutable("a/b") && !substitutable(""));
/// ```
pub fn substitutable(value: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'+' | b'#' | b'/');
    let is_substitutable = |c: char| !matches!(c, '+' | '#' | '/') && !c.is_control();
    // Most names are ASCII, of which each byte says it all.
    !value.is_empty() && (value.bytes().all(is_plain) || value.chars().all(is_substitutable))
}

/// Whether this is a topic name [MQTT-4.7.1-1], [MQTT-4.7.3-1] to [MQTT-4.7.3-3].
pub fn is_valid_name(topic: &str) -> bool {
    let is_forbidden = |byte: u8| matches!(byte, b'\0' | b'+' | b'#');
    has_valid_length(topic) && !topic.bytes().any(is_forbidden)
}

/// Whether this is a topic filter [MQTT-4.7.1-2], [MQTT-4.7.1-3].
pub fn is_valid_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    let last = levels.next().unwrap_or_default();
    let wildcards_alone = |level: &str| level == "+" || !level.contains(['+', '#']);
    let is_text = has_valid_length(filter) && !filter.bytes().any(|byte| byte == b'\0');
    is_text && (last == "#" || wildcards_alone(last)) && levels.all(wildcards_alone)
}

fn has_valid_length(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_TOPIC_BYTES
}

#[cfg(test)]
mod tests;
