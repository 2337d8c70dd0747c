//! From the counters of all shards to what the hook `detect` is asked about.

use super::tally::Tally;
use crate::hook::Window;
use hashbrown::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Unix time.
    pub started_unix_ms: u64,
    /// How long.
    pub length_ms: u32,
}

/// One client's closed window, with what a detector is not told and its answer is carried out by.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientWindow {
    /// Name space of the client identifier.
    pub tenant: Option<Arc<str>>,
    /// It was not let in: the client identifier is what it claimed, and perhaps somebody else's.
    pub is_stranger: bool,
    /// What a detector is told.
    pub window: Window,
}

/// One window for each client of all shards, in the order of client identifiers. Who was not let in is a client of its own,
/// unless a client of that name is at the same address.
pub fn merge(tallies: impl IntoIterator<Item = Tally>, span: Span) -> Vec<ClientWindow> {
    let mut clients: HashMap<(Option<Arc<str>>, Arc<str>), Tally> = HashMap::new();
    let mut strangers: HashMap<(Arc<str>, IpAddr), Tally> = HashMap::new();
    for tally in tallies {
        let client = &tally.client;
        match tally.is_stranger {
            true => add(&mut strangers, (client.client_id.clone(), client.address), tally),
            false => add(&mut clients, (client.tenant.clone(), client.client_id.clone()), tally),
        }
    }
    for known in clients.values_mut() {
        let here = (known.client.client_id.clone(), known.client.address);
        if let Some(stranger) = strangers.remove(&here) {
            known.add(&stranger);
        }
    }
    let all = clients.into_values().chain(strangers.into_values());
    let mut windows: Vec<_> = all.map(|tally| client_window(&tally, span)).collect();
    windows.sort_by(|a, b| order(a).cmp(&order(b)));
    windows
}

fn add<K: std::hash::Hash + Eq>(known: &mut HashMap<K, Tally>, key: K, tally: Tally) {
    match known.get_mut(&key) {
        Some(sum) => sum.add(&tally),
        None => {
            known.insert(key, tally);
        }
    }
}

fn order(window: &ClientWindow) -> (&str, bool, Option<&str>, IpAddr) {
    let ClientWindow {
        tenant,
        is_stranger,
        window,
    } = window;
    (&window.client_id, *is_stranger, tenant.as_deref(), window.address)
}

fn client_window(tally: &Tally, span: Span) -> ClientWindow {
    let client = &tally.client;
    ClientWindow {
        tenant: client.tenant.clone(),
        is_stranger: tally.is_stranger,
        window: Window {
            client_id: client.client_id.clone(),
            // What a stranger claims is no identity's.
            username: client.username.clone().filter(|_| !tally.is_stranger),
            address: client.address,
            started_unix_ms: span.started_unix_ms,
            length_ms: span.length_ms,
            messages_in: tally.messages_in,
            messages_out: tally.messages_out,
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            distinct_topics: tally.topics.estimate(),
            denials: tally.denials,
            malformed_packets: tally.malformed_packets,
            failed_logins: tally.failed_logins,
            connects: tally.connects,
            payload_bytes_min: tally.payloads.min_bytes(),
            payload_bytes_max: tally.payloads.max_bytes(),
            payload_bytes_mean: tally.payloads.mean(),
            payload_bytes_deviation: tally.payloads.deviation(),
        },
    }
}

/// Splits merged windows into calls of at most `size`. A finding names a client identifier and nothing else: none is twice in one
/// call, so that it is certain which tenant's client, or which stranger, is meant.
pub fn batches(windows: Vec<ClientWindow>, size: usize) -> Vec<Vec<ClientWindow>> {
    let mut layers: Vec<Vec<ClientWindow>> = Vec::new();
    let (mut last, mut layer): (Option<Arc<str>>, usize) = (None, 0);
    for window in windows {
        let client_id = &window.window.client_id;
        layer = if last.as_ref() == Some(client_id) { layer + 1 } else { 0 };
        last = Some(client_id.clone());
        if layers.len() <= layer {
            layers.push(Vec::new());
        }
        if let Some(layer) = layers.get_mut(layer) {
            layer.push(window);
        }
    }
    let mut batches = Vec::new();
    for mut layer in layers {
        while layer.len() > size.max(1) {
            let rest = layer.split_off(size.max(1));
            batches.push(std::mem::replace(&mut layer, rest));
        }
        batches.push(layer);
    }
    batches
}
