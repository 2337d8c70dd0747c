//! Listeners: every shard accepts from every one of them.

use super::inbox::bounds;
use super::socket::Socket;
use super::worker::{Kind, Worker};
use crate::config::CertificateIdentity;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What holds for the connections of one listener; a reload replaces it whole.
#[derive(Debug)]
pub(crate) struct ListenerSettings {
    /// `bind` as configured.
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) identity: Option<CertificateIdentity>,
}

pub(super) struct Listener {
    pub(super) settings: Arc<ListenerSettings>,
    pub(super) socket: TcpListener,
}

impl Worker {
    /// Takes over the listeners of a new generation: known ones get their new settings, removed ones stop accepting.
    pub(super) fn set_listeners(&mut self, listeners: Vec<(Arc<ListenerSettings>, Option<std::net::TcpListener>)>) {
        let mut old: Vec<Option<Listener>> = std::mem::take(&mut self.listeners);
        for (settings, socket) in listeners {
            match socket {
                Some(socket) => self.add_listener(settings, socket),
                None => {
                    let known = old.iter_mut().find(|slot| {
                        slot.as_ref()
                            .is_some_and(|listener| listener.settings.address == settings.address)
                    });
                    if let Some(mut listener) = known.and_then(Option::take) {
                        listener.settings = settings;
                        self.enlist(listener, true);
                    }
                }
            }
        }
        for mut gone in old.into_iter().flatten() {
            let _ = self.poll.registry().deregister(&mut gone.socket); // It is dropped next.
        }
    }

    pub(super) fn stop_accepting(&mut self) {
        self.set_listeners(Vec::new());
    }

    fn add_listener(&mut self, settings: Arc<ListenerSettings>, socket: std::net::TcpListener) {
        let socket = TcpListener::from_std(socket);
        self.enlist(Listener { settings, socket }, false);
    }

    fn enlist(&mut self, mut listener: Listener, registered: bool) {
        let token = Kind::Listener.token(self.listeners.len());
        let registry = self.poll.registry();
        let done = match registered {
            true => registry.reregister(&mut listener.socket, token, Interest::READABLE),
            false => registry.register(&mut listener.socket, token, Interest::READABLE),
        };
        match done {
            Ok(()) => self.listeners.push(Some(listener)),
            Err(error) => tracing::error!(%error, listener = &*listener.settings.name, "cannot watch a listener"),
        }
    }

    /// Accepts what waits; `true`: there may be more.
    pub(super) fn accept(&mut self, number: usize) -> bool {
        for _ in 0..bounds::ACCEPTS_PER_PASS {
            let Some(Some(listener)) = self.listeners.get(number) else {
                return false;
            };
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    let settings = listener.settings.clone();
                    self.admit(stream, peer, settings);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return false,
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ => {
                        // Out of descriptors or memory: those who are here go on, the others are tried again later.
                        self.driver.accept_errors += 1;
                        self.accept_again_at = Some(self.now + 100);
                        tracing::warn!(%error, "cannot accept a connection; trying again");
                        return false;
                    }
                },
            }
        }
        true
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, settings: Arc<ListenerSettings>) {
        let slot = match self.shared.defence.connection(peer.ip(), self.now) {
            Ok(slot) => slot,
            Err(refused) => {
                tracing::debug!(%peer, ?refused, "connection closed at accept");
                return;
            }
        };
        let before = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if before >= self.shared.max_connections.load(Ordering::Relaxed) {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.driver.connections_over_bound += 1;
            return;
        }
        // Linux gives it to every socket that a listener with the option accepts, and spares us a call.
        if !cfg!(target_os = "linux")
            && let Err(error) = stream.set_nodelay(true)
        {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let socket = match &settings.tls {
            None => Socket::plain(stream),
            Some(config) => match rustls::ServerConnection::new(config.clone()) {
                Ok(tls) => Socket::secured(stream, tls),
                Err(error) => {
                    self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                    tracing::error!(%error, "no TLS session can be made");
                    return;
                }
            },
        };
        self.greet(socket.counted(slot), peer, settings);
    }
}

/// The kind of source that a readiness event names.
impl Kind {
    pub(super) fn token(self, number: usize) -> Token {
        Token(number << 2 | self as usize)
    }

    pub(super) fn of(token: Token) -> (Self, usize) {
        let kind = match token.0 & 3 {
            0 => Kind::Waker,
            1 => Kind::Listener,
            _ => Kind::Connection,
        };
        (kind, token.0 >> 2)
    }
}
