//! Reads the sections of a configuration, top down, into the types of `schema`. The keys, their ranges and their words are here
//! and nowhere else.

use super::error::{ConfigErrors, Source};
use super::limits::per_client;
use super::listener;
use super::schema::{Admin, Auth, Bind, Broker, Config, Detect, Durability, Limits, Listener, Mode, Plugin, Reload};
use super::section::{Section, Words};
use super::tls;
use super::validate::{self, Surroundings};
use crate::defence::DefenceLimits;
use nervewire_core::fold::{AnonymousPolicy, DefaultDecision};
use nervewire_core::hook::OnFailure;
use nervewire_core::limits::QueuePolicy;
use nervewire_plugin_host::{
    Hook, Limits as PluginLimits, MAX_CALL_MS, MAX_HTTP_CALLS, MAX_HTTP_QUEUE_CALLS, MAX_MEMORY_MIB,
};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::DeTable;

const DURABILITIES: Words<Durability> = Words {
    known: &[
        ("fsync", Durability::Fsync),
        ("os", Durability::Os),
        ("memory", Durability::Memory),
    ],
    later: &[],
};
const MODES: Words<Mode> = Words {
    known: &[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)],
    later: &[],
};
const ANONYMOUS: Words<AnonymousPolicy> = Words {
    known: &[
        ("deny", AnonymousPolicy::Deny),
        ("loopback", AnonymousPolicy::Loopback),
        ("allow", AnonymousPolicy::Allow),
    ],
    later: &[],
};
const DECISIONS: Words<DefaultDecision> = Words {
    known: &[("deny", DefaultDecision::Deny), ("allow", DefaultDecision::Allow)],
    later: &[],
};
const QUEUE_POLICIES: Words<QueuePolicy> = Words {
    known: &[
        ("drop-oldest", QueuePolicy::DropOldest),
        ("refuse-new", QueuePolicy::RefuseNew),
    ],
    later: &[],
};
const HOOKS: Words<Hook> = Words {
    known: &[
        ("authenticate", Hook::Authenticate),
        ("authorize", Hook::Authorize),
        ("transform", Hook::Transform),
        ("detect", Hook::Detect),
    ],
    later: &[],
};
const ON_FAILURE: Words<OnFailure> = Words {
    known: &[("deny", OnFailure::Deny), ("skip", OnFailure::Skip)],
    later: &[],
};

/// Reads a whole file's text.
pub(super) fn parse(text: &str, file_name: &str, surroundings: &Surroundings<'_>) -> Result<Config, ConfigErrors> {
    let source = Source::new(file_name, text);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        source.problem(&error.span().unwrap_or_default(), syntax_message(error.message()));
    }
    let config = match syntax_errors.is_empty() {
        true => Section::read_document(&source, &document, |root| {
            Reader {
                source: &source,
                surroundings,
                shadows: RefCell::default(),
            }
            .config(root)
        }),
        // What was recovered from broken text would only be complained about for the same reason once more.
        false => None,
    };
    match config {
        Some(config) if source.is_clean() => Ok(config),
        _ => Err(source.into_errors()),
    }
}

/// The parser says `what, expected this`; ours say `what; write this`.
fn syntax_message(message: &str) -> String {
    match message.split_once(", expected ") {
        Some((what, expected)) => format!("not TOML: {what}; write {expected}"),
        None => format!("not TOML: {message}"),
    }
}

struct Reader<'a> {
    source: &'a Source<'a>,
    surroundings: &'a Surroundings<'a>,
    /// Where `shadow_of` says what, and of which plugin.
    shadows: RefCell<Vec<(Spanned<String>, Arc<str>)>>,
}

