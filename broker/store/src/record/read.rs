//! The primitives that records are read with. The bytes may be anything: nothing here panics, and nothing allocates more than the
//! bytes that are there could fill.

use bytes::Bytes;
use nervewire_codec::{PacketId, QoS, Utf8Ref, Utf8String};
use std::sync::Arc;

/// The bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no record: {0}")]
pub struct Malformed(pub(super) &'static str);

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("something stands behind it"))
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("neither yes nor no")),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too large"))
    }

    pub(super) fn number_as<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed("a number is too large"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number_as::<usize>()?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn blob(&mut self) -> Result<Bytes, Malformed> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, Malformed> {
        self.str().map(Arc::from)
    }

    pub(super) fn string(&mut self) -> Result<Utf8String, Malformed> {
        let text = Utf8Ref::try_from(self.bytes()?).map_err(|_| Malformed("a text is no string of MQTT"))?;
        Ok(text.to_utf8_string())
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.boolean()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// An item takes at least one byte, so that a count beyond the bytes that are left is a lie.
    pub(super) fn list<T, C: FromIterator<T>>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<C, Malformed> {
        let count = self.number_as::<usize>()?;
        if count > self.0.len() {
            return Err(Malformed("it ends too early"));
        }
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn qos(&mut self) -> Result<QoS, Malformed> {
        let bits = self.u8()?;
        QoS::from_bits(bits)
            .filter(|qos| *qos as u8 == bits)
            .ok_or(Malformed("a QoS that does not exist"))
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.number_as()?).ok_or(Malformed("a packet identifier is zero"))
    }
}
