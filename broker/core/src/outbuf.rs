//! A connection's output: encoded packets waiting for the socket.

use crate::limits::MAX_SPARE_BUFFER_BYTES;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes to be written, in order: copied small packets and shared large payloads. An empty one that was settled owns no memory.
#[derive(Debug, Default)]
pub struct OutBuf {
    /// Finished segments; `consumed` bytes of the first are written already.
    segments: VecDeque<Bytes>,
    consumed: usize,
    /// The segment that grows.
    tail: Vec<u8>,
    /// Bytes of `tail` that are written already; only while `segments` is empty.
    tail_consumed: usize,
    len: usize,
}

impl OutBuf {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends what `write` pushes to the growing segment and answers what it answers.
    pub fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.tail.len();
        let answer = write(&mut self.tail);
        self.len += self.tail.len() - before;
        answer
    }

    /// As [`OutBuf::append`]; a buffer that owns no memory gets it from `spare`.
    pub fn append_with<T>(&mut self, spare: &mut SpareBuffers, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.tail.capacity() == 0 {
            self.tail = spare.take();
        }
        self.append(write)
    }

    /// Appends a payload without copying it.
    pub fn append_shared(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        self.seal_tail();
        self.len += payload.len();
        self.segments.push_back(payload);
    }

    /// Fills `slices` from the front and answers how many it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut skip = self.consumed;
        for segment in &self.segments {
            if used == slices.len() {
                return used;
            }
            slices[used] = IoSlice::new(&segment[skip..]);
            skip = 0;
            used += 1;
        }
        if used < slices.len() && self.tail.len() > self.tail_consumed {
            slices[used] = IoSlice::new(&self.tail[self.tail_consumed..]);
            used += 1;
        }
        used
    }

    /// As [`OutBuf::slices`], and no more than `limit` bytes, for transports that say first how many will follow.
    pub fn slices_within<'a>(&'a self, slices: &mut [IoSlice<'a>], mut limit: usize) -> usize {
        let segments = self
            .segments
            .iter()
            .map(|segment| &segment[..])
            .chain([&self.tail[self.tail_consumed..]]);
        let mut skip = self.consumed;
        let mut used = 0;
        for (slot, segment) in slices.iter_mut().zip(segments) {
            let rest = &segment[skip..];
            let taken = &rest[..rest.len().min(limit)];
            skip = 0;
            if taken.is_empty() {
                break; // Only the tail may be empty.
            }
            limit -= taken.len();
            *slot = IoSlice::new(taken);
            used += 1;
        }
        used
    }

    /// The first contiguous bytes, for transports without vectored writes.
    pub fn front(&self) -> &[u8] {
        match self.segments.front() {
            Some(segment) => &segment[self.consumed..],
            None => &self.tail[self.tail_consumed..],
        }
    }

    /// Forgets the first `written` bytes.
    ///
    /// # Panics
    /// Where more is forgotten than waits.
    pub fn advance(&mut self, written: usize) {
        assert!(written <= self.len, "advanced past the end of the output");
        self.len -= written;
        let mut left = written;
        while let Some(segment) = self.segments.front() {
            let rest = segment.len() - self.consumed;
            if left < rest {
                self.consumed += left;
                return;
            }
            left -= rest;
            self.consumed = 0;
            self.segments.pop_front();
        }
        self.tail_consumed += left;
        if self.len == 0 {
            self.release();
        }
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
        self.consumed = 0;
        self.len = 0;
        self.release();
    }

    fn release(&mut self) {
        self.tail_consumed = 0;
        self.tail.clear();
        self.segments = VecDeque::new();
    }

    /// After a write: an idle connection gives its buffer back, and a slow one keeps none that is much too large.
    pub fn settle(&mut self, spare: &mut SpareBuffers) {
        const SMALL_BYTES: usize = 1_024;
        if self.len == 0 {
            spare.give_back(std::mem::take(&mut self.tail));
        } else if self.tail.capacity() > 4 * self.tail.len().max(SMALL_BYTES) {
            self.tail.shrink_to_fit();
        }
    }

    fn seal_tail(&mut self) {
        if self.tail.len() > self.tail_consumed {
            let sealed = Bytes::from(std::mem::take(&mut self.tail)).slice(self.tail_consumed..);
            self.segments.push_back(sealed);
        }
        self.tail.clear();
        self.tail_consumed = 0;
    }
}

