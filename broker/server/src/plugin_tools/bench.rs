//! `nervewire plugin bench`: what a call of each hook costs, beside a native function that does nothing and a component that does
//! nothing, so that one sees which part is the sandbox and which the plugin.

use super::bench_callee::{Answers, Callee};
use super::bench_report;
use super::bench_table::{Ask, Asked, Row, rows};
use super::cases::{self, Setup};
use super::{component, name_of, refused};
use crate::builtin::NOOP;
use crate::cli::PluginBenchArgs;
use anyhow::Result;
use nervewire_core::hook::CallFailed;
use nervewire_plugin_host::{Grant, Host, HostConfig, Limits, Plugin, Role};
use std::hint::black_box;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The three are measured in turn so many times, so that a machine that becomes busy is unfair to none.
const ROUNDS: u32 = 5;
/// A batch takes at least so long: a look at the clock costs a thousandth of it.
const BATCH: Duration = Duration::from_micros(30);
const MAX_BATCH_CALLS: u32 = 65_536;
/// Batches kept per row and subject.
const MAX_BATCHES: usize = 1_000_000;

/// Nanoseconds per call, of one subject at one row; where a call answers several questions, per answer.
#[derive(Debug)]
pub(super) struct Timing {
    answers_per_call: u32,
    batch_calls: u32,
    /// Of each batch, per call.
    batches_ns: Vec<f64>,
    calls: u64,
    total_ns: f64,
    pub(super) failed: u64,
}

/// A row and its three timings.
pub(super) struct Measured {
    pub(super) row: Row,
    pub(super) native: Timing,
    pub(super) noop: Timing,
    pub(super) plugin: Timing,
    /// A request that the cases have no answer to.
    pub(super) unanswered: Option<String>,
}

