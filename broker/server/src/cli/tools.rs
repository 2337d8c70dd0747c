//! Arguments of the tools for plugin authors: `plugin test`, `bench` and `replay`, and `record`.

use super::ListArgs;
use crate::record::{MAX_MIB, MAX_SECONDS};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `plugin test`.
#[derive(Debug, Args)]
pub(crate) struct PluginTestArgs {
    /// The component (.wasm), or builtin:NAME
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The cases (TOML): configuration, questions and expected answers
    #[arg(value_name = "CASES.toml")]
    pub cases: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plugin bench`.
#[derive(Debug, Args)]
pub(crate) struct PluginBenchArgs {
    /// The component (.wasm), or builtin:NAME
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Its configuration as a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "cases")]
    pub config_json: Option<String>,
    /// Cases (TOML) that say its configuration, files and grants, and what it is asked
    #[arg(long, value_name = "CASES.toml")]
    pub cases: Option<PathBuf>,
    /// How long to measure altogether
    #[arg(long, value_name = "N", default_value_t = 6.0, value_parser = seconds)]
    pub seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plugin replay`.
#[derive(Debug, Args)]
pub(crate) struct PluginReplayArgs {
    /// The component (.wasm), or builtin:NAME
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What `nervewire record start` wrote
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// A broker's configuration: the plugin's config, files and grants are taken from it
    #[arg(long, value_name = "FILE.toml", requires = "plugin", conflicts_with = "cases")]
    pub config: Option<PathBuf>,
    /// Whose calls of the recording are meant, and its name in --config
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// Cases (TOML) that say its config, files and grants
    #[arg(long, value_name = "CASES.toml")]
    pub cases: Option<PathBuf>,
    /// Exit with 1 where an answer differs from the recorded one
    #[arg(long)]
    pub fail_on_difference: bool,
    /// Leave out calls that are answered as before
    #[arg(long)]
    pub only_differences: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (0.01..=3600.0).contains(seconds))
        .ok_or_else(|| "write seconds from 0.01 to 3600".to_owned())
}

/// Commands about recordings.
#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Start to record
    Start(RecordStartArgs),
    /// End the recording that runs
    Stop(ListArgs),
    /// Show the recording that runs, or the last one
    Status(ListArgs),
}

/// Arguments of `record start`.
#[derive(Debug, Args)]
pub(crate) struct RecordStartArgs {
    /// Name of the file that the broker writes, in recordings/ of its data_dir
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Only calls of this plugin
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// Only calls about this client identifier
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Only calls of this hook
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<String>,
    /// When it ends by itself
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    pub seconds: u64,
    /// How large the file may become
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=MAX_MIB))]
    pub max_mib: u64,
    /// Keep no payloads and no correlation data
    #[arg(long)]
    pub no_payloads: bool,
    #[command(flatten)]
    pub list: ListArgs,
}
