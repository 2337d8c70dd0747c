//! The addresses that clients and administrators connect to: their settings, and their sockets.

use crate::config::{Config, TlsSettings};
use crate::driver::ListenerSettings;
use crate::tls::Secured;
use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The listeners of a configuration, with their TLS ready. Those that are running already go on counting their connections, and keep the TLS of
/// which no file has changed.
pub(crate) fn listener_settings(
    config: &Config,
    running: &[Arc<ListenerSettings>],
) -> Result<Vec<Arc<ListenerSettings>>> {
    let limits = &config.limits;
    let settings = config.listeners.iter().map(|listener| {
        let known = running.iter().find(|known| known.address == listener.bind.address);
        let previous = known.and_then(|known| known.tls.as_ref());
        let tls = listener.tls.as_ref().map(|tls| load_tls(tls, previous)).transpose();
        let own = &listener.own;
        Ok(Arc::new(ListenerSettings {
            name: listener.bind.text.clone(),
            address: listener.bind.address,
            tls: tls.with_context(|| format!("listener {}", listener.bind.text))?,
            identity: listener
                .tls
                .as_ref()
                .and_then(|tls| tls.client.as_ref())
                .and_then(|client| client.identity),
            web: listener.transport.rules().map(Arc::new),
            proxies: listener.proxies.clone(),
            anonymous: own.anonymous.unwrap_or(config.auth.anonymous),
            has_own_authenticators: own.authenticators.is_some(),
            connect_timeout_ms: u64::from(own.connect_timeout_ms.unwrap_or(limits.connect_timeout_ms).get()),
            max_packet_bytes: own.max_packet_bytes.map_or(u32::MAX, NonZeroU32::get),
            max_connections: own.max_connections.map_or(usize::MAX, |bound| bound.get() as usize),
            connections: known.map(|known| known.connections.clone()).unwrap_or_default(),
        }))
    });
    settings.collect()
}

fn load_tls(settings: &TlsSettings, previous: Option<&Arc<Secured>>) -> Result<Arc<Secured>> {
    Secured::load(settings, previous).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow!(errors.join("\n"))
    })
}

/// Binds a listener.
pub(crate) fn bind(settings: &ListenerSettings) -> Result<TcpListener> {
    let name = &settings.name;
    let listener = listen(settings.address)
        .with_context(|| format!("listener {name} cannot be bound; is another broker running there?"))?;
    let prepared = listener
        .set_nonblocking(true)
        .and_then(|()| socket2::SockRef::from(&listener).set_tcp_nodelay(true));
    prepared.with_context(|| format!("listener {name}"))?;
    Ok(listener)
}

/// As the standard library listens, and `[::]` to IPv4 as well, whatever the system's default is.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    /// As many as the system allows.
    const BACKLOG: i32 = i32::MAX;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds the admin listener.
pub(crate) fn bind_admin(config: &Config) -> Result<TcpListener> {
    let bind = &config.admin.bind;
    TcpListener::bind(bind.address).with_context(|| {
        format!(
            "[admin] bind = \"{}\" cannot be bound; is another broker running there?",
            bind.text
        )
    })
}

/// Whether a listener with this address is bound already.
pub(crate) fn is_running(running: &[Arc<ListenerSettings>], settings: &ListenerSettings) -> bool {
    running.iter().any(|known| known.address == settings.address)
}

/// The listeners for one more shard, with the sockets of those that are new.
pub(crate) fn cloned(
    listeners: &[Arc<ListenerSettings>],
    sockets: &[Option<TcpListener>],
) -> Result<Vec<(Arc<ListenerSettings>, Option<TcpListener>)>> {
    let pairs = listeners.iter().zip(sockets);
    pairs
        .map(|(settings, socket)| {
            Ok((
                settings.clone(),
                socket.as_ref().map(TcpListener::try_clone).transpose()?,
            ))
        })
        .collect()
}
