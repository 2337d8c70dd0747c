//! What `nervewire bench subscriptions` found.

use super::filters::FilterShape;
use super::meter::Span;
use super::pubsub_report::PubsubReport;
use super::report::{Percentiles, Report, Table, grouped, mebibytes, ratio};
use super::storm::Storm;
use super::subscribing::Took;
use super::subscriptions::SubscriptionsArgs;

/// All results; names end in their units.
#[derive(Debug, serde::Serialize)]
pub(super) struct SubscriptionsReport {
    scenario: &'static str,
    version: u8,
    qos: u8,
    count: u64,
    shape: FilterShape,
    per_packet: u64,
    subscribers: u32,
    subscribe: SubscribeReport,
    /// Messages while nobody subscribes.
    pub(super) messages: Option<PubsubReport>,
    /// The same messages while others subscribe and unsubscribe.
    pub(super) storm: Option<StormReport>,
}

/// Resident memory of the broker around something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    pub(super) before: Option<u64>,
    pub(super) after: Option<u64>,
}

impl Gauge {
    /// What it grew by for each of `count` things.
    pub(super) fn bytes_each(&self, count: u64) -> Option<f64> {
        let grown = self
            .after
            .zip(self.before)
            .map(|(after, before)| after as f64 - before as f64);
        grown.map(|bytes| ratio(bytes, count))
    }
}

/// Subscribing, from the first SUBSCRIBE to the last SUBACK.
#[derive(Debug, serde::Serialize)]
pub(super) struct SubscribeReport {
    took_s: f64,
    subscribes_per_s: f64,
    /// While the last tenth was added to the others.
    last_tenth_per_s: f64,
    broker_cpu_us_per_subscribe: Option<f64>,
    own_cpu_us_per_subscribe: f64,
    broker_rss_before_bytes: Option<u64>,
    broker_rss_after_bytes: Option<u64>,
    resident_bytes_per_subscription: Option<f64>,
}

impl SubscribeReport {
    pub(super) fn new(count: u64, took: Took, span: Span, gauge: Gauge) -> Self {
        let each = |cpu: std::time::Duration| ratio(cpu.as_secs_f64() * 1e6, count);
        Self {
            took_s: took.all.as_secs_f64(),
            subscribes_per_s: count as f64 / took.all.as_secs_f64(),
            last_tenth_per_s: count as f64 / 10.0 / took.last_tenth.as_secs_f64(),
            broker_cpu_us_per_subscribe: span.broker_cpu.map(each),
            own_cpu_us_per_subscribe: each(span.own_cpu),
            broker_rss_before_bytes: gauge.before,
            broker_rss_after_bytes: gauge.after,
            resident_bytes_per_subscription: gauge.bytes_each(count),
        }
    }
}

/// A storm of subscriptions.
#[derive(Debug, serde::Serialize)]
pub(super) struct StormReport {
    wanted_changes_per_s: f64,
    changes_per_s: f64,
    /// Until SUBACK or UNSUBACK.
    answer_us: Percentiles,
    messages: PubsubReport,
}

impl StormReport {
    pub(super) fn new(wanted_changes_per_s: f64, storm: &Storm, messages: PubsubReport) -> Self {
        Self {
            wanted_changes_per_s,
            changes_per_s: storm.changes_per_s(),
            answer_us: Percentiles::of(&storm.latency),
            messages,
        }
    }
}

impl Report for SubscriptionsReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        let Self {
            count,
            per_packet,
            subscribers,
            qos,
            subscribe,
            ..
        } = self;
        let shape = if self.shape == FilterShape::Flat {
            "flat"
        } else {
            "deep"
        };
        let load = format!(
            "{} {shape} filters of {subscribers} subscribers, QoS {qos}",
            grouped(*count)
        );
        table.row("load", format!("{load}, {per_packet} in each SUBSCRIBE"));
        let rate = grouped(subscribe.subscribes_per_s as u64);
        let last = grouped(subscribe.last_tenth_per_s as u64);
        table.row(
            "subscribed",
            format!("{:.2} s, {rate}/s, the last tenth {last}/s", subscribe.took_s),
        );
        let cost = |us: f64| format!("{us:.3} us/subscribe");
        table.optional("broker CPU", subscribe.broker_cpu_us_per_subscribe.map(cost));
        table.row("own CPU", cost(subscribe.own_cpu_us_per_subscribe));
        let memory = [subscribe.broker_rss_before_bytes, subscribe.broker_rss_after_bytes];
        if let [Some(before), Some(after)] = memory.map(|bytes| bytes.map(mebibytes)) {
            table.row("broker RSS before / after", format!("{before} / {after}"));
        }
        let each = subscribe.resident_bytes_per_subscription;
        table.optional(
            "resident bytes per subscription",
            each.map(|bytes| format!("{bytes:.0}")),
        );
        if let Some(messages) = &self.messages {
            table.part("MESSAGES", messages.table());
        }
        if let Some(storm) = &self.storm {
            table.part("MESSAGES IN A STORM OF SUBSCRIPTIONS", storm.table());
        }
        table
    }

    fn summary(&self) -> String {
        let rate = grouped(self.subscribe.subscribes_per_s as u64);
        let bytes = self.subscribe.resident_bytes_per_subscription;
        let memory = bytes.map(|bytes| format!(", {bytes:.0} resident bytes each"));
        let messages = self
            .messages
            .as_ref()
            .map(|messages| format!("; {}", messages.summary()));
        let storm = self.storm.as_ref().map(|storm| {
            format!(
                "; in a storm of {}/s: {}",
                grouped(storm.changes_per_s as u64),
                storm.messages.summary()
            )
        });
        let parts = [memory, messages, storm].map(Option::unwrap_or_default).concat();
        format!("{rate} subscribes/s{parts}")
    }

    fn passed(&self) -> bool {
        let storm = self.storm.as_ref().map(|storm| &storm.messages);
        self.messages.iter().chain(storm).all(Report::passed)
    }
}

impl StormReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        let (wanted, got) = (self.wanted_changes_per_s, self.changes_per_s);
        let (wanted, got) = (grouped(wanted as u64), grouped(got as u64));
        table.row("filters changed", format!("{got}/s of {wanted}/s"));
        table.row("SUBACK, UNSUBACK after p50 / p99 / p99.9 / max", self.answer_us.line());
        table.rows(self.messages.table());
        table
    }
}

impl SubscriptionsReport {
    pub(super) fn new(args: &SubscriptionsArgs, subscribe: SubscribeReport) -> Self {
        Self {
            scenario: "subscriptions",
            version: args.target.version.level(),
            qos: args.qos,
            count: args.count,
            shape: args.shape,
            per_packet: args.per_packet,
            subscribers: args.subscribers,
            subscribe,
            messages: None,
            storm: None,
        }
    }
}
