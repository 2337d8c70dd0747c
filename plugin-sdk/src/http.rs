//! Requests to HTTP backends. Needs a grant for the origin, such as `http://auth.internal:8080`.
//!
//! A plugin with such a grant is *asynchronous*: the broker calls it beside its shards, in as many instances as its limit
//! `http_calls` says, and only the client whose question it is waits. The whole call, with all its requests, must end
//! within `http_call_ms`.
//!
//! ```
//! use nervewire_plugin_sdk::{http, testing};
//! testing::http(|request| {
//!     assert_eq!(request.url, "http://auth.internal:8080/login");
//!     Ok(http::Response::new(200).with_body("welcome"))
//! });
//! let answer = http::post("http://auth.internal:8080/login").form(&[("user", "ann")]).send()?;
//! assert!(answer.is_success());
//! assert_eq!(answer.text(), "welcome");
//! # Ok::<(), http::Error>(())
//! ```

mod message;
mod redirect;
mod url;

pub use message::{Request, Response};
pub(crate) use url::Url;

#[cfg(target_arch = "wasm32")]
use crate::guest::http as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::http as host;
use message::check_header;
use std::fmt;
use std::time::Duration;

/// Bytes of an answer's body, unless [`RequestBuilder::max_body_bytes`] says otherwise.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;

/// A `GET` of a URL.
pub fn get(url: &str) -> RequestBuilder {
    request("GET", url)
}

/// A `POST` to a URL.
pub fn post(url: &str) -> RequestBuilder {
    request("POST", url)
}

/// A request of any method.
pub fn request(method: &str, url: &str) -> RequestBuilder {
    RequestBuilder {
        request: Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        },
        flaw: (!message::is_token(method)).then(|| Error::Protocol(format!("{method:?} is not a method"))),
        bounds: Bounds {
            timeout: None,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        },
        max_redirects: 0,
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not an absolute URL with `http` or `https`, or one with a user name in it.
    BadUrl,
    /// The plugin has no grant for the URL's origin.
    NotGranted,
    /// The backend took longer than allowed.
    Timeout,
    /// There was no connection.
    Connect(String),
    /// The answer's body is over [`RequestBuilder::max_body_bytes`].
    TooLarge,
    /// More redirects than [`RequestBuilder::max_redirects`].
    TooManyRedirects,
    /// The request cannot be sent, or what came back is not HTTP.
    Protocol(String),
    /// What was to be written or read is not JSON, or not that JSON.
    Json(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl => f.write_str("not an absolute http:// or https:// URL"),
            Self::NotGranted => f.write_str("the plugin has no grant for this origin"),
            Self::Timeout => f.write_str("the backend took too long"),
            Self::Connect(why) => write!(f, "no connection to the backend: {why}"),
            Self::TooLarge => f.write_str("the backend's answer is too large"),
            Self::TooManyRedirects => f.write_str("the backend redirects too often"),
            Self::Protocol(why) => write!(f, "HTTP went wrong: {why}"),
            Self::Json(why) => write!(f, "not the expected JSON: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// A request that is being put together.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct RequestBuilder {
    request: Request,
    /// The first thing that was wrong; `send` reports it.
    flaw: Option<Error>,
    bounds: Bounds,
    max_redirects: u32,
}

/// Bounds of one request on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // The stand-in answers at once.
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_body_bytes: usize,
}

impl RequestBuilder {
    /// Adds a header. Those that say where a request goes and how long it is are the broker's.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match check_header(name, value) {
            Ok(()) => self.request.headers.push((name.to_owned(), value.to_owned())),
            Err(flaw) => {
                self.flaw.get_or_insert(flaw);
            }
        }
        self
    }

    /// The body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request.body = body.into();
        self
    }

    /// A body of JSON, with its content type.
    pub fn json(mut self, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(error) => {
                self.flaw.get_or_insert(Error::Json(error.to_string()));
                self
            }
        }
    }

    /// A body of form fields, with its content type.
    pub fn form<K: AsRef<str>, V: AsRef<str>>(self, fields: &[(K, V)]) -> Self {
        let body = message::form(fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    /// How long the connection may take, and the first byte, and each pause between bytes. Without it the call's own limit
    /// `http_call_ms` ends the call instead, and then `on_failure` decides.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.bounds.timeout = Some(timeout);
        self
    }

    /// How many redirects are followed, each to an origin that is granted; at first 0: a redirect is an answer like any other.
    pub fn max_redirects(mut self, max_redirects: u32) -> Self {
        self.max_redirects = max_redirects;
        self
    }

    /// Bounds the answer's body; at first [`DEFAULT_MAX_BODY_BYTES`].
    pub fn max_body_bytes(mut self, max_body_bytes: usize) -> Self {
        self.bounds.max_body_bytes = max_body_bytes;
        self
    }

    /// Sends it and waits for the whole answer.
    ///
    /// # Errors
    /// See [`Error`]. An answer that says `404` or `500` is an answer.
    pub fn send(self) -> Result<Response, Error> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        let mut request = self.request;
        let mut followed = 0;
        loop {
            let url = Url::parse(&request.url)?;
            let response = host::send(&request, &url, self.bounds)?;
            if response.body().len() > self.bounds.max_body_bytes {
                return Err(Error::TooLarge);
            }
            let next = match self.max_redirects {
                0 => None,
                _ => redirect::next(&request, &url, &response)?,
            };
            match next {
                None => return Ok(response),
                Some(_) if followed == self.max_redirects => return Err(Error::TooManyRedirects),
                Some(next) => request = next,
            }
            followed += 1;
        }
    }
}

#[cfg(test)]
mod tests;
