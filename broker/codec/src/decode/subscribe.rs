//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11).

use super::outcome::reason;
use super::properties::properties;
use super::reader::Reader;
use crate::topic::SharedFilter;
use crate::{
    DecodeError, PacketType, PropertyOwner, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter,
    SubscriptionOptions, UnsubAck, Unsubscribe, Version,
};

pub(super) fn subscribe(r: &mut Reader<'_>, version: Version) -> Result<Subscribe, DecodeError> {
    let packet = PacketType::Subscribe;
    let packet_id = r.packet_id()?;
    let properties = properties(r, PropertyOwner::Packet(packet), version)?;
    let filters = list(r, |r| subscribe_filter(r, version))?;
    if filters.is_empty() {
        return Err(DecodeError::TopicFilterMissing { packet });
    }
    Ok(Subscribe {
        packet_id,
        properties,
        filters,
    })
}

fn subscribe_filter(r: &mut Reader<'_>, version: Version) -> Result<SubscribeFilter, DecodeError> {
    let filter = r.topic_filter()?;
    let options = options(r.u8()?, version)?;
    if options.no_local && SharedFilter::parse(&filter).is_some() {
        return Err(DecodeError::NoLocalOnSharedSubscription);
    }
    Ok(SubscribeFilter { filter, options })
}

/// Subscription Options (3.8.3.1); before 5.0 everything but the QoS is reserved.
fn options(byte: u8, version: Version) -> Result<SubscriptionOptions, DecodeError> {
    let reserved = if version == Version::V5 {
        0b1100_0000
    } else {
        0b1111_1100
    };
    if byte & reserved != 0 {
        return Err(DecodeError::SubscriptionOptions { options: byte });
    }
    Ok(SubscriptionOptions {
        qos: QoS::from_bits(byte).ok_or(DecodeError::SubscriptionQoS)?,
        no_local: byte & 0b0000_0100 != 0,
        retain_as_published: byte & 0b0000_1000 != 0,
        retain_handling: retain_handling(byte >> 4)?,
    })
}

fn retain_handling(bits: u8) -> Result<RetainHandling, DecodeError> {
    match bits {
        0 => Ok(RetainHandling::Send),
        1 => Ok(RetainHandling::SendIfNew),
        2 => Ok(RetainHandling::DoNotSend),
        _ => Err(DecodeError::RetainHandling),
    }
}

pub(super) fn suback(r: &mut Reader<'_>, version: Version) -> Result<SubAck, DecodeError> {
    let packet = PacketType::SubAck;
    let packet_id = r.packet_id()?;
    let properties = properties(r, PropertyOwner::Packet(packet), version)?;
    let reasons = list(r, |r| suback_reason(r, version))?;
    if reasons.is_empty() {
        return Err(DecodeError::ReasonCodeMissing { packet });
    }
    Ok(SubAck {
        packet_id,
        properties,
        reasons,
    })
}

/// Before 5.0 the only failure is 0x80.
fn suback_reason(r: &mut Reader<'_>, version: Version) -> Result<ReasonCode, DecodeError> {
    let packet = PacketType::SubAck;
    let reason = reason(r, packet)?;
    if version != Version::V5 && reason > ReasonCode::UnspecifiedError {
        return Err(DecodeError::ReasonCode {
            packet,
            code: reason as u8,
        });
    }
    Ok(reason)
}

pub(super) fn unsubscribe(r: &mut Reader<'_>, version: Version) -> Result<Unsubscribe, DecodeError> {
    let packet = PacketType::Unsubscribe;
    let packet_id = r.packet_id()?;
    let properties = properties(r, PropertyOwner::Packet(packet), version)?;
    let filters = list(r, Reader::topic_filter)?;
    if filters.is_empty() {
        return Err(DecodeError::TopicFilterMissing { packet });
    }
    Ok(Unsubscribe {
        packet_id,
        properties,
        filters,
    })
}

/// Has no payload before 5.0.
pub(super) fn unsuback(r: &mut Reader<'_>, version: Version) -> Result<UnsubAck, DecodeError> {
    let packet = PacketType::UnsubAck;
    let packet_id = r.packet_id()?;
    if version != Version::V5 {
        return Ok(UnsubAck {
            packet_id,
            properties: None,
            reasons: Vec::new(),
        });
    }
    let properties = properties(r, PropertyOwner::Packet(packet), version)?;
    let reasons = list(r, |r| reason(r, packet))?;
    if reasons.is_empty() {
        return Err(DecodeError::ReasonCodeMissing { packet });
    }
    Ok(UnsubAck {
        packet_id,
        properties,
        reasons,
    })
}

/// Items up to the end of the packet; the packet's own length bounds them.
fn list<'a, T>(
    r: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    while !r.is_empty() {
        items.push(item(r)?);
    }
    Ok(items)
}
