//! A client's socket, with the layers on it: it belongs to no runtime and can move between shards.

use super::seat::Seat;
use super::secure::TlsStream;
use crate::transport::proxy;
use crate::transport::upgrade::Rules;
use crate::transport::websocket::{Ended, WebSocket};
use mio::net::TcpStream;
use nervewire_core::outbuf::OutBuf;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

/// Pieces of output that one call takes.
const SLICES: usize = 64;

/// A connected stream.
pub(crate) struct Socket {
    stream: TcpStream,
    layers: Layers,
    seat: Seat,
}

/// What is between the stream and MQTT.
enum Layers {
    Plain,
    Tls(Box<TlsStream>),
    Web(Box<Web>),
}

struct Web {
    tls: Option<Box<TlsStream>>,
    websocket: WebSocket,
}

/// What a read found.
pub(crate) enum Readable {
    /// So many bytes are in the buffer; none, where what was read was not MQTT's.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// The peer closed, in order or not.
    Closed,
}

/// What a proxy said about the client.
pub(super) enum Introduction {
    /// Who it is; `None`: the proxy speaks for itself.
    Done(Option<SocketAddr>),
    Incomplete,
    Ended,
    Wrong(proxy::NoHeader),
}

impl Socket {
    /// A stream with TLS, where there is a session, and WebSocket, where there are rules for it.
    pub(crate) fn new(stream: TcpStream, tls: Option<TlsStream>, web: Option<Arc<Rules>>, seat: Seat) -> Self {
        let tls = tls.map(Box::new);
        let layers = match (web, tls) {
            (Some(rules), tls) => Layers::Web(Box::new(Web {
                tls,
                websocket: WebSocket::new(rules),
            })),
            (None, Some(tls)) => Layers::Tls(tls),
            (None, None) => Layers::Plain,
        };
        Self { stream, layers, seat }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// What the connection takes up.
    pub(super) fn seat(&mut self) -> &mut Seat {
        &mut self.seat
    }

    /// Its TLS, where it has some.
    pub(super) fn tls(&self) -> Option<&TlsStream> {
        match &self.layers {
            Layers::Plain => None,
            Layers::Tls(tls) => Some(tls),
            Layers::Web(web) => web.tls.as_deref(),
        }
    }

    pub(super) fn tls_mut(&mut self) -> Option<&mut TlsStream> {
        match &mut self.layers {
            Layers::Plain => None,
            Layers::Tls(tls) => Some(tls),
            Layers::Web(web) => web.tls.as_deref_mut(),
        }
    }

    /// Its layers may hold more than one read gives.
    pub(crate) fn is_layered(&self) -> bool {
        !matches!(self.layers, Layers::Plain)
    }

    /// Who opened the WebSocket; `None`: it is none, or not open yet.
    pub(crate) fn is_allowed_page(&self) -> Option<bool> {
        match &self.layers {
            Layers::Web(web) => web.websocket.is_open().then(|| web.websocket.is_allowed_page()),
            Layers::Plain | Layers::Tls(_) => None,
        }
    }

    /// Why the WebSocket has ended, where it has.
    pub(crate) fn web_end(&self) -> Option<Ended> {
        match &self.layers {
            Layers::Web(web) => web.websocket.end(),
            Layers::Plain | Layers::Tls(_) => None,
        }
    }

    /// Takes the header of the PROXY protocol off the stream, before any layer sees it.
    pub(super) fn introduction(&mut self) -> Introduction {
        let mut bytes = [0; proxy::HEADER_BYTES];
        // Looked at first: what follows it is for the layers.
        let len = match classify(self.stream.peek(&mut bytes)) {
            Readable::Bytes(len) => len,
            Readable::Empty => return Introduction::Incomplete,
            Readable::Closed => return Introduction::Ended,
        };
        match proxy::parse(&bytes[..len]) {
            Ok(None) => Introduction::Incomplete,
            Ok(Some(header)) => match self.stream.read_exact(&mut bytes[..header.len]) {
                Ok(()) => Introduction::Done(header.client),
                Err(_) => Introduction::Ended,
            },
            Err(wrong) => Introduction::Wrong(wrong),
        }
    }

    /// Reads plain text. A short read of a plain socket means that the kernel has no more for now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Readable {
        match &mut self.layers {
            Layers::Plain => classify(self.stream.read(buffer)),
            Layers::Tls(tls) => tls.read(&mut self.stream, buffer),
            Layers::Web(web) => web.read(&mut self.stream, buffer),
        }
    }

