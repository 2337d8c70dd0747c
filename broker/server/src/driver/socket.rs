//! A client's socket, with TLS or without: it belongs to no runtime and can move between shards.

use crate::defence::AddressSlot;
use mio::net::TcpStream;
use nervewire_core::outbuf::OutBuf;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

/// A connected stream.
pub(crate) struct Socket {
    stream: TcpStream,
    tls: Option<Box<rustls::ServerConnection>>,
    /// Its place in the count of its address.
    _address: Option<AddressSlot>,
}

/// What a read found.
pub(crate) enum Readable {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// The peer closed, in order or not.
    Closed,
}

impl Socket {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self {
            stream,
            tls: None,
            _address: None,
        }
    }

    pub(crate) fn secured(stream: TcpStream, tls: rustls::ServerConnection) -> Self {
        Self {
            stream,
            tls: Some(Box::new(tls)),
            _address: None,
        }
    }

    /// Its address counts it as long as it lives.
    pub(crate) fn counted(self, slot: AddressSlot) -> Self {
        Self {
            _address: Some(slot),
            ..self
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The certificate that the client showed and rustls verified.
    pub(crate) fn peer_certificate(&self) -> Option<Vec<u8>> {
        let tls = self.tls.as_ref()?;
        tls.peer_certificates()?.first().map(|der| der.as_ref().to_vec())
    }

    /// It speaks TLS, whose records may hold more than one read gives.
    pub(crate) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads plain text. A short read means that the kernel has no more for now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Readable {
        match &mut self.tls {
            None => classify(self.stream.read(buffer)),
            Some(tls) => read_tls(tls, &mut self.stream, buffer),
        }
    }

    /// Writes as much as the kernel takes. `Err`: the connection is gone.
    pub(crate) fn write(&mut self, out: &mut OutBuf) -> io::Result<()> {
        match &mut self.tls {
            None => write_plain(&mut self.stream, out),
            Some(tls) => write_tls(tls, &mut self.stream, out),
        }
    }

    /// Everything is written, as far as this side knows.
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.wants_write())
    }

    /// Says goodbye: close_notify under TLS, then FIN.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream); // The peer may be gone already.
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
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

fn read_tls(tls: &mut rustls::ServerConnection, stream: &mut TcpStream, buffer: &mut [u8]) -> Readable {
    loop {
        match tls.reader().read(buffer) {
            Ok(0) => return Readable::Closed,
            Ok(n) => return Readable::Bytes(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Readable::Closed, // Includes a stream cut without close_notify.
        }
        match tls.read_tls(stream) {
            Ok(0) => return Readable::Closed,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Readable::Empty,
            Err(_) => return Readable::Closed,
        }
        let processed = tls.process_new_packets();
        // Handshake answers, alerts, key updates.
        while tls.wants_write() && matches!(tls.write_tls(stream), Ok(n) if n > 0) {}
        if let Err(error) = processed {
            tracing::debug!(%error, "TLS failed");
            return Readable::Closed;
        }
    }
}

fn write_plain(stream: &mut TcpStream, out: &mut OutBuf) -> io::Result<()> {
    const SLICES: usize = 64;
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

fn write_tls(tls: &mut rustls::ServerConnection, stream: &mut TcpStream, out: &mut OutBuf) -> io::Result<()> {
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
