//! A cursor over one packet's bytes that cannot leave them.

use super::variable_byte_integer;
use crate::topic::{self, TopicError};
use crate::{DecodeError, PacketId, Utf8String};
use bytes::Bytes;

/// Reads the bytes `at..end` of `source`; what it returns shares `source`.
pub(super) struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// The caller has checked that the range is inside `source`.
    #[inline]
    pub(super) fn new(source: &'a Bytes, at: usize, end: usize) -> Self {
        Self { source, at, end }
    }

    /// Bytes left.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.end - self.at
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// What is left, without moving.
    #[inline]
    pub(super) fn as_slice(&self) -> &'a [u8] {
        &self.source[self.at..self.end]
    }

    /// Moves over `len` bytes and returns where they start.
    #[inline]
    fn advance(&mut self, len: usize) -> Result<usize, DecodeError> {
        if len > self.len() {
            return Err(DecodeError::Truncated);
        }
        let start = self.at;
        self.at += len;
        Ok(start)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.source[self.at..self.end]
            .first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdentifier)
    }

    #[inline]
    pub(super) fn variable(&mut self) -> Result<u32, DecodeError> {
        let (value, len) = variable_byte_integer(self.as_slice())?.ok_or(DecodeError::Truncated)?;
        self.at += len;
        Ok(value)
    }

    /// A reader of the next `len` bytes.
    #[inline]
    pub(super) fn split(&mut self, len: usize) -> Result<Self, DecodeError> {
        let start = self.advance(len)?;
        Ok(Self {
            source: self.source,
            at: start,
            end: self.at,
        })
    }

    /// Binary Data (1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.u16()?);
        let start = self.advance(len)?;
        Ok(self.source.slice(start..self.at))
    }

    /// A UTF-8 Encoded String (1.5.4).
    #[inline]
    pub(super) fn string(&mut self) -> Result<Utf8String, DecodeError> {
        let len = usize::from(self.u16()?);
        let start = self.advance(len)?;
        Ok(Utf8String::slice(self.source, start, self.at)?.0)
    }

    /// A topic name that may be empty; the caller knows whether that is allowed.
    #[inline]
    pub(super) fn topic_name(&mut self) -> Result<Utf8String, DecodeError> {
        let len = usize::from(self.u16()?);
        let start = self.advance(len)?;
        let (name, scan) = Utf8String::slice(self.source, start, self.at)?;
        topic::check_scanned_name(scan).map_err(DecodeError::TopicName)?;
        Ok(name)
    }

    /// A topic name with at least one character [MQTT-4.7.3-1].
    pub(super) fn nonempty_topic_name(&mut self) -> Result<Utf8String, DecodeError> {
        let name = self.topic_name()?;
        if name.is_empty() {
            Err(DecodeError::TopicName(TopicError::Empty))
        } else {
            Ok(name)
        }
    }

    /// A valid topic filter.
    pub(super) fn topic_filter(&mut self) -> Result<Utf8String, DecodeError> {
        let filter = self.string()?;
        topic::validate_topic_filter(&filter).map_err(DecodeError::TopicFilter)?;
        Ok(filter)
    }

    /// Everything that is left.
    #[inline]
    pub(super) fn rest(&mut self) -> Bytes {
        let start = std::mem::replace(&mut self.at, self.end);
        self.source.slice(start..self.end)
    }
}
