//! The file that `record` writes and `replay` reads: JSON, a line each: a header, the calls in the order in which they ended, an end.

use super::exchange::ExchangeLine;
use super::nouns::{ClientText, MessageText, RequestText};
use crate::window_text::WindowText;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the format. 2: calls of `tick` and `detect`, which have no `client`, and `http`.
pub(crate) const VERSION: u32 = 2;
/// The oldest version that is read.
pub(crate) const OLDEST_VERSION: u32 = 1;
/// What stands in place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// The first line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Header {
    /// [`VERSION`].
    pub nervewire_recording: u32,
    /// The broker's version.
    pub broker: String,
    pub started_unix_ms: u64,
    /// Whether payloads and correlation data were kept.
    pub payloads: bool,
    /// What it was limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
}

/// One call.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CallLine {
    /// When it ended.
    pub at_unix_ms: u64,
    pub plugin: String,
    /// The generation of the configuration that loaded the plugin.
    pub generation: u64,
    /// SHA-256 of its component.
    pub digest: String,
    /// `authenticate`, `rules`, `authorize`, `transform`, `tick` or `detect`.
    pub call: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageText>,
    /// The size of a payload that was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted_payload_bytes: Option<usize>,
    /// What `tick` was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_unix_ms: Option<u64>,
    /// What `detect` was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<WindowText>>,
    /// The requests it made to backends, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<ExchangeLine>,
    /// Requests, header fields and bodies that were too many or too large for a recording.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub http_over_bound: u64,
    /// In the words of CASES.toml; `null` for `rules` means: ask for every request.
    #[serde(default)]
    pub answer: Value,
    /// How the call failed: there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub took_ns: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is kept of credentials: which there were, and none of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct CredentialsLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    pub reauthentication: bool,
}

/// The last line; where it is missing, the broker ended first.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Footer {
    pub end: End,
}

/// How a recording ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct End {
    pub records: u64,
    /// Calls that were not written, because the disk was slower than they.
    pub dropped: u64,
    pub reason: String,
}
