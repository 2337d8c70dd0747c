//! The table of `plugin bench`, and its JSON.

use super::bench::{Measured, Timing};
use super::bench_table::label;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `asynchronous`: whether the plugin asks backends.
pub(super) fn words(name: &str, measured: &[Measured], asynchronous: bool) -> String {
    let mut text = format!(
        "{:<40} {:>8} {:>24} {:>32} {:>9}\n{:<40} {:>8} {:>8} {:>7} {:>7} {:>10} {:>10} {:>10} {:>9}\n",
        "ns per call",
        "native",
        "no-op component",
        name,
        "ratio",
        "",
        "p50",
        "p50",
        "p99",
        "mean",
        "p50",
        "p99",
        "mean",
        "p50"
    );
    for row in measured {
        let (native, noop, plugin) = (&row.native, &row.noop, &row.plugin);
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:<40} {:>8.0} {:>8.0} {:>7.0} {:>7.0} {:>10.0} {:>10.0} {:>10.0} {:>9.2}",
            label(&row.row),
            native.percentile_ns(50.0),
            noop.percentile_ns(50.0),
            noop.percentile_ns(99.0),
            noop.mean_ns(),
            plugin.percentile_ns(50.0),
            plugin.percentile_ns(99.0),
            plugin.mean_ns(),
            ratio(plugin, noop),
        );
        if plugin.failed > 0 {
            let _ = writeln!(
                text,
                "  {} of {} calls FAILED: the times are those of failures; `nervewire plugin test` shows why",
                plugin.failed,
                plugin.calls()
            );
        }
        if let Some(request) = &row.unanswered {
            let _ = writeln!(
                text,
                "  NO ANSWER to {request}: write http = [{{ url = \"..\", .. }}] into the cases, and measure with --cases CASES.toml"
            );
        }
    }
    let _ = writeln!(
        text,
        "\nThe no-op component is the sandbox, what is more is the plugin; ratio = plugin : no-op component. Percentiles are those\n\
         of batches of calls, so that the clock is not measured. authorize is called directly, whatever the plugin's rules say."
    );
    if asynchronous {
        text.push_str(
            "The plugin asks backends, so both are called in a pool, with a way there and back between threads. Backends answer at\n\
             once what the cases say: their time comes on top, and other clients do not wait for it.\n",
        );
    }
    text
}

pub(super) fn json(name: &str, measured: &[Measured], asynchronous: bool) -> Result<String> {
    let rows: Vec<Value> = measured
        .iter()
        .map(|row| {
            json!({
                "call": row.row.label,
                "questions": row.row.questions.len(),
                "native": timing(&row.native),
                "noop_component": timing(&row.noop),
                "plugin": timing(&row.plugin),
                "ratio": ratio(&row.plugin, &row.noop),
                "unanswered_request": row.unanswered,
            })
        })
        .collect();
    let report = json!({ "plugin": name, "unit": "ns", "asynchronous": asynchronous, "rows": rows });
    Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
}

fn timing(timing: &Timing) -> Value {
    json!({
        "p50": timing.percentile_ns(50.0),
        "p99": timing.percentile_ns(99.0),
        "mean": timing.mean_ns(),
        "calls": timing.calls(),
        "failed_calls": timing.failed,
        "calls_per_batch": timing.batch_calls(),
    })
}

/// How many times the no-op component's time the plugin takes.
fn ratio(plugin: &Timing, noop: &Timing) -> f64 {
    plugin.percentile_ns(50.0) / noop.percentile_ns(50.0).max(1.0)
}
