//! What the admin API asks of a running broker, and the data it answers with.
//!
//! The structs are the API's JSON: the server writes them and the command line reads them. A field's name carries its unit.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::alerts::AlertPage;
use super::bans::{BanList, BanRefused, BanTarget, Banned, Lifted};
use super::diff::PluginDiff;
use super::explain::{Explained, Wanted};
use super::metrics::MetricsSnapshot;

/// An answer that is on its way: boxed, so that [`Backend`] can be a trait object.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A running broker, as the admin API sees it.
///
/// Questions may be dropped unanswered when they take too long. [`kick`](Backend::kick) and [`reload`](Backend::reload) are
/// always driven to their end, also when whoever asked has gone.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The broker at a glance.
    fn status(&self) -> Answer<'_, Status>;

    /// One page of the sessions, in an order that stays the same between pages as long as no session comes or goes.
    fn clients(&self, page: PageRequest) -> Answer<'_, ClientPage>;

    /// One session, connected or not; `None`: there is none.
    fn client(&self, key: NamedClient) -> Answer<'_, Option<ClientInfo>>;

    /// Disconnects a client with reason 0x98, administrative action. `false`: no such client is connected.
    fn kick(&self, key: NamedClient) -> Answer<'_, bool>;

    /// Ends the bound on a client's publish rate that a detector asked for. `false`: there is none.
    fn unthrottle(&self, key: NamedClient) -> Answer<'_, bool>;

    /// The last findings of detectors, the newest first.
    fn alerts(&self, limit: u64) -> Answer<'_, AlertPage>;

    /// The plugins in the order of the chain.
    fn plugins(&self) -> Answer<'_, Vec<PluginInfo>>;

    /// What was seen of a plugin in shadow mode; `None`: no plugin of this name is.
    fn diff(&self, plugin: String) -> Answer<'_, Option<PluginDiff>>;

    /// Forgets it. `false`: no plugin of this name is in shadow mode.
    fn reset_diff(&self, plugin: String) -> Answer<'_, bool>;

    /// How a request would be decided; an error says what is wrong with the question.
    fn explain(&self, wanted: Wanted) -> Answer<'_, Result<Explained, String>>;

    /// Reads the configuration again and swaps it in whole; answers after every shard has the new generation. Never called
    /// while an earlier call through the same server is unanswered.
    fn reload(&self) -> Answer<'_, Result<ReloadReport, ReloadError>>;

    /// Goes back to the configuration and plugins before the last change; answers after every shard has them. Never called while
    /// a reload through the same server is unanswered.
    fn rollback(&self) -> Answer<'_, Result<RollbackReport, ReloadError>>;

    /// Starts to record calls of plugins.
    fn record_start(&self, request: RecordRequest) -> Answer<'_, Result<RecordStatus, RecordError>>;

    /// Ends the recording that runs; answers after the file is complete.
    fn record_stop(&self) -> Answer<'_, Result<RecordStatus, RecordError>>;

    /// The recording that runs, or the last one.
    fn record_status(&self) -> Answer<'_, RecordStatus>;

    /// Who is kept out.
    fn bans(&self) -> Answer<'_, BanList>;

    /// Keeps somebody out from now on, and disconnects whom that concerns.
    fn ban(&self, target: BanTarget) -> Answer<'_, Result<Banned, BanRefused>>;

    /// Ends a ban.
    fn lift(&self, target: BanTarget) -> Answer<'_, Result<Lifted, BanRefused>>;

    /// Every counter and gauge, summed over the shards.
    fn metrics(&self) -> Answer<'_, MetricsSnapshot>;

    /// Whether the broker serves clients: all shards answer.
    fn healthy(&self) -> Answer<'_, bool>;
}

/// The client that a request names: the same client identifier may exist once in each tenant. Not core's `ClientKey`, because it is
/// extracted from requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NamedClient {
    /// Its tenant; `None`: it belongs to none.
    pub tenant: Option<String>,
    /// MQTT client identifier.
    pub client_id: String,
}

/// Which part of a long list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// Counted from 1.
    pub page: u64,
    /// Entries per page, 1 to [`MAX_CLIENTS_PER_PAGE`](super::api::MAX_CLIENTS_PER_PAGE).
    pub limit: u64,
}

