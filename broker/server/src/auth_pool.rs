//! The workers that authenticate: a bounded queue, and instances of their own, because hashing a password takes long.

use crate::driver::{ShardEvent, bounds, busy};
use nervewire_core::fold::{failed_authentication, fold_authentication};
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::hook::{Authentication, CallFailed, Client, Credentials, OnFailure};
use nervewire_core::shard::CallId;
use nervewire_plugin_host::{Instance, Plugin, Role};
use std::collections::VecDeque;
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
    pub(crate) fn swap(&self, chain: AuthChain) {
        self.queue.lock().chain = Arc::new(chain);
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

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job and the chain that decides it; `None`: the pool is closed.
    fn next(&self) -> Option<(Job, Arc<AuthChain>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some((job, state.chain.clone()));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
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

/// One worker: its instances are made anew when the generation changes.
fn work(queue: &Queue) {
    let mut instances = Instances::default();
    while let Some((job, chain)) = queue.next() {
        let outcome = decide(&chain, &mut instances, &job);
        queue.reply(job.reply_to, outcome);
    }
}

#[derive(Default)]
struct Instances {
    generation: u64,
    by_link: Vec<Option<Instance>>,
}

impl Instances {
    /// The instance of one link; made at its first use.
    fn get(&mut self, chain: &AuthChain, link: usize) -> Option<&mut Instance> {
        if self.generation != chain.generation {
            self.generation = chain.generation;
            self.by_link.clear();
        }
        self.by_link.resize_with(chain.links.len(), || None);
        let slot = self.by_link.get_mut(link)?;
        if slot.is_none() {
            let (plugin, _) = chain.links.get(link)?;
            *slot = plugin
                .instance(Role::Authenticate)
                .inspect_err(
                    |error| tracing::error!(plugin = plugin.name(), %error, "no instance to authenticate with"),
                )
                .ok();
        }
        slot.as_mut()
    }
}

fn decide(chain: &AuthChain, instances: &mut Instances, job: &Job) -> ChainOutcome {
    let links = chain.links.iter().enumerate();
    for (link, (_, on_failure)) in links.filter(|(link, _)| job.only.is_none_or(|only| only == *link)) {
        let answer = match instances.get(chain, link) {
            Some(instance) => instance.authenticate(&job.client, &job.credentials),
            None => Err(CallFailed),
        };
        if let Some(answer) = fold_authentication(answer, *on_failure) {
            return ChainOutcome {
                answer,
                authenticator: link,
            };
        }
    }
    // The authenticator that challenged is gone, or it abstains in the middle of its own exchange.
    let answer = match job.only {
        Some(_) => failed_authentication(OnFailure::Deny),
        None => Authentication::Abstain,
    };
    ChainOutcome {
        answer,
        authenticator: 0,
    }
}
