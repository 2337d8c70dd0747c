//! What the commands print: the API's answers as text for a terminal.

use std::fmt::Write as _;

use super::backend::{
    ClientInfo, ClientPage, Kicked, ListenerStatus, PluginInfo, RecordStatus, ReloadReport, RollbackReport, Status,
    StoreStatus,
};
use super::table::{Table, ago, bytes, call_time, duration, printable};

/// Enough of a digest to tell components apart; `--json` has all of it.
const SHORT_DIGEST_CHARS: usize = 12;

/// An answer that can be shown to a person.
pub(crate) trait View {
    /// Lines of text; `now_unix_s` is what times are counted back from.
    fn view(&self, now_unix_s: u64) -> String;
}

impl View for Status {
    fn view(&self, now_unix_s: u64) -> String {
        let pairs = Table::of_pairs([
            ("version", self.version.clone()),
            ("up", duration(self.uptime_s)),
            (
                "configuration",
                self.config_file.clone().unwrap_or_else(|| "embedded defaults".into()),
            ),
            ("generation", self.generation.to_string()),
            ("last reload", last_reload(self, now_unix_s)),
            ("rollback", rollback(self, now_unix_s)),
            ("shards", self.shards.to_string()),
            ("durability", self.durability.clone()),
            ("store", store(self.store.as_ref())),
            (
                "connections",
                format!("{} of at most {}", self.connections, self.max_connections),
            ),
            ("sessions", self.sessions.to_string()),
            ("subscriptions", self.subscriptions.to_string()),
            ("retained", format!("{} messages", self.retained_messages)),
            ("queued", queued(self.queued_messages, self.queued_bytes)),
        ]);
        format!("{pairs}\n{}", listeners(&self.listeners))
    }
}

fn last_reload(status: &Status, now_unix_s: u64) -> String {
    match &status.last_reload {
        None => "none since the start".into(),
        Some(last) if last.ok => ago(now_unix_s, last.at_unix_s),
        Some(last) => {
            let why = last.error.as_deref().unwrap_or("no reason was given");
            format!("REFUSED {}: {why}", ago(now_unix_s, last.at_unix_s))
        }
    }
}

fn rollback(status: &Status, now_unix_s: u64) -> String {
    let possible = match (status.rollback_generation, status.on_probation_ms) {
        (None, _) => "nothing to go back to".to_owned(),
        (Some(to), None) => format!("possible to generation {to}"),
        (Some(to), Some(ms)) => format!(
            "to generation {to} if new plugins fail within {}",
            duration(ms.div_ceil(1_000))
        ),
    };
    match &status.last_rollback {
        None => possible,
        Some(last) => format!(
            "{} BACK FROM generation {} to {}, {}: {}; {possible}",
            ago(now_unix_s, last.at_unix_s),
            last.from_generation,
            last.to_generation,
            last.cause,
            last.reason
        ),
    }
}

fn store(store: Option<&StoreStatus>) -> String {
    let Some(store) = store else {
        return "none".into();
    };
    let size = bytes(store.bytes);
    match (&store.trouble, &store.last_error) {
        (Some(trouble), Some(why)) => format!("{size}, TROUBLE: {trouble} (last error: {why})"),
        (Some(trouble), None) => format!("{size}, TROUBLE: {trouble}"),
        (None, Some(why)) => format!("{size}, works again after: {why}"),
        (None, None) => size,
    }
}

fn queued(messages: u64, size: u64) -> String {
    format!("{messages} messages, {}", bytes(size))
}

