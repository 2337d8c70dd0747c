//! The configuration as the broker uses it: plain values, everything already checked. The keys and their meaning are those of
//! `defaults.toml` and of the README's table.

use super::limits::PER_CLIENT;
use crate::defence::DefenceLimits;
use crate::transport::network::Network;
use crate::transport::upgrade::Rules;
use nervewire_core::fold::{AnonymousPolicy, DefaultDecision};
use nervewire_core::hook::OnFailure;
use nervewire_core::limits::{ClientLimits, QueuePolicy};
use nervewire_plugin_host::{Grant, Hook, Limits as PluginLimits};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

/// One configuration file, read and checked as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Where it was read from; `None`: the embedded defaults.
    pub file: Option<PathBuf>,
    /// `[broker]`.
    pub broker: Broker,
    /// `[[listener]]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[auth]`.
    pub auth: Auth,
    /// `[limits]`.
    pub limits: Limits,
    /// `[reload]`.
    pub reload: Reload,
    /// `[detect]`.
    pub detect: Detect,
    /// `[[plugin]]`, in the order of the chain.
    pub plugins: Vec<Plugin>,
    /// `[admin]`.
    pub admin: Admin,
}

/// `[broker]`: changing anything but `response_information` needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    /// Where the broker keeps files; `None` (`""` in the file): nowhere.
    pub data_dir: Option<PathBuf>,
    /// Threads that serve clients; `None` (0 in the file): one per core.
    pub shards: Option<NonZeroU16>,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Topic prefix of the Response Information of MQTT 5.0; `None` (`""` in the file): there is none.
    pub response_information: Option<String>,
}

/// `broker.durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On the disk before it is acknowledged: survives the loss of power.
    Fsync,
    /// With the operating system before it is acknowledged: survives the end of the process.
    Os,
    /// Sessions, queues and retained messages end with the process.
    Memory,
}

impl Durability {
    /// The word for it in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }
}

/// `[[listener]]`: one TCP address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The address.
    pub bind: Bind,
    /// What MQTT travels in.
    pub transport: Transport,
    /// `None`: in clear.
    pub tls: Option<TlsSettings>,
    /// `proxy_protocol`: where proxies may connect from, and nobody else; empty: there is no proxy.
    pub proxies: Vec<Network>,
    /// What holds here instead of what holds everywhere.
    pub own: OwnSettings,
}

/// `listener.transport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Packets one behind the other.
    Tcp,
    /// In binary frames of WebSocket.
    Ws(Rules),
}

impl Transport {
    /// As it is written.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws(_) => "ws",
        }
    }

    /// Who may open a WebSocket.
    pub(crate) fn rules(&self) -> Option<Rules> {
        match self {
            Self::Tcp => None,
            Self::Ws(rules) => Some(rules.clone()),
        }
    }
}

/// Settings of one listener; `None`: what `[auth]`, `[limits]` and the chain of plugins say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnSettings {
    /// Who may connect without credentials.
    pub anonymous: Option<AnonymousPolicy>,
    /// The plugins that are asked who a client is.
    pub authenticators: Option<Vec<Arc<str>>>,
    /// Its connections at a time.
    pub max_connections: Option<NonZeroU32>,
    /// Largest packet accepted, not over that of `[limits]`.
    pub max_packet_bytes: Option<NonZeroU32>,
    /// Time from the TCP connection to a complete CONNECT packet.
    pub connect_timeout_ms: Option<NonZeroU32>,
}

/// A local address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bind {
    /// As written in the file: the listener's name in logs, metrics and towards plugins.
    pub text: Arc<str>,
    /// What to bind.
    pub address: SocketAddr,
}

/// `tls = { ... }` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// PEM file with the server's certificate, its chain after it.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// Other certificates, by the name that a client asks for.
    pub sni: Vec<SniSettings>,
    /// `None` (`client_cert = "none"`): clients are not asked for a certificate.
    pub client: Option<ClientCertificates>,
    /// Bytes of the sessions that clients may resume; 0: none.
    pub resumption_bytes: u64,
}

