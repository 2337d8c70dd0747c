//! A request to a backend and its answer, as a recording has them.

use super::nouns::{bytes, readable};
use super::pairs::Pairs;
use super::recording::REDACTED;
use super::secrets;
use nervewire_plugin_host::{ScriptedRequest, ScriptedResponse, TappedBody, TappedExchange, TappedResponse};
use serde::{Deserialize, Serialize};
use std::ops::Not;

/// How much of an exchange may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All but what [`secrets`] finds.
    Everything,
    /// No bodies either.
    NoBodies,
    /// It may have a client's credentials anywhere.
    Outcome,
}

/// One request, and its answer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ExchangeLine {
    pub method: String,
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_body_base64: Option<String>,
    /// More was sent than is here.
    #[serde(default, skip_serializing_if = "Not::not")]
    request_body_cut: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    headers: Pairs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// There was more: the plugin did not read it, or it is not kept.
    #[serde(default, skip_serializing_if = "Not::not")]
    body_cut: bool,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Only its outcome is here: it cannot be replayed.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub outcome_only: bool,
}

/// What a request is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    method: String,
    url: String,
    /// `None`: whatever it is.
    body: Option<Vec<u8>>,
}

impl Key {
    /// Of a request in a replay, with its body and without.
    pub(crate) fn of(request: &ScriptedRequest) -> [Self; 2] {
        let exact = Self {
            method: request.method.clone(),
            url: secrets::url(&request.url),
            body: Some(secrets::body(&request.body).into_owned()),
        };
        let any = Self {
            body: None,
            ..exact.clone()
        };
        [exact, any]
    }
}

impl ExchangeLine {
    pub(crate) fn of(exchange: &TappedExchange, kept: Kept) -> Self {
        if kept == Kept::Outcome {
            return Self::outcome(exchange);
        }
        let (request_body, request_body_base64, request_body_cut) = written(&exchange.body, kept);
        let line = Self {
            method: exchange.method.clone(),
            url: secrets::url(&exchange.url),
            request_body,
            request_body_base64,
            request_body_cut,
            ..Self::default()
        };
        let response = match &exchange.answer {
            Ok(response) => response,
            Err(error) => {
                return Self {
                    error: Some(error.clone()),
                    ..line
                };
            }
        };
        let (body, body_base64, body_cut) = written(&response.body, kept);
        Self {
            status: Some(response.status),
            headers: headers(response),
            body,
            body_base64,
            body_cut,
            ..line
        }
    }

    fn outcome(exchange: &TappedExchange) -> Self {
        let response = exchange.answer.as_ref();
        Self {
            method: exchange.method.clone(),
            url: secrets::origin(&exchange.url),
            request_body: exchange.body.bytes.is_empty().not().then(|| REDACTED.to_owned()),
            status: response.ok().map(|response| response.status),
            body: response
                .ok()
                .filter(|response| !response.body.bytes.is_empty())
                .map(|_| REDACTED.to_owned()),
            error: response.err().cloned(),
            outcome_only: true,
            ..Self::default()
        }
    }

    /// `None`: the line is not complete, or only its outcome was kept.
    pub(crate) fn key(&self) -> Option<Key> {
        let body = bytes(
            "request_body",
            self.request_body.as_deref(),
            self.request_body_base64.as_deref(),
        );
        let body = body.ok()?.map(|bytes| bytes.to_vec()).unwrap_or_default();
        (!self.outcome_only).then(|| Key {
            method: self.method.clone(),
            url: self.url.clone(),
            body: (!self.request_body_cut).then_some(body),
        })
    }

    /// # Errors
    /// Why there was no answer, or what is wrong with the line.
    pub(crate) fn response(&self) -> Result<ScriptedResponse, String> {
        let missing = || {
            self.error
                .clone()
                .unwrap_or_else(|| "the recording has no status".to_owned())
        };
        let status = self.status.ok_or_else(missing)?;
        let body = bytes("body", self.body.as_deref(), self.body_base64.as_deref())?;
        Ok(ScriptedResponse {
            status,
            headers: self.headers.iter().cloned().collect(),
            body: body.unwrap_or_default().to_vec(),
            breaks_off: self.body_cut,
        })
    }
}

