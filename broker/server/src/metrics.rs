//! What the shards counted, summed and labelled for `/metrics`.

use crate::admin::metrics::{AlertCount, HistogramSnapshot, Labelled, MetricsSnapshot, StoreMetrics};
use crate::detect::Found;
use crate::driver::{ListenerSettings, ShardReport, Shared};
use crate::reminders;
use crate::supervisor::Current;
use crate::tls::{Failure, TlsMetrics, What};
use nervewire_core::certificates::CertificateEnd;
use nervewire_core::counters::Counters;
use nervewire_store::{COMMIT_SECONDS, Journal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything but the plugins' own numbers.
pub(crate) fn snapshot(reports: &[ShardReport], shared: &Shared, current: &Current) -> MetricsSnapshot {
    let core = |pick: fn(&Counters) -> u64| reports.iter().map(|r| pick(&r.counters)).sum::<u64>();
    let of = |pick: fn(&ShardReport) -> u64| reports.iter().map(pick).sum::<u64>();
    let by_qos = |pick: fn(&Counters) -> &[u64; 3]| {
        [0, 1, 2].map(|qos| reports.iter().map(|r| pick(&r.counters)[qos]).sum::<u64>())
    };
    MetricsSnapshot {
        connections: core(|c| c.connections),
        sessions: core(|c| c.sessions),
        subscriptions: core(|c| c.subscriptions),
        retained_messages: of(|r| r.totals.retained_messages as u64),
        retained_bytes: of(|r| r.totals.retained_bytes as u64),
        queued_messages: core(|c| c.queued_messages),
        queued_bytes: core(|c| c.queued_bytes),
        messages_received: by_qos(|c| &c.received_messages),
        messages_sent: by_qos(|c| &c.sent_messages),
        messages_dropped: dropped(core),
        bytes_received: of(|r| r.driver.bytes_received),
        bytes_sent: of(|r| r.driver.bytes_sent),
        bans: shared.defence.bans_count() as u64,
        connects: connects(core, of, shared),
        disconnects: disconnects(core),
        tls: tls(reports, &current.listeners),
        authorization_denied: vec![
            ("publish", core(|c| c.denied_publish)),
            ("subscribe", core(|c| c.denied_subscribe)),
            ("deliver", core(|c| c.denied_deliver)),
        ],
        reloads: vec![("ok", current.reloads_ok), ("refused", current.reloads_failed)],
        rollbacks: vec![
            ("automatic", current.rollbacks.automatic),
            ("manual", current.rollbacks.manual),
        ],
        config_generation: current.generation.policy.generation,
        throttled_clients: core(|c| c.throttled_clients),
        alerts: alerts(shared, |found| found.enforced),
        shadow_alerts: alerts(shared, |found| found.shadow),
        bounds_hit: bounds_hit(core, of, shared, current),
        store: shared.journal.as_deref().map(|journal| store(journal, shared)),
        ..MetricsSnapshot::default()
    }
}

/// How many findings, by plugin and response.
fn alerts(shared: &Shared, pick: fn(&Found) -> u64) -> Vec<AlertCount> {
    let found = shared.alerts.found().into_iter();
    let counts = found.map(|((plugin, response), found)| AlertCount {
        plugin: plugin.to_string(),
        response,
        count: pick(&found),
    });
    counts.filter(|row| row.count > 0).collect()
}

fn store(journal: &Journal, shared: &Shared) -> StoreMetrics {
    let counters = journal.counters();
    let mut commits = counters.commit_seconds.iter().copied();
    StoreMetrics {
        bytes: counters.journal_bytes,
        pending_bytes: counters.pending_bytes,
        commits: HistogramSnapshot {
            sum_s: counters.commit_nanos as f64 / 1e9,
            buckets: COMMIT_SECONDS.into_iter().zip(commits.by_ref()).collect(),
            over: commits.next().unwrap_or(0),
        },
        trouble: journal.trouble().is_some(),
        cut_bytes: shared.cut_bytes,
    }
}

fn tls(reports: &[ShardReport], listeners: &[Arc<ListenerSettings>]) -> TlsMetrics {
    let sum = |pick: &dyn Fn(&ShardReport) -> u64| reports.iter().map(pick).sum::<u64>();
    let failed = Failure::ALL.iter().enumerate();
    let ended = CertificateEnd::ALL.iter().enumerate();
    let mut metrics = TlsMetrics {
        handshakes: vec![
            ("full", sum(&|r| r.driver.tls_full)),
            ("resumed", sum(&|r| r.driver.tls_resumed)),
        ],
        failed: failed
            .map(|(at, failure)| (failure.label(), sum(&|r| r.driver.tls_failures[at])))
            .collect(),
        disconnects: ended
            .map(|(at, end)| (end.label(), sum(&|r| r.counters.disconnects_certificate[at])))
            .collect(),
        ..TlsMetrics::default()
    };
    for (listener, end) in reminders::ends(listeners) {
        let (listener, at_s) = (listener.name.to_string(), u64::try_from(end.at_s).unwrap_or(0));
        match &end.what {
            What::Certificate(name) => metrics.not_after_s.push((listener, name.clone(), at_s)),
            What::Authority(_) => {}
            What::List => {
                let earliest = metrics.next_update_s.entry(listener).or_insert(at_s);
                *earliest = at_s.min(*earliest);
            }
        }
    }
    metrics
}

fn dropped(core: impl Fn(fn(&Counters) -> u64) -> u64) -> Labelled {
    vec![
        ("queue_messages", core(|c| c.dropped.queue_messages)),
        ("queue_bytes", core(|c| c.dropped.queue_bytes)),
        ("memory_bytes", core(|c| c.dropped.memory_bytes)),
        ("expired", core(|c| c.dropped.expired)),
        ("too_large", core(|c| c.dropped.too_large)),
        ("offline_qos0", core(|c| c.dropped.offline_qos0)),
        ("denied", core(|c| c.dropped.denied)),
        ("session_ended", core(|c| c.dropped.session_ended)),
        ("no_shared_member", core(|c| c.dropped.no_shared_member)),
        ("unreadable", core(|c| c.dropped.unreadable)),
        ("transform", core(|c| c.transform_dropped)),
        ("rejected", core(|c| c.transform_rejected)),
    ]
}

fn connects(
    core: impl Fn(fn(&Counters) -> u64) -> u64,
    of: impl Fn(fn(&ShardReport) -> u64) -> u64,
    shared: &Shared,
) -> Labelled {
    vec![
        ("accepted", core(|c| c.connects_accepted)),
        ("bad_credentials", of(|r| r.driver.refused_credentials)),
        (
            "not_authorized",
            core(|c| c.connects_refused) + of(|r| r.driver.refused_not_authorized),
        ),
        ("protocol", of(|r| r.driver.refused_protocol)),
        ("busy", of(|r| r.driver.refused_busy)),
        ("proxy", of(|r| r.driver.proxies_refused)),
        ("upgrade", of(|r| r.driver.upgrades_refused)),
        ("banned", shared.defence.counters().banned.load(Ordering::Relaxed)),
        ("other", of(|r| r.driver.refused_other)),
    ]
}

fn disconnects(core: impl Fn(fn(&Counters) -> u64) -> u64) -> Labelled {
    vec![
        ("client", core(|c| c.disconnects_clean)),
        ("lost", core(|c| c.disconnects_lost)),
        ("server", core(|c| c.disconnects_server)),
        ("taken_over", core(|c| c.disconnects_taken_over)),
        ("keep_alive", core(|c| c.disconnects_keep_alive)),
        ("protocol_error", core(|c| c.disconnects_protocol_error)),
    ]
}

fn bounds_hit(
    core: impl Fn(fn(&Counters) -> u64) -> u64,
    of: impl Fn(fn(&ShardReport) -> u64) -> u64,
    shared: &Shared,
    current: &Current,
) -> Labelled {
    let plugins = current.generation.plugins.iter();
    let defence = shared.defence.counters();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (bans_over_bound, addresses_over_bound) = shared.defence.over_bound();
    vec![
        ("queue_messages", core(|c| c.dropped.queue_messages)),
        ("queue_bytes", core(|c| c.dropped.queue_bytes)),
        ("memory_bytes", core(|c| c.dropped.memory_bytes)),
        ("publish_rate_per_s", core(|c| c.paused_publish_rate)),
        ("publish_bytes_per_s", core(|c| c.paused_publish_bytes)),
        ("subscribe_rate_per_s", core(|c| c.paused_subscribe_rate)),
        ("user_publish_rate_per_s", core(|c| c.paused_user_publish_rate)),
        ("address_publish_rate_per_s", core(|c| c.paused_address_publish_rate)),
        ("over_rate_s", core(|c| c.over_rate_disconnected)),
        ("takeovers_per_minute", core(|c| c.takeovers_delayed)),
        ("watched_takeovers", core(|c| c.takeovers_over_bound)),
        ("topic", core(|c| c.topics_over_bound)),
        ("user_properties", core(|c| c.user_properties_over_bound)),
        ("connections_per_address", read(&defence.connections_per_address)),
        ("connect_rate_per_s", read(&defence.connect_rate)),
        (
            "connect_rate_per_s_per_address",
            read(&defence.connect_rate_per_address),
        ),
        (
            "failed_logins_per_minute",
            read(&defence.kept_out) + read(&defence.slowed),
        ),
        ("failed_logins_per_hour", read(&defence.automatic_bans)),
        ("bans", bans_over_bound),
        ("remembered_addresses", addresses_over_bound),
        ("plugin_time_ns", core(|c| c.paused_plugin_time)),
        ("receive_maximum", core(|c| c.receive_maximum_exceeded)),
        ("max_sessions", core(|c| c.sessions_refused)),
        ("subscriptions", core(|c| c.subscriptions_refused)),
        ("suspended_subscriptions", core(|c| c.suspended_over_bound)),
        ("source_rules", core(|c| c.source_rules_cleared)),
        ("retained", core(|c| c.retained_refused)),
        ("cached_verdicts", core(|c| c.verdict_cache_cleared)),
        (
            "shadow_comparisons",
            core(|c| c.shadow_over_bound) + shared.shadows.over_bound(),
        ),
        ("messages_per_publish", core(|c| c.emitted_over_bound)),
        ("gather_topics", core(|c| c.gather_topics_over_bound)),
        ("gathered_messages", core(|c| c.gathered_over_bound)),
        ("spare_buffer_bytes", core(|c| c.spare_buffers_over_bound)),
        ("interest_prefixes", core(|c| c.interest_over_bound)),
        ("pending_acknowledgements", core(|c| c.paused_acknowledgements)),
        ("max_connections", of(|r| r.driver.connections_over_bound)),
        (
            "listener_max_connections",
            of(|r| r.driver.listener_connections_over_bound),
        ),
        ("pending_connections_bytes", of(|r| r.driver.pending_shed)),
        ("unfinished_packets_bytes", core(|c| c.memory_disconnected)),
        ("connect_timeout_ms", of(|r| r.driver.connect_timeouts)),
        ("newcomers_us_per_pass", of(|r| r.driver.newcomer_slices_over_bound)),
        ("accept_errors", of(|r| r.driver.accept_errors)),
        ("mesh_messages", of(|r| r.driver.mesh_over_bound)),
        ("store", core(|c| c.appends_failed)),
        ("restored_messages", core(|c| c.restored_over_bound)),
        ("resumption_bytes", crate::tls::sessions_over_bound()),
        ("store_pending_bytes", of(|r| r.driver.store_over_bound)),
        ("log_lines", crate::logging::lines_dropped()),
        ("authentication_queue", shared.authenticators.over_bound()),
        (
            "http_queue_calls",
            plugins.map(|loaded| loaded.plugin.stats().queue_over_bound()).sum(),
        ),
        ("window_clients", core(|c| c.window_clients_over_bound)),
        ("throttled_clients", core(|c| c.throttles_over_bound)),
        ("alerts_per_window", shared.alerts.untold()),
        ("detect_calls", shared.alerts.unasked()),
        ("earlier_generations", of(|r| r.driver.earlier_generations_over_bound)),
    ]
}