fn listeners(listeners: &[ListenerStatus]) -> Table {
    let mut table = Table::new(["LISTENER", "TRANSPORT", "TLS"]);
    for l in listeners {
        table.push([l.bind.clone(), l.transport.clone(), yes_no(l.tls)]);
    }
    table
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

impl View for ClientPage {
    fn view(&self, now_unix_s: u64) -> String {
        if self.total == 0 {
            return "no clients\n".into();
        }
        let headings = [
            "CLIENT",
            "TENANT",
            "USER",
            "STATE",
            "ADDRESS",
            "MQTT",
            "SUBS",
            "QUEUED",
            "IN FLIGHT",
        ];
        let mut table = Table::new(headings);
        for client in &self.clients {
            table.push(client_row(client, now_unix_s));
        }
        format!("{table}{}", self.position())
    }
}

fn client_row(c: &ClientInfo, now_unix_s: u64) -> [String; 9] {
    [
        c.client_id.clone(),
        c.tenant.clone().unwrap_or_default(),
        c.username.clone().unwrap_or_default(),
        state(c, now_unix_s),
        c.address.clone().unwrap_or_default(),
        c.protocol.clone(),
        c.subscriptions.to_string(),
        c.queued_messages.to_string(),
        c.in_flight.to_string(),
    ]
}

fn state(client: &ClientInfo, now_unix_s: u64) -> String {
    match (client.connected, client.connected_at_unix_s) {
        (true, Some(at)) => format!("connected {}", ago(now_unix_s, at)),
        (true, None) => "connected".into(),
        (false, _) => "offline".into(),
    }
}

impl ClientPage {
    /// A last line when the list goes on before or after this page.
    fn position(&self) -> String {
        let shown = self.clients.len() as u64;
        if shown == self.total {
            return String::new();
        }
        let before = self.page.saturating_sub(1).saturating_mul(self.limit);
        if shown == 0 {
            return format!("nothing on page {} of {} clients\n", self.page, self.total);
        }
        let mut line = format!("{} to {} of {} clients", before + 1, before + shown, self.total);
        if before + shown < self.total {
            let _ = write!(line, "; --page {} shows the next", self.page + 1);
        }
        line + "\n"
    }
}

impl View for ClientInfo {
    fn view(&self, now_unix_s: u64) -> String {
        let or_dash = |value: &Option<String>| value.clone().unwrap_or_default();
        Table::of_pairs([
            ("client", self.client_id.clone()),
            ("tenant", or_dash(&self.tenant)),
            ("user", or_dash(&self.username)),
            ("state", state(self, now_unix_s)),
            ("address", or_dash(&self.address)),
            ("listener", or_dash(&self.listener)),
            ("protocol", self.protocol.clone()),
            (
                "session expiry",
                self.session_expiry_s.map_or_else(|| "never".into(), session_expiry),
            ),
            (
                "keep alive",
                if self.keep_alive_s == 0 {
                    "none".into()
                } else {
                    duration(self.keep_alive_s)
                },
            ),
            ("subscriptions", self.subscriptions.to_string()),
            ("suspended", suspended(self)),
            ("queued", queued(self.queued_messages, self.queued_bytes)),
            ("in flight", self.in_flight.to_string()),
            ("generation", self.generation.to_string()),
        ])
        .to_string()
    }
}

fn suspended(client: &ClientInfo) -> String {
    let shown = client.suspended_filters.iter().map(|filter| printable(filter));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    let more = client.suspended.saturating_sub(client.suspended_filters.len() as u64);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { "none".into() } else { text }
}

impl View for Kicked {
    fn view(&self, _: u64) -> String {
        format!("{} was disconnected\n", printable(&self.client_id))
    }
}

fn session_expiry(seconds: u64) -> String {
    if seconds == 0 {
        "with its connection".into()
    } else {
        format!("{} after its connection", duration(seconds))
    }
}

impl View for Vec<PluginInfo> {
    fn view(&self, _: u64) -> String {
        if self.is_empty() {
            return "no plugins\n".into();
        }
        format!("{}\n{}\n{}", definitions(self), performance(self), calls(self))
    }
}

fn definitions(plugins: &[PluginInfo]) -> Table {
    let mut table = Table::new([
        "PLUGIN",
        "COMPONENT",
        "DIGEST",
        "GENERATION",
        "HOOKS",
        "MODE",
        "ON FAILURE",
    ]);
    for p in plugins {
        let digest = p.digest.chars().take(SHORT_DIGEST_CHARS).collect();
        table.push([
            p.name.clone(),
            p.component.clone(),
            digest,
            p.generation.to_string(),
            p.hooks.join(","),
            p.mode.clone(),
            p.on_failure.clone(),
        ]);
    }
    table
}

fn performance(plugins: &[PluginInfo]) -> Table {
    let mut table = Table::new([
        "PLUGIN",
        "BREAKER",
        "FAILURES",
        "REPLACED",
        "REFUSED",
        "INSTANCES",
        "MEMORY",
        "TICK",
        "KV",
    ]);
    for p in plugins {
        table.push([
            p.name.clone(),
            breaker(p),
            p.failures.to_string(),
            p.instances_replaced.to_string(),
            p.refused_grants.to_string(),
            p.instances.to_string(),
            bytes(p.memory_bytes),
            tick(p),
            format!("{} entries, {}", p.kv_entries, bytes(p.kv_bytes)),
        ]);
    }
    table
}

fn breaker(plugin: &PluginInfo) -> String {
    match plugin.breaker_opened {
        0 => plugin.breaker.clone(),
        opened => format!("{}, opened {opened} times", plugin.breaker),
    }
}

fn tick(plugin: &PluginInfo) -> String {
    match (plugin.tick_ms, plugin.ticks_skipped) {
        (None, _) => "none".into(),
        (Some(ms), 0) => format!("every {ms} ms"),
        (Some(ms), skipped) => format!("every {ms} ms, {skipped} skipped"),
    }
}

fn calls(plugins: &[PluginInfo]) -> Table {
    let mut table = Table::new(["PLUGIN", "HOOK", "CALLS", "MEAN", "P50", "P99"]);
    for plugin in plugins {
        for (hook, outcomes) in &plugin.calls {
            let times = plugin.times.get(hook).copied().unwrap_or_default();
            let counts = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}"));
            table.push([
                plugin.name.clone(),
                hook.clone(),
                counts.collect::<Vec<_>>().join(", "),
                call_time(times.mean_us),
                call_time(times.p50_us),
                call_time(times.p99_us),
            ]);
        }
    }
    table
}

