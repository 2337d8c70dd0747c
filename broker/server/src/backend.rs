//! The running broker as the admin API sees it.

use crate::admin::alerts::AlertPage;
use crate::admin::api::AdminCounters;
use crate::admin::backend::{
    Answer, Backend, CallTimes, ClientInfo, ClientPage, ListenerStatus, NamedClient, PageRequest, PluginInfo,
    RecordError, RecordRequest, RecordStatus, ReloadError, ReloadReport, RollbackReport, Status, StoreStatus,
};
use crate::admin::bans::{BanList, BanRefused, BanTarget, Banned, Lifted};
use crate::admin::diff::PluginDiff;
use crate::admin::explain::{Explained, Wanted};
use crate::admin::metrics::{HistogramSnapshot, MetricsSnapshot, PluginCalls, PluginMetrics};
use crate::config::Component;
use crate::driver::{ShardReport, Shared, Worker, ask_all, ask_home};
use crate::explain;
use crate::generation::LoadedPlugin;
use crate::metrics;
use crate::shadow;
use crate::supervisor::Supervisor;
use nervewire_codec::Version;
use nervewire_core::hook::OnFailure;
use nervewire_core::shadow::Tally;
use nervewire_core::shard::SessionInfo;
use nervewire_plugin_host::{BreakerState, Call, LATENCY_BUCKETS_NS, Latency, Outcome, PluginStats};
use nervewire_store::Journal;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Answers with what the shards and the supervisor say. Holds the supervisor weakly: the broker owns the API, not the reverse.
pub(crate) struct Running {
    supervisor: Weak<Supervisor>,
    counters: Arc<AdminCounters>,
    explaining: Arc<Mutex<()>>,
}

impl Running {
    pub(crate) fn new(supervisor: &Arc<Supervisor>) -> Self {
        Self {
            supervisor: Arc::downgrade(supervisor),
            counters: Arc::default(),
            explaining: Arc::default(),
        }
    }

    /// The admin server's own counters, kept for the life of the process.
    pub(crate) fn admin_counters(&self) -> Arc<AdminCounters> {
        self.counters.clone()
    }

    /// Runs a question that may wait for the shards off the runtime's threads. A broker that is ending gives the default.
    fn ask<T: Default + Send + 'static>(
        &self,
        question: impl FnOnce(&Supervisor) -> T + Send + 'static,
    ) -> Answer<'_, T> {
        let supervisor = self.supervisor.upgrade();
        Box::pin(async move {
            let Some(supervisor) = supervisor else {
                return T::default();
            };
            tokio::task::spawn_blocking(move || question(&supervisor))
                .await
                .unwrap_or_default()
        })
    }

    /// As [`Running::ask`], for what may be refused.
    fn try_ask<T: Send + 'static, E: From<Stopping> + Send + 'static>(
        &self,
        question: impl FnOnce(&Supervisor) -> Result<T, E> + Send + 'static,
    ) -> Answer<'_, Result<T, E>> {
        let answer = self.ask(move |supervisor| Some(question(supervisor)));
        Box::pin(async { answer.await.unwrap_or_else(|| Err(Stopping.into())) })
    }
}

/// Nobody is there to answer any more.
struct Stopping;

impl Stopping {
    const WORDS: &str = "the broker is stopping";
}

impl From<Stopping> for String {
    fn from(_: Stopping) -> Self {
        Stopping::WORDS.to_owned()
    }
}

impl From<Stopping> for ReloadError {
    fn from(stopping: Stopping) -> Self {
        Self {
            messages: vec![stopping.into()],
        }
    }
}

impl From<Stopping> for RecordError {
    fn from(stopping: Stopping) -> Self {
        Self(stopping.into())
    }
}

impl From<Stopping> for BanRefused {
    fn from(stopping: Stopping) -> Self {
        Self::Impossible(stopping.into())
    }
}