impl Reader<'_> {
    fn config(&self, root: &mut Section<'_>) -> Option<Config> {
        let broker = root.table_or_empty("broker", |section| self.broker(section));
        let listeners = root.tables("listener", |section| self.listener(section));
        let auth = root.table_or_empty("auth", auth);
        let limits = root.table_or_empty("limits", limits);
        let reload = root.table_or_empty("reload", reload);
        let detect = root.table_or_empty("detect", detect);
        let plugins = root.tables("plugin", |section| self.plugin(section));
        let admin = root.table_or_empty("admin", admin);
        if listeners.as_ref().is_some_and(Vec::is_empty) {
            self.source.problem(
                &(0..0),
                "no client could connect; write [[listener]] with bind = \"127.0.0.1:1883\"",
            );
        }
        // What could not be read is missing in these lists, and was noted.
        let listeners: Vec<_> = listeners.into_iter().flatten().flatten().collect();
        let plugins: Vec<_> = plugins.into_iter().flatten().flatten().collect();
        let binds = listeners
            .iter()
            .map(|listener| (listener.span(), &listener.get_ref().bind));
        self.refuse_colliding_binds(binds.chain(admin.iter().map(|admin| (admin.span(), &admin.get_ref().bind))));
        listener::refuse_impossible(self.source, &listeners, &limits, &plugins);
        self.refuse_equal_names(&plugins);
        self.refuse_impossible_shadows(&plugins);
        Some(Config {
            file: None,
            broker,
            listeners: listeners.into_iter().map(Spanned::into_inner).collect(),
            auth,
            limits,
            reload,
            detect,
            plugins: plugins.into_iter().map(Spanned::into_inner).collect(),
            admin: admin?.into_inner(),
        })
    }

    fn refuse_colliding_binds<'b>(&self, binds: impl Iterator<Item = (Range<usize>, &'b Bind)>) {
        let mut earlier: Vec<&Bind> = Vec::new();
        for (span, bind) in binds {
            if let Some(other) = earlier
                .iter()
                .find(|other| validate::collide(other.address, bind.address))
            {
                let message = format!(
                    "bind {:?} is taken by {:?} of this file; write another port",
                    bind.text, other.text
                );
                self.source.problem(&span, message);
            }
            earlier.push(bind);
        }
    }

    fn refuse_equal_names(&self, plugins: &[Spanned<Plugin>]) {
        for (index, plugin) in plugins.iter().enumerate() {
            let name = &plugin.get_ref().name;
            if plugins[..index].iter().any(|other| other.get_ref().name == *name) {
                self.source.problem(
                    &plugin.span(),
                    format!("name {name:?} is taken; write a name no other [[plugin]] has"),
                );
            }
        }
    }

    /// `shadow_of` names an enforced plugin. Whether they have a hook in common is known when both are loaded, unless both say.
    fn refuse_impossible_shadows(&self, plugins: &[Spanned<Plugin>]) {
        for (shadow_of, name) in self.shadows.borrow().iter() {
            let named = |name: &str| {
                plugins
                    .iter()
                    .map(Spanned::get_ref)
                    .find(|plugin| *plugin.name == *name)
            };
            let wrong = match (named(shadow_of.get_ref()), named(name)) {
                (None, _) => "names no [[plugin]]; write the name of an enforced one",
                (Some(other), _) if other.mode == Mode::Shadow => {
                    "names a plugin in shadow mode; write the name of an enforced one"
                }
                (
                    Some(Plugin {
                        hooks: Some(theirs), ..
                    }),
                    Some(Plugin { hooks: Some(ours), .. }),
                ) if !theirs.iter().any(|hook| ours.contains(hook)) => {
                    "names a plugin with other hooks; write the name of one with a hook of this"
                }
                _ => continue,
            };
            let message = format!("shadow_of {:?} {wrong}", shadow_of.get_ref());
            self.source.problem(&shadow_of.span(), message);
        }
    }

    fn shadow_of(&self, section: &mut Section<'_>, mode: Mode, name: Option<&Arc<str>>) -> Option<Arc<str>> {
        let shadow_of = section.parsed("shadow_of", "acl", validate::plugin_name)?;
        if mode == Mode::Enforce {
            let message = "shadow_of does nothing where the plugin is obeyed; write mode = \"shadow\", or remove it";
            section.problem(&shadow_of.span(), message);
            return None;
        }
        let text: Arc<str> = shadow_of.get_ref().as_str().into();
        self.shadows.borrow_mut().push((shadow_of, name?.clone()));
        Some(text)
    }

    fn broker(&self, section: &mut Section<'_>) -> Broker {
        let data_dir = section.parsed("data_dir", Broker::DEFAULT_DATA_DIR, |text| {
            self.surroundings.directory(text)
        });
        let data_dir = match data_dir {
            Some(data_dir) => data_dir.into_inner(),
            None => Some(self.surroundings.base_dir.join(Broker::DEFAULT_DATA_DIR)),
        };
        Broker {
            shards: section.count_or_zero("shards", 1..=1024),
            durability: durability(section, data_dir.is_some()),
            data_dir,
            response_information: section
                .parsed("response_information", "reply", validate::response_information)
                .and_then(Spanned::into_inner),
        }
    }

    fn listener(&self, section: &mut Section<'_>) -> Option<Spanned<Listener>> {
        let bind = section.required("bind", "127.0.0.1:1883", validate::bind);
        let transport = listener::transport(section);
        let tls = section.table("tls", |tls| tls::tls(tls, self.surroundings)).flatten();
        let proxies = listener::proxies(section);
        let own = listener::own_settings(section, &ANONYMOUS);
        let bind = bind?;
        Some(Spanned::new(
            bind.span(),
            Listener {
                bind: bind.into_inner(),
                transport,
                tls,
                proxies,
                own,
            },
        ))
    }

    fn plugin(&self, section: &mut Section<'_>) -> Option<Spanned<Plugin>> {
        let name = section.required("name", "acl", validate::plugin_name);
        let component = section.required("component", "builtin:acl", |text| self.surroundings.component(text));
        let hooks = section.some_of("hooks", "authorize", |text| HOOKS.find(text));
        let topics = section.some_of("topics", "#", validate::topic_filter);
        let mode = section.word_or("mode", &MODES, Mode::Enforce);
        let known_name: Option<Arc<str>> = name.as_ref().map(|name| name.get_ref().as_str().into());
        let shadow_of = self.shadow_of(section, mode, known_name.as_ref());
        let on_failure = section.word_or("on_failure", &ON_FAILURE, OnFailure::Deny);
        let grants = section.parsed_list("grants", "kv", validate::grant);
        let limits = section.table_or_empty("limits", plugin_limits);
        let files = section.parsed_map("files", "users = \"passwd\"", |text| {
            self.surroundings.readable_file(text)
        });
        let config = section.json("config");
        let (name, component) = (name?, component?);
        let plugin = Plugin {
            name: name.get_ref().as_str().into(),
            component: component.into_inner(),
            hooks,
            topics: topics.unwrap_or_default(),
            mode,
            shadow_of,
            on_failure,
            grants: grants.unwrap_or_default(),
            limits,
            files: files.unwrap_or_default(),
            config,
        };
        Some(Spanned::new(name.span(), plugin))
    }
}

