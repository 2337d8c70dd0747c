//! A connection before it belongs to a session: CONNECT, the authenticators' decision, enhanced authentication.
//!
//! Contract: feed it the packets of one connection in order and the outcome of each [`Step::Authenticate`]; after
//! [`Step::Refuse`] or [`Step::Accept`] it is used up. While an outcome is pending no packet may be fed.

use crate::fold::{AnonymousPolicy, ConnectFacts, unanswered_authentication};
use crate::hook::{Authentication, Certificate, Client, Credentials, Identity, Quotas};
use crate::rate::SharedRate;
use bytes::Bytes;
use nervewire_codec::{Auth, ConnAck, Connect, DecodeError, Packet, Properties, ReasonCode, Utf8String, Version};
use std::net::IpAddr;
use std::sync::Arc;

/// Who is at the other end and where it came in.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Peer address.
    pub address: IpAddr,
    /// Peer port.
    pub port: u16,
    /// The listener's `bind`.
    pub listener: Arc<str>,
    /// The listener is bound to a loopback address.
    pub listener_is_loopback: bool,
    /// A verified client certificate.
    pub certificate: Option<Arc<Certificate>>,
    /// The name that the listener's `identity` takes from the certificate; with it the client counts as authenticated.
    pub certificate_name: Option<Arc<str>>,
}

/// A client that was let in, ready for the shard that owns its session.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its CONNECT, without the password.
    pub connect: Connect,
    /// Its facts; the client identifier is the assigned one where it sent none.
    pub client: Arc<Client>,
    /// The client identifier was assigned by us.
    pub assigned: bool,
    /// Bounds that came with the identity.
    pub quotas: Quotas,
    /// Authentication Data for the CONNACK.
    pub authentication_data: Option<Bytes>,
    /// The largest packet that its listener takes; `u32::MAX`: as large as any other.
    pub max_packet_bytes: u32,
    /// Rates that it shares with others.
    pub rates: SharedRates,
}

/// Rates of PUBLISH packets that a client shares with others; `None`: not bounded.
#[derive(Clone, Debug, Default)]
pub struct SharedRates {
    /// With everybody of its user name.
    pub user: Option<Arc<dyn SharedRate>>,
    /// With everybody from its address.
    pub address: Option<Arc<dyn SharedRate>>,
}

/// What the whole chain of authenticators said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainOutcome {
    /// The first answer that was not an abstention, else [`Authentication::Abstain`].
    pub answer: Authentication,
    /// Position of the authenticator that answered; the next step of its challenge goes to it alone.
    pub authenticator: usize,
    /// Nobody judged the client: a call failed, which is no fault of the client's.
    pub failed: bool,
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Ask the authenticators; `only` where one of them challenged before.
    Authenticate {
        /// Facts.
        client: Arc<Client>,
        /// Claims.
        credentials: Credentials,
        /// The one to ask; `None`: all in order.
        only: Option<usize>,
    },
    /// Send this packet and wait for the next one.
    Send(Packet),
    /// Send this packet, where there is one, and close.
    Refuse(Option<Packet>, ReasonCode),
    /// Hand over to the session's shard.
    Accept(Box<Accepted>),
}

/// The state of one connection before CONNACK.
#[derive(Debug)]
pub struct Handshake {
    peer: Peer,
    anonymous: AnonymousPolicy,
    state: State,
}

#[derive(Debug)]
enum State {
    AwaitingConnect,
    Deciding(Box<Pending>),
    /// An AUTH packet from us waits for its answer.
    Challenged(Box<Pending>, Bytes, usize),
    Done,
}

#[derive(Debug)]
struct Pending {
    connect: Connect,
    client: Arc<Client>,
    assigned: bool,
    sent_password: bool,
}

impl Handshake {
    /// For one accepted connection; `anonymous` as configured at this moment.
    pub fn new(peer: Peer, anonymous: AnonymousPolicy) -> Self {
        Self {
            peer,
            anonymous,
            state: State::AwaitingConnect,
        }
    }

    /// The protocol version, once CONNECT has told it: the decoder needs it.
    pub fn version(&self) -> Option<Version> {
        match &self.state {
            State::AwaitingConnect | State::Done => None,
            State::Deciding(p) | State::Challenged(p, ..) => Some(p.connect.version),
        }
    }