impl Backend for Running {
    fn status(&self) -> Answer<'_, Status> {
        self.ask(status)
    }

    fn clients(&self, page: PageRequest) -> Answer<'_, ClientPage> {
        self.ask(move |supervisor| clients(supervisor.shared(), page))
    }

    fn client(&self, key: NamedClient) -> Answer<'_, Option<ClientInfo>> {
        self.ask(move |supervisor| {
            at_home(supervisor.shared(), key, |worker, key| {
                worker.session(key.tenant.as_deref(), &key.client_id)
            })
            .flatten()
            .map(|info| client_info(&info))
        })
    }

    fn kick(&self, key: NamedClient) -> Answer<'_, bool> {
        self.ask(move |supervisor| {
            at_home(supervisor.shared(), key, |worker, key| {
                worker.kick(key.tenant.as_deref(), &key.client_id)
            })
            .unwrap_or(false)
        })
    }

    fn unthrottle(&self, key: NamedClient) -> Answer<'_, bool> {
        self.ask(move |supervisor| {
            at_home(supervisor.shared(), key, |worker, key| {
                worker.lift_throttle(&nervewire_core::store::ClientKey {
                    tenant: key.tenant.as_deref().map(Arc::from),
                    client_id: Arc::from(&*key.client_id),
                })
            })
            .unwrap_or(false)
        })
    }

    fn alerts(&self, limit: u64) -> Answer<'_, AlertPage> {
        self.ask(move |supervisor| supervisor.shared().alerts.page(limit as usize))
    }

    fn plugins(&self) -> Answer<'_, Vec<PluginInfo>> {
        self.ask(|supervisor| {
            supervisor
                .current()
                .generation
                .plugins
                .iter()
                .map(plugin_info)
                .collect()
        })
    }

    fn diff(&self, plugin: String) -> Answer<'_, Option<PluginDiff>> {
        self.ask(move |supervisor| shadow::diff(supervisor, &plugin))
    }

    fn reset_diff(&self, plugin: String) -> Answer<'_, bool> {
        self.ask(move |supervisor| shadow::reset(supervisor, &plugin))
    }

    fn explain(&self, wanted: Wanted) -> Answer<'_, Result<Explained, String>> {
        let one_at_a_time = self.explaining.clone();
        self.try_ask(move |supervisor| {
            // Each makes instances, of which there are not many to spare.
            let _turn = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
            explain::explain(supervisor, &wanted)
        })
    }

    fn reload(&self) -> Answer<'_, Result<ReloadReport, ReloadError>> {
        self.try_ask(Supervisor::reload)
    }

    fn rollback(&self) -> Answer<'_, Result<RollbackReport, ReloadError>> {
        self.try_ask(Supervisor::roll_back_by_hand)
    }

    fn record_start(&self, request: RecordRequest) -> Answer<'_, Result<RecordStatus, RecordError>> {
        self.try_ask(move |supervisor| {
            let plugins: Vec<_> = supervisor
                .current()
                .generation
                .plugins
                .iter()
                .map(|loaded| loaded.settings.name.clone())
                .collect();
            let names: Vec<&str> = plugins.iter().map(|name| &**name).collect();
            supervisor.recorder().start(request, &names)
        })
    }

    fn record_stop(&self) -> Answer<'_, Result<RecordStatus, RecordError>> {
        self.try_ask(|supervisor| supervisor.recorder().stop())
    }

    fn record_status(&self) -> Answer<'_, RecordStatus> {
        self.ask(|supervisor| supervisor.recorder().status())
    }

    fn bans(&self) -> Answer<'_, BanList> {
        self.ask(|supervisor| supervisor.shared().defence.list())
    }

    fn ban(&self, target: BanTarget) -> Answer<'_, Result<Banned, BanRefused>> {
        self.try_ask(move |supervisor| {
            let shared = supervisor.shared();
            shared.defence.ban_as_asked(target, shared.journal.is_some())
        })
    }

    fn lift(&self, target: BanTarget) -> Answer<'_, Result<Lifted, BanRefused>> {
        self.try_ask(move |supervisor| supervisor.shared().defence.lift_as_asked(&target))
    }

    fn metrics(&self) -> Answer<'_, MetricsSnapshot> {
        self.ask(snapshot)
    }

    fn healthy(&self) -> Answer<'_, bool> {
        self.ask(|supervisor| {
            let shared = supervisor.shared();
            ask_all(shared, |_| ()).len() == usize::from(shared.mesh.shards())
        })
    }
}

fn reports(supervisor: &Supervisor) -> Vec<ShardReport> {
    ask_all(supervisor.shared(), |worker| worker.report())
}