/// The most durable that there is a place for, unless the file says otherwise.
fn durability(section: &mut Section<'_>, has_data_dir: bool) -> Durability {
    match section.word("durability", &DURABILITIES) {
        Some(word) if !has_data_dir && *word.get_ref() != Durability::Memory => {
            let message = format!(
                "durability {:?} needs files; write data_dir = {:?}, or durability = \"memory\"",
                word.get_ref().name(),
                Broker::DEFAULT_DATA_DIR
            );
            section.problem(&word.span(), message);
            Durability::Memory
        }
        Some(word) => word.into_inner(),
        None if has_data_dir => Durability::Fsync,
        None => Durability::Memory,
    }
}

fn auth(section: &mut Section<'_>) -> Auth {
    Auth {
        anonymous: section.word_or("anonymous", &ANONYMOUS, Auth::DEFAULT.anonymous),
        default: section.word_or("default", &DECISIONS, Auth::DEFAULT.default),
        max_connection_s: section.count_or_zero("max_connection_s", 1..=31_622_400),
    }
}

fn limits(section: &mut Section<'_>) -> Limits {
    let default = Limits::DEFAULT;
    Limits {
        max_packet_bytes: section.count("max_packet_bytes", Limits::PACKET_BYTES, default.max_packet_bytes),
        max_connections: section.count("max_connections", Limits::CONNECTIONS, default.max_connections),
        max_sessions: section.count("max_sessions", 1..=100_000_000, default.max_sessions),
        connect_timeout_ms: section.count(
            "connect_timeout_ms",
            Limits::CONNECT_TIMEOUT_MS,
            default.connect_timeout_ms,
        ),
        queue_messages: section.count("queue_messages", 1..=100_000_000, default.queue_messages),
        queue_bytes: section.count("queue_bytes", 1_024..=1 << 40, default.queue_bytes),
        queue_policy: section.word_or("queue_policy", &QUEUE_POLICIES, default.queue_policy),
        memory_bytes: section.count_or_zero("memory_bytes", 1 << 20..=1 << 50),
        retained_messages: section.count("retained_messages", 1..=100_000_000, default.retained_messages),
        retained_bytes: section.count("retained_bytes", 1_024..=1 << 50, default.retained_bytes),
        store_bytes: section.count_or_zero("store_bytes", 1 << 20..=1 << 50),
        max_keep_alive_s: section.count_or_zero("max_keep_alive_s", 1..=65_535),
        publish_rate_per_s: section.count_or_zero("publish_rate_per_s", 1..=10_000_000),
        per_client: per_client(section),
        defence: DefenceLimits::read(section),
    }
}

