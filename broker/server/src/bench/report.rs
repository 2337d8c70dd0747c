//! Reports in both forms: a table to read, and JSON.

use std::process::ExitCode;

use super::histogram::Histogram;
pub(super) use crate::numbers::grouped;

/// Rows of label and value.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<(&'static str, String)>);

impl Table {
    /// Appends a row.
    pub(super) fn row(&mut self, label: &'static str, value: impl Into<String>) {
        self.0.push((label, value.into()));
    }

    /// Appends all rows of `other`, below a heading.
    pub(super) fn part(&mut self, heading: &'static str, other: Self) {
        self.0.push((heading, String::new()));
        self.rows(other);
    }

    /// Appends all rows of `other`.
    pub(super) fn rows(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Appends a row for what should not have happened, if it has.
    pub(super) fn flaw(&mut self, label: &'static str, count: u64) {
        self.optional(label, (count > 0).then(|| grouped(count)));
    }

    /// Appends a row if there is something to say.
    pub(super) fn optional(&mut self, label: &'static str, value: Option<String>) {
        self.0.extend(value.map(|value| (label, value)));
    }
}

/// A result that can be shown.
pub(super) trait Report: serde::Serialize {
    fn table(&self) -> Table;
    /// The gist in one line.
    fn summary(&self) -> String;
    /// False when the run has to end with exit code 1.
    fn passed(&self) -> bool;
}

/// A report of any scenario.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) json: serde_json::Value,
    pub(super) summary: String,
    pub(super) passed: bool,
    table: Table,
}

impl Outcome {
    /// # Errors
    /// When the report cannot be expressed in JSON.
    pub(super) fn of(report: &impl Report) -> anyhow::Result<Self> {
        Ok(Self {
            json: serde_json::to_value(report)?,
            summary: report.summary(),
            passed: report.passed(),
            table: report.table(),
        })
    }

    /// Prints the report and tells the exit code.
    pub(super) fn show(&self, json: bool) -> anyhow::Result<ExitCode> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.json)?);
        } else {
            print_table(&self.table);
        }
        Ok(exit_code(self.passed))
    }
}

/// What the process ends with.
pub(super) fn exit_code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_table(Table(rows): &Table) {
    let labels = rows.iter().filter(|(_, value)| !value.is_empty());
    let width = labels.map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, value) in rows {
        println!("{}", format!("{label:width$}  {value}").trim_end());
    }
}

/// Of a histogram of nanoseconds, in microseconds.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Percentiles {
    p50: f64,
    pub(super) p99: f64,
    p999: f64,
    max: f64,
}

impl Percentiles {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let us = |ns: u64| ns as f64 / 1_000.0;
        let at = |percent| us(histogram.percentile(percent));
        Self {
            p50: at(50.0),
            p99: at(99.0),
            p999: at(99.9),
            max: us(histogram.max()),
        }
    }

    /// All four in one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{:.0} / {:.0} / {:.0} / {:.0} us",
            self.p50, self.p99, self.p999, self.max
        )
    }
}

/// Bytes in MiB with one decimal.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// `total / count`, and 0 when there is nothing to divide by.
pub(super) fn ratio(total: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_divided_by_nothing_is_nothing() {
        assert_eq!(ratio(0.0, 0), 0.0);
        assert_eq!(ratio(10.0, 4), 2.5);
    }
}
