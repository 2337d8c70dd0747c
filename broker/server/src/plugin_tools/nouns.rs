//! The contract's nouns as people and recordings write them: clients, credentials, requests and messages in TOML and JSON.

use super::pairs::Pairs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use nervewire_codec::{Properties, QoS, Utf8String, Version, topic};
use nervewire_core::hook::{Action, AppMessage, Certificate, Client, Credentials, Request};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A client. What is not written is what nobody looks at: an address of the documentation's network.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClientText {
    pub client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    pub address: IpAddr,
    pub port: u16,
    pub listener: String,
    pub protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub attributes: Pairs,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateText>,
}

impl Default for ClientText {
    fn default() -> Self {
        Self {
            client_id: "c1".to_owned(),
            username: None,
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            port: 49_152,
            listener: "0.0.0.0:1883".to_owned(),
            protocol: Protocol::V5,
            tenant: None,
            attributes: Pairs::default(),
            certificate: None,
        }
    }
}

/// A protocol version by its number.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Protocol {
    #[serde(rename = "3.1")]
    V31,
    #[serde(rename = "3.1.1")]
    V311,
    #[serde(rename = "5.0")]
    V5,
}

/// A client certificate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CertificateText {
    subject: String,
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    common_name: Option<String>,
    alternative_names: Vec<String>,
    serial: String,
    fingerprint: String,
    not_before: i64,
    not_after: i64,
}

/// What a client shows who it is. Never written to a recording.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CredentialsText {
    pub username: Option<String>,
    pub password: Option<String>,
    pub password_base64: Option<String>,
    pub method: Option<String>,
    pub data: Option<String>,
    pub data_base64: Option<String>,
    pub state: Option<String>,
    pub reauthentication: bool,
}

/// What a client wants to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestText {
    pub action: ActionText,
    pub topic: String,
    #[serde(default)]
    pub qos: u8,
    #[serde(default)]
    pub retain: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // As in wit/.
pub(crate) enum ActionText {
    Publish,
    Subscribe,
    Deliver,
}

/// A message. Bytes that are no text are written in base64.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageText {
    pub topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    #[serde(default)]
    pub qos: u8,
    #[serde(default)]
    pub retain: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub payload_is_utf8: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_expiry_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    pub user_properties: Pairs,
}

impl ClientText {
    pub(crate) fn of(client: &Client) -> Self {
        Self {
            client_id: client.client_id.to_string(),
            username: client.username.as_deref().map(str::to_owned),
            address: client.address,
            port: client.port,
            listener: client.listener.to_string(),
            protocol: match client.protocol {
                Version::V31 => Protocol::V31,
                Version::V311 => Protocol::V311,
                Version::V5 => Protocol::V5,
            },
            tenant: client.tenant.as_deref().map(str::to_owned),
            attributes: Pairs::of(&client.attributes),
            certificate: client.certificate.as_deref().map(CertificateText::of),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client {
            client_id: self.client_id.as_str().into(),
            username: self.username.as_deref().map(Arc::from),
            address: self.address,
            port: self.port,
            listener: self.listener.as_str().into(),
            protocol: match self.protocol {
                Protocol::V31 => Version::V31,
                Protocol::V311 => Version::V311,
                Protocol::V5 => Version::V5,
            },
            certificate: self.certificate.as_ref().map(|text| Arc::new(text.certificate())),
            attributes: self.attributes.shared(),
            tenant: self.tenant.as_deref().map(Arc::from),
        }
    }
}

impl CertificateText {
    fn of(certificate: &Certificate) -> Self {
        let certificate = certificate.clone();
        Self {
            subject: certificate.subject,
            issuer: certificate.issuer,
            common_name: certificate.common_name,
            alternative_names: certificate.alternative_names,
            serial: certificate.serial,
            fingerprint: certificate.fingerprint,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        }
    }

    fn certificate(&self) -> Certificate {
        let text = self.clone();
        Certificate {
            subject: text.subject,
            issuer: text.issuer,
            common_name: text.common_name,
            alternative_names: text.alternative_names,
            serial: text.serial,
            fingerprint: text.fingerprint,
            not_before: text.not_before,
            not_after: text.not_after,
        }
    }
}

impl CredentialsText {
    pub(crate) fn credentials(&self) -> Result<Credentials, String> {
        Ok(Credentials {
            username: self
                .username
                .as_deref()
                .map(|name| string("username", name))
                .transpose()?,
            password: bytes("password", self.password.as_deref(), self.password_base64.as_deref())?,
            method: self.method.as_deref().map(|name| string("method", name)).transpose()?,
            data: bytes("data", self.data.as_deref(), self.data_base64.as_deref())?,
            state: bytes("state", self.state.as_deref(), None)?,
            reauthentication: self.reauthentication,
        })
    }
}

impl RequestText {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            action: match request.action {
                Action::Publish => ActionText::Publish,
                Action::Subscribe => ActionText::Subscribe,
                Action::Deliver => ActionText::Deliver,
            },
            topic: request.topic.to_string(),
            qos: request.qos as u8,
            retain: request.retain,
        }
    }

    pub(crate) fn request(&self) -> Result<Request, String> {
        let (action, valid) = match self.action {
            ActionText::Publish => (Action::Publish, topic::validate_topic_name(&self.topic)),
            ActionText::Subscribe => (Action::Subscribe, topic::validate_topic_filter(&self.topic)),
            ActionText::Deliver => (Action::Deliver, topic::validate_topic_name(&self.topic)),
        };
        valid.map_err(|error| format!("topic = {:?}: {error}", self.topic))?;
        Ok(Request {
            action,
            topic: string("topic", &self.topic)?,
            qos: qos(self.qos)?,
            retain: self.retain,
        })
    }
}