fn status(supervisor: &Supervisor) -> Status {
    let reports = reports(supervisor);
    let sum = |pick: fn(&ShardReport) -> u64| reports.iter().map(pick).sum();
    let shared = supervisor.shared();
    let current = supervisor.current();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: uptime_s(shared),
        shards: u64::from(shared.mesh.shards()),
        generation: current.generation.policy.generation,
        connections: sum(|r| r.counters.connections),
        max_connections: shared.max_connections.load(Ordering::Relaxed) as u64,
        sessions: sum(|r| r.counters.sessions),
        subscriptions: sum(|r| r.counters.subscriptions),
        retained_messages: sum(|r| r.totals.retained_messages as u64),
        queued_messages: sum(|r| r.counters.queued_messages),
        queued_bytes: sum(|r| r.counters.queued_bytes),
        durability: current.config.broker.durability.name().to_owned(),
        store: shared.journal.as_deref().map(store_status),
        config_file: current.config.file.as_ref().map(|file| file.display().to_string()),
        listeners: current
            .listeners
            .iter()
            .map(|listener| ListenerStatus {
                bind: listener.name.to_string(),
                transport: listener.transport().to_owned(),
                tls: listener.tls.is_some(),
            })
            .collect(),
        last_reload: current.last_reload.clone(),
        on_probation_ms: current.probation_left_ms(),
        rollback_generation: current.fallback.as_ref().map(|fallback| fallback.number),
        last_rollback: current.last_rollback.clone(),
    }
}

fn store_status(journal: &Journal) -> StoreStatus {
    let counters = journal.counters();
    StoreStatus {
        bytes: counters.journal_bytes,
        pending_bytes: counters.pending_bytes,
        trouble: journal.trouble().map(|trouble| trouble.to_string()),
        last_error: journal.last_error(),
    }
}

fn uptime_s(shared: &Shared) -> u64 {
    shared.clock.now().saturating_sub(shared.clock.started_at_ms()) / 1_000
}

/// One page over the sessions of all shards: shard by shard, so that a page needs no more than what lies before its end.
fn clients(shared: &Shared, page: PageRequest) -> ClientPage {
    let offset = page.offset() as usize;
    let end = offset.saturating_add(page.limit as usize);
    let mut shards = ask_all(shared, move |worker| {
        (worker.number(), worker.report().counters.sessions, worker.sessions(end))
    });
    shards.sort_by_key(|(number, ..)| *number);
    let total = shards.iter().map(|(_, sessions, _)| sessions).sum();
    let all = shards.iter().flat_map(|(_, _, sessions)| sessions);
    let clients = all.skip(offset).take(page.limit as usize).map(client_info).collect();
    ClientPage {
        total,
        page: page.page,
        limit: page.limit,
        clients,
    }
}

/// Asks the shard that owns a session.
fn at_home<T: Send + 'static>(
    shared: &Shared,
    key: NamedClient,
    question: impl Fn(&mut Worker, &NamedClient) -> T + Send + Sync + 'static,
) -> Option<T> {
    let asked = key.clone();
    ask_home(shared, key.tenant.as_deref(), &key.client_id, move |worker| {
        question(worker, &asked)
    })
}

fn client_info(info: &SessionInfo) -> ClientInfo {
    let client = &info.client;
    ClientInfo {
        client_id: client.client_id.to_string(),
        tenant: client.tenant.as_deref().map(str::to_owned),
        username: client.username.as_deref().map(str::to_owned),
        connected: info.connected,
        address: Some(std::net::SocketAddr::new(client.address, client.port).to_string()),
        listener: Some(client.listener.to_string()),
        protocol: match client.protocol {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        }
        .to_owned(),
        session_expiry_s: (info.session_expiry_s != u32::MAX).then_some(u64::from(info.session_expiry_s)),
        keep_alive_s: info.keep_alive_s,
        connected_at_unix_s: info.connected_at.map(|at| at / 1_000),
        subscriptions: info.subscriptions as u64,
        suspended: info.suspended as u64,
        suspended_filters: info.suspended_filters.iter().map(ToString::to_string).collect(),
        queued_messages: info.queued_messages as u64,
        queued_bytes: info.queued_bytes,
        in_flight: info.in_flight_messages as u64,
        generation: info.generation,
    }
}

