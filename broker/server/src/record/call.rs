//! A call on its way to the recording: everything but what is secret, cheap to take along.

use crate::plugin_tools::answers;
use crate::plugin_tools::exchange::{ExchangeLine, Kept};
use crate::plugin_tools::nouns::{ClientText, MessageText, RequestText};
use crate::plugin_tools::recording::{CallLine, CredentialsLine, REDACTED};
use crate::unix_time::unix_ms;
use crate::window_text::WindowText;
use bytes::Bytes;
use nervewire_core::hook::{
    AppMessage, AppMessageRef, Authentication, Client, Credentials, Finding, Identity, Request, Rule, Transformation,
    Verdict, Window,
};
use nervewire_plugin_host::{TappedAnswer, TappedCall, TappedExchange, TappedQuestion};
use serde_json::Value;

/// A call, detached from the thread that made it.
pub(super) struct Recorded {
    at_unix_ms: u64,
    plugin: String,
    generation: u64,
    digest: String,
    call: &'static str,
    client: Option<Client>,
    question: Question,
    answer: Result<Answer, &'static str>,
    took_ns: u64,
    payloads: bool,
    /// With its secrets, until it is written.
    exchanges: Vec<TappedExchange>,
    exchanges_over_bound: u64,
}

enum Question {
    Authenticate(CredentialsLine),
    Rules,
    Authorize(Request),
    Transform(AppMessage, usize),
    Tick(u64),
    Detect(Vec<Window>),
}

enum Answer {
    Authentication(Authentication),
    Rules(Option<Vec<Rule>>),
    Verdict(Verdict),
    Transformation(Transformation),
    Tick(Vec<AppMessage>),
    Findings(Vec<Finding>),
}

impl Recorded {
    pub(super) fn of(call: &TappedCall<'_>, payloads: bool) -> Self {
        let question = match call.question {
            TappedQuestion::Authenticate(_, credentials) => Question::Authenticate(redacted(credentials)),
            TappedQuestion::Rules(_) => Question::Rules,
            TappedQuestion::Authorize(_, request) => Question::Authorize(request.to_request()),
            TappedQuestion::Transform(_, message) => {
                // Not copied only to be left out.
                let payload = if payloads { message.payload } else { &[] };
                let asked = AppMessageRef { payload, ..message };
                Question::Transform(kept(&asked.to_message(), payloads), message.payload.len())
            }
            TappedQuestion::Tick(now_unix_ms) => Question::Tick(now_unix_ms),
            TappedQuestion::Detect(windows) => Question::Detect(windows.to_vec()),
        };
        let answer = call.answer.map(|answer| match answer {
            TappedAnswer::Authentication(answer) => Answer::Authentication(without_secrets(answer)),
            TappedAnswer::Rules(rules) => Answer::Rules(rules.map(<[Rule]>::to_vec)),
            TappedAnswer::Verdict(verdict) => Answer::Verdict(*verdict),
            TappedAnswer::Transformation(answer) => Answer::Transformation(kept_answer(answer, payloads)),
            TappedAnswer::Tick(messages) => Answer::Tick(kept_all(messages, payloads)),
            TappedAnswer::Findings(findings) => Answer::Findings(findings.to_vec()),
        });
        Self {
            at_unix_ms: unix_ms(),
            plugin: call.plugin.to_owned(),
            generation: call.generation,
            digest: call.digest.to_owned(),
            call: name(call.question),
            client: call.question.client().cloned(),
            question,
            answer: answer.map_err(|outcome| outcome.label()),
            took_ns: call.took_ns,
            payloads,
            exchanges: call.exchanges.to_vec(),
            exchanges_over_bound: call.exchanges_over_bound,
        }
    }

    /// About what it holds while it waits.
    pub(super) fn size_bytes(&self) -> usize {
        const FACTS_BYTES: usize = 1024;
        const WINDOW_BYTES: usize = 256;
        let message = |message: &AppMessage| message.topic.len() + message.payload.len();
        let asked = match &self.question {
            Question::Transform(asked, _) => message(asked),
            Question::Detect(windows) => windows.len() * WINDOW_BYTES,
            _ => 0,
        };
        let answered = match &self.answer {
            Ok(Answer::Transformation(Transformation::Replace(answer))) => message(answer),
            Ok(Answer::Transformation(Transformation::Emit(answers))) => answers.iter().map(message).sum(),
            Ok(Answer::Tick(messages)) => messages.iter().map(message).sum(),
            Ok(Answer::Findings(findings)) => findings.iter().map(|finding| finding.evidence.len() + 128).sum(),
            Ok(Answer::Rules(Some(rules))) => rules.iter().map(|rule| rule.topic_filter.len() + 64).sum(),
            _ => 0,
        };
        FACTS_BYTES + asked + answered + self.exchanges.iter().map(exchange_bytes).sum::<usize>()
    }

