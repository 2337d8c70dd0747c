//! `/metrics`: the broker's counters as OpenMetrics text.
//!
//! Shards keep plain integers; a scrape sums them into a [`MetricsSnapshot`], which is rendered here. Labels are bounded
//! enumerations, never a client or a topic.

mod families;

use std::borrow::Cow;
use std::fmt;

use crate::tls::TlsMetrics;
use families::{Families, escape_label, label};
use nervewire_core::shadow::{Kind, ShadowHook, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};

/// `Content-Type` of [`render`]'s text.
pub(crate) const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A counter per value of one label.
pub(crate) type Labelled = Vec<(&'static str, u64)>;

/// Every number `/metrics` shows, summed over the shards. Counters count from the start of the broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MetricsSnapshot {
    /// Open MQTT connections.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Their size.
    pub retained_bytes: u64,
    /// Messages waiting in the queues of all sessions.
    pub queued_messages: u64,
    /// Their size.
    pub queued_bytes: u64,
    /// PUBLISH packets received, by QoS.
    pub messages_received: [u64; 3],
    /// PUBLISH packets sent, by QoS.
    pub messages_sent: [u64; 3],
    /// Messages that did not reach a receiver they were meant for, by reason.
    pub messages_dropped: Labelled,
    /// Bytes read from MQTT connections, above TLS.
    pub bytes_received: u64,
    /// Bytes written to MQTT connections, above TLS.
    pub bytes_sent: u64,
    /// Answered CONNECT packets, by outcome.
    pub connects: Labelled,
    /// Ended connections, by reason.
    pub disconnects: Labelled,
    /// TLS of all listeners.
    pub tls: TlsMetrics,
    /// Requests an authorizer or the default denied, by action.
    pub authorization_denied: Labelled,
    /// The plugins in the order of the chain.
    pub plugins: Vec<PluginMetrics>,
    /// Attempts to load a changed configuration, by outcome.
    pub reloads: Labelled,
    /// Ways back to the generation before, by cause.
    pub rollbacks: Labelled,
    /// Generation of the configuration and plugins.
    pub config_generation: u64,
    /// Bans in force, and some that have just ended.
    pub bans: u64,
    /// Clients whose publish rate is bounded because a detector asked for it.
    pub throttled_clients: u64,
    /// What detectors found.
    pub alerts: Vec<AlertCount>,
    /// What detectors in shadow mode found.
    pub shadow_alerts: Vec<AlertCount>,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// How often each bound of the broker was hit.
    pub bounds_hit: Labelled,
    /// The store; `None`: there is none.
    pub store: Option<StoreMetrics>,
}

/// The numbers of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoreMetrics {
    /// Size of its files.
    pub bytes: u64,
    /// Bytes that wait to be stored.
    pub pending_bytes: u64,
    /// Writes, each of which covers everything that waited, with their time until they were durable.
    pub commits: HistogramSnapshot,
    /// Whether nothing is stored at present.
    pub trouble: bool,
    /// Bytes that the last start cut off the end.
    pub cut_bytes: u64,
}

/// Findings of one plugin that ask for one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlertCount {
    /// The plugin.
    pub plugin: String,
    /// What it asked for.
    pub response: &'static str,
    /// How often.
    pub count: u64,
}

/// The numbers of one plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PluginMetrics {
    /// Its name in the configuration.
    pub plugin: String,
    /// Calls by hook and outcome.
    pub calls: Vec<PluginCalls>,
    /// Time of its calls, by hook.
    pub call_seconds: Vec<(&'static str, HistogramSnapshot)>,
    /// 0: its breaker is closed; 1: half-open; 2: open.
    pub breaker_state: u64,
    /// How often its breaker opened.
    pub breaker_opened: u64,
    /// Instances at present.
    pub instances: u64,
    /// Instances thrown away after a failed call.
    pub instances_replaced: u64,
    /// Linear memory of all its instances.
    pub memory_bytes: u64,
    /// Generation it was loaded with.
    pub generation: u64,
    /// What it asked for and no grant covers.
    pub refused_grants: u64,
    /// Ticks that came too late and were left out.
    pub ticks_skipped: u64,
    /// Messages of its ticks over their bound.
    pub tick_messages_dropped: u64,
    /// Lines over the bound of its log.
    pub log_lines_dropped: u64,
    /// Additions to counters that there is no room or no name for.
    pub counters_dropped: u64,
    /// Counters the plugin keeps itself; the host bounds how many.
    pub counters: Vec<(String, u64)>,
    /// Entries in its `kv` store.
    pub kv_entries: u64,
    /// Their size.
    pub kv_bytes: u64,
    /// Writes that its `kv` store refused.
    pub kv_refused: u64,
    /// Questions that a cached verdict of it answered.
    pub cache_hits: u64,
    /// What was compared while it was in shadow mode.
    pub shadow: Tally,
}

