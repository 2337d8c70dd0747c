//! `plugins diff`: where a plugin in shadow mode would have decided otherwise.

use super::table::{Table, ago, bytes, printable};
use super::view::View;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Answer of `GET /v1/plugins/NAME/diff`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PluginDiff {
    /// The plugin in shadow mode.
    pub plugin: String,
    /// The plugin in whose place it was judged; `None`: as one more.
    pub shadow_of: Option<String>,
    /// The generation that loaded it; 0: it was asked nothing yet.
    pub generation: u64,
    /// Comparisons by hook since then, or since it was reset.
    pub compared: BTreeMap<String, u64>,
    /// Differences by hook and kind.
    pub differences: BTreeMap<String, BTreeMap<String, u64>>,
    /// Differences whose inputs found no room.
    pub unsampled: u64,
    /// Differences with their inputs, the most frequent first.
    pub samples: Vec<DiffSample>,
}

/// One difference with its inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiffSample {
    /// `authenticate`, `authorize` or `transform`.
    pub hook: String,
    /// What would have been otherwise: `would_deny`, ...
    pub kind: String,
    /// MQTT client identifier.
    pub client_id: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// Its user name.
    pub username: Option<String>,
    /// `connect`, `publish`, `subscribe` or `deliver`.
    pub action: String,
    /// Topic, for subscribe topic filter; empty for connect.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// Size of the message that was to be transformed.
    pub payload_bytes: Option<u64>,
    /// How its payload begins, with escapes for what is not ASCII.
    pub payload: Option<String>,
    /// What happened, and who decided it.
    pub enforced: String,
    /// What would have happened, and why.
    pub shadow: String,
    /// How often.
    pub count: u64,
    /// For the first time, in milliseconds since 1970.
    pub first_unix_ms: u64,
    /// For the last time.
    pub last_unix_ms: u64,
}

/// Answer of `POST /v1/plugins/NAME/diff/reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiffReset {
    /// The plugin of which everything that was seen is forgotten.
    pub plugin: String,
}

impl View for PluginDiff {
    fn view(&self, now_unix_s: u64) -> String {
        let mut text = format!("{}\n", self.summary());
        if self.samples.is_empty() {
            return text;
        }
        let mut table = Table::new([
            "COUNT", "WOULD", "CLIENT", "USER", "ACTION", "TOPIC", "LAST", "ENFORCED", "SHADOW",
        ]);
        for sample in &self.samples {
            table.push(row(sample, now_unix_s));
        }
        let _ = write!(text, "\n{table}");
        if self.unsampled > 0 {
            let _ = writeln!(
                text,
                "and {} differences more, whose inputs found no room",
                self.unsampled
            );
        }
        text
    }
}

impl PluginDiff {
    fn summary(&self) -> String {
        let place = match &self.shadow_of {
            Some(other) => format!("in the place of {}", printable(other)),
            None => "as one more plugin".to_owned(),
        };
        let compared: u64 = self.compared.values().sum();
        let mut text = format!(
            "{} {place}: {compared} compared, {} different",
            printable(&self.plugin),
            self.differences.values().flat_map(BTreeMap::values).sum::<u64>()
        );
        for (hook, kinds) in &self.differences {
            for (kind, count) in kinds {
                let _ = write!(text, "\n  {hook}: {count} {kind}");
            }
        }
        text
    }
}

fn row(sample: &DiffSample, now_unix_s: u64) -> [String; 9] {
    let client = match &sample.tenant {
        Some(tenant) => format!("{} (tenant {tenant})", sample.client_id),
        None => sample.client_id.clone(),
    };
    let topic = match sample.payload_bytes {
        Some(size) => format!("{} ({})", sample.topic, bytes(size)),
        None => sample.topic.clone(),
    };
    let retain = if sample.retain { " retain" } else { "" };
    [
        sample.count.to_string(),
        sample.kind.strip_prefix("would_").unwrap_or(&sample.kind).to_owned(),
        client,
        sample.username.clone().unwrap_or_default(),
        format!("{} q{}{retain}", sample.action, sample.qos),
        topic,
        ago(now_unix_s, sample.last_unix_ms / 1_000),
        sample.enforced.clone(),
        sample.shadow.clone(),
    ]
}

impl View for DiffReset {
    fn view(&self, _: u64) -> String {
        format!("what was seen of {} is forgotten\n", printable(&self.plugin))
    }
}
