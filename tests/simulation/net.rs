//! The network: links of two pipes, through which bytes go when the seed says so.

use crate::random::Random;
use std::collections::VecDeque;

/// One connection attempt of a client.
pub(crate) type LinkId = usize;

/// Bytes from one end to the other, in order.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    /// How many of them can be read.
    arrived: usize,
    /// Nothing follows.
    ended: bool,
}

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Whose.
    pub(crate) client: usize,
    /// To the broker.
    pub(crate) up: Pipe,
    /// To the client.
    pub(crate) down: Pipe,
}

impl Pipe {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.bytes.extend(bytes);
        }
    }

    /// Lets bytes arrive; whether there were any.
    pub(crate) fn carry(&mut self, most: usize) -> bool {
        let moved = most.min(self.bytes.len() - self.arrived);
        self.arrived += moved;
        moved > 0
    }

    /// Reads what has arrived.
    pub(crate) fn read(&mut self, most: usize) -> Vec<u8> {
        let taken = most.min(self.arrived);
        self.arrived -= taken;
        self.bytes.drain(..taken).collect()
    }

    /// Bytes that are not read.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Everything was read, and nothing follows.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }

    /// The sender closes: what was sent arrives.
    pub(crate) fn close(&mut self) {
        self.ended = true;
    }

    /// The connection is lost: of what is under way a part arrives, which may end within a packet.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        let left = random.index(self.bytes.len() + 1);
        self.bytes.truncate(left.max(self.arrived));
        self.ended = true;
    }

    /// The receiver is gone, or will never see what it has not read.
    pub(crate) fn discard(&mut self) {
        *self = Self {
            ended: true,
            ..Self::default()
        };
    }
}

impl Link {
    pub(crate) fn cut(&mut self, random: &mut Random) {
        self.up.cut(random);
        self.down.cut(random);
    }
}
