//! The calls of an asynchronous plugin: as many at a time as it has instances, a bounded queue before them, a deadline on the wall
//! clock for each. Nobody waits for one but whoever asked.

use crate::answer;
use crate::breaker::Admission;
use crate::call_arena::{CallArena, Place};
use crate::guest::Guest;
use crate::instance::{Failure, Function, Functions, Live};
use crate::plugin::Plugin;
use crate::question::{self, ClientFacts};
use crate::spec::Limits;
use crate::stats::{Call, Outcome};
use crate::watch::{Watch, Watched};
use nervewire_core::hook::{
    AppMessage, Authentication, CallFailed, Client, Credentials, Finding, Request, Rule, Transformation, Verdict,
    Window,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Lift, Lower};

/// A question to an asynchronous plugin, with everything it needs while nobody holds the original.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Question {
    Authenticate {
        client: Arc<Client>,
        credentials: Credentials,
    },
    Rules {
        client: Arc<Client>,
    },
    Authorize {
        client: Arc<Client>,
        request: Request,
    },
    Transform {
        client: Arc<Client>,
        message: AppMessage,
    },
    Tick {
        now_unix_ms: u64,
    },
    Detect {
        windows: Vec<Window>,
    },
}

/// The answer to a [`Question`] of the same name.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Reply {
    Authenticate(Result<Authentication, CallFailed>),
    Rules(Result<Option<Vec<Rule>>, CallFailed>),
    Authorize(Result<Verdict, CallFailed>),
    Transform(Result<Transformation, CallFailed>),
    Tick(Result<Vec<AppMessage>, CallFailed>),
    Detect(Result<Vec<Finding>, CallFailed>),
}

/// Too many calls wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many calls of the plugin wait already")]
pub struct Busy;

impl Question {
    fn call(&self) -> Call {
        match self {
            Self::Authenticate { .. } => Call::Authenticate,
            Self::Rules { .. } => Call::Rules,
            Self::Authorize { .. } => Call::Authorize,
            Self::Transform { .. } => Call::Transform,
            Self::Tick { .. } => Call::Tick,
            Self::Detect { .. } => Call::Detect,
        }
    }

    /// The answer where there is none.
    pub fn failed(&self) -> Reply {
        match self {
            Self::Authenticate { .. } => Reply::Authenticate(Err(CallFailed)),
            Self::Rules { .. } => Reply::Rules(Err(CallFailed)),
            Self::Authorize { .. } => Reply::Authorize(Err(CallFailed)),
            Self::Transform { .. } => Reply::Transform(Err(CallFailed)),
            Self::Tick { .. } => Reply::Tick(Err(CallFailed)),
            Self::Detect { .. } => Reply::Detect(Err(CallFailed)),
        }
    }
}

/// What the calls of one generation of an asynchronous plugin share.
pub(crate) struct Pool {
    runtime: Handle,
    state: Mutex<State>,
    max_calls: usize,
    max_waiting: usize,
}

#[derive(Default)]
struct State {
    /// The last one that worked is the first to work again.
    idle: Vec<Warm>,
    waiting: VecDeque<Job>,
    running: usize,
}

/// An instance that waits for its next call.
pub(crate) struct Warm {
    live: Live,
    cell: usize,
}

struct Job {
    question: Question,
    reply: Box<dyn FnOnce(Reply) + Send>,
}

