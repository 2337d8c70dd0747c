//! Where encoded bytes go: into a buffer, or nowhere but into their count.

use crate::{EncodeError, MAX_STRING_BYTES};

pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// A Variable Byte Integer (1.5.5) up to 268,435,455.
    #[inline]
    fn variable(&mut self, mut value: u32) {
        while value > 0x7F {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// A string or Binary Data behind its two-byte length.
    #[inline]
    fn field(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > MAX_STRING_BYTES {
            return Err(EncodeError::FieldTooLong { bytes: bytes.len() });
        }
        self.u16(bytes.len() as u16);
        self.put(bytes);
        Ok(())
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what it is given.
#[derive(Default)]
pub(super) struct Count {
    pub(super) bytes: usize,
}

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }
}
