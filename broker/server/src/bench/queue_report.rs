//! What `nervewire bench queue` found.

use super::meter::Span;
use super::queue::QueueArgs;
use super::report::{Report, Table, grouped, mebibytes, ratio};
use super::visit::Collected;

/// All results; names end in their units. What belongs to the half that was not run is left out.
#[derive(Debug, serde::Serialize)]
pub(super) struct QueueReport {
    scenario: &'static str,
    version: u8,
    sessions: u64,
    messages: u64,
    payload_bytes: u32,
    /// Making the sessions.
    subscribe: Option<Effort>,
    /// Queueing the messages.
    fill: Option<Effort>,
    /// Connecting again and taking them.
    collect: Option<Effort>,
    broker_rss_before_bytes: Option<u64>,
    /// With everything queued.
    broker_rss_filled_bytes: Option<u64>,
    refused: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    foreign: u64,
}

/// What one part took.
#[derive(Debug, serde::Serialize)]
struct Effort {
    s: f64,
    per_s: f64,
    broker_cpu_us_each: Option<f64>,
}

impl Effort {
    fn new(span: Span, count: u64) -> Self {
        let s = span.elapsed.as_secs_f64();
        Self {
            s,
            per_s: if s > 0.0 { count as f64 / s } else { 0.0 },
            broker_cpu_us_each: span.broker_cpu.map(|cpu| ratio(cpu.as_secs_f64() * 1e6, count)),
        }
    }

    fn line(&self) -> String {
        let cpu = self.broker_cpu_us_each.map(|us| format!(", broker {us:.3} us each"));
        format!(
            "{:.3} s, {}/s{}",
            self.s,
            grouped(self.per_s as u64),
            cpu.unwrap_or_default()
        )
    }
}

impl QueueReport {
    pub(super) fn new(args: &QueueArgs, resident_before: Option<u64>) -> Self {
        Self {
            scenario: "queue",
            version: args.target.version.level(),
            sessions: args.sessions,
            messages: args.sessions * args.each,
            payload_bytes: args.payload,
            subscribe: None,
            fill: None,
            collect: None,
            broker_rss_before_bytes: resident_before,
            broker_rss_filled_bytes: None,
            refused: 0,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            foreign: 0,
        }
    }

    pub(super) fn subscribed(&mut self, span: Span) {
        self.subscribe = Some(Effort::new(span, self.sessions));
    }

    pub(super) fn filled(&mut self, span: Span, resident: Option<u64>, refused: u64) {
        self.fill = Some(Effort::new(span, self.messages));
        self.broker_rss_filled_bytes = resident;
        self.refused = refused;
    }

    pub(super) fn collected(&mut self, span: Span, collected: Collected) {
        self.collect = Some(Effort::new(span, collected.messages));
        self.lost = collected.lost;
        self.duplicated = collected.duplicated;
        self.reordered = collected.reordered;
        self.foreign = collected.foreign;
    }
}

impl Report for QueueReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        let version = if self.version == 5 { "5.0" } else { "3.1.1" };
        let (messages, sessions) = (grouped(self.messages), grouped(self.sessions));
        let bytes = self.payload_bytes;
        table.row(
            "load",
            format!("{messages} messages for {sessions} sessions, {bytes} bytes, QoS 1, MQTT {version}"),
        );
        table.optional("sessions made", self.subscribe.as_ref().map(Effort::line));
        table.optional("queued", self.fill.as_ref().map(Effort::line));
        let memory = [self.broker_rss_before_bytes, self.broker_rss_filled_bytes];
        if let [Some(before), Some(filled)] = memory.map(|bytes| bytes.map(mebibytes)) {
            table.row("broker RSS before / filled", format!("{before} / {filled}"));
        }
        table.optional("collected", self.collect.as_ref().map(Effort::line));
        let flaws = format!("{} / {} / {}", self.lost, self.duplicated, self.reordered);
        table.row("lost / duplicated / reordered", flaws);
        table.flaw("misrouted or altered", self.foreign);
        table.flaw("refused by the broker", self.refused);
        table
    }

    fn summary(&self) -> String {
        let rate = |effort: &Option<Effort>| effort.as_ref().map_or(0, |effort| effort.per_s as u64);
        let Self { lost, duplicated, .. } = self;
        let (queued, collected) = (grouped(rate(&self.fill)), grouped(rate(&self.collect)));
        format!("{queued} queued/s, {collected} collected/s, lost {lost}, duplicated {duplicated}")
    }

    fn passed(&self) -> bool {
        self.refused + self.lost + self.duplicated + self.reordered + self.foreign == 0
    }
}
