//! CONNECT (3.1).

use super::properties::properties;
use super::reader::Reader;
use crate::{Connect, DecodeError, PacketType, PropertyOwner, QoS, Utf8String, Version, Will};
use bytes::Bytes;

pub(super) fn connect(r: &mut Reader<'_>) -> Result<Connect, DecodeError> {
    let (version, protocol_bytes) = protocol(r.as_slice())?;
    r.split(protocol_bytes)?;
    let flags = Flags::read(r, version)?;
    let keep_alive = r.u16()?;
    let properties = properties(r, PropertyOwner::Packet(PacketType::Connect), version)?;
    let client_id = client_id(r, version, flags)?;
    let will = if flags.has(WILL) {
        Some(Box::new(will(r, version, flags)?))
    } else {
        None
    };
    let username = if flags.has(USER_NAME) {
        user_name(r, version)?
    } else {
        None
    };
    let password = if flags.has(PASSWORD) {
        password(r, version)?
    } else {
        None
    };
    let clean_start = flags.has(CLEAN_START);
    Ok(Connect {
        version,
        clean_start,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

impl Version {
    /// The version that a complete or incomplete, otherwise perhaps malformed CONNECT at the start of `buf` asks for; `None`
    /// where it names none of ours. So a refusal can be written in a form the client understands.
    pub fn of_connect(buf: &[u8]) -> Option<Self> {
        if *buf.first()? >> 4 != PacketType::Connect as u8 {
            return None;
        }
        let (_, length_bytes) = super::variable_byte_integer(&buf[1..]).ok()??;
        protocol(&buf[1 + length_bytes..]).ok().map(|(version, _)| version)
    }
}

/// Protocol Name and Protocol Level, and the bytes they take: only three pairs exist [MQTT-3.1.2-1], [MQTT-3.1.2-2].
fn protocol(header: &[u8]) -> Result<(Version, usize), DecodeError> {
    let (len, rest) = header.split_first_chunk().ok_or(DecodeError::Truncated)?;
    let (name, rest) = rest
        .split_at_checked(u16::from_be_bytes(*len).into())
        .ok_or(DecodeError::Truncated)?;
    let version = match (name, *rest.first().ok_or(DecodeError::Truncated)?) {
        (b"MQIsdp", 3) => Version::V31,
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        (b"MQIsdp" | b"MQTT", level) => return Err(DecodeError::ProtocolVersion { level }),
        _ => return Err(DecodeError::ProtocolName),
    };
    Ok((version, len.len() + name.len() + 1))
}

const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS: u8 = 0b0001_1000;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// The Connect Flags (3.1.2.3), consistent in themselves.
#[derive(Clone, Copy)]
struct Flags {
    bits: u8,
    will_qos: QoS,
}

impl Flags {
    fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let bits = r.u8()?;
        let flags = Self {
            bits,
            will_qos: QoS::from_bits(bits >> 3).ok_or(DecodeError::WillQoS)?,
        };
        if flags.has(0b0000_0001) {
            return Err(DecodeError::ConnectFlagReserved);
        }
        if !flags.has(WILL) && flags.has(WILL_QOS | WILL_RETAIN) {
            return Err(DecodeError::WillFlags);
        }
        if version != Version::V5 && flags.has(PASSWORD) && !flags.has(USER_NAME) {
            return Err(DecodeError::PasswordWithoutUserName);
        }
        Ok(flags)
    }

    fn has(self, bits: u8) -> bool {
        self.bits & bits != 0
    }
}

/// The upper bound of 23 characters in 3.1 is not enforced: clients in the field ignore it, and so do other servers.
fn client_id(r: &mut Reader<'_>, version: Version, flags: Flags) -> Result<Utf8String, DecodeError> {
    let client_id = r.string()?;
    let may_be_empty = match version {
        Version::V31 => false,
        Version::V311 => flags.has(CLEAN_START),
        Version::V5 => true,
    };
    if client_id.is_empty() && !may_be_empty {
        Err(DecodeError::ClientIdentifier)
    } else {
        Ok(client_id)
    }
}

fn will(r: &mut Reader<'_>, version: Version, flags: Flags) -> Result<Will, DecodeError> {
    let properties = properties(r, PropertyOwner::Will, version)?;
    let topic = r.nonempty_topic_name()?;
    let payload = r.binary()?;
    Ok(Will {
        topic,
        payload,
        qos: flags.will_qos,
        retain: flags.has(WILL_RETAIN),
        properties,
    })
}

/// 3.1 section 3.1: the Remaining Length takes precedence, a server must accept a flag whose string is missing.
fn user_name(r: &mut Reader<'_>, version: Version) -> Result<Option<Utf8String>, DecodeError> {
    if version == Version::V31 && r.is_empty() {
        Ok(None)
    } else {
        r.string().map(Some)
    }
}

fn password(r: &mut Reader<'_>, version: Version) -> Result<Option<Bytes>, DecodeError> {
    if version == Version::V31 && r.is_empty() {
        Ok(None)
    } else {
        r.binary().map(Some)
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
