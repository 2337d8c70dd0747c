//! The `[admin]` listener: accepts a bounded number of connections and serves the [API](super::api) on them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::api::{self, AdminCounters, Api, RELOAD_TIMEOUT, SharedToken};
use super::backend::Backend;
use super::guard::{Token, is_loopback};

/// Connections served at the same time; one more is closed at once.
pub(crate) const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Longest request line and headers together; a client identifier in a path may be long.
const MAX_HEADER_BYTES: usize = 128 * 1024;
/// How long a connection may take to send a request's headers, and how long it may idle between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// When a connection is asked to end after its current answer: none is held for ever by a peer that sends or reads slowly.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// How long it then has: the current request may be the reload that closes this server.
const DRAIN_TIME: Duration = RELOAD_TIMEOUT.saturating_add(Duration::from_secs(10));
/// Rest after a failed accept: with no file descriptor left it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin API cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// Anybody who reaches the address could change the broker.
    #[error("[admin] bind = \"{0}\" can be reached from other machines: set a token, or bind to 127.0.0.1")]
    TokenRequired(SocketAddr),
    /// The listener cannot be used.
    #[error("the admin listener cannot be used: {0}")]
    Listener(#[from] io::Error),
}

/// A running admin listener. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct AdminServer {
    address: SocketAddr,
    token: SharedToken,
    stop: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

/// Serves the admin API on a bound listener, on the given runtime.
///
/// # Errors
/// [`ServeError::TokenRequired`] off loopback without a token, or the listener's own error.
pub(crate) fn serve(
    runtime: &Handle,
    listener: StdListener,
    token: Option<Token>,
    backend: Arc<dyn Backend>,
    counters: Arc<AdminCounters>,
) -> Result<AdminServer, ServeError> {
    let address = listener.local_addr()?;
    require_token(address, token.as_ref())?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let token: SharedToken = Arc::new(RwLock::new(token));
    let reloading = Arc::new(Semaphore::new(1));
    let api = Api {
        backend,
        counters: counters.clone(),
        bound: address,
        token: token.clone(),
        reloading,
    };
    let (stop, stopped) = watch::channel(());
    let accepting = runtime.spawn(accept_until_stopped(listener, api::router(api), counters, stopped));
    Ok(AdminServer {
        address,
        token,
        stop,
        accepting,
    })
}

impl AdminServer {
    /// The address it listens on.
    #[cfg(test)]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the token for the next request of every connection.
    ///
    /// # Errors
    /// [`ServeError::TokenRequired`] if it were taken away off loopback; the old one stays.
    pub(crate) fn set_token(&self, token: Option<Token>) -> Result<(), ServeError> {
        require_token(self.address, token.as_ref())?;
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(())
    }

    /// Stops accepting; when this returns the address is free. Requests under way are still answered, each connection then
    /// closes by itself, so a reload that came through this server may call this.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "the admin listener had failed");
        }
    }
}

fn require_token(address: SocketAddr, token: Option<&Token>) -> Result<(), ServeError> {
    if token.is_some() || is_loopback(address.ip()) {
        Ok(())
    } else {
        Err(ServeError::TokenRequired(address))
    }
}

async fn accept_until_stopped(
    listener: TcpListener,
    router: Router,
    counters: Arc<AdminCounters>,
    mut stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased; // Connections that ended make room before the next one is judged.
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= MAX_ADMIN_CONNECTIONS => {
                    counters.connections.fetch_add(1, Ordering::Relaxed);
                }
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone(), stopped.clone()));
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    connections.detach_all();
}

async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "the admin listener could not accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve_connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        _ = stopped.changed() => {}
        () = tokio::time::sleep(CONNECTION_LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = tokio::time::timeout(DRAIN_TIME, connection).await {
        log_end(ended);
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}
