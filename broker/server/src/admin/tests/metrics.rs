//! The text of `/metrics`.

use crate::tls::TlsMetrics;
use nervewire_codec::QoS;
use nervewire_core::hook::Client;
use nervewire_core::shadow::{Differences, Kind, Noticed, ShadowHook, Tally, Words};

use super::super::metrics::{
    AlertCount, HistogramSnapshot, MetricsSnapshot, PluginCalls, PluginMetrics, StoreMetrics, render,
};

fn text(snapshot: MetricsSnapshot) -> String {
    render(snapshot).expect("a String can be written to")
}

fn plugin(name: &str) -> PluginMetrics {
    let times = HistogramSnapshot {
        sum_s: 0.5,
        buckets: vec![(1e-7, 2), (0.001, 3)],
        over: 1,
    };
    PluginMetrics {
        plugin: name.into(),
        calls: vec![PluginCalls {
            hook: "authorize",
            outcome: "deny",
            count: 6,
        }],
        call_seconds: vec![("authorize", times)],
        breaker_state: 2,
        memory_bytes: 65_536,
        refused_grants: 3,
        counters: vec![("blocked".into(), 9)],
        kv_entries: 12,
        cache_hits: 27,
        shadow: shadow(),
        ..PluginMetrics::default()
    }
}

/// Two comparisons, one of them a difference.
fn shadow() -> Tally {
    let client = Client::unknown("c".into(), None);
    let mut differences = Differences::new("acl".into(), 1);
    differences.compared(ShadowHook::Authorize);
    differences.compared(ShadowHook::Authorize);
    let noticed = Noticed {
        hook: ShadowHook::Authorize,
        kind: Kind::WouldDeny,
        client: &client,
        action: None,
        topic: "t",
        qos: QoS::AtMostOnce,
        retain: false,
        payload: None,
    };
    differences.note(0, &noticed, Words::default);
    differences.total
}

#[test]
fn every_family_has_its_documented_name() {
    let snapshot = MetricsSnapshot {
        connections: 1,
        sessions: 2,
        subscriptions: 3,
        bans: 33,
        retained_messages: 4,
        retained_bytes: 5,
        queued_messages: 6,
        queued_bytes: 7,
        messages_received: [8, 9, 10],
        messages_sent: [11, 12, 13],
        messages_dropped: vec![("queue-full", 14)],
        bytes_received: 15,
        bytes_sent: 16,
        connects: vec![("accepted", 17)],
        disconnects: vec![("keep-alive", 18)],
        tls: TlsMetrics {
            handshakes: vec![("full", 28)],
            failed: vec![("not_tls", 29)],
            disconnects: vec![("revoked", 30)],
            not_after_s: vec![("0.0.0.0:8883".to_owned(), "default".to_owned(), 31)],
            next_update_s: [("0.0.0.0:8883".to_owned(), 32)].into(),
        },
        authorization_denied: vec![("publish", 19)],
        plugins: vec![plugin("acl")],
        reloads: vec![("refused", 20)],
        rollbacks: vec![("automatic", 2)],
        config_generation: 21,
        throttled_clients: 27,
        alerts: vec![AlertCount {
            plugin: "guard".into(),
            response: "ban",
            count: 28,
        }],
        shadow_alerts: vec![AlertCount {
            plugin: "next".into(),
            response: "alert",
            count: 29,
        }],
        uptime_s: 22,
        bounds_hit: vec![("queue_bytes", 23)],
        store: Some(StoreMetrics {
            bytes: 24,
            pending_bytes: 25,
            commits: HistogramSnapshot {
                sum_s: 0.25,
                buckets: vec![(0.001, 2), (0.002, 3)],
                over: 1,
            },
            trouble: true,
            cut_bytes: 26,
        }),
    };
    let text = text(snapshot);
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples, EXPECTED_SAMPLES, "{text}");
    assert!(text.ends_with("# EOF\n"));
}

