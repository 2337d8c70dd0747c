//! The backends of a replay: they answer what the recording says they answered, and nothing else.

use super::exchange::{ExchangeLine, Key};
use super::recording::CallLine;
use super::script::Exchange;
use super::secrets;
use nervewire_plugin_host::{HttpBackend, ScriptedRequest, ScriptedResponse};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Served(Arc<Mutex<State>>);

struct State {
    /// What `init` is answered first, in any order: the recording may begin after it.
    given: Vec<Exchange>,
    recorded: HashMap<Key, Vec<Recorded>>,
    /// The call under way; 0 before the first.
    line: usize,
    refused: Vec<String>,
}

/// An exchange, and the call it belongs to.
struct Recorded {
    line: usize,
    exchange: ExchangeLine,
    used: bool,
}

impl Served {
    pub(crate) fn new(given: &[Exchange], calls: &[(usize, CallLine)]) -> Self {
        let mut recorded: HashMap<Key, Vec<Recorded>> = HashMap::new();
        for (line, call) in calls {
            for exchange in &call.http {
                let Some(key) = exchange.key() else { continue };
                recorded.entry(key).or_default().push(Recorded {
                    line: *line,
                    exchange: exchange.clone(),
                    used: false,
                });
            }
        }
        Self(Arc::new(Mutex::new(State {
            given: given.to_vec(),
            recorded,
            line: 0,
            refused: Vec::new(),
        })))
    }

    /// As the plugin host asks it.
    pub(crate) fn backend(&self) -> HttpBackend {
        let served = self.clone();
        HttpBackend::Scripted(Arc::new(move |request: &ScriptedRequest| served.lock().answer(request)))
    }

    /// The call of this line is made now.
    pub(crate) fn begin(&self, line: usize) {
        self.lock().line = line;
    }

    /// Requests that found no answer since the last time.
    pub(crate) fn refused(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().refused)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, request: &ScriptedRequest) -> Result<ScriptedResponse, String> {
        if self.line == 0
            && let Some(exchange) = self.given.iter().find(|exchange| exchange.fits(request))
        {
            return exchange.answer();
        }
        let line = self.line;
        for key in Key::of(request) {
            if let Some(found) = self.recorded.get_mut(&key).and_then(|all| pick(all, line)) {
                return found.response();
            }
        }
        let (method, url) = (&request.method, secrets::url(&request.url));
        let why = format!("the recording has no answer to {method} {url}");
        self.refused.push(why.clone());
        Err(why)
    }
}

/// The next one of this call; else the last of earlier calls, whose answer the plugin may have kept then, and the first of later ones.
fn pick(all: &mut [Recorded], line: usize) -> Option<&ExchangeLine> {
    let own = all.iter().position(|recorded| recorded.line == line && !recorded.used);
    let earlier = || all.iter().rposition(|recorded| recorded.line <= line);
    let found = own.or_else(earlier).unwrap_or(0);
    let recorded = all.get_mut(found)?;
    recorded.used |= recorded.line == line;
    Some(&recorded.exchange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(exchanges: &[(usize, &str, &str)]) -> Vec<(usize, CallLine)> {
        let call = |(line, url, body): &(usize, &str, &str)| {
            let line_of = format!(
                "{{\"at_unix_ms\":1,\"plugin\":\"p\",\"generation\":1,\"digest\":\"d\",\"call\":\"tick\",\"took_ns\":1,\
                 \"http\":[{{\"method\":\"GET\",\"url\":\"{url}\",\"status\":200,\"body\":\"{body}\"}}]}}"
            );
            (*line, serde_json::from_str(&line_of).unwrap())
        };
        exchanges.iter().map(call).collect()
    }

    fn get(served: &Served, url: &str) -> Result<String, String> {
        let request = ScriptedRequest {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let answer = served.lock().answer(&request)?;
        Ok(String::from_utf8(answer.body).unwrap())
    }

    #[test]
    fn a_call_gets_its_own_answers_in_their_order_else_the_nearest() {
        let mut calls = calls(&[
            (2, "http://a/", "one"),
            (4, "http://a/", "two"),
            (4, "http://a/", "three"),
        ]);
        let last = calls.pop().unwrap().1;
        calls[1].1.http.extend(last.http);
        let served = Served::new(&[], &calls);
        let body = |line, expected: &str| {
            served.begin(line);
            assert_eq!(get(&served, "http://a/").unwrap(), expected, "{line}");
        };
        body(0, "one");
        body(2, "one");
        body(2, "one");
        body(3, "one");
        body(4, "two");
        body(4, "three");
        body(4, "three");
        body(9, "three");
        assert!(served.refused().is_empty());
    }

    #[test]
    fn what_is_not_in_the_recording_is_refused() {
        let served = Served::new(&[], &calls(&[(2, "http://a/", "one")]));
        let why = get(&served, "http://a/b?token=s3cret").unwrap_err();
        assert_eq!(why, "the recording has no answer to GET http://a/b?token=[redacted]");
        assert_eq!(served.refused(), [why]);
        assert!(served.refused().is_empty());
    }

    #[test]
    fn init_is_answered_by_what_is_given() {
        let given: Exchange = toml::from_str("url = \"http://a/\"\nbody = \"given\"").unwrap();
        let served = Served::new(&[given], &calls(&[(2, "http://a/", "one")]));
        assert_eq!(get(&served, "http://a/").unwrap(), "given");
        served.begin(3);
        assert_eq!(get(&served, "http://a/").unwrap(), "one");
    }
}
