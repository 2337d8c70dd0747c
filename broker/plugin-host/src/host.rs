//! The plugin host: one engine, one pool of instances, and what is kept per plugin name across swaps.

use crate::cache::{Cache, CacheStats};
use crate::call_arena::{self, Place};
use crate::clock::{Clock, World};
use crate::contract::{self, Exports};
use crate::engine;
use crate::epochs::Ticker;
use crate::error::{HostError, LoadError};
use crate::guest::Shared;
use crate::host_functions;
use crate::http::HttpBackend;
use crate::log::PluginLog;
use crate::plugin::{Checked, Plugin};
use crate::runtime::PoolRuntime;
use crate::spec::{Grant, Hook, PluginSpec};
use crate::stats::PluginStats;
use crate::tap::{Tap, TapSwitch};
use crate::wanted::Wanted;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Component;

/// From this size on the log tells of compiling: components of language runtimes have it, those in Rust or C never.
const LARGE_COMPONENT_BYTES: usize = 1024 * 1024;

/// How a host is set up.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Directory for compiled components, created with mode 0700; `None`: every load compiles.
    pub cache_dir: Option<PathBuf>,
    /// Instances there is room for: threads x plugins x two generations, and one more for trials.
    pub max_instances: u32,
    /// Bytes of one message that a transform answers with: topic, payload and properties.
    pub max_message_bytes: usize,
    /// Time for breakers, rates and expiry.
    pub clock: Clock,
    /// Who answers requests to granted origins.
    pub http: HttpBackend,
    /// Time and random numbers of guests.
    pub world: World,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            max_instances: 4096,
            max_message_bytes: 1_048_576,
            clock: Clock::default(),
            http: HttpBackend::Network,
            world: World::default(),
        }
    }
}

/// Loads plugins. Clones share everything.
#[derive(Clone)]
pub struct Host(Arc<HostInner>);

pub(crate) struct HostInner {
    engine: Engine,
    ticker: Ticker,
    cache: Option<Cache>,
    max_message_bytes: usize,
    clock: Clock,
    http: HttpBackend,
    runtime: PoolRuntime,
    world: World,
    tap: TapSwitch,
    shared: Mutex<HashMap<String, Arc<Shared>>>,
}

/// What can be said about a component without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Hooks it exports.
    pub hooks: Vec<Hook>,
    /// Version of `nervewire:plugin` it was built for; `None`: it exports nothing of it.
    pub wit_version: Option<String>,
    /// Its imports.
    pub imports: Vec<String>,
    /// Grants it cannot be loaded without.
    pub grants: Vec<Grant>,
    /// Whether it makes HTTP requests, for which it needs the grant of at least one origin.
    pub http: HttpNeed,
    /// Why it cannot be loaded whatever it is granted, one line per import.
    pub refusals: Vec<String>,
    /// Its size.
    pub size_bytes: usize,
    /// SHA-256, lower-case hexadecimal.
    pub digest: String,
}

/// What a component does with HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpNeed {
    /// Nothing.
    None,
    /// It makes requests, and says that it works without.
    Optional,
    /// It is not loaded without the grant of an origin.
    Required,
}

