//! The configuration file: read, checked as a whole, and refused with the line of everything that is wrong.
//!
//! `schema` is what the broker works with, `parse` says which keys there are, `section` reads a table without losing a problem,
//! `validate` knows what single values mean.

mod error;
mod json;
mod limits;
mod listener;
mod nearest;
mod parse;
mod schema;
mod section;
mod tls;
mod validate;

pub(crate) use error::{ConfigError, ConfigErrors, position};
pub(crate) use schema::*;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use validate::Surroundings;

/// The configuration without `--config`, as `--print-config` shows it.
pub(crate) const DEFAULTS_TOML: &str = include_str!("defaults.toml");

/// What the defaults are called in messages.
const DEFAULTS_NAME: &str = "embedded defaults";

impl Config {
    /// Reads and checks a file. `builtins` are the names of the embedded components. Files that it names are looked for, TLS
    /// files are loaded; relative paths start from the file's directory.
    pub(crate) fn load(path: &Path, builtins: &[&str]) -> Result<Self, ConfigErrors> {
        let file_name = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            let message = format!("cannot be read: {error}; write --config FILE with a readable TOML file");
            ConfigErrors(vec![ConfigError {
                file: file_name.clone(),
                position: None,
                message,
            }])
        };
        let text = read_bounded(path).map_err(unreadable)?;
        let config = Self::parse(&text, &file_name, path.parent().unwrap_or(Path::new("")), builtins)?;
        Ok(Self {
            file: Some(path.to_owned()),
            ..config
        })
    }

    /// Checks a text; `file_name` is what messages call it, `base_dir` where relative paths start.
    pub(crate) fn parse(text: &str, file_name: &str, base_dir: &Path, builtins: &[&str]) -> Result<Self, ConfigErrors> {
        parse::parse(text, file_name, &Surroundings { base_dir, builtins })
    }

    /// The embedded defaults; relative paths start from the working directory.
    pub(crate) fn defaults(builtins: &[&str]) -> Result<Self, ConfigErrors> {
        Self::parse(DEFAULTS_TOML, DEFAULTS_NAME, Path::new(""), builtins)
    }

    /// Every file whose change changes what the broker does: the configuration, components, plugins' files, TLS files.
    pub(crate) fn watched_files(&self) -> Vec<PathBuf> {
        let plugins = self
            .plugins
            .iter()
            .flat_map(|plugin| plugin.component.file().into_iter().chain(plugin.files.values()));
        let tls = self
            .listeners
            .iter()
            .filter_map(|listener| listener.tls.as_ref())
            .flat_map(TlsSettings::files);
        let mut files: Vec<_> = self.file.iter().chain(plugins).chain(tls).cloned().collect();
        files.sort();
        files.dedup();
        files
    }

    /// One line for a person: what this configuration makes of the broker.
    pub(crate) fn summary(&self) -> String {
        let listeners = self.listeners.iter().map(|listener| {
            let layers = match (&listener.transport, listener.tls.is_some()) {
                (Transport::Tcp, false) => "",
                (Transport::Tcp, true) => " (TLS)",
                (Transport::Ws(_), false) => " (ws)",
                (Transport::Ws(_), true) => " (wss)",
            };
            format!("{}{layers}", listener.bind.text)
        });
        let plugins = self.plugins.iter().map(|plugin| plugin.name.to_string());
        format!(
            "listeners: {}; plugins: {}; admin: {}",
            list(listeners),
            list(plugins),
            self.admin.bind.text
        )
    }
}

/// The keys that differ and take effect only at a start.
pub(crate) fn restart_only_changes(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("broker.shards", old.broker.shards != new.broker.shards),
        ("broker.data_dir", old.broker.data_dir != new.broker.data_dir),
        ("broker.durability", old.broker.durability != new.broker.durability),
        ("limits.store_bytes", old.limits.store_bytes != new.limits.store_bytes),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

impl TlsSettings {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = self.sni.iter().flat_map(|entry| [&entry.cert, &entry.key]);
        let client = self.client.iter();
        let client = client.flat_map(|client| std::iter::once(&client.client_ca).chain(&client.crl));
        [&self.cert, &self.key].into_iter().chain(pairs).chain(client)
    }
}

impl Component {
    fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Builtin(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// A file's text; refuses what is no configuration by its size alone, such as a device.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    const MAX_CONFIG_BYTES: u64 = 4 << 20;
    let mut text = String::new();
    File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_CONFIG_BYTES {
        true => Err(std::io::Error::other(format!("it is over {MAX_CONFIG_BYTES} bytes"))),
        false => Ok(text),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    }
}

#[cfg(test)]
mod tests;
