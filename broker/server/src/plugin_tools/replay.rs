//! `nervewire plugin replay`: recorded calls through a component, and what it answers now. Time is that of the recording and
//! random numbers follow from a seed, so that a replay repeats itself.

use super::cases::{self, Question, Setup};
use super::nouns::ClientText;
use super::recording::{CallLine, Footer, Header, OLDEST_VERSION, VERSION};
use super::said::Said;
use super::served::Served;
use super::subject::Subject;
use super::{answers, component, name_of, refused};
use crate::cli::PluginReplayArgs;
use crate::config::Config;
use crate::window_text::WindowText;
use crate::{builtin, generation};
use anyhow::{Context, Result, anyhow, bail};
use nervewire_core::hook::Client;
use nervewire_plugin_host::Hook;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Longest line of a recording that is read: a message of the largest packet, in base64, asked and answered sixteen times.
const MAX_LINE_BYTES: u64 = 512 * 1024 * 1024;

/// One call of the recording, and what became of it.
struct Replayed {
    line: usize,
    call: CallLine,
    now: Now,
    /// Requests that the recording has no answer to.
    refused: Vec<String>,
}

/// What the component does with a call now.
enum Now {
    Answers { answer: Value, same: bool },
    Skipped(&'static str),
}

/// What was read of a recording.
struct Recording {
    header: Header,
    calls: Vec<(usize, CallLine)>,
    complete: bool,
}

/// How many calls ended in which way.
#[derive(Default)]
struct Counts {
    same: usize,
    different: usize,
    skipped: usize,
    refused: usize,
}

/// Replays a recording. Exit code 2 where recording or configuration are wrong, 1 where answers differ and that was to fail.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn run(args: &PluginReplayArgs) -> Result<ExitCode> {
    let recording = match read(&args.recording) {
        Ok(recording) => recording,
        Err(error) => return Ok(refused(&format!("{error:#}"))),
    };
    let (setup, calls) = match setup(args).and_then(|setup| Ok((setup, select(args, recording.calls)?))) {
        Ok(ready) => ready,
        Err(error) => return Ok(refused(&format!("{error:#}"))),
    };
    let setup = Setup {
        now_ms: recording.header.started_unix_ms,
        ..setup
    };
    let said = Said::listen();
    let bytes = component(&args.file)?;
    let served = Served::new(&setup.http, &calls);
    let mut subject = match Subject::load(&name_of(&args.file), bytes.into(), &setup, served.backend()) {
        Ok(subject) => subject,
        Err(error) => {
            said.take().iter().for_each(|line| eprintln!("{line}"));
            served.refused().iter().for_each(|why| eprintln!("init: {why}"));
            let advice = "--config FILE.toml --plugin NAME or --cases CASES.toml say how it is configured";
            return Ok(refused(&format!("{}: {error:#}; {advice}", args.file.display())));
        }
    };
    let payloads = recording.header.payloads;
    said.take();
    let replayed = calls.into_iter().map(|(line, call)| {
        served.begin(line);
        let replayed = replay(line, call, payloads, &mut subject)?;
        Ok(Replayed {
            refused: served.refused(),
            ..replayed
        })
    });
    let replayed: Vec<_> = replayed.collect::<Result<_>>()?;
    let counts = count(&replayed);
    let text = match args.json {
        true => to_json(&replayed, &counts, recording.complete)?,
        false => words(&replayed, &counts, recording.complete, args.only_differences),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(match args.fail_on_difference && counts.different > 0 {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn read(path: &Path) -> Result<Recording> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut file = BufReader::new(file);
    let at = |line: usize| format!("{}:{line}", path.display());
    let first = next_line(&mut file)?.with_context(|| format!("{}: is empty", at(1)))?;
    let header: Header = serde_json::from_str(&first)
        .with_context(|| format!("{}: is no recording; `nervewire record start` makes one", at(1)))?;
    if !(OLDEST_VERSION..=VERSION).contains(&header.nervewire_recording) {
        let version = header.nervewire_recording;
        bail!(
            "{}: is of version {version}; this nervewire reads versions {OLDEST_VERSION} to {VERSION}",
            at(1)
        );
    }
    let (mut calls, mut complete) = (Vec::new(), false);
    for number in 2.. {
        let Some(line) = next_line(&mut file)? else { break };
        if serde_json::from_str::<Footer>(&line).is_ok() {
            complete = true;
            break;
        }
        match serde_json::from_str(&line) {
            Ok(call) => calls.push((number, call)),
            // The broker ended while it wrote the last line.
            Err(_) if next_line(&mut file)?.is_none() => break,
            Err(error) => bail!("{}: is no recorded call: {error}", at(number)),
        }
    }
    Ok(Recording {
        header,
        calls,
        complete,
    })
}

fn next_line(file: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    let read = std::io::Read::take(file, MAX_LINE_BYTES).read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

/// Configuration, files and grants: of a broker's configuration, or of a file of cases.
fn setup(args: &PluginReplayArgs) -> Result<Setup> {
    if let Some(path) = &args.cases {
        return Ok(cases::read(path).map_err(|wrong| anyhow!("{wrong}"))?.setup);
    }
    let (Some(file), Some(name)) = (&args.config, &args.plugin) else {
        return Ok(Setup::default());
    };
    let config = Config::load(file, &builtin::names()).map_err(|wrong| anyhow!("{wrong}"))?;
    let plugin = config.plugins.iter().find(|plugin| *plugin.name == **name);
    let plugin = plugin.ok_or_else(|| anyhow!("{} has no plugin {name:?}", file.display()))?;
    Ok(Setup {
        config_json: Value::Object(plugin.config.clone()).to_string(),
        files: generation::read_files(plugin)?,
        grants: plugin.grants.clone(),
        ..Setup::default()
    })
}

/// The calls of the plugin that is meant.
fn select(args: &PluginReplayArgs, calls: Vec<(usize, CallLine)>) -> Result<Vec<(usize, CallLine)>> {
    let mut names: Vec<&str> = calls.iter().map(|(_, call)| call.plugin.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let list = names.join(", ");
    match &args.plugin {
        Some(name) if !names.is_empty() && !names.contains(&name.as_str()) => {
            bail!("the recording has no call of a plugin {name:?}; it has calls of: {list}")
        }
        None if names.len() > 1 => bail!("the recording has calls of several plugins; write --plugin, one of: {list}"),
        _ => {}
    }
    let meant = |call: &CallLine| args.plugin.as_ref().is_none_or(|name| *name == call.plugin);
    Ok(calls.into_iter().filter(|(_, call)| meant(call)).collect())
}

/// `payloads`: whether the recording has them.
fn replay(line: usize, call: CallLine, payloads: bool, subject: &mut Subject) -> Result<Replayed> {
    subject.world().move_to(call.at_unix_ms);
    let now = match asked(&call, subject) {
        Err(why) => Now::Skipped(why),
        Ok(asked) => {
            let answer = match asked {
                Asked::Rules(client) => subject.rules(&client)?,
                Asked::Client(client, Question::Authorize(request)) => subject.authorize(&client, &request)?,
                Asked::Client(client, question) => subject.answer(&client, &question)?,
                Asked::Tick(now_unix_ms) => subject.tick(now_unix_ms)?,
                Asked::Detect(windows) => subject.answer(&cases::default_client(), &Question::Detect(windows))?,
            };
            let recorded = match &call.failed {
                Some(_) => &Value::from(answers::FAILED),
                None => &call.answer,
            };
            Now::Answers {
                same: same(&answer, recorded, payloads),
                answer,
            }
        }
    };
    Ok(Replayed {
        line,
        call,
        now,
        refused: Vec::new(),
    })
}

/// What a recorded call asks.
enum Asked {
    Rules(Client),
    Client(Client, Question),
    Tick(u64),
    Detect(Vec<WindowText>),
}

/// Without payloads in the recording, what was published is compared without them.
fn same(now: &Value, recorded: &Value, payloads: bool) -> bool {
    match payloads {
        true => now == recorded,
        false => without_payloads(now.clone()) == without_payloads(recorded.clone()),
    }
}

fn without_payloads(mut answer: Value) -> Value {
    const PAYLOADS: [&str; 4] = [
        "payload",
        "payload_base64",
        "correlation_data",
        "correlation_data_base64",
    ];
    let messages = answer.get_mut("emit").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten().filter_map(Value::as_object_mut) {
        PAYLOADS.iter().for_each(|name| drop(message.remove(*name)));
    }
    answer
}

/// An error says why the call cannot be replayed.
fn asked(call: &CallLine, subject: &Subject) -> Result<Asked, &'static str> {
    let hook = |hook| match subject.has_hook(hook) {
        true => Ok(()),
        false => Err("the component does not export the hook"),
    };
    let broken = "the line is not complete";
    let client = || call.client.as_ref().map(ClientText::client).ok_or(broken);
    match call.call.as_str() {
        "authenticate" => Err("credentials are not recorded"),
        "rules" => {
            hook(Hook::Authorize)?;
            client().map(Asked::Rules)
        }
        "authorize" => {
            hook(Hook::Authorize)?;
            let request = call.request.as_ref().and_then(|request| request.request().ok());
            let question = Question::Authorize(request.ok_or(broken)?);
            Ok(Asked::Client(client()?, question))
        }
        "transform" => {
            hook(Hook::Transform)?;
            if call.redacted_payload_bytes.is_some() {
                return Err("the payload was not recorded");
            }
            let message = call.message.as_ref().and_then(|message| message.message().ok());
            let question = Question::Transform(message.ok_or(broken)?);
            Ok(Asked::Client(client()?, question))
        }
        "tick" => call.now_unix_ms.map(Asked::Tick).ok_or(broken),
        "detect" => {
            hook(Hook::Detect)?;
            call.windows.clone().map(Asked::Detect).ok_or(broken)
        }
        _ => Err("this version does not know the call"),
    }
}

fn count(replayed: &[Replayed]) -> Counts {
    let mut counts = Counts::default();
    for call in replayed {
        counts.refused += call.refused.len();
        match call.now {
            Now::Answers { same: true, .. } => counts.same += 1,
            Now::Answers { same: false, .. } => counts.different += 1,
            Now::Skipped(_) => counts.skipped += 1,
        }
    }
    counts
}

fn words(replayed: &[Replayed], counts: &Counts, complete: bool, only_differences: bool) -> String {
    let mut text = String::new();
    for replayed in replayed {
        let what = what(&replayed.call);
        // Writing into a String cannot fail.
        match &replayed.now {
            Now::Answers { answer, same: false } => {
                let _ = writeln!(text, "DIFFERENT line {}  {what}", replayed.line);
                let _ = writeln!(text, "          recorded {}", recorded(&replayed.call));
                let _ = writeln!(text, "          now      {answer}");
            }
            _ if only_differences => {}
            Now::Answers { answer, .. } => {
                let _ = writeln!(text, "same      line {}  {what}: {answer}", replayed.line);
            }
            Now::Skipped(why) => {
                let _ = writeln!(text, "skipped   line {}  {what}: {why}", replayed.line);
            }
        }
        let shown = !only_differences || matches!(replayed.now, Now::Answers { same: false, .. });
        for why in replayed.refused.iter().filter(|_| shown) {
            let _ = writeln!(text, "          http     {why}");
        }
    }
    for (why, number) in reasons(replayed) {
        let _ = writeln!(text, "{number} skipped: {why}");
    }
    if !complete {
        let _ = writeln!(
            text,
            "the recording has no end: the broker ended before it, or still records"
        );
    }
    let Counts {
        same,
        different,
        skipped,
        refused,
    } = counts;
    if *refused > 0 {
        let noun = if *refused == 1 { "request was" } else { "requests were" };
        let _ = writeln!(text, "{refused} {noun} refused: the recording has no answer");
    }
    let _ = writeln!(
        text,
        "{} calls: {same} the same, {different} different, {skipped} skipped",
        replayed.len()
    );
    text
}

/// Why calls were skipped, and how many.
fn reasons(replayed: &[Replayed]) -> Vec<(&'static str, usize)> {
    let mut reasons: Vec<(&'static str, usize)> = Vec::new();
    for replayed in replayed {
        let Now::Skipped(why) = replayed.now else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, number)) => *number += 1,
            None => reasons.push((why, 1)),
        }
    }
    reasons
}

fn what(call: &CallLine) -> String {
    let client = match (&call.client, &call.windows) {
        (Some(client), _) => &client.client_id,
        (None, Some(windows)) => return format!("{} {}", call.call, clients(windows)),
        (None, None) => return call.call.clone(),
    };
    match (&call.request, &call.message) {
        (Some(request), _) => {
            let action = json!(request.action);
            let action = action.as_str().unwrap_or_default();
            format!("{} client {client:?} {action} {:?}", call.call, request.topic)
        }
        (_, Some(message)) => format!("{} client {client:?} {:?}", call.call, message.topic),
        _ => format!("{} client {client:?}", call.call),
    }
}

/// Whose windows they are, where they are few.
fn clients(windows: &[WindowText]) -> String {
    const MOST_NAMES: usize = 3;
    let names: Vec<String> = windows
        .iter()
        .take(MOST_NAMES)
        .map(|window| format!("{:?}", window.client_id))
        .collect();
    let more = match windows.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("clients {}{more}", names.join(", "))
}

fn recorded(call: &CallLine) -> String {
    match &call.failed {
        Some(outcome) => format!("no answer: {outcome}"),
        None => call.answer.to_string(),
    }
}

fn to_json(replayed: &[Replayed], counts: &Counts, complete: bool) -> Result<String> {
    let calls: Vec<Value> = replayed
        .iter()
        .map(|replayed| {
            let call = &replayed.call;
            let mut row = json!({
                "line": replayed.line, "call": call.call,
                "client_id": call.client.as_ref().map(|client| &client.client_id),
                "request": call.request, "topic": call.message.as_ref().map(|message| &message.topic),
                "windows": call.windows, "recorded": call.answer, "recorded_failure": call.failed,
            });
            match &replayed.now {
                Now::Answers { answer, same } => {
                    row["now"] = answer.clone();
                    row["same"] = (*same).into();
                }
                Now::Skipped(why) => row["skipped"] = (*why).into(),
            }
            if !replayed.refused.is_empty() {
                row["refused_requests"] = json!(replayed.refused);
            }
            row
        })
        .collect();
    let report = json!({
        "same": counts.same, "different": counts.different, "skipped": counts.skipped,
        "refused_requests": counts.refused, "complete": complete, "calls": calls,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
}