impl Host {
    /// Sets up the engine and starts its ticker.
    ///
    /// # Errors
    /// [`HostError`] where the machine has no room for the pool, or no thread can be started.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let engine = engine::engine(config.max_instances)?;
        Ok(Self(Arc::new(HostInner {
            ticker: Ticker::start(&engine)?,
            cache: config.cache_dir.map(|dir| Cache::new(dir, &engine)),
            max_message_bytes: config.max_message_bytes,
            clock: config.clock,
            http: config.http,
            runtime: PoolRuntime::default(),
            world: config.world,
            tap: TapSwitch::default(),
            shared: Mutex::default(),
            engine,
        })))
    }

    /// Compiles a component or takes it from the cache, checks imports and hooks, and runs `init` on a trial instance.
    ///
    /// # Errors
    /// [`LoadError`] says in words what is wrong; nothing of the plugin is kept then.
    pub fn load(&self, spec: PluginSpec) -> Result<Arc<Plugin>, LoadError> {
        spec.limits.check().map_err(LoadError::Limits)?;
        let (component, digest) = self.0.compile(&spec.name, &spec.component)?;
        let exports = Exports::of(&component, &self.0.engine)?;
        let wanted = Wanted::of(&spec.component)?;
        contract::check_grants(&component, &self.0.engine, &wanted, &spec.grants)?;
        if exports.init.is_none() {
            return Err(LoadError::NoLifecycle);
        }
        let hooks = exports.select(spec.hooks.as_deref())?;
        let asynchronous = spec.grants.iter().any(|grant| matches!(grant, Grant::Http(_)));
        let linker = host_functions::linker(&component, &self.0.engine, asynchronous)?;
        let component = linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Contract(format!("{error:#}")))?;
        let arena = match call_arena::is_in(&spec.component) {
            true => Place::Unasked,
            false => Place::Nowhere,
        };
        let shared = self.0.shared(&spec.name);
        let plugin = Plugin::new(
            Arc::clone(&self.0),
            Arc::clone(&shared),
            Checked {
                component,
                exports,
                arena,
                hooks,
                digest,
            },
            spec,
        )?;
        self.0.lock().insert(plugin.name().to_owned(), shared);
        Ok(plugin)
    }

    /// Says what a component is and asks for.
    ///
    /// # Errors
    /// [`LoadError::Compile`] and [`LoadError::Version`].
    pub fn inspect(&self, component: &[u8]) -> Result<Inspection, LoadError> {
        let (compiled, digest) = self.0.compile("(inspected)", component)?;
        let exports = Exports::of(&compiled, &self.0.engine)?;
        let imports = contract::import_names(&compiled, &self.0.engine);
        let wanted = Wanted::of(component)?;
        let grants = contract::needed_grants(&imports, &wanted);
        let http = match (contract::needs_http(&imports), wanted.http_is_optional) {
            (false, _) => HttpNeed::None,
            (true, true) => HttpNeed::Optional,
            (true, false) => HttpNeed::Required,
        };
        let refused = imports.iter().filter_map(|name| contract::import(name).err());
        let refusals = refused.map(|error| error.to_string()).collect();
        let (hooks, wit_version) = (exports.hooks, exports.version);
        Ok(Inspection {
            hooks,
            wit_version,
            imports,
            grants,
            http,
            refusals,
            size_bytes: component.len(),
            digest,
        })
    }

    /// Statistics and key-value entries of a plugin that is used again count under its name once more.
    pub fn keep(&self, plugin: &Plugin) {
        let (name, shared) = (plugin.name().to_owned(), plugin.shared());
        self.0.lock().insert(name, shared);
    }

    /// Forgets statistics and key-value entries of the names for which `keep` says false. Loaded plugins keep their own.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.0.lock().retain(|name, _| keep(name));
    }

    /// Shows every call of every plugin to `tap` from now on; `None`: to nobody.
    pub fn set_tap(&self, tap: Option<Arc<dyn Tap>>) {
        self.0.tap.set(tap);
    }

    /// The statistics kept under a name.
    pub fn stats(&self, name: &str) -> Option<Arc<PluginStats>> {
        self.0.lock().get(name).map(|shared| Arc::clone(&shared.stats))
    }

    /// What the cache of compiled components did; `None`: there is no cache.
    pub fn cache_stats(&self) -> Option<CacheStats> {
        self.0.cache.as_ref().map(Cache::stats)
    }
}

impl HostInner {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where asynchronous plugins are called.
    pub(crate) fn runtime(&self) -> &PoolRuntime {
        &self.runtime
    }

    pub(crate) fn http(&self) -> &HttpBackend {
        &self.http
    }

    #[inline]
    pub(crate) fn tap(&self) -> Option<Arc<dyn Tap>> {
        self.tap.get()
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Bytes that a guest may hand over at a time: the largest message twice, and room for what surrounds it.
    pub(crate) fn max_answer_bytes(&self) -> usize {
        const SURROUNDINGS_BYTES: usize = 1024 * 1024;
        self.max_message_bytes
            .saturating_mul(2)
            .saturating_add(SURROUNDINGS_BYTES)
    }

    /// `name` is whose component it is, for the log.
    fn compile(&self, name: &str, bytes: &[u8]) -> Result<(Component, String), LoadError> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let mut is_new = false;
        let mut compile = || {
            is_new = true;
            self.compile_anew(name, bytes)
        };
        let compiled = match &self.cache {
            Some(cache) => cache.get_or_compile(&self.engine, &digest, compile),
            None => compile(),
        };
        if !is_new && bytes.len() >= LARGE_COMPONENT_BYTES {
            tracing::info!(plugin = name, "its machine code was taken from the cache");
        }
        compiled
            .map(|component| (component, hex(&digest)))
            .map_err(|error| LoadError::Compile(format!("{error:#}")))
    }

    /// Says so where it takes long: whoever starts a broker should not wonder what it is doing.
    fn compile_anew(&self, name: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        if bytes.len() < LARGE_COMPONENT_BYTES {
            return Component::from_binary(&self.engine, bytes);
        }
        let mib = bytes.len() / (1024 * 1024);
        match &self.cache {
            Some(_) => tracing::info!(
                plugin = name,
                "compiling {mib} MiB of it, which takes some seconds, once"
            ),
            None => tracing::info!(
                plugin = name,
                "compiling {mib} MiB of it, which takes some seconds at every start: with a data_dir it would be kept"
            ),
        }
        let start = Instant::now();
        let component = Component::from_binary(&self.engine, bytes)?;
        tracing::info!(plugin = name, ms = start.elapsed().as_millis(), "compiled");
        Ok(component)
    }

    /// What is kept under this name, or the beginning of it, which `load` keeps once it succeeded.
    fn shared(&self, name: &str) -> Arc<Shared> {
        if let Some(shared) = self.lock().get(name) {
            return Arc::clone(shared);
        }
        let (name, stats) = (Arc::<str>::from(name), Arc::<PluginStats>::default());
        let log = PluginLog::new(Arc::clone(&name), self.clock.clone(), Arc::clone(&stats));
        let epochs = self.ticker.epochs().clone();
        Arc::new(Shared::new(
            name,
            stats,
            log,
            self.clock.clone(),
            self.world.clone(),
            epochs,
        ))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Shared>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // Writing into a String cannot fail.
            text
        })
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("cache", &self.0.cache)
            .finish_non_exhaustive()
    }
}
