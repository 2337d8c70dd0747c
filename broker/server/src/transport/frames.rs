//! WebSocket frames [RFC 6455 section 5], as MQTT uses them: a stream of bytes cut into binary frames anywhere [MQTT-6.0.0-2].
//!
//! Written here, because a library hands out whole messages: it would hold what a length field claims, for clients that nobody knows
//! yet, and copy every payload on its way out. Here payloads are unmasked where they were read, whatever their length,
//! a connection at rest owns no buffer, and headers go out beside payloads that stay where they are.

/// No frame may claim more payload than the largest packet that MQTT has (MQTT 5.0 section 2.1.4).
pub(crate) const FRAME_BYTES: u64 = 268_435_460;
/// Payload of one frame that we send: an answer to a ping waits no longer than this.
const OUTBOUND_FRAME_BYTES: usize = 1 << 20;
/// What a control frame may hold (section 5.5).
const CONTROL_BYTES: usize = 125;
/// The longest header of a masked frame.
const HEAD_BYTES: usize = 14;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Why a connection ends (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseCode(pub(crate) u16);

impl CloseCode {
    pub(crate) const NORMAL: Self = Self(1000);
    pub(crate) const PROTOCOL: Self = Self(1002);
    pub(crate) const NOT_BINARY: Self = Self(1003);
    pub(crate) const NOT_UTF8: Self = Self(1007);
    pub(crate) const TOO_LARGE: Self = Self(1009);

    /// Whether an endpoint may send it (section 7.4.2).
    fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// How the other side's frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It said so, with this code.
    Asked(Option<CloseCode>),
    /// It broke the protocol.
    Broken(CloseCode),
}

/// The frames of a client. Fed with all of its bytes in order, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// The header is read; the payload is being read.
    frame: Option<Frame>,
    /// A message began and has not ended (section 5.4).
    in_message: bool,
    /// Payload of the control frame that is being read.
    control: Control,
    end: Option<End>,
}

#[derive(Debug)]
struct Frame {
    opcode: u8,
    /// Payload that is still to come.
    left: u64,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
}

#[derive(Debug)]
struct Control {
    bytes: [u8; CONTROL_BYTES],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            bytes: [0; CONTROL_BYTES],
            len: 0,
        }
    }
}

impl Control {
    fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.len);
        self.len += room.zip(bytes).map(|(slot, byte)| *slot = *byte).count();
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Inbound {
    /// Takes bytes off the wire. What they carry is moved to the front of `bytes`, unmasked; answers how much that is. Answers to
    /// control frames go to `outbound`. After an end nothing is taken any more, but what came before it is still handed out.
    pub(crate) fn take(&mut self, bytes: &mut [u8], outbound: &mut Outbound) -> usize {
        let (mut from, mut to) = (0, 0);
        while self.end.is_none() && (from < bytes.len() || self.is_complete()) {
            let step = match &mut self.frame {
                None => self.take_head(&bytes[from..]).inspect(|used| from += used).map(|_| ()),
                Some(frame) => {
                    let len = frame.left.min((bytes.len() - from) as u64) as usize;
                    let is_data = frame.opcode < CLOSE;
                    if is_data {
                        bytes.copy_within(from..from + len, to);
                        frame.unmask(&mut bytes[to..to + len]);
                        to += len;
                    } else {
                        frame.unmask(&mut bytes[from..from + len]);
                        self.control.push(&bytes[from..from + len]);
                    }
                    from += len;
                    self.end_frame(outbound)
                }
            };
            if let Err(code) = step {
                self.break_off(code, outbound);
            }
        }
        to
    }

    /// How it ended, if it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Between two frames: there is nothing of a frame yet.
    fn is_complete(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.left == 0)
    }

    fn break_off(&mut self, code: CloseCode, outbound: &mut Outbound) {
        self.end = Some(End::Broken(code));
        outbound.close(code);
    }

    /// Takes bytes of a header; looks at each part as soon as it is there.
    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, CloseCode> {
        let wanted = match self.head_bytes {
            0 | 1 => 2,
            _ => self.head_wanted(),
        };
        let used = bytes.len().min(wanted - self.head_bytes);
        self.head[self.head_bytes..self.head_bytes + used].copy_from_slice(&bytes[..used]);
        self.head_bytes += used;
        if self.head_bytes < wanted {
            return Ok(used);
        }
        match wanted {
            2 => self.check_head()?,
            _ => self.open_frame()?,
        }
        Ok(used)
    }

    fn head_wanted(&self) -> usize {
        match self.head[1] & !MASKED {
            126 => 8,
            127 => HEAD_BYTES,
            _ => 6,
        }
    }

    /// The first two bytes.
    fn check_head(&self) -> Result<(), CloseCode> {
        let [first, second, ..] = self.head;
        let (opcode, is_last, short_len) = (first & 0x0F, first & FIN != 0, second & !MASKED);
        // Bits for extensions, of which none was agreed on (section 5.2). Every frame of a client is masked (section 5.1).
        if first & 0x70 != 0 || second & MASKED == 0 {
            return Err(CloseCode::PROTOCOL);
        }
        match opcode {
            CONTINUATION if self.in_message => Ok(()),
            BINARY if !self.in_message => Ok(()),
            // [MQTT-6.0.0-1]
            TEXT => Err(CloseCode::NOT_BINARY),
            CLOSE | PING | PONG if is_last && usize::from(short_len) <= CONTROL_BYTES => Ok(()),
            _ => Err(CloseCode::PROTOCOL),
        }
    }

    /// The header is complete.
    fn open_frame(&mut self) -> Result<(), CloseCode> {
        let head = self.head;
        let (left, mask) = match head[1] & !MASKED {
            126 => (
                u64::from(u16::from_be_bytes([head[2], head[3]])),
                [head[4], head[5], head[6], head[7]],
            ),
            127 => (
                u64::from_be_bytes([head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]]),
                [head[10], head[11], head[12], head[13]],
            ),
            short => (u64::from(short), [head[2], head[3], head[4], head[5]]),
        };
        let shortest = match self.head_bytes {
            HEAD_BYTES => 65_536,
            8 => 126,
            _ => 0,
        };
        // The shortest form of a length, and no sign bit (section 5.2).
        if left < shortest || left > u64::MAX >> 1 {
            return Err(CloseCode::PROTOCOL);
        }
        if left > FRAME_BYTES {
            return Err(CloseCode::TOO_LARGE);
        }
        let opcode = head[0] & 0x0F;
        if opcode < CLOSE {
            self.in_message = head[0] & FIN == 0;
        } else {
            self.control.len = 0;
        }
        self.head_bytes = 0;
        self.frame = Some(Frame { opcode, left, mask });
        Ok(())
    }

    /// Ends the frame whose payload is all there.
    fn end_frame(&mut self, outbound: &mut Outbound) -> Result<(), CloseCode> {
        if !self.is_complete() {
            return Ok(());
        }
        match self.frame.take().map(|frame| frame.opcode) {
            Some(PING) => outbound.pong(self.control.as_slice()),
            Some(CLOSE) => {
                let code = close_code(self.control.as_slice())?;
                self.end = Some(End::Asked(code));
                // Section 5.5.1: the code is echoed.
                outbound.close(code.unwrap_or(CloseCode::NORMAL));
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a close frame says (section 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, CloseCode> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.is_sendable() {
                return Err(CloseCode::PROTOCOL);
            }
            std::str::from_utf8(reason).map_err(|_| CloseCode::NOT_UTF8)?;
            Ok(Some(code))
        }
        [_] => Err(CloseCode::PROTOCOL),
    }
}

impl Frame {
    /// Unmasks the next bytes of the payload (section 5.3).
    fn unmask(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.mask;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        self.left -= bytes.len() as u64;
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.mask.rotate_left(rest.len() % 4);
    }
}

/// The frames of the broker: payload stays where it is, here is only what goes before it.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// Control frames, and the header of the frame that is being written; `written` of it are gone.
    before: Vec<u8>,
    written: usize,
    /// Payload of that frame that is still to be written.
    left: usize,
    /// Of several pings only the last needs an answer (section 5.5.3).
    pong: Option<Vec<u8>>,
    close: Option<CloseCode>,
    /// The close frame was made: nothing may follow it (section 5.5.1).
    is_closed: bool,
}

