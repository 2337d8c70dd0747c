//! How a request would be decided, by whom and why: what the shard knows of the client, and what plugins say when they are asked
//! now, on instances of their own and off the shards.

mod asking;

use crate::admin::explain::{Explained, ExplainedMessage, ExplainedStep, Wanted};
use crate::config::Mode;
use crate::driver::ask_home;
use crate::generation::LoadedPlugin;
use crate::supervisor::Supervisor;
use asking::Asking;
use nervewire_codec::{QoS, Utf8String};
use nervewire_core::explain::{Inquiry, Remembered};
use nervewire_core::fold::{AuthorizationFold, DefaultDecision, failed_decision, failed_transformation};
use nervewire_core::hook::{Action, AppMessage, Client, Decision, Request, Transformation};
use nervewire_core::limits::MAX_MESSAGES_PER_PUBLISH;
use nervewire_core::policy::{Authorizer, ClientRules, Policy};
use nervewire_plugin_host::Hook;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Explains; an error says what is wrong with the question.
pub(crate) fn explain(supervisor: &Supervisor, wanted: &Wanted) -> Result<Explained, String> {
    let request = request(wanted)?;
    let (policy, plugins, listener) = {
        let current = supervisor.current();
        let listener = current.listeners.first().map_or("", |listener| &listener.name).into();
        (
            current.generation.policy.clone(),
            current.generation.plugins.clone(),
            listener,
        )
    };
    let supposed = Arc::new(supposed(wanted, listener));
    let shared = supervisor.shared();
    let (asked_about, asked) = (supposed.clone(), request.clone());
    let inquiry = ask_home(shared, supposed.tenant.as_deref(), &supposed.client_id, move |worker| {
        worker.inquire(&asked_about, &asked)
    });
    let inquiry = inquiry.ok_or("the client's shard does not answer; look at the broker's log")?;
    let client = inquiry.client.clone().unwrap_or(supposed);
    let mut explaining = Explaining {
        policy: &policy,
        plugins: &plugins,
        client: &client,
        // Of another generation they say nothing about this one.
        inquiry: (inquiry.generation == policy.generation).then_some(&inquiry),
        asking: Asking::default(),
        transforms: Vec::new(),
    };
    let (authorizers, decision) = explaining.authorize(&request);
    let decision = with_subscriptions(decision, &inquiry);
    let message = (request.action == Action::Publish && decision.allowed).then(|| AppMessage {
        topic: request.topic.clone(),
        payload: wanted.payload.clone().into(),
        qos: request.qos,
        retain: request.retain,
        properties: None,
    });
    let outcome = message.map(|message| explaining.transform(message));
    Ok(Explained {
        client_id: client.client_id.to_string(),
        tenant: client.tenant.as_deref().map(str::to_owned),
        username: client.username.as_deref().map(str::to_owned),
        session: match inquiry.connected {
            Some(true) => "connected",
            Some(false) => "stored",
            None => "none",
        }
        .to_owned(),
        action: wanted.action.clone(),
        topic: request.topic.as_str().to_owned(),
        qos: wanted.qos,
        retain: wanted.retain,
        generation: policy.generation,
        authorizers,
        allowed: decision.allowed,
        decided_by: decision.by,
        why: decision.why,
        suspended: inquiry.suspended.iter().map(ToString::to_string).collect(),
        transforms: explaining.transforms,
        messages: outcome.as_ref().and_then(|outcome| outcome.clone().ok()),
        rejected: outcome.and_then(Result::err),
    })
}

fn request(wanted: &Wanted) -> Result<Request, String> {
    let action = match wanted.action.as_str() {
        "publish" => Action::Publish,
        "subscribe" => Action::Subscribe,
        "deliver" => Action::Deliver,
        other => {
            return Err(format!(
                "action {other:?} is unknown; write publish, subscribe or deliver"
            ));
        }
    };
    let filter = wanted
        .topic
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'));
    let topic = match (action, filter) {
        (Action::Subscribe, Some((_, filter))) => filter,
        _ => &wanted.topic,
    };
    let valid = match action {
        Action::Subscribe => nervewire_codec::topic::validate_topic_filter(topic),
        _ => nervewire_codec::topic::validate_topic_name(topic),
    };
    valid.map_err(|error| format!("topic {topic:?}: {error}"))?;
    let qos = match wanted.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        other => return Err(format!("qos {other} is none; write 0, 1 or 2")),
    };
    Ok(Request {
        action,
        topic: Utf8String::try_from(topic).map_err(|error| format!("topic {topic:?}: {error}"))?,
        qos,
        retain: wanted.retain,
    })
}

/// A client with the given facts, from this machine.
fn supposed(wanted: &Wanted, listener: Arc<str>) -> Client {
    Client {
        username: wanted.username.as_deref().map(Arc::from),
        address: Ipv4Addr::LOCALHOST.into(),
        listener,
        ..Client::unknown(
            wanted.client_id.as_str().into(),
            wanted.tenant.as_deref().map(Arc::from),
        )
    }
}

struct Ruled {
    allowed: bool,
    by: Option<String>,
    why: String,
}

