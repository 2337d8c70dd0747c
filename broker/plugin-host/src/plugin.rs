//! A loaded plugin: compiled, checked against its grants, accepted by its own `init`. Instances are made from it.

use crate::breaker::{Admission, BreakerState, SharedBreaker};
use crate::contract::Exports;
use crate::error::{LoadError, StartError};
use crate::guest::{Guest, Shared};
use crate::host::HostInner;
use crate::instance::{self, Failure, Functions, Instance, Live, guarded};
use crate::spec::{Grant, Hook, Limits, PluginSpec, Role};
use crate::stats::{Call, Outcome, PluginStats};
use crate::wire;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower};
use wasmtime::{PoolConcurrencyLimitError, Store};

/// One generation of a plugin. Shared by all threads; each makes its own instances.
pub struct Plugin {
    host: Arc<HostInner>,
    shared: Arc<Shared>,
    component: InstancePre<Guest>,
    exports: Exports,
    hooks: Vec<Hook>,
    grants: Vec<Grant>,
    limits: Limits,
    files: Vec<(String, Vec<u8>)>,
    config_json: String,
    digest: String,
    breaker: SharedBreaker,
    /// How long the slowest `init` took so far, in milliseconds, rounded up.
    init_ms: AtomicU64,
}

/// What [`Host::load`](crate::Host::load) found out before the first instance is made.
pub(crate) struct Checked {
    pub(crate) component: InstancePre<Guest>,
    pub(crate) exports: Exports,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) digest: String,
}

impl Plugin {
    /// Makes the plugin and, as a trial, an instance for every role it will be called in.
    pub(crate) fn new(
        host: Arc<HostInner>,
        shared: Arc<Shared>,
        checked: Checked,
        spec: PluginSpec,
    ) -> Result<Arc<Self>, LoadError> {
        let plugin = Arc::new(Self {
            host,
            shared,
            component: checked.component,
            exports: checked.exports,
            hooks: checked.hooks,
            grants: spec.grants,
            limits: spec.limits,
            files: spec.files,
            config_json: spec.config_json,
            digest: checked.digest,
            breaker: SharedBreaker::default(),
            init_ms: AtomicU64::new(0),
        });
        for role in plugin.roles() {
            plugin.start(role, plugin.init_deadline_ms())?;
        }
        Ok(plugin)
    }