impl Outbound {
    /// Something that is no frame and goes first: the answer to the upgrade.
    pub(crate) fn say(&mut self, bytes: Vec<u8>) {
        self.before = bytes;
        self.written = 0;
    }

    /// Nothing more is said after what was given to [`Outbound::say`].
    pub(crate) fn end(&mut self) {
        self.is_closed = true;
    }

    fn pong(&mut self, payload: &[u8]) {
        self.pong = Some(payload.to_vec());
    }

    /// Ends the conversation; the first reason counts.
    pub(crate) fn close(&mut self, code: CloseCode) {
        self.close.get_or_insert(code);
    }

    /// What to write next where so many bytes wait to be sent: these bytes, and behind them so many of those that wait.
    pub(crate) fn next(&mut self, waiting: usize) -> (&[u8], usize) {
        if self.written == self.before.len() && self.left == 0 && !self.is_closed {
            self.begin(waiting);
        }
        (
            self.before.get(self.written..).unwrap_or_default(),
            self.left.min(waiting),
        )
    }

    /// So many bytes of what [`Outbound::next`] showed are written; answers how many of those that waited are among them.
    pub(crate) fn wrote(&mut self, bytes: usize) -> usize {
        const KEPT_BYTES: usize = 32;
        let before = bytes.min(self.before.len() - self.written);
        self.written += before;
        if self.written == self.before.len() && before > 0 {
            self.written = 0;
            self.before.clear();
            // A header needs it again at the next write; nothing larger does.
            self.before.shrink_to(KEPT_BYTES);
        }
        let payload = (bytes - before).min(self.left);
        self.left -= payload;
        payload
    }

    /// Whether everything is written but payload.
    pub(crate) fn is_flushed(&self) -> bool {
        self.written == self.before.len() && self.pong.is_none() && (self.close.is_none() || self.is_closed)
    }

    /// Whether nothing more can be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Between two frames: control frames come first, because they are small and somebody waits.
    fn begin(&mut self, waiting: usize) {
        self.written = 0;
        self.before.clear();
        if let Some(pong) = self.pong.take() {
            head(&mut self.before, PONG, pong.len());
            self.before.extend_from_slice(&pong);
        }
        if let Some(code) = self.close {
            head(&mut self.before, CLOSE, 2);
            self.before.extend_from_slice(&code.0.to_be_bytes());
            self.is_closed = true;
        } else if waiting > 0 {
            self.left = waiting.min(OUTBOUND_FRAME_BYTES);
            head(&mut self.before, BINARY, self.left);
        }
    }
}

/// The header of a frame of ours, which is not masked (section 5.1).
fn head(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(FIN | opcode);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
