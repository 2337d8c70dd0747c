//! Plugins in shadow mode are asked on a thread of their own: what they do, and however long they take, nobody waits for it.

mod diff;

pub(crate) use diff::{diff, reset};

use crate::driver::{ShardEvent, Shared};
use crate::generation::{self, LoadedPlugin};
use anyhow::{Context, Result, bail};
use nervewire_core::hook::CallFailed;
use nervewire_core::policy::{Place, Policy, Shadow};
use nervewire_core::shadow::{ShadowAnswer, ShadowCall, ShadowQuestion};
use nervewire_plugin_host::{Hook, Instance, Plugin, Question, Reply, Role};
use std::collections::VecDeque;
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
    if loaded.plugin.has_hook(Hook::Authenticate) {
        bail!(
            "plugin \"{name}\": the hook authenticate is not compared in this version; write hooks = [\"authorize\"] or \
             hooks = [\"transform\"], or mode = \"enforce\""
        );
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

/// The thread, and what waits for it. It is started with the first plugin in shadow mode.
#[derive(Default)]
pub(crate) struct ShadowPool {
    queue: Arc<Queue>,
    started: OnceLock<()>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    replies: OnceLock<Weak<Shared>>,
}

#[derive(Default)]
struct State {
    /// Bounded by the comparisons that may wait on each shard.
    questions: VecDeque<(u16, ShadowQuestion)>,
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
        self.queue.lock().plugins = Arc::new(plugins);
        if is_needed && self.started.set(()).is_ok() {
            let queue = self.queue.clone();
            let thread = std::thread::Builder::new().name("shadow".to_owned());
            let thread = thread.spawn(move || work(&queue));
            thread.context("the thread for plugins in shadow mode cannot be started")?;
        }
        Ok(())
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

    fn next(&self) -> Option<(u16, ShadowQuestion, Arc<ShadowPlugins>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some((shard, question)) = state.questions.pop_front() {
                return Some((shard, question, state.plugins.clone()));
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
    let mut instances = Instances::default();
    while let Some((shard, question, plugins)) = queue.next() {
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
    of: Vec<(Arc<Plugin>, Instance)>,
}

impl Instances {
    fn answer(&mut self, generation: u64, plugin: &Arc<Plugin>, call: &ShadowCall) -> ShadowAnswer {
        if self.generation != generation {
            self.generation = generation;
            self.of.clear();
        }
        match (call, self.get(plugin)) {
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

    /// Made at its first use.
    fn get(&mut self, plugin: &Arc<Plugin>) -> Option<&mut Instance> {
        let at = self.of.iter().position(|(known, _)| Arc::ptr_eq(known, plugin));
        let at = match at {
            Some(at) => at,
            None => {
                let instance = plugin.instance(Role::Shard).inspect_err(
                    |error| tracing::error!(plugin = plugin.name(), %error, "no instance for comparisons"),
                );
                self.of.push((plugin.clone(), instance.ok()?));
                self.of.len() - 1
            }
        };
        self.of.get_mut(at).map(|(_, instance)| instance)
    }
}
