//! What a configuration says about one plugin: names of hooks and grants, limits, and the whole as [`PluginSpec`].

use crate::origin::Origin;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One plugin as configured.
#[derive(Clone, Debug)]
pub struct PluginSpec {
    /// Name in the configuration; key-value entries and statistics are kept under it when the component is swapped.
    pub name: String,
    /// The component's bytes.
    pub component: Arc<[u8]>,
    /// Hooks to use; `None`: all that the component exports.
    pub hooks: Option<Vec<Hook>>,
    /// What it may reach.
    pub grants: Vec<Grant>,
    /// Bounds of its calls.
    pub limits: Limits,
    /// Name and contents of its files, handed to `init`.
    pub files: Vec<(String, Vec<u8>)>,
    /// Its `config` table as JSON, handed to `init`.
    pub config_json: String,
}

/// Bounds of a plugin's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Deadline of `rules`, `authorize` and `transform`, in milliseconds.
    pub call_ms: u32,
    /// Linear memory of an instance on a shard, in MiB.
    pub memory_mib: u32,
    /// Deadline of `authenticate`, in milliseconds.
    pub authenticate_call_ms: u32,
    /// Linear memory of an instance that authenticates, in MiB.
    pub authenticate_memory_mib: u32,
    /// Calls at a time of a plugin with grants for HTTP, which is also how many instances it has.
    pub http_calls: u32,
    /// Calls of such a plugin that may wait for their turn.
    pub http_queue_calls: u32,
    /// Deadline of each call of such a plugin, in milliseconds.
    pub http_call_ms: u32,
    /// Deadline of `tick`, in milliseconds.
    pub tick_call_ms: u32,
    /// Deadline of `detect`, which is asked about many clients at once, in milliseconds.
    pub detect_call_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_ms: 2,
            memory_mib: 16,
            authenticate_call_ms: 1000,
            authenticate_memory_mib: 64,
            http_calls: 64,
            http_queue_calls: 10_000,
            http_call_ms: 5_000,
            tick_call_ms: 100,
            detect_call_ms: 1_000,
        }
    }
}

impl Limits {
    /// Names the first limit that is out of its range, and the range.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_range("call_ms", self.call_ms, MAX_CALL_MS)?;
        check_range("memory_mib", self.memory_mib, MAX_MEMORY_MIB)?;
        check_range("authenticate_call_ms", self.authenticate_call_ms, MAX_CALL_MS)?;
        check_range("authenticate_memory_mib", self.authenticate_memory_mib, MAX_MEMORY_MIB)?;
        check_range("http_calls", self.http_calls, MAX_HTTP_CALLS)?;
        check_range("http_queue_calls", self.http_queue_calls, MAX_HTTP_QUEUE_CALLS)?;
        check_range("http_call_ms", self.http_call_ms, MAX_CALL_MS)?;
        check_range("tick_call_ms", self.tick_call_ms, MAX_CALL_MS)?;
        check_range("detect_call_ms", self.detect_call_ms, MAX_CALL_MS)
    }
}

/// Largest deadline of a call, in milliseconds.
pub const MAX_CALL_MS: u32 = 60_000;
/// Shortest interval of `tick`, in milliseconds.
pub const MIN_TICK_MS: u32 = 10;
/// Largest linear memory of an instance, in MiB: the size of a slot of the instance pool.
pub const MAX_MEMORY_MIB: u32 = 1024;
/// Most calls at a time of a plugin with grants for HTTP.
pub const MAX_HTTP_CALLS: u32 = 1024;
/// Most calls of such a plugin that wait.
pub const MAX_HTTP_QUEUE_CALLS: u32 = 1_000_000;

fn check_range(name: &str, value: u32, max: u32) -> Result<(), String> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(format!("limits.{name} = {value} is not between 1 and {max}"))
}

/// Something a plugin implements and the broker asks it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Who is this?
    Authenticate,
    /// May this client do that? With `rules`.
    Authorize,
    /// What does this message look like when it is delivered?
    Transform,
    /// Is something odd going on?
    Detect,
}

impl Hook {
    /// Every hook, in the order in which they are listed.
    pub const ALL: [Hook; 4] = [Hook::Authenticate, Hook::Authorize, Hook::Transform, Hook::Detect];

    /// Its name in `hooks = [...]`.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Authenticate => "authenticate",
            Hook::Authorize => "authorize",
            Hook::Transform => "transform",
            Hook::Detect => "detect",
        }
    }

    /// The WIT interface whose export implements it.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Hook::Authenticate => "authentication",
            Hook::Authorize => "authorization",
            Hook::Transform => "transformation",
            Hook::Detect => "detection",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hook {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Hook::ALL
            .into_iter()
            .find(|hook| hook.name() == text)
            .ok_or_else(|| SpecError::UnknownHook(text.to_owned()))
    }
}