impl PageRequest {
    /// How many entries come before this page.
    pub(crate) fn offset(self) -> u64 {
        self.page.saturating_sub(1).saturating_mul(self.limit)
    }
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The broker's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Number of shards.
    pub shards: u64,
    /// Generation of the configuration and plugins; grows by one with every reload that changed something.
    pub generation: u64,
    /// Open MQTT connections.
    pub connections: u64,
    /// The bound of `connections` in force, after it was fitted to the open-file limit.
    pub max_connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Messages in the queues of all sessions.
    pub queued_messages: u64,
    /// Their size.
    pub queued_bytes: u64,
    /// What "acknowledged" means: `memory`, `os` or `fsync`.
    pub durability: String,
    /// What is stored; `None`: nothing is.
    pub store: Option<StoreStatus>,
    /// The configuration file; `None`: the embedded defaults.
    pub config_file: Option<String>,
    /// The MQTT listeners.
    pub listeners: Vec<ListenerStatus>,
    /// The latest attempt to load a changed configuration; `None`: there was none since the start.
    pub last_reload: Option<LastReload>,
    /// Milliseconds that the plugins of the latest reload are still watched for failures; `None`: they have come through.
    pub on_probation_ms: Option<u64>,
    /// Generation whose configuration and plugins a rollback brings back; `None`: there is none.
    pub rollback_generation: Option<u64>,
    /// The latest way back; `None`: there was none since the start.
    pub last_rollback: Option<LastRollback>,
}

/// A way back to an earlier generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRollback {
    /// When, in seconds since 1970.
    pub at_unix_s: u64,
    /// `automatic` or `manual`.
    pub cause: String,
    /// The generation that was taken back.
    pub from_generation: u64,
    /// The generation whose configuration and plugins are in force again.
    pub to_generation: u64,
    /// Why.
    pub reason: String,
}

/// The store of a broker whose durability is not `memory`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreStatus {
    /// Size of its files.
    pub bytes: u64,
    /// Bytes that wait to be stored.
    pub pending_bytes: u64,
    /// Why nothing is stored at present; `None`: everything is.
    pub trouble: Option<String>,
    /// What the disk last said when something failed; `None`: nothing has failed since the start.
    pub last_error: Option<String>,
}

/// One MQTT listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerStatus {
    /// The address it is bound to.
    pub bind: String,
    /// `tcp` or `ws`.
    pub transport: String,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// How the latest reload went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastReload {
    /// When, in seconds since 1970.
    pub at_unix_s: u64,
    /// Whether the new configuration was taken.
    pub ok: bool,
    /// Why it was not.
    pub error: Option<String>,
}

/// Answer of `GET /v1/clients`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientPage {
    /// Sessions in all, on this page or not.
    pub total: u64,
    /// Which page this is, counted from 1.
    pub page: u64,
    /// Entries per page.
    pub limit: u64,
    /// The sessions of this page.
    pub clients: Vec<ClientInfo>,
}

/// One session and, while it is connected, its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientInfo {
    /// MQTT client identifier.
    pub client_id: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// User name of its identity.
    pub username: Option<String>,
    /// Whether a connection is open.
    pub connected: bool,
    /// Address and port of the peer of its latest connection.
    pub address: Option<String>,
    /// The listener that connection came in through.
    pub listener: Option<String>,
    /// `3.1`, `3.1.1` or `5.0`.
    pub protocol: String,
    /// Seconds the session outlives its connection; `None`: for ever.
    pub session_expiry_s: Option<u64>,
    /// Keep alive in force, in seconds; 0: none.
    pub keep_alive_s: u64,
    /// When its latest connection was accepted, in seconds since 1970.
    pub connected_at_unix_s: Option<u64>,
    /// Number of its subscriptions.
    pub subscriptions: u64,
    /// Number of its filters whose right was taken away: what only they match is not delivered until they have it again.
    pub suspended: u64,
    /// The first of them.
    pub suspended_filters: Vec<String>,
    /// Messages waiting for it.
    pub queued_messages: u64,
    /// Their size.
    pub queued_bytes: u64,
    /// Messages sent to it and not yet acknowledged.
    pub in_flight: u64,
    /// Generation of the policy it was last judged by.
    pub generation: u64,
}

/// Answer of `POST /v1/clients/ID/kick`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kicked {
    /// Whose connection was closed.
    pub client_id: String,
    /// Its tenant.
    pub tenant: Option<String>,
}

