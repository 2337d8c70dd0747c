//! What `nervewire bench pubsub` found.

use std::time::Duration;

use super::course::{Measured, Pace};
use super::meter::Meter;
use super::report::{Percentiles, Report, Table, grouped, mebibytes, ratio};
use super::traffic::{Shape, TopicScheme, Traffic};

/// Lines about missing messages in a report.
const MAX_MISSING_LINES: usize = 10;

/// All results; names end in their units. Rates, costs and latencies are those of the measured span, the counts of
/// lost, duplicated and so on those of the whole run.
#[derive(Debug, serde::Serialize)]
pub(super) struct PubsubReport {
    scenario: &'static str,
    version: u8,
    qos: u8,
    topic_scheme: TopicScheme,
    /// The subscribers' sessions.
    durable: bool,
    publishers: usize,
    subscribers: usize,
    payload_bytes: usize,
    /// In a closed loop, after the broker's receive maximum.
    inflight: Option<usize>,
    rate_per_s: Option<f64>,
    measured_s: f64,
    published: u64,
    delivered: u64,
    published_per_s: f64,
    delivered_per_s: f64,
    broker_cpu_us_per_message: Option<f64>,
    broker_cpu_percent: Option<f64>,
    own_cpu_us_per_message: f64,
    own_cpu_percent: f64,
    broker_rss_before_bytes: Option<u64>,
    broker_rss_after_bytes: Option<u64>,
    broker_rss_peak_bytes: Option<u64>,
    latency_us: Percentiles,
    /// How late the generator itself was, at a fixed rate.
    send_lag_us: Option<Percentiles>,
    lost: u64,
    /// Losses do not fail this run.
    may_lose: bool,
    duplicated: u64,
    reordered: u64,
    foreign: u64,
    refused: u64,
    unfinished_handshakes: u64,
    missing: Vec<String>,
    failure: Option<String>,
}

impl PubsubReport {
    pub(super) fn new(pace: &Pace, shape: &Shape, traffic: &Traffic, measured: Measured, meter: &Meter) -> Self {
        let (counts, span) = (traffic.counts, measured.span);
        let seconds = span.elapsed.as_secs_f64();
        let per_s = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let per_message = |cpu: Duration| ratio(cpu.as_secs_f64() * 1e6, measured.delivered);
        let percent = |cpu: Duration| {
            if seconds > 0.0 {
                100.0 * cpu.as_secs_f64() / seconds
            } else {
                0.0
            }
        };
        Self {
            scenario: "pubsub",
            version: shape.version.level(),
            qos: shape.qos,
            topic_scheme: shape.scheme,
            publishers: shape.publishers,
            subscribers: shape.subscribers,
            durable: shape.durable,
            payload_bytes: shape.payload_bytes,
            inflight: shape.closed_loop.then_some(shape.window),
            rate_per_s: pace.rate_per_s,
            measured_s: seconds,
            published: measured.published,
            delivered: measured.delivered,
            published_per_s: per_s(measured.published),
            delivered_per_s: per_s(measured.delivered),
            broker_cpu_us_per_message: span.broker_cpu.map(per_message),
            broker_cpu_percent: span.broker_cpu.map(percent),
            own_cpu_us_per_message: per_message(span.own_cpu),
            own_cpu_percent: percent(span.own_cpu),
            broker_rss_before_bytes: meter.resident_before,
            broker_rss_after_bytes: measured.resident_after,
            broker_rss_peak_bytes: meter.resident_peak,
            latency_us: Percentiles::of(&traffic.latency),
            send_lag_us: pace.rate_per_s.map(|_| Percentiles::of(&traffic.lag)),
            lost: traffic.lost(),
            may_lose: pace.may_lose(),
            duplicated: counts.duplicated,
            reordered: counts.reordered,
            foreign: counts.foreign,
            refused: counts.refused,
            unfinished_handshakes: counts.unreleased,
            missing: traffic.missing(MAX_MISSING_LINES),
            failure: measured.failure,
        }
    }

    fn load(&self) -> String {
        let Self {
            publishers,
            subscribers,
            qos,
            payload_bytes,
            ..
        } = self;
        let pace = match (self.inflight, self.rate_per_s) {
            (Some(inflight), _) => format!("{inflight} in flight each"),
            (None, rate) => format!("{} messages/s", rate.unwrap_or(0.0)),
        };
        let scheme = match self.topic_scheme {
            TopicScheme::Pairs => "pairs",
            TopicScheme::FanOut => "fan-out",
            TopicScheme::Wildcard => "wildcard",
            TopicScheme::Scattered => "scattered",
        };
        let version = if self.version == 5 { "5.0" } else { "3.1.1" };
        let sessions = if self.durable { ", durable sessions" } else { "" };
        format!(
            "{publishers} to {subscribers} ({scheme}{sessions}), QoS {qos}, {payload_bytes} bytes, {pace}, MQTT {version}"
        )
    }
}

impl Report for PubsubReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        table.row("load", self.load());
        table.row(
            "measured",
            format!("{:.2} s, {} deliveries", self.measured_s, grouped(self.delivered)),
        );
        table.row("published", format!("{}/s", grouped(self.published_per_s as u64)));
        table.row("delivered", format!("{}/s", grouped(self.delivered_per_s as u64)));
        let cost = |us: f64, percent: f64| format!("{us:.3} us/message ({percent:.0} % of a core)");
        let broker = self.broker_cpu_us_per_message.zip(self.broker_cpu_percent);
        table.optional("broker CPU", broker.map(|(us, percent)| cost(us, percent)));
        table.row("own CPU", cost(self.own_cpu_us_per_message, self.own_cpu_percent));
        let memory = [
            self.broker_rss_before_bytes,
            self.broker_rss_after_bytes,
            self.broker_rss_peak_bytes,
        ];
        if let [Some(before), Some(after), Some(peak)] = memory.map(|bytes| bytes.map(mebibytes)) {
            table.row(
                "broker RSS before / after / peak",
                format!("{before} / {after} / {peak}"),
            );
        }
        table.row("latency p50 / p99 / p99.9 / max", self.latency_us.line());
        table.optional(
            "sent late p50 / p99 / p99.9 / max",
            self.send_lag_us.as_ref().map(Percentiles::line),
        );
        let flaws = format!("{} / {} / {}", self.lost, self.duplicated, self.reordered);
        table.row("lost / duplicated / reordered", flaws);
        table.flaw("misrouted or altered", self.foreign);
        table.flaw("refused by the broker", self.refused);
        table.flaw("PUBREL that did not come", self.unfinished_handshakes);
        self.missing.iter().for_each(|line| table.row("missing", line));
        table.optional("FAILED", self.failure.clone());
        table
    }

    fn summary(&self) -> String {
        let broker = self.broker_cpu_us_per_message.map(|us| format!("broker {us:.3} us, "));
        let Self { lost, duplicated, .. } = self;
        format!(
            "{}own {:.3} us/message, {}/s, p99 {:.0} us, lost {lost}, duplicated {duplicated}",
            broker.unwrap_or_default(),
            self.own_cpu_us_per_message,
            grouped(self.delivered_per_s as u64),
            self.latency_us.p99,
        )
    }

    fn passed(&self) -> bool {
        let sound = self.foreign == 0 && self.refused == 0 && self.duplicated == 0;
        sound && (self.lost == 0 || self.may_lose) && self.failure.is_none()
    }
}