    /// Writes as much as the kernel takes. `Err`: the connection is gone.
    pub(crate) fn write(&mut self, out: &mut OutBuf) -> io::Result<()> {
        match &mut self.layers {
            Layers::Plain => write_plain(&mut self.stream, out),
            Layers::Tls(tls) => tls.write(&mut self.stream, out),
            Layers::Web(web) => web.write(&mut self.stream, out),
        }
    }

    /// Everything is written, as far as this side knows.
    pub(crate) fn is_flushed(&self) -> bool {
        let is_framed = match &self.layers {
            Layers::Web(web) => web.websocket.is_flushed(),
            Layers::Plain | Layers::Tls(_) => true,
        };
        is_framed && self.tls().is_none_or(TlsStream::is_flushed)
    }

    /// Says goodbye: a close frame over WebSocket, close_notify under TLS, then FIN.
    pub(crate) fn finish(&mut self) {
        if let Layers::Web(web) = &mut self.layers {
            web.websocket.close();
            let _ = web.write(&mut self.stream, &mut OutBuf::default()); // The peer may be gone already.
        }
        let tls = match &mut self.layers {
            Layers::Plain => None,
            Layers::Tls(tls) => Some(tls),
            Layers::Web(web) => web.tls.as_mut(),
        };
        if let Some(tls) = tls {
            tls.finish(&mut self.stream);
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

impl Web {
    fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> Readable {
        if self.websocket.end().is_some() {
            return Readable::Closed;
        }
        let read = match &mut self.tls {
            None => classify(stream.read(buffer)),
            Some(tls) => tls.read(stream, buffer),
        };
        let Readable::Bytes(len) = read else { return read };
        let carried = self.websocket.take(&mut buffer[..len]);
        // The answer to the request, to a ping, to a close; never into a frame that is half written.
        if !self.websocket.is_flushed() && self.write(stream, &mut OutBuf::default()).is_err() {
            return Readable::Closed;
        }
        match carried {
            0 if self.websocket.end().is_some() => Readable::Closed,
            _ => Readable::Bytes(carried),
        }
    }

    /// One frame for what waits, its header beside the payload, which stays where it is.
    fn write(&mut self, stream: &mut TcpStream, out: &mut OutBuf) -> io::Result<()> {
        loop {
            let framed = self.write_frames(stream, out)?;
            let Some(tls) = self.tls.as_deref_mut().map(TlsStream::session) else {
                break;
            };
            if !tls.wants_write() {
                break;
            }
            match tls.write_tls(stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if framed && !tls.wants_write() {
                break;
            }
        }
        if self.websocket.is_closed() {
            out.advance(out.len()); // Nothing may follow a close frame.
        }
        Ok(())
    }

    /// Writes frames to the stream, or to TLS, whose buffer has a bound; `true`: there is no more.
    fn write_frames(&mut self, stream: &mut TcpStream, out: &mut OutBuf) -> io::Result<bool> {
        if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            return Ok(true);
        }
        loop {
            let (before, payload) = self.websocket.next(out.len());
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(before);
            let used = 1 + out.slices_within(&mut slices[1..], payload);
            let slices = &slices[usize::from(before.is_empty())..used];
            if slices.is_empty() {
                return Ok(true);
            }
            let written = match &mut self.tls {
                None => stream.write_vectored(slices),
                Some(tls) => match tls.session().writer().write_vectored(slices) {
                    Ok(0) => return Ok(false),
                    written => written,
                },
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => out.advance(self.websocket.wrote(n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn classify(read: io::Result<usize>) -> Readable {
    match read {
        Ok(0) => Readable::Closed,
        Ok(n) => Readable::Bytes(n),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Readable::Empty,
        Err(_) => Readable::Closed,
    }
}

fn write_plain(stream: &mut TcpStream, out: &mut OutBuf) -> io::Result<()> {
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = out.slices(&mut slices);
        let written = match &slices[..used] {
            [one] => stream.write(one),
            several => stream.write_vectored(several),
        };
        match written {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => out.advance(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
