//! `nervewire store`: the files of a broker that does not run.

use crate::cli::StoreCommand;
use anyhow::{Result, ensure};
use nervewire_store::{Journal, OpenError};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Carries out a command.
///
/// # Errors
/// What is wrong with the store, in words.
pub(crate) fn run(command: &StoreCommand) -> Result<ExitCode> {
    let text = match command {
        StoreCommand::Check(args) => check(&args.dir)?,
        StoreCommand::Repair(args) => repair(&args.dir)?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn check(dir: &Path) -> Result<String> {
    let found = Journal::check(existing(dir)?).map_err(explained)?;
    let mut text = format!(
        "{}: ok, {} bytes in {} files, {} records\n",
        dir.display(),
        found.bytes,
        found.segments,
        found.records
    );
    if found.cut_bytes > 0 {
        text += &format!(
            "{} bytes at the end are an unfinished write, of which nothing was acknowledged; a start cuts them off\n",
            found.cut_bytes
        );
    }
    Ok(text)
}

fn repair(dir: &Path) -> Result<String> {
    let repaired = Journal::repair(existing(dir)?).map_err(explained)?;
    if repaired.files.is_empty() {
        return Ok(format!("{}: nothing is damaged\n", dir.display()));
    }
    let mut text = format!(
        "{}: {} damaged bytes were set aside; what they held is lost, the broker starts with the rest\n",
        dir.display(),
        repaired.damaged_bytes
    );
    for file in &repaired.files {
        text += &format!("  {}\n", file.display());
    }
    Ok(text)
}

/// A directory that was mistyped must not become an empty store.
fn existing(dir: &Path) -> Result<&Path> {
    ensure!(
        dir.is_dir(),
        "{} is no directory; write the store/ in the data_dir of the broker",
        dir.display()
    );
    Ok(dir)
}

/// What to do about a store that cannot be opened.
pub(crate) fn explained(error: OpenError) -> anyhow::Error {
    let advice = match &error {
        OpenError::Locked { dir } => format!(
            "another broker runs on {}; stop it, or give this one another data_dir",
            dir.display()
        ),
        OpenError::Damaged { path, .. } => {
            let dir = path.parent().unwrap_or(path).display();
            format!("the store is damaged; `nervewire store repair {dir}` sets the damage aside")
        }
        OpenError::Version { .. } => "the store is of a later version of this broker; run that".to_owned(),
        OpenError::Io { .. } => "the store cannot be used".to_owned(),
    };
    anyhow::Error::new(error).context(advice)
}
