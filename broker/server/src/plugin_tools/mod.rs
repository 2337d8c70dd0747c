//! Tools for plugin authors: what a component is, whether it answers as expected, without a broker.

pub(crate) mod answers;
pub(crate) mod bench;
mod bench_callee;
mod bench_report;
mod bench_table;
mod cases;
pub(crate) mod exchange;
mod expect;
pub(crate) mod inspect;
pub(crate) mod nouns;
mod pairs;
pub(crate) mod recording;
pub(crate) mod replay;
mod said;
mod script;
mod secrets;
mod served;
mod subject;
pub(crate) mod test;

use crate::builtin;
use anyhow::{Context, Result};
use std::borrow::Cow;
use std::path::Path;
use std::process::ExitCode;

/// A file, or a bundled plugin by its name in a configuration.
fn component(file: &Path) -> Result<Cow<'static, [u8]>> {
    let builtin = file
        .to_str()
        .and_then(|name| builtin::component(name.strip_prefix("builtin:")?));
    match builtin {
        Some(component) => Ok(Cow::Borrowed(component)),
        None => std::fs::read(file)
            .map(Cow::Owned)
            .with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// What a plugin is called in its log: `acl` for `builtin:acl` and for `target/acl.wasm`.
fn name_of(file: &Path) -> String {
    let name = file.to_str().and_then(|name| name.strip_prefix("builtin:"));
    let stem = || file.file_stem().and_then(|stem| stem.to_str());
    name.or_else(stem).unwrap_or("plugin").to_owned()
}

/// Says what is wrong with what was given, exit code 2.
fn refused(message: &str) -> ExitCode {
    eprintln!("nervewire: {message}");
    ExitCode::from(2)
}
