//! The warm plugin instances of one shard, the calls on them, and the calls that are answered elsewhere, later.

use super::inbox::{ShardEvent, bounds};
use super::worker::Shared;
use nervewire_core::hook::{AppMessageRef, CallFailed, Client, Rule, Transformation, Transformations, Verdict};
use nervewire_core::policy::RequestRef;
use nervewire_core::shard::{Answer, Answered, Batch, Call, CallId, PluginsHere};
use nervewire_plugin_host::{Instance, Plugin, Question, Reply};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where a plugin is called.
#[derive(Clone)]
pub(crate) enum Place {
    /// Position of its instance on this shard.
    Here(usize),
    /// In its pool.
    Pool(Arc<Plugin>),
}

/// One instance of each plugin that is called on shards, made ready before its generation is swapped in.
pub(crate) struct ShardPlugins {
    generation: u64,
    instances: Vec<Instance>,
    /// In the order of the policy's authorizers.
    authorizers: Vec<Place>,
    transforms: Vec<Place>,
    /// Calls that are answered later.
    awaited: usize,
}

/// What became of a call.
pub(super) enum Ran {
    /// The answer, and how many nanoseconds guests took on this thread.
    Answered(Answer, u64),
    /// The answer comes as [`ShardEvent::Answered`].
    Later,
    /// It belongs to the authenticators.
    NotHere,
}

/// Where the answers of asynchronous plugins go.
#[derive(Clone)]
pub(super) struct ReplyPath {
    pub(super) shared: Weak<Shared>,
    pub(super) shard: u16,
    pub(super) call: CallId,
    pub(super) generation: u64,
}

impl ReplyPath {
    fn send(&self, answer: Answer) {
        if let Some(shared) = self.shared.upgrade() {
            let event = ShardEvent::Answered {
                generation: self.generation,
                call: self.call,
                answer,
            };
            shared.mesh.send(self.shard, event);
        }
    }
}

impl ShardPlugins {
    pub(crate) fn new(
        generation: u64,
        instances: Vec<Instance>,
        authorizers: Vec<Place>,
        transforms: Vec<Place>,
    ) -> Self {
        Self {
            generation,
            instances,
            authorizers,
            transforms,
            awaited: 0,
        }
    }

    fn run(&mut self, call: &Call, path: impl FnOnce() -> ReplyPath) -> Ran {
        let ran = match call {
            Call::Rules { client, .. } => self.rules(client, path),
            Call::Authorize {
                authorizer,
                client,
                request,
                ..
            } => match self.authorizers.get(*authorizer) {
                Some(Place::Pool(plugin)) => {
                    let (client, request) = (client.clone(), request.clone());
                    submit(plugin, Question::Authorize { client, request }, path())
                }
                place => {
                    let answered = self.on(here(place), |i| i.authorize(client, request));
                    Ran::Answered(Answer::Authorize(answered.answer), answered.spent_ns)
                }
            },
            Call::Transform {
                transform,
                client,
                message,
                ..
            } => match self.transforms.get(*transform) {
                Some(Place::Pool(plugin)) => {
                    let (client, message) = (client.clone(), message.clone());
                    submit(plugin, Question::Transform { client, message }, path())
                }
                place => {
                    let answered = self.on(here(place), |i| i.transform(client, message));
                    Ran::Answered(Answer::Transform(answered.answer), answered.spent_ns)
                }
            },
            Call::Authenticate { .. } => Ran::NotHere,
        };
        self.awaited += usize::from(matches!(ran, Ran::Later));
        ran
    }

    /// Asks every authorizer: those on this shard at once, the others meanwhile.
    fn rules(&mut self, client: &Arc<Client>, path: impl FnOnce() -> ReplyPath) -> Ran {
        let mut answers: Vec<Option<Rules>> = Vec::with_capacity(self.authorizers.len());
        let mut total_ns = 0;
        let mut elsewhere = Vec::new();
        for position in 0..self.authorizers.len() {
            match self.authorizers.get(position) {
                Some(Place::Pool(plugin)) => {
                    elsewhere.push((position, plugin.clone()));
                    answers.push(None);
                }
                place => {
                    let place = here(place);
                    let answered = self.on(place, |i| i.rules(client));
                    total_ns += answered.spent_ns;
                    answers.push(Some(answered.answer));
                }
            }
        }
        if elsewhere.is_empty() {
            return Ran::Answered(whole(answers), total_ns);
        }
        let gathering = Arc::new(Gathering {
            path: path(),
            state: Mutex::new((answers, elsewhere.len())),
        });
        for (position, plugin) in elsewhere {
            let question = Question::Rules { client: client.clone() };
            let gathered = gathering.clone();
            let submitted = plugin.submit(question, move |reply| gathered.put(position, rules_of(reply)));
            if submitted.is_err() {
                gathering.put(position, Err(CallFailed));
            }
        }
        Ran::Later
    }