fn plugin_info(loaded: &LoadedPlugin) -> PluginInfo {
    let stats = loaded.plugin.stats();
    let latency = Call::ALL
        .iter()
        .map(|call| stats.latency(*call))
        .fold(Latency::default(), merge);
    PluginInfo {
        name: loaded.settings.name.to_string(),
        component: match &loaded.settings.component {
            Component::Builtin(name) => format!("builtin:{name}"),
            Component::File(path) => path.display().to_string(),
        },
        digest: loaded.plugin.digest().to_owned(),
        generation: loaded.since,
        hooks: loaded
            .plugin
            .hooks()
            .iter()
            .map(|hook| hook.name().to_owned())
            .collect(),
        mode: loaded.settings.mode.name().to_owned(),
        on_failure: match loaded.settings.on_failure {
            OnFailure::Deny => "deny",
            OnFailure::Skip => "skip",
        }
        .to_owned(),
        breaker: match loaded.plugin.breaker_state() {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
        .to_owned(),
        calls: calls_by_hook(stats),
        failures: failures(stats),
        mean_us: mean_us(&latency),
        p50_us: percentile_us(&latency, 50),
        p99_us: percentile_us(&latency, 99),
        times: called(stats)
            .map(|call| (call.label().to_owned(), times(&stats.latency(call))))
            .collect(),
        breaker_opened: stats.breaker_opened(),
        instances: stats.instances(),
        instances_replaced: stats.instances_replaced(),
        memory_bytes: stats.memory_bytes(),
        refused_grants: stats.refused_grants(),
        tick_ms: loaded.plugin.tick_ms().map(u64::from),
        ticks_skipped: stats.ticks_skipped(),
        tick_messages_dropped: stats.tick_messages_dropped(),
        kv_entries: stats.kv_entries() as u64,
        kv_bytes: stats.kv_bytes() as u64,
        kv_refused: stats.kv_refused(),
    }
}

/// The calls there have been.
fn called(stats: &PluginStats) -> impl Iterator<Item = Call> {
    let was_called = |call: &Call| Outcome::ALL.iter().any(|outcome| stats.calls(*call, *outcome) > 0);
    Call::ALL.into_iter().filter(was_called)
}

fn times(latency: &Latency) -> CallTimes {
    CallTimes {
        mean_us: mean_us(latency),
        p50_us: percentile_us(latency, 50),
        p99_us: percentile_us(latency, 99),
    }
}

fn calls_by_hook(stats: &PluginStats) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut hooks: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for row in call_rows(stats) {
        hooks
            .entry(row.hook.to_owned())
            .or_default()
            .insert(row.outcome.to_owned(), row.count);
    }
    hooks
}

/// Every combination that has happened.
fn call_rows(stats: &PluginStats) -> Vec<PluginCalls> {
    let pairs = Call::ALL
        .iter()
        .flat_map(|call| Outcome::ALL.iter().map(move |outcome| (*call, *outcome)));
    let row = |(call, outcome): (Call, Outcome)| PluginCalls {
        hook: call.label(),
        outcome: outcome.label(),
        count: stats.calls(call, outcome),
    };
    pairs.map(row).filter(|row| row.count > 0).collect()
}

fn failures(stats: &PluginStats) -> u64 {
    call_rows(stats)
        .iter()
        .filter(|row| row.outcome != Outcome::Ok.label())
        .map(|row| row.count)
        .sum()
}

fn merge(mut sum: Latency, other: Latency) -> Latency {
    sum.buckets.iter_mut().zip(other.buckets).for_each(|(a, b)| *a += b);
    sum.sum_ns += other.sum_ns;
    sum
}

fn mean_us(latency: &Latency) -> Option<f64> {
    let calls: u64 = latency.buckets.iter().sum();
    (calls > 0).then(|| latency.sum_ns as f64 / calls as f64 / 1_000.0)
}

/// The upper bound of the bucket in which the percentile lies; the slowest bucket has none and gives its lower one.
fn percentile_us(latency: &Latency, percent: u64) -> Option<f64> {
    let calls: u64 = latency.buckets.iter().sum();
    let rank = (calls * percent).div_ceil(100);
    let mut seen = 0;
    let position = latency.buckets.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    let bound = LATENCY_BUCKETS_NS.get(position?).or(LATENCY_BUCKETS_NS.last())?;
    (calls > 0).then(|| *bound as f64 / 1_000.0)
}

