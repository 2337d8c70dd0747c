//! TLS between a client's socket and what is read and written in plain text.

use super::socket::Readable;
use crate::tls::{Failure, Secured, Trust};
use mio::net::TcpStream;
use nervewire_core::outbuf::OutBuf;
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

/// One connection's TLS.
pub(crate) struct TlsStream {
    connection: ServerConnection,
    /// The address of the listener that it came in by.
    pub(super) listener: SocketAddr,
    /// By which the client's certificate, where there is one, was judged last.
    pub(super) trust: Option<Arc<Trust>>,
    /// The first byte that the client sent, which tells TLS from what is sent by mistake.
    first: Option<u8>,
    failure: Option<Failure>,
}

impl TlsStream {
    /// For a connection that this listener accepted.
    pub(crate) fn new(secured: &Secured, listener: SocketAddr) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: ServerConnection::new(secured.config().clone())?,
            listener,
            trust: secured.trust().cloned(),
            first: None,
            failure: None,
        })
    }

    /// What the client showed and rustls verified, its own certificate first; empty: nothing.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// The handshake took up an earlier session, whose certificates were verified then.
    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Why the handshake did not succeed; `None`: it did, or goes on.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// For who writes into it in a way of its own.
    pub(super) fn session(&mut self) -> &mut ServerConnection {
        &mut self.connection
    }

    /// Reads plain text.
    pub(super) fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> Readable {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(0) => return self.closed(),
                Ok(n) => return Readable::Bytes(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return self.closed(), // Includes a stream cut without close_notify.
            }
            let first = &mut self.first;
            match self.connection.read_tls(&mut FirstByte { stream, first }) {
                Ok(0) => return self.closed(),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Readable::Empty,
                Err(_) => return self.closed(),
            }
            let was_handshaking = self.connection.is_handshaking();
            let processed = self.connection.process_new_packets();
            // Handshake answers, alerts, key updates.
            while self.connection.wants_write() && matches!(self.connection.write_tls(stream), Ok(n) if n > 0) {}
            if let Err(error) = processed {
                tracing::debug!(%error, "TLS failed");
                if was_handshaking {
                    self.failure = Some(Failure::of(&error, self.first));
                }
                return Readable::Closed;
            }
        }
    }

    fn closed(&mut self) -> Readable {
        if self.connection.is_handshaking() {
            self.failure.get_or_insert(Failure::Closed);
        }
        Readable::Closed
    }

    /// Writes as much as the kernel takes. `Err`: the connection is gone.
    pub(super) fn write(&mut self, stream: &mut TcpStream, out: &mut OutBuf) -> io::Result<()> {
        let tls = &mut self.connection;
        loop {
            // rustls bounds what it buffers, so a slow peer leaves the rest in `out`.
            while !out.is_empty() && !tls.is_handshaking() {
                match tls.writer().write(out.front())? {
                    0 => break,
                    n => out.advance(n),
                }
            }
            if !tls.wants_write() {
                return Ok(());
            }
            match tls.write_tls(stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Everything is written, as far as this side knows.
    pub(super) fn is_flushed(&self) -> bool {
        !self.connection.wants_write()
    }

    /// Says goodbye.
    pub(super) fn finish(&mut self, stream: &mut TcpStream) {
        self.connection.send_close_notify();
        let _ = self.connection.write_tls(stream); // The peer may be gone already.
    }
}

/// The stream, of which the first byte is remembered.
struct FirstByte<'a> {
    stream: &'a mut TcpStream,
    first: &'a mut Option<u8>,
}

impl Read for FirstByte<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        if self.first.is_none() && n > 0 {
            *self.first = buffer.first().copied();
        }
        Ok(n)
    }
}
