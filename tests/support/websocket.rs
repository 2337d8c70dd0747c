//! A WebSocket client that sends the frames it is told to, written apart from the broker's.

use super::{Broker, DEADLINE};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
/// The last frame of a message.
pub(crate) const FIN: u8 = 0x80;

/// The header lines of an upgrade that the broker accepts, but for the request line.
pub(crate) const UPGRADE: &str = "Host: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n";

/// An open WebSocket. As a stream it carries what binary frames carry.
pub(crate) struct WebSocket<S> {
    stream: S,
    /// Of binary frames, not read yet.
    payload: Vec<u8>,
    /// What the close frame said.
    pub(crate) closed: Option<u16>,
}

/// A TCP connection to the broker, with a timeout.
pub(crate) fn dial(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.address()).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_nodelay(true).expect("set nodelay");
    stream
}

/// Sends a request and reads the answer to its end: status, headers and body; the body only where there is a length.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("send a request");
    stream.flush().expect("send a request");
    read_answer(stream)
}

pub(crate) fn read_answer(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match read_byte(stream).expect("an answer in time") {
            Some(byte) => answer.push(byte),
            None => return String::from_utf8(answer).expect("text"),
        }
    }
    let head = String::from_utf8(answer).expect("text");
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |len| len.parse().expect("a length"));
    let mut body = vec![0; len];
    stream.read_exact(&mut body).expect("a body");
    head + std::str::from_utf8(&body).expect("text")
}

/// The status of the answer to `GET path` with these header lines.
pub(crate) fn status_of(broker: &Broker, path: &str, headers: &str) -> String {
    let answer = ask(&mut dial(broker), &format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));
    answer.split(' ').nth(1).expect("a status").to_owned()
}

impl<S: Read + Write> WebSocket<S> {
    /// Opens it at `/mqtt`, with more header lines.
    #[track_caller]
    pub(crate) fn open(mut stream: S, headers: &str) -> Self {
        let answer = ask(&mut stream, &format!("GET /mqtt HTTP/1.1\r\n{UPGRADE}{headers}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        assert!(!answer.contains("Sec-WebSocket-Extensions"), "{answer}");
        Self {
            stream,
            payload: Vec::new(),
            closed: None,
        }
    }

    /// Sends one masked frame with this first byte.
    #[track_caller]
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.try_send(first, payload).expect("send");
    }

    /// As [`WebSocket::send`], where the broker may be gone.
    pub(crate) fn try_send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&masked(first, payload))?;
        self.stream.flush()
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
        self.stream.flush().expect("send");
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let Some(first) = read_byte(&mut self.stream)? else {
            return Ok(None);
        };
        let mut second = [0];
        self.stream.read_exact(&mut second)?;
        assert_eq!(second[0] & 0x80, 0, "a server masks nothing");
        let len = match second[0] {
            126 => u64::from(u16::from_be_bytes(self.bytes()?)),
            127 => u64::from_be_bytes(self.bytes()?),
            short => u64::from(short),
        };
        let mut payload = vec![0; len as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Some((first, payload)))
    }

    /// The code of the close frame that comes next, and nothing behind it.
    #[track_caller]
    pub(crate) fn expect_close(&mut self) -> u16 {
        let (first, payload) = self.frame().expect("a frame in time").expect("a close frame");
        assert_eq!(first, FIN | CLOSE);
        let [high, low, ..] = payload[..] else {
            panic!("{payload:?}")
        };
        assert!(!matches!(self.frame(), Ok(Some(_))), "a frame behind the close frame");
        u16::from_be_bytes([high, low])
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// What binary frames carry, whatever their boundaries; a close frame is its end.
impl<S: Read + Write> Read for WebSocket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() && self.closed.is_none() {
            match self.frame()? {
                None => return Ok(0),
                Some((first, payload)) if first == FIN | BINARY => self.payload = payload,
                Some((first, payload)) if first == FIN | CLOSE => {
                    self.closed = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                }
                Some((first, payload)) if first == FIN | PING => self.send(FIN | PONG, &payload),
                Some(other) => panic!("{other:?}"),
            }
        }
        let len = self.payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.payload[..len]);
        self.payload.drain(..len);
        Ok(len)
    }
}

/// Each write is a frame.
impl<S: Read + Write> Write for WebSocket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&masked(FIN | BINARY, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A client's frame.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xDE, 0xAD, 0x0B, 0x0E];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    frame
}

/// One byte, or `None` at the end; a reset is an end.
fn read_byte(stream: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(byte[0])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
        Err(_) => Ok(None),
    }
}
