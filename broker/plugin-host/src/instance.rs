//! One warm instance on one thread: its calls, their deadlines, and its replacement after it failed.

use crate::answer::{self, Invalid};
use crate::batch::Batches;
use crate::breaker::Admission;
use crate::call_arena::{CallArena, Place};
use crate::error::StartError;
use crate::guest::{Guest, HostRefusal};
use crate::lift::{AnswerList, Transformations, Verdicts};
use crate::lower::{InMemory, Placed, PlacedList};
use crate::plugin::Plugin;
use crate::question::{self, ClientFacts};
use crate::spec::{Hook, Role};
use crate::stats::{Call, Outcome};
use crate::tap::{TappedAnswer, TappedQuestion};
use crate::wire;
use nervewire_core::hook::{
    AppMessage, AppMessageRef, Authentication, CallFailed, Client, Credentials, Finding, Rule, Transformation, Verdict,
    Window,
};
use nervewire_core::policy::RequestRef;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};
use wasmtime::{Store, Trap, WasmBacktrace};

/// A plugin's instance for one thread at a time. After a failed call it replaces itself at the next one.
pub struct Instance {
    pub(crate) plugin: Arc<Plugin>,
    role: Role,
    cell: usize,
    pub(crate) live: Option<Live>,
    /// The call arena of the instance that is alive.
    pub(crate) arena: Place,
    pub(crate) last_call_ns: u64,
    pub(crate) batches: Batches,
}

/// An instantiated component that `init` accepted.
pub(crate) struct Live {
    pub(crate) store: Store<Guest>,
    pub(crate) functions: Functions,
}

/// The functions of the hooks in use, checked against the contract's types when the instance was made.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    pub(crate) authenticate: Option<AboutClient<(ClientParam, wire::CredentialsRef<'static>), wire::Authentication>>,
    pub(crate) rules: Option<AboutClient<(ClientParam,), Option<Vec<wire::Rule>>>>,
    pub(crate) authorize: Option<AboutClient<(ClientParam, RequestParam), wire::Verdict>>,
    pub(crate) authorize_all: Option<AboutClient<(ClientParam, RequestsParam), AnswerList<Verdicts>>>,
    pub(crate) transform: Option<AboutClient<(ClientParam, MessageParam), wire::Transformation>>,
    pub(crate) transform_all: Option<AboutClient<(ClientParam, MessagesParam), AnswerList<Transformations>>>,
    pub(crate) tick: Option<Function<(u64,), Vec<wire::Message>>>,
    pub(crate) detect: Option<Function<(&'static [wire::WindowRef<'static>],), Vec<wire::Finding>>>,
}

type ClientParam = Placed<'static, wire::ClientRef<'static>>;
type RequestParam = Placed<'static, wire::RequestRef<'static>>;
type RequestsParam = PlacedList<'static, RequestRef<'static>>;
type MessageParam = Placed<'static, wire::MessageRef<'static>>;
type MessagesParam = PlacedList<'static, AppMessageRef<'static>>;

/// A function whose parameters are passed in memory, as a client has more fields than are passed otherwise.
type AboutClient<Params, Answer> = Function<InMemory<'static, Params>, Answer>;

pub(crate) type Function<Params, Answer> = TypedFunc<Params, (Answer,)>;

impl Instance {
    pub(crate) fn start(plugin: Arc<Plugin>, role: Role) -> Result<Self, StartError> {
        let live = plugin.start(role, plugin.init_deadline_ms())?;
        let cell = plugin.stats().cell();
        Ok(Self {
            arena: plugin.arena(),
            plugin,
            role,
            cell,
            live: Some(live),
            last_call_ns: 0,
            batches: Batches::default(),
        })
    }

    /// Hook `authenticate`: who is this?
    ///
    /// # Errors
    /// [`CallFailed`] where there is no answer; what happened is in the log and the statistics.
    pub fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Result<Authentication, CallFailed> {
        let facts = ClientFacts::new(client);
        let arena = CallArena::new(self.arena);
        let params = arena.passed((facts.lower(&arena), question::credentials(credentials)));
        let answer = self.call(
            &arena,
            Call::Authenticate,
            |functions| functions.authenticate,
            params,
            answer::authentication,
        );
        let question = TappedQuestion::Authenticate(client, credentials);
        self.show(question, answer, |answer| TappedAnswer::Authentication(answer))
    }

