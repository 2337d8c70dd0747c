//! Plugins in shadow mode are asked on a thread of their own: what they do, and however long they take, nobody waits for it.

mod diff;
mod exchange;
mod login;

pub(crate) use diff::{diff, reset};
pub(crate) use login::{Login, Watched};

use crate::driver::{ShardEvent, Shared, busy};
use crate::generation::{self, LoadedPlugin};
use anyhow::{Context, Result, bail};
use exchange::Exchanges;
use login::Logins;
use nervewire_core::hook::{Authentication, CallFailed, Client, Credentials};
use nervewire_core::limits::MAX_SHADOW_COMPARISONS;
use nervewire_core::policy::{Place, Policy, Shadow};
use nervewire_core::shadow::{Differences, ShadowAnswer, ShadowCall, ShadowQuestion};
use nervewire_plugin_host::{Hook, Instance, Plugin, Question, Reply, Role};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// The plugins in shadow mode as the policy knows them, in the order of the configuration.
///
/// # Errors
/// A plugin that has nothing in common with the one in whose place it is to be judged.
pub(crate) fn shadows(plugins: &[LoadedPlugin]) -> Result<Vec<Shadow>> {
    let in_shadow = plugins.iter().enumerate().filter(|(_, loaded)| !loaded.is_enforced());
    in_shadow.map(|(at, loaded)| shadow(plugins, at, loaded)).collect()
}

fn shadow(plugins: &[LoadedPlugin], at: usize, loaded: &LoadedPlugin) -> Result<Shadow> {
    let name = &loaded.settings.name;
    let hooks = [Hook::Authenticate, Hook::Authorize, Hook::Transform];
    if let Some(other) = &loaded.settings.shadow_of {
        let original = plugins.iter().find(|plugin| plugin.settings.name == *other);
        let original = original.with_context(|| format!("plugin \"{name}\": there is no plugin \"{other}\""))?;
        let in_common = |hook: &&Hook| loaded.plugin.has_hook(**hook) && original.plugin.has_hook(**hook);
        if !hooks.iter().any(|hook| in_common(&hook)) {
            bail!(
                "plugin \"{name}\": shadow_of = \"{other}\", which has none of its hooks; write the name of a plugin with \
                 one of {}",
                names(loaded)
            );
        }
    }
    let authorizes = loaded.plugin.has_hook(Hook::Authorize);
    let transforms = loaded.plugin.has_hook(Hook::Transform);
    Ok(Shadow {
        name: name.clone(),
        since: loaded.since,
        authorizes: match authorizes {
            true => Some((generation::authorizer(loaded)?, place(plugins, at, Hook::Authorize))),
            false => None,
        },
        transforms: match transforms {
            true => Some((generation::transform(loaded)?, place(plugins, at, Hook::Transform))),
            false => None,
        },
    })
}

fn names(loaded: &LoadedPlugin) -> String {
    let names: Vec<_> = loaded.plugin.hooks().iter().map(|hook| hook.name()).collect();
    names.join(", ")
}

/// Where a plugin would stand in the chain of a hook.
pub(crate) fn place(plugins: &[LoadedPlugin], at: usize, hook: Hook) -> Place {
    let obeyed = |loaded: &&LoadedPlugin| loaded.is_enforced() && loaded.plugin.has_hook(hook);
    let before = |at: usize| plugins.iter().take(at).filter(obeyed).count();
    let original = plugins.get(at).and_then(|loaded| loaded.settings.shadow_of.as_ref());
    let original = original.and_then(|name| plugins.iter().position(|plugin| plugin.settings.name == *name));
    match original {
        Some(original) if plugins.get(original).is_some_and(|plugin| obeyed(&plugin)) => {
            Place::InsteadOf(before(original))
        }
        Some(original) => Place::Before(before(original)),
        None => Place::Before(before(at)),
    }
}

/// Who is asked for the comparisons of one generation.
#[derive(Default)]
pub(crate) struct ShadowPlugins {
    generation: u64,
    /// By their position in [`Policy::shadows`].
    shadows: Vec<Arc<Plugin>>,
    /// By their position in [`Policy::authorizers`].
    authorizers: Vec<Arc<Plugin>>,
    logins: Logins,
}

impl ShadowPlugins {
    pub(crate) fn new(policy: &Policy, plugins: &[LoadedPlugin]) -> Self {
        let plugin = |loaded: &LoadedPlugin| loaded.plugin.clone();
        let authorizes = |loaded: &&LoadedPlugin| loaded.is_enforced() && loaded.plugin.has_hook(Hook::Authorize);
        Self {
            generation: policy.generation,
            shadows: plugins
                .iter()
                .filter(|loaded| !loaded.is_enforced())
                .map(plugin)
                .collect(),
            authorizers: plugins.iter().filter(authorizes).map(plugin).collect(),
            logins: Logins::new(plugins),
        }
    }

