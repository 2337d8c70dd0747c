//! What `nervewire bench idle` found.

use super::histogram::Histogram;
use super::idle::{IdleArgs, Tally};
use super::meter::{Meter, Span};
use super::opening::Opened;
use super::report::{Percentiles, Report, Table, grouped, mebibytes, ratio};

/// Failed connections described one by one.
const MAX_FAILURES: usize = 5;

/// All results; names end in their units.
#[derive(Debug, serde::Serialize)]
pub(super) struct IdleReport {
    scenario: &'static str,
    version: u8,
    qos: u8,
    clients: u32,
    /// Each connection has one.
    subscription: bool,
    connected: u64,
    failed: u64,
    connects_per_s: f64,
    /// CONNECT and SUBSCRIBE together, if there is a subscription.
    broker_cpu_us_per_connect: Option<f64>,
    own_cpu_us_per_connect: f64,
    hold_s: f64,
    broker_cpu_percent_idle: Option<f64>,
    broker_rss_before_bytes: Option<u64>,
    broker_rss_after_bytes: Option<u64>,
    broker_rss_peak_bytes: Option<u64>,
    resident_bytes_per_connection: Option<f64>,
    /// Connections the broker ended after they were up.
    dropped: u64,
    failures: Vec<String>,
    publish_all: Option<Round>,
}

/// One message to every client.
#[derive(Debug, serde::Serialize)]
pub(super) struct Round {
    messages: u64,
    delivered: u64,
    delivered_per_s: f64,
    broker_cpu_us_per_message: Option<f64>,
    own_cpu_us_per_message: f64,
    latency_us: Percentiles,
    lost: u64,
    duplicated: u64,
    foreign: u64,
    refused: u64,
    /// Messages without their last acknowledgement or PUBREL.
    unfinished_handshakes: u64,
}

impl Round {
    pub(super) fn new(messages: u64, span: Span, latency: &Histogram, tally: Tally, in_flight: u64) -> Self {
        let per_message = |cpu: std::time::Duration| ratio(cpu.as_secs_f64() * 1e6, tally.delivered);
        Self {
            messages,
            delivered: tally.delivered,
            delivered_per_s: tally.delivered as f64 / span.elapsed.as_secs_f64(),
            broker_cpu_us_per_message: span.broker_cpu.map(per_message),
            own_cpu_us_per_message: per_message(span.own_cpu),
            latency_us: Percentiles::of(latency),
            lost: messages - tally.delivered,
            duplicated: tally.duplicated,
            foreign: tally.foreign,
            refused: tally.refused,
            unfinished_handshakes: in_flight + tally.unreleased,
        }
    }

    fn passed(&self) -> bool {
        self.lost + self.duplicated + self.foreign + self.refused + self.unfinished_handshakes == 0
    }
}

impl IdleReport {
    pub(super) fn new(args: &IdleArgs, opened: &Opened, meter: &Meter, connecting: Span, holding: Span) -> Self {
        let failed = opened.failed.len() as u64;
        let connected = u64::from(args.clients) - failed;
        let per_connect = |cpu: std::time::Duration| ratio(cpu.as_secs_f64() * 1e6, connected);
        let failures = opened.failed.iter().take(MAX_FAILURES);
        let idle_seconds = holding.elapsed.as_secs_f64();
        let percent = |cpu: std::time::Duration| 100.0 * cpu.as_secs_f64() / idle_seconds;
        Self {
            scenario: "idle",
            version: args.target.version.level(),
            qos: args.qos,
            clients: args.clients,
            subscription: !args.no_subscription,
            connected,
            failed,
            connects_per_s: connected as f64 / opened.took.as_secs_f64(),
            broker_cpu_us_per_connect: connecting.broker_cpu.map(per_connect),
            own_cpu_us_per_connect: per_connect(connecting.own_cpu),
            hold_s: args.hold,
            broker_cpu_percent_idle: holding.broker_cpu.filter(|_| args.hold > 0.0).map(percent),
            broker_rss_before_bytes: meter.resident_before,
            broker_rss_after_bytes: None,
            broker_rss_peak_bytes: meter.resident_peak,
            resident_bytes_per_connection: None,
            dropped: 0,
            failures: failures
                .map(|(index, reason)| format!("client {index}: {reason}"))
                .collect(),
            publish_all: None,
        }
    }