    /// The rules for a client, `None`: ask for every request.
    ///
    /// # Errors
    /// As for [`Instance::authenticate`].
    pub fn rules(&mut self, client: &Client) -> Result<Option<Vec<Rule>>, CallFailed> {
        let facts = ClientFacts::new(client);
        let arena = CallArena::new(self.arena);
        let answer = self.call(
            &arena,
            Call::Rules,
            |functions| functions.rules,
            arena.passed((facts.lower(&arena),)),
            answer::rules,
        );
        self.show(TappedQuestion::Rules(client), answer, |rules| {
            TappedAnswer::Rules(rules.as_deref())
        })
    }

    /// Hook `authorize`: may this client do that?
    ///
    /// # Errors
    /// As for [`Instance::authenticate`].
    pub fn authorize<'a>(
        &mut self,
        client: &Client,
        request: impl Into<RequestRef<'a>>,
    ) -> Result<Verdict, CallFailed> {
        let request = request.into();
        let facts = ClientFacts::new(client);
        let arena = CallArena::new(self.arena);
        let params = arena.passed((facts.lower(&arena), arena.placed(question::request(&request))));
        let answer = self.call(
            &arena,
            Call::Authorize,
            |functions| functions.authorize,
            params,
            |answer| Ok(answer::verdict(answer)),
        );
        self.show(TappedQuestion::Authorize(client, request), answer, |answer| {
            TappedAnswer::Verdict(answer)
        })
    }

    /// Hook `transform`: what does this message look like when it is delivered?
    ///
    /// # Errors
    /// As for [`Instance::authenticate`].
    pub fn transform<'a>(
        &mut self,
        client: &Client,
        message: impl Into<AppMessageRef<'a>>,
    ) -> Result<Transformation, CallFailed> {
        let message = message.into();
        let max_message_bytes = self.plugin.max_message_bytes();
        let (facts, properties) = (ClientFacts::new(client), question::user_properties(&message));
        let arena = CallArena::new(self.arena);
        let params = arena.passed((
            facts.lower(&arena),
            arena.placed(question::message(&message, &properties)),
        ));
        let parse = |answer| answer::transformation(answer, max_message_bytes);
        let answer = self.call(&arena, Call::Transform, |functions| functions.transform, params, parse);
        self.show(TappedQuestion::Transform(client, message), answer, |answer| {
            TappedAnswer::Transformation(answer)
        })
    }

    /// `tick` at a Unix time in milliseconds: the messages to be published in the plugin's name, as far as its `publish:` grants
    /// go.
    ///
    /// # Errors
    /// As for [`Instance::authenticate`].
    pub fn tick(&mut self, now_unix_ms: u64) -> Result<Vec<AppMessage>, CallFailed> {
        let max_message_bytes = self.plugin.max_message_bytes();
        let parse = |answer| answer::tick(answer, max_message_bytes);
        let arena = CallArena::new(Place::Nowhere);
        let answer = self.call(&arena, Call::Tick, |functions| functions.tick, (now_unix_ms,), parse);
        let answer = answer.map(|answer| self.plugin.granted(answer));
        self.show(TappedQuestion::Tick(now_unix_ms), answer, |messages| {
            TappedAnswer::Tick(messages)
        })
    }

    /// Hook `detect`: is something odd going on?
    ///
    /// # Errors
    /// As for [`Instance::authenticate`].
    pub fn detect(&mut self, windows: &[Window]) -> Result<Vec<Finding>, CallFailed> {
        let lowered: Vec<_> = windows.iter().map(question::window).collect();
        let arena = CallArena::new(Place::Nowhere);
        let answer = self.call(
            &arena,
            Call::Detect,
            |functions| functions.detect,
            (lowered.as_slice(),),
            answer::findings,
        );
        self.show(TappedQuestion::Detect(windows), answer, |findings| {
            TappedAnswer::Findings(findings)
        })
    }

    /// How long the last call took, the replacement of an instance before it included, in nanoseconds; 0 where none was
    /// made.
    pub fn last_call_ns(&self) -> u64 {
        self.last_call_ns
    }

    /// Whether it may be asked several questions at once.
    pub fn takes_batches(&self) -> bool {
        self.plugin.takes_batches()
    }

    /// The plugin it is an instance of.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// `arena`: where what the call brings may be put.
    fn call<Params, Answer, Parsed>(
        &mut self,
        arena: &CallArena,
        call: Call,
        function: impl FnOnce(&Functions) -> Option<Function<Params, Answer>>,
        params: Params,
        parse: impl FnOnce(Answer) -> Result<Parsed, Invalid>,
    ) -> Result<Parsed, Outcome>
    where
        Params: ComponentNamedList + Lower,
        (Answer,): ComponentNamedList + Lift,
    {
        let admission = self.plugin.admit();
        if admission == Admission::Refuse {
            self.last_call_ns = 0;
            self.plugin.stats().count(self.cell, call, Outcome::Breaker, None);
            return Err(Outcome::Breaker);
        }
        self.admitted(arena, call, 1, admission, function, params, parse)
    }

    /// `answers`: how many it is to give.
    #[allow(clippy::too_many_arguments)] // What a call has, and once more than most.
    pub(crate) fn admitted<Params, Answer, Parsed>(
        &mut self,
        arena: &CallArena,
        call: Call,
        answers: usize,
        admission: Admission,
        function: impl FnOnce(&Functions) -> Option<Function<Params, Answer>>,
        params: Params,
        parse: impl FnOnce(Answer) -> Result<Parsed, Invalid>,
    ) -> Result<Parsed, Outcome>
    where
        Params: ComponentNamedList + Lower,
        (Answer,): ComponentNamedList + Lift,
    {
        let start = Instant::now();
        let result = self.attempt(call, function, params, parse);
        if self.live.is_some() && self.arena == Place::Unasked {
            self.arena = arena.place();
        }
        self.last_call_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.batches.took(self.last_call_ns, answers);
        let failure = result.as_ref().err();
        self.plugin
            .conclude(self.cell, call, answers, admission, failure, self.last_call_ns);
        result.map_err(|failure| failure.outcome)
    }

    fn attempt<Params, Answer, Parsed>(
        &mut self,
        call: Call,
        function: impl FnOnce(&Functions) -> Option<Function<Params, Answer>>,
        params: Params,
        parse: impl FnOnce(Answer) -> Result<Parsed, Invalid>,
    ) -> Result<Parsed, Failure>
    where
        Params: ComponentNamedList + Lower,
        (Answer,): ComponentNamedList + Lift,
    {
        let deadline_ms = self.plugin.deadline_ms(call);
        let live = self.live()?;
        let function = function(&live.functions).ok_or_else(Failure::no_such_hook)?;
        match run(&mut live.store, &function, params, deadline_ms) {
            Ok((answer,)) => parse(answer).map_err(Failure::invalid),
            Err(failure) => {
                self.live = None;
                self.arena = self.plugin.arena();
                self.plugin.stats().replace_instance();
                Err(failure)
            }
        }
    }

    fn live(&mut self) -> Result<&mut Live, Failure> {
        match &mut self.live {
            Some(live) => Ok(live),
            empty => {
                let live = self.plugin.start(self.role, self.plugin.restart_deadline_ms(self.role));
                Ok(empty.insert(live.map_err(Failure::unavailable)?))
            }
        }
    }

    /// Hands an answer on, past whoever listens.
    #[inline]
    fn show<'a, T>(
        &'a self,
        question: TappedQuestion<'a>,
        answer: Result<T, Outcome>,
        shown: impl Fn(&T) -> TappedAnswer<'_>,
    ) -> Result<T, CallFailed> {
        self.tell(question, || answer.as_ref().map(shown).map_err(|outcome| *outcome));
        answer.map_err(|_| CallFailed)
    }

    /// Tells whoever listens.
    #[inline]
    pub(crate) fn tell<'a>(
        &'a self,
        question: TappedQuestion<'a>,
        shown: impl FnOnce() -> Result<TappedAnswer<'a>, Outcome>,
    ) {
        if let Some(tap) = self.plugin.tap() {
            tap.call(&self.plugin.tapped(question, shown(), self.batches.answer_ns()));
        }
    }
}

