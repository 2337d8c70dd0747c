//! `explain`: how a request would be decided, by whom and why.

use super::table::{Table, call_time, printable};
use super::view::View;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Body of `POST /v1/explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// MQTT client identifier; where it has no session, a client with these facts is supposed.
    pub client_id: String,
    /// Its tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Its user name, where it has no session.
    #[serde(default)]
    pub username: Option<String>,
    /// `publish`, `subscribe` or `deliver`.
    pub action: String,
    /// Topic, for subscribe topic filter.
    pub topic: String,
    /// QoS.
    #[serde(default)]
    pub qos: u8,
    /// RETAIN flag.
    #[serde(default)]
    pub retain: bool,
    /// What is published, for transforms.
    #[serde(default)]
    pub payload: String,
}

/// Answer of `POST /v1/explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// MQTT client identifier.
    pub client_id: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// Its user name.
    pub username: Option<String>,
    /// `connected`, `stored`, or `none`: a client is supposed.
    pub session: String,
    /// `publish`, `subscribe` or `deliver`.
    pub action: String,
    /// Topic or topic filter.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// Of the policy that decides.
    pub generation: u64,
    /// What each authorizer says, in order.
    pub authorizers: Vec<ExplainedStep>,
    /// The decision.
    pub allowed: bool,
    /// The plugin that decides; `None`: the default does.
    pub decided_by: Option<String>,
    /// Why.
    pub why: String,
    /// Of a delivery: filters of the client that match and are suspended, because their right was taken away.
    #[serde(default)]
    pub suspended: Vec<String>,
    /// What each transform makes of the message, in order.
    pub transforms: Vec<ExplainedStep>,
    /// What is published in the end; `None`: nothing is published.
    pub messages: Option<Vec<ExplainedMessage>>,
    /// Why a transform rejects the message, and which.
    pub rejected: Option<String>,
}

/// What one plugin says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExplainedStep {
    /// Its name.
    pub plugin: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// `not_concerned`, `not_heard`, `rules`, `cache`, `asked`, `failed` or `authorized_again`.
    pub how: String,
    /// `allow`, `deny`, `abstain`; of a transform `pass`, `replace`, `emit`, `drop`, `reject`.
    pub said: Option<String>,
    /// Why.
    pub words: String,
    /// How long it took to ask it, in microseconds.
    pub took_us: Option<f64>,
}

/// A message as transforms made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExplainedMessage {
    /// Topic.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// Size of its payload.
    pub payload_bytes: u64,
    /// How its payload begins, with escapes for what is not ASCII.
    pub payload: String,
}

impl View for Explained {
    fn view(&self, _: u64) -> String {
        let session = match self.session.as_str() {
            "connected" => "is connected",
            "stored" => "is offline, its session is kept",
            _ => "has no session: a client with these facts is supposed",
        };
        let mut text = format!("client {}", printable(&self.client_id));
        for (what, value) in [("user", &self.username), ("tenant", &self.tenant)] {
            if let Some(value) = value {
                let _ = write!(text, ", {what} {}", printable(value));
            }
        }
        let retain = if self.retain { ", retain" } else { "" };
        let _ = writeln!(text, " {session}");
        let _ = writeln!(
            text,
            "{} {} (QoS {}{retain}), generation {}\n",
            self.action,
            printable(&self.topic),
            self.qos,
            self.generation
        );
        if !self.authorizers.is_empty() {
            let _ = writeln!(text, "{}", steps("AUTHORIZER", &self.authorizers));
        }
        let decision = if self.allowed { "ALLOWED" } else { "DENIED" };
        let by = self.decided_by.as_ref().map(|by| format!(" by {}", printable(by)));
        let _ = writeln!(text, "{decision}{}: {}", by.unwrap_or_default(), printable(&self.why));
        if !self.suspended.is_empty() {
            let shown: Vec<_> = self
                .suspended
                .iter()
                .map(|filter| printable(filter).to_string())
                .collect();
            let _ = writeln!(text, "SUSPENDED: {}", shown.join(", "));
        }
        if !self.transforms.is_empty() {
            let _ = write!(text, "\n{}", steps("TRANSFORM", &self.transforms));
        }
        if let Some(rejected) = &self.rejected {
            let _ = writeln!(text, "\nREJECTED: {}", printable(rejected));
        }
        if let Some(messages) = self.messages.as_ref().filter(|_| !self.transforms.is_empty()) {
            let _ = writeln!(text, "\n{} published:", messages.len());
            for message in messages {
                let _ = writeln!(text, "  {} {}", printable(&message.topic), printable(&message.payload));
            }
        }
        text
    }
}

fn steps(heading: &str, steps: &[ExplainedStep]) -> Table {
    let mut table = Table::new([heading, "SAYS", "TOOK", "WHY"]);
    for step in steps {
        let name = match step.mode.as_str() {
            "shadow" => format!("{} (shadow)", step.plugin),
            _ => step.plugin.clone(),
        };
        let took = step.took_us.map_or_else(String::new, |us| call_time(Some(us)));
        table.push([name, step.said.clone().unwrap_or_default(), took, step.words.clone()]);
    }
    table
}
