//! A loaded plugin: compiled, checked against its grants, accepted by its own `init`. Instances are made from it.

use crate::breaker::{Admission, BreakerState, SharedBreaker};
use crate::call_arena::Place;
use crate::contract::Exports;
use crate::epochs::EPOCH_MS;
use crate::error::{LoadError, StartError};
use crate::guest::{Guest, MAX_COMPONENT_HANDLES, Shared};
use crate::host::HostInner;
use crate::http::HttpClient;
use crate::instance::{self, Failure, Functions, Instance, Live, guarded};
use crate::origin::Origin;
use crate::outside::Gate;
use crate::pool::{self, Pool};
use crate::spec::{Grant, Hook, Limits, MIN_TICK_MS, PluginSpec, Role};
use crate::stats::{Call, Outcome, PluginStats};
use crate::tap::Tap;
use crate::watch::Watch;
use crate::wire;
use nervewire_codec::topic;
use nervewire_core::hook::AppMessage;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower};
use wasmtime::{PoolConcurrencyLimitError, Store};

/// One generation of a plugin. Shared by all threads; each makes its own instances.
pub struct Plugin {
    host: Arc<HostInner>,
    shared: Arc<Shared>,
    component: InstancePre<Guest>,
    exports: Exports,
    /// Its call arena, before anybody asked.
    arena: Place,
    hooks: Vec<Hook>,
    grants: Vec<Grant>,
    limits: Limits,
    files: Vec<(String, Vec<u8>)>,
    config_json: String,
    digest: String,
    breaker: SharedBreaker,
    /// Where it is called, if it is asynchronous.
    pub(crate) pool: Option<Pool>,
    gate: Gate,
    /// What the first `init` asked for.
    tick_ms: OnceLock<Option<u32>>,
    /// How long the slowest `init` took so far, in milliseconds, rounded up.
    init_ms: AtomicU64,
    generation: AtomicU64,
}

/// What [`Host::load`](crate::Host::load) found out before the first instance is made.
pub(crate) struct Checked {
    pub(crate) component: InstancePre<Guest>,
    pub(crate) exports: Exports,
    pub(crate) arena: Place,
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
        let pool = pool(&host, &spec)?;
        let gate = gate(&host, &shared, &spec)?;
        let plugin = Arc::new(Self {
            pool,
            gate,
            host,
            shared,
            component: checked.component,
            exports: checked.exports,
            arena: checked.arena,
            hooks: checked.hooks,
            grants: spec.grants,
            limits: spec.limits,
            files: spec.files,
            config_json: spec.config_json,
            digest: checked.digest,
            breaker: SharedBreaker::default(),
            tick_ms: OnceLock::new(),
            init_ms: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        });
        if let Some(pool) = &plugin.pool {
            plugin.warm_up(pool)?;
            return Ok(plugin);
        }
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
        if self.is_asynchronous() {
            return Err(StartError::Instantiate("it is called in its pool".to_owned()));
        }
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

