//! A connection's output: encoded packets waiting for the socket.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes to be written, in order: copied small packets and shared large payloads. An empty one owns no memory.
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
        self.segments.clear();
        self.consumed = 0;
        self.len = 0;
        self.release();
    }

    /// An idle connection owns no buffer, a busy one keeps a small one.
    fn release(&mut self) {
        const KEPT_BYTES: usize = 4 * 1024;
        self.tail_consumed = 0;
        self.segments = VecDeque::new();
        if self.tail.capacity() > KEPT_BYTES {
            self.tail = Vec::new();
        } else {
            self.tail.clear();
        }
    }

    /// Gives the small buffer back, too.
    pub fn release_idle(&mut self) {
        if self.len == 0 {
            self.tail = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