impl MessageText {
    pub(crate) fn of(message: &AppMessage) -> Self {
        let properties = message.properties.as_deref();
        let (payload, payload_base64) = readable(&message.payload);
        let (correlation_data, correlation_data_base64) =
            match properties.and_then(|properties| properties.correlation_data.as_ref()) {
                Some(data) => readable(data),
                None => (None, None),
            };
        let text = |field: fn(&Properties) -> &Option<Utf8String>| {
            properties.and_then(|properties| field(properties).as_ref().map(ToString::to_string))
        };
        Self {
            topic: message.topic.to_string(),
            payload,
            payload_base64,
            qos: message.qos as u8,
            retain: message.retain,
            payload_is_utf8: properties.is_some_and(|p| p.payload_format_indicator == Some(true)),
            content_type: text(|p| &p.content_type),
            response_topic: text(|p| &p.response_topic),
            correlation_data,
            correlation_data_base64,
            message_expiry_seconds: properties.and_then(|p| p.message_expiry_interval),
            user_properties: properties.map_or_else(Pairs::default, |p| Pairs::of(&p.user_properties)),
        }
    }

    pub(crate) fn message(&self) -> Result<AppMessage, String> {
        topic::validate_topic_name(&self.topic).map_err(|error| format!("topic = {:?}: {error}", self.topic))?;
        let payload = bytes("payload", self.payload.as_deref(), self.payload_base64.as_deref())?;
        let properties = self.properties()?;
        Ok(AppMessage {
            topic: string("topic", &self.topic)?,
            payload: payload.unwrap_or_default(),
            qos: qos(self.qos)?,
            retain: self.retain,
            properties: (properties != Properties::default()).then(|| Arc::new(properties)),
        })
    }

    fn properties(&self) -> Result<Properties, String> {
        let text = |name, value: &Option<String>| value.as_deref().map(|value| string(name, value)).transpose();
        let user_property = |(name, value): &(String, String)| {
            Ok((string("user_properties", name)?, string("user_properties", value)?))
        };
        Ok(Properties {
            payload_format_indicator: self.payload_is_utf8.then_some(true),
            message_expiry_interval: self.message_expiry_seconds,
            content_type: text("content_type", &self.content_type)?,
            response_topic: text("response_topic", &self.response_topic)?,
            correlation_data: bytes(
                "correlation_data",
                self.correlation_data.as_deref(),
                self.correlation_data_base64.as_deref(),
            )?,
            user_properties: self
                .user_properties
                .iter()
                .map(user_property)
                .collect::<Result<_, String>>()?,
            ..Properties::default()
        })
    }
}

/// As text where it is text, else in base64: one of the two.
pub(crate) fn readable(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The other way round.
pub(crate) fn bytes(name: &str, text: Option<&str>, base64: Option<&str>) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 are both there; write one of them")),
        (Some(text), None) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map(|bytes| Some(bytes.into()))
            .map_err(|error| format!("{name}_base64 is not base64: {error}")),
        (None, None) => Ok(None),
    }
}

fn string(name: &str, text: &str) -> Result<Utf8String, String> {
    Utf8String::try_from(text).map_err(|error| format!("{name} is no MQTT string: {error}"))
}

fn qos(level: u8) -> Result<QoS, String> {
    match level {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(format!("qos = {level}; write 0, 1 or 2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(toml: &str) -> Result<AppMessage, String> {
        toml::from_str::<MessageText>(toml)
            .map_err(|error| error.message().to_owned())?
            .message()
    }

    #[test]
    fn a_message_survives_being_written_and_read() {
        let written = message(
            "topic = \"a/b\"\npayload_base64 = \"AP8=\"\nqos = 2\nretain = true\ncontent_type = \"x\"\n\
             correlation_data = \"c\"\nmessage_expiry_seconds = 7\nuser_properties = { k = \"v\" }\nresponse_topic = \"r\"",
        )
        .unwrap();
        assert_eq!(written.payload.as_ref(), [0, 255]);
        let json = serde_json::to_string(&MessageText::of(&written)).unwrap();
        let read: MessageText = serde_json::from_str(&json).unwrap();
        assert_eq!(read.message().unwrap(), written, "{json}");
    }

    #[test]
    fn a_client_survives_being_written_and_read() {
        let text = "client_id = \"c\"\nusername = \"ann\"\naddress = \"2001:db8::1\"\nprotocol = \"3.1.1\"\ntenant = \"t\"\n\
                    attributes = [[\"a\", \"1\"], [\"a\", \"2\"]]\ncertificate = { common_name = \"x\", not_after = 5 }";
        let client = toml::from_str::<ClientText>(text).unwrap().client();
        assert_eq!(client.attributes.len(), 2);
        let json = serde_json::to_string(&ClientText::of(&client)).unwrap();
        assert_eq!(
            serde_json::from_str::<ClientText>(&json).unwrap().client(),
            client,
            "{json}"
        );
    }

    #[test]
    fn what_no_client_can_send_is_refused() {
        let check = |toml: &str, expected: &str| {
            let error = message(toml).unwrap_err();
            assert!(error.contains(expected), "{toml}: {error}");
        };
        check("topic = \"a/#\"", "topic");
        check("topic = \"a\"\nqos = 3", "write 0, 1 or 2");
        check(
            "topic = \"a\"\npayload = \"x\"\npayload_base64 = \"eA==\"",
            "one of them",
        );
        check("topic = \"a\"\npayload_base64 = \"?\"", "not base64");
        check("topic = \"a\"\npaylod = \"x\"", "payload");
        check("payload = \"x\"", "topic");
    }
}