    /// The next packet; `unique` makes a number nobody can guess, for an assigned client identifier.
    pub fn packet(&mut self, packet: Packet, unique: impl FnOnce() -> u128) -> Step {
        match (std::mem::replace(&mut self.state, State::Done), packet) {
            (State::AwaitingConnect, Packet::Connect(connect)) => self.connect(*connect, unique),
            (State::Challenged(pending, state, only), Packet::Auth(auth)) => self.answer(pending, state, only, auth),
            // [MQTT-3.1.0-1]: the first packet is CONNECT; during an exchange only AUTH or DISCONNECT may come.
            (State::Challenged(pending, ..), Packet::Disconnect(_)) => {
                drop(pending);
                Step::Refuse(None, ReasonCode::Success)
            }
            (State::Challenged(pending, ..), _) => refuse(pending.connect.version, ReasonCode::ProtocolError),
            _ => Step::Refuse(None, ReasonCode::ProtocolError),
        }
    }

    /// Bytes that are no packet. Before a CONNECT was understood nothing is owed but the closing, except where a 5.0 or 3.x
    /// client can be told why.
    /// `sent` is the version that the bytes name, where they are a CONNECT.
    pub fn malformed(&mut self, error: &DecodeError, sent: Option<Version>) -> Step {
        let version = self.version().or(sent);
        self.state = State::Done;
        let reason = error.reason();
        match (version, reason) {
            (Some(Version::V5), _) => refuse(Version::V5, reason),
            (Some(version), ReasonCode::ClientIdentifierNotValid) => refuse(version, reason),
            // 3.x has no return code for other malformed packets: the connection is closed [MQTT-3.1.4-1 of 3.1.1].
            (Some(_), _) => Step::Refuse(None, reason),
            // [MQTT-3.1.2-2]: an unknown version may be told in the form of 3.1.1, which every client can read.
            (None, ReasonCode::UnsupportedProtocolVersion) => refuse(Version::V311, reason),
            (None, _) => Step::Refuse(None, reason),
        }
    }

    /// The outcome of the last [`Step::Authenticate`].
    pub fn outcome(&mut self, outcome: ChainOutcome) -> Step {
        let State::Deciding(pending) = std::mem::replace(&mut self.state, State::Done) else {
            return Step::Refuse(None, ReasonCode::UnspecifiedError);
        };
        match outcome.answer {
            Authentication::Allow(identity) => accept(*pending, identity),
            Authentication::Deny(reason) => refuse(pending.connect.version, reason),
            Authentication::Abstain => self.abstained(*pending),
            Authentication::Challenge { data, state } => self.challenge(pending, data, state, outcome.authenticator),
        }
    }

    fn connect(&mut self, mut connect: Connect, unique: impl FnOnce() -> u128) -> Step {
        let version = connect.version;
        let assigned = connect.client_id.is_empty();
        // [MQTT-3.1.3-8]: a zero-byte identifier needs Clean Session under 3.1.1; 3.1 has no such identifier.
        if assigned && (version == Version::V31 || (version == Version::V311 && !connect.clean_start)) {
            return refuse(version, ReasonCode::ClientIdentifierNotValid);
        }
        let client_id: Arc<str> = if assigned {
            format!("auto-{:032x}", unique()).into()
        } else {
            Arc::from(connect.client_id.as_str())
        };
        let credentials = Credentials {
            username: connect.username.clone(),
            password: connect.password.take(),
            method: property(&connect, |p| p.authentication_method.clone()),
            data: property(&connect, |p| p.authentication_data.clone()),
            state: None,
            reauthentication: false,
        };
        let sent_password = credentials.password.is_some();
        let client = Arc::new(self.client(&connect, client_id));
        let pending = Pending {
            connect,
            client: client.clone(),
            assigned,
            sent_password,
        };
        self.state = State::Deciding(Box::new(pending));
        Step::Authenticate {
            client,
            credentials,
            only: None,
        }
    }

    fn client(&self, connect: &Connect, client_id: Arc<str>) -> Client {
        Client {
            client_id,
            username: connect.username.as_ref().map(|u| Arc::from(u.as_str())),
            address: self.peer.address,
            port: self.peer.port,
            listener: self.peer.listener.clone(),
            protocol: connect.version,
            certificate: self.peer.certificate.clone(),
            attributes: Vec::new(),
            tenant: None,
        }
    }

    fn answer(&mut self, pending: Box<Pending>, state: Bytes, only: usize, auth: Auth) -> Step {
        let credentials = match continuation(&pending.connect, auth, state) {
            Ok(credentials) => credentials,
            Err(reason) => return refuse(pending.connect.version, reason),
        };
        let client = pending.client.clone();
        self.state = State::Deciding(pending);
        Step::Authenticate {
            client,
            credentials,
            only: Some(only),
        }
    }