/// How often calls of one hook ended one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PluginCalls {
    /// The hook.
    pub hook: &'static str,
    /// How the calls ended.
    pub outcome: &'static str,
    /// How many did.
    pub count: u64,
}

/// A histogram of seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HistogramSnapshot {
    /// Sum of all observations, in seconds.
    pub sum_s: f64,
    /// Upper bound in seconds and the observations in this bucket alone, bounds ascending.
    pub buckets: Vec<(f64, u64)>,
    /// Observations over the last bound.
    pub over: u64,
}

impl HistogramSnapshot {
    fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.over
    }

    /// The buckets as the encoder wants them, which writes `f64::MAX` as `+Inf`.
    fn all_buckets(&self) -> Vec<(f64, u64)> {
        let last = (f64::MAX, self.over);
        self.buckets.iter().copied().chain([last]).collect()
    }
}

/// The OpenMetrics text of a snapshot, with its end marker.
///
/// # Errors
/// Only what writing to a `String` can report.
pub(crate) fn render(snapshot: MetricsSnapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(SnapshotCollector(snapshot)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct SnapshotCollector(MetricsSnapshot);

impl Collector for SnapshotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        encode_state(&mut families, &self.0)?;
        encode_traffic(&mut families, &self.0)?;
        encode_clients(&mut families, &self.0)?;
        encode_tls(&mut families, &self.0.tls)?;
        encode_plugins(&mut families, &self.0.plugins)?;
        encode_detection(&mut families, &self.0)?;
        encode_operation(&mut families, &self.0)?;
        self.0
            .store
            .iter()
            .try_for_each(|store| encode_store(&mut families, store))
    }
}

fn encode_state(families: &mut Families<'_>, s: &MetricsSnapshot) -> fmt::Result {
    families.gauge("nervewire_connections", "Open MQTT connections", s.connections)?;
    families.gauge("nervewire_sessions", "Sessions, connected or not", s.sessions)?;
    families.gauge(
        "nervewire_subscriptions",
        "Subscriptions of all sessions",
        s.subscriptions,
    )?;
    families.gauge("nervewire_retained_messages", "Retained messages", s.retained_messages)?;
    families.gauge(
        "nervewire_retained_bytes",
        "Size of the retained messages",
        s.retained_bytes,
    )?;
    families.gauge(
        "nervewire_queued_messages",
        "Messages waiting in the queues of all sessions",
        s.queued_messages,
    )?;
    families.gauge("nervewire_queued_bytes", "Size of the queued messages", s.queued_bytes)
}

fn encode_traffic(families: &mut Families<'_>, s: &MetricsSnapshot) -> fmt::Result {
    families.by_qos(
        "nervewire_messages_received",
        "PUBLISH packets received",
        s.messages_received,
    )?;
    families.by_qos("nervewire_messages_sent", "PUBLISH packets sent", s.messages_sent)?;
    let dropped = "Messages that did not reach a receiver they were meant for";
    families.by_label("nervewire_messages_dropped", dropped, "reason", &s.messages_dropped)?;
    families.counter(
        "nervewire_bytes_received",
        "Bytes read from MQTT connections, above TLS",
        s.bytes_received,
    )?;
    families.counter(
        "nervewire_bytes_sent",
        "Bytes written to MQTT connections, above TLS",
        s.bytes_sent,
    )
}

fn encode_clients(families: &mut Families<'_>, s: &MetricsSnapshot) -> fmt::Result {
    families.gauge("nervewire_bans", "Bans in force", s.bans)?;
    families.by_label("nervewire_connects", "Answered CONNECT packets", "outcome", &s.connects)?;
    families.by_label("nervewire_disconnects", "Ended connections", "reason", &s.disconnects)?;
    let denied = "Requests that authorization denied";
    families.by_label(
        "nervewire_authorization_denied",
        denied,
        "action",
        &s.authorization_denied,
    )
}