    /// Says which generation of the configuration it belongs to, for those who listen to its calls.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// As told by [`Plugin::set_generation`]; 0 before that.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Who listens to the calls.
    #[inline]
    pub(crate) fn tap(&self) -> Option<Arc<dyn Tap>> {
        self.host.tap()
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

    /// How often it wants its `tick`, in milliseconds; `None`: never.
    pub fn tick_ms(&self) -> Option<u32> {
        self.tick_ms.get().copied().flatten()
    }

    /// Leaves of a tick's messages those that its `publish:` grants cover; the others are counted, and so are those over the
    /// bound.
    pub(crate) fn granted(&self, (mut messages, over): (Vec<AppMessage>, usize)) -> Vec<AppMessage> {
        self.shared.stats.drop_tick_messages(over as u64);
        self.keep_granted(&mut messages);
        messages
    }

    fn keep_granted(&self, messages: &mut Vec<AppMessage>) {
        let all = messages.len();
        let mut refused: Option<String> = None;
        messages.retain(|message| {
            let granted = self
                .publish_grants()
                .any(|filter| topic::matches(filter, &message.topic));
            if !granted && refused.is_none() {
                refused = Some(message.topic.as_str().to_owned());
            }
            granted
        });
        let Some(topic) = refused else { return };
        self.shared.stats.refuse_grants((all - messages.len()) as u64);
        if self.shared.may_complain(self.shared.clock.now_ms()) {
            let line = format!(
                "a tick published to {topic}, which it is not granted; to allow it, add `grants = [\"publish:{topic}\"]`"
            );
            self.shared.log.line(tracing::Level::WARN, &line);
        }
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
        let detect = self.has_hook(Hook::Detect).then_some(Role::Background);
        shard.into_iter().chain(authenticate).chain(detect)
    }

    /// What is known about the call arena of a new instance.
    pub(crate) fn arena(&self) -> Place {
        self.arena
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.host.max_message_bytes()
    }

    pub(crate) fn deadline_ms(&self, call: Call) -> u64 {
        u64::from(match call {
            Call::Authenticate => self.limits.authenticate_call_ms,
            Call::Tick => self.limits.tick_call_ms,
            Call::Detect => self.limits.detect_call_ms,
            Call::Rules | Call::Authorize | Call::Transform => self.limits.call_ms,
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
            Role::Authenticate | Role::Background | Role::Pool => self.init_deadline_ms(),
            Role::Shard => {
                u64::from(self.limits.call_ms).saturating_add(self.init_ms.load(Ordering::Relaxed).saturating_mul(2))
            }
        }
    }

    /// Whether it may be asked several questions at once (`wit/batch.wit`).
    pub fn takes_batches(&self) -> bool {
        self.exports.authorize_all.is_some() || self.exports.transform_all.is_some()
    }

    /// Whether calls are made without asking the breaker, which has no reason to refuse or to probe.
    pub(crate) fn is_trusted(&self) -> bool {
        self.breaker.is_closed()
    }

    pub(crate) fn admit(&self) -> Admission {
        let admission = self.breaker.admit(|| self.shared.clock.now_ms());
        if admission == Admission::Probe {
            self.shared.stats.set_breaker_state(BreakerState::HalfOpen);
        }
        admission
    }

    /// Counts a call that ended after so many nanoseconds, and tells the breaker. Where there was no instance nothing ran that took
    /// its time. `answers`: how many it gave, each of which counts as a call of its own; one that failed is one.
    pub(crate) fn conclude(
        &self,
        cell: usize,
        call: Call,
        answers: usize,
        admission: Admission,
        failure: Option<&Failure>,
        ns: u64,
    ) {
        let stats = &self.shared.stats;
        match failure {
            None => {
                stats.count_all(cell, call, answers as u64, Outcome::Ok, Some(ns));
                self.succeeded(admission);
            }
            Some(failure) => {
                stats.count(cell, call, failure.outcome, failure.ran().then_some(ns));
                if failure.is_of_the_message {
                    self.succeeded(admission);
                    self.log_failure(call, failure.outcome, &failure.detail, "");
                } else {
                    self.failed(admission, call, failure.outcome, &failure.detail);
                }
            }
        }
    }

    fn succeeded(&self, admission: Admission) {
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
        self.log_failure(call, outcome, detail, breaker);
    }

    fn log_failure(&self, call: Call, outcome: Outcome, detail: &str, consequence: &str) {
        let line = format!("{} failed ({}): {detail}{consequence}", call.label(), outcome.label());
        self.shared.log.line(tracing::Level::WARN, &line);
    }

    /// Instantiates the component into a new store and calls its `init`.
    pub(crate) fn start(&self, role: Role, init_deadline_ms: u64) -> Result<Live, StartError> {
        let mut store = self.store(role);
        store.data_mut().begin_call();
        store.set_epoch_deadline(init_deadline_ms);
        let instance = guarded(|| self.component.instantiate(&mut store));
        store.data_mut().flush_output();
        let instance = instance.map_err(|error| start_error(&error, store.data().memory.refused))?;
        let functions = self
            .functions(&mut store, &instance)
            .map_err(|error| start_error(&error, store.data().memory.refused))?;
        self.init(&mut store, &instance, init_deadline_ms)?;
        Ok(Live { store, functions })
    }

    /// [`Plugin::start`] for the pool of an asynchronous plugin: its `init` may make requests, too.
    pub(crate) async fn start_in_pool(&self, watch: Option<&Watch>) -> Result<Live, StartError> {
        let mut store = self.store(Role::Pool);
        store.data_mut().watch(watch);
        store.data_mut().begin_computing(self.init_deadline_ms() / EPOCH_MS + 1);
        store.data_mut().begin_call();
        store.set_epoch_deadline(1);
        let instance = self.component.instantiate_async(&mut store).await;
        store.data_mut().flush_output();
        let instance = instance.map_err(|error| start_error(&error, store.data().memory.refused))?;
        let functions = self
            .functions(&mut store, &instance)
            .map_err(|error| start_error(&error, store.data().memory.refused))?;
        let init = self.init_function(&mut store, &instance)?;
        let files = self.file_refs();
        let patience_ms = u64::from(self.limits.http_call_ms).max(self.init_deadline_ms());
        let answer = tokio::time::timeout(
            Duration::from_millis(patience_ms),
            pool::run(&mut store, init, (&self.config_json, &files)),
        );
        let late = |_| Err(Failure::too_late(u32::try_from(patience_ms).unwrap_or(u32::MAX)));
        let answer = answer.await.unwrap_or_else(late).map_err(init_failed)?;
        self.accepted(answer)?;
        Ok(Live { store, functions })
    }

    /// Epochs that a call in the pool may compute, while it does not wait.
    pub(crate) fn computing_epochs(&self) -> u64 {
        u64::from(self.limits.authenticate_call_ms) / EPOCH_MS + 1
    }

    fn file_refs(&self) -> Vec<wire::FileRef<'_>> {
        self.files
            .iter()
            .map(|(name, contents)| wire::FileRef { name, contents })
            .collect()
    }

    fn init_function(
        &self,
        store: &mut Store<Guest>,
        instance: &wasmtime::component::Instance,
    ) -> Result<InitFunction, StartError> {
        let export = self
            .exports
            .init
            .ok_or_else(|| StartError::Instantiate("there is no `init`".to_owned()))?;
        instance
            .get_typed_func(store, export)
            .map_err(|error| StartError::Instantiate(format!("{error:#}")))
    }

    fn store(&self, role: Role) -> Store<Guest> {
        let memory_mib = match role {
            Role::Shard | Role::Background => self.limits.memory_mib,
            Role::Authenticate => self.limits.authenticate_memory_mib,
            Role::Pool if self.has_hook(Hook::Authenticate) => self.limits.authenticate_memory_mib,
            Role::Pool => self.limits.memory_mib,
        };
        let mut guest = Guest::new(Arc::clone(&self.shared), memory_mib as usize * 1024 * 1024);
        if role == Role::Pool {
            guest = guest.with_outside(self.gate.clone());
        }
        let mut store = Store::new(self.host.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        if role == Role::Pool {
            pool::yield_at_epochs(&mut store);
        }
        store.set_hostcall_fuel(self.host.max_answer_bytes());
        store.set_max_component_handles(MAX_COMPONENT_HANDLES);
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
            authorize_all: self.function(store, instance, Call::Authorize, self.exports.authorize_all)?,
            transform: self.function(store, instance, Call::Transform, self.exports.transform)?,
            transform_all: self.function(store, instance, Call::Transform, self.exports.transform_all)?,
            tick: self.function(store, instance, Call::Tick, self.exports.tick)?,
            detect: self.function(store, instance, Call::Detect, self.exports.detect)?,
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
        let in_use = instance::hook(call).is_none_or(|hook| self.has_hook(hook));
        match export.filter(|_| in_use) {
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
        let init = self.init_function(store, instance)?;
        let files = self.file_refs();
        let start = Instant::now();
        let answer = instance::run(store, &init, (&self.config_json, &files), deadline_ms);
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.init_ms.fetch_max(ms.saturating_add(1), Ordering::Relaxed);
        let (answer,) = answer.map_err(init_failed)?;
        self.accepted(answer)
    }

    /// What `init` said.
    fn accepted(&self, answer: InitAnswer) -> Result<(), StartError> {
        let ready = answer.map_err(|words| StartError::Refused(crate::printable::printable(&words)))?;
        if let Some(ms) = ready.tick_milliseconds.filter(|ms| *ms < MIN_TICK_MS) {
            return Err(StartError::Tick(ms));
        }
        self.tick_ms.get_or_init(|| ready.tick_milliseconds);
        Ok(())
    }
}

type InitAnswer = Result<wire::Ready, String>;
type InitFunction = instance::Function<(&'static str, &'static [wire::FileRef<'static>]), InitAnswer>;

fn origins(spec: &PluginSpec) -> impl Iterator<Item = &Origin> {
    spec.grants.iter().filter_map(|grant| match grant {
        Grant::Http(origin) => Some(origin),
        _ => None,
    })
}

/// The pool of a plugin that may make HTTP requests.
fn pool(host: &HostInner, spec: &PluginSpec) -> Result<Option<Pool>, LoadError> {
    if origins(spec).next().is_none() {
        return Ok(None);
    }
    let runtime = host.runtime().handle();
    let runtime = runtime.map_err(|error| LoadError::Http(format!("its threads cannot be started: {error}")))?;
    Ok(Some(Pool::new(runtime, &spec.limits)))
}

fn gate(host: &HostInner, shared: &Shared, spec: &PluginSpec) -> Result<Gate, LoadError> {
    let origins: Arc<[Origin]> = origins(spec).cloned().collect();
    let client = match origins.is_empty() {
        true => None,
        false => {
            let patience = Duration::from_millis(u64::from(spec.limits.http_call_ms));
            let trusts_machine = origins.iter().any(Origin::is_https);
            let client = HttpClient::new(host.http(), spec.limits.http_calls as usize, patience, trusts_machine);
            Some(Arc::new(client.map_err(LoadError::Http)?))
        }
    };
    Ok(Gate::new(origins, client, Arc::clone(&shared.stats)))
}

fn init_failed(failure: Failure) -> StartError {
    StartError::Init {
        outcome: failure.outcome.label(),
        detail: failure.detail,
    }
}

/// `refused_memory`: whether the component begins with more memory than it may have.
fn start_error(error: &wasmtime::Error, refused_memory: bool) -> StartError {
    let text = format!("{error:#}");
    if error.is::<PoolConcurrencyLimitError>() {
        StartError::PoolExhausted(text)
    } else if refused_memory {
        StartError::Instantiate(instance::with_memory_advice(&text))
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
