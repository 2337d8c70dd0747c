//! A window's numbers as text, named as in the contract (`wit/hooks.wit`): in test cases of plugins, and in alerts.

use nervewire_core::hook::Window;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What one client did in one window. What is not written did not happen.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WindowText {
    pub client_id: String,
    pub username: Option<String>,
    pub address: IpAddr,
    /// Unix time in milliseconds; `None`: it has ended now.
    pub started: Option<u64>,
    pub milliseconds: u32,
    pub messages_in: u64,
    pub messages_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub distinct_topics: u32,
    pub denials: u32,
    pub malformed_packets: u32,
    pub failed_logins: u32,
    pub connects: u32,
    pub payload_bytes_min: u32,
    pub payload_bytes_max: u32,
    pub payload_bytes_mean: f64,
    pub payload_bytes_deviation: f64,
}

impl Default for WindowText {
    fn default() -> Self {
        Self {
            client_id: "c1".to_owned(),
            username: None,
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            started: None,
            milliseconds: 60_000,
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            distinct_topics: 0,
            denials: 0,
            malformed_packets: 0,
            failed_logins: 0,
            connects: 0,
            payload_bytes_min: 0,
            payload_bytes_max: 0,
            payload_bytes_mean: 0.0,
            payload_bytes_deviation: 0.0,
        }
    }
}

impl WindowText {
    /// As plugins are asked about it.
    pub(crate) fn window(&self, now_ms: u64) -> Window {
        Window {
            client_id: self.client_id.as_str().into(),
            username: self.username.as_deref().map(Arc::from),
            address: self.address,
            started_unix_ms: self.started.unwrap_or(now_ms.saturating_sub(self.milliseconds.into())),
            length_ms: self.milliseconds,
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            distinct_topics: self.distinct_topics,
            denials: self.denials,
            malformed_packets: self.malformed_packets,
            failed_logins: self.failed_logins,
            connects: self.connects,
            payload_bytes_min: self.payload_bytes_min,
            payload_bytes_max: self.payload_bytes_max,
            payload_bytes_mean: self.payload_bytes_mean,
            payload_bytes_deviation: self.payload_bytes_deviation,
        }
    }

    /// As it was counted.
    pub(crate) fn of(window: &Window) -> Self {
        Self {
            client_id: window.client_id.to_string(),
            username: window.username.as_deref().map(str::to_owned),
            address: window.address,
            started: Some(window.started_unix_ms),
            milliseconds: window.length_ms,
            messages_in: window.messages_in,
            messages_out: window.messages_out,
            bytes_in: window.bytes_in,
            bytes_out: window.bytes_out,
            distinct_topics: window.distinct_topics,
            denials: window.denials,
            malformed_packets: window.malformed_packets,
            failed_logins: window.failed_logins,
            connects: window.connects,
            payload_bytes_min: window.payload_bytes_min,
            payload_bytes_max: window.payload_bytes_max,
            payload_bytes_mean: window.payload_bytes_mean,
            payload_bytes_deviation: window.payload_bytes_deviation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_survives_being_written_and_read() {
        let text = "client_id = \"c\"\nusername = \"ann\"\nstarted = 5\nmessages_in = 3\npayload_bytes_mean = 0.1";
        let window = toml::from_str::<WindowText>(text).unwrap().window(70_000);
        let json = serde_json::to_string(&WindowText::of(&window)).unwrap();
        let read = serde_json::from_str::<WindowText>(&json).unwrap();
        assert_eq!(read.window(90_000), window, "{json}");
    }
}
