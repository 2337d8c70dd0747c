//! What both halves of the tests start from.

use super::*;
use std::fs;

mod accepted;
mod refused;

const BUILTINS: [&str; 3] = ["password", "acl", "rewrite"];

/// Rows are about other things: this makes them complete.
const LISTENER: &str = "\n[[listener]]\nbind = \"127.0.0.1:1883\"\n";

fn parse(text: &str, base_dir: &Path) -> Result<Config, ConfigErrors> {
    Config::parse(text, "f.toml", base_dir, &BUILTINS)
}

fn accepted(text: &str) -> Config {
    parse(text, Path::new("")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The example of the design, with the values of later versions replaced.
const EXAMPLE: &str = r##"
[broker]
data_dir = ""
shards = 2
durability = "memory"
response_information = "reply"

[[listener]]
bind = "0.0.0.0:1883"
transport = "tcp"
[[listener]]
bind = "0.0.0.0:8883"
tls = { cert = "server.pem", key = "server.key", client_ca = "ca.pem", client_cert = "required", identity = "cn", sni = [{ name = "*.A.example", cert = "wild.pem", key = "wild.key" }], resumption_bytes = 4_096 }
[[listener]]
bind = "[::]:8084"
transport = "ws"
path = "/mqtt/v5"
allowed_origins = ["https://App.example.com", "http://localhost:8000"]
proxy_protocol = ["10.0.0.0/8", "2001:db8::7"]
anonymous = "allow"
authenticators = ["password"]
max_connections = 9
max_packet_bytes = 2_000
connect_timeout_ms = 4_000

[auth]
anonymous = "deny"
default = "allow"
max_connection_s = 86_400

[limits]
max_packet_bytes = 2_097_152
max_connections = 10
max_sessions = 20
connect_timeout_ms = 5_000
queue_messages = 7
queue_bytes = 4_096
queue_policy = "refuse-new"
memory_bytes = 1_048_576
retained_messages = 5
retained_bytes = 2_048
store_bytes = 9_000_000
max_keep_alive_s = 300
publish_rate_per_s = 100
publish_bytes_per_s = 101
subscribe_rate_per_s = 102
over_rate_s = 103
takeovers_per_minute = 104
topic_levels = 105
topic_bytes = 106
subscriptions_per_client = 107
user_properties = 108
receive_maximum = 109
in_flight_messages = 110
connections_per_address = 111
connect_rate_per_s = 112
connect_rate_per_s_per_address = 113
failed_logins_per_minute = 0
failed_logins_per_hour = 115
failed_login_ban_s = 116
user_publish_rate_per_s = 117
address_publish_rate_per_s = 118

[reload]
rollback_failures_percent = 0
rollback_min_failures = 3
rollback_window_ms = 9_000

[detect]
window_ms = 5_000
max_clients = 77
alerts = 11
throttle_s = 0

[[plugin]]
name = "password"
component = "policy.wasm"
hooks = ["authenticate"]
topics = ["dev/#", "+/status"]
mode = "enforce"
on_failure = "skip"
grants = ["kv", "publish:alerts/#", "http://Auth:8080"]
limits = { call_ms = 3, memory_mib = 17, authenticate_call_ms = 1001, authenticate_memory_mib = 65, http_calls = 65, http_queue_calls = 10001, http_call_ms = 5001, tick_call_ms = 4, detect_call_ms = 5 }
files = { users = "passwd" }
config = { min_length = 8, ratio = 0.5, since = 2026-01-02, on = true }
[[plugin]]
name = "acl"
component = "builtin:acl"
config.rules = [
  { allow = "both", topics = ["dev/${client_id}/#"] },
  { deny = "publish", topics = ["cmd/#"] },
]

[admin]
bind = "0.0.0.0:8080"
token = "0123456789abcdef"
"##;

/// An authority for certificates of clients.
fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

/// A directory with every file that the example names.
fn example_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["broker.example".to_owned()]).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("server.pem", &pair.cert.pem());
    write("server.key", &pair.signing_key.serialize_pem());
    write("ca.pem", &authority().pem());
    let pair = rcgen::generate_simple_self_signed(["*.a.example".to_owned()]).unwrap();
    write("wild.pem", &pair.cert.pem());
    write("wild.key", &pair.signing_key.serialize_pem());
    write("policy.wasm", "");
    write("passwd", "");
    write("nervewire.toml", EXAMPLE);
    directory
}