fn snapshot(supervisor: &Supervisor) -> MetricsSnapshot {
    let reports = reports(supervisor);
    let current = supervisor.current();
    let plugins = current.generation.plugins.iter();
    let plugins = plugins.map(|loaded| PluginMetrics {
        cache_hits: cache_hits(&reports, &loaded.settings.name),
        shadow: shadow_tally(&reports, supervisor.shared(), &loaded.settings.name),
        ..plugin_metrics(loaded)
    });
    let plugins = plugins.collect();
    let mut snapshot = metrics::snapshot(&reports, supervisor.shared(), &current);
    snapshot.plugins = plugins;
    snapshot
        .bounds_hit
        .push(("record_queue_calls", supervisor.recorder().over_bound()));
    snapshot
        .bounds_hit
        .push(("record_http", supervisor.recorder().http_over_bound()));
    snapshot.uptime_s = uptime_s(supervisor.shared());
    snapshot
}

fn cache_hits(reports: &[ShardReport], plugin: &str) -> u64 {
    reports.iter().filter_map(|report| report.cache_hits.get(plugin)).sum()
}

fn shadow_tally(reports: &[ShardReport], shared: &Shared, plugin: &str) -> Tally {
    let mut sum = Tally::default();
    let logins = shared.shadows.logins().into_iter();
    logins
        .filter(|known| *known.plugin == *plugin)
        .for_each(|known| sum.add(&known.total));
    let tallies = reports.iter().flat_map(|report| &report.shadows);
    let of_plugin = tallies.filter(|(name, _)| **name == *plugin);
    of_plugin.for_each(|(_, tally)| sum.add(tally));
    sum
}

fn plugin_metrics(loaded: &LoadedPlugin) -> PluginMetrics {
    let stats = loaded.plugin.stats();
    PluginMetrics {
        plugin: loaded.settings.name.to_string(),
        calls: call_rows(stats),
        call_seconds: called(stats)
            .map(|call| (call.label(), histogram(stats.latency(call))))
            .collect(),
        breaker_state: match loaded.plugin.breaker_state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        },
        breaker_opened: stats.breaker_opened(),
        instances: stats.instances(),
        instances_replaced: stats.instances_replaced(),
        memory_bytes: stats.memory_bytes(),
        generation: loaded.since,
        refused_grants: stats.refused_grants(),
        ticks_skipped: stats.ticks_skipped(),
        tick_messages_dropped: stats.tick_messages_dropped(),
        log_lines_dropped: stats.log_lines_dropped(),
        counters_dropped: stats.counters_dropped(),
        counters: stats.counters(),
        kv_entries: stats.kv_entries() as u64,
        kv_bytes: stats.kv_bytes() as u64,
        kv_refused: stats.kv_refused(),
        ..PluginMetrics::default()
    }
}

fn histogram(latency: Latency) -> HistogramSnapshot {
    let bounds = LATENCY_BUCKETS_NS.iter().map(|ns| *ns as f64 / 1e9);
    HistogramSnapshot {
        sum_s: latency.sum_ns as f64 / 1e9,
        buckets: bounds.zip(latency.buckets).collect(),
        over: latency.buckets.last().copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(counts: &[(usize, u64)]) -> Latency {
        let mut latency = Latency::default();
        for (bucket, count) in counts {
            latency.buckets[*bucket] = *count;
        }
        latency
    }

    #[test]
    fn a_percentile_is_the_bound_of_its_bucket() {
        let check = |counts: &[(usize, u64)], percent, expected| {
            assert_eq!(
                percentile_us(&latency(counts), percent),
                expected,
                "{percent}% of {counts:?}"
            );
        };
        check(&[], 50, None);
        check(&[(0, 1)], 50, Some(0.1));
        check(&[(0, 98), (3, 2)], 50, Some(0.1));
        check(&[(0, 98), (3, 2)], 98, Some(0.1));
        check(&[(0, 98), (3, 2)], 99, Some(1.0));
        // Slower than the last bound: at least that.
        check(&[(LATENCY_BUCKETS_NS.len(), 1)], 99, Some(1_000_000.0));
    }

    #[test]
    fn the_mean_is_of_all_calls() {
        let mut calls = latency(&[(0, 1), (1, 1)]);
        calls.sum_ns = 300;
        assert_eq!(mean_us(&calls), Some(0.15));
        assert_eq!(mean_us(&Latency::default()), None);
    }
}
