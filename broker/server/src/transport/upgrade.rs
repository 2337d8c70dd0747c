//! The HTTP request that becomes a WebSocket [RFC 6455 section 4.2], answered. The protocol is `mqtt` [MQTT-6.0.0-3], [MQTT-6.0.0-4].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest, Sha1};

/// What a request may have, its empty line included.
pub(crate) const REQUEST_BYTES: usize = 8_192;
const REQUEST_HEADERS: usize = 64;
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What clients call MQTT over WebSocket, best first: `mqtt` is registered, the other is older.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Whom a listener lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) path: String,
    /// Pages of these origins, as [`origin`] writes them. Programs that are no browser send none.
    pub(crate) allowed_origins: Vec<String>,
}

/// A refusal: the status of the answer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) why: &'static str,
}

/// A request that is accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) response: Vec<u8>,
    /// A page of an allowed origin asked.
    pub(crate) is_allowed_page: bool,
}

/// Answers a whole request, which ends with its empty line.
pub(crate) fn accept(request: &[u8], rules: &Rules) -> Result<Accepted, Refusal> {
    let mut headers = [EMPTY_HEADER; REQUEST_HEADERS];
    let mut parsed = Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(Status::Complete(len)) if len == request.len() => {}
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "more than 64 headers"),
        _ => return refuse(400, "no HTTP request"),
    }
    if parsed.method != Some("GET") {
        return refuse(405, "a WebSocket begins with GET");
    }
    if parsed.version != Some(1) {
        return refuse(505, "a WebSocket needs HTTP/1.1");
    }
    let path = parsed.path.unwrap_or_default();
    if path.split_once('?').map_or(path, |(path, _)| path) != rules.path {
        return refuse(404, "no MQTT at this path: see listener.path");
    }
    let headers = Headers(parsed.headers);
    let is_allowed_page = check_origin(&headers, rules)?;
    let key = check_upgrade(&headers)?;
    let Some(subprotocol) = headers.subprotocol() else {
        return refuse(400, "the client has to ask for the subprotocol mqtt");
    };
    Ok(Accepted {
        response: switch_protocols(key, subprotocol),
        is_allowed_page,
    })
}

/// The answer to who is refused, in words for whoever looks.
pub(crate) fn refusal(Refusal { status, why }: Refusal) -> Vec<u8> {
    let (phrase, more) = match status {
        403 => ("Forbidden", ""),
        404 => ("Not Found", ""),
        405 => ("Method Not Allowed", "Allow: GET\r\n"),
        426 => (
            "Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n",
        ),
        431 => ("Request Header Fields Too Large", ""),
        505 => ("HTTP Version Not Supported", ""),
        _ => ("Bad Request", ""),
    };
    let connection = if status == 426 { "Upgrade, close" } else { "close" };
    let len = why.len() + 1;
    format!(
        "HTTP/1.1 {status} {phrase}\r\nConnection: {connection}\r\n{more}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {len}\r\n\r\n{why}\n"
    )
    .into_bytes()
}

/// An origin as browsers write it: scheme, host and, where it is not the usual one, port; `None`: it is none.
pub(crate) fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let is_authority = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    if scheme.is_empty()
        || !scheme.chars().all(is_scheme)
        || authority.is_empty()
        || !authority.chars().all(is_authority)
    {
        return None;
    }
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    Some(match authority.strip_suffix(usual) {
        Some(host) if !usual.is_empty() => format!("{scheme}://{host}"),
        _ => text,
    })
}

fn refuse<T>(status: u16, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

/// A browser says which page asks (section 10.2). A page that nobody allowed must not reach the broker through its visitors.
fn check_origin(headers: &Headers<'_>, rules: &Rules) -> Result<bool, Refusal> {
    let sent = match headers.only("Origin") {
        Only::Absent => return Ok(false),
        Only::One(sent) => origin(sent),
        Only::Broken => None,
    };
    match sent.is_some_and(|sent| rules.allowed_origins.contains(&sent)) {
        true => Ok(true),
        false => refuse(403, "pages of this origin are not let in: see listener.allowed_origins"),
    }
}

/// The headers that make it a WebSocket; answers the key.
fn check_upgrade<'h>(headers: &Headers<'h>) -> Result<&'h str, Refusal> {
    if !headers.has_token("Upgrade", "websocket") || !headers.has_token("Connection", "upgrade") {
        return refuse(
            426,
            "this is MQTT over WebSocket: connect with an MQTT client, to a ws:// or wss:// address",
        );
    }
    if !matches!(headers.only("Sec-WebSocket-Version"), Only::One("13")) {
        return refuse(426, "the WebSocket has to be of version 13");
    }
    if !matches!(headers.only("Host"), Only::One(_)) {
        return refuse(400, "the request has to name one Host");
    }
    // A body would be taken for frames.
    if headers.values("Content-Length").next().is_some() || headers.values("Transfer-Encoding").next().is_some() {
        return refuse(400, "the request must have no body");
    }
    match headers.only("Sec-WebSocket-Key") {
        Only::One(key) if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => Ok(key),
        _ => refuse(400, "the request needs one Sec-WebSocket-Key of 16 bytes"),
    }
}

fn switch_protocols(key: &str, subprotocol: &str) -> Vec<u8> {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
        STANDARD.encode(digest)
    )
    .into_bytes()
}

struct Headers<'h>(&'h [Header<'h>]);

enum Only<'h> {
    Absent,
    One(&'h str),
    /// Several, or no text.
    Broken,
}

impl<'h> Headers<'h> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let named = self
            .0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }

    fn only(&self, name: &'static str) -> Only<'h> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Only::Absent,
            (Some(value), None) => std::str::from_utf8(value).map_or(Only::Broken, Only::One),
            _ => Only::Broken,
        }
    }

    /// The members of a list, which may stand in several headers.
    fn tokens(&self, name: &'static str) -> impl Iterator<Item = &'h str> + use<'h> {
        let texts = self.values(name).filter_map(|value| std::str::from_utf8(value).ok());
        texts.flat_map(|text| text.split(',').map(str::trim))
    }

    fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.tokens(name).any(|other| other.eq_ignore_ascii_case(token))
    }

    fn subprotocol(&self) -> Option<&'static str> {
        let asked = |known: &&str| self.tokens("Sec-WebSocket-Protocol").any(|asked| asked == *known);
        SUBPROTOCOLS.into_iter().find(asked)
    }
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