    fn challenge(&mut self, pending: Box<Pending>, data: Bytes, state: Bytes, authenticator: usize) -> Step {
        let Some(method) = property(&pending.connect, |p| p.authentication_method.clone()) else {
            // A client that named no method cannot be challenged [MQTT-4.12.0-6].
            return refuse(pending.connect.version, ReasonCode::NotAuthorized);
        };
        self.state = State::Challenged(pending, state, authenticator);
        Step::Send(auth_packet(ReasonCode::ContinueAuthentication, method, Some(data)))
    }

    /// What becomes of the client where every authenticator abstains; `None`: nobody is being asked.
    pub fn unanswered(&self) -> Option<Authentication> {
        match &self.state {
            State::Deciding(pending) => Some(self.default_for(pending)),
            _ => None,
        }
    }

    fn default_for(&self, pending: &Pending) -> Authentication {
        let connect = &pending.connect;
        let facts = ConnectFacts {
            has_username: connect.username.is_some(),
            has_password: pending.sent_password,
            has_method: property(connect, |p| p.authentication_method.clone()).is_some(),
            has_certificate: self.peer.certificate.is_some(),
            certificate_identity: self.peer.certificate_name.clone(),
            peer: self.peer.address,
            loopback_listener: self.peer.listener_is_loopback,
        };
        unanswered_authentication(&facts, self.anonymous)
    }

    fn abstained(&self, pending: Pending) -> Step {
        let version = pending.connect.version;
        match self.default_for(&pending) {
            Authentication::Allow(identity) => accept(pending, identity),
            Authentication::Deny(reason) => refuse(version, reason),
            Authentication::Challenge { .. } | Authentication::Abstain => refuse(version, ReasonCode::NotAuthorized),
        }
    }
}

/// The credentials of an AUTH packet that continues an exchange under the CONNECT's method [MQTT-4.12.0-5].
pub(crate) fn continuation(connect: &Connect, auth: Auth, state: Bytes) -> Result<Credentials, ReasonCode> {
    let method = property(connect, |p| p.authentication_method.clone());
    let properties = auth.properties.unwrap_or_default();
    if auth.reason != ReasonCode::ContinueAuthentication || properties.authentication_method != method {
        return Err(ReasonCode::ProtocolError);
    }
    Ok(Credentials {
        username: connect.username.clone(),
        password: None,
        method,
        data: properties.authentication_data,
        state: Some(state),
        reauthentication: false,
    })
}

pub(crate) fn auth_packet(reason: ReasonCode, method: Utf8String, data: Option<Bytes>) -> Packet {
    let properties = Properties {
        authentication_method: Some(method),
        authentication_data: data,
        ..Properties::default()
    };
    Packet::Auth(Auth {
        reason,
        properties: Some(Box::new(properties)),
    })
}

/// The client's facts with what the authenticator made of them.
pub(crate) fn identified(client: &Client, identity: &Identity) -> Client {
    Client {
        username: identity.username.clone().or_else(|| client.username.clone()),
        attributes: identity.attributes.clone(),
        tenant: identity.tenant.clone(),
        ..client.clone()
    }
}

fn accept(pending: Pending, identity: Identity) -> Step {
    Step::Accept(Box::new(Accepted {
        client: if identity.changes_facts() {
            Arc::new(identified(&pending.client, &identity))
        } else {
            pending.client
        },
        connect: pending.connect,
        assigned: pending.assigned,
        quotas: identity.quotas,
        authentication_data: identity.data,
        max_packet_bytes: u32::MAX,
        rates: SharedRates::default(),
    }))
}

fn refuse(version: Version, reason: ReasonCode) -> Step {
    let packet = Packet::ConnAck(Box::new(ConnAck {
        session_present: false,
        reason,
        properties: None,
    }));
    // 3.x can express only a few refusals; anything else just closes [MQTT-3.2.2-6].
    let sendable = version == Version::V5 || reason.connect_return_code(version) != 0;
    Step::Refuse(sendable.then_some(packet), reason)
}

fn property<T>(connect: &Connect, pick: impl FnOnce(&Properties) -> Option<T>) -> Option<T> {
    connect.properties.as_deref().and_then(pick)
}

#[cfg(test)]
mod tests;
