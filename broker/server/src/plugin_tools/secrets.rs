//! What must not be written of a request to a backend and its answer: found by the names of fields, in URLs, forms and JSON. The same
//! is done with a request in a replay before it is looked up, so that it fits.

use super::recording::REDACTED;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A name in which one of these is has a secret as its value; punctuation and case do not matter.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "credential",
    "signature",
    "session",
    "cookie",
    "assertion",
];
/// As are the values of these names.
const SECRET_WORDS: &[&str] = &["auth", "code", "jwt", "key", "otp", "pass", "pin", "pwd", "sig"];
/// Of a JSON Web Key: what makes it a private or a shared one (RFC 7518 section 6).
const PRIVATE_KEY: &[&str] = &["d", "dp", "dq", "k", "oth", "p", "q", "qi"];
/// Header fields whose values say how an answer is to be read, and nothing of who asked.
const KEPT_HEADERS: &[&str] = &[
    "age",
    "allow",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "retry-after",
    "vary",
];
/// Header fields of the connection, which an answer from a recording has not.
const DROPPED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A URL without its user, and without secrets in its query.
pub(crate) fn url(url: &str) -> String {
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    let before = without_user(before);
    match query {
        Some(query) => format!("{before}?{}", form(query).unwrap_or_else(|| query.to_owned())),
        None => before.into_owned(),
    }
}

/// Only where it leads.
pub(crate) fn origin(url: &str) -> String {
    let url = without_user(url);
    let begin = url.find("://").map_or(0, |at| at + 3);
    let host = url.get(begin..).unwrap_or_default();
    let end = host.find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    format!("{}/{REDACTED}", url.get(..end).unwrap_or_default())
}

fn without_user(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.into();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{REDACTED}{}", rest.get(user.len()..).unwrap_or_default()).into(),
        None => url.into(),
    }
}

/// A body: JSON and forms without the values of their secret fields, others and those that have none as they are.
pub(crate) fn body(bytes: &[u8]) -> Cow<'_, [u8]> {
    if let Ok(mut json) = serde_json::from_slice::<Value>(bytes) {
        return match redact(&mut json) {
            true => json.to_string().into_bytes().into(),
            false => bytes.into(),
        };
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| is_form(text));
    match text.and_then(form) {
        Some(redacted) => redacted.into_bytes().into(),
        None => bytes.into(),
    }
}

/// `None`: it is not kept at all.
pub(crate) fn header<'a>(name: &str, value: &'a str) -> Option<Cow<'a, str>> {
    let is_one_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    if is_one_of(DROPPED_HEADERS) {
        None
    } else if is_one_of(KEPT_HEADERS) {
        Some(value.into())
    } else if name.eq_ignore_ascii_case("location") {
        Some(url(value).into())
    } else {
        Some(REDACTED.into())
    }
}

fn is_secret(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    SECRET_WORDS.contains(&name.as_str()) || SECRET.iter().any(|part| name.contains(part))
}

/// One line of `name=value`s.
fn is_form(text: &str) -> bool {
    text.contains('=') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// With its secrets replaced; `None`: it has none.
fn form(text: &str) -> Option<String> {
    let mut found = false;
    let fields: Vec<Cow<'_, str>> = text
        .split('&')
        .map(|field| match field.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(&percent_decode_str(name).decode_utf8_lossy()) => {
                found = true;
                format!("{name}={REDACTED}").into()
            }
            _ => field.into(),
        })
        .collect();
    found.then(|| fields.join("&"))
}

/// Whether there was something to redact.
fn redact(value: &mut Value) -> bool {
    match value {
        Value::Array(values) => values.iter_mut().fold(false, |found, value| redact(value) | found),
        Value::Object(fields) => redact_fields(fields),
        _ => false,
    }
}

fn redact_fields(fields: &mut Map<String, Value>) -> bool {
    let key = fields.get("kty").is_some_and(Value::is_string);
    let mut found = false;
    for (name, value) in fields {
        let secret = is_secret(name) || key && PRIVATE_KEY.contains(&name.as_str());
        if secret && !value.is_null() {
            *value = REDACTED.into();
            found = true;
        } else {
            found |= redact(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_secrets_and_nothing_else() {
        let check = |given: &str, expected: &str| assert_eq!(url(given), expected);
        check("http://a:8080/b?x=1&y", "http://a:8080/b?x=1&y");
        check("https://ann:s3cret@a/b", "https://[redacted]@a/b");
        check("https://a/@b", "https://a/@b");
        check(
            "http://a/?user=ann&api_key=s3cret&Pass%77ord=s3cret&pin=",
            "http://a/?user=ann&api_key=[redacted]&Pass%77ord=[redacted]&pin=",
        );
        assert_eq!(
            origin("http://u:s3cret@a:80/s3cret?s3cret"),
            "http://[redacted]@a:80/[redacted]"
        );
        assert_eq!(origin("http://a"), "http://a/[redacted]");
    }

    #[test]
    fn bodies_lose_their_secrets_and_nothing_else() {
        let check = |given: &str, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&body(given.as_bytes())), expected, "{given}");
        };
        let same = |given: &str| check(given, given);
        same("username=ann&topic=a%2Fb");
        same("{\"z\" : 1, \"a\": [\"x\"]}");
        same("the password = none of your business");
        same("");
        check("username=ann&password=s3cret", "username=ann&password=[redacted]");
        check(
            "{\"a\":[{\"clientSecret\":\"s\"}],\"access_token\":[\"s\"],\"n\":1}",
            "{\"a\":[{\"clientSecret\":\"[redacted]\"}],\"access_token\":\"[redacted]\",\"n\":1}",
        );
        check(
            "{\"keys\":[{\"kty\":\"oct\",\"k\":\"s\",\"kid\":\"a\"}],\"k\":\"b\"}",
            "{\"k\":\"b\",\"keys\":[{\"k\":\"[redacted]\",\"kid\":\"a\",\"kty\":\"oct\"}]}",
        );
        same("{\"keys\":[{\"kty\":\"EC\",\"x\":\"1\",\"y\":\"2\"}]}");
        assert_eq!(*body(&[0, 255]), [0, 255]);
    }

    #[test]
    fn header_fields_are_kept_by_name() {
        assert_eq!(header("Content-Type", "a/b").as_deref(), Some("a/b"));
        assert_eq!(header("location", "/b?token=s").as_deref(), Some("/b?token=[redacted]"));
        assert_eq!(header("set-cookie", "s").as_deref(), Some(REDACTED));
        assert_eq!(header("content-length", "3"), None);
    }
}
