//! Packets that say how a connection begins, goes on or ends: CONNACK (3.2), DISCONNECT (3.14), AUTH (3.15).

use super::properties::properties;
use super::reader::Reader;
use crate::{Auth, ConnAck, DecodeError, Disconnect, PacketType, PropertyOwner, ReasonCode, Version};

pub(super) fn connack(r: &mut Reader<'_>, version: Version) -> Result<ConnAck, DecodeError> {
    let session_present = session_present(r, version)?;
    let reason = connect_reason(r, version)?;
    if session_present && reason.is_error() {
        return Err(DecodeError::SessionPresent);
    }
    let properties = properties(r, PropertyOwner::Packet(PacketType::ConnAck), version)?;
    Ok(ConnAck {
        session_present,
        reason,
        properties,
    })
}

/// The byte is unused in 3.1; the upper seven bits are reserved since [MQTT-3.2.2-1].
fn session_present(r: &mut Reader<'_>, version: Version) -> Result<bool, DecodeError> {
    match (version, r.u8()?) {
        (Version::V31, _) | (_, 0) => Ok(false),
        (_, 1) => Ok(true),
        (_, flags) => Err(DecodeError::ConnAckFlags { flags }),
    }
}

fn connect_reason(r: &mut Reader<'_>, version: Version) -> Result<ReasonCode, DecodeError> {
    let packet = PacketType::ConnAck;
    if version == Version::V5 {
        return reason(r, packet);
    }
    let code = r.u8()?;
    ReasonCode::from_return_code(code).ok_or(DecodeError::ReasonCode { packet, code })
}

/// Reason and properties may be left out from the end (3.14.2.1).
pub(super) fn disconnect(r: &mut Reader<'_>, version: Version) -> Result<Disconnect, DecodeError> {
    let packet = PacketType::Disconnect;
    if version != Version::V5 || r.is_empty() {
        return Ok(Disconnect {
            reason: ReasonCode::Success,
            properties: None,
        });
    }
    let reason = reason(r, packet)?;
    let properties = if r.is_empty() {
        None
    } else {
        properties(r, PropertyOwner::Packet(packet), version)?
    };
    Ok(Disconnect { reason, properties })
}

/// Only a success without properties may be empty (3.15.2.1), everything else names its method (3.15.2.2.2).
pub(super) fn auth(r: &mut Reader<'_>) -> Result<Auth, DecodeError> {
    let owner = PropertyOwner::Packet(PacketType::Auth);
    if r.is_empty() {
        return Ok(Auth {
            reason: ReasonCode::Success,
            properties: None,
        });
    }
    let reason = reason(r, PacketType::Auth)?;
    let properties = properties(r, owner, Version::V5)?;
    if properties.as_ref().is_none_or(|p| p.authentication_method.is_none()) {
        return Err(DecodeError::AuthenticationMethodMissing { owner });
    }
    Ok(Auth { reason, properties })
}

/// A reason code that `packet` may carry.
pub(super) fn reason(r: &mut Reader<'_>, packet: PacketType) -> Result<ReasonCode, DecodeError> {
    let code = r.u8()?;
    ReasonCode::try_from(code)
        .ok()
        .filter(|reason| reason.allowed_in(packet))
        .ok_or(DecodeError::ReasonCode { packet, code })
}
