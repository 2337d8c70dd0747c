//! The backends of a plugin under test: what a file of cases says they answer, in that order, and nothing else.

use super::nouns::bytes;
use super::pairs::Pairs;
use nervewire_plugin_host::{HttpBackend, ScriptedRequest, ScriptedResponse};
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One request that is expected, and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    #[serde(default = "get")]
    method: String,
    url: String,
    /// Text that must be in the request's body.
    request_contains: Option<String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: Pairs,
    body: Option<String>,
    body_base64: Option<String>,
    /// There is no answer: the connection fails.
    #[serde(default)]
    unreachable: bool,
}

fn get() -> String {
    "GET".to_owned()
}

fn ok() -> u16 {
    200
}

impl Exchange {
    /// # Errors
    /// What cannot be meant.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.response().map(|_| ())?;
        match self.status {
            100..=999 => Ok(()),
            status => Err(format!("status = {status}; write one from 100 to 999, such as 200")),
        }
    }

    fn response(&self) -> Result<ScriptedResponse, String> {
        let body = bytes("body", self.body.as_deref(), self.body_base64.as_deref())?;
        Ok(ScriptedResponse {
            status: self.status,
            headers: self.headers.iter().cloned().collect(),
            body: body.unwrap_or_default().to_vec(),
            breaks_off: false,
        })
    }

    /// # Errors
    /// Nobody answers.
    pub(super) fn answer(&self) -> Result<ScriptedResponse, String> {
        match self.unreachable {
            true => Err("the cases say that nobody answers".to_owned()),
            false => self.response(),
        }
    }

    pub(super) fn fits(&self, request: &ScriptedRequest) -> bool {
        let body = String::from_utf8_lossy(&request.body);
        self.method == request.method
            && self.url == request.url
            && self.request_contains.as_ref().is_none_or(|part| body.contains(part))
    }
}

/// The exchanges still to come, and what went otherwise. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    expected: VecDeque<Exchange>,
    problems: Vec<String>,
}

impl Script {
    /// As the plugin host asks it.
    pub(crate) fn backend(&self) -> HttpBackend {
        let script = self.clone();
        HttpBackend::Scripted(Arc::new(move |request: &ScriptedRequest| script.lock().answer(request)))
    }

    /// What is expected from now on.
    pub(crate) fn expect(&self, exchanges: &[Exchange]) {
        self.lock().expected = exchanges.iter().cloned().collect();
    }

    /// What went otherwise since the last time; requests that did not come are part of it.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut state = self.lock();
        let missing: Vec<Exchange> = state.expected.drain(..).collect();
        let mut problems = std::mem::take(&mut state.problems);
        let missed = missing
            .iter()
            .map(|exchange| format!("no request came: {} {}", exchange.method, exchange.url));
        problems.extend(missed);
        problems
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, request: &ScriptedRequest) -> Result<ScriptedResponse, String> {
        match self.expected.pop_front_if(|exchange| exchange.fits(request)) {
            Some(exchange) => exchange.answer(),
            None => {
                let expected = self.expected.front().map_or_else(
                    || "none".to_owned(),
                    |exchange| {
                        let part = exchange.request_contains.as_ref();
                        let with = part.map_or_else(String::new, |part| format!(" with {part:?} in its body"));
                        format!("{} {}{with}", exchange.method, exchange.url)
                    },
                );
                let (method, url) = (&request.method, &request.url);
                let body = String::from_utf8_lossy(&request.body);
                self.problems.push(format!(
                    "unexpected request: {method} {url} with the body {body:?}; expected was {expected}"
                ));
                Err("the cases expect another request".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(toml: &str) -> Exchange {
        toml::from_str(toml).unwrap()
    }

    fn request(method: &str, url: &str, body: &str) -> ScriptedRequest {
        ScriptedRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn requests_are_answered_in_order_and_others_noted() {
        let script = Script::default();
        let ask = |request: &ScriptedRequest| script.lock().answer(request);
        script.expect(&[
            exchange("method = \"POST\"\nurl = \"http://a/\"\nrequest_contains = \"ann\"\nstatus = 204"),
            exchange("url = \"http://a/b\"\nbody = \"hi\"\nheaders = { x = \"y\" }"),
        ]);
        assert!(ask(&request("POST", "http://a/", "user=bob")).is_err(), "another body");
        assert_eq!(ask(&request("POST", "http://a/", "user=ann")).unwrap().status, 204);
        let answer = ask(&request("GET", "http://a/b", "")).unwrap();
        assert_eq!((answer.body, answer.headers.len()), (b"hi".to_vec(), 1));
        let problems = script.problems();
        assert!(problems.len() == 1 && problems[0].contains("bob"), "{problems:?}");
        script.expect(&[
            exchange("url = \"http://a/\"\nunreachable = true"),
            exchange("url = \"http://c/\""),
        ]);
        assert!(ask(&request("GET", "http://a/", "")).is_err());
        assert_eq!(script.problems(), ["no request came: GET http://c/"]);
        assert!(script.problems().is_empty());
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        assert!(exchange("url = \"http://a/\"\nstatus = 99").check().is_err());
        assert!(
            exchange("url = \"http://a/\"\nbody = \"x\"\nbody_base64 = \"eA==\"")
                .check()
                .is_err()
        );
        assert!(exchange("url = \"http://a/\"").check().is_ok());
    }
}