/// Buffers that wait for the next connection with something to write, so that a pass neither allocates nor grows any.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    /// Empty; the last one used is the first one used again, because it is in the processor's cache.
    buffers: Vec<Vec<u8>>,
    /// Their capacity.
    bytes: usize,
    /// Buffers that were freed because there was no room for them.
    over_bound: u64,
}

impl SpareBuffers {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if self.bytes + bytes > MAX_SPARE_BUFFER_BYTES {
            self.over_bound += 1;
        } else if bytes > 0 {
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    /// How many buffers the bound has cost.
    pub(crate) fn over_bound(&self) -> u64 {
        self.over_bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_from_one_idle_connection_to_the_next() {
        let (mut spare, mut first, mut second) = (SpareBuffers::default(), OutBuf::default(), OutBuf::default());
        first.append_with(&mut spare, |v| v.extend_from_slice(&[1; 5_000]));
        first.settle(&mut spare);
        assert_eq!(spare.bytes, 0, "it is not written yet");
        first.advance(5_000);
        first.settle(&mut spare);
        assert!(first.tail.capacity() == 0 && spare.bytes >= 5_000);
        second.append_with(&mut spare, |v| v.push(2));
        assert!(second.tail.capacity() >= 5_000 && spare.bytes == 0);
        second.settle(&mut spare);
        assert!(
            second.tail.capacity() < 5_000,
            "a byte that waits keeps no large buffer"
        );
        assert_eq!(second.front(), [2]);
    }

    #[test]
    fn spare_buffers_have_a_bound() {
        let mut spare = SpareBuffers::default();
        for _ in 0..10 {
            spare.give_back(Vec::with_capacity(MAX_SPARE_BUFFER_BYTES / 4));
        }
        assert_eq!((spare.bytes, spare.over_bound()), (MAX_SPARE_BUFFER_BYTES, 6));
    }

    fn drain(out: &mut OutBuf, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let front = out.front();
            let n = front.len().min(step);
            all.extend_from_slice(&front[..n]);
            out.advance(n);
        }
        all
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_whatever_the_write_sizes() {
        for step in 1..12 {
            let mut out = OutBuf::default();
            out.append(|v| v.extend_from_slice(b"abc"));
            out.append_shared(Bytes::from_static(b"DEFGH"));
            out.append(|v| v.extend_from_slice(b"ij"));
            out.append_shared(Bytes::from_static(b"K"));
            out.append(|v| v.extend_from_slice(b"lm"));
            assert_eq!(out.len(), 13);
            assert_eq!(drain(&mut out, step), b"abcDEFGHijKlm");
            assert!(out.is_empty());
        }
    }

    #[test]
    fn a_partly_written_tail_can_be_sealed() {
        let mut out = OutBuf::default();
        out.append(|v| v.extend_from_slice(b"abc"));
        out.advance(2);
        out.append_shared(Bytes::from_static(b"XY"));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(out.slices(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"c"[..], &b"XY"[..]));
        assert_eq!(drain(&mut out, 9), b"cXY");
    }

    #[test]
    fn slices_cover_everything_that_waits() {
        let mut out = OutBuf::default();
        out.append(|v| v.extend_from_slice(b"ab"));
        out.append_shared(Bytes::from_static(b"cd"));
        out.append(|v| v.extend_from_slice(b"ef"));
        out.advance(1);
        let mut slices = [IoSlice::new(&[]); 8];
        let used = out.slices(&mut slices);
        let all: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
        assert_eq!(all, b"bcdef");
        for limit in 0..10 {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = out.slices_within(&mut slices, limit);
            let some: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
            assert_eq!(some, b"bcdef"[..limit.min(5)]);
        }
        let mut one = [IoSlice::new(&[]); 1];
        assert_eq!((out.slices_within(&mut one, 5), &*one[0]), (1, &b"b"[..]));
    }
}
