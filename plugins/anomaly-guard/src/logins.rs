//! Who fails to log in: from which addresses, as how many clients.

use crate::baseline::{Usual, scale};
use crate::clients::Rule;
use crate::rules::Odd;
use crate::settings::Config;
use nervewire_plugin_sdk::{Window, counters};
use std::collections::BTreeMap;

/// Addresses that are told apart in one window.
const MAX_ADDRESSES: usize = 10_000;

/// The failures of one window, and how many are usual.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    by_address: BTreeMap<Box<str>, Attempts>,
    clients: u32,
    failures: u64,
    worst: Worst,
    /// Clients that fail in a window.
    usual: Usual,
    /// Addresses, and client identifiers behind a `\0`, about which was spoken, until which window.
    quiet_until: BTreeMap<Box<str>, u64>,
}

/// From one address.
#[derive(Debug, Default)]
struct Attempts {
    clients: u32,
    failures: u64,
    worst: Worst,
}

/// The client with most failures.
#[derive(Clone, Debug, Default)]
struct Worst {
    client_id: Box<str>,
    failures: u32,
}

impl Worst {
    fn consider(&mut self, window: &Window) {
        if window.failed_logins > self.failures {
            self.client_id = window.client_id.as_str().into();
            self.failures = window.failed_logins;
        }
    }
}

/// About everybody, in `quiet_until`.
const EVERYBODY: &str = "";
const WEIGHT: f64 = 0.02;
/// Windows after which is known how many failures are usual.
const KNOWN: u32 = 30;

impl Logins {
    pub(crate) fn note(&mut self, window: &Window) {
        if window.failed_logins == 0 {
            return;
        }
        self.clients += 1;
        self.failures += u64::from(window.failed_logins);
        self.worst.consider(window);
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(window.address.as_str()) {
            return counters::add("addresses_over_bound", 1);
        }
        let attempts = self.by_address.entry(window.address.as_str().into()).or_default();
        attempts.clients += 1;
        attempts.failures += u64::from(window.failed_logins);
        attempts.worst.consider(window);
    }

    /// What is odd so far: each with the client that it is told about.
    pub(crate) fn judge(&mut self, config: &Config, number: u64) -> Vec<(Box<str>, Odd)> {
        let rule = &config.rules.credential_stuffing;
        let mut odd = Vec::new();
        for (address, attempts) in &self.by_address {
            let many = attempts.clients >= rule.clients_per_address;
            let often = attempts.worst.failures >= rule.failures_per_client;
            if (many || often) && speak(&mut self.quiet_until, address, config, number) {
                let (clients, failures) = (attempts.clients, attempts.failures);
                let evidence = format!("{clients} clients failed to log in from {address}, {failures} times in all");
                odd.push((attempts.worst.client_id.clone(), stuffing(evidence)));
            }
        }
        // Those of an address that was spoken about are one thing.
        let spread = || {
            self.by_address
                .values()
                .filter(|attempts| attempts.clients < rule.clients_per_address)
        };
        let (clients, addresses) = (spread().map(|attempts| attempts.clients).sum::<u32>(), spread().count());
        if clients >= rule.clients
            && self.is_far_more(clients)
            && speak(&mut self.quiet_until, EVERYBODY, config, number)
        {
            let usual = self.usual.mean().exp_m1();
            let evidence = format!(
                "{clients} clients failed to log in from {addresses} addresses; usual are {usual:.0} in a window"
            );
            odd.push((self.worst.client_id.clone(), stuffing(evidence)));
        }
        odd
    }

    fn is_far_more(&self, clients: u32) -> bool {
        self.usual.seen() >= KNOWN && scale(f64::from(clients)) > self.usual.mean() + 4.0_f64.ln()
    }

    /// A window is over, with all its calls.
    pub(crate) fn end_window(&mut self, number: u64) {
        if !self.is_far_more(self.clients) {
            let clients = scale(f64::from(self.clients));
            self.usual.learn(clients, WEIGHT, self.usual.seen() >= KNOWN);
        }
        self.by_address.clear();
        (self.clients, self.failures) = (0, 0);
        self.worst = Worst::default();
        self.quiet_until.retain(|_, until| *until > number);
    }
}

fn stuffing(evidence: String) -> Odd {
    Odd {
        rule: Rule::CredentialStuffing,
        evidence,
    }
}

/// Whether it is time to speak, which is then done.
fn speak(quiet_until: &mut BTreeMap<Box<str>, u64>, about: &str, config: &Config, number: u64) -> bool {
    if quiet_until.get(about).is_some_and(|until| *until > number) {
        return false;
    }
    if quiet_until.len() >= MAX_ADDRESSES {
        counters::add("addresses_over_bound", 1);
        return false;
    }
    quiet_until.insert(about.into(), number + u64::from(config.quiet_windows) + 1);
    true
}
