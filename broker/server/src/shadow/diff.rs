//! What was seen of a plugin in shadow mode, gathered from all shards.

use crate::admin::diff::{DiffSample, PluginDiff};
use crate::driver::ask_all;
use crate::supervisor::Supervisor;
use nervewire_core::hook::Action;
use nervewire_core::shadow::{Differences, Kind, Sample, ShadowHook, Tally};
use std::collections::BTreeMap;

/// `None`: no plugin of this name is in shadow mode.
pub(crate) fn diff(supervisor: &Supervisor, plugin: &str) -> Option<PluginDiff> {
    let shadow_of = {
        let current = supervisor.current();
        let plugins = &current.generation.plugins;
        let loaded = plugins.iter().find(|loaded| *loaded.settings.name == *plugin)?;
        if loaded.is_enforced() {
            return None;
        }
        loaded.settings.shadow_of.clone()
    };
    let name = plugin.to_owned();
    let shards = ask_all(supervisor.shared(), move |worker| worker.shadow_differences(&name));
    let logins = supervisor.shared().shadows.logins().into_iter();
    let logins = logins.filter(|known| *known.plugin == *plugin);
    let seen: Vec<Differences> = shards.into_iter().flatten().chain(logins).collect();
    let mut sum = Tally::default();
    seen.iter().for_each(|known| sum.add(&known.recent));
    let mut samples: Vec<_> = seen.iter().flat_map(Differences::samples).map(sample).collect();
    samples.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| b.last_unix_ms.cmp(&a.last_unix_ms)));
    Some(PluginDiff {
        plugin: plugin.to_owned(),
        shadow_of: shadow_of.as_deref().map(str::to_owned),
        generation: seen.iter().map(|known| known.since).max().unwrap_or(0),
        compared: compared(&sum),
        differences: differences(&sum),
        unsampled: seen.iter().map(|known| known.unsampled).sum(),
        samples,
    })
}

/// Forgets what was seen of a plugin, and answers whether it is in shadow mode.
pub(crate) fn reset(supervisor: &Supervisor, plugin: &str) -> bool {
    let name = plugin.to_owned();
    let logins = supervisor.shared().shadows.reset_logins(plugin);
    let on_shards = ask_all(supervisor.shared(), move |worker| worker.reset_shadow(&name))
        .into_iter()
        .any(|known| known);
    logins || on_shards
}

fn compared(tally: &Tally) -> BTreeMap<String, u64> {
    let rows = ShadowHook::ALL
        .into_iter()
        .map(|hook| (hook.label().to_owned(), tally.compared(hook)));
    rows.filter(|(_, count)| *count > 0).collect()
}

fn differences(tally: &Tally) -> BTreeMap<String, BTreeMap<String, u64>> {
    let of = |hook| {
        let kinds = Kind::ALL
            .into_iter()
            .map(move |kind| (kind.label().to_owned(), tally.differences(hook, kind)));
        kinds.filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>()
    };
    let hooks = ShadowHook::ALL
        .into_iter()
        .map(|hook| (hook.label().to_owned(), of(hook)));
    hooks.filter(|(_, kinds)| !kinds.is_empty()).collect()
}

fn sample(sample: &Sample) -> DiffSample {
    DiffSample {
        hook: sample.hook.label().to_owned(),
        kind: sample.kind.label().to_owned(),
        client_id: sample.client_id.to_string(),
        tenant: sample.tenant.as_deref().map(str::to_owned),
        username: sample.username.as_deref().map(str::to_owned),
        action: match sample.action {
            None => "connect",
            Some(Action::Publish) => "publish",
            Some(Action::Subscribe) => "subscribe",
            Some(Action::Deliver) => "deliver",
        }
        .to_owned(),
        topic: sample.topic.clone(),
        qos: sample.qos as u8,
        retain: sample.retain,
        payload_bytes: sample.payload_bytes.map(|bytes| bytes as u64),
        payload: sample.payload_bytes.map(|_| sample.payload.escape_ascii().to_string()),
        enforced: sample.enforced.clone(),
        shadow: sample.shadow.clone(),
        count: sample.count,
        first_unix_ms: sample.first,
        last_unix_ms: sample.last,
    }
}
