//! Certificates of clients, from the handshake to the end of the connection: who is let in, and who must go when a reload
//! changes whom a listener trusts.
//!
//! A handshake verifies a certificate. It is judged again where a session is resumed, where the listener's trust has changed
//! before the client was let in, and for live connections after a reload: a slice of them in each pass, and each before
//! anything more of it is read. In time it ends by a timer of the shard.

use super::accept::ListenerSettings;
use super::handshake::Pending;
use super::inbox::bounds;
use super::secure::TlsStream;
use super::socket::Socket;
use super::told::{About, Told, tell};
use super::worker::Worker;
use crate::tls::{self, Failure, Trust};
use nervewire_core::certificates::{CertificateEnd, RevokedCertificates};
use nervewire_core::hook::Certificate;
use nervewire_core::shard::ConnId;
use nervewire_core::time::Millis;
use std::net::SocketAddr;
use std::sync::Arc;

/// Whom each listener trusts; those that ask for no certificates are not here.
pub(super) type Trusts = Vec<(SocketAddr, Arc<Trust>)>;

impl Worker {
    pub(super) fn trusts(&self) -> Trusts {
        let settings = self.listeners.iter().flatten().map(|listener| &listener.settings);
        settings
            .filter_map(|settings| Some((settings.address, settings.tls.as_ref()?.trust()?.clone())))
            .collect()
    }

    /// A reload replaced the listeners: certificates that were judged by others than now are judged again.
    pub(super) fn judge_again(&mut self) {
        let now = self.trusts();
        let before = std::mem::replace(&mut self.trusts, now);
        let (before, now) = (before.iter(), self.trusts.iter());
        if before.len() == now.len()
            && before
                .zip(now)
                .all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(&old.1, &new.1))
        {
            return;
        }
        let clients = self.clients.iter();
        let concerned = clients.filter(|(_, client)| is_concerned(&client.socket, &self.trusts));
        self.unjudged = concerned.map(|(slot, _)| ConnId(slot as u32)).collect();
    }

    /// Judges a part of those who wait for it.
    pub(super) fn judge_some(&mut self) {
        for _ in 0..bounds::JUDGED_PER_PASS {
            let Some(id) = self.unjudged.pop_front() else { return };
            self.judge_client(id);
        }
    }

    /// Judges a live connection, where it was not judged by what holds now.
    pub(super) fn judge_client(&mut self, id: ConnId) {
        let Some(client) = self.clients.get_mut(id.0 as usize) else {
            return;
        };
        if let Err(end) = judge_socket(&mut client.socket, &self.trusts) {
            tracing::info!(
                reason = end.label(),
                "a client is disconnected: its certificate does not count any more"
            );
            self.shard.end_certificate(self.now, id, end);
        }
    }

    /// Whether a client may still be let in: the listener's trust may have changed since its handshake.
    pub(super) fn may_enter(&mut self, socket: &mut Socket) -> bool {
        let Err(end) = judge_socket(socket, &self.trusts) else {
            return true;
        };
        self.driver.tls_failed(match end {
            CertificateEnd::Revoked => Failure::CertificateRevoked,
            CertificateEnd::Untrusted => Failure::UnknownAuthority,
            CertificateEnd::Expired => Failure::CertificateExpired,
        });
        false
    }

    /// Counts and tells why a connection failed before MQTT began.
    pub(super) fn tls_failed(&mut self, peer: SocketAddr, settings: &ListenerSettings, failure: Failure) {
        self.driver.tls_failed(failure);
        let (reason, listener) = (failure.label(), &*settings.name);
        match failure.advice() {
            Some(advice) => tell!(self.shared.told, About::Tls(failure), self.now, %peer, listener, reason, "{advice}"),
            None => tracing::debug!(%peer, listener, reason, "TLS handshake failed"),
        }
    }
}

/// What is told about the certificate of a client whose handshake is done; `Err`: it is not let in.
pub(super) fn certificate_of(pending: &Pending, told: &Told, now: Millis) -> Result<Option<Certificate>, Failure> {
    let Some(tls) = pending.socket.tls() else {
        return Ok(None);
    };
    let Some(own) = tls.chain().first() else {
        return Ok(None);
    };
    if tls.is_resumed() {
        judge_resumed(tls)?;
    }
    let facts = tls::certificate_facts(own).map_err(|error| {
        let peer = pending.peer;
        tell!(told, About::Certificate, now, %peer, %error, "the certificate of a client is refused");
        Failure::BadCertificate
    })?;
    Ok(Some(facts))
}

/// A resumed session brings the certificates of the full handshake, which may have expired since, or the list by which they
/// were good.
fn judge_resumed(tls: &TlsStream) -> Result<(), Failure> {
    let trust = tls.trust.as_ref().ok_or(Failure::UnknownAuthority)?;
    trust.judge(tls.chain()).map_err(|error| Failure::of(&error, None))
}

fn trust_of(trusts: &[(SocketAddr, Arc<Trust>)], listener: SocketAddr) -> Option<&Arc<Trust>> {
    let found = trusts.iter().find(|(address, _)| *address == listener);
    found.map(|(_, trust)| trust)
}

/// It has a certificate that was judged by something else than what its listener trusts now.
fn is_concerned(socket: &Socket, trusts: &[(SocketAddr, Arc<Trust>)]) -> bool {
    let Some(tls) = socket.tls().filter(|tls| !tls.chain().is_empty()) else {
        return false;
    };
    match (&tls.trust, trust_of(trusts, tls.listener)) {
        (Some(then), Some(now)) => !Arc::ptr_eq(then, now),
        _ => true,
    }
}

/// A listener that is gone, or asks for certificates no more, trusts nobody who came with one.
fn judge_socket(socket: &mut Socket, trusts: &[(SocketAddr, Arc<Trust>)]) -> Result<(), CertificateEnd> {
    if !is_concerned(socket, trusts) {
        return Ok(());
    }
    let Some(tls) = socket.tls_mut() else { return Ok(()) };
    let trust = trust_of(trusts, tls.listener).ok_or(CertificateEnd::Untrusted)?;
    trust.judge_live(tls.chain())?;
    tls.trust = Some(trust.clone());
    Ok(())
}

/// What the revocation lists of these listeners name.
pub(crate) fn revoked_certificates(listeners: &[Arc<ListenerSettings>]) -> RevokedCertificates {
    let mut revoked = RevokedCertificates::default();
    for listener in listeners {
        if let Some(trust) = listener.tls.as_ref().and_then(|tls| tls.trust()) {
            revoked.set(listener.name.clone(), trust.revoked().clone());
        }
    }
    revoked
}
