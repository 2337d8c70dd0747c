//! How the answers of several plugins become one, said once.
//!
//! *Authentication*: the first authenticator that does not abstain decides; where all abstain, [`unanswered_authentication`].
//! *Authorization*: every authorizer is heard in turn, a deny wins, else any allow, else the configured default.
//! *Failure*: a call that gave no answer counts as its plugin's `on_failure` says.

use crate::hook::{Authentication, CallFailed, Decision, Identity, OnFailure, Transformation};
use nervewire_codec::ReasonCode;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// `[auth] default`: what happens when every authorizer abstains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DefaultDecision {
    #[default]
    Deny,
    Allow,
}

/// The decision about one request while authorizers are heard one by one, some of them perhaps later than others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationFold {
    denied: bool,
    allowed: bool,
}

impl AuthorizationFold {
    /// Nobody heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hears the next authorizer. `Break`: it is denied, the others need not be asked.
    pub fn hear(&mut self, decision: Decision) -> ControlFlow<()> {
        match decision {
            Decision::Allow => self.allowed = true,
            Decision::Deny => self.denied = true,
            Decision::Abstain => {}
        }
        if self.denied {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Whether the request is allowed, after all were heard or one denied.
    pub fn finish(self, default: DefaultDecision) -> bool {
        !self.denied && (self.allowed || default == DefaultDecision::Allow)
    }
}

/// Whether a request is allowed by authorizers that all answered. Stops at a deny: a lazy iterator asks nobody after it.
pub fn fold_authorization(decisions: impl IntoIterator<Item = Decision>, default: DefaultDecision) -> bool {
    let mut fold = AuthorizationFold::new();
    let _ = decisions.into_iter().try_for_each(|decision| fold.hear(decision));
    fold.finish(default)
}

/// `[auth] anonymous`: clients with no user name, password, method or certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// Refused.
    #[default]
    Deny,
    /// Let in from this machine, on a listener that is bound to loopback.
    Loopback,
    /// Let in.
    Allow,
}

/// What a client showed, as far as it matters when no authenticator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFacts {
    /// A User Name was sent.
    pub has_username: bool,
    /// A Password was sent.
    pub has_password: bool,
    /// An Authentication Method was sent.
    pub has_method: bool,
    /// A verified client certificate was shown.
    pub has_certificate: bool,
    /// What the certificate says the client is, on a listener with `identity`.
    pub certificate_identity: Option<Arc<str>>,
    /// Peer address.
    pub peer: IpAddr,
    /// Loopback anonymity may hold on the listener: it is bound to loopback, has no PROXY protocol, and over WebSocket the
    /// Origin is an allowed one.
    pub loopback_listener: bool,
}

impl ConnectFacts {
    fn is_anonymous(&self) -> bool {
        !(self.has_username || self.has_password || self.has_method || self.has_certificate)
    }

    fn is_loopback(&self) -> bool {
        self.loopback_listener && self.peer.to_canonical().is_loopback()
    }
}

/// What one authenticator's answer means for the client; `None`: the next is asked.
pub fn fold_authentication(
    answer: Result<Authentication, CallFailed>,
    on_failure: OnFailure,
) -> Option<Authentication> {
    match answer.unwrap_or_else(|CallFailed| failed_authentication(on_failure)) {
        Authentication::Abstain => None,
        decided => Some(decided),
    }
}

/// What happens to a client from which every authenticator abstained.
///
/// Nobody carries out its Authentication Method, so a client with one is refused [MQTT-4.12.0-1]. A certificate on a
/// listener with `identity` counts as authenticated, and replaces a user name that nobody verified. Who sent a user name hears
/// the same as for a wrong password, so that user names cannot be guessed.
pub fn unanswered_authentication(facts: &ConnectFacts, anonymous: AnonymousPolicy) -> Authentication {
    if facts.has_method {
        return Authentication::Deny(ReasonCode::NotAuthorized);
    }
    if let Some(name) = &facts.certificate_identity {
        return Authentication::Allow(Identity {
            username: Some(name.clone()),
            ..Identity::default()
        });
    }
    if facts.has_username {
        return Authentication::Deny(ReasonCode::BadUserNameOrPassword);
    }
    if facts.is_anonymous() && anonymous.lets_in(facts) {
        return Authentication::Allow(Identity::default());
    }
    Authentication::Deny(ReasonCode::NotAuthorized)
}

impl AnonymousPolicy {
    fn lets_in(self, facts: &ConnectFacts) -> bool {
        match self {
            AnonymousPolicy::Deny => false,
            AnonymousPolicy::Loopback => facts.is_loopback(),
            AnonymousPolicy::Allow => true,
        }
    }
}

/// What a failed call of `authenticate` counts as.
pub fn failed_authentication(on_failure: OnFailure) -> Authentication {
    match on_failure {
        OnFailure::Deny => Authentication::Deny(ReasonCode::NotAuthorized),
        OnFailure::Skip => Authentication::Abstain,
    }
}

/// What a failed call of `authorize` counts as.
pub fn failed_decision(on_failure: OnFailure) -> Decision {
    match on_failure {
        OnFailure::Deny => Decision::Deny,
        OnFailure::Skip => Decision::Abstain,
    }
}

/// What a failed call of `transform` counts as.
pub fn failed_transformation(on_failure: OnFailure) -> Transformation {
    match on_failure {
        OnFailure::Deny => Transformation::Reject(ReasonCode::ImplementationSpecificError),
        OnFailure::Skip => Transformation::Pass,
    }
}