/// An entry of `sni`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SniSettings {
    /// A DNS name in lower case; `*` may be its first label, and stands for any one.
    pub name: String,
    /// PEM file with the certificate for it, its chain after it.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// How certificates of clients are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificates {
    /// PEM file with the authorities that sign them.
    pub client_ca: PathBuf,
    /// Files with their revocation lists, PEM or DER; empty: nothing is revoked.
    pub crl: Vec<PathBuf>,
    /// A client without certificate is refused.
    pub required: bool,
    /// The part of the certificate that authenticates the client and becomes its user name; `None`: the certificate is only
    /// shown to plugins.
    pub identity: Option<CertificateIdentity>,
}

/// `identity` of a TLS listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateIdentity {
    /// The subject's common name.
    CommonName,
    /// The first subject alternative name.
    AlternativeName,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    Fingerprint,
}

/// `[auth]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Auth {
    /// Who may connect without user name, password, method and certificate.
    pub anonymous: AnonymousPolicy,
    /// The decision where every authorizer abstains.
    pub default: DefaultDecision,
    /// How long a client may stay connected without authenticating again, in seconds; `None` (0 in the file): for ever.
    pub max_connection_s: Option<NonZeroU32>,
}

/// `[limits]`: every bound the broker has that is not a plugin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest packet accepted, fixed header included.
    pub max_packet_bytes: NonZeroU32,
    /// Connections at a time, over all listeners.
    pub max_connections: NonZeroU32,
    /// Sessions in all, connected or not.
    pub max_sessions: NonZeroU32,
    /// Time from the TCP connection to a complete CONNECT packet.
    pub connect_timeout_ms: NonZeroU32,
    /// Messages in the queue of one offline or slow session.
    pub queue_messages: NonZeroU32,
    /// Bytes in the queue of one offline or slow session.
    pub queue_bytes: NonZeroU64,
    /// What happens to a message that does not fit.
    pub queue_policy: QueuePolicy,
    /// Bytes in all queues together; `None` (0 in the file): half of the machine's memory.
    pub memory_bytes: Option<NonZeroU64>,
    /// Retained messages in all.
    pub retained_messages: NonZeroU32,
    /// Bytes of all retained messages.
    pub retained_bytes: NonZeroU64,
    /// Bytes of the store's files; `None` (0 in the file): what the disk has. Changing it needs a restart.
    pub store_bytes: Option<NonZeroU64>,
    /// Longest keep alive that a 5.0 client may ask for, in seconds; `None` (0 in the file): any, and none at all.
    pub max_keep_alive_s: Option<NonZeroU16>,
    /// PUBLISH packets per second and client, with one second's worth as burst; `None` (0 in the file): unlimited.
    pub publish_rate_per_s: Option<NonZeroU32>,
    /// What one client may do.
    pub per_client: ClientLimits,
    /// What one address and one user may do.
    pub defence: DefenceLimits,
}

/// `[reload]`: when plugins that a reload brought are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    /// Share of one plugin's calls that fail, in percent; `None` (0 in the file): nothing is taken back by itself.
    pub rollback_failures_percent: Option<NonZeroU32>,
    /// Fewer failures than this are not enough.
    pub rollback_min_failures: NonZeroU32,
    /// How long after a reload. Who has come through it is what a later rollback goes back to.
    pub rollback_window_ms: NonZeroU32,
}

/// `[detect]`: windows for plugins with the hook `detect`, and what becomes of their findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Detect {
    /// Length of a window.
    pub window_ms: NonZeroU32,
    /// Clients that are counted in one window, and as many that were not let in.
    pub max_clients: NonZeroU32,
    /// The last alerts, which the admin API shows.
    pub alerts: NonZeroU32,
    /// How long a client is throttled; `None` (0 in the file): until the broker ends or somebody lifts it.
    pub throttle_s: Option<NonZeroU32>,
}

