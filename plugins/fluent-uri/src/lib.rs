//! The one question that `boon` asks the crate `fluent-uri`, for the formats `uri` and `uri-reference`: is this a URI reference, and
//! has it a scheme? The original is built on a crate whose licence deny.toml does not know.

use std::error::Error;
use std::fmt;
use std::net::Ipv6Addr;

/// A URI reference, RFC 3986 section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UriRef<'a> {
    scheme: Option<&'a str>,
}

/// It is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoUriRef;

impl fmt::Display for NoUriRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no URI reference as RFC 3986 says")
    }
}

impl Error for NoUriRef {}

impl<'a> UriRef<'a> {
    /// # Errors
    /// Where the text is no URI reference.
    pub fn parse(text: &'a str) -> Result<Self, NoUriRef> {
        let (text, fragment) = cut(text, '#');
        let (text, query) = cut(text, '?');
        let (scheme, hierarchy) = match text.split_once(':') {
            Some((scheme, rest)) if !scheme.contains('/') => (Some(scheme), rest),
            _ => (None, text),
        };
        let (authority, path) = match hierarchy.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", hierarchy),
        };
        let is_valid = scheme.is_none_or(is_scheme)
            && is_authority(authority)
            && is_made_of(path, ":@/")
            && [query, fragment].into_iter().all(|part| is_made_of(part, ":@/?"));
        if is_valid { Ok(Self { scheme }) } else { Err(NoUriRef) }
    }

    /// What is before the colon, where it is absolute.
    pub fn scheme(&self) -> Option<&'a str> {
        self.scheme
    }
}

/// What is before and behind the first of these.
fn cut(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn is_scheme(text: &str) -> bool {
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(goes_on)
}

fn is_authority(text: &str) -> bool {
    let (user, place) = text.rsplit_once('@').unwrap_or(("", text));
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_place = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => is_literal(address),
        Some((address, port)) => is_literal(address) && port.strip_prefix(':').is_some_and(is_port),
        None => {
            let (name, port) = place.split_once(':').unwrap_or((place, ""));
            is_made_of(name, "") && is_port(port)
        }
    };
    is_made_of(user, ":") && is_place
}

/// An address in brackets, section 3.2.2.
fn is_literal(text: &str) -> bool {
    let future = text.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.'));
    match future {
        Some((version, address)) => {
            let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_version && !address.is_empty() && !address.contains('%') && is_made_of(address, ":")
        }
        None => text.parse::<Ipv6Addr>().is_ok(),
    }
}

/// Unreserved characters, sub-delimiters, encoded bytes, and these.
fn is_made_of(text: &str, more: &str) -> bool {
    let mut pieces = text.split('%');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c) || more.contains(c);
    let is_encoded = |piece: &str| {
        let digits = piece.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) && piece.chars().all(is_plain)
    };
    pieces.next().is_none_or(|first| first.chars().all(is_plain)) && pieces.all(is_encoded)
}

#[cfg(test)]
mod tests {
    use super::UriRef;

    #[test]
    fn references_of_rfc_3986_are_references() {
        for (text, scheme) in [
            ("http://foo.bar/?baz=qux#quux", Some("http")),
            ("ftp://ftp.is.co.za/rfc/rfc1808.txt", Some("ftp")),
            ("ldap://[2001:db8::7]/c=GB?objectClass?one", Some("ldap")),
            ("mailto:John.Doe@example.com", Some("mailto")),
            ("urn:oasis:names:specification:docbook:dtd:xml:4.1.2", Some("urn")),
            ("http://-.~_!$&'()*+,;=:%40:80%2f::::::@example.com:8080", Some("http")),
            ("http://[v1f.x:y]:1/", Some("http")),
            ("//example.com/a", None),
            ("/a/b:c", None),
            ("a%20b#c", None),
            ("", None),
        ] {
            assert_eq!(UriRef::parse(text).map(|uri| uri.scheme()), Ok(scheme), "{text}");
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "\\\\WINDOWS\\fileshare",
            "http:// shouldfail.com",
            "bar,baz:foo:",
            ":// should fail",
            "://x",
            "a b",
            "http://foo.bar/%zz",
            "http://foo.bar/%4",
            "http://[::1/",
            "http://[::x]/",
            "http://a:b/",
            "http://a@b@c/",
            "a#b#c",
            "über",
            "<x>",
        ] {
            assert!(UriRef::parse(text).is_err(), "{text}");
        }
    }
}
