//! Families of many topic filters with a wildcard each, of which a topic matches exactly one.

/// How the filters of a family lie in the tree of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FilterShape {
    /// PREFIX/NUMBER/+: all side by side on one level
    Flat,
    /// PREFIX/1/2/+/3/4/5/6/#: a level for each digit of the number, and two wildcards
    Deep,
}

impl FilterShape {
    /// What follows the prefix in a filter; each `0` is the place of a digit.
    fn pattern(self, digits: usize) -> String {
        match self {
            FilterShape::Flat => format!("/{}/+", "0".repeat(digits)),
            FilterShape::Deep => format!("/0/0/+{}/#", "/0".repeat(digits - 2)),
        }
    }
}

/// The filters of one family, and for each a topic that only it matches.
#[derive(Debug, Clone)]
pub(super) struct Filters {
    pub(super) filter: Numbered,
    pub(super) topic: Numbered,
}

impl Filters {
    /// The filters number 0 to `count` below `prefix`.
    pub(super) fn new(shape: FilterShape, prefix: &str, count: u64) -> Self {
        /// The deep shape has its wildcard between the second and third digit.
        const MIN_DIGITS: usize = 3;
        let digits = count.to_string().len().max(MIN_DIGITS);
        let pattern = shape.pattern(digits);
        Self {
            topic: Numbered::new(prefix, &pattern.replace(['+', '#'], "x")),
            filter: Numbered::new(prefix, &pattern),
        }
    }
}

/// A text into which a number is written, one digit at each of its places. Its length is always the same, so that it can
/// be changed within an encoded packet.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    text: String,
    places: Vec<usize>,
}

impl Numbered {
    /// Every `0` of `pattern`, which follows `prefix`, is the place of a digit.
    pub(super) fn new(prefix: &str, pattern: &str) -> Self {
        let places = pattern.match_indices('0').map(|(at, _)| prefix.len() + at);
        Self {
            places: places.collect(),
            text: format!("{prefix}{pattern}"),
        }
    }

    /// The text with number 0.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Writes `number` into a copy of the text.
    #[inline]
    pub(super) fn write(&self, mut number: u64, text: &mut [u8]) {
        for &place in self.places.iter().rev() {
            text[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    /// Appends the text with `number`.
    pub(super) fn append(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.text.as_bytes());
        self.write(number, &mut out[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(numbered: &Numbered, number: u64) -> String {
        let mut out = b"before ".to_vec();
        numbered.append(number, &mut out);
        String::from_utf8(out).unwrap().split_off("before ".len())
    }

    #[test]
    fn each_filter_has_its_topic() {
        let check = |shape, count, number, filter: &str, topic: &str| {
            let filters = Filters::new(shape, "p0", count);
            assert_eq!(text(&filters.filter, number), filter);
            assert_eq!(text(&filters.topic, number), topic);
        };
        check(FilterShape::Flat, 1_000, 7, "p0/0007/+", "p0/0007/x");
        check(FilterShape::Flat, 5, 4, "p0/004/+", "p0/004/x");
        check(FilterShape::Deep, 1_000, 123, "p0/0/1/+/2/3/#", "p0/0/1/x/2/3/x");
        check(
            FilterShape::Deep,
            1_000_000,
            999_999,
            "p0/0/9/+/9/9/9/9/9/#",
            "p0/0/9/x/9/9/9/9/9/x",
        );
    }
}
