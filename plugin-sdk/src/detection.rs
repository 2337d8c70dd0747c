//! Hook `detect`: is something odd going on?

use crate::Plugin;
use std::time::Duration;

/// Implemented by plugins that look at what clients do over time and say what to do about it.
///
/// ```
/// use nervewire_plugin_sdk::{export, prelude::*, testing};
///
/// struct Watchdog;
///
/// impl Plugin for Watchdog {
///     type Config = ();
///     fn init(_: (), _: Files) -> Result<Self, String> { Ok(Watchdog) }
/// }
///
/// impl Detect for Watchdog {
///     fn detect(&mut self, windows: &[Window]) -> Vec<Finding> {
///         let guessing = windows.iter().filter(|window| window.failed_logins > 20);
///         guessing
///             .map(|window| Finding::alert(&window.client_id, format!("{} failed logins", window.failed_logins)))
///             .collect()
///     }
/// }
///
/// export!(Watchdog: detect);
///
/// let guessing = Window { failed_logins: 21, ..testing::window("7") };
/// let findings = Watchdog.detect(&[testing::window("6"), guessing]);
/// assert_eq!(findings, [Finding::alert("7", "21 failed logins")]);
/// ```
pub trait Detect: Plugin {
    /// Called with closed windows, each of one client; answers what is odd in them, and nothing about the others.
    fn detect(&mut self, windows: &[Window]) -> Vec<Finding>;
}

/// What one client did in one closed window, merged over all shards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Client identifier.
    pub client_id: String,
    /// The user name of the identity.
    pub username: Option<String>,
    /// Peer IP address, without the port.
    pub address: String,
    /// When it began: Unix time in milliseconds.
    pub started: u64,
    /// Its length.
    pub milliseconds: u32,
    /// Messages that the client sent.
    pub messages_in: u64,
    /// Messages that were sent to the client.
    pub messages_out: u64,
    /// Bytes that the client sent.
    pub bytes_in: u64,
    /// Bytes that were sent to the client.
    pub bytes_out: u64,
    /// Topics that the client published to.
    pub distinct_topics: u32,
    /// Requests that were denied.
    pub denials: u32,
    /// Packets that broke the protocol.
    pub malformed_packets: u32,
    /// CONNECTs that were refused.
    pub failed_logins: u32,
    /// CONNECTs.
    pub connects: u32,
    /// The smallest payload that the client sent.
    pub payload_bytes_min: u32,
    /// The largest payload that the client sent.
    pub payload_bytes_max: u32,
    /// The mean of the sizes of payloads that the client sent.
    pub payload_bytes_mean: f64,
    /// Their standard deviation.
    pub payload_bytes_deviation: f64,
}

impl Window {
    /// Messages that the client sent per second; 0 for a window without a length.
    pub fn messages_in_per_second(&self) -> f64 {
        if self.milliseconds == 0 {
            return 0.0;
        }
        self.messages_in as f64 * 1000.0 / f64::from(self.milliseconds)
    }
}

/// What the broker is to do about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// Tell a person.
    Alert,
    /// Messages per second from now on.
    Throttle(u32),
    /// End the connection.
    Disconnect,
    /// End the connection and refuse others for so many seconds.
    Ban(u32),
}

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The client it is about.
    pub client_id: String,
    /// What to do.
    pub response: Response,
    /// In words, for the person who reads the alert.
    pub evidence: String,
}

impl Finding {
    fn new(client_id: impl Into<String>, response: Response, evidence: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            response,
            evidence: evidence.into(),
        }
    }

    /// Tell a person about this client.
    pub fn alert(client_id: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(client_id, Response::Alert, evidence)
    }

    /// Let this client send so many messages per second from now on.
    pub fn throttle(client_id: impl Into<String>, messages_per_second: u32, evidence: impl Into<String>) -> Self {
        Self::new(client_id, Response::Throttle(messages_per_second), evidence)
    }

    /// End this client's connection.
    pub fn disconnect(client_id: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(client_id, Response::Disconnect, evidence)
    }

    /// End this client's connection and refuse others for so long: whole seconds, rounded up.
    pub fn ban(client_id: impl Into<String>, duration: Duration, evidence: impl Into<String>) -> Self {
        let seconds = duration
            .as_secs()
            .saturating_add(u64::from(duration.subsec_nanos() > 0));
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        Self::new(client_id, Response::Ban(seconds), evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_never_shorter_than_it_was_asked_for() {
        let check = |duration, seconds| {
            let finding = Finding::ban("7", duration, "");
            assert_eq!(finding.response, Response::Ban(seconds), "{duration:?}");
        };
        check(Duration::ZERO, 0);
        check(Duration::from_millis(1), 1);
        check(Duration::from_secs(60), 60);
        check(Duration::MAX, u32::MAX);
    }

    #[test]
    fn a_rate_needs_a_window_that_has_a_length() {
        let window = |messages_in, milliseconds| Window {
            messages_in,
            milliseconds,
            ..Window::default()
        };
        assert_eq!(window(30, 10_000).messages_in_per_second(), 3.0);
        assert_eq!(window(30, 0).messages_in_per_second(), 0.0);
    }
}
