//! Packets to bytes, for the version of the receiver.

mod connect;
mod properties;
mod publish;
mod sink;

use crate::{
    Ack, Auth, Disconnect, EncodeError, Packet, PacketType, Properties, PropertyOwner, ReasonCode, SubAck, Subscribe,
    SubscriptionOptions, UnsubAck, Unsubscribe, Version,
};
pub use publish::{PublishHeader, encode_publish_header, encoded_publish_len};
use sink::{Count, Sink};

/// Largest value of a Variable Byte Integer (1.5.5), in bytes when it is a length.
const MAX_VARIABLE: usize = 268_435_455;

/// Appends `packet` as the receiver's `version` has it. A CONNECT is written for the version it names itself.
///
/// Before 5.0, properties and reasons are left out, a refusing CONNACK gets the nearest return code, and every failure in a
/// SUBACK becomes 0x80. Properties that the packet type may not carry are never written.
///
/// # Errors
/// Where the packet cannot be expressed; `out` is as it was then.
pub fn encode(packet: &Packet, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Packet::Publish(publish) = packet {
        encode_publish_header(&PublishHeader::of(publish), version, out)?;
        out.extend_from_slice(&publish.payload);
        return Ok(());
    }
    // Counted first, so that nothing moves: the length stands before what it measures.
    let mut count = Count::default();
    body(packet, version, &mut count)?;
    if count.bytes > MAX_VARIABLE {
        return Err(EncodeError::PacketTooLarge { bytes: count.bytes });
    }
    out.reserve(1 + 4 + count.bytes);
    out.push(first_byte(packet.packet_type()));
    out.variable(count.bytes as u32);
    body(packet, version, out)
}

/// Type and reserved flags [MQTT-2.1.3-1].
fn first_byte(packet: PacketType) -> u8 {
    let flags = match packet {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
        _ => 0,
    };
    (packet as u8) << 4 | flags
}

/// Everything behind the fixed header. Fails or not regardless of the sink, so counting finds every error.
fn body<S: Sink>(packet: &Packet, version: Version, out: &mut S) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(p) => connect::connect(p, out),
        Packet::ConnAck(p) => connect::connack(p, version, out),
        Packet::Publish(_) | Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::PubAck(p) => ack(p, PacketType::PubAck, version, out),
        Packet::PubRec(p) => ack(p, PacketType::PubRec, version, out),
        Packet::PubRel(p) => ack(p, PacketType::PubRel, version, out),
        Packet::PubComp(p) => ack(p, PacketType::PubComp, version, out),
        Packet::Subscribe(p) => subscribe(p, version, out),
        Packet::SubAck(p) => suback(p, version, out),
        Packet::Unsubscribe(p) => unsubscribe(p, version, out),
        Packet::UnsubAck(p) => unsuback(p, version, out),
        Packet::Disconnect(p) => disconnect(p, version, out),
        Packet::Auth(p) => auth(p, version, out),
    }
}

fn ack<S: Sink>(p: &Ack, packet: PacketType, version: Version, out: &mut S) -> Result<(), EncodeError> {
    out.u16(p.packet_id.get());
    if version != Version::V5 {
        return Ok(());
    }
    outcome(p.reason, p.properties.as_deref(), packet, out)
}

/// Reason and properties, left out from the end where they say nothing (3.4.2.1, 3.14.2.1, 3.15.2.1).
fn outcome<S: Sink>(
    code: ReasonCode,
    properties: Option<&Properties>,
    packet: PacketType,
    out: &mut S,
) -> Result<(), EncodeError> {
    let owner = PropertyOwner::Packet(packet);
    let has_properties = properties.is_some_and(|p| properties::len(p, owner).is_ok_and(|len| len > 0));
    if code != ReasonCode::Success || has_properties {
        reason(code, packet, out)?;
    }
    // AUTH has no form with a reason and without a property length.
    if has_properties || (packet == PacketType::Auth && code != ReasonCode::Success) {
        properties::write(properties, owner, out)?;
    }
    Ok(())
}

fn reason<S: Sink>(reason: ReasonCode, packet: PacketType, out: &mut S) -> Result<(), EncodeError> {
    if !reason.allowed_in(packet) {
        return Err(EncodeError::ReasonCode { packet, reason });
    }
    out.u8(reason as u8);
    Ok(())
}

fn subscribe<S: Sink>(p: &Subscribe, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::Subscribe;
    out.u16(p.packet_id.get());
    properties::write_for(version, p.properties.as_deref(), PropertyOwner::Packet(packet), out)?;
    for item in not_empty(&p.filters, packet)? {
        out.field(item.filter.as_bytes())?;
        out.u8(options(item.options, version));
    }
    Ok(())
}

fn options(options: SubscriptionOptions, version: Version) -> u8 {
    let qos = options.qos as u8;
    if version != Version::V5 {
        return qos;
    }
    let flags = u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3;
    qos | flags | (options.retain_handling as u8) << 4
}

fn suback<S: Sink>(p: &SubAck, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::SubAck;
    out.u16(p.packet_id.get());
    properties::write_for(version, p.properties.as_deref(), PropertyOwner::Packet(packet), out)?;
    for &code in not_empty(&p.reasons, packet)? {
        let failure = code.is_error() && version != Version::V5;
        reason(if failure { ReasonCode::UnspecifiedError } else { code }, packet, out)?;
    }
    Ok(())
}

fn unsubscribe<S: Sink>(p: &Unsubscribe, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::Unsubscribe;
    out.u16(p.packet_id.get());
    properties::write_for(version, p.properties.as_deref(), PropertyOwner::Packet(packet), out)?;
    for filter in not_empty(&p.filters, packet)? {
        out.field(filter.as_bytes())?;
    }
    Ok(())
}

fn unsuback<S: Sink>(p: &UnsubAck, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::UnsubAck;
    out.u16(p.packet_id.get());
    if version != Version::V5 {
        return Ok(());
    }
    properties::write(p.properties.as_deref(), PropertyOwner::Packet(packet), out)?;
    for &code in not_empty(&p.reasons, packet)? {
        reason(code, packet, out)?;
    }
    Ok(())
}

/// Before 5.0 only a client disconnects by packet, and only normally: a server closes the connection instead.
fn disconnect<S: Sink>(p: &Disconnect, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::Disconnect;
    match (version, p.reason) {
        (Version::V5, _) => outcome(p.reason, p.properties.as_deref(), packet, out),
        (_, ReasonCode::Success) => Ok(()),
        _ => Err(EncodeError::PacketNotInVersion { packet, version }),
    }
}

fn auth<S: Sink>(p: &Auth, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::Auth;
    if version != Version::V5 {
        return Err(EncodeError::PacketNotInVersion { packet, version });
    }
    outcome(p.reason, p.properties.as_deref(), packet, out)
}

fn not_empty<T>(list: &[T], packet: PacketType) -> Result<&[T], EncodeError> {
    if list.is_empty() {
        Err(EncodeError::EmptyList { packet })
    } else {
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
