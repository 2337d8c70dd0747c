//! Carries out what detectors ask for, and tells about it: in the log, to subscribers of `$SYS/broker/alerts`, and to the admin
//! API.

use super::alerts::PLUGIN_ALERTS_PER_WINDOW;
use crate::admin::alerts::Alert;
use crate::config::{self, Mode};
use crate::defence::{BanRequest, Subject};
use crate::driver::{ShardEvent, Shared, Worker, ask_home};
use crate::window_text::WindowText;
use bytes::Bytes;
use nervewire_codec::{QoS, Utf8String};
use nervewire_core::hook::{AppMessage, Finding, Response};
use nervewire_core::store::ClientKey;
use nervewire_core::time::Millis;
use nervewire_core::windows::ClientWindow;
use std::collections::HashMap;
use std::sync::Arc;

/// Where alerts are published, as JSON. They are not retained.
const TOPIC: &str = "$SYS/broker/alerts";

/// Whose findings they are.
#[derive(Clone)]
pub(super) struct Detector {
    pub(super) name: Arc<str>,
    pub(super) mode: Mode,
}

/// Carries findings out.
#[derive(Default)]
pub(super) struct Responder {
    /// Findings of each plugin in this window.
    told: HashMap<Arc<str>, u32>,
}

impl Responder {
    /// A new window may have as many alerts as the last.
    pub(super) fn begin_window(&mut self) {
        self.told.clear();
    }

    /// Does what findings about some windows ask for.
    pub(super) fn respond(
        &mut self,
        shared: &Shared,
        settings: &config::Detect,
        detector: &Detector,
        batch: &[ClientWindow],
        findings: Vec<Finding>,
    ) {
        for finding in findings {
            let about = window_of(batch, &finding.client_id);
            let outcome = match detector.mode {
                Mode::Shadow => "not carried out: the plugin is in shadow mode".to_owned(),
                Mode::Enforce => carry_out(shared, settings, detector, about, &finding),
            };
            let is_shadow = detector.mode == Mode::Shadow;
            shared.alerts.count(&detector.name, name(finding.response), is_shadow);
            let told = self.told.entry(detector.name.clone()).or_default();
            *told = told.saturating_add(1);
            if *told > PLUGIN_ALERTS_PER_WINDOW {
                shared.alerts.count_untold();
                continue;
            }
            let alert = alert(shared.clock.now(), detector, about, finding, outcome);
            tell(shared, settings, alert);
        }
    }
}

/// Batches are sorted by client identifier and have each once.
fn window_of<'a>(batch: &'a [ClientWindow], client_id: &str) -> Option<&'a ClientWindow> {
    let at = batch
        .binary_search_by(|client| (*client.window.client_id).cmp(client_id))
        .ok()?;
    batch.get(at)
}

/// What became of it, in words.
fn carry_out(
    shared: &Shared,
    settings: &config::Detect,
    detector: &Detector,
    about: Option<&ClientWindow>,
    finding: &Finding,
) -> String {
    let key = ClientKey {
        tenant: about.and_then(|client| client.tenant.clone()),
        client_id: finding.client_id.clone(),
    };
    let is_stranger = about.is_some_and(|client| client.is_stranger);
    match finding.response {
        Response::Alert => "told".to_owned(),
        // Who only claimed a name must not have its owner thrown out.
        Response::Throttle(_) | Response::Disconnect if is_stranger => "not connected".to_owned(),
        Response::Throttle(messages_per_s) => throttle(shared, settings, &key, messages_per_s),
        Response::Disconnect => disconnect(shared, &key),
        Response::Ban(seconds) => {
            let subject = match about {
                Some(client) if is_stranger => Subject::Address(client.window.address),
                _ => Subject::client_id(&key.client_id, key.tenant.as_deref()),
            };
            ban(shared, detector, subject, seconds, &finding.evidence)
        }
    }
}

fn throttle(shared: &Shared, settings: &config::Detect, key: &ClientKey, messages_per_s: u32) -> String {
    let until = match settings.throttle_s {
        Some(seconds) => shared.clock.now() + Millis::from(seconds.get()) * 1_000,
        None => Millis::MAX,
    };
    let asked = key.clone();
    let throttle = move |worker: &mut Worker| worker.throttle(&asked, messages_per_s, until);
    match ask_home(shared, key.tenant.as_deref(), &key.client_id, throttle) {
        Some(true) => "carried out".to_owned(),
        Some(false) => "failed: too many clients are throttled".to_owned(),
        None => "failed: the shard did not answer".to_owned(),
    }
}

fn disconnect(shared: &Shared, key: &ClientKey) -> String {
    let asked = key.clone();
    let end = move |worker: &mut Worker| worker.end_odd(&asked);
    match ask_home(shared, key.tenant.as_deref(), &key.client_id, end) {
        Some(true) => "carried out".to_owned(),
        Some(false) => "not connected".to_owned(),
        None => "failed: the shard did not answer".to_owned(),
    }
}

fn ban(shared: &Shared, detector: &Detector, subject: Subject, seconds: u32, evidence: &str) -> String {
    let request = BanRequest {
        subject,
        until_unix_ms: Some(shared.clock.now() + Millis::from(seconds) * 1_000),
        reason: evidence.to_owned(),
        by: format!("plugin {}", detector.name),
    };
    match shared.defence.ban(request) {
        Ok(_) => "carried out".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

fn name(response: Response) -> &'static str {
    match response {
        Response::Alert => "alert",
        Response::Throttle(_) => "throttle",
        Response::Disconnect => "disconnect",
        Response::Ban(_) => "ban",
    }
}

fn alert(now: Millis, detector: &Detector, about: Option<&ClientWindow>, finding: Finding, outcome: String) -> Alert {
    let window = about.map(|client| &client.window);
    Alert {
        at_unix_ms: now,
        plugin: detector.name.to_string(),
        mode: detector.mode.name().to_owned(),
        client_id: finding.client_id.to_string(),
        tenant: about.and_then(|client| client.tenant.as_deref().map(str::to_owned)),
        username: window.and_then(|window| window.username.as_deref().map(str::to_owned)),
        address: window.map(|window| window.address.to_string()),
        let_in: about.map(|client| !client.is_stranger),
        response: name(finding.response).to_owned(),
        messages_per_s: match finding.response {
            Response::Throttle(messages_per_s) => Some(messages_per_s),
            _ => None,
        },
        seconds: match finding.response {
            Response::Ban(seconds) => Some(seconds),
            _ => None,
        },
        outcome,
        evidence: finding.evidence,
        window: window.map(WindowText::of),
    }
}

fn tell(shared: &Shared, settings: &config::Detect, alert: Alert) {
    tracing::warn!(
        plugin = alert.plugin,
        client_id = alert.client_id,
        tenant = alert.tenant,
        address = alert.address,
        response = alert.response,
        mode = alert.mode,
        outcome = alert.outcome,
        evidence = alert.evidence,
        "something odd"
    );
    if let Ok(payload) = serde_json::to_vec(&alert) {
        publish(shared, payload);
    }
    shared.alerts.keep(alert, settings.alerts.get() as usize);
}

/// From one shard, so that alerts keep their order.
fn publish(shared: &Shared, payload: Vec<u8>) {
    let message = AppMessage {
        topic: Utf8String::from_static(TOPIC),
        payload: Bytes::from(payload),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: None,
    };
    let announce = move |worker: &mut Worker| worker.announce(message);
    shared.mesh.send(0, ShardEvent::Ask(Box::new(announce)));
}
