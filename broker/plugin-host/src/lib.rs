//! Runs plugins: sandboxed WebAssembly components that decide who gets in, who may do what, and what a message looks like.
//!
//! [`Host::load`] turns a component into a [`Plugin`]: compiled, its imports checked against its grants, its `init` tried.
//! Each thread makes its own warm [`Instance`] of it and calls the hooks with the core's types. A call is bounded in time and
//! memory, and its answer is parsed again; when it fails, the instance is replaced and a breaker counts. Calls are synchronous,
//! work on any thread, and wait for nothing. Plugins that may make HTTP requests are the exception: they are asked by
//! [`Plugin::submit`] and answer later, from threads of the host.

mod answer;
mod batch;
mod breaker;
mod cache;
mod call_arena;
mod clock;
mod contract;
mod engine;
mod epochs;
mod error;
mod guest;
mod host;
mod host_functions;
mod http;
mod inert_wasi;
mod instance;
mod kv;
mod lift;
mod log;
mod lower;
mod origin;
mod outside;
mod plugin;
mod pool;
mod printable;
mod question;
mod runtime;
mod sections;
mod sending;
mod spec;
mod stats;
mod tap;
mod wanted;
mod watch;
mod wire;

pub use answer::{
    MAX_ATTRIBUTES, MAX_ATTRIBUTES_BYTES, MAX_BINARY_BYTES, MAX_EVIDENCE_BYTES, MAX_FINDINGS, MAX_RULES,
    MAX_TENANT_BYTES, MAX_TICK_MESSAGES, MAX_USER_PROPERTIES,
};
pub use breaker::{Admission, Breaker, BreakerState, FAILURE_WINDOW_MS, FAILURES_TO_OPEN, FIRST_OPEN_MS, MAX_OPEN_MS};
pub use cache::{CacheStats, MAX_CACHED_BYTES, MAX_CACHED_FILES};
pub use clock::{Clock, VirtualWorld, World};
pub use contract::WIT_VERSION;
pub use error::{HostError, LoadError, StartError};
pub use guest::{MAX_COMPONENT_HANDLES, MAX_HANDLES, MAX_OUTPUT_BYTES};
pub use host::{Host, HostConfig, HttpNeed, Inspection};
pub use http::{HttpBackend, MAX_REQUEST_BODY_BYTES, Script, ScriptedRequest, ScriptedResponse};
pub use instance::Instance;
pub use kv::{ENTRY_OVERHEAD_BYTES, KvError, KvStore, MAX_KEY_BYTES, MAX_KV_BYTES, MAX_KV_ENTRIES, MAX_VALUE_BYTES};
pub use log::MAX_LOG_LINES_PER_S;
pub use origin::Origin;
pub use outside::MAX_HTTP_HANDLES;
pub use plugin::Plugin;
pub use pool::{Busy, Question, Reply};
pub use printable::MAX_LOG_LINE_BYTES;
pub use spec::{
    Grant, Hook, Limits, MAX_CALL_MS, MAX_HTTP_CALLS, MAX_HTTP_QUEUE_CALLS, MAX_MEMORY_MIB, MIN_TICK_MS, PluginSpec,
    Role, SpecError,
};
pub use stats::{Call, LATENCY_BUCKETS_NS, Latency, MAX_COUNTER_NAME_BYTES, MAX_COUNTER_NAMES, Outcome, PluginStats};
pub use tap::{Tap, TappedAnswer, TappedCall, TappedQuestion};
pub use watch::{MAX_TAPPED_HTTP_BYTES, MAX_TAPPED_REQUESTS, TappedBody, TappedExchange, TappedResponse};
