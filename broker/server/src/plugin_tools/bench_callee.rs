//! What `plugin bench` calls: an instance, or the pool of a plugin that asks backends, whose answers are those of the cases.

use super::bench_table::{Ask, Asked};
use super::script::Exchange;
use crate::unix_time::unix_ms;
use anyhow::Result;
use nervewire_core::hook::{AppMessage, AppMessageRef, CallFailed, Client, Request};
use nervewire_core::policy::RequestRef;
use nervewire_plugin_host::{HttpBackend, Instance, Plugin, Question, Reply, Role, ScriptedRequest, ScriptedResponse};
use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Called for one row of the table.
pub(super) enum Callee {
    Instance(Box<Instance>),
    Pool(Arc<Plugin>),
}

impl Callee {
    pub(super) fn of(plugin: &Arc<Plugin>, role: Role) -> Result<Self> {
        Ok(match plugin.is_asynchronous() {
            true => Self::Pool(plugin.clone()),
            false => Self::Instance(Box::new(plugin.instance(role)?)),
        })
    }

    pub(super) fn call(&mut self, asked: &Asked) -> Result<(), CallFailed> {
        match self {
            Self::Instance(instance) => call(instance, asked),
            Self::Pool(plugin) => ask(plugin, asked),
        }
    }
}

fn call(instance: &mut Instance, Asked { client, ask, .. }: &Asked) -> Result<(), CallFailed> {
    match ask {
        Ask::Authenticate(credentials) => instance
            .authenticate(client, credentials)
            .map(|answer| drop(black_box(answer))),
        Ask::Rules => instance.rules(client).map(|answer| drop(black_box(answer))),
        Ask::Authorize(request) => instance.authorize(client, request).map(|answer| {
            black_box(answer);
        }),
        Ask::Transform(message) => instance
            .transform(client, message)
            .map(|answer| drop(black_box(answer))),
        Ask::AuthorizeAll(requests) => authorize_all(instance, client, requests),
        Ask::TransformAll(messages) => transform_all(instance, client, messages),
        Ask::Tick => instance.tick(unix_ms()).map(|answer| drop(black_box(answer))),
        Ask::Detect(windows) => instance.detect(windows).map(|answer| drop(black_box(answer))),
    }
}

/// One by one where they are not taken together, as the broker does.
fn authorize_all(instance: &mut Instance, client: &Client, requests: &[Request]) -> Result<(), CallFailed> {
    let all: Vec<RequestRef<'_>> = requests.iter().map(RequestRef::from).collect();
    match instance.authorize_all(client, &all) {
        Some(answers) => drop(black_box(answers)),
        None => {
            for request in all {
                black_box(instance.authorize(client, request)?);
            }
        }
    }
    Ok(())
}

fn transform_all(instance: &mut Instance, client: &Client, messages: &[AppMessage]) -> Result<(), CallFailed> {
    let all: Vec<AppMessageRef<'_>> = messages.iter().map(AppMessageRef::from).collect();
    match instance.transform_all(client, &all) {
        Some(answers) => drop(black_box(answers)),
        None => {
            for message in all {
                black_box(instance.transform(client, message)?);
            }
        }
    }
    Ok(())
}

fn ask(plugin: &Arc<Plugin>, asked: &Asked) -> Result<(), CallFailed> {
    let client = Arc::new(asked.client.clone());
    let question = match asked.ask.clone() {
        Ask::Authenticate(credentials) => Question::Authenticate { client, credentials },
        Ask::Rules => Question::Rules { client },
        Ask::Authorize(request) => Question::Authorize { client, request },
        Ask::Transform(message) => Question::Transform { client, message },
        // Asynchronous plugins have no such rows.
        Ask::AuthorizeAll(_) | Ask::TransformAll(_) => return Err(CallFailed),
        Ask::Tick => Question::Tick { now_unix_ms: unix_ms() },
        Ask::Detect(windows) => Question::Detect { windows },
    };
    match black_box(plugin.ask(question)) {
        Reply::Authenticate(answer) => answer.map(drop),
        Reply::Rules(answer) => answer.map(drop),
        Reply::Authorize(answer) => answer.map(drop),
        Reply::Transform(answer) => answer.map(drop),
        Reply::Tick(answer) => answer.map(drop),
        Reply::Detect(answer) => answer.map(drop),
    }
}

/// The backends: what they answer during this call, as often and in which order they are asked. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<State>>);

struct State {
    /// Whenever an instance is made.
    init: Arc<[Exchange]>,
    known: Arc<[Exchange]>,
    unanswered: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            init: [].into(),
            known: [].into(),
            unanswered: None,
        }
    }
}

impl Answers {
    /// As the plugin host asks them.
    pub(super) fn backend(&self) -> HttpBackend {
        let answers = self.clone();
        HttpBackend::Scripted(Arc::new(move |request: &ScriptedRequest| {
            answers.lock().answer(request)
        }))
    }

    /// What `init` is answered, whenever it runs.
    pub(super) fn of_init_are(&self, init: &[Exchange]) {
        self.lock().init = init.into();
    }

    /// What is answered from now on.
    pub(super) fn are(&self, known: &Arc<[Exchange]>) {
        self.lock().known = known.clone();
    }

    /// The first request since the last time that nothing was known to answer.
    pub(super) fn unanswered(&self) -> Option<String> {
        self.lock().unanswered.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, request: &ScriptedRequest) -> Result<ScriptedResponse, String> {
        if let Some(exchange) = self
            .known
            .iter()
            .chain(&*self.init)
            .find(|exchange| exchange.fits(request))
        {
            return exchange.answer();
        }
        let asked = || format!("{} {}", request.method, request.url);
        self.unanswered.get_or_insert_with(asked);
        Err("the cases have no answer".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_answer_what_the_question_comes_with() {
        let exchanges = |toml: &str| -> Arc<[Exchange]> { [toml::from_str(toml).unwrap()].into() };
        let request = ScriptedRequest {
            method: "GET".to_owned(),
            url: "http://a/".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let answers = Answers::default();
        answers.are(&exchanges("url = \"http://a/\"\nstatus = 204"));
        for _ in 0..2 {
            assert_eq!(answers.lock().answer(&request).unwrap().status, 204);
        }
        assert_eq!(answers.unanswered(), None);
        answers.are(&exchanges("url = \"http://b/\""));
        assert!(answers.lock().answer(&request).is_err());
        assert_eq!(answers.unanswered().as_deref(), Some("GET http://a/"));
        assert_eq!(answers.unanswered(), None);
    }
}
