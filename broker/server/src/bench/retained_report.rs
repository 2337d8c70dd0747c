//! What `nervewire bench retained` found.

use super::meter::Span;
use super::report::{Report, Table, grouped, mebibytes, ratio};
use super::retained::{Fetch, RetainedArgs};

/// All results; names end in their units.
#[derive(Debug, serde::Serialize)]
pub(super) struct RetainedReport {
    scenario: &'static str,
    version: u8,
    count: u64,
    payload_bytes: u32,
    set_s: f64,
    set_per_s: f64,
    broker_cpu_us_per_set: Option<f64>,
    own_cpu_us_per_set: f64,
    broker_rss_before_bytes: Option<u64>,
    broker_rss_after_bytes: Option<u64>,
    resident_bytes_per_message: Option<f64>,
    /// The median of all fetches.
    fetch_s: f64,
    fetches_s: Vec<f64>,
    broker_cpu_us_per_fetched: Option<f64>,
    own_cpu_us_per_fetched: f64,
    /// Of the worst fetch.
    lost: u64,
    duplicated: u64,
    foreign: u64,
    #[serde(skip)]
    fetches: Vec<Fetch>,
}

impl RetainedReport {
    /// `setting` lies between the first PUBLISH and the last one's being taken; the broker's memory before and after it.
    pub(super) fn new(args: &RetainedArgs, setting: Span, before: Option<u64>, after: Option<u64>) -> Self {
        let count = args.count;
        let each = |cpu: std::time::Duration| ratio(cpu.as_secs_f64() * 1e6, count);
        let grown = after.zip(before).map(|(after, before)| after as f64 - before as f64);
        Self {
            scenario: "retained",
            version: args.target.version.level(),
            count,
            payload_bytes: args.payload,
            set_s: setting.elapsed.as_secs_f64(),
            set_per_s: count as f64 / setting.elapsed.as_secs_f64(),
            broker_cpu_us_per_set: setting.broker_cpu.map(each),
            own_cpu_us_per_set: each(setting.own_cpu),
            broker_rss_before_bytes: before,
            broker_rss_after_bytes: after,
            resident_bytes_per_message: grown.map(|bytes| ratio(bytes, count)),
            fetch_s: 0.0,
            fetches_s: Vec::new(),
            broker_cpu_us_per_fetched: None,
            own_cpu_us_per_fetched: 0.0,
            lost: 0,
            duplicated: 0,
            foreign: 0,
            fetches: Vec::new(),
        }
    }

    /// One more fetch.
    pub(super) fn fetched(&mut self, fetch: Fetch) {
        self.lost = self.lost.max(fetch.missing);
        self.duplicated = self.duplicated.max(fetch.duplicated);
        self.foreign = self.foreign.max(fetch.foreign);
        self.fetches_s.push(fetch.span.elapsed.as_secs_f64());
        self.fetches.push(fetch);
    }

    /// Works out what concerns all fetches together.
    pub(super) fn finish(&mut self) {
        let mut sorted = self.fetches_s.clone();
        sorted.sort_by(f64::total_cmp);
        self.fetch_s = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let all = self.count * self.fetches.len() as u64;
        let total = |cpu: fn(&Span) -> Option<std::time::Duration>| {
            let times: Option<Vec<_>> = self.fetches.iter().map(|fetch| cpu(&fetch.span)).collect();
            times.map(|times| ratio(times.iter().sum::<std::time::Duration>().as_secs_f64() * 1e6, all))
        };
        self.broker_cpu_us_per_fetched = total(|span| span.broker_cpu);
        self.own_cpu_us_per_fetched = total(|span| Some(span.own_cpu)).unwrap_or_default();
    }
}

impl Report for RetainedReport {
    fn table(&self) -> Table {
        let mut table = Table::default();
        let version = if self.version == 5 { "5.0" } else { "3.1.1" };
        let load = format!(
            "{} retained messages, {} bytes",
            grouped(self.count),
            self.payload_bytes
        );
        table.row("load", format!("{load}, MQTT {version}"));
        table.row(
            "set",
            format!("{:.3} s, {}/s", self.set_s, grouped(self.set_per_s as u64)),
        );
        let cost = |us: f64| format!("{us:.3} us/message");
        table.optional("broker CPU", self.broker_cpu_us_per_set.map(cost));
        table.row("own CPU", cost(self.own_cpu_us_per_set));
        let memory = [self.broker_rss_before_bytes, self.broker_rss_after_bytes];
        if let [Some(before), Some(after)] = memory.map(|bytes| bytes.map(mebibytes)) {
            table.row("broker RSS before / after", format!("{before} / {after}"));
        }
        let each = self.resident_bytes_per_message;
        table.optional("resident bytes per message", each.map(|bytes| format!("{bytes:.0}")));
        table.row(
            "fetched",
            format!("{:.3} s, median of {}", self.fetch_s, self.fetches_s.len()),
        );
        table.optional("broker CPU, fetching", self.broker_cpu_us_per_fetched.map(cost));
        table.row("own CPU, fetching", cost(self.own_cpu_us_per_fetched));
        table.row("lost / duplicated", format!("{} / {}", self.lost, self.duplicated));
        table.optional("altered", (self.foreign > 0).then(|| grouped(self.foreign)));
        table
    }

    fn summary(&self) -> String {
        let Self {
            lost,
            duplicated,
            fetch_s,
            ..
        } = self;
        let rate = grouped(self.set_per_s as u64);
        format!("{rate} set/s, all fetched in {fetch_s:.3} s, lost {lost}, duplicated {duplicated}")
    }

    fn passed(&self) -> bool {
        self.lost + self.duplicated + self.foreign == 0
    }
}