    /// As it is written.
    pub(super) fn line(&self) -> CallLine {
        let (mut credentials, mut request, mut message, mut redacted_payload_bytes) = (None, None, None, None);
        let (mut now_unix_ms, mut windows) = (None, None);
        match &self.question {
            Question::Authenticate(line) => credentials = Some(line.clone()),
            Question::Rules => {}
            Question::Authorize(asked) => request = Some(RequestText::of(asked)),
            Question::Transform(asked, bytes) => {
                message = Some(MessageText::of(asked));
                redacted_payload_bytes = (!self.payloads).then_some(*bytes);
            }
            Question::Tick(asked) => now_unix_ms = Some(*asked),
            Question::Detect(asked) => windows = Some(asked.iter().map(WindowText::of).collect()),
        }
        CallLine {
            at_unix_ms: self.at_unix_ms,
            plugin: self.plugin.clone(),
            generation: self.generation,
            digest: self.digest.clone(),
            call: self.call.to_owned(),
            client: self.client.as_ref().map(ClientText::of),
            credentials,
            request,
            message,
            redacted_payload_bytes,
            now_unix_ms,
            windows,
            http: self.http(),
            http_over_bound: self.exchanges_over_bound,
            answer: self.answer.as_ref().map_or(Value::Null, Answer::json),
            failed: self.answer.as_ref().err().map(|outcome| (*outcome).to_owned()),
            took_ns: self.took_ns,
        }
    }
}

impl Recorded {
    fn http(&self) -> Vec<ExchangeLine> {
        let kept = match (&self.question, self.payloads) {
            (Question::Authenticate(_), _) => Kept::Outcome,
            (_, true) => Kept::Everything,
            (_, false) => Kept::NoBodies,
        };
        let lines = self.exchanges.iter().map(|exchange| ExchangeLine::of(exchange, kept));
        lines.collect()
    }
}

fn exchange_bytes(exchange: &TappedExchange) -> usize {
    const FACTS_BYTES: usize = 256;
    let answered = exchange.answer.as_ref().map_or(0, |response| {
        let headers = response.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        headers + response.body.bytes.len()
    });
    FACTS_BYTES + exchange.url.len() + exchange.body.bytes.len() + answered
}

impl Answer {
    fn json(&self) -> Value {
        match self {
            Answer::Authentication(answer) => answers::authentication(answer),
            Answer::Rules(rules) => answers::rules(rules.as_deref()),
            Answer::Verdict(verdict) => answers::verdict(verdict),
            Answer::Transformation(answer) => answers::transformation(answer),
            Answer::Tick(messages) => answers::tick(messages),
            Answer::Findings(findings) => answers::findings(findings),
        }
    }
}

/// The function that was called.
fn name(question: TappedQuestion<'_>) -> &'static str {
    match question {
        TappedQuestion::Authenticate(..) => "authenticate",
        TappedQuestion::Rules(_) => "rules",
        TappedQuestion::Authorize(..) => "authorize",
        TappedQuestion::Transform(..) => "transform",
        TappedQuestion::Tick(_) => "tick",
        TappedQuestion::Detect(_) => "detect",
    }
}

/// The hook it belongs to.
pub(super) fn hook(question: TappedQuestion<'_>) -> &'static str {
    match name(question) {
        "rules" => "authorize",
        name => name,
    }
}

/// Which credentials there were. Nothing is kept of a secret, no hash either: a password's could be guessed.
fn redacted(credentials: &Credentials) -> CredentialsLine {
    let marker = |there: bool| there.then(|| REDACTED.to_owned());
    CredentialsLine {
        username: credentials.username.as_ref().map(ToString::to_string),
        password: marker(credentials.password.is_some()),
        method: credentials.method.as_ref().map(ToString::to_string),
        data: marker(credentials.data.is_some()),
        state: marker(credentials.state.is_some()),
        reauthentication: credentials.reauthentication,
    }
}

fn without_secrets(answer: &Authentication) -> Authentication {
    let marker = || Bytes::from_static(REDACTED.as_bytes());
    match answer {
        Authentication::Allow(identity) => Authentication::Allow(Identity {
            data: identity.data.as_ref().map(|_| marker()),
            ..identity.clone()
        }),
        Authentication::Challenge { .. } => Authentication::Challenge {
            data: marker(),
            state: marker(),
        },
        Authentication::Deny(_) | Authentication::Abstain => answer.clone(),
    }
}

fn kept(message: &AppMessage, payloads: bool) -> AppMessage {
    if payloads {
        return message.clone();
    }
    let mut properties = message.properties.as_deref().cloned();
    if let Some(properties) = &mut properties {
        properties.correlation_data = None;
    }
    AppMessage {
        payload: Bytes::new(),
        properties: properties.map(Into::into),
        ..message.clone()
    }
}

fn kept_answer(answer: &Transformation, payloads: bool) -> Transformation {
    match answer {
        Transformation::Replace(message) => Transformation::Replace(kept(message, payloads)),
        Transformation::Emit(messages) => Transformation::Emit(kept_all(messages, payloads)),
        other => other.clone(),
    }
}

fn kept_all(messages: &[AppMessage], payloads: bool) -> Vec<AppMessage> {
    messages.iter().map(|message| kept(message, payloads)).collect()
}
