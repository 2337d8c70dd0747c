//! What a `[[listener]]` says beside its address and its TLS: transport, proxies, and what it has of its own.

use super::error::Source;
use super::schema::{Limits, Listener, Mode, OwnSettings, Plugin, Transport};
use super::section::{Section, Words};
use super::validate;
use crate::transport::network::Network;
use crate::transport::upgrade::{Rules, origin};
use nervewire_core::fold::AnonymousPolicy;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use toml::Spanned;

/// Whether it is WebSocket.
const TRANSPORTS: Words<bool> = Words {
    known: &[("tcp", false), ("ws", true)],
    later: &[],
};
const DEFAULT_PATH: &str = "/mqtt";

/// `transport`, `path` and `allowed_origins`.
pub(super) fn transport(section: &mut Section<'_>) -> Transport {
    let is_web = section.word_or("transport", &TRANSPORTS, false);
    let path = section.parsed("path", DEFAULT_PATH, path);
    let allowed_origins = section.parsed_list("allowed_origins", "https://app.example.com", |text| {
        let wrong = "is not an origin: scheme, host and port, no path; write for example \"https://app.example.com\"";
        origin(text).ok_or_else(|| wrong.to_owned())
    });
    if !is_web {
        for key in ["path", "allowed_origins"].into_iter().filter(|key| section.has(key)) {
            let message = format!("{key} does nothing without WebSocket; write transport = \"ws\", or remove it");
            section.problem(&section.span(), message);
        }
        return Transport::Tcp;
    }
    Transport::Ws(Rules {
        path: path.map_or_else(|| DEFAULT_PATH.to_owned(), Spanned::into_inner),
        allowed_origins: allowed_origins.unwrap_or_default(),
    })
}

fn path(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    match text.starts_with('/') && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("is not a path; write for example \"/mqtt\"".to_owned()),
    }
}

/// `proxy_protocol`.
pub(super) fn proxies(section: &mut Section<'_>) -> Vec<Network> {
    let proxies = section.some_of("proxy_protocol", "10.0.0.0/8", |text| {
        let wrong = "is not a network; write for example \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"";
        text.parse().map_err(|()| wrong.to_owned())
    });
    proxies.unwrap_or_default()
}

/// What it has of its own; the ranges are those of `[limits]`.
pub(super) fn own_settings(section: &mut Section<'_>, policies: &Words<AnonymousPolicy>) -> OwnSettings {
    let authenticators = section.parsed_list("authenticators", "password", validate::plugin_name);
    OwnSettings {
        anonymous: section.word("anonymous", policies).map(Spanned::into_inner),
        authenticators: authenticators.map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        max_connections: own_bound(section, "max_connections", Limits::CONNECTIONS),
        max_packet_bytes: own_bound(section, "max_packet_bytes", Limits::PACKET_BYTES),
        connect_timeout_ms: own_bound(section, "connect_timeout_ms", Limits::CONNECT_TIMEOUT_MS),
    }
}

fn own_bound(section: &mut Section<'_>, key: &'static str, allowed: RangeInclusive<u64>) -> Option<NonZeroU32> {
    let bound = section.count(key, allowed, NonZeroU32::MAX);
    section.has(key).then_some(bound)
}

/// What cannot be judged without the rest of the file.
pub(super) fn refuse_impossible(
    source: &Source<'_>,
    listeners: &[Spanned<Listener>],
    limits: &Limits,
    plugins: &[Spanned<Plugin>],
) {
    let is_obeyed = |name: &str| {
        let mut plugins = plugins.iter().map(Spanned::get_ref);
        plugins.any(|plugin| *plugin.name == *name && plugin.mode == Mode::Enforce)
    };
    for listener in listeners {
        let (span, Listener { proxies, own, .. }) = (listener.span(), listener.get_ref());
        for name in own.authenticators.iter().flatten().filter(|name| !is_obeyed(name)) {
            let message =
                format!("authenticators of this listener has {name:?}; write the name of an enforced [[plugin]]");
            source.problem(&span, message);
        }
        if let Some(own) = own.max_packet_bytes.filter(|own| *own > limits.max_packet_bytes) {
            let most = limits.max_packet_bytes;
            let message =
                format!("max_packet_bytes = {own} of this listener is over that of [limits]; write at most {most}");
            source.problem(&span, message);
        }
        if own.anonymous == Some(AnonymousPolicy::Loopback) && !proxies.is_empty() {
            let message =
                "behind a proxy nobody is known to be on this machine; write anonymous = \"deny\" or \"allow\"";
            source.problem(&span, message);
        }
    }
}
