//! From the core's types to the records a guest is handed: borrowed, without copies of text or payload.

use crate::call_arena::CallArena;
use crate::lower::{Placed, Source};
use crate::wire;
use nervewire_codec::{Properties, QoS, UserProperty, Version};
use nervewire_core::hook::{Action, AppMessageRef, Certificate, Client, Credentials, Window};
use nervewire_core::policy::RequestRef;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

/// What a borrowed client refers to beside the client itself: texts and lists that have another shape there.
pub(crate) struct ClientFacts<'a> {
    client: &'a Client,
    address: AddressText,
    attributes: Vec<wire::PropertyRef<'a>>,
}

impl<'a> ClientFacts<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        let attribute = |(name, value): &'a (Arc<str>, Arc<str>)| wire::PropertyRef { name, value };
        Self {
            client,
            address: AddressText::new(client.address),
            attributes: client.attributes.iter().map(attribute).collect(),
        }
    }

    pub(crate) fn lower<'f>(&'f self, arena: &'f CallArena) -> Placed<'f, wire::ClientRef<'f>> {
        let client = self.client;
        arena.placed(wire::ClientRef {
            client_id: &client.client_id,
            username: client.username.as_deref(),
            address: self.address.as_str(),
            port: client.port,
            listener: &client.listener,
            protocol: protocol(client.protocol),
            certificate: client.certificate.as_deref().map(certificate),
            attributes: &self.attributes,
            tenant: client.tenant.as_deref(),
        })
    }
}

/// An IP address as text, on the stack: formatting it into a `String` takes a tenth of the time of an `authorize` call, and an
/// IPv4 address by way of `fmt` half of that.
struct AddressText {
    bytes: [u8; MAX_ADDRESS_BYTES],
    len: usize,
}

/// `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const MAX_ADDRESS_BYTES: usize = 45;

impl AddressText {
    fn new(address: IpAddr) -> Self {
        let mut text = Self {
            bytes: [0; MAX_ADDRESS_BYTES],
            len: 0,
        };
        match address {
            IpAddr::V4(address) => text.push_dotted(address.octets()),
            // Cannot fail: the buffer holds the longest address. Were it ever to, the guest would see it cut off.
            IpAddr::V6(address) => drop(write!(text, "{address}")),
        }
        text
    }

    fn push_dotted(&mut self, octets: [u8; 4]) {
        for (position, octet) in octets.into_iter().enumerate() {
            if position > 0 {
                self.push(b'.');
            }
            let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
            let zeros = usize::from(octet < 100) + usize::from(octet < 10);
            digits[zeros..].iter().for_each(|digit| self.push(*digit));
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl std::fmt::Write for AddressText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.len + part.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(std::fmt::Error)?
            .copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn protocol(version: Version) -> wire::Protocol {
    match version {
        Version::V31 => wire::Protocol::Mqtt31,
        Version::V311 => wire::Protocol::Mqtt311,
        Version::V5 => wire::Protocol::Mqtt5,
    }
}

fn certificate(certificate: &Certificate) -> wire::CertificateRef<'_> {
    wire::CertificateRef {
        subject: &certificate.subject,
        issuer: &certificate.issuer,
        common_name: certificate.common_name.as_deref(),
        alternative_names: &certificate.alternative_names,
        serial: &certificate.serial,
        fingerprint: &certificate.fingerprint,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
    }
}

pub(crate) fn credentials(credentials: &Credentials) -> wire::CredentialsRef<'_> {
    wire::CredentialsRef {
        username: credentials.username.as_deref(),
        password: credentials.password.as_deref(),
        method: credentials.method.as_deref(),
        data: credentials.data.as_deref(),
        state: credentials.state.as_deref(),
        reauthentication: credentials.reauthentication,
    }
}

pub(crate) fn request<'a>(request: &RequestRef<'a>) -> wire::RequestRef<'a> {
    let action = match request.action {
        Action::Publish => wire::Action::Publish,
        Action::Subscribe => wire::Action::Subscribe,
        Action::Deliver => wire::Action::Deliver,
    };
    wire::RequestRef {
        action,
        topic: request.topic,
        qos: qos(request.qos),
        retain: request.retain,
    }
}

impl Source for RequestRef<'_> {
    type Record<'r> = wire::RequestRef<'r>;

    #[inline]
    fn with_record<T>(&self, receive: impl FnOnce(&Self::Record<'_>) -> T) -> T {
        receive(&request(self))
    }
}

impl Source for AppMessageRef<'_> {
    type Record<'r> = wire::MessageRef<'r>;

    #[inline]
    fn with_record<T>(&self, receive: impl FnOnce(&Self::Record<'_>) -> T) -> T {
        receive(&message(self, &user_properties(self)))
    }
}

/// The user properties of a message in the shape [`message`] borrows.
pub(crate) fn user_properties<'a>(message: &AppMessageRef<'a>) -> Vec<wire::PropertyRef<'a>> {
    let properties = message.properties.map_or(&[][..], |p| &p.user_properties);
    properties.iter().map(user_property).collect()
}

fn user_property((name, value): &UserProperty) -> wire::PropertyRef<'_> {
    wire::PropertyRef { name, value }
}

pub(crate) fn message<'a>(
    message: &AppMessageRef<'a>,
    user_properties: &'a [wire::PropertyRef<'a>],
) -> wire::MessageRef<'a> {
    let properties: Option<&'a Properties> = message.properties;
    wire::MessageRef {
        topic: message.topic.as_str(),
        payload: message.payload,
        qos: qos(message.qos),
        retain: message.retain,
        payload_is_utf8: properties.is_some_and(|p| p.payload_format_indicator == Some(true)),
        content_type: properties.and_then(|p| p.content_type.as_deref()),
        response_topic: properties.and_then(|p| p.response_topic.as_deref()),
        correlation_data: properties.and_then(|p| p.correlation_data.as_deref()),
        message_expiry_seconds: properties.and_then(|p| p.message_expiry_interval),
        user_properties,
    }
}

pub(crate) fn window(window: &Window) -> wire::WindowRef<'_> {
    wire::WindowRef {
        client_id: &window.client_id,
        username: window.username.as_deref(),
        address: window.address.to_string(),
        started: window.started_unix_ms,
        milliseconds: window.length_ms,
        messages_in: window.messages_in,
        messages_out: window.messages_out,
        bytes_in: window.bytes_in,
        bytes_out: window.bytes_out,
        distinct_topics: window.distinct_topics,
        denials: window.denials,
        malformed_packets: window.malformed_packets,
        failed_logins: window.failed_logins,
        connects: window.connects,
        payload_bytes_min: window.payload_bytes_min,
        payload_bytes_max: window.payload_bytes_max,
        payload_bytes_mean: window.payload_bytes_mean,
        payload_bytes_deviation: window.payload_bytes_deviation,
    }
}

fn qos(qos: QoS) -> wire::Qos {
    match qos {
        QoS::AtMostOnce => wire::Qos::AtMostOnce,
        QoS::AtLeastOnce => wire::Qos::AtLeastOnce,
        QoS::ExactlyOnce => wire::Qos::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_print() {
        let rows = [
            "127.0.0.1",
            "0.9.10.99",
            "100.101.200.0",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "2001:db8:85a3:8d3:1319:8a2e:370:7348",
        ];
        let mapped = "::ffff:255.255.255.255";
        for text in rows.into_iter().chain([mapped]) {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(AddressText::new(address).as_str(), text);
        }
    }
}
