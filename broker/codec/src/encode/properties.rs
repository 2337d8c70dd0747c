//! The property block of 5.0 packets (2.2.2).

use super::MAX_VARIABLE;
use super::sink::{Count, Sink};
use crate::{EncodeError, Properties, PropertyId as Id, PropertyOwner, UserProperty, Utf8String, Version};
use bytes::Bytes;

/// Length and properties for 5.0, nothing before.
pub(super) fn write_for<S: Sink>(
    version: Version,
    properties: Option<&Properties>,
    owner: PropertyOwner,
    out: &mut S,
) -> Result<(), EncodeError> {
    if version == Version::V5 {
        write(properties, owner, out)
    } else {
        Ok(())
    }
}

/// The property length and those properties that `owner` may carry.
pub(super) fn write<S: Sink>(
    properties: Option<&Properties>,
    owner: PropertyOwner,
    out: &mut S,
) -> Result<(), EncodeError> {
    let Some(properties) = properties else {
        out.u8(0);
        return Ok(());
    };
    let bytes = len(properties, owner)?;
    if bytes > MAX_VARIABLE {
        return Err(EncodeError::PacketTooLarge { bytes });
    }
    out.variable(bytes as u32);
    block(properties, owner, out)
}

/// Bytes of the properties that `owner` may carry, without the length before them.
pub(super) fn len(properties: &Properties, owner: PropertyOwner) -> Result<usize, EncodeError> {
    let mut count = Count::default();
    block(properties, owner, &mut count)?;
    Ok(count.bytes)
}

fn block<S: Sink>(p: &Properties, owner: PropertyOwner, out: &mut S) -> Result<(), EncodeError> {
    let mut w = Writer { owner, out };
    w.flag(Id::PayloadFormatIndicator, p.payload_format_indicator);
    w.u32(Id::MessageExpiryInterval, p.message_expiry_interval);
    w.string(Id::ContentType, &p.content_type)?;
    w.string(Id::ResponseTopic, &p.response_topic)?;
    w.binary(Id::CorrelationData, &p.correlation_data)?;
    w.subscription_identifiers(&p.subscription_identifiers)?;
    w.u32(Id::SessionExpiryInterval, p.session_expiry_interval);
    w.string(Id::AssignedClientIdentifier, &p.assigned_client_identifier)?;
    w.u16(Id::ServerKeepAlive, p.server_keep_alive);
    w.string(Id::AuthenticationMethod, &p.authentication_method)?;
    w.binary(Id::AuthenticationData, &p.authentication_data)?;
    w.flag(Id::RequestProblemInformation, p.request_problem_information);
    w.u32(Id::WillDelayInterval, p.will_delay_interval);
    w.flag(Id::RequestResponseInformation, p.request_response_information);
    w.string(Id::ResponseInformation, &p.response_information)?;
    w.string(Id::ServerReference, &p.server_reference)?;
    w.string(Id::ReasonString, &p.reason_string)?;
    w.u16(Id::ReceiveMaximum, p.receive_maximum);
    w.u16(Id::TopicAliasMaximum, p.topic_alias_maximum);
    w.u16(Id::TopicAlias, p.topic_alias);
    w.u8(
        Id::MaximumQoS,
        p.maximum_qos.map(|qos| qos as u8).filter(|&qos| qos < 2),
    );
    w.flag(Id::RetainAvailable, p.retain_available);
    w.user_properties(&p.user_properties)?;
    w.u32(Id::MaximumPacketSize, p.maximum_packet_size);
    w.flag(Id::WildcardSubscriptionAvailable, p.wildcard_subscription_available);
    w.flag(Id::SubscriptionIdentifierAvailable, p.subscription_identifier_available);
    w.flag(Id::SharedSubscriptionAvailable, p.shared_subscription_available);
    Ok(())
}

/// Writes the properties that are there and that the owner may carry.
struct Writer<'a, S> {
    owner: PropertyOwner,
    out: &'a mut S,
}

impl<S: Sink> Writer<'_, S> {
    /// Writes the identifier where the value shall follow it.
    fn begin<T>(&mut self, id: Id, value: Option<T>) -> Option<T> {
        let value = value.filter(|_| id.allowed_in(self.owner))?;
        self.out.u8(id as u8);
        Some(value)
    }

    fn u8(&mut self, id: Id, value: Option<u8>) {
        if let Some(value) = self.begin(id, value) {
            self.out.u8(value);
        }
    }

    fn flag(&mut self, id: Id, value: Option<bool>) {
        self.u8(id, value.map(u8::from));
    }

    fn u16(&mut self, id: Id, value: Option<u16>) {
        if let Some(value) = self.begin(id, value) {
            self.out.u16(value);
        }
    }

    fn u32(&mut self, id: Id, value: Option<u32>) {
        if let Some(value) = self.begin(id, value) {
            self.out.u32(value);
        }
    }

    fn string(&mut self, id: Id, value: &Option<Utf8String>) -> Result<(), EncodeError> {
        self.binary_slice(id, value.as_ref().map(|text| text.as_bytes()))
    }

    fn binary(&mut self, id: Id, value: &Option<Bytes>) -> Result<(), EncodeError> {
        self.binary_slice(id, value.as_ref())
    }

    fn binary_slice(&mut self, id: Id, value: Option<&Bytes>) -> Result<(), EncodeError> {
        match self.begin(id, value) {
            Some(value) => self.out.field(value),
            None => Ok(()),
        }
    }

    fn subscription_identifiers(&mut self, ids: &[u32]) -> Result<(), EncodeError> {
        if !Id::SubscriptionIdentifier.allowed_in(self.owner) {
            return Ok(());
        }
        subscription_identifiers(ids, self.out)
    }

    fn user_properties(&mut self, properties: &[UserProperty]) -> Result<(), EncodeError> {
        user_properties(properties, self.out)
    }
}

pub(super) fn subscription_identifiers<S: Sink>(ids: &[u32], out: &mut S) -> Result<(), EncodeError> {
    for &id in ids {
        if id == 0 || id as usize > MAX_VARIABLE {
            return Err(EncodeError::SubscriptionIdentifier(id));
        }
        out.u8(Id::SubscriptionIdentifier as u8);
        out.variable(id);
    }
    Ok(())
}

pub(super) fn user_properties<S: Sink>(properties: &[UserProperty], out: &mut S) -> Result<(), EncodeError> {
    for (name, value) in properties {
        out.u8(Id::UserProperty as u8);
        out.field(name.as_bytes())?;
        out.field(value.as_bytes())?;
    }
    Ok(())
}
