//! Bytes to packets: the fixed header and which body follows it.

mod ahead;
mod connect;
mod outcome;
mod properties;
mod publish;
mod reader;
mod subscribe;

use crate::{DecodeError, Packet, PacketType, QoS, Version};
pub use ahead::{TopicAhead, topics_ahead};
use bytes::Bytes;
pub use publish::PublishRef;
use reader::Reader;

/// Most bytes of a variable byte integer (1.5.5).
const MAX_VARIABLE_BYTES: usize = 4;

/// A packet as [`decode_in_place`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketRef<'a> {
    /// A PUBLISH that was not copied.
    Publish(PublishRef<'a>),
    /// Any other packet; it owns its parts.
    Other(Packet),
}

/// The packet that starts at `at` and the bytes it took; `None` while it is incomplete. Strings and payloads share `source`.
///
/// `version` is the connection's; `None` before its CONNECT, when nothing else is acceptable [MQTT-3.1.0-1]. A CONNECT
/// decodes at any time and for the version it names itself; refusing a second one is the caller's. Packets of both
/// directions decode.
///
/// # Errors
/// What the sender did wrong, as soon as the bytes so far show it. `max_packet_bytes` limits the whole packet.
pub fn decode(
    source: &Bytes,
    at: usize,
    version: Option<Version>,
    max_packet_bytes: u32,
) -> Result<Option<(Packet, usize)>, DecodeError> {
    let Some(located) = locate(source.get(at..).unwrap_or_default(), version, max_packet_bytes)? else {
        return Ok(None);
    };
    let packet = whole_body(&located, Some(source))?;
    Ok(Some((packet, located.packet_bytes)))
}

/// The packet at the start of `bytes`, as [`decode`] does, but nothing is shared: topic and payload of a PUBLISH stay where they
/// are, everything else is copied. For a read buffer that is used again, and from which most messages go straight on.
///
/// # Errors
/// As [`decode`].
#[inline(always)] // Into the one loop that calls it for every packet: what it finds is then not moved about.
pub fn decode_in_place(
    bytes: &[u8],
    version: Option<Version>,
    max_packet_bytes: u32,
) -> Result<Option<(PacketRef<'_>, usize)>, DecodeError> {
    let Some(located) = locate(bytes, version, max_packet_bytes)? else {
        return Ok(None);
    };
    let packet = match located.packet {
        PacketType::Publish => {
            let mut reader = Reader::new(located.body, None);
            // Nothing can be left behind its payload.
            PacketRef::Publish(publish::publish(&mut reader, located.flags, located.version)?)
        }
        _ => PacketRef::Other(whole_body(&located, None)?),
    };
    Ok(Some((packet, located.packet_bytes)))
}

/// A whole packet whose body is not looked at yet.
struct Located<'a> {
    packet: PacketType,
    flags: u8,
    version: Version,
    body: &'a [u8],
    /// Fixed header and body.
    packet_bytes: usize,
}

#[inline]
fn locate(bytes: &[u8], version: Option<Version>, max_packet_bytes: u32) -> Result<Option<Located<'_>>, DecodeError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let (packet, flags) = first_byte(first)?;
    let version = admit(packet, flags, version)?;
    let Some(frame) = Frame::measure(bytes, max_packet_bytes)? else {
        return Ok(None);
    };
    let body = bytes.get(frame.header_bytes..frame.packet_bytes);
    Ok(body.map(|body| Located {
        packet,
        flags,
        version,
        body,
        packet_bytes: frame.packet_bytes,
    }))
}

fn whole_body(located: &Located<'_>, source: Option<&Bytes>) -> Result<Packet, DecodeError> {
    let packet = located.packet;
    let mut reader = Reader::new(located.body, source);
    let decoded = body(&mut reader, packet, located.flags, located.version)?;
    match reader.len() {
        0 => Ok(decoded),
        bytes => Err(DecodeError::TrailingBytes { packet, bytes }),
    }
}

/// Length in bytes of the packet at the start of `buf`; `None` until its fixed header is complete.
///
/// # Errors
/// A packet type, flags or length that no version allows, and packets over `max_packet_bytes`, before their body arrives.
#[inline]
pub fn frame_len(buf: &[u8], max_packet_bytes: u32) -> Result<Option<usize>, DecodeError> {
    let Some(&first) = buf.first() else { return Ok(None) };
    first_byte(first)?;
    Ok(Frame::measure(buf, max_packet_bytes)?.map(|frame| frame.packet_bytes))
}

