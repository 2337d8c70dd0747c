//! `nervewire plugin test`: a plugin's answers against those expected of it.

use super::cases::{self, Case, Cases};
use super::said::Said;
use super::script::Script;
use super::subject::Subject;
use super::{component, name_of, refused};
use crate::cli::PluginTestArgs;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// How one case went.
struct Outcome<'a> {
    case: &'a Case,
    got: Value,
    ok: bool,
    /// What went wrong between the plugin and its backends.
    problems: Vec<String>,
    said: Vec<String>,
}

/// Runs every case. Exit code 1 where one fails, 2 where the cases or the plugin's configuration are wrong.
///
/// # Errors
/// A component that cannot be read.
pub(crate) fn run(args: &PluginTestArgs) -> Result<ExitCode> {
    let cases = match cases::read(&args.cases) {
        Ok(cases) => cases,
        Err(wrong) => return Ok(refused(&wrong.to_string())),
    };
    let component = component(&args.file)?;
    let said = Said::listen();
    let script = Script::default();
    script.expect(&cases.setup.http);
    let subject = Subject::load(&name_of(&args.file), component.into(), &cases.setup, script.backend());
    let mut subject = match subject {
        Ok(subject) => subject,
        Err(error) => {
            said.take().iter().for_each(|line| eprintln!("{line}"));
            return Ok(refused(&format!("{}: {error:#}", args.file.display())));
        }
    };
    if let Some(wrong) = hook_that_is_missing(&cases, &subject) {
        return Ok(refused(&format!("{}:{wrong}", args.cases.display())));
    }
    let unasked = script.problems();
    if !unasked.is_empty() {
        return Ok(refused(&format!(
            "{}: init: {}",
            args.cases.display(),
            unasked.join("; ")
        )));
    }
    said.take();
    let outcomes = cases
        .cases
        .iter()
        .map(|case| outcome(case, &mut subject, &script, &said));
    let outcomes: Vec<_> = outcomes.collect::<Result<_>>()?;
    let text = if args.json { json(&outcomes)? } else { words(&outcomes) };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(match outcomes.iter().all(|outcome| outcome.ok) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn hook_that_is_missing(cases: &Cases, subject: &Subject) -> Option<String> {
    let missing = |case: &&Case| {
        let hook = case.question.hook().exported();
        hook.is_some_and(|hook| !subject.has_hook(hook))
    };
    let case = cases.cases.iter().find(missing)?;
    let hook = case.question.hook().name();
    Some(format!(
        "{}: case {:?}: the component does not export the hook {hook}; `nervewire plugin inspect` shows those it does",
        case.line, case.name
    ))
}

fn outcome<'a>(case: &'a Case, subject: &mut Subject, script: &Script, said: &Said) -> Result<Outcome<'a>> {
    let world = subject.world();
    world.move_to(world.unix_ms().saturating_add(case.advance_ms));
    script.expect(&case.http);
    let got = subject.answer(&case.client, &case.question)?;
    let problems = script.problems();
    Ok(Outcome {
        case,
        ok: case.expect.fits(&got) && problems.is_empty(),
        got,
        problems,
        said: said.take(),
    })
}

fn words(outcomes: &[Outcome<'_>]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let verdict = if outcome.ok { "ok" } else { "FAILED" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{verdict:<7} {}", outcome.case.name);
        if !outcome.ok {
            let _ = writeln!(text, "        line     {}", outcome.case.line);
            let _ = writeln!(text, "        expected {}", outcome.case.expect.json());
            let _ = writeln!(text, "        got      {}", outcome.got);
            for problem in &outcome.problems {
                let _ = writeln!(text, "        http     {problem}");
            }
            for line in &outcome.said {
                let _ = writeln!(text, "        log      {line}");
            }
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    let (all, ok) = (outcomes.len(), outcomes.len() - failed);
    let noun = if all == 1 { "case" } else { "cases" };
    let _ = writeln!(text, "{all} {noun}: {ok} ok, {failed} failed");
    text
}

fn json(outcomes: &[Outcome<'_>]) -> Result<String> {
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    let cases: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "name": outcome.case.name,
                "line": outcome.case.line,
                "hook": outcome.case.question.hook().name(),
                "ok": outcome.ok,
                "expected": outcome.case.expect.json(),
                "got": outcome.got,
                "http": outcome.problems,
                "log": outcome.said,
            })
        })
        .collect();
    let report = json!({ "ok": outcomes.len() - failed, "failed": failed, "cases": cases });
    Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
}
