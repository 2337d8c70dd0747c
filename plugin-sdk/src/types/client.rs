use super::Property;
use std::net::IpAddr;

/// Facts about one connection, gathered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Client identifier.
    pub client_id: String,
    /// The user name of the identity; before authentication the one the client claims.
    pub username: Option<String>,
    /// Peer IP address, without the port.
    pub address: String,
    /// Peer port.
    pub port: u16,
    /// The listener's `bind` as configured.
    pub listener: String,
    /// The protocol version the client speaks.
    pub protocol: Protocol,
    /// What the broker verified about a client certificate.
    pub certificate: Option<Certificate>,
    /// What the authenticator attached; empty before authentication.
    pub attributes: Vec<Property>,
    /// The name space its topics live in; `None`: the common one.
    pub tenant: Option<String>,
}

impl Client {
    /// The value of its first attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name)
            .map(|attribute| attribute.value.as_str())
    }

    /// [`address`](Self::address), parsed.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

/// The protocol version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.
    Mqtt31,
    /// MQTT 3.1.1.
    Mqtt311,
    /// MQTT 5.0.
    Mqtt5,
}

/// What the broker verified about a client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Distinguished name of the subject, RFC 4514.
    pub subject: String,
    /// Distinguished name of the issuer, RFC 4514.
    pub issuer: String,
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// DNS names, e-mail addresses, URIs and IP addresses of the subject alternative name extension.
    pub alternative_names: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER encoding, lower-case hexadecimal.
    pub fingerprint: String,
    /// Start of its validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of its validity, seconds since the Unix epoch.
    pub not_after: i64,
}
