//! The `config` table.

use nervewire_plugin_sdk::prelude::*;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The `config` table; its keys are described at the [crate].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(crate) authentication: Option<EndpointConfig>,
    pub(crate) authorization: Option<EndpointConfig>,
}

/// A question and where it goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointConfig {
    #[serde(default)]
    pub(crate) method: Method,
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: Map<String, Value>,
    #[serde(default = "default_timeout_ms")]
    pub(crate) timeout_ms: u32,
    #[serde(default)]
    pub(crate) on_unavailable: Fallback,
    #[serde(default = "default_on_status")]
    pub(crate) on_status: Fallback,
    /// Of an authorization only.
    pub(crate) cache_ms: Option<u32>,
    /// Of an authentication only.
    pub(crate) tenant_attribute: Option<String>,
}

/// How a backend is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    #[serde(alias = "GET")]
    Get,
    #[default]
    #[serde(alias = "POST")]
    Post,
}

/// What holds where a backend says nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fallback {
    #[default]
    Deny,
    Ignore,
}

/// Below the broker's own limit for the whole call, so that the fallback decides and not `on_failure`.
fn default_timeout_ms() -> u32 {
    3_000
}

/// As in EMQX.
fn default_on_status() -> Fallback {
    Fallback::Ignore
}