    /// A warm instance: instantiated, and its `init` called.
    ///
    /// # Errors
    /// [`StartError`] where the pool is exhausted or `init` fails, though it did not when the plugin was loaded.
    pub fn instance(self: &Arc<Self>, role: Role) -> Result<Instance, StartError> {
        Instance::start(Arc::clone(self), role)
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The hooks in use.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Whether this hook is in use.
    pub fn has_hook(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    /// SHA-256 of the component, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Numbers kept under its name.
    pub fn stats(&self) -> &Arc<PluginStats> {
        &self.shared.stats
    }

    /// Its grants.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The topic filters of its `publish:` grants.
    pub fn publish_grants(&self) -> impl Iterator<Item = &str> {
        self.grants.iter().filter_map(|grant| match grant {
            Grant::Publish(filter) => Some(filter.as_str()),
            _ => None,
        })
    }

    /// Bounds of its calls.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What its breaker is doing.
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        let on_shard = self.has_hook(Hook::Authorize) || self.has_hook(Hook::Transform);
        let shard = on_shard.then_some(Role::Shard);
        let authenticate = self.has_hook(Hook::Authenticate).then_some(Role::Authenticate);
        shard.into_iter().chain(authenticate)
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.host.max_message_bytes()
    }

    pub(crate) fn deadline_ms(&self, call: Call) -> u64 {
        u64::from(if call == Call::Authenticate {
            self.limits.authenticate_call_ms
        } else {
            self.limits.call_ms
        })
    }

    /// `init` may parse files and build tables; it runs aside when a plugin is loaded.
    pub(crate) fn init_deadline_ms(&self) -> u64 {
        const INIT_MS: u64 = 1000;
        INIT_MS.max(u64::from(self.limits.authenticate_call_ms))
    }

    /// Deadline of the `init` of a replacement: on a shard all clients wait for it, so it gets little more than it took before.
    pub(crate) fn restart_deadline_ms(&self, role: Role) -> u64 {
        match role {
            Role::Authenticate => self.init_deadline_ms(),
            Role::Shard => {
                u64::from(self.limits.call_ms).saturating_add(self.init_ms.load(Ordering::Relaxed).saturating_mul(2))
            }
        }
    }

    pub(crate) fn admit(&self) -> Admission {
        let admission = self.breaker.admit(|| self.shared.clock.now_ms());
        if admission == Admission::Probe {
            self.shared.stats.set_breaker_state(BreakerState::HalfOpen);
        }
        admission
    }

    pub(crate) fn succeeded(&self, admission: Admission) {
        if admission == Admission::Probe {
            self.breaker.success(admission);
            self.shared.stats.set_breaker_state(BreakerState::Closed);
            self.shared
                .log
                .line(tracing::Level::INFO, "works again: the breaker is closed");
        }
    }

    pub(crate) fn failed(&self, admission: Admission, call: Call, outcome: Outcome, detail: &str) {
        self.breaker.failure(admission, self.shared.clock.now_ms());
        let state = self.breaker.state();
        self.shared.stats.set_breaker_state(state);
        let breaker = if state == BreakerState::Closed {
            ""
        } else {
            "; the breaker is open"
        };
        let line = format!("{} failed ({}): {detail}{breaker}", call.label(), outcome.label());
        self.shared.log.line(tracing::Level::WARN, &line);
    }

    /// Instantiates the component into a new store and calls its `init`.
    pub(crate) fn start(&self, role: Role, init_deadline_ms: u64) -> Result<Live, StartError> {
        let mut store = self.store(role);
        store.set_epoch_deadline(init_deadline_ms);
        let instance = guarded(|| self.component.instantiate(&mut store));
        store.data_mut().flush_output();
        let instance = instance.map_err(|error| start_error(&error))?;
        let functions = self
            .functions(&mut store, &instance)
            .map_err(|error| start_error(&error))?;
        self.init(&mut store, &instance, init_deadline_ms)?;
        Ok(Live { store, functions })
    }

    fn store(&self, role: Role) -> Store<Guest> {
        let memory_mib = match role {
            Role::Shard => self.limits.memory_mib,
            Role::Authenticate => self.limits.authenticate_memory_mib,
        };
        let guest = Guest::new(Arc::clone(&self.shared), memory_mib as usize * 1024 * 1024);
        let mut store = Store::new(self.host.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(self.host.max_answer_bytes());
        store
    }

    fn functions(
        &self,
        store: &mut Store<Guest>,
        instance: &wasmtime::component::Instance,
    ) -> wasmtime::Result<Functions> {
        Ok(Functions {
            authenticate: self.function(store, instance, Call::Authenticate, self.exports.authenticate)?,
            rules: self.function(store, instance, Call::Rules, self.exports.rules)?,
            authorize: self.function(store, instance, Call::Authorize, self.exports.authorize)?,
            transform: self.function(store, instance, Call::Transform, self.exports.transform)?,
        })
    }

    fn function<Params, Answer>(
        &self,
        store: &mut Store<Guest>,
        instance: &wasmtime::component::Instance,
        call: Call,
        export: Option<ComponentExportIndex>,
    ) -> wasmtime::Result<Option<instance::Function<Params, Answer>>>
    where
        Params: ComponentNamedList + Lower,
        (Answer,): ComponentNamedList + Lift,
    {
        match export.filter(|_| self.has_hook(instance::hook(call))) {
            Some(export) => instance.get_typed_func(store, export).map(Some),
            None => Ok(None),
        }
    }

    fn init(
        &self,
        store: &mut Store<Guest>,
        instance: &wasmtime::component::Instance,
        deadline_ms: u64,
    ) -> Result<(), StartError> {
        let contract = |error: wasmtime::Error| StartError::Instantiate(format!("{error:#}"));
        let export = self
            .exports
            .init
            .ok_or_else(|| StartError::Instantiate("there is no `init`".to_owned()))?;
        let init = instance.get_typed_func::<(&str, &[wire::FileRef<'_>]), (InitAnswer,)>(&mut *store, export);
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(name, contents)| wire::FileRef { name, contents })
            .collect();
        let start = Instant::now();
        let answer = instance::run(
            store,
            &init.map_err(contract)?,
            (&self.config_json, &files),
            deadline_ms,
        );
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.init_ms.fetch_max(ms.saturating_add(1), Ordering::Relaxed);
        match answer.map_err(init_failed)? {
            (Ok(wire::Ready {
                tick_milliseconds: None,
            }),) => Ok(()),
            (Ok(wire::Ready {
                tick_milliseconds: Some(ms),
            }),) => Err(StartError::Tick(ms)),
            (Err(words),) => Err(StartError::Refused(crate::log::printable(&words))),
        }
    }
}

type InitAnswer = Result<wire::Ready, String>;

fn init_failed(failure: Failure) -> StartError {
    StartError::Init {
        outcome: failure.outcome.label(),
        detail: failure.detail,
    }
}

fn start_error(error: &wasmtime::Error) -> StartError {
    let text = format!("{error:#}");
    if error.is::<PoolConcurrencyLimitError>() {
        StartError::PoolExhausted(text)
    } else {
        StartError::Instantiate(text)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name())
            .field("hooks", &self.hooks)
            .field("digest", &self.digest)
            .finish()
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", self.plugin())
            .finish_non_exhaustive()
    }
}