impl Pool {
    pub(crate) fn new(runtime: Handle, limits: &Limits) -> Self {
        Self {
            runtime,
            state: Mutex::default(),
            max_calls: limits.http_calls as usize,
            max_waiting: limits.http_queue_calls as usize,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job in, and says whether it is to be started now, with an instance if there is one.
    fn take_in(&self, job: Job) -> Result<Option<(Job, Option<Warm>)>, Busy> {
        let mut state = self.lock();
        if state.running < self.max_calls {
            state.running += 1;
            let warm = state.idle.pop();
            return Ok(Some((job, warm)));
        }
        if state.waiting.len() >= self.max_waiting {
            return Err(Busy);
        }
        state.waiting.push_back(job);
        Ok(None)
    }

    /// A call has ended: the next one, with an instance, or the end of it.
    fn next(&self, warm: Option<Warm>) -> Option<(Job, Option<Warm>)> {
        let mut state = self.lock();
        match state.waiting.pop_front() {
            Some(job) => Some((job, warm.or_else(|| state.idle.pop()))),
            None => {
                state.running -= 1;
                state.idle.extend(warm);
                None
            }
        }
    }
}

impl Plugin {
    /// Whether it is called in its pool, because a call may wait for a backend.
    pub fn is_asynchronous(&self) -> bool {
        self.pool.is_some()
    }

    /// Asks an asynchronous plugin. `reply` is called with the answer, from another thread, and must not wait.
    ///
    /// # Errors
    /// [`Busy`] where too many calls wait; then `reply` is dropped.
    pub fn submit(
        self: &Arc<Self>,
        question: Question,
        reply: impl FnOnce(Reply) + Send + 'static,
    ) -> Result<(), Busy> {
        let Some(pool) = &self.pool else {
            reply(question.failed());
            return Ok(());
        };
        let reply = Box::new(reply);
        match pool.take_in(Job { question, reply }) {
            Ok(Some((job, warm))) => {
                pool.runtime.spawn(serve(Arc::clone(self), job, warm));
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(busy) => {
                self.stats().exceed_queue();
                Err(busy)
            }
        }
    }

    /// Asks an asynchronous plugin and waits for its answer: for tools, never on a thread that serves anybody.
    pub fn ask(self: &Arc<Self>, question: Question) -> Reply {
        let failed = question.failed();
        let (sender, answer) = sync_channel(1);
        // Whoever asked may be gone.
        let submitted = self.submit(question, move |reply| drop(sender.send(reply)));
        submitted.ok().and_then(|()| answer.recv().ok()).unwrap_or(failed)
    }

    /// Makes a first instance, to see that it works, and keeps it warm. Waits for it.
    pub(crate) fn warm_up(self: &Arc<Self>, pool: &Pool) -> Result<(), crate::StartError> {
        let (sender, outcome) = sync_channel(1);
        let plugin = Arc::clone(self);
        pool.runtime.spawn(async move {
            let live = plugin.start_in_pool(None).await;
            // Whoever asked waits.
            let _ = sender.send(live);
        });
        let ended = || crate::StartError::Instantiate("the threads of asynchronous plugins have ended".to_owned());
        let live = outcome.recv().map_err(|_| ended())??;
        let cell = self.stats().cell();
        pool.lock().idle.push(Warm { live, cell });
        Ok(())
    }
}

/// Serves one job after the other until none waits.
async fn serve(plugin: Arc<Plugin>, job: Job, warm: Option<Warm>) {
    let mut next = Some((job, warm));
    while let Some((job, warm)) = next {
        let Job { question, reply } = job;
        let failed = question.failed();
        let call = question.call();
        // In a task of its own: a panic in one of our host functions ends there, and counts as a trap.
        let answer = tokio::spawn(attempt(Arc::clone(&plugin), question, warm)).await;
        let (answer, warm) = answer.unwrap_or_else(|_| {
            let cell = plugin.stats().cell();
            plugin.stats().count(cell, call, Outcome::Trap, None);
            plugin.failed(Admission::Pass, call, Outcome::Trap, "a host function panicked");
            (failed, None)
        });
        reply(answer);
        next = plugin.pool.as_ref().and_then(|pool| pool.next(warm));
    }
}

/// One call, counted and watched by the breaker. The instance comes back where it can be called again.
async fn attempt(plugin: Arc<Plugin>, question: Question, warm: Option<Warm>) -> (Reply, Option<Warm>) {
    let call = question.call();
    let stats = plugin.stats();
    let cell = warm.as_ref().map_or_else(|| stats.cell(), |warm| warm.cell);
    let admission = plugin.admit();
    if admission == Admission::Refuse {
        stats.count(cell, call, Outcome::Breaker, None);
        plugin.show_pooled(&question, Err(Outcome::Breaker), 0, &Watched::default());
        return (question.failed(), warm);
    }
    let start = Instant::now();
    let mut live = warm.map(|warm| warm.live);
    let patience = Duration::from_millis(u64::from(plugin.limits().http_call_ms));
    let watch = plugin.tap().map(|_| Watch::default());
    let answer = tokio::time::timeout(patience, asked(&plugin, &question, &mut live, watch.as_ref())).await;
    let answer = answer.unwrap_or_else(|_| Err(Failure::too_late(plugin.limits().http_call_ms)));
    let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if let Some(watch) = watch {
        let outcome = answer.as_ref().map_err(|failure| failure.outcome);
        plugin.show_pooled(&question, outcome, ns, &watch.take());
    }
    plugin.conclude(cell, call, 1, admission, answer.as_ref().err(), ns);
    match answer {
        Ok(reply) => (reply, live.map(|live| Warm { live, cell })),
        Err(failure) => {
            if let Some(mut live) = live.filter(|_| failure.ran()) {
                // Dead: it was left in the middle of a call, or nobody knows what it is like.
                live.store.data_mut().flush_output();
                stats.replace_instance();
            }
            (question.failed(), None)
        }
    }
}

/// The answer of an instance, which is made where there is none.
async fn asked(
    plugin: &Plugin,
    question: &Question,
    live: &mut Option<Live>,
    watch: Option<&Watch>,
) -> Result<Reply, Failure> {
    let live = match live {
        Some(live) => live,
        empty => {
            let made = plugin.start_in_pool(watch).await.map_err(Failure::unavailable)?;
            empty.insert(made)
        }
    };
    let Live { store, functions } = live;
    store.data_mut().begin_computing(plugin.computing_epochs());
    store.data_mut().watch(watch);
    let max_message_bytes = plugin.max_message_bytes();
    // What such a call costs is the backend's time.
    let arena = &CallArena::new(Place::Nowhere);
    let reply = match question {
        Question::Authenticate { client, credentials } => {
            let facts = ClientFacts::new(client);
            let params = arena.passed((facts.lower(arena), question::credentials(credentials)));
            let answer = run(store, hook(functions, |f| f.authenticate)?, params).await?;
            Reply::Authenticate(Ok(answer::authentication(answer).map_err(Failure::invalid)?))
        }
        Question::Rules { client } => {
            let facts = ClientFacts::new(client);
            let answer = run(
                store,
                hook(functions, |f| f.rules)?,
                arena.passed((facts.lower(arena),)),
            )
            .await?;
            Reply::Rules(Ok(answer::rules(answer).map_err(Failure::invalid)?))
        }
        Question::Authorize { client, request } => {
            let facts = ClientFacts::new(client);
            let params = arena.passed((facts.lower(arena), arena.placed(question::request(&request.into()))));
            let answer = run(store, hook(functions, |f| f.authorize)?, params).await?;
            Reply::Authorize(Ok(answer::verdict(answer)))
        }
        Question::Transform { client, message } => {
            let message = message.into();
            let (facts, properties) = (ClientFacts::new(client), question::user_properties(&message));
            let params = arena.passed((
                facts.lower(arena),
                arena.placed(question::message(&message, &properties)),
            ));
            let answer = run(store, hook(functions, |f| f.transform)?, params).await?;
            let answer = answer::transformation(answer, max_message_bytes).map_err(Failure::invalid)?;
            Reply::Transform(Ok(answer))
        }
        Question::Tick { now_unix_ms } => {
            let answer = run(store, hook(functions, |f| f.tick)?, (*now_unix_ms,)).await?;
            let answer = answer::tick(answer, max_message_bytes).map_err(Failure::invalid)?;
            Reply::Tick(Ok(plugin.granted(answer)))
        }
        Question::Detect { windows } => {
            let windows: Vec<_> = windows.iter().map(question::window).collect();
            let answer = run(store, hook(functions, |f| f.detect)?, (windows.as_slice(),)).await?;
            Reply::Detect(Ok(answer::findings(answer).map_err(Failure::invalid)?))
        }
    };
    Ok(reply)
}

fn hook<F>(functions: &Functions, pick: impl FnOnce(&Functions) -> Option<F>) -> Result<F, Failure> {
    pick(functions).ok_or_else(Failure::no_such_hook)
}

/// Calls a guest function that may wait. Whoever drops this in the middle must drop the store, too.
pub(crate) async fn run<Params, Answer>(
    store: &mut Store<Guest>,
    function: Function<Params, Answer>,
    params: Params,
) -> Result<Answer, Failure>
where
    Params: ComponentNamedList + Lower,
    (Answer,): ComponentNamedList + Lift + 'static,
{
    store.data_mut().begin_call();
    store.set_epoch_deadline(1);
    let answer = function.call_async(&mut *store, params).await;
    store.data_mut().flush_output();
    answer
        .map(|(answer,)| answer)
        .map_err(|error| Failure::of(&error, store.data().memory.refused))
}

/// What a store in a pool does at the beginning of each epoch: others first; and not for ever.
pub(crate) fn yield_at_epochs(store: &mut Store<Guest>) {
    store.epoch_deadline_callback(|mut cx| {
        Ok(match cx.data_mut().may_go_on() {
            true => wasmtime::UpdateDeadline::Yield(1),
            false => wasmtime::UpdateDeadline::Interrupt,
        })
    });
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Pool")
            .field("running", &state.running)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}
