//! Text with `${placeholders}`, as EMQX spells them. What has no value is the empty string, as there.

use nervewire_plugin_sdk::{Action, Client, Credentials, Request};
use std::borrow::Cow;

/// Text and placeholders in turn.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Name(String),
}

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) client: &'a Client,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) request: Option<&'a Request>,
}

/// Which question a template is for; `${password}` is no part of an authorization, nor `${topic}` of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Authentication,
    Authorization,
}

const OF_BOTH: [&str; 12] = [
    "clientid",
    "username",
    "peerhost",
    "peerport",
    "cert_subject",
    "cert_common_name",
    "proto_name",
    "proto_ver",
    "listener",
    "tenant",
    "mountpoint",
    "zone",
];

impl Question {
    fn knows(self, name: &str) -> bool {
        let own: &[&str] = match self {
            Self::Authentication => &["password"],
            Self::Authorization => &["action", "topic", "qos", "retain"],
        };
        let attribute = name.strip_prefix("client_attrs.").is_some_and(|name| !name.is_empty());
        attribute || OF_BOTH.contains(&name) || own.contains(&name)
    }
}

impl Template {
    /// # Errors
    /// A placeholder that means nothing there.
    pub(crate) fn parse(text: &str, question: Question) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a `${{` without its `}}`"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                // EMQX's way to write a dollar sign.
                "$" => Part::Text("$".to_owned()),
                _ if question.knows(name) => Part::Name(name.to_owned()),
                _ => return Err(format!("`{text}`: the placeholder ${{{name}}} is not known here")),
            });
            rest = tail;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Whether there is a placeholder in it.
    pub(crate) fn varies(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Name(_)))
    }

    /// Each value goes through `encode`; text stays as it is written.
    pub(crate) fn render(&self, values: Values<'_>, encode: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Name(name) => out.extend(encode(&values.get(name))),
            }
        }
        out
    }

    /// The values as they are.
    ///
    /// # Errors
    /// Some value is not text.
    pub(crate) fn text(&self, values: Values<'_>) -> Result<String, String> {
        String::from_utf8(self.render(values, <[u8]>::to_vec)).map_err(|_| "a value that is not UTF-8".to_owned())
    }
}

impl Values<'_> {
    fn get(&self, name: &str) -> Cow<'_, [u8]> {
        let text = |text: Option<&'_ str>| Cow::Owned(text.unwrap_or_default().as_bytes().to_vec());
        let certificate = self.client.certificate.as_ref();
        match name {
            "clientid" => Cow::Borrowed(self.client.client_id.as_bytes()),
            "username" => text(self.username()),
            "password" => self
                .credentials
                .and_then(|credentials| credentials.password.as_deref())
                .map_or(Cow::Borrowed(&[]), Cow::Borrowed),
            "peerhost" => Cow::Borrowed(self.client.address.as_bytes()),
            "peerport" => Cow::Owned(self.client.port.to_string().into_bytes()),
            "cert_subject" => text(certificate.map(|certificate| certificate.subject.as_str())),
            "cert_common_name" => text(certificate.and_then(|certificate| certificate.common_name.as_deref())),
            "proto_name" => text(Some("MQTT")),
            "proto_ver" => text(Some(match self.client.protocol {
                nervewire_plugin_sdk::Protocol::Mqtt31 => "3",
                nervewire_plugin_sdk::Protocol::Mqtt311 => "4",
                nervewire_plugin_sdk::Protocol::Mqtt5 => "5",
            })),
            "listener" => Cow::Borrowed(self.client.listener.as_bytes()),
            "tenant" => text(self.client.tenant.as_deref()),
            "zone" => text(Some("default")),
            _ => match name.strip_prefix("client_attrs.") {
                Some(attribute) => text(self.client.attribute(attribute)),
                None => text(self.of_the_request(name)),
            },
        }
    }

    fn username(&self) -> Option<&str> {
        match self.credentials {
            Some(credentials) => credentials.username.as_deref(),
            None => self.client.username.as_deref(),
        }
    }

    fn of_the_request(&self, name: &str) -> Option<&str> {
        let request = self.request?;
        match name {
            "action" => Some(match request.action {
                Action::Publish => "publish",
                Action::Subscribe | Action::Deliver => "subscribe",
            }),
            "topic" => Some(&request.topic),
            "qos" => ["0", "1", "2"].get(request.qos as usize).copied(),
            "retain" => Some(if request.retain { "true" } else { "false" }),
            _ => None,
        }
    }
}

/// RFC 3986: everything but unreserved characters. Nothing in it can end a line or be another part of a URL.
pub(crate) fn percent_encode(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    out
}
