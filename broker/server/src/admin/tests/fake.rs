//! A broker made of answers, for the tests of the API and of the commands.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::super::alerts::{Alert, AlertPage};
use super::super::backend::*;
use super::super::bans::{BanInfo, BanList, BanRefused, BanTarget, Banned, Lifted};
use super::super::diff::{DiffSample, PluginDiff};
use super::super::explain::{Explained, Wanted};
use super::super::metrics::MetricsSnapshot;

/// Two sessions, one plugin; what was asked for is recorded.
#[derive(Default)]
pub(super) struct FakeBackend {
    pub(super) kicked: Mutex<Vec<NamedClient>>,
    pub(super) pages: Mutex<Vec<PageRequest>>,
    pub(super) unhealthy: AtomicBool,
    /// What a reload finds wrong; nothing: it is taken.
    pub(super) findings: Mutex<Vec<String>>,
    /// While set, a reload announces itself at `reload_began` and waits for `let_reload_end`.
    pub(super) reload_waits: AtomicBool,
    pub(super) reload_began: Notify,
    pub(super) let_reload_end: Notify,
    pub(super) reload_ended: Notify,
}

fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(value))
}

/// One outside all tenants, connected, with a name that needs encoding; one of a tenant, offline.
pub(super) fn sessions() -> Vec<ClientInfo> {
    let connected = ClientInfo {
        client_id: "room/1 ü%2F".into(),
        username: Some("ann".into()),
        connected: true,
        address: Some("127.0.0.1:50123".into()),
        listener: Some("127.0.0.1:1883".into()),
        protocol: "5.0".into(),
        session_expiry_s: Some(0),
        keep_alive_s: 60,
        connected_at_unix_s: Some(1_700_000_000),
        subscriptions: 3,
        ..ClientInfo::default()
    };
    let offline = ClientInfo {
        client_id: "meter".into(),
        tenant: Some("acme".into()),
        protocol: "3.1.1".into(),
        queued_messages: 7,
        queued_bytes: 2048,
        ..ClientInfo::default()
    };
    vec![connected, offline]
}

fn ban() -> BanInfo {
    BanInfo {
        kind: "user".into(),
        subject: "mallory".into(),
        ..BanInfo::default()
    }
}

fn find(key: &NamedClient) -> Option<ClientInfo> {
    sessions()
        .into_iter()
        .find(|c| c.client_id == key.client_id && c.tenant == key.tenant)
}

pub(super) fn plugin() -> PluginInfo {
    let outcomes = BTreeMap::from([("allow".to_owned(), 41), ("trap".to_owned(), 1)]);
    PluginInfo {
        name: "acl".into(),
        component: "builtin:acl".into(),
        digest: "0123456789abcdef".into(),
        hooks: vec!["authorize".into()],
        mode: "enforce".into(),
        on_failure: "deny".into(),
        breaker: "closed".into(),
        calls: BTreeMap::from([("authorize".to_owned(), outcomes)]),
        failures: 1,
        times: BTreeMap::from([(
            "authorize".to_owned(),
            CallTimes {
                p99_us: Some(12.5),
                ..CallTimes::default()
            },
        )]),
        memory_bytes: 2_048,
        tick_ms: Some(50),
        ticks_skipped: 3,
        ..PluginInfo::default()
    }
}

/// Of a plugin that would have locked out one client.
pub(super) fn diff() -> PluginDiff {
    PluginDiff {
        plugin: "acl-next".into(),
        shadow_of: Some("acl".into()),
        generation: 3,
        compared: BTreeMap::from([("authorize".to_owned(), 12)]),
        differences: BTreeMap::from([("authorize".to_owned(), BTreeMap::from([("would_deny".to_owned(), 7)]))]),
        unsampled: 2,
        samples: vec![DiffSample {
            hook: "authorize".into(),
            kind: "would_deny".into(),
            client_id: "meter".into(),
            tenant: Some("acme".into()),
            username: Some("ann\u{1b}".into()),
            action: "publish".into(),
            topic: "plant/7/temp".into(),
            qos: 1,
            enforced: "allowed by acl, rule 1: allow publish #".into(),
            shadow: "denied by acl-next, rule 2: deny publish plant/+/temp".into(),
            count: 5,
            first_unix_ms: 1_700_000_000_000,
            last_unix_ms: 1_700_000_060_000,
            ..DiffSample::default()
        }],
    }
}

