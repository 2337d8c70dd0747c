//! A plugin in a virtual world: asked in this process, without a broker, so that every run is the same.

use super::answers;
use super::cases::{self, Question, Setup};
use anyhow::{Result, anyhow};
use nervewire_core::hook::{
    Action, AppMessage, Authentication, CallFailed, Client, Credentials, Finding, Request, Rule, Transformation,
    Verdict, Window,
};
use nervewire_core::rules::{CompiledRules, RuleDecision};
use nervewire_plugin_host::{Hook, Host, HostConfig, HttpBackend, Instance, Limits, Plugin, Role, VirtualWorld, World};
use serde_json::Value;
use std::sync::Arc;

/// The random numbers of every test and replay begin here.
const SEED: u64 = 7;

/// The plugin under test.
pub(crate) struct Subject {
    world: VirtualWorld,
    plugin: Arc<Plugin>,
    shard: Option<Instance>,
    authenticate: Option<Instance>,
    background: Option<Instance>,
    /// The state of the last challenge, and to whom.
    challenge: Option<(Arc<str>, bytes::Bytes)>,
}

impl Subject {
    /// Loads a component in a world of its own, in front of these backends.
    ///
    /// # Errors
    /// Why it does not load.
    pub(crate) fn load(name: &str, component: Arc<[u8]>, setup: &Setup, http: HttpBackend) -> Result<Self> {
        let world = VirtualWorld::new(setup.now_ms, SEED);
        let host = Host::new(HostConfig {
            http,
            max_instances: 16,
            clock: world.clock(),
            world: World::Virtual(world.clone()),
            ..HostConfig::default()
        })?;
        // One instance, so that calls see what earlier ones left.
        let limits = Limits {
            http_calls: 1,
            ..Limits::default()
        };
        let plugin = host.load(setup.spec(name, component, limits))?;
        Ok(Self {
            world,
            plugin,
            shard: None,
            authenticate: None,
            background: None,
            challenge: None,
        })
    }

    pub(crate) fn world(&self) -> &VirtualWorld {
        &self.world
    }

    pub(crate) fn has_hook(&self, hook: Hook) -> bool {
        self.plugin.has_hook(hook)
    }

    /// Its answer in the words of CASES.toml. For `authorize` the effective decision: by its rules, and by itself where they ask.
    ///
    /// # Errors
    /// No instance of the plugin can be made.
    pub(crate) fn answer(&mut self, client: &Client, question: &Question) -> Result<Value> {
        let answer = match question {
            Question::Authenticate(credentials) => self.authenticate(client, credentials)?,
            Question::Authorize(request) => self.decide(client, request)?,
            Question::Transform(message) => {
                let answer = self.ask_transform(client, message)?;
                answer.map(|answer| answers::transformation(&answer))
            }
            Question::Tick => self
                .ask_tick(self.world.unix_ms())?
                .map(|messages| answers::tick(&messages)),
            Question::Detect(windows) => {
                let windows = cases::windows(windows, self.world.unix_ms());
                self.ask_detect(&windows)?.map(|found| answers::findings(&found))
            }
        };
        Ok(answer.unwrap_or_else(|CallFailed| answers::FAILED.into()))
    }

    /// Its rules for a client, `null`: it wants to be asked.
    ///
    /// # Errors
    /// As for [`Subject::answer`], here and below.
    pub(crate) fn rules(&mut self, client: &Client) -> Result<Value> {
        let rules = self.ask_rules(client)?;
        Ok(rules.map_or_else(
            |CallFailed| answers::FAILED.into(),
            |rules| answers::rules(rules.as_deref()),
        ))
    }

    /// What it says where it is asked, whatever its rules are.
    pub(crate) fn authorize(&mut self, client: &Client, request: &Request) -> Result<Value> {
        let verdict = self.ask_authorize(client, request)?;
        Ok(verdict.map_or_else(
            |CallFailed| answers::FAILED.into(),
            |verdict| answers::verdict(&verdict),
        ))
    }

    /// What it publishes when it is told this time.
    pub(crate) fn tick(&mut self, now_unix_ms: u64) -> Result<Value> {
        let messages = self.ask_tick(now_unix_ms)?;
        Ok(messages.map_or_else(|CallFailed| answers::FAILED.into(), |messages| answers::tick(&messages)))
    }

    fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Result<Result<Value, CallFailed>> {
        let mut credentials = credentials.clone();
        if let Some((_, state)) = self.challenge.take_if(|(to, _)| *to == client.client_id) {
            // As the broker hands it back with the client's answer.
            credentials.state = credentials.state.or(credentials.method.is_some().then_some(state));
        }
        let answer = self.ask_authenticate(client, &credentials)?;
        if let Ok(Authentication::Challenge { state, .. }) = &answer {
            self.challenge = Some((client.client_id.clone(), state.clone()));
        }
        Ok(answer.map(|answer| answers::authentication(&answer)))
    }

