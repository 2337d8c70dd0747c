//! Tables of rules, as the bundled plugins have them.

use nervewire_plugin_sdk::{prelude::*, topic::is_valid_filter};

/// What becomes of a payload that a rule is about and that is not JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInvalid {
    /// Payload format invalid.
    #[default]
    Reject,
    /// It stays as it is.
    Pass,
}

/// Compiles entries of a table.
///
/// # Errors
/// Of the first entry that has one, with its place: `config.rules, entry 2: ...`, counted from one, as people count.
pub fn compile_each<C, R>(
    table: &str,
    entries: Vec<C>,
    mut compile: impl FnMut(C) -> Result<R, String>,
) -> Result<Vec<R>, String> {
    let numbered = entries.into_iter().zip(1_u32..);
    numbered
        .map(|(entry, number)| compile(entry).map_err(|error| format!("{table}, entry {number}: {error}")))
        .collect()
}

/// # Errors
/// In words, where this is no topic filter.
pub fn check_filter(filter: &str) -> Result<(), String> {
    if is_valid_filter(filter) {
        return Ok(());
    }
    Err(format!("match = `{filter}` is no topic filter"))
}