/// Type and flags, where some version allows the two together [MQTT-2.1.3-1].
#[inline]
fn first_byte(first: u8) -> Result<(PacketType, u8), DecodeError> {
    let packet = PacketType::of_first_byte(first).ok_or(DecodeError::ReservedPacketType)?;
    let flags = first & 0x0F;
    let allowed = match packet {
        PacketType::Publish => publish_flags_allowed(flags),
        // With DUP for the sake of 3.1, whose section 2.1 has it; `admit` refuses it to the others.
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => flags & 0b0111 == 0b0010,
        _ => flags == 0,
    };
    if allowed {
        Ok((packet, flags))
    } else {
        Err(DecodeError::HeaderFlags { packet, flags })
    }
}

/// QoS 3 is reserved [MQTT-3.3.1-4], DUP is for QoS 1 and 2 [MQTT-3.3.1-2].
#[inline]
fn publish_flags_allowed(flags: u8) -> bool {
    let dup = flags & 0b1000 != 0;
    match QoS::from_bits(flags >> 1) {
        None => false,
        Some(QoS::AtMostOnce) => !dup,
        Some(_) => true,
    }
}

/// Whether this packet may come now and in this version. The version of a CONNECT is in its body; the value is not used.
#[inline]
fn admit(packet: PacketType, flags: u8, version: Option<Version>) -> Result<Version, DecodeError> {
    if packet == PacketType::Connect {
        return Ok(Version::V5);
    }
    let version = version.ok_or(DecodeError::ConnectExpected { packet })?;
    if version != Version::V31 && packet != PacketType::Publish && flags & 0b1000 != 0 {
        return Err(DecodeError::HeaderFlags { packet, flags });
    }
    if version != Version::V5 && packet == PacketType::Auth {
        return Err(DecodeError::PacketNotInVersion { packet, version });
    }
    Ok(version)
}

fn body(r: &mut Reader<'_>, packet: PacketType, flags: u8, version: Version) -> Result<Packet, DecodeError> {
    Ok(match packet {
        PacketType::Publish => Packet::Publish(publish::publish(r, flags, version)?.shared_by(r.source())),
        PacketType::PubAck => Packet::PubAck(publish::ack(r, packet, version)?),
        PacketType::PubRec => Packet::PubRec(publish::ack(r, packet, version)?),
        PacketType::PubRel => Packet::PubRel(publish::ack(r, packet, version)?),
        PacketType::PubComp => Packet::PubComp(publish::ack(r, packet, version)?),
        PacketType::Connect => Packet::Connect(Box::new(connect::connect(r)?)),
        PacketType::ConnAck => Packet::ConnAck(Box::new(outcome::connack(r, version)?)),
        PacketType::Subscribe => Packet::Subscribe(subscribe::subscribe(r, version)?),
        PacketType::SubAck => Packet::SubAck(subscribe::suback(r, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(subscribe::unsubscribe(r, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(subscribe::unsuback(r, version)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(outcome::disconnect(r, version)?),
        PacketType::Auth => Packet::Auth(outcome::auth(r)?),
    })
}

/// The lengths a fixed header announces.
struct Frame {
    header_bytes: usize,
    packet_bytes: usize,
}

impl Frame {
    #[inline]
    fn measure(buf: &[u8], max_packet_bytes: u32) -> Result<Option<Self>, DecodeError> {
        let Some((remaining, length_bytes)) = variable_byte_integer(&buf[1..])? else {
            return Ok(None);
        };
        let header_bytes = 1 + length_bytes;
        let bytes = header_bytes as u64 + u64::from(remaining);
        if bytes > u64::from(max_packet_bytes) {
            return Err(DecodeError::PacketTooLarge {
                bytes,
                limit_bytes: max_packet_bytes,
            });
        }
        Ok(Some(Self {
            header_bytes,
            packet_bytes: header_bytes + remaining as usize,
        }))
    }
}

/// A Variable Byte Integer and the bytes it takes; `None` where more bytes are needed.
///
/// Longer encodings than the value needs are refused [MQTT-1.5.5-1].
#[inline]
fn variable_byte_integer(buf: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in buf.iter().take(MAX_VARIABLE_BYTES).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = byte != 0 || index == 0;
            return if minimal {
                Ok(Some((value, index + 1)))
            } else {
                Err(DecodeError::VariableByteInteger)
            };
        }
    }
    if buf.len() >= MAX_VARIABLE_BYTES {
        Err(DecodeError::VariableByteInteger)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
