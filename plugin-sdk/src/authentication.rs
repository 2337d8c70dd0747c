//! Hook `authenticate`: who is this?

use crate::{Client, Plugin, Property};
use std::fmt;

/// Implemented by plugins that say who a client is.
///
/// The first authenticator of the chain that does not abstain decides.
pub trait Authenticate: Plugin {
    /// Called at CONNECT, and for each AUTH packet of an MQTT 5 enhanced authentication.
    fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Authentication;
}

/// What a client offers to prove who it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User Name of the CONNECT.
    pub username: Option<String>,
    /// Password of the CONNECT.
    pub password: Option<Vec<u8>>,
    /// Authentication Method of an MQTT 5 enhanced authentication.
    pub method: Option<String>,
    /// Authentication Data.
    pub data: Option<Vec<u8>>,
    /// What this plugin handed out with its last challenge in this exchange, unchanged.
    pub state: Option<Vec<u8>>,
    /// The client is connected and authenticates again.
    pub reauthentication: bool,
}

impl Credentials {
    /// The password, where it is UTF-8.
    pub fn password_str(&self) -> Option<&str> {
        self.password
            .as_deref()
            .and_then(|password| std::str::from_utf8(password).ok())
    }
}

impl fmt::Debug for Credentials {
    /// Everything but the secrets, so that none gets into a log by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("method", &self.method)
            .field("reauthentication", &self.reauthentication)
            .finish_non_exhaustive()
    }
}

/// An authenticator's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Let in as this.
    Allow(Identity),
    /// Refused.
    Deny(Refusal),
    /// One more step of an enhanced authentication.
    Challenge {
        /// Authentication Data of the AUTH packet sent to the client.
        data: Vec<u8>,
        /// Kept by the broker and handed back with the client's answer: any instance may take the next step.
        state: Vec<u8>,
    },
    /// Not mine: ask the next authenticator.
    Abstain,
}

impl Authentication {
    /// Let in under the user name the client claims.
    pub fn allow() -> Self {
        Self::Allow(Identity::default())
    }
}

impl From<Identity> for Authentication {
    fn from(identity: Identity) -> Self {
        Self::Allow(identity)
    }
}

/// Who the client is.
///
/// ```
/// use nervewire_plugin_sdk::{Authentication, Identity};
/// let identity = Identity::named("dashboard-7").attribute("role", "viewer");
/// let answer: Authentication = identity.into();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None`: keep the user name the client claims.
    pub username: Option<String>,
    /// What authorizers will read with [`Client::attribute`].
    pub attributes: Vec<Property>,
    /// The name space its topics live in; `None`: the common one.
    pub tenant: Option<String>,
    /// Bounds for this client.
    pub quotas: Quotas,
    /// Authentication Data for the packet that ends an enhanced authentication.
    pub data: Option<Vec<u8>>,
}

impl Identity {
    /// An identity of this user name.
    pub fn named(username: impl Into<String>) -> Self {
        Self {
            username: Some(username.into()),
            ..Self::default()
        }
    }

    /// With one more attribute.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push(Property::new(name, value));
        self
    }

    /// In this tenant's name space.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// With these bounds.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }
}

/// Bounds for one client; `None`: the configured ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// PUBLISH packets per second.
    pub publish_rate_per_second: Option<u32>,
    /// Messages in its queue.
    pub queue_messages: Option<u32>,
    /// Bytes in its queue.
    pub queue_bytes: Option<u64>,
    /// Subscriptions of its session.
    pub subscriptions: Option<u32>,
}

/// Why a client is refused; the broker puts it into the words of the client's protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of the reason codes.
pub enum Refusal {
    BadUserNameOrPassword,
    NotAuthorized,
    Banned,
    ServerUnavailable,
    ServerBusy,
    BadAuthenticationMethod,
    QuotaExceeded,
}
