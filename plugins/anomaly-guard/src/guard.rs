//! From windows to findings: each rule's response, how often it speaks, and what becomes of clients that are not there any more.

use crate::clients::{Clients, Profile, Rule};
use crate::logins::Logins;
use crate::rules::{Odd, judge};
use crate::settings::{Config, Response, Silence};
use nervewire_plugin_sdk::{Finding, Window, counters, log};
use std::time::Duration;

/// Findings of one call.
const MAX_FINDINGS: usize = 1_000;

/// The plugin.
#[derive(Debug)]
pub struct Guard {
    config: Config,
    clients: Clients,
    logins: Logins,
    /// When the window began that is being looked at.
    started_ms: u64,
    /// Counts windows up.
    number: u64,
}

impl Guard {
    /// One that knows nobody.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            clients: Clients::default(),
            logins: Logins::default(),
            started_ms: 0,
            number: 0,
        }
    }

    /// Clients that are known.
    pub fn known_clients(&self) -> usize {
        self.clients.len()
    }

    /// What is odd in some windows, and in the one before them, which is over.
    pub fn look_at(&mut self, windows: &[Window]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for window in windows {
            if window.started != self.started_ms {
                self.begin_window(window, &mut findings);
            }
            self.look_at_one(window, &mut findings);
        }
        for (client_id, odd) in self.logins.judge(&self.config, self.number) {
            push(&self.config, &mut findings, &client_id, odd);
        }
        findings
    }

    fn look_at_one(&mut self, window: &Window, findings: &mut Vec<Finding>) {
        self.logins.note(window);
        if is_outside(window) {
            return;
        }
        let profile = self.clients.of(window, self.config.max_clients);
        for odd in judge(&self.config, profile, window, self.number) {
            if speaks(&self.config, profile, odd.rule, self.number) {
                push(&self.config, findings, &window.client_id, odd);
            }
        }
    }

    /// The one before is over.
    fn begin_window(&mut self, window: &Window, findings: &mut Vec<Finding>) {
        if self.number > 0 {
            self.logins.end_window(self.number);
            self.look_for_silence(window.started, findings);
        }
        self.number += 1;
        self.started_ms = window.started;
    }

    /// Those who always send and have not for a while. Many at once are one thing: a network, or a power supply.
    fn look_for_silence(&mut self, now_ms: u64, findings: &mut Vec<Finding>) {
        const MOST_AT_ONCE: usize = 5;
        let (rule, number) = (&self.config.rules.silence, self.number);
        if rule.response == Response::Off {
            return;
        }
        let mut silent = Vec::new();
        for (client_id, profile) in self.clients.iter_mut() {
            if !profile.is_told_silent && is_silent(rule, profile, number, now_ms) {
                profile.is_told_silent = true;
                let (pause, longest) = (number - profile.last_active, profile.longest_pause);
                silent.push((client_id.to_owned(), pause, longest));
            }
        }
        let all = silent.len();
        let shown = if all > MOST_AT_ONCE { 1 } else { all };
        for (client_id, pause, longest) in silent.into_iter().take(shown) {
            let others = match all > MOST_AT_ONCE {
                true => format!(", and neither have {} other clients", all - 1),
                false => String::new(),
            };
            let evidence = format!(
                "it has sent nothing for {pause} windows, and was never silent for more than {longest}{others}"
            );
            let odd = Odd {
                rule: Rule::Silence,
                evidence,
            };
            push(&self.config, findings, &client_id, odd);
        }
    }
}

/// It was not let in.
fn is_outside(window: &Window) -> bool {
    window.connects == 0 && window.bytes_in == 0 && window.messages_in == 0 && window.messages_out == 0
}

fn is_silent(rule: &Silence, profile: &Profile, number: u64, now_ms: u64) -> bool {
    const HOUR_MS: u64 = 3_600_000;
    let pause = number.saturating_sub(profile.last_active);
    let too_long = u64::from(rule.windows.max(profile.longest_pause.saturating_mul(3)));
    let known_ms = now_ms.saturating_sub(profile.first_seen_ms);
    known_ms >= u64::from(rule.known_hours) * HOUR_MS && pause >= too_long
}

/// Whether a rule has been quiet for long enough; it is from now on.
fn speaks(config: &Config, profile: &mut Profile, rule: Rule, number: u64) -> bool {
    let Some(quiet_until) = profile.quiet_until.get_mut(rule as usize) else {
        return false;
    };
    let speaks = *quiet_until <= number;
    if speaks {
        *quiet_until = number + u64::from(config.quiet_windows) + 1;
    }
    speaks
}

fn push(config: &Config, findings: &mut Vec<Finding>, client_id: &str, odd: Odd) {
    let wanted = response(config, odd.rule);
    if wanted == Response::Off {
        return;
    }
    counters::add(odd.rule.name(), 1);
    if findings.len() >= MAX_FINDINGS {
        return counters::add("findings_over_bound", 1);
    }
    let evidence = format!("{}: {}", odd.rule.name(), odd.evidence);
    log::debug!("{client_id}: {evidence}");
    findings.push(finding(config, client_id, wanted, evidence));
}

fn response(config: &Config, rule: Rule) -> Response {
    let rules = &config.rules;
    match rule {
        Rule::RateSpike => rules.rate_spike.response,
        Rule::Silence => rules.silence.response,
        Rule::TopicScan => rules.topic_scan.response,
        Rule::DenialBurst => rules.denial_burst.response,
        Rule::CredentialStuffing => rules.credential_stuffing.response,
        Rule::PayloadDrift => rules.payload_drift.response,
        Rule::StolenIdentity => rules.stolen_identity.response,
    }
}

fn finding(config: &Config, client_id: &str, response: Response, evidence: String) -> Finding {
    if config.alert_only {
        return Finding::alert(client_id, evidence + withheld(response));
    }
    match response {
        Response::Off | Response::Alert => Finding::alert(client_id, evidence),
        Response::Throttle(messages_per_second) => Finding::throttle(client_id, messages_per_second, evidence),
        Response::Disconnect => Finding::disconnect(client_id, evidence),
        Response::Ban(seconds) => Finding::ban(client_id, Duration::from_secs(seconds.into()), evidence),
    }
}

/// What alert_only keeps back.
fn withheld(response: Response) -> &'static str {
    match response {
        Response::Off | Response::Alert => "",
        Response::Throttle(_) => " (alert_only: else it would be throttled)",
        Response::Disconnect => " (alert_only: else it would be disconnected)",
        Response::Ban(_) => " (alert_only: else it would be banned)",
    }
}
