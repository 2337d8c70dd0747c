//! The addresses that clients and administrators connect to: their settings, and their sockets.

use crate::config::Config;
use crate::driver::ListenerSettings;
use anyhow::{Context, Result};
use std::net::TcpListener;
use std::sync::Arc;

/// The listeners of a configuration, with their TLS ready.
pub(crate) fn listener_settings(config: &Config) -> Result<Vec<Arc<ListenerSettings>>> {
    let settings = config.listeners.iter().map(|listener| {
        let tls = listener.tls.as_ref().map(crate::tls::server_config).transpose();
        Ok(Arc::new(ListenerSettings {
            name: listener.bind.text.clone(),
            address: listener.bind.address,
            tls: tls.with_context(|| format!("listener {}", listener.bind.text))?,
            identity: listener
                .tls
                .as_ref()
                .and_then(|tls| tls.client.as_ref())
                .and_then(|client| client.identity),
        }))
    });
    settings.collect()
}

/// Binds a listener.
pub(crate) fn bind(settings: &ListenerSettings) -> Result<TcpListener> {
    let name = &settings.name;
    let listener = TcpListener::bind(settings.address)
        .with_context(|| format!("listener {name} cannot be bound; is another broker running there?"))?;
    let prepared = listener
        .set_nonblocking(true)
        .and_then(|()| socket2::SockRef::from(&listener).set_tcp_nodelay(true));
    prepared.with_context(|| format!("listener {name}"))?;
    Ok(listener)
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
