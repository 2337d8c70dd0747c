//! Which calls `plugin bench` measures: each hook by itself, with questions of the cases where there are some.

use super::cases::{self, Case, Question, default_client};
use super::script::Exchange;
use crate::unix_time::unix_ms;
use nervewire_codec::{QoS, Utf8String};
use nervewire_core::hook::{Action, AppMessage, Client, Credentials, Request, Window};
use nervewire_core::shard::{MAX_BATCH_BYTES, MAX_BATCH_MESSAGES};
use nervewire_plugin_host::{Hook, Plugin, Role};
use std::borrow::Cow;
use std::sync::Arc;

/// Payload sizes of `transform`.
const PAYLOADS: [(&str, usize); 3] = [("64 B", 64), ("1 KiB", 1024), ("64 KiB", 65_536)];
/// Clients whose windows are closed at a time, where the cases have none.
const WINDOWS: u32 = 100;

/// A call to measure.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Authenticate(Credentials),
    Rules,
    /// Called directly, also where the plugin's rules would spare the broker the call.
    Authorize(Request),
    Transform(AppMessage),
    /// What the broker asks about at once.
    AuthorizeAll(Vec<Request>),
    TransformAll(Vec<AppMessage>),
    /// At the time of the call.
    Tick,
    Detect(Vec<Window>),
}

/// A call, by whom, and what backends answer meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) client: Client,
    pub(super) ask: Ask,
    pub(super) http: Arc<[Exchange]>,
}

/// One line of the table: questions that are asked in turn.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) role: Role,
    pub(super) questions: Vec<Asked>,
}

impl Row {
    fn new(label: impl Into<String>, questions: Vec<Asked>) -> Self {
        let role = questions
            .first()
            .map_or(Role::Shard, |asked| super::bench::role(&asked.ask));
        Self {
            label: label.into(),
            role,
            questions,
        }
    }
}

impl Ask {
    /// Questions that are answered by one call.
    pub(super) fn questions(&self) -> usize {
        match self {
            Self::AuthorizeAll(requests) => requests.len(),
            Self::TransformAll(messages) => messages.len(),
            _ => 1,
        }
    }

    /// As often as the broker would ask about it at once; `None`: it never asks more than once.
    fn in_a_batch(&self) -> Option<Self> {
        match self {
            Self::Authorize(request) => Some(Self::AuthorizeAll(vec![request.clone(); MAX_BATCH_MESSAGES])),
            Self::Transform(message) => {
                let bytes = message.topic.len() + message.payload.len();
                let messages = (MAX_BATCH_BYTES / bytes.max(1)).min(MAX_BATCH_MESSAGES);
                (messages > 1).then(|| Self::TransformAll(vec![message.clone(); messages]))
            }
            _ => None,
        }
    }
}

/// The same questions, each of them several times in one call.
fn batched(row: &Row) -> Option<Row> {
    let all: Option<Vec<Asked>> = row.questions.iter().map(batched_question).collect();
    let questions = all?;
    let times = questions.first()?.ask.questions();
    let same = questions.iter().all(|asked| asked.ask.questions() == times);
    same.then(|| Row::new(format!("{}, {times} at once", row.label), questions))
}

fn batched_question(asked: &Asked) -> Option<Asked> {
    Some(Asked {
        ask: asked.ask.in_a_batch()?,
        ..asked.clone()
    })
}

pub(super) fn rows(plugin: &Plugin, cases: &[Case]) -> Vec<Row> {
    let rows = single_rows(plugin, cases);
    if plugin.is_asynchronous() || !plugin.takes_batches() {
        return rows;
    }
    let with_batches = |row: Row| {
        [batched(&row), Some(row)]
            .into_iter()
            .flatten()
            .rev()
            .collect::<Vec<_>>()
    };
    rows.into_iter().flat_map(with_batches).collect()
}

fn single_rows(plugin: &Plugin, cases: &[Case]) -> Vec<Row> {
    let mut rows = Vec::new();
    if plugin.has_hook(Hook::Authenticate) {
        let logins = asked(cases, |question| match question {
            Question::Authenticate(credentials) => Some(Ask::Authenticate(credentials.clone())),
            _ => None,
        });
        rows.push(Row::new(
            "authenticate",
            or_default(logins, || Ask::Authenticate(login())),
        ));
    }
    if plugin.has_hook(Hook::Authorize) {
        let requests = asked(cases, |question| match question {
            Question::Authorize(request) => Some(Ask::Authorize(request.clone())),
            _ => None,
        });
        let requests = or_default(requests, || Ask::Authorize(publish()));
        let rules = requests
            .iter()
            .map(|asked| Asked {
                ask: Ask::Rules,
                ..asked.clone()
            })
            .collect();
        rows.push(Row::new("authorize", requests));
        rows.push(Row::new("rules", rules));
    }
    if plugin.has_hook(Hook::Transform) {
        let messages = asked(cases, |question| match question {
            Question::Transform(message) => Some(Ask::Transform(message.clone())),
            _ => None,
        });
        rows.extend(transforms(messages));
    }
    if plugin.has_hook(Hook::Detect) {
        let closed = asked(cases, |question| match question {
            Question::Detect(written) => Some(Ask::Detect(cases::windows(written, unix_ms()))),
            _ => None,
        });
        let label = match closed.is_empty() {
            true => format!("detect, {WINDOWS} windows"),
            false => "detect".to_owned(),
        };
        rows.push(Row::new(label, or_default(closed, || Ask::Detect(windows()))));
    }
    // Every component has this one; that it does something there is known from the cases alone.
    let ticks = asked(cases, |question| {
        matches!(question, Question::Tick).then_some(Ask::Tick)
    });
    if !ticks.is_empty() {
        rows.push(Row::new("tick", ticks));
    }
    rows
}

