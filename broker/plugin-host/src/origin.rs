//! Where a plugin may send HTTP requests: scheme, host and port.

use crate::spec::SpecError;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Bytes of a host's name (RFC 1035 section 3.1).
const MAX_HOST_BYTES: usize = 253;

/// An origin, as in `http://auth.internal:8080`. Equal ones are the same origin: the host is kept in lower case, and the port is
/// always there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    is_https: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    host: Box<str>,
    port: u16,
}

impl Origin {
    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// The origin of a request's parts; `None`: there is none that could be granted.
    pub(crate) fn of(scheme: &str, authority: &str) -> Option<Self> {
        let is_https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = split_port(authority)?;
        Some(Self {
            is_https,
            host: host_name(host)?.into(),
            port: match port {
                None => default_port(is_https),
                Some(digits) => port_number(digits)?,
            },
        })
    }
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// The colons inside the brackets of an IPv6 address are its own.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let host_ends = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at_checked(host_ends)?;
    match rest {
        "" => Some((host, None)),
        _ => rest.strip_prefix(':').map(|port| (host, Some(port))),
    }
}

fn port_number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

fn host_name(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=MAX_HOST_BYTES).contains(&host.len()) && host.bytes().all(allowed) && !host.starts_with('.');
    is_name.then(|| host.to_ascii_lowercase())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        match self.port == default_port(self.is_https) {
            true => Ok(()),
            false => write!(f, ":{}", self.port),
        }
    }
}

impl FromStr for Origin {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let parts = text.split_once("://");
        let origin = parts.and_then(|(scheme, authority)| Self::of(scheme, authority));
        origin.ok_or_else(|| SpecError::BadOrigin(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_origins_are_written_in_one_way() {
        let check = |text: &str, expected: &str| {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.to_string(), expected);
            assert_eq!(expected.parse(), Ok(origin));
        };
        check("http://auth.internal:8080", "http://auth.internal:8080");
        check("http://Auth:80", "http://auth");
        check("https://auth:443", "https://auth");
        check("https://auth:80", "https://auth:80");
        check("http://192.0.2.1:0080", "http://192.0.2.1");
        check("http://[0:0::1]:8080", "http://[::1]:8080");
        assert_ne!("http://auth".parse::<Origin>(), "https://auth".parse());
        assert_ne!("http://auth".parse::<Origin>(), "http://auth:8080".parse());
    }

    #[test]
    fn what_is_more_or_less_than_an_origin_is_refused() {
        for text in [
            "http:",
            "http://",
            "http://auth/",
            "http://auth/path",
            "http://auth?x",
            "http://auth#x",
            "http://ann@auth",
            "http://auth:",
            "http://auth:0",
            "http://auth:+80",
            "http://auth:65536",
            "http://auth:80:80",
            "http://*",
            "http://*.internal",
            "http://.internal",
            "http://[::1",
            "http://[::1]x",
            "http://[auth]",
            "http://a b",
            "http://ä",
            "HTTP://auth",
            "ftp://auth",
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            assert!(error.to_string().contains("is not an origin"), "{text}");
        }
    }
}