    fn on<T>(
        &mut self,
        position: Option<usize>,
        call: impl FnOnce(&mut Instance) -> Result<T, CallFailed>,
    ) -> Answered<T> {
        match position.and_then(|position| self.instances.get_mut(position)) {
            Some(instance) => Answered {
                answer: call(instance),
                spent_ns: instance.last_call_ns(),
            },
            None => Answered {
                answer: Err(CallFailed),
                spent_ns: 0,
            },
        }
    }
}

fn here(place: Option<&Place>) -> Option<usize> {
    match place {
        Some(Place::Here(position)) => Some(*position),
        _ => None,
    }
}

/// Too many that wait count as a failure: it is the plugin's `on_failure` that says what that means.
fn submit(plugin: &Arc<Plugin>, question: Question, path: ReplyPath) -> Ran {
    let failed = answer_of(question.failed());
    let submitted = plugin.submit(question, move |reply| path.send(answer_of(reply)));
    match submitted {
        Ok(()) => Ran::Later,
        Err(_) => Ran::Answered(failed, 0),
    }
}

fn answer_of(reply: Reply) -> Answer {
    match reply {
        Reply::Authorize(answer) => Answer::Authorize(answer),
        Reply::Transform(answer) => Answer::Transform(answer),
        Reply::Rules(answer) => Answer::Rules(vec![answer]),
        // Nobody asks for it here.
        Reply::Authenticate(_) | Reply::Tick(_) | Reply::Detect(_) => Answer::Rules(Vec::new()),
    }
}

type Rules = Result<Option<Vec<Rule>>, CallFailed>;

fn rules_of(reply: Reply) -> Rules {
    match reply {
        Reply::Rules(answer) => answer,
        _ => Err(CallFailed),
    }
}

fn whole(answers: Vec<Option<Rules>>) -> Answer {
    Answer::Rules(
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Err(CallFailed)))
            .collect(),
    )
}

/// Rules of which some are still awaited. Whoever puts the last one sends them all.
struct Gathering {
    path: ReplyPath,
    state: Mutex<(Vec<Option<Rules>>, usize)>,
}

impl Gathering {
    fn put(&self, position: usize, rules: Rules) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (answers, awaited) = &mut *state;
        if let Some(answer) = answers.get_mut(position) {
            *answer = Some(rules);
        }
        *awaited -= 1;
        if *awaited == 0 {
            self.path.send(whole(std::mem::take(answers)));
        }
    }
}

/// The plugins of the policy in force, and those of earlier ones while somebody waits for their answers.
pub(super) struct Generations {
    current: ShardPlugins,
    earlier: VecDeque<ShardPlugins>,
    /// Earlier ones that were let go although somebody waited.
    pub(super) over_bound: u64,
    /// A plugin was asked about a PUBLISH that would answer to several at once.
    pub(super) batch_is_worth_it: bool,
}

impl Generations {
    pub(super) fn new(current: ShardPlugins) -> Self {
        Self {
            current,
            earlier: VecDeque::new(),
            over_bound: 0,
            batch_is_worth_it: false,
        }
    }

    pub(super) fn swap(&mut self, plugins: ShardPlugins) {
        let replaced = std::mem::replace(&mut self.current, plugins);
        if replaced.awaited > 0 {
            self.earlier.push_back(replaced);
        }
        if self.earlier.len() > bounds::EARLIER_GENERATIONS {
            self.earlier.pop_front();
            self.over_bound += 1;
        }
    }

    /// Carries out a call, by the plugins of the policy that asks. Where those are gone, it has failed. The path is made only for
    /// what is answered later: it counts references that all shards share.
    pub(super) fn run(&mut self, call: &Call, path: impl FnOnce(u64) -> ReplyPath) -> Ran {
        let generation = match call {
            Call::Rules { generation, .. }
            | Call::Authorize { generation, .. }
            | Call::Transform { generation, .. } => *generation,
            Call::Authenticate { .. } => return Ran::NotHere,
        };
        match self.of(generation) {
            Some(plugins) => plugins.run(call, || path(generation)),
            None => Ran::Answered(failed(call), 0),
        }
    }

    /// An answer came that was awaited.
    pub(super) fn answered(&mut self, generation: u64) {
        if let Some(plugins) = self.of(generation) {
            plugins.awaited = plugins.awaited.saturating_sub(1);
        }
    }

    /// Lets go of those for whose answers nobody waits any more. Called when no call is left to be carried out.
    pub(super) fn release(&mut self) {
        if !self.earlier.is_empty() {
            self.earlier.retain(|plugins| plugins.awaited > 0);
        }
    }

    /// Whether an answer is awaited.
    pub(super) fn is_waiting(&self) -> bool {
        self.current.awaited > 0 || self.earlier.iter().any(|plugins| plugins.awaited > 0)
    }

    fn in_force(&mut self, generation: u64) -> Option<&mut ShardPlugins> {
        (self.current.generation == generation).then_some(&mut self.current)
    }

