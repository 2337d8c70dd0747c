//! A cursor over one packet's bytes that cannot leave them.

use super::variable_byte_integer;
use crate::topic::{self, TopicError};
use crate::utf8::{Utf8Ref, share};
use crate::{DecodeError, PacketId, Utf8String};
use bytes::Bytes;

/// Reads `bytes`. What it returns as owned shares `source`, which they are a part of; without a source it is copied.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    source: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], source: Option<&'a Bytes>) -> Self {
        Self { bytes, source }
    }

    /// Bytes left.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left, without moving.
    #[inline]
    pub(super) fn as_slice(&self) -> &'a [u8] {
        self.bytes
    }

    /// The source that owned parts share.
    pub(super) fn source(&self) -> Option<&'a Bytes> {
        self.source
    }

    /// Moves over `len` bytes and returns them.
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
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
        let (value, len) = variable_byte_integer(self.bytes)?.ok_or(DecodeError::Truncated)?;
        self.take(len)?;
        Ok(value)
    }

    /// A reader of the next `len` bytes.
    #[inline]
    pub(super) fn split(&mut self, len: usize) -> Result<Self, DecodeError> {
        Ok(Self::new(self.take(len)?, self.source))
    }

    /// What stands behind a two-byte length.
    #[inline]
    fn field(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// Binary Data (1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        Ok(share(self.field()?, self.source))
    }

    /// A UTF-8 Encoded String (1.5.4).
    #[inline]
    pub(super) fn string(&mut self) -> Result<Utf8String, DecodeError> {
        let (text, _) = Utf8Ref::scan(self.field()?)?;
        Ok(text.shared_by(self.source))
    }

    /// A topic name that may be empty; the caller knows whether that is allowed.
    #[inline]
    pub(super) fn topic_name(&mut self) -> Result<Utf8Ref<'a>, DecodeError> {
        let (name, scan) = Utf8Ref::scan(self.field()?)?;
        topic::check_scanned_name(scan).map_err(DecodeError::TopicName)?;
        Ok(name)
    }

    /// A topic name with at least one character [MQTT-4.7.3-1].
    pub(super) fn nonempty_topic_name(&mut self) -> Result<Utf8String, DecodeError> {
        let name = self.topic_name()?;
        if name.is_empty() {
            Err(DecodeError::TopicName(TopicError::Empty))
        } else {
            Ok(name.shared_by(self.source))
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
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}