/// One plugin of the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PluginInfo {
    /// Its name in the configuration.
    pub name: String,
    /// Where its component comes from: `builtin:NAME` or a path.
    pub component: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Generation it was loaded with.
    pub generation: u64,
    /// The hooks it is called for.
    pub hooks: Vec<String>,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// What a failed call means: `deny` or `skip`.
    pub on_failure: String,
    /// `closed`: it is called; `open`: it is not, after too many failures; `half-open`: a probe is out.
    pub breaker: String,
    /// How often each hook was called and how the calls ended: hook, outcome, number.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// Calls that failed: trap, timeout, over a limit, or an answer that is none.
    pub failures: u64,
    /// Mean time of a call, in microseconds.
    pub mean_us: Option<f64>,
    /// Median time of a call, in microseconds.
    pub p50_us: Option<f64>,
    /// Time that 99 of 100 calls stay under, in microseconds.
    pub p99_us: Option<f64>,
    /// Times by hook.
    pub times: BTreeMap<String, CallTimes>,
    /// How often its breaker opened.
    pub breaker_opened: u64,
    /// Instances at present.
    pub instances: u64,
    /// Instances thrown away after a failed call.
    pub instances_replaced: u64,
    /// Linear memory of all its instances.
    pub memory_bytes: u64,
    /// What it asked for and no grant covers.
    pub refused_grants: u64,
    /// How often it wants its `tick`; `None`: never.
    pub tick_ms: Option<u64>,
    /// Ticks that came too late and were left out.
    pub ticks_skipped: u64,
    /// Messages of its ticks over their bound.
    pub tick_messages_dropped: u64,
    /// Entries in its `kv` store.
    pub kv_entries: u64,
    /// Their size.
    pub kv_bytes: u64,
    /// Writes that its `kv` store refused.
    pub kv_refused: u64,
}

/// How long calls of one hook take, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CallTimes {
    /// Mean.
    pub mean_us: Option<f64>,
    /// Median.
    pub p50_us: Option<f64>,
    /// What 99 of 100 calls stay under.
    pub p99_us: Option<f64>,
}

/// Answer of a `POST /v1/reload` that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadReport {
    /// The generation now in force.
    pub generation: u64,
    /// What changed, a sentence each; empty: nothing did.
    pub changes: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Answer of a `POST /v1/rollback` that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RollbackReport {
    /// The generation now in force.
    pub generation: u64,
    /// The generation whose configuration and plugins it has.
    pub of_generation: u64,
    /// What changed, a sentence each.
    pub changes: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A reload that was refused; the running configuration is untouched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", messages.join("; "))]
pub(crate) struct ReloadError {
    /// What is wrong and what to write instead, one entry per finding.
    pub messages: Vec<String>,
}

/// Body of `POST /v1/record/start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordRequest {
    /// Name of the file in `recordings/` of the broker's data_dir.
    pub file: String,
    /// Only calls of this plugin.
    #[serde(default)]
    pub plugin: Option<String>,
    /// Only calls about this client identifier.
    #[serde(default)]
    pub client: Option<String>,
    /// Only calls of this hook.
    #[serde(default)]
    pub hook: Option<String>,
    /// When it ends by itself.
    #[serde(default = "RecordRequest::default_seconds")]
    pub seconds: u64,
    /// How large the file may become.
    #[serde(default = "RecordRequest::default_max_mib")]
    pub max_mib: u64,
    /// Whether payloads and correlation data are kept.
    #[serde(default = "RecordRequest::default_payloads")]
    pub payloads: bool,
}

impl RecordRequest {
    fn default_seconds() -> u64 {
        60
    }

    fn default_max_mib() -> u64 {
        64
    }

    fn default_payloads() -> bool {
        true
    }
}

impl Default for RecordRequest {
    fn default() -> Self {
        Self {
            file: String::new(),
            plugin: None,
            client: None,
            hook: None,
            seconds: Self::default_seconds(),
            max_mib: Self::default_max_mib(),
            payloads: Self::default_payloads(),
        }
    }
}

/// Answer of the requests about recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordStatus {
    /// Whether calls are being recorded.
    pub active: bool,
    /// The file on the broker's machine; `None`: nothing was recorded since the start.
    pub file: Option<String>,
    /// Only calls of this plugin.
    pub plugin: Option<String>,
    /// Only calls about this client identifier.
    pub client: Option<String>,
    /// Only calls of this hook.
    pub hook: Option<String>,
    /// Whether payloads and correlation data are kept.
    pub payloads: bool,
    /// Calls written.
    pub records: u64,
    /// Calls that were not, because the file was written more slowly than they came.
    pub dropped: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Until it ends by itself.
    pub seconds_left: Option<u64>,
    /// Why it ended.
    pub ended: Option<String>,
}

/// A recording that cannot be started or stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RecordError(pub String);

/// The JSON of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// What went wrong and what to do about it.
    pub error: String,
    /// The single findings, where there are several: a refused reload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}
