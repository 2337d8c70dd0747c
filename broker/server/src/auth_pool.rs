//! The workers that authenticate: a bounded queue, and instances of their own, because hashing a password takes long. A question
//! to an asynchronous plugin leaves its worker, and comes back for the next authenticator with the answer.

use crate::driver::{ShardEvent, bounds, busy};
use nervewire_core::fold::{failed_authentication, fold_authentication};
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::hook::{Authentication, CallFailed, Client, Credentials, OnFailure};
use nervewire_core::shard::CallId;
use nervewire_plugin_host::{Instance, Plugin, Question, Reply, Role};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::driver::Shared;

/// One question to the chain of authenticators.
pub(crate) struct Job {
    pub(crate) client: Arc<Client>,
    pub(crate) credentials: Credentials,
    /// Only the authenticator at this position, which challenged before.
    pub(crate) only: Option<usize>,
    pub(crate) reply_to: ReplyTo,
}

/// Where the outcome goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyTo {
    /// A connection that is not let in yet.
    Pending {
        /// Its shard.
        shard: u16,
        /// Its slot there.
        slot: usize,
        /// Tells it from a later one in that slot.
        serial: u64,
    },
    /// A connected client that authenticates again.
    Call {
        /// Its shard.
        shard: u16,
        /// The call that waits there.
        call: CallId,
    },
}

/// The authenticators of one generation, in order.
#[derive(Default)]
pub(crate) struct AuthChain {
    pub(crate) generation: u64,
    pub(crate) links: Vec<(Arc<Plugin>, OnFailure)>,
    /// Whom clients of each listener are judged by, by name; `None`: by all. Of a listener that is gone it is what it was, because
    /// its connections are still there.
    pub(crate) listeners: BTreeMap<Arc<str>, Option<Vec<Arc<str>>>>,
}

impl AuthChain {
    /// Whether clients of a listener are judged by this link.
    fn is_asked(&self, link: &Plugin, listener: &str) -> bool {
        let named = self.listeners.get(listener).and_then(Option::as_ref);
        named.is_none_or(|names| names.iter().any(|name| **name == *link.name()))
    }
}

/// The pool. Its threads end when it is dropped.
pub(crate) struct AuthPool {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    over_bound: AtomicU64,
    replies: OnceLock<Weak<Shared>>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Jobs that go on after an answer from elsewhere.
    steps: VecDeque<Step>,
    chain: Arc<AuthChain>,
    closed: bool,
}

impl AuthPool {
    /// Starts the threads.
    pub(crate) fn start(threads: usize, chain: AuthChain) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                chain: Arc::new(chain),
                ..State::default()
            }),
            wake: Condvar::new(),
            over_bound: AtomicU64::new(0),
            replies: OnceLock::new(),
        });
        for number in 0..threads {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(format!("authenticate-{number}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self { queue })
    }

    /// Says where outcomes go, before the first job.
    pub(crate) fn reply_through(&self, shared: &Arc<Shared>) {
        let _ = self.queue.replies.set(Arc::downgrade(shared)); // Set once, at start.
    }

    /// Queues a job. `Some`: the outcome is known at once, because there is nobody to ask or the queue is full.
    pub(crate) fn submit(&self, job: Job) -> Option<ChainOutcome> {
        let mut state = self.queue.lock();
        if state.chain.links.is_empty() {
            return Some(ChainOutcome {
                answer: Authentication::Abstain,
                authenticator: 0,
                failed: false,
            });
        }
        if state.jobs.len() >= bounds::AUTHENTICATION_QUEUE {
            self.queue.over_bound.fetch_add(1, Ordering::Relaxed);
            return Some(busy());
        }
        state.jobs.push_back(job);
        drop(state);
        self.queue.wake.notify_one();
        None
    }

    /// The authenticators from now on; a job that is being worked on ends with those it began with.
    pub(crate) fn swap(&self, mut chain: AuthChain) {
        let mut state = self.queue.lock();
        for (listener, named) in &state.chain.listeners {
            if named.is_some() && !chain.listeners.contains_key(listener) {
                chain.listeners.insert(listener.clone(), named.clone());
            }
        }
        state.chain = Arc::new(chain);
    }

    /// Whether clients of a listener are judged by all authenticators.
    pub(crate) fn asks_all(&self, listener: &str) -> bool {
        let named = |chain: &AuthChain| chain.listeners.get(listener).is_some_and(Option::is_some);
        !named(&self.queue.lock().chain)
    }

    /// Jobs refused because the queue was full.
    pub(crate) fn over_bound(&self) -> u64 {
        self.queue.over_bound.load(Ordering::Relaxed)
    }
}

impl Drop for AuthPool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_all();
    }
}

/// A job on its way along the chain that it began with.
struct Step {
    job: Job,
    chain: Arc<AuthChain>,
    /// The position to ask next.
    link: usize,
}

impl Step {
    /// The next authenticator that is to be asked, and how its failures count.
    fn next(&mut self) -> Option<(Arc<Plugin>, OnFailure)> {
        loop {
            if let Some(only) = self.job.only {
                // Behind it there is nobody to ask.
                self.link = if self.link <= only { only } else { usize::MAX };
            }
            let link = self.chain.links.get(self.link)?;
            if self.chain.is_asked(&link.0, &self.job.client.listener) {
                return Some(link.clone());
            }
            self.link = self.link.saturating_add(1);
        }
    }

