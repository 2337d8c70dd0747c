//! Bytes waiting to be written, so that a pass writes each connection once.

use std::io::{self, Write};

/// Buffers that have grown beyond this are given back once they are empty.
const KEEP_BYTES: usize = 256 * 1024;

/// One queue for each connection, and the list of those that have something to write.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: Vec<Queue>,
    dirty: Vec<usize>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How much of `bytes` is written already.
    written: usize,
    listed: bool,
    /// The socket took less than offered; it will say when it takes more.
    blocked: bool,
}

impl Outbox {
    /// Makes an empty queue for connection `index`.
    pub(super) fn open(&mut self, index: usize) {
        if index >= self.queues.len() {
            self.queues.resize_with(index + 1, Queue::default);
        }
        self.close(index);
    }

    /// Forgets what connection `index` has not written.
    pub(super) fn close(&mut self, index: usize) {
        let listed = self.queues[index].listed;
        self.queues[index] = Queue {
            listed,
            ..Queue::default()
        };
    }

    /// The buffer to append to; its connection is written in this pass.
    #[inline]
    pub(super) fn buffer(&mut self, index: usize) -> &mut Vec<u8> {
        let queue = &mut self.queues[index];
        if !queue.listed {
            queue.listed = true;
            self.dirty.push(index);
        }
        &mut queue.bytes
    }

    /// Bytes that connection `index` has yet to write.
    #[inline]
    pub(super) fn waiting_bytes(&self, index: usize) -> usize {
        let queue = &self.queues[index];
        queue.bytes.len() - queue.written
    }

    /// The socket of connection `index` has taken less than offered.
    pub(super) fn is_blocked(&self, index: usize) -> bool {
        self.queues[index].blocked
    }

    /// The socket of connection `index` takes bytes again.
    #[inline]
    pub(super) fn unblock(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        if queue.blocked {
            queue.blocked = false;
            self.buffer(index);
        }
    }

    /// Takes a connection off the list of those to be written.
    #[inline]
    pub(super) fn next_dirty(&mut self) -> Option<usize> {
        let index = self.dirty.pop()?;
        self.queues[index].listed = false;
        Some(index)
    }

    /// Writes what is queued for connection `index`, in one call unless the socket takes only a part.
    #[inline]
    pub(super) fn write(&mut self, index: usize, stream: &mut impl Write) -> io::Result<()> {
        let queue = &mut self.queues[index];
        while !queue.blocked && queue.written < queue.bytes.len() {
            match stream.write(&queue.bytes[queue.written..]) {
                Ok(count) => queue.written += count,
                Err(error) if is_not_ready(&error) => queue.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        queue.compact();
        Ok(())
    }
}

/// A socket that is still connecting answers `NotConnected` on some systems and `WouldBlock` on others.
fn is_not_ready(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

impl Queue {
    fn compact(&mut self) {
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
            self.bytes.shrink_to(KEEP_BYTES);
        } else if self.written > KEEP_BYTES {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then says that it would block.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.open(0);
        outbox
    }

    #[test]
    fn a_touched_connection_is_listed_once_and_written_in_one_call() {
        let (mut outbox, mut socket) = (
            outbox(),
            Narrow {
                room: 100,
                taken: Vec::new(),
                calls: 0,
            },
        );
        outbox.buffer(0).extend_from_slice(b"one");
        outbox.buffer(0).extend_from_slice(b"two");
        assert_eq!(outbox.next_dirty(), Some(0));
        assert_eq!(outbox.next_dirty(), None);
        outbox.write(0, &mut socket).unwrap();
        assert_eq!((socket.taken.as_slice(), socket.calls), (&b"onetwo"[..], 1));
        assert_eq!(outbox.waiting_bytes(0), 0);
    }

    #[test]
    fn a_full_socket_keeps_the_rest_until_it_is_ready_again() {
        let (mut outbox, mut socket) = (
            outbox(),
            Narrow {
                room: 4,
                taken: Vec::new(),
                calls: 0,
            },
        );
        outbox.buffer(0).extend_from_slice(b"onetwo");
        outbox.next_dirty();
        outbox.write(0, &mut socket).unwrap();
        assert_eq!(outbox.waiting_bytes(0), 2);
        assert_eq!(outbox.next_dirty(), None);
        socket.room = 10;
        outbox.unblock(0);
        assert_eq!(outbox.next_dirty(), Some(0));
        outbox.write(0, &mut socket).unwrap();
        assert_eq!(socket.taken, b"onetwo");
    }

    #[test]
    fn a_reopened_connection_starts_empty() {
        let mut outbox = outbox();
        outbox.buffer(0).extend_from_slice(b"old");
        outbox.open(0);
        assert_eq!(outbox.waiting_bytes(0), 0);
    }
}
