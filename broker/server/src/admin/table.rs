//! Plain text for terminals: aligned columns and numbers people read.

use std::borrow::Cow;
use std::fmt;

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).into()],
        }
    }

    /// A table of names and values, without headings.
    pub(crate) fn of_pairs<const N: usize>(pairs: [(&str, String); N]) -> Self {
        Self {
            rows: pairs
                .into_iter()
                .map(|(name, value)| vec![name.to_owned(), clean(&value)])
                .collect(),
        }
    }

    /// Adds a row. Cells are made [`printable`].
    pub(crate) fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| clean(cell)).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(row.len().max(widths.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// An empty cell would shift the reader's eye to the next column.
fn clean(cell: &str) -> String {
    if cell.is_empty() {
        "-".into()
    } else {
        printable(cell).into()
    }
}

/// The text without what would act on a terminal or hide in it: client identifiers and user names are chosen by strangers.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return text.into();
    }
    text.chars()
        .map(|c| {
            if is_unprintable(c) {
                c.escape_unicode().to_string()
            } else {
                c.into()
            }
        })
        .collect::<String>()
        .into()
}

/// Controls (escape sequences), zero-width characters, line separators and those that change the direction of writing.
fn is_unprintable(c: char) -> bool {
    let invisible =
        matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    c.is_control() || invisible
}

/// The two largest units of a number of seconds: `3d 4h`, `5m 0s`, `12s`.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// How long ago a time was; clocks that disagree make it `0s ago`.
pub(crate) fn ago(now_unix_s: u64, at_unix_s: u64) -> String {
    format!("{} ago", duration(now_unix_s.saturating_sub(at_unix_s)))
}

/// A size with a binary unit: `512 B`, `1.5 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A time of a call with a fitting unit: `850 ns`, `12.3 us`, `30.0 ms`.
pub(crate) fn call_time(microseconds: Option<f64>) -> String {
    match microseconds {
        None => "-".into(),
        Some(us) if us < 1.0 => format!("{:.0} ns", us * 1e3),
        Some(us) if us < 1e3 => format!("{us:.1} us"),
        Some(us) if us < 1e6 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["CLIENT", "N"]);
        table.push(["a-long-name".into(), "1".into()]);
        table.push(["ü".into(), String::new()]);
        assert_eq!(table.to_string(), "CLIENT       N\na-long-name  1\nü            -\n");
        let pairs = Table::of_pairs([("version", "0.1.0".into()), ("up", "2m 1s".into())]);
        assert_eq!(pairs.to_string(), "version  0.1.0\nup       2m 1s\n");
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(printable(text), expected);
        check("sensor-1 °C", "sensor-1 °C");
        check("a\u{1b}[2Jb", "a\\u{1b}[2Jb");
        check("two\nlines", "two\\u{a}lines");
        check("x\u{202e}y\u{200b}", "x\\u{202e}y\\u{200b}");
        check("\u{9b}31m", "\\u{9b}31m");
    }

    #[test]
    fn durations_show_two_units() {
        let check = |seconds, expected: &str| assert_eq!(duration(seconds), expected);
        check(0, "0s");
        check(59, "59s");
        check(60, "1m 0s");
        check(3_599, "59m 59s");
        check(3_600, "1h 0m");
        check(86_399, "23h 59m");
        check(90_000, "1d 1h");
        assert_eq!(ago(100, 40), "1m 0s ago");
        assert_eq!(ago(40, 100), "0s ago");
    }

    #[test]
    fn sizes_and_times_have_fitting_units() {
        let check = |count, expected: &str| assert_eq!(bytes(count), expected);
        check(0, "0 B");
        check(1_023, "1023 B");
        check(1_536, "1.5 KiB");
        check(1_048_575, "1.0 MiB");
        check(16_777_216, "16.0 MiB");
        check(u64::MAX, "16384.0 PiB");
        let check = |us, expected: &str| assert_eq!(call_time(us), expected);
        check(None, "-");
        check(Some(0.25), "250 ns");
        check(Some(12.34), "12.3 us");
        check(Some(30_000.0), "30.0 ms");
        check(Some(2_500_000.0), "2.5 s");
    }
}