    /// The outcome, if this answer is one; else the next authenticator's turn comes.
    fn hear(&mut self, answer: Result<Authentication, CallFailed>, on_failure: OnFailure) -> Option<ChainOutcome> {
        let authenticator = self.link;
        self.link = self.link.saturating_add(1);
        let failed = answer.is_err();
        let answer = fold_authentication(answer, on_failure)?;
        Some(ChainOutcome {
            answer,
            authenticator,
            failed,
        })
    }

    /// Nobody decided.
    fn undecided(&self) -> ChainOutcome {
        // The authenticator that challenged is gone, or it abstains in the middle of its own exchange.
        let answer = match self.job.only {
            Some(_) => failed_authentication(OnFailure::Deny),
            None => Authentication::Abstain,
        };
        ChainOutcome {
            answer,
            authenticator: 0,
            failed: false,
        }
    }

    fn question(&self) -> Question {
        Question::Authenticate {
            client: self.job.client.clone(),
            credentials: self.job.credentials.clone(),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next step of a job; `None`: the pool is closed.
    fn next(&self) -> Option<Step> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            // Those that are on their way first: they have waited longer, and are bounded by their plugins' queues.
            if let Some(step) = state.steps.pop_front() {
                return Some(step);
            }
            if let Some(job) = state.jobs.pop_front() {
                let chain = state.chain.clone();
                return Some(Step { job, chain, link: 0 });
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job goes on after an answer from elsewhere.
    fn go_on(&self, step: Step) {
        self.lock().steps.push_back(step);
        self.wake.notify_one();
    }

    fn reply(&self, to: ReplyTo, outcome: ChainOutcome) {
        let Some(shared) = self.replies.get().and_then(Weak::upgrade) else {
            return;
        };
        match to {
            ReplyTo::Pending { shard, slot, serial } => {
                shared
                    .mesh
                    .send(shard, ShardEvent::Authenticated(slot, serial, outcome));
            }
            ReplyTo::Call { shard, call } => shared.mesh.send(shard, ShardEvent::Reauthenticated(call, outcome)),
        }
    }
}

/// One worker.
fn work(queue: &Arc<Queue>) {
    let mut instances = Instances::default();
    while let Some(step) = queue.next() {
        advance(queue, &mut instances, step);
    }
}

/// Asks one authenticator after the other, until one decides, or until an answer is awaited from elsewhere.
fn advance(queue: &Arc<Queue>, instances: &mut Instances, mut step: Step) {
    while let Some((plugin, on_failure)) = step.next() {
        if plugin.is_asynchronous() {
            return ask(queue, step, &plugin, on_failure);
        }
        let answer = instances.authenticate(&step.chain, &plugin, &step.job);
        if let Some(outcome) = step.hear(answer, on_failure) {
            return queue.reply(step.job.reply_to, outcome);
        }
    }
    queue.reply(step.job.reply_to, step.undecided());
}

fn ask(queue: &Arc<Queue>, step: Step, plugin: &Arc<Plugin>, on_failure: OnFailure) {
    let (question, reply_to) = (step.question(), step.job.reply_to);
    let back = queue.clone();
    let submitted = plugin.submit(question, move |reply| answered(&back, step, reply, on_failure));
    if submitted.is_err() {
        // Not judged by `on_failure`: nobody gets in because many want to.
        queue.reply(reply_to, busy());
    }
}

fn answered(queue: &Queue, mut step: Step, reply: Reply, on_failure: OnFailure) {
    let answer = match reply {
        Reply::Authenticate(answer) => answer,
        _ => Err(CallFailed),
    };
    match step.hear(answer, on_failure) {
        Some(outcome) => queue.reply(step.job.reply_to, outcome),
        None => queue.go_on(step),
    }
}

/// The instances of one worker: each plugin's is kept as long as the latest chain has it.
#[derive(Default)]
struct Instances {
    generation: u64,
    warm: Vec<Instance>,
}

impl Instances {
    fn authenticate(
        &mut self,
        chain: &AuthChain,
        plugin: &Arc<Plugin>,
        job: &Job,
    ) -> Result<Authentication, CallFailed> {
        if self.generation < chain.generation {
            self.generation = chain.generation;
            let is_in_chain = |instance: &Instance| chain.links.iter().any(|(plugin, _)| is_of(instance, plugin));
            self.warm.retain(is_in_chain);
        }
        let known = self.warm.iter_mut().find(|instance| is_of(instance, plugin));
        if let Some(instance) = known {
            return instance.authenticate(&job.client, &job.credentials);
        }
        let mut instance = plugin.instance(Role::Authenticate).map_err(|error| {
            tracing::error!(plugin = plugin.name(), %error, "no instance to authenticate with");
            CallFailed
        })?;
        let answer = instance.authenticate(&job.client, &job.credentials);
        // What an earlier chain had is not asked again soon.
        if self.generation == chain.generation {
            self.warm.push(instance);
        }
        answer
    }
}

fn is_of(instance: &Instance, plugin: &Arc<Plugin>) -> bool {
    Arc::ptr_eq(instance.plugin(), plugin)
}