fn reload(section: &mut Section<'_>) -> Reload {
    let default = Reload::DEFAULT;
    Reload {
        rollback_failures_percent: match section.has("rollback_failures_percent") {
            true => section.count_or_zero("rollback_failures_percent", 1..=100),
            false => default.rollback_failures_percent,
        },
        rollback_min_failures: section.count("rollback_min_failures", 1..=1_000_000, default.rollback_min_failures),
        rollback_window_ms: section.count("rollback_window_ms", 1_000..=86_400_000, default.rollback_window_ms),
    }
}

fn detect(section: &mut Section<'_>) -> Detect {
    let default = Detect::DEFAULT;
    Detect {
        window_ms: section.count("window_ms", 100..=86_400_000, default.window_ms),
        max_clients: section.count("max_clients", 1..=10_000_000, default.max_clients),
        alerts: section.count("alerts", 1..=100_000, default.alerts),
        throttle_s: match section.has("throttle_s") {
            true => section.count_or_zero("throttle_s", 1..=31_536_000),
            false => default.throttle_s,
        },
    }
}

fn plugin_limits(section: &mut Section<'_>) -> PluginLimits {
    let default = PluginLimits::default();
    let (call_ms, memory_mib) = (1..=u64::from(MAX_CALL_MS), 1..=u64::from(MAX_MEMORY_MIB));
    PluginLimits {
        call_ms: section.bounded("call_ms", call_ms.clone(), default.call_ms),
        memory_mib: section.bounded("memory_mib", memory_mib.clone(), default.memory_mib),
        authenticate_call_ms: section.bounded("authenticate_call_ms", call_ms.clone(), default.authenticate_call_ms),
        authenticate_memory_mib: section.bounded(
            "authenticate_memory_mib",
            memory_mib,
            default.authenticate_memory_mib,
        ),
        http_calls: section.bounded("http_calls", 1..=u64::from(MAX_HTTP_CALLS), default.http_calls),
        http_queue_calls: section.bounded(
            "http_queue_calls",
            1..=u64::from(MAX_HTTP_QUEUE_CALLS),
            default.http_queue_calls,
        ),
        http_call_ms: section.bounded("http_call_ms", call_ms.clone(), default.http_call_ms),
        tick_call_ms: section.bounded("tick_call_ms", call_ms.clone(), default.tick_call_ms),
        detect_call_ms: section.bounded("detect_call_ms", call_ms, default.detect_call_ms),
    }
}

fn admin(section: &mut Section<'_>) -> Option<Spanned<Admin>> {
    const DEFAULT_BIND: &str = "127.0.0.1:8080";
    let bind = section.parsed("bind", DEFAULT_BIND, validate::bind);
    let default = validate::bind(DEFAULT_BIND).map(|bind| Spanned::new(section.span(), bind));
    let bind = bind.or(default.ok())?;
    let token = section.text("token", "a long random word");
    match &token {
        // The message must not show the token.
        Some(token) if !validate::is_token(token.get_ref()) => {
            section.problem(
                &token.span(),
                "token must be visible ASCII characters; write for example the output of `openssl rand -hex 32`",
            );
        }
        None if !bind.get_ref().address.ip().is_loopback() => {
            section.problem(
                &bind.span(),
                "an admin listener off loopback needs a token; write token = \"...\" below, or bind 127.0.0.1",
            );
        }
        _ => {}
    }
    let token = token.map(|token| token.into_inner().to_owned());
    Some(Spanned::new(
        bind.span(),
        Admin {
            bind: bind.into_inner(),
            token,
        },
    ))
}