const EXPECTED_SAMPLES: &[&str] = &[
    "nervewire_connections 1",
    "nervewire_sessions 2",
    "nervewire_subscriptions 3",
    "nervewire_retained_messages 4",
    "nervewire_retained_bytes 5",
    "nervewire_queued_messages 6",
    "nervewire_queued_bytes 7",
    "nervewire_messages_received_total{qos=\"0\"} 8",
    "nervewire_messages_received_total{qos=\"1\"} 9",
    "nervewire_messages_received_total{qos=\"2\"} 10",
    "nervewire_messages_sent_total{qos=\"0\"} 11",
    "nervewire_messages_sent_total{qos=\"1\"} 12",
    "nervewire_messages_sent_total{qos=\"2\"} 13",
    "nervewire_messages_dropped_total{reason=\"queue-full\"} 14",
    "nervewire_bytes_received_total 15",
    "nervewire_bytes_sent_total 16",
    "nervewire_bans 33",
    "nervewire_connects_total{outcome=\"accepted\"} 17",
    "nervewire_disconnects_total{reason=\"keep-alive\"} 18",
    "nervewire_authorization_denied_total{action=\"publish\"} 19",
    "nervewire_tls_handshakes_total{kind=\"full\"} 28",
    "nervewire_tls_handshakes_failed_total{reason=\"not_tls\"} 29",
    "nervewire_tls_disconnects_total{reason=\"revoked\"} 30",
    "nervewire_tls_certificate_not_after_seconds{listener=\"0.0.0.0:8883\",name=\"default\"} 31",
    "nervewire_tls_crl_next_update_seconds{listener=\"0.0.0.0:8883\"} 32",
    "nervewire_plugin_calls_total{plugin=\"acl\",hook=\"authorize\",outcome=\"deny\"} 6",
    "nervewire_plugin_call_seconds_sum{plugin=\"acl\",hook=\"authorize\"} 0.5",
    "nervewire_plugin_call_seconds_count{plugin=\"acl\",hook=\"authorize\"} 6",
    "nervewire_plugin_call_seconds_bucket{le=\"1e-7\",plugin=\"acl\",hook=\"authorize\"} 2",
    "nervewire_plugin_call_seconds_bucket{le=\"0.001\",plugin=\"acl\",hook=\"authorize\"} 5",
    "nervewire_plugin_call_seconds_bucket{le=\"+Inf\",plugin=\"acl\",hook=\"authorize\"} 6",
    "nervewire_plugin_breaker_open{plugin=\"acl\"} 1",
    "nervewire_plugin_breaker_state{plugin=\"acl\"} 2",
    "nervewire_plugin_instances{plugin=\"acl\"} 0",
    "nervewire_plugin_memory_bytes{plugin=\"acl\"} 65536",
    "nervewire_plugin_generation{plugin=\"acl\"} 0",
    "nervewire_plugin_kv_entries{plugin=\"acl\"} 12",
    "nervewire_plugin_kv_bytes{plugin=\"acl\"} 0",
    "nervewire_plugin_breaker_opened_total{plugin=\"acl\"} 0",
    "nervewire_plugin_instances_replaced_total{plugin=\"acl\"} 0",
    "nervewire_plugin_refused_grants_total{plugin=\"acl\"} 3",
    "nervewire_plugin_ticks_skipped_total{plugin=\"acl\"} 0",
    "nervewire_plugin_tick_messages_dropped_total{plugin=\"acl\"} 0",
    "nervewire_plugin_kv_refused_total{plugin=\"acl\"} 0",
    "nervewire_plugin_log_lines_dropped_total{plugin=\"acl\"} 0",
    "nervewire_plugin_counters_dropped_total{plugin=\"acl\"} 0",
    "nervewire_plugin_counter_total{plugin=\"acl\",counter=\"blocked\"} 9",
    "nervewire_plugin_cache_hits_total{plugin=\"acl\"} 27",
    "nervewire_plugin_shadow_compared_total{plugin=\"acl\",hook=\"authorize\"} 2",
    "nervewire_plugin_shadow_differences_total{plugin=\"acl\",hook=\"authorize\",kind=\"would_deny\"} 1",
    "nervewire_alerts_total{plugin=\"guard\",response=\"ban\"} 28",
    "nervewire_shadow_alerts_total{plugin=\"next\",response=\"alert\"} 29",
    "nervewire_throttled_clients 27",
    "nervewire_reloads_total{outcome=\"refused\"} 20",
    "nervewire_rollbacks_total{cause=\"automatic\"} 2",
    "nervewire_config_generation 21",
    "nervewire_uptime_seconds 22",
    "nervewire_bounds_hit_total{bound=\"queue_bytes\"} 23",
    "nervewire_store_bytes 24",
    "nervewire_store_pending_bytes 25",
    "nervewire_store_commits_total 6",
    "nervewire_store_commit_seconds_sum 0.25",
    "nervewire_store_commit_seconds_count 6",
    "nervewire_store_commit_seconds_bucket{le=\"0.001\"} 2",
    "nervewire_store_commit_seconds_bucket{le=\"0.002\"} 5",
    "nervewire_store_commit_seconds_bucket{le=\"+Inf\"} 6",
    "nervewire_store_trouble 1",
    "nervewire_store_cut_bytes 26",
];

#[test]
fn a_plugin_cannot_forge_samples_by_the_names_of_its_counters() {
    let check = |name: &str, expected: &str| {
        let mut forger = plugin("p");
        forger.counters = vec![(name.into(), 1)];
        let text = text(MetricsSnapshot {
            plugins: vec![forger],
            ..MetricsSnapshot::default()
        });
        let sample = format!("nervewire_plugin_counter_total{{plugin=\"p\",counter=\"{expected}\"}} 1");
        assert!(text.lines().any(|line| line == sample), "no {sample} in:\n{text}");
    };
    check("plain", "plain");
    check("a\"b", "a\\\"b");
    check("a\nb", "a\\nb");
    check("a\\", "a\\\\");
    check(
        "\"} 1\nnervewire_connections 99\n# \\",
        "\\\"} 1\\nnervewire_connections 99\\n# \\\\",
    );
}

#[test]
fn a_gauge_too_large_for_the_format_does_not_fail_the_scrape() {
    let text = text(MetricsSnapshot {
        queued_bytes: u64::MAX,
        ..MetricsSnapshot::default()
    });
    assert!(text.contains("nervewire_queued_bytes 9223372036854775807\n"), "{text}");
}
