//! CONNECT (3.1) and CONNACK (3.2).

use super::properties;
use super::sink::Sink;
use crate::{ConnAck, Connect, EncodeError, PacketType, PropertyOwner, Version, Will};

pub(super) fn connect<S: Sink>(p: &Connect, out: &mut S) -> Result<(), EncodeError> {
    out.field(if p.version == Version::V31 { b"MQIsdp" } else { b"MQTT" })?;
    out.u8(p.version as u8);
    out.u8(flags(p));
    out.u16(p.keep_alive);
    let owner = PropertyOwner::Packet(PacketType::Connect);
    properties::write_for(p.version, p.properties.as_deref(), owner, out)?;
    out.field(p.client_id.as_bytes())?;
    if let Some(will) = &p.will {
        write_will(will, p.version, out)?;
    }
    for credential in [p.username.as_ref().map(|name| name.as_bytes()), p.password.as_ref()]
        .into_iter()
        .flatten()
    {
        out.field(credential)?;
    }
    Ok(())
}

/// The Connect Flags (3.1.2.3).
fn flags(p: &Connect) -> u8 {
    let will = p
        .will
        .as_ref()
        .map_or(0, |will| 1 << 2 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    let credentials = u8::from(p.password.is_some()) << 6 | u8::from(p.username.is_some()) << 7;
    u8::from(p.clean_start) << 1 | will | credentials
}

fn write_will<S: Sink>(will: &Will, version: Version, out: &mut S) -> Result<(), EncodeError> {
    properties::write_for(version, will.properties.as_deref(), PropertyOwner::Will, out)?;
    out.field(will.topic.as_bytes())?;
    out.field(&will.payload)
}

/// Session Present is 3.1.1's, and never stands beside a refusal [MQTT-3.2.2-6].
pub(super) fn connack<S: Sink>(p: &ConnAck, version: Version, out: &mut S) -> Result<(), EncodeError> {
    let packet = PacketType::ConnAck;
    if !p.reason.allowed_in(packet) && version == Version::V5 {
        return Err(EncodeError::ReasonCode {
            packet,
            reason: p.reason,
        });
    }
    out.u8(u8::from(
        p.session_present && !p.reason.is_error() && version != Version::V31,
    ));
    out.u8(p.reason.connect_return_code(version));
    properties::write_for(version, p.properties.as_deref(), PropertyOwner::Packet(packet), out)
}