/// The messages of the cases as they are, and each size with the topics of the cases.
fn transforms(messages: Vec<Asked>) -> Vec<Row> {
    let written = !messages.is_empty();
    let messages = or_default(messages, || Ask::Transform(message()));
    let sized = PAYLOADS.iter().map(|(size, bytes)| {
        let questions = messages.iter().map(|asked| Asked {
            ask: filled(&asked.ask, *bytes),
            ..asked.clone()
        });
        Row::new(format!("transform {size}"), questions.collect())
    });
    let sized: Vec<_> = sized.collect();
    let as_written = written.then(|| Row::new("transform, as in the cases", messages));
    as_written.into_iter().chain(sized).collect()
}

fn asked(cases: &[Case], ask: impl Fn(&Question) -> Option<Ask>) -> Vec<Asked> {
    let questions = cases.iter().filter_map(|case| {
        Some(Asked {
            client: case.client.clone(),
            ask: ask(&case.question)?,
            http: case.http.as_slice().into(),
        })
    });
    questions.collect()
}

fn or_default(questions: Vec<Asked>, default: impl FnOnce() -> Ask) -> Vec<Asked> {
    match questions.is_empty() {
        true => vec![Asked {
            client: default_client(),
            ask: default(),
            http: [].into(),
        }],
        false => questions,
    }
}

/// The same message with a payload of so many bytes; one that is a JSON object stays one.
fn filled(ask: &Ask, bytes: usize) -> Ask {
    let Ask::Transform(message) = ask else {
        return ask.clone();
    };
    let payload = object(&message.payload, bytes).unwrap_or_else(|| vec![b'x'; bytes]);
    Ask::Transform(AppMessage {
        payload: payload.into(),
        ..message.clone()
    })
}

/// The object with one more field at its end, which fills it up. `None`: it is no object, or too long already.
fn object(payload: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload).ok()?;
    let (open, close) = match object.is_empty() {
        true => ("\"filler\":\"", "\"}"),
        false => (",\"filler\":\"", "\"}"),
    };
    let text = payload.trim_ascii_end();
    let mut filled = text.strip_suffix(b"}")?.to_vec();
    let filler = bytes.checked_sub(filled.len() + open.len() + close.len())?;
    filled.extend_from_slice(open.as_bytes());
    filled.resize(filled.len() + filler, b'x');
    filled.extend_from_slice(close.as_bytes());
    Some(filled)
}

fn login() -> Credentials {
    Credentials {
        username: Some(constant("bench")),
        password: Some(bytes::Bytes::from_static(b"a password")),
        ..Credentials::default()
    }
}

fn publish() -> Request {
    Request {
        action: Action::Publish,
        topic: constant("bench/some/topic"),
        qos: QoS::AtLeastOnce,
        retain: false,
    }
}

/// Of clients that do all the same.
fn windows() -> Vec<Window> {
    let window = |number| Window {
        client_id: format!("client-{number}").into(),
        username: None,
        address: default_client().address,
        started_unix_ms: unix_ms().saturating_sub(10_000),
        length_ms: 10_000,
        messages_in: 10,
        messages_out: 10,
        bytes_in: 1_000,
        bytes_out: 1_000,
        distinct_topics: 2,
        denials: 0,
        malformed_packets: 0,
        failed_logins: 0,
        connects: 0,
        payload_bytes_min: 90,
        payload_bytes_max: 110,
        payload_bytes_mean: 100.0,
        payload_bytes_deviation: 5.0,
    };
    (0..WINDOWS).map(window).collect()
}

fn message() -> AppMessage {
    AppMessage {
        topic: constant("bench/some/topic"),
        payload: bytes::Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: None,
    }
}

fn constant(text: &'static str) -> Utf8String {
    Utf8String::from_static(text)
}

/// What `row` is called in a table.
pub(super) fn label(row: &Row) -> Cow<'_, str> {
    match row.questions.len() {
        1 => Cow::Borrowed(&row.label),
        many => Cow::Owned(format!("{} ({many} questions)", row.label)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_filled_up_and_stays_one() {
        let check = |payload: &str, bytes: usize| {
            let filled = object(payload.as_bytes(), bytes).unwrap();
            assert_eq!(filled.len(), bytes, "{payload}");
            let read: serde_json::Map<_, _> = serde_json::from_slice(&filled).unwrap();
            assert!(read.contains_key("filler"), "{read:?}");
            read.len()
        };
        assert_eq!(check("{}", 64), 1);
        assert_eq!(check("{\"a\": 1}\n", 1024), 2);
        assert_eq!(object(b"{\"a\": 1}", 10), None, "too long already");
        assert_eq!(object(b"[1]", 64), None);
    }
}
