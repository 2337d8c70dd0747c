//! The hook `detect`, with this crate's types.

use super::{Component, Hosted, with};
use crate::bindings::detection;
use crate::{Detect, Finding, Response, Window};

impl<P: Hosted + Detect> detection::Guest for Component<P> {
    fn detect(windows: Vec<detection::Window>) -> Vec<detection::Finding> {
        let windows: Vec<Window> = windows.into_iter().map(Into::into).collect();
        with(|plugin: &mut P| plugin.detect(&windows))
            .into_iter()
            .map(Into::into)
            .collect()
    }
}

impl From<detection::Window> for Window {
    fn from(window: detection::Window) -> Self {
        Self {
            client_id: window.client_id,
            username: window.username,
            address: window.address,
            started: window.started,
            milliseconds: window.milliseconds,
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

impl From<Finding> for detection::Finding {
    fn from(finding: Finding) -> Self {
        Self {
            client_id: finding.client_id,
            response: match finding.response {
                Response::Alert => detection::Response::Alert,
                Response::Throttle(messages_per_second) => detection::Response::Throttle(messages_per_second),
                Response::Disconnect => detection::Response::Disconnect,
                Response::Ban(seconds) => detection::Response::Ban(seconds),
            },
            evidence: finding.evidence,
        }
    }
}
