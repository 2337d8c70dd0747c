//! `nervewire plugin inspect`: what a component is, without running it.

use super::component;
use crate::cli::PluginInspectArgs;
use anyhow::{Result, anyhow};
use nervewire_plugin_host::{Host, HostConfig, HttpNeed, Inspection};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Prints it; exit code 1 for a component that no configuration can load.
///
/// # Errors
/// A file that cannot be read, or is no component.
pub(crate) fn run(args: &PluginInspectArgs) -> Result<ExitCode> {
    let component = component(&args.file)?;
    let host = Host::new(HostConfig {
        max_instances: 8,
        ..HostConfig::default()
    })?;
    let inspection = host
        .inspect(&component)
        .map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    let text = if args.json {
        json(&inspection)?
    } else {
        words(&inspection)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if inspection.refusals.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn json(inspection: &Inspection) -> Result<String> {
    let hooks: Vec<&str> = inspection.hooks.iter().map(|hook| hook.name()).collect();
    let grants: Vec<String> = inspection.grants.iter().map(ToString::to_string).collect();
    let value = serde_json::json!({
        "hooks": hooks,
        "wit_version": inspection.wit_version,
        "grants": grants,
        "http": http(inspection),
        "imports": inspection.imports,
        "refusals": inspection.refusals,
        "size_bytes": inspection.size_bytes,
        "digest": inspection.digest,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

/// `null`: it makes no requests.
fn http(inspection: &Inspection) -> Option<&'static str> {
    match inspection.http {
        HttpNeed::None => None,
        HttpNeed::Optional => Some("optional"),
        HttpNeed::Required => Some("required"),
    }
}

fn words(inspection: &Inspection) -> String {
    let list = |items: Vec<String>| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(", ")
        }
    };
    let hooks = list(inspection.hooks.iter().map(|hook| hook.name().to_owned()).collect());
    let http = http(inspection).map(|need| format!("\"http://HOST:PORT\" ({need})"));
    let grants = inspection.grants.iter().map(|grant| format!("\"{grant}\""));
    let grants = list(grants.chain(http).collect());
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<8} {value}"); // Writing to a String cannot fail.
    };
    line("hooks", &hooks);
    line(
        "contract",
        inspection.wit_version.as_deref().map_or("none", |version| version),
    );
    line("grants", &grants);
    line("size", &format!("{} bytes", inspection.size_bytes));
    line("sha256", &inspection.digest);
    for import in &inspection.imports {
        line("import", import);
    }
    for refusal in &inspection.refusals {
        line("refused", refusal);
    }
    text
}
