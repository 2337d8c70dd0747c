//! What the single values mean, and checks that need several of them. The parsers answer, for `KEY "VALUE" ...`, what is wrong
//! and what to write instead.

use super::schema::{Bind, Component};
use nervewire_codec::topic::validate_topic_filter;
use nervewire_plugin_host::{Grant, SpecError};
use rustls::pki_types::DnsName;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// `ADDRESS:PORT`. Names are not looked up, because an answer that changes would move the listener; `localhost` is 127.0.0.1.
pub(super) fn bind(text: &str) -> Result<Bind, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
        "is not an address and a port; write for example \"127.0.0.1:1883\", \"0.0.0.0:1883\" or \"[::]:1883\""
            .to_owned()
    })?;
    Ok(Bind {
        text: text.into(),
        // An IPv4 address in IPv6 form is an IPv4 address.
        address: match address.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
            IpAddr::V6(_) => address,
        },
    })
}

/// The name of a server as clients ask for it (SNI); `*` may stand for its first label.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let domain = text.strip_prefix("*.").unwrap_or(text);
    let is_name = DnsName::try_from(domain).is_ok() && domain.parse::<IpAddr>().is_err();
    // Two labels at least behind a wildcard: nobody has a certificate for all of a top-level domain.
    if !is_name || (domain.len() < text.len() && !domain.contains('.')) {
        return Err("is no DNS name; write for example \"mqtt.example.com\" or \"*.example.com\"".to_owned());
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

/// Whether the second of two sockets could not be bound. `[::]` is every address of both families. Port 0 is a free port each time.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

/// Names are labels of metrics and parts of admin URLs.
pub(super) fn plugin_name(text: &str) -> Result<String, String> {
    const MAX_NAME_BYTES: usize = 64;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.chars().all(allowed) {
        return Err(format!(
            "is not a name; write 1 to {MAX_NAME_BYTES} of a-z, 0-9, - and _"
        ));
    }
    Ok(text.to_owned())
}

/// A topic filter as rules and grants use it: shared subscriptions are judged by the filter inside them.
pub(super) fn topic_filter(text: &str) -> Result<String, String> {
    if text.starts_with("$share/") {
        return Err("is a shared subscription; write only the topic filter after $share/GROUP/".to_owned());
    }
    match validate_topic_filter(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => Err(format!("is not a topic filter: {why}; write for example \"a/+/b/#\"")),
    }
}

/// One entry of `grants`.
pub(super) fn grant(text: &str) -> Result<Grant, String> {
    if let Some(filter) = text.strip_prefix("publish:") {
        return topic_filter(filter).map(Grant::Publish);
    }
    text.parse().map_err(|error| match error {
        SpecError::BadOrigin(_) => {
            "is not an origin, which ends with its host or port; write for example \"http://auth.internal:8080\""
                .to_owned()
        }
        _ => "is unknown; write \"kv\", \"random\", \"publish:TOPIC-FILTER\" or \"http://HOST:PORT\"".to_owned(),
    })
}

/// Sent in an HTTP header, so that only some characters arrive.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where the values of one file are looked up.
pub(super) struct Surroundings<'a> {
    /// The directory that relative paths start from.
    pub base_dir: &'a Path,
    /// Names of the embedded components.
    pub builtins: &'a [&'a str],
}

impl Surroundings<'_> {
    /// `builtin:NAME` or the path of a component.
    pub(super) fn component(&self, text: &str) -> Result<Component, String> {
        match text.strip_prefix("builtin:") {
            Some(name) if self.builtins.contains(&name) => Ok(Component::Builtin(name.to_owned())),
            Some(_) => Err(format!("is not in this binary; {}", self.builtin_advice())),
            None if self.builtins.contains(&text) => Err(format!("is not a file; write \"builtin:{text}\"")),
            None => self.readable_file(text).map(Component::File),
        }
    }

    fn builtin_advice(&self) -> String {
        let names: Vec<_> = self.builtins.iter().map(|name| format!("\"builtin:{name}\"")).collect();
        format!("write {} or the path of a .wasm file", names.join(", "))
    }

    /// The path of a file that can be opened.
    pub(super) fn readable_file(&self, text: &str) -> Result<PathBuf, String> {
        let path = self.base_dir.join(text);
        // Asked before opening: opening a named pipe would wait for its writer.
        match path.metadata() {
            Ok(metadata) if !metadata.is_file() => return Err("is not a file; write the path of one".to_owned()),
            _ => {}
        }
        match File::open(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(format!(
                "cannot be read: {error}; write a path relative to the configuration's directory ({} was tried)",
                path.display()
            )),
        }
    }

    /// A directory that may be created later; `""`: none.
    pub(super) fn directory(&self, text: &str) -> Result<Option<PathBuf>, String> {
        let path = self.base_dir.join(text);
        match text {
            "" => Ok(None),
            _ if path.exists() && !path.is_dir() => Err("is a file; write the path of a directory, or \"\"".to_owned()),
            _ => Ok(Some(path)),
        }
    }
}

/// The beginning of a topic name, "" for none.
pub(super) fn response_information(text: &str) -> Result<Option<String>, String> {
    match text {
        "" => Ok(None),
        prefix => match nervewire_codec::topic::validate_topic_name(prefix) {
            Ok(()) => Ok(Some(prefix.to_owned())),
            Err(error) => Err(format!(
                "is no topic: {error}; write a topic without wildcards, or \"\""
            )),
        },
    }
}
