//! The server's side of one WebSocket: the request, then frames.
//!
//! Contract: give [`WebSocket::take`] everything that was read, in order; before each write ask [`WebSocket::next`] what goes out, and
//! tell [`WebSocket::wrote`] how much of it did. Once [`WebSocket::end`] says something, read no more, and close when
//! [`WebSocket::is_flushed`].

use super::frames::{CloseCode, End, Inbound, Outbound};
use super::upgrade::{self, REQUEST_BYTES, Refusal, Rules};
use std::sync::Arc;

/// One connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stage: Stage,
    inbound: Inbound,
    outbound: Outbound,
}

#[derive(Debug)]
enum Stage {
    /// As much of the request as was read.
    Asked(Arc<Rules>, Vec<u8>),
    Open {
        is_allowed_page: bool,
    },
    Refused(Refusal),
}

/// Why there is nothing more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The request was refused.
    Refused(Refusal),
    /// The client closed, or broke the protocol.
    Frames(End),
}

impl WebSocket {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        Self {
            stage: Stage::Asked(rules, Vec::new()),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
        }
    }

    /// Takes bytes off the wire. What they carry of MQTT is moved to their front; answers how much that is.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> usize {
        let used = match &mut self.stage {
            Stage::Open { .. } => 0,
            Stage::Refused(_) => return 0,
            Stage::Asked(rules, request) => {
                let Some((used, whole)) = gather(request, bytes) else {
                    return 0;
                };
                let answer = match whole {
                    Ok(()) => upgrade::accept(request, rules),
                    Err(refusal) => Err(refusal),
                };
                match answer {
                    Ok(accepted) => {
                        self.outbound.say(accepted.response);
                        self.stage = Stage::Open {
                            is_allowed_page: accepted.is_allowed_page,
                        };
                    }
                    Err(refusal) => {
                        self.outbound.say(upgrade::refusal(refusal));
                        self.outbound.end();
                        self.stage = Stage::Refused(refusal);
                        return 0;
                    }
                }
                used
            }
        };
        let rest = bytes.len() - used;
        bytes.copy_within(used.., 0);
        self.inbound.take(&mut bytes[..rest], &mut self.outbound)
    }

    /// Why nothing more is to be read, if so.
    pub(crate) fn end(&self) -> Option<Ended> {
        match &self.stage {
            Stage::Refused(refusal) => Some(Ended::Refused(*refusal)),
            _ => self.inbound.end().map(Ended::Frames),
        }
    }

    /// Whether frames are exchanged.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// A page of an allowed origin opened it.
    pub(crate) fn is_allowed_page(&self) -> bool {
        matches!(self.stage, Stage::Open { is_allowed_page: true })
    }

    /// Says goodbye: the frame that is under way is the last one.
    pub(crate) fn close(&mut self) {
        self.outbound.close(CloseCode::NORMAL);
    }

    /// What to write next where so many bytes wait to be sent: these bytes, and behind them so many of those that wait.
    pub(crate) fn next(&mut self, waiting: usize) -> (&[u8], usize) {
        self.outbound.next(waiting)
    }

    /// So many bytes of that are written; answers how many of those that waited are among them.
    pub(crate) fn wrote(&mut self, bytes: usize) -> usize {
        self.outbound.wrote(bytes)
    }

    /// Whether everything is written but what waits.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbound.is_flushed()
    }

    /// Whether nothing that waits can be sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.outbound.is_closed()
    }
}

/// Puts the request together. `Some`: it ends with so many of `bytes`, or cannot become one.
fn gather(request: &mut Vec<u8>, bytes: &[u8]) -> Option<(usize, Result<(), Refusal>)> {
    const END: &[u8] = b"\r\n\r\n";
    let before = request.len();
    let room = REQUEST_BYTES - before;
    request.extend_from_slice(&bytes[..bytes.len().min(room)]);
    // Something else, such as MQTT or TLS, is not waited for.
    if request.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        let why = "no HTTP request: this listener speaks WebSocket";
        return Some((0, Err(Refusal { status: 400, why })));
    }
    let looked_at = before.saturating_sub(END.len() - 1);
    let end = request[looked_at..].windows(END.len()).position(|window| window == END);
    match end.map(|at| looked_at + at + END.len()) {
        Some(end) => {
            request.truncate(end);
            Some((end - before, Ok(())))
        }
        None if bytes.len() >= room => {
            let why = "a request over 8,192 bytes";
            Some((0, Err(Refusal { status: 431, why })))
        }
        None => None,
    }
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