/// Why a call gave no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
    /// The plugin works: this message has become too large. Who sends such messages must not have the breaker opened for all others.
    pub(crate) is_of_the_message: bool,
}

impl Failure {
    /// Whether the guest was called at all.
    pub(crate) fn ran(&self) -> bool {
        self.outcome != Outcome::Unavailable
    }

    fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: detail.into(),
            is_of_the_message: false,
        }
    }

    pub(crate) fn invalid(invalid: Invalid) -> Self {
        Self {
            is_of_the_message: matches!(invalid, Invalid::MessageTooLarge(..)),
            ..Self::new(Outcome::Invalid, invalid.to_string())
        }
    }

    pub(crate) fn unavailable(error: StartError) -> Self {
        Self::new(Outcome::Unavailable, error.to_string())
    }

    pub(crate) fn no_such_hook() -> Self {
        Self::new(Outcome::Unavailable, "this hook is not in use")
    }

    /// The deadline on the wall clock.
    pub(crate) fn too_late(after_ms: u32) -> Self {
        Self::new(Outcome::Timeout, format!("there was no answer after {after_ms} ms"))
    }

    /// `refused_memory`: whether the guest was refused memory during the call.
    pub(crate) fn of(error: &wasmtime::Error, refused_memory: bool) -> Self {
        let outcome = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Outcome::Timeout,
            _ if refused_memory => Outcome::Memory,
            Some(_) => Outcome::Trap,
            None if error.is::<HostRefusal>() || error.is::<wasmtime_wasi::I32Exit>() => Outcome::Trap,
            None if error.is::<wasmtime_wasi::ResourceTableError>() => Outcome::Trap,
            // Neither the guest's code nor the host's functions: what it returned or told them could not be read, or was too much to.
            None => Outcome::Invalid,
        };
        let detail = match outcome {
            Outcome::Memory => with_memory_advice(&describe(error)),
            _ => describe(error),
        };
        Self::new(outcome, detail)
    }
}