/// `[[plugin]]`: one component in the chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plugin {
    /// Unique; lower-case letters, digits, `-` and `_`.
    pub name: Arc<str>,
    /// The code.
    pub component: Component,
    /// Hooks it is called for; `None`: all it exports.
    pub hooks: Option<Vec<Hook>>,
    /// authorize and transform run only where one of these topic filters matches or overlaps.
    pub topics: Vec<String>,
    /// Whether it is obeyed.
    pub mode: Mode,
    /// In shadow mode: the plugin in whose place it is judged; `None`: as one more, in its own.
    pub shadow_of: Option<Arc<str>>,
    /// How a call without an answer is judged.
    pub on_failure: OnFailure,
    /// What it may reach.
    pub grants: Vec<Grant>,
    /// Bounds of its calls.
    pub limits: PluginLimits,
    /// Files handed to `init`, by name.
    pub files: BTreeMap<String, PathBuf>,
    /// The `config` table, handed to `init` as JSON.
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// `plugin.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// What it says happens.
    Enforce,
    /// What it would have said differently is told, and nothing else happens.
    Shadow,
}

impl Mode {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// `plugin.component`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Component {
    /// `builtin:NAME`: embedded in the binary.
    Builtin(String),
    /// A component in a file.
    File(PathBuf),
}

/// `[admin]`: REST, `/healthz` and `/metrics`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Admin {
    /// Its address.
    pub bind: Bind,
    /// Required in `Authorization: Bearer`; never `None` off loopback.
    pub token: Option<String>,
}

/// Keeps the token out of logs.
impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("bind", &self.bind)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .finish()
    }
}

impl Broker {
    pub(super) const DEFAULT_DATA_DIR: &str = "nervewire-data";
}

impl TlsSettings {
    /// Some thousand sessions with a client certificate, or four times as many without.
    pub(super) const DEFAULT_RESUMPTION_BYTES: u64 = 16_777_216;
    pub(super) const MAX_RESUMPTION_BYTES: u64 = 1 << 30;
}

impl Auth {
    pub(super) const DEFAULT: Self = Self {
        anonymous: AnonymousPolicy::Loopback,
        default: DefaultDecision::Deny,
        max_connection_s: None,
    };
}

impl Limits {
    /// Up to the largest Remaining Length (MQTT 5.0 section 1.5.5).
    pub(super) const PACKET_BYTES: RangeInclusive<u64> = 1_024..=268_435_455;
    pub(super) const CONNECTIONS: RangeInclusive<u64> = 1..=10_000_000;
    pub(super) const CONNECT_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;

    pub(super) const DEFAULT: Self = Self {
        max_packet_bytes: non_zero_u32(1_048_576),
        max_connections: non_zero_u32(1_000_000),
        max_sessions: non_zero_u32(2_000_000),
        connect_timeout_ms: non_zero_u32(10_000),
        queue_messages: non_zero_u32(1_000),
        queue_bytes: non_zero_u64(16_777_216),
        queue_policy: QueuePolicy::DropOldest,
        memory_bytes: None,
        retained_messages: non_zero_u32(1_000_000),
        retained_bytes: non_zero_u64(1_073_741_824),
        store_bytes: None,
        max_keep_alive_s: None,
        publish_rate_per_s: None,
        per_client: PER_CLIENT,
        defence: DefenceLimits::DEFAULT,
    };
}

impl Reload {
    pub(super) const DEFAULT: Self = Self {
        rollback_failures_percent: NonZeroU32::new(10),
        rollback_min_failures: non_zero_u32(20),
        rollback_window_ms: non_zero_u32(60_000),
    };
}

impl Detect {
    pub(super) const DEFAULT: Self = Self {
        window_ms: non_zero_u32(60_000),
        max_clients: non_zero_u32(100_000),
        alerts: non_zero_u32(1_000),
        throttle_s: NonZeroU32::new(3_600),
    };
}

/// For constants only: a zero does not compile.
const fn non_zero_u32(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("a default of a NonZero value is not 0")
}

/// For constants only: a zero does not compile.
const fn non_zero_u64(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).expect("a default of a NonZero value is not 0")
}