/// What the client's subscriptions have to say about a delivery that nobody denies.
fn with_subscriptions(decision: Ruled, inquiry: &Inquiry) -> Ruled {
    match decision.allowed {
        true if inquiry.withheld => Ruled {
            allowed: false,
            by: None,
            why: "suspended: the client may not subscribe any more to what matches".to_owned(),
        },
        true if inquiry.unreviewed => Ruled {
            why: format!(
                "{}; its subscriptions are judged again before the next delivery",
                decision.why
            ),
            ..decision
        },
        _ => decision,
    }
}

struct Explaining<'a> {
    policy: &'a Policy,
    plugins: &'a [LoadedPlugin],
    client: &'a Arc<Client>,
    inquiry: Option<&'a Inquiry>,
    asking: Asking,
    transforms: Vec<ExplainedStep>,
}

impl Explaining<'_> {
    /// Every authorizer in turn, those in shadow mode at their place in the file, and what follows from it.
    fn authorize(&mut self, request: &Request) -> (Vec<ExplainedStep>, Ruled) {
        let mut steps = Vec::new();
        let mut fold = AuthorizationFold::new();
        let mut by = None;
        let mut denied = false;
        let mut position = 0;
        for loaded in self
            .plugins
            .iter()
            .filter(|loaded| loaded.plugin.has_hook(Hook::Authorize))
        {
            let (authorizer, at) = match loaded.settings.mode {
                Mode::Enforce => {
                    position += 1;
                    (self.policy.authorizers.get(position - 1), Some(position - 1))
                }
                Mode::Shadow => {
                    let shadow = self
                        .policy
                        .shadows
                        .iter()
                        .find(|shadow| shadow.name == loaded.settings.name);
                    (
                        shadow.and_then(|shadow| shadow.authorizes.as_ref()).map(|(a, _)| a),
                        None,
                    )
                }
            };
            let Some(authorizer) = authorizer else { continue };
            if denied && at.is_some() {
                steps.push(step(
                    loaded,
                    "not_heard",
                    None,
                    "not heard: another has denied".to_owned(),
                ));
                continue;
            }
            let (step, decision) = self.hear(loaded, authorizer, at, request);
            if let (Some(decision), Some(_)) = (decision, at) {
                denied = fold.hear(decision).is_break();
                if denied || (decision == Decision::Allow && by.is_none()) {
                    by = Some(step.clone());
                }
            }
            steps.push(step);
        }
        let allowed = !denied && (request.action == Action::Deliver || fold.finish(self.policy.default));
        let why = match (&by, request.action, self.policy.default) {
            (Some(step), ..) => step.words.clone(),
            (None, Action::Deliver, _) => "nobody denies the delivery".to_owned(),
            (None, _, DefaultDecision::Allow) => "nobody decides: [auth] default = \"allow\"".to_owned(),
            (None, _, DefaultDecision::Deny) => "nobody decides: [auth] default = \"deny\"".to_owned(),
        };
        let by = by.map(|step| step.plugin);
        (steps, Ruled { allowed, by, why })
    }

    fn hear(
        &mut self,
        loaded: &LoadedPlugin,
        authorizer: &Authorizer,
        at: Option<usize>,
        request: &Request,
    ) -> (ExplainedStep, Option<Decision>) {
        let reference = request.by_reference();
        if !authorizer.concerns(request.action, &request.topic) {
            let words = "not concerned: none of its topics".to_owned();
            return (step(loaded, "not_concerned", None, words), None);
        }
        let known = at.and_then(|at| Some((at, self.inquiry?.rules.clone()?)));
        let (native, words) = match known {
            Some((at, rules)) => rules.explain(at, authorizer, &reference),
            None => {
                let answer = self.asking.rules(&loaded.plugin, self.client);
                let (rules, _) = ClientRules::new(self.policy.generation, vec![answer]);
                rules.explain(0, authorizer, &reference)
            }
        };
        if let Some(decision) = native {
            return (step(loaded, "rules", Some(decision), words), Some(decision));
        }
        let cached = at.and_then(|at| *self.inquiry?.cached.get(at)?);
        if let Some(Remembered {
            verdict,
            age_ms,
            remaining_ms,
        }) = cached
        {
            let words = format!("{words}, answered from its cache: asked {age_ms} ms ago, holds for {remaining_ms} ms");
            let decision = verdict.decision;
            return (step(loaded, "cache", Some(decision), words), Some(decision));
        }
        let (answer, took_us) = self.asking.authorize(&loaded.plugin, self.client, request);
        let (how, decision, words) = match answer {
            Ok(verdict) => ("asked", verdict.decision, format!("{words}, asked now")),
            Err(_) => {
                let decision = failed_decision(authorizer.on_failure);
                (
                    "failed",
                    decision,
                    format!("{words}, its call failed: on_failure says so"),
                )
            }
        };
        let step = ExplainedStep {
            took_us: Some(took_us),
            ..step(loaded, how, Some(decision), words)
        };
        (step, Some(decision))
    }

    /// Every transform in turn. What becomes of the message; an error: it is rejected.
    fn transform(&mut self, message: AppMessage) -> Result<Vec<ExplainedMessage>, String> {
        let plugins = self.plugins;
        let chain: Vec<_> = plugins
            .iter()
            .filter(|loaded| loaded.plugin.has_hook(Hook::Transform))
            .collect();
        let mut work = vec![(message, 0)];
        let mut done = Vec::new();
        while let Some((message, at)) = work.pop() {
            let Some(loaded) = chain.get(at) else {
                done.push(shown(&message));
                continue;
            };
            let is_enforced = loaded.is_enforced();
            let transform = match is_enforced {
                true => self
                    .policy
                    .transforms
                    .iter()
                    .find(|transform| transform.name == loaded.settings.name),
                false => {
                    let shadow = self
                        .policy
                        .shadows
                        .iter()
                        .find(|shadow| shadow.name == loaded.settings.name);
                    shadow
                        .and_then(|shadow| shadow.transforms.as_ref())
                        .map(|(transform, _)| transform)
                }
            };
            let Some(transform) = transform.filter(|transform| transform.concerns(&message.topic)) else {
                let words = "not concerned: none of its topics".to_owned();
                self.transforms.push(step(loaded, "not_concerned", None, words));
                work.push((message, at + 1));
                continue;
            };
            let (answer, took_us) = self.asking.transform(&loaded.plugin, self.client, &message);
            let failed = answer.is_err();
            let answer = answer.unwrap_or_else(|_| failed_transformation(transform.on_failure));
            self.transforms.push(ExplainedStep {
                said: Some(said(&answer).to_owned()),
                took_us: Some(took_us),
                ..step(
                    loaded,
                    if failed { "failed" } else { "asked" },
                    None,
                    in_words(&answer, failed),
                )
            });
            if !is_enforced {
                work.push((message, at + 1));
                continue;
            }
            let changed = match answer {
                Transformation::Pass => vec![message.clone()],
                Transformation::Replace(other) => vec![other],
                Transformation::Emit(others) => others,
                Transformation::Drop => Vec::new(),
                Transformation::Reject(reason) => return Err(format!("{reason:?} by {}", loaded.settings.name)),
            };
            let room = MAX_MESSAGES_PER_PUBLISH.saturating_sub(work.len() + done.len());
            for other in changed.into_iter().take(room).rev() {
                let is_free = other.topic == message.topic || transform.may_publish(&other.topic);
                if is_free || self.may_publish(loaded, &other) {
                    work.push((other, at + 1));
                }
            }
        }
        Ok(done)
    }

    /// A topic that a plugin without the grant has changed is authorized again, as the client's.
    fn may_publish(&mut self, loaded: &LoadedPlugin, message: &AppMessage) -> bool {
        let request = Request {
            action: Action::Publish,
            topic: message.topic.clone(),
            qos: message.qos,
            retain: message.retain,
        };
        // What was cached is about another topic.
        let inquiry = self.inquiry.take();
        let (_, ruled) = self.authorize(&request);
        self.inquiry = inquiry;
        let verb = if ruled.allowed { "allowed" } else { "denied" };
        let words = format!(
            "to publish to {} in the client's name is {verb}: {}",
            &*message.topic, ruled.why
        );
        self.transforms.push(step(loaded, "authorized_again", None, words));
        ruled.allowed
    }
}