    fn plugin(&self, call: &ShadowCall) -> Option<&Arc<Plugin>> {
        match call {
            ShadowCall::Rules { shadow, .. } | ShadowCall::Transform { shadow, .. } => self.shadows.get(*shadow),
            ShadowCall::Authorize { shadow, authorizer, .. } => match shadow {
                Some(shadow) => self.shadows.get(*shadow),
                None => self.authorizers.get(*authorizer),
            },
        }
    }
}

enum Job {
    Question(u16, ShadowQuestion),
    Login(Box<Login>),
}

/// The thread, and what waits for it. It is started with the first plugin in shadow mode.
#[derive(Default)]
pub(crate) struct ShadowPool {
    queue: Arc<Queue>,
    started: OnceLock<()>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Some plugin in shadow mode authenticates.
    watches_logins: AtomicBool,
    /// What was seen of those.
    logins: Mutex<Vec<Differences>>,
    over_bound: AtomicU64,
    wake: Condvar,
    replies: OnceLock<Weak<Shared>>,
}

#[derive(Default)]
struct State {
    /// Bounded by the comparisons that may wait on each shard.
    questions: VecDeque<(u16, ShadowQuestion)>,
    logins: VecDeque<Login>,
    plugins: Arc<ShadowPlugins>,
    closed: bool,
}

impl ShadowPool {
    /// Says where answers go, before the first question.
    pub(crate) fn reply_through(&self, shared: &Arc<Shared>) {
        let _ = self.queue.replies.set(Arc::downgrade(shared)); // Set once, at start.
    }

    /// The plugins from now on; questions of an earlier generation are forgotten, as are its comparisons.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn swap(&self, plugins: ShadowPlugins) -> Result<()> {
        let is_needed = !plugins.shadows.is_empty();
        let watched = plugins.logins.is_watched();
        self.queue.watches_logins.store(watched, Ordering::Relaxed);
        {
            let mut known = self.queue.logins();
            let before = std::mem::take(&mut *known);
            *known = plugins.logins.succeed(before);
        }
        self.queue.lock().plugins = Arc::new(plugins);
        if is_needed && self.started.set(()).is_ok() {
            let queue = self.queue.clone();
            let thread = std::thread::Builder::new().name("shadow".to_owned());
            let thread = thread.spawn(move || work(&queue));
            thread.context("the thread for plugins in shadow mode cannot be started")?;
        }
        Ok(())
    }

    /// Whether logins are to be compared.
    pub(crate) fn watches_logins(&self) -> bool {
        self.queue.watches_logins.load(Ordering::Relaxed)
    }

    /// Compares a login, unless too many wait already, or it was refused because the broker was busy.
    pub(crate) fn watch(&self, login: Login) {
        if login.outcome == busy() {
            return;
        }
        let mut state = self.queue.lock();
        if state.logins.len() >= MAX_SHADOW_COMPARISONS {
            self.queue.over_bound.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.logins.push_back(login);
        drop(state);
        self.queue.wake.notify_one();
    }

    /// Logins that were not compared.
    pub(crate) fn over_bound(&self) -> u64 {
        self.queue.over_bound.load(Ordering::Relaxed)
    }

    /// What was seen of logins.
    pub(crate) fn logins(&self) -> Vec<Differences> {
        self.queue.logins().clone()
    }

    /// Forgets what was seen of logins, of one plugin; whether it is in shadow mode and authenticates.
    pub(crate) fn reset_logins(&self, plugin: &str) -> bool {
        let mut known = self.queue.logins();
        let known = known.iter_mut().find(|known| *known.plugin == *plugin);
        known.map(Differences::reset).is_some()
    }

    /// Asks for a shard.
    pub(crate) fn submit(&self, shard: u16, question: ShadowQuestion) {
        self.queue.lock().questions.push_back((shard, question));
        self.queue.wake.notify_one();
    }
}

impl Drop for ShadowPool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logins(&self) -> MutexGuard<'_, Vec<Differences>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(Job, Arc<ShadowPlugins>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some((shard, question)) = state.questions.pop_front() {
                return Some((Job::Question(shard, question), state.plugins.clone()));
            }
            if let Some(login) = state.logins.pop_front() {
                return Some((Job::Login(Box::new(login)), state.plugins.clone()));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn reply(&self, shard: u16, id: u64, answer: Option<ShadowAnswer>) {
        if let Some(shared) = self.replies.get().and_then(Weak::upgrade) {
            shared.mesh.send(shard, ShardEvent::Shadow(id, answer));
        }
    }
}

/// The thread: its instances are made anew when the generation changes.
fn work(queue: &Arc<Queue>) {
    let (mut instances, mut exchanges) = (Instances::default(), Exchanges::default());
    while let Some((job, plugins)) = queue.next() {
        let (shard, question) = match job {
            Job::Question(shard, question) => (shard, question),
            Job::Login(login) => {
                compare_login(queue, &mut instances, &mut exchanges, &plugins, &login);
                continue;
            }
        };
        let plugin = plugins
            .plugin(&question.call)
            .filter(|_| question.generation == plugins.generation);
        match plugin {
            Some(plugin) if plugin.is_asynchronous() => ask_in_pool(queue, shard, question, plugin),
            Some(plugin) => {
                let answer = instances.answer(plugins.generation, plugin, &question.call);
                queue.reply(shard, question.id, Some(answer));
            }
            None => queue.reply(shard, question.id, None),
        }
    }
}