    /// The broker's memory after the hold.
    pub(super) fn resident(&mut self, after: Option<u64>) {
        self.broker_rss_after_bytes = after;
        self.broker_rss_peak_bytes = self.broker_rss_peak_bytes.max(after);
        let growth = after
            .zip(self.broker_rss_before_bytes)
            .map(|(after, before)| after as f64 - before as f64);
        self.resident_bytes_per_connection = growth.map(|bytes| ratio(bytes, self.connected));
    }

    /// What came of the messages to all.
    pub(super) fn round(&mut self, round: Round) {
        self.publish_all = Some(round);
    }

    /// Connections lost on the way, and why the first of them.
    pub(super) fn dropped(&mut self, count: u64, reason: Option<String>) {
        self.dropped = count;
        self.failures
            .extend(reason.map(|reason| format!("a connection that was up: {reason}")));
    }

    fn show_round(&self, table: &mut Table) {
        let Some(round) = &self.publish_all else { return };
        let (delivered, all) = (grouped(round.delivered), grouped(round.messages));
        table.row(
            "one message to each",
            format!("{delivered} of {all}, {}/s", grouped(round.delivered_per_s as u64)),
        );
        let cost = |us: f64| format!("{us:.3} us/message");
        table.optional("broker CPU", round.broker_cpu_us_per_message.map(cost));
        table.row("own CPU", cost(round.own_cpu_us_per_message));
        table.row("latency p50 / p99 / p99.9 / max", round.latency_us.line());
        table.row("lost / duplicated", format!("{} / {}", round.lost, round.duplicated));
        table.flaw("misrouted or altered", round.foreign);
        table.flaw("refused by the broker", round.refused);
        table.flaw("unfinished handshakes", round.unfinished_handshakes);
    }
}

impl Report for IdleReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        let version = if self.version == 5 { "5.0" } else { "3.1.1" };
        table.row(
            "load",
            format!("{} clients, MQTT {version}", grouped(self.clients.into())),
        );
        table.row(
            "connected",
            format!("{}, {}/s", grouped(self.connected), grouped(self.connects_per_s as u64)),
        );
        let with = if self.subscription {
            " with its subscription"
        } else {
            ""
        };
        let cost = |us: f64| format!("{us:.1} us/connect{with}");
        table.optional("broker CPU", self.broker_cpu_us_per_connect.map(cost));
        table.row("own CPU", cost(self.own_cpu_us_per_connect));
        table.optional(
            "broker CPU while idle",
            self.broker_cpu_percent_idle.map(|it| format!("{it:.2} % of a core")),
        );
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
        let per_connection = self.resident_bytes_per_connection;
        table.optional(
            "resident bytes per connection",
            per_connection.map(|bytes| format!("{bytes:.0}")),
        );
        self.show_round(&mut table);
        table.row("failed / dropped", format!("{} / {}", self.failed, self.dropped));
        self.failures.iter().for_each(|line| table.row("FAILED", line));
        table
    }

    fn summary(&self) -> String {
        let broker = self.broker_cpu_us_per_connect.map(|us| format!("broker {us:.1} us, "));
        let memory = self
            .resident_bytes_per_connection
            .map(|bytes| format!("{bytes:.0} resident bytes each, "));
        format!(
            "{}own {:.1} us/connect, {}/s, {}failed {}, dropped {}",
            broker.unwrap_or_default(),
            self.own_cpu_us_per_connect,
            grouped(self.connects_per_s as u64),
            memory.unwrap_or_default(),
            self.failed,
            self.dropped,
        )
    }

    fn passed(&self) -> bool {
        let arrived = self.publish_all.as_ref().is_none_or(Round::passed);
        arrived && self.failed == 0 && self.dropped == 0
    }
}