fn step(loaded: &LoadedPlugin, how: &str, decision: Option<Decision>, words: String) -> ExplainedStep {
    let said = decision.map(|decision| match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Abstain => "abstain",
    });
    ExplainedStep {
        plugin: loaded.settings.name.to_string(),
        mode: loaded.settings.mode.name().to_owned(),
        how: how.to_owned(),
        said: said.map(str::to_owned),
        words,
        took_us: None,
    }
}

fn said(answer: &Transformation) -> &'static str {
    match answer {
        Transformation::Pass => "pass",
        Transformation::Replace(_) => "replace",
        Transformation::Emit(_) => "emit",
        Transformation::Drop => "drop",
        Transformation::Reject(_) => "reject",
    }
}

fn in_words(answer: &Transformation, failed: bool) -> String {
    let show = |message: &AppMessage| {
        let message = shown(message);
        format!("{} {}", message.topic, message.payload)
    };
    let words = match answer {
        Transformation::Pass => "as it is".to_owned(),
        Transformation::Replace(message) => show(message),
        Transformation::Emit(messages) => messages.iter().map(show).collect::<Vec<_>>().join("; "),
        Transformation::Drop => "it reaches nobody".to_owned(),
        Transformation::Reject(reason) => format!("{reason:?}"),
    };
    if failed {
        format!("{words}: its call failed, on_failure says so")
    } else {
        words
    }
}

fn shown(message: &AppMessage) -> ExplainedMessage {
    const SHOWN_BYTES: usize = 256;
    let payload = message.payload.get(..SHOWN_BYTES).unwrap_or(&message.payload);
    ExplainedMessage {
        topic: message.topic.as_str().to_owned(),
        qos: message.qos as u8,
        retain: message.retain,
        payload_bytes: message.payload.len() as u64,
        payload: payload.escape_ascii().to_string(),
    }
}