fn encode_tls(families: &mut Families<'_>, s: &TlsMetrics) -> fmt::Result {
    let handshakes = "TLS handshakes that were completed";
    families.by_label("nervewire_tls_handshakes", handshakes, "kind", &s.handshakes)?;
    let failed = "TLS handshakes that were not completed";
    families.by_label("nervewire_tls_handshakes_failed", failed, "reason", &s.failed)?;
    let ended = "Connections that ended because their client's certificate does not count any more";
    families.by_label("nervewire_tls_disconnects", ended, "reason", &s.disconnects)?;
    let rows = s.not_after_s.iter();
    families.gauges(
        "nervewire_tls_certificate_not_after_seconds",
        "When a certificate of the broker expires, Unix time",
        rows.map(|(listener, name, at_s)| ([label("listener", listener), label("name", name)], *at_s)),
    )?;
    let rows = s.next_update_s.iter();
    families.gauges(
        "nervewire_tls_crl_next_update_seconds",
        "When the first revocation list of a listener is too old, Unix time",
        rows.map(|(listener, at_s)| ([label("listener", listener)], *at_s)),
    )
}

fn encode_plugins(families: &mut Families<'_>, plugins: &[PluginMetrics]) -> fmt::Result {
    let calls = plugins.iter().flat_map(|p| {
        let labels = |c: &PluginCalls| {
            [
                label("plugin", &p.plugin),
                ("hook", c.hook.into()),
                ("outcome", c.outcome.into()),
            ]
        };
        p.calls.iter().map(move |call| (labels(call), call.count))
    });
    families.counters("nervewire_plugin_calls", "Calls of a plugin's hooks", calls)?;
    encode_plugin_call_seconds(families, plugins)?;
    encode_plugin_state(families, plugins)?;
    let counters = plugins.iter().flat_map(|p| {
        let labels = |name: &'_ str| {
            [
                label("plugin", &p.plugin),
                ("counter", Cow::Owned(escape_label(name).into_owned())),
            ]
        };
        p.counters.iter().map(move |(name, value)| (labels(name), *value))
    });
    families.counters("nervewire_plugin_counter", "Counters a plugin keeps itself", counters)?;
    encode_comparisons(families, plugins)
}

/// A name, its help, and the number.
type PluginRow = (&'static str, &'static str, fn(&PluginMetrics) -> u64);

const PLUGIN_GAUGES: [PluginRow; 7] = [
    (
        "nervewire_plugin_breaker_open",
        "1 while a plugin is not called after failing too often",
        |p| u64::from(p.breaker_state > 0),
    ),
    (
        "nervewire_plugin_breaker_state",
        "A plugin's breaker: 0 closed, 1 half-open, 2 open",
        |p| p.breaker_state,
    ),
    ("nervewire_plugin_instances", "Instances of a plugin", |p| p.instances),
    (
        "nervewire_plugin_memory_bytes",
        "Linear memory of a plugin's instances",
        |p| p.memory_bytes,
    ),
    ("nervewire_plugin_generation", "Generation that loaded a plugin", |p| {
        p.generation
    }),
    (
        "nervewire_plugin_kv_entries",
        "Entries in a plugin's key-value store",
        |p| p.kv_entries,
    ),
    ("nervewire_plugin_kv_bytes", "Size of a plugin's key-value store", |p| {
        p.kv_bytes
    }),
];

const PLUGIN_COUNTERS: [PluginRow; 8] = [
    (
        "nervewire_plugin_breaker_opened",
        "How often a plugin's breaker opened",
        |p| p.breaker_opened,
    ),
    (
        "nervewire_plugin_instances_replaced",
        "Instances of a plugin thrown away after a failed call",
        |p| p.instances_replaced,
    ),
    (
        "nervewire_plugin_refused_grants",
        "What a plugin asked for and no grant covers",
        |p| p.refused_grants,
    ),
    (
        "nervewire_plugin_ticks_skipped",
        "Ticks of a plugin that were late and left out",
        |p| p.ticks_skipped,
    ),
    (
        "nervewire_plugin_tick_messages_dropped",
        "Messages of a plugin's tick over their bound",
        |p| p.tick_messages_dropped,
    ),
    (
        "nervewire_plugin_kv_refused",
        "Writes that a plugin's key-value store refused",
        |p| p.kv_refused,
    ),
    (
        "nervewire_plugin_log_lines_dropped",
        "Lines of a plugin's log over their rate",
        |p| p.log_lines_dropped,
    ),
    (
        "nervewire_plugin_counters_dropped",
        "Additions to a plugin's counters over their bounds",
        |p| p.counters_dropped,
    ),
];

fn encode_plugin_state(families: &mut Families<'_>, plugins: &[PluginMetrics]) -> fmt::Result {
    for (name, help, pick) in PLUGIN_GAUGES {
        families.gauges(
            name,
            help,
            plugins.iter().map(|p| ([label("plugin", &p.plugin)], pick(p))),
        )?;
    }
    for (name, help, pick) in PLUGIN_COUNTERS {
        families.counters(
            name,
            help,
            plugins.iter().map(|p| ([label("plugin", &p.plugin)], pick(p))),
        )?;
    }
    Ok(())
}

