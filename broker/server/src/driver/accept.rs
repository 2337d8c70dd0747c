//! Listeners: every shard accepts from every one of them.

use super::newcomers::Slice;
use super::seat::{Full, Seat};
use super::secure::TlsStream;
use super::socket::Socket;
use super::told::{About, tell};
use super::worker::{Kind, Worker};
use crate::config::CertificateIdentity;
use crate::tls::Secured;
use crate::transport::network::Network;
use crate::transport::upgrade::Rules;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use nervewire_core::fold::AnonymousPolicy;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What holds for the connections of one listener; a reload replaces it whole.
#[derive(Debug)]
pub(crate) struct ListenerSettings {
    /// `bind` as configured.
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<Secured>>,
    pub(crate) identity: Option<CertificateIdentity>,
    /// It speaks WebSocket, under these rules.
    pub(crate) web: Option<Arc<Rules>>,
    /// Whose connections begin with a header of the PROXY protocol; empty: none has one.
    pub(crate) proxies: Vec<Network>,
    pub(crate) anonymous: AnonymousPolicy,
    /// Of the chain of authenticators only some are asked.
    pub(crate) has_own_authenticators: bool,
    pub(crate) connect_timeout_ms: u64,
    /// `u32::MAX`: what holds for all.
    pub(crate) max_packet_bytes: u32,
    /// `usize::MAX`: what holds for all.
    pub(crate) max_connections: usize,
    /// Its connections at this moment, over all shards; the same counter in every generation.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl ListenerSettings {
    /// Its clients come through proxies, which say who they are.
    pub(crate) fn is_behind_proxy(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// As status and logs name it.
    pub(crate) fn transport(&self) -> &'static str {
        if self.web.is_some() { "ws" } else { "tcp" }
    }
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

    /// The settings of a listener as they are now; of one that is gone, as they were.
    pub(super) fn settings_now<'s>(&'s self, known: &'s Arc<ListenerSettings>) -> &'s Arc<ListenerSettings> {
        let mut listeners = self.listeners.iter().flatten().map(|listener| &listener.settings);
        listeners
            .find(|settings| settings.address == known.address)
            .unwrap_or(known)
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

    /// Accepts what waits, one at least; `true`: there may be more.
    pub(super) fn accept(&mut self, number: usize, slice: &Slice) -> bool {
        loop {
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
                        if self.shared.told.at_once(About::Accept, self.now) {
                            tracing::warn!(%error, "cannot accept a connection; trying again");
                        }
                        return false;
                    }
                },
            }
            if slice.is_over() {
                return true;
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, settings: Arc<ListenerSettings>) {
        // IPv4 clients of a dual-stack listener come with addresses in IPv6 form.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if settings.is_behind_proxy() && !settings.proxies.iter().any(|network| network.contains(peer.ip())) {
            self.driver.proxies_refused += 1;
            let (about, listener) = (About::NoTrustedProxy, &*settings.name);
            tell!(self.shared.told, about, self.now, %peer, listener, "connection refused: it comes from no trusted proxy");
            return;
        }
        let mut seat = match Seat::take(&self.shared, &settings) {
            Ok(seat) => seat,
            Err(Full::Broker) => return self.driver.connections_over_bound += 1,
            Err(Full::Listener) => return self.driver.listener_connections_over_bound += 1,
        };
        // Linux gives it to every socket that a listener with the option accepts, and spares us a call.
        if !cfg!(target_os = "linux")
            && let Err(error) = stream.set_nodelay(true)
        {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        // Behind a proxy it is not known yet who the client is.
        if !settings.is_behind_proxy()
            && let Err(refused) = seat.count(peer.ip(), self.now)
        {
            tell!(self.shared.told, About::Address, self.now, %peer, ?refused, "connection closed at accept");
            return;
        }
        let tls = settings
            .tls
            .as_ref()
            .map(|secured| TlsStream::new(secured, settings.address));
        let tls = tls.transpose();
        match tls {
            Ok(tls) => self.greet(Socket::new(stream, tls, settings.web.clone(), seat), peer),
            Err(error) => tracing::error!(%error, "no TLS session can be made"),
        }
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
