//! What detectors found, as the admin API and subscribers of `$SYS/broker/alerts` see it.

use super::table::{Table, ago};
use super::view::View;
use crate::window_text::WindowText;
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/alerts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlertPage {
    /// Alerts since the start of the broker.
    pub total: u64,
    /// Of those the last ones, which are kept.
    pub kept: u64,
    /// The newest first.
    pub alerts: Vec<Alert>,
}

/// One finding of a plugin with the hook `detect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who found it.
    pub plugin: String,
    /// `enforce`, or `shadow`: then nothing was done.
    pub mode: String,
    /// About whom.
    pub client_id: String,
    /// Its tenant; `None`: it belongs to none.
    pub tenant: Option<String>,
    /// The user name of its identity.
    pub username: Option<String>,
    /// Its address; `None`: it did nothing in this window.
    pub address: Option<String>,
    /// Whether it was let in. Who was not is known by its address alone, whatever client identifier it claims.
    pub let_in: Option<bool>,
    /// What is to be done: `alert`, `throttle`, `disconnect` or `ban`.
    pub response: String,
    /// Of `throttle`.
    pub messages_per_s: Option<u32>,
    /// Of `ban`.
    pub seconds: Option<u32>,
    /// What became of that.
    pub outcome: String,
    /// Why, in the plugin's words.
    pub evidence: String,
    /// What was counted; `None`: the client did nothing in this window.
    pub window: Option<WindowText>,
}

/// Answer of `POST /v1/clients/ID/unthrottle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unthrottled {
    /// Its client identifier.
    pub client_id: String,
    /// Its tenant.
    pub tenant: Option<String>,
}

impl View for Unthrottled {
    fn view(&self, _: u64) -> String {
        let tenant = self
            .tenant
            .as_ref()
            .map_or_else(String::new, |t| format!(" of tenant {t:?}"));
        format!("{:?}{tenant} may publish at its normal rate again\n", self.client_id)
    }
}

impl View for AlertPage {
    fn view(&self, now_unix_s: u64) -> String {
        if self.alerts.is_empty() {
            return "no alerts\n".into();
        }
        let mut table = Table::new([
            "WHEN", "PLUGIN", "CLIENT", "TENANT", "ADDRESS", "RESPONSE", "OUTCOME", "EVIDENCE",
        ]);
        for alert in &self.alerts {
            table.push([
                ago(now_unix_s, alert.at_unix_ms / 1_000),
                alert.plugin.clone(),
                alert.client_id.clone(),
                alert.tenant.clone().unwrap_or_default(),
                alert.address.clone().unwrap_or_default(),
                alert.response_words(),
                alert.outcome.clone(),
                alert.evidence.clone(),
            ]);
        }
        let (shown, total) = (self.alerts.len(), self.total);
        format!(
            "{table}{shown} of {total} alerts since the start; {} are kept\n",
            self.kept
        )
    }
}

impl Alert {
    fn response_words(&self) -> String {
        match (self.messages_per_s, self.seconds) {
            (Some(messages_per_s), _) => format!("{} {messages_per_s}/s", self.response),
            (_, Some(seconds)) => format!("{} {seconds} s", self.response),
            _ => self.response.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_a_table_that_nothing_in_them_can_break() {
        let alert = Alert {
            at_unix_ms: 940_000,
            plugin: "guard".into(),
            client_id: "pump\u{1b}[2J".into(),
            address: Some("10.0.0.7".into()),
            response: "throttle".into(),
            messages_per_s: Some(5),
            outcome: "carried out".into(),
            evidence: "900 messages".into(),
            ..Alert::default()
        };
        let page = AlertPage {
            total: 7,
            kept: 5,
            alerts: vec![alert],
        };
        let text = page.view(1_000);
        assert!(text.contains("1m 0s ago"), "{text}");
        assert!(text.contains("throttle 5/s  carried out  900 messages"), "{text}");
        assert!(text.contains("pump\\u{1b}[2J"), "{text}");
        assert!(text.ends_with("1 of 7 alerts since the start; 5 are kept\n"), "{text}");
        assert_eq!(AlertPage::default().view(0), "no alerts\n");
    }
}