fn encode_comparisons(families: &mut Families<'_>, plugins: &[PluginMetrics]) -> fmt::Result {
    let hits = plugins.iter().map(|p| ([label("plugin", &p.plugin)], p.cache_hits));
    families.counters(
        "nervewire_plugin_cache_hits",
        "Questions that a cached verdict answered",
        hits,
    )?;
    let compared = plugins.iter().flat_map(|p| {
        let hooks = ShadowHook::ALL.into_iter().map(|hook| (hook, p.shadow.compared(hook)));
        hooks.map(|(hook, count)| ([label("plugin", &p.plugin), ("hook", hook.label().into())], count))
    });
    families.counters(
        "nervewire_plugin_shadow_compared",
        "Decisions compared with those of a plugin in shadow mode",
        compared.filter(|(_, count)| *count > 0),
    )?;
    let differences = plugins.iter().flat_map(|p| {
        let pairs = ShadowHook::ALL
            .into_iter()
            .flat_map(|hook| Kind::ALL.map(|kind| (hook, kind)));
        pairs.map(|(hook, kind)| {
            let labels = [
                label("plugin", &p.plugin),
                ("hook", hook.label().into()),
                ("kind", kind.label().into()),
            ];
            (labels, p.shadow.differences(hook, kind))
        })
    });
    families.counters(
        "nervewire_plugin_shadow_differences",
        "Decisions that a plugin in shadow mode would have made otherwise",
        differences.filter(|(_, count)| *count > 0),
    )
}

fn encode_plugin_call_seconds(families: &mut Families<'_>, plugins: &[PluginMetrics]) -> fmt::Result {
    let rows = plugins.iter().flat_map(|p| {
        p.call_seconds
            .iter()
            .map(move |(hook, times)| ([label("plugin", &p.plugin), label("hook", hook)], times))
    });
    families.histograms(
        "nervewire_plugin_call",
        "Time of a call of a plugin's hook",
        &Unit::Seconds,
        rows,
    )
}

fn encode_detection(families: &mut Families<'_>, s: &MetricsSnapshot) -> fmt::Result {
    fn rows(counts: &[AlertCount]) -> impl Iterator<Item = ([(&'static str, Cow<'_, str>); 2], u64)> {
        counts
            .iter()
            .map(|c| ([label("plugin", &c.plugin), ("response", c.response.into())], c.count))
    }
    let found = "Odd clients that detectors found, by what is done about them";
    families.counters("nervewire_alerts", found, rows(&s.alerts))?;
    let shadow = "Odd clients that detectors in shadow mode found, about which nothing is done";
    families.counters("nervewire_shadow_alerts", shadow, rows(&s.shadow_alerts))?;
    families.gauge(
        "nervewire_throttled_clients",
        "Clients whose publish rate is bounded because a detector asked for it",
        s.throttled_clients,
    )
}

fn encode_operation(families: &mut Families<'_>, s: &MetricsSnapshot) -> fmt::Result {
    families.by_label(
        "nervewire_reloads",
        "Attempts to load a changed configuration",
        "outcome",
        &s.reloads,
    )?;
    families.by_label(
        "nervewire_rollbacks",
        "Ways back to the generation before",
        "cause",
        &s.rollbacks,
    )?;
    let generation = "Generation of the configuration and plugins in force";
    families.gauge("nervewire_config_generation", generation, s.config_generation)?;
    families.gauge(
        "nervewire_uptime_seconds",
        "Seconds since the broker started",
        s.uptime_s,
    )?;
    families.by_label(
        "nervewire_bounds_hit",
        "How often a bound of the broker was hit",
        "bound",
        &s.bounds_hit,
    )
}

fn encode_store(families: &mut Families<'_>, s: &StoreMetrics) -> fmt::Result {
    families.gauge("nervewire_store_bytes", "Size of the store's files", s.bytes)?;
    families.gauge(
        "nervewire_store_pending_bytes",
        "Bytes that wait to be stored",
        s.pending_bytes,
    )?;
    let commits = "Writes to the store, each of everything that waited";
    families.counter("nervewire_store_commits", commits, s.commits.count())?;
    families.histogram(
        "nervewire_store_commit",
        "Time of a write until it was durable",
        &Unit::Seconds,
        &s.commits,
    )?;
    let trouble = "1 while nothing can be stored, and so nothing is acknowledged";
    families.gauge("nervewire_store_trouble", trouble, u64::from(s.trouble))?;
    families.gauge(
        "nervewire_store_cut_bytes",
        "Bytes of an unfinished write that the start cut off",
        s.cut_bytes,
    )
}