    fn of(&mut self, generation: u64) -> Option<&mut ShardPlugins> {
        if self.current.generation == generation {
            return Some(&mut self.current);
        }
        self.earlier.iter_mut().find(|plugins| plugins.generation == generation)
    }
}

/// Those of the policy in force; what is asked by an earlier one becomes a call.
impl PluginsHere for Generations {
    fn authorize(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        request: &RequestRef<'_>,
    ) -> Option<Answered<Verdict>> {
        let here = |plugins: &ShardPlugins| here(plugins.authorizers.get(authorizer));
        self.ask_here(generation, here, |instance| instance.authorize(client, *request))
    }

    fn transform(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        message: &AppMessageRef<'_>,
    ) -> Option<Answered<Transformation>> {
        let here = |plugins: &ShardPlugins| here(plugins.transforms.get(transform));
        self.ask_here(generation, here, |instance| instance.transform(client, *message))
    }

    fn authorize_all(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        requests: &[RequestRef<'_>],
    ) -> Batch<Vec<Verdict>> {
        let here = |plugins: &ShardPlugins| here(plugins.authorizers.get(authorizer));
        self.ask_all_here(generation, here, |instance| instance.authorize_all(client, requests))
    }

    fn transform_all(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        messages: &[AppMessageRef<'_>],
    ) -> Batch<Transformations> {
        let here = |plugins: &ShardPlugins| here(plugins.transforms.get(transform));
        self.ask_all_here(generation, here, |instance| instance.transform_all(client, messages))
    }
}

impl Generations {
    /// Asks the instance of this shard that `here` finds among the plugins in force.
    fn ask_here<T>(
        &mut self,
        generation: u64,
        here: impl FnOnce(&ShardPlugins) -> Option<usize>,
        call: impl FnOnce(&mut Instance) -> Result<T, CallFailed>,
    ) -> Option<Answered<T>> {
        let plugins = self.in_force(generation)?;
        let position = here(plugins)?;
        let answered = plugins.on(Some(position), call);
        let takes_batches = plugins.instances.get(position).is_some_and(Instance::takes_batches);
        self.batch_is_worth_it |= takes_batches;
        Some(answered)
    }

    /// Likewise, about several questions.
    fn ask_all_here<T: Default>(
        &mut self,
        generation: u64,
        here: impl FnOnce(&ShardPlugins) -> Option<usize>,
        call: impl FnOnce(&mut Instance) -> Option<T>,
    ) -> Batch<T> {
        let position = self.in_force(generation).and_then(|plugins| here(plugins));
        let Some(instance) = position.and_then(|position| self.current.instances.get_mut(position)) else {
            return Batch::default();
        };
        Batch {
            answers: call(instance).unwrap_or_default(),
            spent_ns: instance.last_call_ns(),
        }
    }
}

fn failed(call: &Call) -> Answer {
    match call {
        Call::Authorize { .. } => Answer::Authorize(Err(CallFailed)),
        Call::Transform { .. } => Answer::Transform(Err(CallFailed)),
        Call::Rules { .. } | Call::Authenticate { .. } => Answer::Rules(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nervewire_codec::{QoS, Utf8String};
    use nervewire_core::hook::{Action, Request};

    fn client() -> Client {
        Client::unknown("c".into(), None)
    }

    fn plugins(generation: usize, awaited: usize) -> ShardPlugins {
        ShardPlugins {
            awaited,
            ..ShardPlugins::new(generation as u64, Vec::new(), Vec::new(), Vec::new())
        }
    }

    #[test]
    fn earlier_generations_are_kept_while_somebody_waits() {
        let mut generations = Generations::new(plugins(0, 1));
        generations.swap(plugins(1, 0));
        generations.swap(plugins(2, 0));
        assert!(generations.of(0).is_some() && generations.is_waiting());
        assert!(generations.of(1).is_none(), "nobody waits for it");
        generations.release();
        assert!(generations.of(0).is_some());
        generations.answered(0);
        generations.release();
        assert!(generations.of(0).is_none() && !generations.is_waiting());
        assert_eq!(generations.over_bound, 0);
    }

    #[test]
    fn earlier_generations_are_bounded_and_what_is_asked_of_others_has_failed() {
        let mut generations = Generations::new(plugins(0, 1));
        for number in 1..=bounds::EARLIER_GENERATIONS + 1 {
            generations.swap(plugins(number, 1));
        }
        assert_eq!(generations.over_bound, 1);
        assert!(generations.of(0).is_none() && generations.of(1).is_some());
        let call = Call::Authorize {
            generation: 0,
            authorizer: 0,
            client: Arc::new(client()),
            request: Request {
                action: Action::Publish,
                topic: Utf8String::default(),
                qos: QoS::AtMostOnce,
                retain: false,
            },
        };
        let ran = generations.run(&call, |_| panic!("there is nobody to ask"));
        assert!(matches!(ran, Ran::Answered(Answer::Authorize(Err(CallFailed)), 0)));
    }
}