fn compare_login(
    queue: &Queue,
    instances: &mut Instances,
    exchanges: &mut Exchanges,
    plugins: &ShadowPlugins,
    login: &Login,
) {
    let Some(now) = queue
        .replies
        .get()
        .and_then(Weak::upgrade)
        .map(|shared| shared.clock.now())
    else {
        return;
    };
    instances.keep_generation(plugins.generation);
    exchanges.keep_generation(plugins.generation);
    let ask = |plugin: &Arc<Plugin>, credentials: &Credentials| {
        instances.authenticate(plugin, &login.watched.client, credentials)
    };
    plugins.logins.compare(login, exchanges, ask, |position, difference| {
        if let Some(known) = queue.logins().get_mut(position) {
            login::enter(known, now, &login.watched.client, difference);
        }
    });
    let forgotten = exchanges.take_over_bound();
    queue.over_bound.fetch_add(forgotten, Ordering::Relaxed);
}

/// Such a plugin may wait for others: it answers when it has.
fn ask_in_pool(queue: &Arc<Queue>, shard: u16, question: ShadowQuestion, plugin: &Arc<Plugin>) {
    let (id, replies) = (question.id, queue.clone());
    let call = match question.call {
        ShadowCall::Rules { client, .. } => Question::Rules { client },
        ShadowCall::Authorize { client, request, .. } => Question::Authorize { client, request },
        ShadowCall::Transform { client, message, .. } => Question::Transform { client, message },
    };
    let submitted = plugin.submit(call, move |reply| {
        let answer = match reply {
            Reply::Rules(answer) => Some(ShadowAnswer::Rules(answer)),
            Reply::Authorize(answer) => Some(ShadowAnswer::Authorize(answer)),
            Reply::Transform(answer) => Some(ShadowAnswer::Transform(answer)),
            _ => None,
        };
        replies.reply(shard, id, answer);
    });
    if submitted.is_err() {
        queue.reply(shard, id, None);
    }
}

#[derive(Default)]
struct Instances {
    generation: u64,
    of: Vec<(Arc<Plugin>, Role, Instance)>,
}

impl Instances {
    fn answer(&mut self, generation: u64, plugin: &Arc<Plugin>, call: &ShadowCall) -> ShadowAnswer {
        self.keep_generation(generation);
        match (call, self.get(plugin, Role::Shard)) {
            (ShadowCall::Rules { client, .. }, Some(instance)) => ShadowAnswer::Rules(instance.rules(client)),
            (ShadowCall::Rules { .. }, None) => ShadowAnswer::Rules(Err(CallFailed)),
            (ShadowCall::Authorize { client, request, .. }, Some(instance)) => {
                ShadowAnswer::Authorize(instance.authorize(client, request))
            }
            (ShadowCall::Authorize { .. }, None) => ShadowAnswer::Authorize(Err(CallFailed)),
            (ShadowCall::Transform { client, message, .. }, Some(instance)) => {
                ShadowAnswer::Transform(instance.transform(client, message))
            }
            (ShadowCall::Transform { .. }, None) => ShadowAnswer::Transform(Err(CallFailed)),
        }
    }

    fn authenticate(
        &mut self,
        plugin: &Arc<Plugin>,
        client: &Arc<Client>,
        credentials: &Credentials,
    ) -> Result<Authentication, CallFailed> {
        if plugin.is_asynchronous() {
            let (client, credentials) = (client.clone(), credentials.clone());
            return match plugin.ask(Question::Authenticate { client, credentials }) {
                Reply::Authenticate(answer) => answer,
                _ => Err(CallFailed),
            };
        }
        let instance = self.get(plugin, Role::Authenticate).ok_or(CallFailed)?;
        instance.authenticate(client, credentials)
    }

    fn keep_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.of.clear();
        }
    }

    /// Made at its first use.
    fn get(&mut self, plugin: &Arc<Plugin>, role: Role) -> Option<&mut Instance> {
        let is_it = |(known, its, _): &(Arc<Plugin>, Role, Instance)| Arc::ptr_eq(known, plugin) && *its == role;
        let at = self.of.iter().position(is_it);
        let at = match at {
            Some(at) => at,
            None => {
                let instance = plugin.instance(role).inspect_err(
                    |error| tracing::error!(plugin = plugin.name(), %error, "no instance for comparisons"),
                );
                self.of.push((plugin.clone(), role, instance.ok()?));
                self.of.len() - 1
            }
        };
        self.of.get_mut(at).map(|(_, _, instance)| instance)
    }
}