/// Something a plugin may reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Shared state of its instances: `nervewire:plugin/kv`.
    Kv,
    /// Random numbers: `nervewire:plugin/random` and `wasi:random/random`.
    Random,
    /// Publishing to topics that this topic filter matches, without being authorized as the client.
    Publish(String),
    /// HTTP requests to this origin. A plugin with such a grant is asynchronous: its calls may wait, beside the shards.
    Http(Origin),
    /// The broker's log. Always there; may be listed.
    Log,
    /// Its `config` table and files. Always there; may be listed.
    Config,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Kv => f.write_str("kv"),
            Grant::Random => f.write_str("random"),
            Grant::Publish(filter) => write!(f, "publish:{filter}"),
            Grant::Http(origin) => origin.fmt(f),
            Grant::Log => f.write_str("log"),
            Grant::Config => f.write_str("config"),
        }
    }
}

impl FromStr for Grant {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "kv" => return Ok(Grant::Kv),
            "random" => return Ok(Grant::Random),
            "log" => return Ok(Grant::Log),
            "config" => return Ok(Grant::Config),
            _ => {}
        }
        if text.starts_with("http:") || text.starts_with("https:") {
            return text.parse().map(Grant::Http);
        }
        match text.strip_prefix("publish:") {
            Some(filter) => publish_grant(filter),
            None => Err(SpecError::UnknownGrant(text.to_owned())),
        }
    }
}

fn publish_grant(filter: &str) -> Result<Grant, SpecError> {
    match nervewire_codec::topic::validate_topic_filter(filter) {
        Ok(()) => Ok(Grant::Publish(filter.to_owned())),
        Err(_) => Err(SpecError::BadPublishFilter(filter.to_owned())),
    }
}

/// Where an instance runs, which decides its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// On a shard: `rules`, `authorize` and `transform`.
    Shard,
    /// In the pool of workers that authenticate.
    Authenticate,
    /// In the pool of an asynchronous plugin, for all hooks.
    Pool,
    /// Beside the clients: `tick` and `detect`.
    Background,
}

/// A name in a configuration that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not one of [`Hook::ALL`].
    #[error("there is no hook `{0}`; hooks are authenticate, authorize, transform and detect")]
    UnknownHook(String),
    /// Not a [`Grant`].
    #[error(
        "there is no grant `{0}`; grants are kv, random, log, config, publish:TOPIC-FILTER and http(s)://HOST[:PORT]"
    )]
    UnknownGrant(String),
    /// `http:` or `https:` followed by something else than a host.
    #[error(
        "`{0}` is not an origin: a host and perhaps a port, and nothing after it, as in `http://auth.internal:8080`"
    )]
    BadOrigin(String),
    /// `publish:` followed by something that is no topic filter.
    #[error("`publish:{0}` does not name a topic filter")]
    BadPublishFilter(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_grant(text: &str, expected: Result<Grant, &str>) {
        let got = text.parse::<Grant>();
        match expected {
            Ok(grant) => {
                assert_eq!(got.as_ref(), Ok(&grant), "{text}");
                assert_eq!(grant.to_string(), text);
            }
            Err(part) => assert!(got.unwrap_err().to_string().contains(part), "{text}"),
        }
    }

    #[test]
    fn grants_parse_and_print() {
        check_grant("kv", Ok(Grant::Kv));
        check_grant("random", Ok(Grant::Random));
        check_grant("log", Ok(Grant::Log));
        check_grant("config", Ok(Grant::Config));
        check_grant("publish:alerts/#", Ok(Grant::Publish("alerts/#".into())));
        check_grant("publish:", Err("does not name a topic filter"));
        check_grant("publish:a/#/b", Err("does not name a topic filter"));
        for origin in ["http://auth.internal:8080", "https://auth.internal"] {
            check_grant(origin, Ok(Grant::Http(origin.parse().unwrap())));
        }
        check_grant("http://auth.internal/login", Err("nothing after it"));
        check_grant("https:", Err("is not an origin"));
        check_grant("KV", Err("no grant `KV`"));
        check_grant("", Err("no grant"));
    }

    #[test]
    fn hooks_parse_and_print() {
        for hook in Hook::ALL {
            assert_eq!(hook.to_string().parse(), Ok(hook));
        }
        assert!("deliver".parse::<Hook>().is_err());
    }

    #[test]
    fn limits_have_ranges() {
        let check = |limits: Limits, expected: Option<&str>| match (limits.check(), expected) {
            (Ok(()), None) => {}
            (Err(text), Some(part)) => assert!(text.contains(part), "{text}"),
            (got, _) => panic!("{limits:?}: {got:?}"),
        };
        let base = Limits::default();
        check(base, None);
        check(Limits { call_ms: 0, ..base }, Some("limits.call_ms = 0"));
        check(
            Limits {
                memory_mib: 1025,
                ..base
            },
            Some("between 1 and 1024"),
        );
        check(
            Limits {
                authenticate_call_ms: 60_001,
                ..base
            },
            Some("authenticate_call_ms"),
        );
        check(
            Limits {
                authenticate_memory_mib: 0,
                ..base
            },
            Some("authenticate_memory_mib"),
        );
        check(
            Limits {
                http_calls: 1025,
                ..base
            },
            Some("limits.http_calls = 1025 is not between 1 and 1024"),
        );
        check(
            Limits {
                http_queue_calls: 0,
                ..base
            },
            Some("http_queue_calls"),
        );
        check(
            Limits {
                http_call_ms: 60_001,
                ..base
            },
            Some("http_call_ms"),
        );
    }
}