    /// As the broker decides with this one authorizer, before `[auth] default`.
    fn decide(&mut self, client: &Client, request: &Request) -> Result<Result<Value, CallFailed>> {
        let decided = match self.ask_rules(client)? {
            Err(CallFailed) => return Ok(Err(CallFailed)),
            // Who gives no rules is asked about what the client does, not about each delivery.
            Ok(None) if request.action == Action::Deliver => Some("abstain"),
            Ok(None) => None,
            Ok(Some(rules)) => {
                let rules =
                    CompiledRules::compile(&rules).map_err(|error| anyhow!("its rules are refused: {error}"))?;
                word(match request.action {
                    Action::Publish => rules.publish(&request.topic, request.qos, request.retain),
                    Action::Subscribe => rules.subscribe(&request.topic, request.qos).decision,
                    Action::Deliver => rules.deliver(&request.topic, request.qos, request.retain),
                })
            }
        };
        Ok(match decided {
            Some(decision) => Ok(decision.into()),
            None => self
                .ask_authorize(client, request)?
                .map(|verdict| answers::decision(verdict.decision).into()),
        })
    }

    fn ask_authenticate(&mut self, client: &Client, credentials: &Credentials) -> Asked<Authentication> {
        if !self.plugin.is_asynchronous() {
            return Ok(self.authenticator()?.authenticate(client, credentials));
        }
        let (client, credentials) = (Arc::new(client.clone()), credentials.clone());
        match self.plugin.ask(pool::Question::Authenticate { client, credentials }) {
            pool::Reply::Authenticate(answer) => Ok(answer),
            _ => Ok(Err(CallFailed)),
        }
    }

    fn ask_rules(&mut self, client: &Client) -> Asked<Option<Vec<Rule>>> {
        if !self.plugin.is_asynchronous() {
            return Ok(self.shard()?.rules(client));
        }
        let client = Arc::new(client.clone());
        match self.plugin.ask(pool::Question::Rules { client }) {
            pool::Reply::Rules(answer) => Ok(answer),
            _ => Ok(Err(CallFailed)),
        }
    }

    fn ask_authorize(&mut self, client: &Client, request: &Request) -> Asked<Verdict> {
        if !self.plugin.is_asynchronous() {
            return Ok(self.shard()?.authorize(client, request));
        }
        let (client, request) = (Arc::new(client.clone()), request.clone());
        match self.plugin.ask(pool::Question::Authorize { client, request }) {
            pool::Reply::Authorize(answer) => Ok(answer),
            _ => Ok(Err(CallFailed)),
        }
    }

    fn ask_transform(&mut self, client: &Client, message: &AppMessage) -> Asked<Transformation> {
        if !self.plugin.is_asynchronous() {
            return Ok(self.shard()?.transform(client, message));
        }
        let (client, message) = (Arc::new(client.clone()), message.clone());
        match self.plugin.ask(pool::Question::Transform { client, message }) {
            pool::Reply::Transform(answer) => Ok(answer),
            _ => Ok(Err(CallFailed)),
        }
    }

    fn ask_tick(&mut self, now_unix_ms: u64) -> Asked<Vec<AppMessage>> {
        if !self.plugin.is_asynchronous() {
            return Ok(self.in_the_background()?.tick(now_unix_ms));
        }
        match self.plugin.ask(pool::Question::Tick { now_unix_ms }) {
            pool::Reply::Tick(answer) => Ok(answer),
            _ => Ok(Err(CallFailed)),
        }
    }

    fn ask_detect(&mut self, windows: &[Window]) -> Asked<Vec<Finding>> {
        if !self.plugin.is_asynchronous() {
            return Ok(self.in_the_background()?.detect(windows));
        }
        let windows = windows.to_vec();
        match self.plugin.ask(pool::Question::Detect { windows }) {
            pool::Reply::Detect(answer) => Ok(answer),
            _ => Ok(Err(CallFailed)),
        }
    }

    fn in_the_background(&mut self) -> Result<&mut Instance> {
        instance(&mut self.background, &self.plugin, Role::Background)
    }

    fn shard(&mut self) -> Result<&mut Instance> {
        instance(&mut self.shard, &self.plugin, Role::Shard)
    }

    fn authenticator(&mut self) -> Result<&mut Instance> {
        instance(&mut self.authenticate, &self.plugin, Role::Authenticate)
    }
}

/// An answer, or that the call failed; an error where there is no instance to call.
type Asked<T> = Result<Result<T, CallFailed>>;

/// The words of the pool of an asynchronous plugin.
mod pool {
    pub(super) use nervewire_plugin_host::{Question, Reply};
}

fn instance<'a>(place: &'a mut Option<Instance>, plugin: &Arc<Plugin>, role: Role) -> Result<&'a mut Instance> {
    Ok(match place {
        Some(instance) => instance,
        empty => empty.insert(plugin.instance(role)?),
    })
}

/// `None`: it has to be asked.
fn word(decision: RuleDecision) -> Option<&'static str> {
    match decision {
        RuleDecision::Allow => Some("allow"),
        RuleDecision::Deny => Some("deny"),
        RuleDecision::Abstain => Some("abstain"),
        RuleDecision::Ask => None,
    }
}