impl Backend for FakeBackend {
    fn status(&self) -> Answer<'_, Status> {
        ready(Status {
            version: "0.1.0".into(),
            shards: 2,
            durability: "memory".into(),
            ..Status::default()
        })
    }

    fn clients(&self, page: PageRequest) -> Answer<'_, ClientPage> {
        self.pages.lock().unwrap().push(page);
        let (from, limit) = (page.offset() as usize, page.limit as usize);
        let clients = sessions().into_iter().skip(from).take(limit).collect();
        ready(ClientPage {
            total: 2,
            page: page.page,
            limit: page.limit,
            clients,
        })
    }

    fn client(&self, key: NamedClient) -> Answer<'_, Option<ClientInfo>> {
        ready(find(&key))
    }

    fn kick(&self, key: NamedClient) -> Answer<'_, bool> {
        let connected = find(&key).is_some_and(|client| client.connected);
        self.kicked.lock().unwrap().push(key);
        ready(connected)
    }

    fn unthrottle(&self, key: NamedClient) -> Answer<'_, bool> {
        ready(key.client_id == "meter")
    }

    fn alerts(&self, limit: u64) -> Answer<'_, AlertPage> {
        let alerts = (0..limit.min(3)).map(|number| Alert {
            client_id: format!("odd-{number}"),
            response: "alert".into(),
            ..Alert::default()
        });
        ready(AlertPage {
            total: 9,
            kept: 3,
            alerts: alerts.collect(),
        })
    }

    fn plugins(&self) -> Answer<'_, Vec<PluginInfo>> {
        ready(vec![plugin()])
    }

    fn diff(&self, plugin: String) -> Answer<'_, Option<PluginDiff>> {
        ready((plugin == "acl-next").then(diff))
    }

    fn reset_diff(&self, plugin: String) -> Answer<'_, bool> {
        ready(plugin == "acl-next")
    }

    fn bans(&self) -> Answer<'_, BanList> {
        ready(BanList { bans: vec![ban()] })
    }

    fn ban(&self, target: BanTarget) -> Answer<'_, Result<Banned, BanRefused>> {
        let ban = BanInfo {
            subject: target.user.unwrap_or_default(),
            ..ban()
        };
        ready(match target.seconds {
            Some(0) => Err(BanRefused::Request("seconds".into())),
            _ => Ok(Banned { ban, stored: true }),
        })
    }

    fn lift(&self, target: BanTarget) -> Answer<'_, Result<Lifted, BanRefused>> {
        ready(match target.user.as_deref() {
            Some("mallory") => Ok(Lifted { ban: ban() }),
            _ => Err(BanRefused::NotFound("nobody".into())),
        })
    }

    fn explain(&self, wanted: Wanted) -> Answer<'_, Result<Explained, String>> {
        if wanted.action != "publish" {
            return ready(Err("action is unknown".into()));
        }
        ready(Ok(Explained {
            client_id: wanted.client_id,
            topic: wanted.topic,
            ..Explained::default()
        }))
    }

    fn reload(&self) -> Answer<'_, Result<ReloadReport, ReloadError>> {
        Box::pin(async {
            if self.reload_waits.load(Ordering::SeqCst) {
                self.reload_began.notify_one();
                self.let_reload_end.notified().await;
            }
            self.reload_ended.notify_one();
            let messages = self.findings.lock().unwrap().clone();
            if messages.is_empty() {
                Ok(ReloadReport {
                    generation: 2,
                    changes: vec!["plugin acl: new rules".into()],
                    took_ms: 5,
                })
            } else {
                Err(ReloadError { messages })
            }
        })
    }

    fn rollback(&self) -> Answer<'_, Result<RollbackReport, ReloadError>> {
        let messages = self.findings.lock().unwrap().clone();
        ready(match messages.is_empty() {
            true => Ok(RollbackReport {
                generation: 3,
                of_generation: 1,
                changes: vec!["plugin acl was loaded".into()],
                took_ms: 4,
            }),
            false => Err(ReloadError { messages }),
        })
    }

    fn record_start(&self, request: RecordRequest) -> Answer<'_, Result<RecordStatus, RecordError>> {
        ready(Ok(RecordStatus {
            active: true,
            file: Some(request.file),
            seconds_left: Some(request.seconds),
            ..RecordStatus::default()
        }))
    }

    fn record_stop(&self) -> Answer<'_, Result<RecordStatus, RecordError>> {
        ready(Err(RecordError("nothing is being recorded".to_owned())))
    }

    fn record_status(&self) -> Answer<'_, RecordStatus> {
        ready(RecordStatus::default())
    }

    fn metrics(&self) -> Answer<'_, MetricsSnapshot> {
        ready(MetricsSnapshot {
            connections: 1,
            bounds_hit: vec![("queue_messages", 4)],
            ..MetricsSnapshot::default()
        })
    }

    fn healthy(&self) -> Answer<'_, bool> {
        ready(!self.unhealthy.load(Ordering::SeqCst))
    }
}
