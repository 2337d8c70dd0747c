//! The property block of 5.0 packets (2.2.2).

use super::reader::Reader;
use crate::{DecodeError, Properties, PropertyId as Id, PropertyOwner, QoS, Utf8String, Version, topic};

/// The properties of `owner`; nothing is there to read before 5.0.
#[inline]
pub(super) fn properties(
    r: &mut Reader<'_>,
    owner: PropertyOwner,
    version: Version,
) -> Result<Option<Box<Properties>>, DecodeError> {
    if version != Version::V5 {
        return Ok(None);
    }
    match r.variable()? as usize {
        0 => Ok(None),
        len => block(r.split(len)?, owner).map(Some),
    }
}

fn block(mut r: Reader<'_>, owner: PropertyOwner) -> Result<Box<Properties>, DecodeError> {
    let mut properties = Box::<Properties>::default();
    while !r.is_empty() {
        let id = identifier(&mut r, owner)?;
        property(&mut r, id, owner, &mut properties)?;
    }
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(DecodeError::AuthenticationMethodMissing { owner });
    }
    Ok(properties)
}

/// Identifiers are variable byte integers, but all that are defined have one byte.
fn identifier(r: &mut Reader<'_>, owner: PropertyOwner) -> Result<Id, DecodeError> {
    let id = r.u8()?;
    let property = Id::from_byte(id).ok_or(DecodeError::UnknownProperty { id })?;
    if property.allowed_in(owner) {
        Ok(property)
    } else {
        Err(DecodeError::MisplacedProperty { property, owner })
    }
}

fn property(r: &mut Reader<'_>, id: Id, owner: PropertyOwner, p: &mut Properties) -> Result<(), DecodeError> {
    match id {
        Id::PayloadFormatIndicator => once(&mut p.payload_format_indicator, id, flag(r, id)?),
        Id::MessageExpiryInterval => once(&mut p.message_expiry_interval, id, r.u32()?),
        Id::ContentType => once(&mut p.content_type, id, r.string()?),
        Id::ResponseTopic => once(&mut p.response_topic, id, response_topic(r)?),
        Id::CorrelationData => once(&mut p.correlation_data, id, r.binary()?),
        Id::SubscriptionIdentifier => subscription_identifier(r, owner, p),
        Id::SessionExpiryInterval => once(&mut p.session_expiry_interval, id, r.u32()?),
        Id::AssignedClientIdentifier => once(&mut p.assigned_client_identifier, id, r.string()?),
        Id::ServerKeepAlive => once(&mut p.server_keep_alive, id, r.u16()?),
        Id::AuthenticationMethod => once(&mut p.authentication_method, id, r.string()?),
        Id::AuthenticationData => once(&mut p.authentication_data, id, r.binary()?),
        Id::RequestProblemInformation => once(&mut p.request_problem_information, id, flag(r, id)?),
        Id::WillDelayInterval => once(&mut p.will_delay_interval, id, r.u32()?),
        Id::RequestResponseInformation => once(&mut p.request_response_information, id, flag(r, id)?),
        Id::ResponseInformation => once(&mut p.response_information, id, r.string()?),
        Id::ServerReference => once(&mut p.server_reference, id, r.string()?),
        Id::ReasonString => once(&mut p.reason_string, id, r.string()?),
        Id::ReceiveMaximum => once(&mut p.receive_maximum, id, positive(r.u16()?, id)?),
        Id::TopicAliasMaximum => once(&mut p.topic_alias_maximum, id, r.u16()?),
        Id::TopicAlias => once(&mut p.topic_alias, id, topic_alias(r)?),
        Id::MaximumQoS => once(&mut p.maximum_qos, id, maximum_qos(r)?),
        Id::RetainAvailable => once(&mut p.retain_available, id, flag(r, id)?),
        Id::UserProperty => {
            p.user_properties.push((r.string()?, r.string()?));
            Ok(())
        }
        Id::MaximumPacketSize => once(&mut p.maximum_packet_size, id, positive(r.u32()?, id)?),
        Id::WildcardSubscriptionAvailable => once(&mut p.wildcard_subscription_available, id, flag(r, id)?),
        Id::SubscriptionIdentifierAvailable => once(&mut p.subscription_identifier_available, id, flag(r, id)?),
        Id::SharedSubscriptionAvailable => once(&mut p.shared_subscription_available, id, flag(r, id)?),
    }
}

/// Every property but User Property and the Subscription Identifiers of a PUBLISH may stand once.
fn once<T>(slot: &mut Option<T>, property: Id, value: T) -> Result<(), DecodeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::DuplicateProperty { property }),
    }
}

/// In a SUBSCRIBE once (3.8.2.1.2), in a PUBLISH one for each subscription that matched (3.3.2.3.8); never 0.
fn subscription_identifier(r: &mut Reader<'_>, owner: PropertyOwner, p: &mut Properties) -> Result<(), DecodeError> {
    let property = Id::SubscriptionIdentifier;
    let once = owner == PropertyOwner::Packet(crate::PacketType::Subscribe);
    if once && !p.subscription_identifiers.is_empty() {
        return Err(DecodeError::DuplicateProperty { property });
    }
    p.subscription_identifiers.push(positive(r.variable()?, property)?);
    Ok(())
}

fn flag(r: &mut Reader<'_>, property: Id) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::PropertyValue { property }),
    }
}

fn positive<T: PartialEq + From<u8>>(value: T, property: Id) -> Result<T, DecodeError> {
    if value == T::from(0) {
        Err(DecodeError::PropertyValue { property })
    } else {
        Ok(value)
    }
}

/// [MQTT-3.3.2-8]
fn topic_alias(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match r.u16()? {
        0 => Err(DecodeError::TopicAlias),
        alias => Ok(alias),
    }
}

/// QoS 2 is said by leaving the property out (3.2.2.3.4).
fn maximum_qos(r: &mut Reader<'_>) -> Result<QoS, DecodeError> {
    match flag(r, Id::MaximumQoS)? {
        false => Ok(QoS::AtMostOnce),
        true => Ok(QoS::AtLeastOnce),
    }
}

/// A topic name [MQTT-3.3.2-14].
fn response_topic(r: &mut Reader<'_>) -> Result<Utf8String, DecodeError> {
    let name = r.string()?;
    topic::validate_topic_name(&name).map_err(|_| DecodeError::PropertyValue {
        property: Id::ResponseTopic,
    })?;
    Ok(name)
}