/// Measures every hook that the component exports. Exit code 2 where it cannot be loaded, 1 where calls failed.
///
/// # Errors
/// A component that cannot be read.
pub(crate) fn run(args: &PluginBenchArgs) -> Result<ExitCode> {
    let (setup, cases) = match &args.cases {
        Some(path) => match cases::read(path) {
            Ok(cases) => (cases.setup, cases.cases),
            Err(wrong) => return Ok(refused(&wrong.to_string())),
        },
        None => (Setup::default(), Vec::new()),
    };
    let setup = match &args.config_json {
        Some(config) if serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(config).is_err() => {
            return Ok(refused(
                "--config-json is no JSON object; write --config-json '{\"key\": 1}'",
            ));
        }
        Some(config) => Setup {
            config_json: config.clone(),
            ..setup
        },
        None => setup,
    };
    let answers = Answers::default();
    answers.of_init_are(&setup.http);
    let host = Host::new(HostConfig {
        http: answers.backend(),
        max_instances: 16,
        ..HostConfig::default()
    })?;
    let name = name_of(&args.file);
    // One call after the other, and always on the same instance.
    let limits = Limits {
        http_calls: 1,
        ..Limits::default()
    };
    let plugin = match host.load(setup.spec(&name, component(&args.file)?.into(), limits)) {
        Ok(plugin) => plugin,
        Err(error) => {
            let advice = "; --cases CASES.toml or --config-json JSON say how it is configured";
            return Ok(refused(&format!("{}: {error}{advice}", args.file.display())));
        }
    };
    // What does nothing does it where the plugin is called, too.
    let noop_setup = Setup {
        grants: setup
            .grants
            .iter()
            .filter(|grant| matches!(grant, Grant::Http(_)))
            .cloned()
            .collect(),
        ..Setup::default()
    };
    let noop = host.load(noop_setup.spec("noop", NOOP.into(), limits))?;
    let rows = rows(&plugin, &cases);
    let subjects_and_rows = u32::try_from(rows.len()).unwrap_or(u32::MAX).saturating_mul(3).max(1);
    let budget = Duration::from_secs_f64(args.seconds) / subjects_and_rows;
    let measured = rows
        .into_iter()
        .map(|row| measure(row, &plugin, &noop, &answers, budget));
    let measured: Vec<_> = measured.collect::<Result<_>>()?;
    let text = match args.json {
        true => bench_report::json(&name, &measured, plugin.is_asynchronous())?,
        false => bench_report::words(&name, &measured, plugin.is_asynchronous()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let good = |measured: &Measured| measured.plugin.failed == 0 && measured.unanswered.is_none();
    Ok(match measured.iter().all(good) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn measure(
    row: Row,
    plugin: &Arc<Plugin>,
    noop: &Arc<Plugin>,
    answers: &Answers,
    budget: Duration,
) -> Result<Measured> {
    let answers_per_call = row.questions.first().map_or(1, |asked| asked.ask.questions());
    let timing = || Timing::new(u32::try_from(answers_per_call).unwrap_or(u32::MAX));
    let (mut native, mut nothing, mut tested) = (timing(), timing(), timing());
    let mut noop = Callee::of(noop, row.role)?;
    let mut callee = Callee::of(plugin, row.role)?;
    answers.unanswered(); // Of `init`, or of the row before.
    for _ in 0..ROUNDS {
        let round = budget / ROUNDS;
        native.run(round, cycle(&row.questions, native_noop));
        nothing.run(round, cycle(&row.questions, |asked| noop.call(asked)));
        tested.run(
            round,
            cycle(&row.questions, |asked| {
                answers.are(&asked.http);
                callee.call(asked)
            }),
        );
    }
    Ok(Measured {
        row,
        native,
        noop: nothing,
        plugin: tested,
        unanswered: answers.unanswered(),
    })
}

/// One question after the other, and again from the first.
fn cycle<'a>(
    questions: &'a [Asked],
    mut ask: impl FnMut(&Asked) -> Result<(), CallFailed> + 'a,
) -> impl FnMut() -> bool + 'a {
    let mut all = questions.iter().cycle();
    move || all.next().is_some_and(|asked| ask(asked).is_ok())
}

/// What the same call costs where nothing is in the way: not inlined, and its arguments are looked at.
#[inline(never)]
#[allow(clippy::unnecessary_wraps)] // As the others.
fn native_noop(asked: &Asked) -> Result<(), CallFailed> {
    black_box(asked);
    Ok(())
}

impl Timing {
    fn new(answers_per_call: u32) -> Self {
        Self {
            answers_per_call,
            batch_calls: 0,
            batches_ns: Vec::new(),
            calls: 0,
            total_ns: 0.0,
            failed: 0,
        }
    }

    fn run(&mut self, budget: Duration, mut call: impl FnMut() -> bool) {
        if self.batch_calls == 0 {
            self.batch_calls = calibrate(&mut call);
        }
        let end = Instant::now() + budget;
        loop {
            let start = Instant::now();
            let failed = (0..self.batch_calls).filter(|_| !call()).count();
            let now = Instant::now();
            self.add((now - start).as_nanos() as f64, failed as u64);
            if now >= end {
                return;
            }
        }
    }

    fn add(&mut self, batch_ns: f64, failed: u64) {
        let answers = u64::from(self.batch_calls) * u64::from(self.answers_per_call);
        self.failed += failed * u64::from(self.answers_per_call);
        self.calls += answers;
        self.total_ns += batch_ns;
        if self.batches_ns.len() < MAX_BATCHES {
            self.batches_ns.push(batch_ns / answers as f64);
        }
    }

    pub(super) fn mean_ns(&self) -> f64 {
        self.total_ns / self.calls.max(1) as f64
    }

    /// What so many of a hundred batches did not exceed per call.
    pub(super) fn percentile_ns(&self, percent: f64) -> f64 {
        let mut sorted = self.batches_ns.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn batch_calls(&self) -> u32 {
        self.batch_calls
    }
}

/// Calls per batch, so that it takes as long as [`BATCH`]; the plugin is warm afterwards.
fn calibrate(call: &mut impl FnMut() -> bool) -> u32 {
    let mut calls = 1;
    loop {
        let start = Instant::now();
        (0..calls).for_each(|_| {
            call();
        });
        if start.elapsed() >= BATCH || calls >= MAX_BATCH_CALLS {
            return calls;
        }
        calls *= 2;
    }
}

/// The role a hook is called in.
pub(super) fn role(ask: &Ask) -> Role {
    match ask {
        Ask::Authenticate(_) => Role::Authenticate,
        Ask::Tick | Ask::Detect(_) => Role::Background,
        _ => Role::Shard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_batch_that_was_measured() {
        let mut timing = Timing {
            batch_calls: 2,
            ..Timing::new(1)
        };
        for ns in 1..=100 {
            timing.add(f64::from(ns) * 2.0, 0);
        }
        assert_eq!(timing.percentile_ns(50.0), 50.0);
        assert_eq!(timing.percentile_ns(99.0), 99.0);
        assert_eq!(timing.mean_ns(), 50.5);
        assert_eq!(timing.calls(), 200);
        assert_eq!(Timing::new(1).percentile_ns(99.0), 0.0);
    }

    #[test]
    fn what_a_call_takes_is_divided_by_its_answers() {
        let mut timing = Timing {
            batch_calls: 2,
            ..Timing::new(16)
        };
        timing.add(3_200.0, 1);
        assert_eq!((timing.percentile_ns(50.0), timing.mean_ns()), (100.0, 100.0));
        assert_eq!((timing.calls(), timing.failed), (32, 16));
    }

    #[test]
    fn questions_are_asked_in_turn_and_failures_counted() {
        let question = Asked {
            client: cases::default_client(),
            ask: Ask::Rules,
            http: [].into(),
        };
        let questions = [question.clone(), question];
        let mut asked = 0;
        let mut call = cycle(&questions, |_| {
            asked += 1;
            if asked % 2 == 0 { Err(CallFailed) } else { Ok(()) }
        });
        assert!([call(), !call(), call()].into_iter().all(|as_expected| as_expected));
    }
}