/// What went wrong, and what to change in the configuration where the plugin is right to want that much.
pub(crate) fn with_memory_advice(text: &str) -> String {
    format!(
        "{text}; to give it more memory, raise limits.memory_mib (limits.authenticate_memory_mib where it authenticates)"
    )
}

/// Calls a guest function under a deadline. After an error the store is of no use any more.
pub(crate) fn run<Params, Answer>(
    store: &mut Store<Guest>,
    function: &Function<Params, Answer>,
    params: Params,
    deadline_ms: u64,
) -> Result<(Answer,), Failure>
where
    Params: ComponentNamedList + Lower,
    (Answer,): ComponentNamedList + Lift,
{
    store.data_mut().begin_call();
    // One more: the current epoch is already partly over.
    store.set_epoch_deadline(deadline_ms / crate::epochs::EPOCH_MS + 1);
    let answer = guarded(|| function.call(&mut *store, params));
    store.data_mut().flush_output();
    answer.map_err(|error| Failure::of(&error, store.data().memory.refused))
}

/// A panic in one of our host functions must not take the shard along: it ends the call like a trap.
pub(crate) fn guarded<T>(guest: impl FnOnce() -> wasmtime::Result<T>) -> wasmtime::Result<T> {
    let panicked = |_| Err(HostRefusal("a host function panicked").into());
    catch_unwind(AssertUnwindSafe(guest)).unwrap_or_else(panicked)
}

/// The cause of an error and the plugin's functions it went through, innermost first.
fn describe(error: &wasmtime::Error) -> String {
    const MAX_FRAMES: usize = 8;
    let cause = error.root_cause().to_string();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return cause;
    };
    let frames = backtrace.to_string(); // The only form in which names are demangled: `0: 0x1234 - module!function`.
    let names = frames.lines().filter_map(|line| Some(line.rsplit_once('!')?.1.trim()));
    let path: Vec<&str> = names.filter(|name| !is_runtime(name)).take(MAX_FRAMES).collect();
    match path.is_empty() {
        true => cause,
        false => format!("{cause}, in {}", path.join(" < ")),
    }
}

/// Functions of the language's runtime, through which a panic goes before it traps.
fn is_runtime(function: &str) -> bool {
    let inside = |prefix: &str| function.trim_start_matches('<').starts_with(prefix);
    function == "abort"
        || ["std::", "core::", "alloc::", "__rustc", "rust_begin_unwind"]
            .into_iter()
            .any(inside)
}

/// The hook that a call belongs to; `tick` belongs to all.
pub(crate) fn hook(call: Call) -> Option<Hook> {
    match call {
        Call::Authenticate => Some(Hook::Authenticate),
        Call::Rules | Call::Authorize => Some(Hook::Authorize),
        Call::Transform => Some(Hook::Transform),
        Call::Tick => None,
        Call::Detect => Some(Hook::Detect),
    }
}