impl View for RollbackReport {
    fn view(&self, _: u64) -> String {
        let mut text = format!(
            "generation {} is in force after {} ms: what generation {} was\n",
            self.generation, self.took_ms, self.of_generation
        );
        for change in &self.changes {
            let _ = writeln!(text, "  {}", printable(change));
        }
        text
    }
}

impl View for ReloadReport {
    fn view(&self, _: u64) -> String {
        if self.changes.is_empty() {
            return format!("nothing changed; generation {} stays in force\n", self.generation);
        }
        let mut text = format!("generation {} is in force after {} ms\n", self.generation, self.took_ms);
        for change in &self.changes {
            let _ = writeln!(text, "  {}", printable(change));
        }
        text
    }
}

impl View for RecordStatus {
    fn view(&self, _: u64) -> String {
        let Some(file) = &self.file else {
            return "nothing was recorded since the start\n".into();
        };
        let state = match (&self.ended, self.seconds_left) {
            (Some(why), _) => format!("ended: {why}"),
            (None, left) => format!("recording, {} left", duration(left.unwrap_or(0))),
        };
        let only = [("plugin", &self.plugin), ("client", &self.client), ("hook", &self.hook)];
        let only: Vec<String> = only
            .into_iter()
            .filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)))
            .collect();
        let pairs = Table::of_pairs([
            ("file", file.clone()),
            ("state", state),
            ("only", if only.is_empty() { "-".into() } else { only.join(", ") }),
            ("payloads", yes_no(self.payloads)),
            ("calls", format!("{}, {} dropped", self.records, self.dropped)),
            ("size", bytes(self.bytes)),
        ]);
        pairs.to_string()
    }
}
