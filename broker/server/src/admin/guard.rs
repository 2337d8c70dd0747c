//! Who may ask: the checks a request passes before its handler sees it.
//!
//! A web page in the operator's browser can send requests to loopback. It cannot read the answers (no CORS headers), but it
//! could cause changes, or read everything after pointing its own host name at 127.0.0.1 (DNS rebinding). Hence the checks of
//! `Host`, `Origin` and `Content-Type`, on loopback too.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use subtle::ConstantTimeEq;

/// The one path that needs no token: a load balancer or supervisor polls it.
pub(crate) const HEALTH_PATH: &str = "/healthz";

/// The secret of `[admin] token`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// A token; `None` if the text is empty, which would protect nothing.
    pub(crate) fn new(secret: impl Into<String>) -> Option<Self> {
        let secret = secret.into();
        (!secret.is_empty()).then_some(Self(secret))
    }

    /// The secret itself, to be sent.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that tells nothing but the length.
    fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No `Host`, several, or one that is no host name.
    #[error("the request needs exactly one valid Host header")]
    HostMissing,
    /// A name that is not this machine's loopback.
    #[error("this Host is not served: use localhost or a loopback address such as 127.0.0.1 in the URL")]
    HostForeign,
    /// No token, or not the right one.
    #[error("send \"Authorization: Bearer TOKEN\" with the token of [admin] (command line: --token-file FILE)")]
    Unauthorized,
    /// A change asked for by a web page.
    #[error("changes are not taken from web pages: send the request without an Origin header")]
    FromWebPage,
    /// A change that is not JSON.
    #[error("send the header \"Content-Type: application/json\" with every POST; an empty body is fine")]
    NotJson,
}

/// Lets a request pass or says why not.
///
/// # Errors
/// The first check that failed.
pub(crate) fn check(request: &Parts, bound: SocketAddr, token: Option<&Token>) -> Result<(), Refusal> {
    check_host(request, bound)?;
    if request.uri.path() != HEALTH_PATH {
        check_token(&request.headers, token)?;
    }
    if request.method.is_safe() {
        Ok(())
    } else {
        check_change(&request.headers)
    }
}

/// Off loopback any name may lead here; there the token, which no page knows, is what keeps them out.
fn check_host(request: &Parts, bound: SocketAddr) -> Result<(), Refusal> {
    let host = single(&request.headers, HOST).ok_or(Refusal::HostMissing)?;
    let host: Authority = host
        .to_str()
        .ok()
        .and_then(|h| h.parse().ok())
        .ok_or(Refusal::HostMissing)?;
    let named = [Some(&host), request.uri.authority()];
    if !is_loopback(bound.ip()) || named.into_iter().flatten().all(|a| names_loopback(a.host())) {
        Ok(())
    } else {
        Err(Refusal::HostForeign)
    }
}

fn names_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback)
}

/// Whether only this machine reaches the address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn check_token(headers: &HeaderMap, token: Option<&Token>) -> Result<(), Refusal> {
    let Some(token) = token else { return Ok(()) };
    let presented = single(headers, AUTHORIZATION)
        .and_then(bearer)
        .ok_or(Refusal::Unauthorized)?;
    if token.matches(presented) {
        Ok(())
    } else {
        Err(Refusal::Unauthorized)
    }
}

/// The scheme's name is case-insensitive (RFC 9110, section 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, secret) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| secret.trim_ascii())
}

/// A page can only send an HTML form's content types without asking first, and the answer to asking is no.
fn check_change(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(ORIGIN) {
        return Err(Refusal::FromWebPage);
    }
    let media_type = single(headers, CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Refusal::NotJson)
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