/// A body as text, or in base64, and whether some of it is missing.
fn written(body: &TappedBody, kept: Kept) -> (Option<String>, Option<String>, bool) {
    if body.bytes.is_empty() && body.whole {
        return (None, None, false);
    }
    // The beginning of JSON is none in which secrets are found.
    if kept == Kept::NoBodies || !body.whole {
        return (None, None, true);
    }
    let (text, base64) = readable(&secrets::body(&body.bytes));
    (text, base64, false)
}

fn headers(response: &TappedResponse) -> Pairs {
    let kept = response.headers.iter().filter_map(|(name, value)| {
        let value = secrets::header(name, value)?;
        Some((name.as_str(), value))
    });
    Pairs::of(&kept.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str, whole: bool) -> TappedBody {
        TappedBody {
            bytes: text.as_bytes().to_vec(),
            whole,
        }
    }

    fn exchange() -> TappedExchange {
        TappedExchange {
            method: "POST".to_owned(),
            url: "http://a/path?token=s3cret".to_owned(),
            body: body("user=ann&password=s3cret", true),
            answer: Ok(TappedResponse {
                status: 200,
                headers: vec![("set-cookie".into(), "s3cret".into()), ("etag".into(), "1".into())],
                body: body("{\"api_key\":\"s3cret\",\"result\":\"allow\"}", true),
            }),
        }
    }

    fn request(url: &str, body: &str) -> ScriptedRequest {
        ScriptedRequest {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn an_exchange_is_written_without_secrets_and_found_again() {
        let line = ExchangeLine::of(&exchange(), Kept::Everything);
        let json = serde_json::to_string(&line).unwrap();
        assert!(!json.contains("s3cret") && json.contains("allow"), "{json}");
        let read: ExchangeLine = serde_json::from_str(&json).unwrap();
        let asked = Key::of(&request("http://a/path?token=other", "user=ann&password=other"));
        assert!(
            asked.contains(&read.key().unwrap()),
            "secrets do not tell requests apart"
        );
        let asked = Key::of(&request("http://a/path?token=other", "user=bob&password=other"));
        assert!(!asked.contains(&read.key().unwrap()));
        let response = read.response().unwrap();
        assert_eq!((response.status, response.breaks_off), (200, false));
        assert_eq!(response.headers[0], ("set-cookie".to_owned(), REDACTED.to_owned()));
    }

    #[test]
    fn of_credentials_only_the_outcome_is_written() {
        let line = ExchangeLine::of(&exchange(), Kept::Outcome);
        let json = serde_json::to_string(&line).unwrap();
        for part in ["s3cret", "ann", "path", "allow", "etag"] {
            assert!(!json.contains(part), "{part}: {json}");
        }
        assert_eq!((line.status, line.key()), (Some(200), None));
    }

    #[test]
    fn without_bodies_a_request_is_found_by_the_rest() {
        let line = ExchangeLine::of(&exchange(), Kept::NoBodies);
        assert!(!serde_json::to_string(&line).unwrap().contains("allow"));
        let asked = Key::of(&request("http://a/path?token=x", "whatever"));
        assert!(asked.contains(&line.key().unwrap()));
        assert!(line.response().unwrap().breaks_off);
        let mut cut = exchange();
        cut.body.whole = false;
        let line = ExchangeLine::of(&cut, Kept::Everything);
        assert!(
            !serde_json::to_string(&line).unwrap().contains("ann"),
            "secrets are found in whole bodies"
        );
        assert!(asked.contains(&line.key().unwrap()));
    }

    #[test]
    fn where_nobody_answered_nobody_does() {
        let failed = TappedExchange {
            answer: Err("refused".to_owned()),
            ..exchange()
        };
        let line = ExchangeLine::of(&failed, Kept::Everything);
        assert_eq!(line.response().unwrap_err(), "refused");
    }
}
