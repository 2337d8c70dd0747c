//! Which clients must have a session, and which must not.

use super::{AccountId, Oracle};
use std::collections::HashMap;

/// Every client's session, by client identifier.
pub(super) type Sessions = HashMap<String, Known>;

/// What is known of a client's session; `None`: a CONNECT was never answered, and either is right.
#[derive(Default)]
pub(super) struct Known {
    exists: Option<bool>,
    /// What the CONNACK must say that is waited for.
    expected: Option<bool>,
}

/// What a CONNECT asks for, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) client: &'a str,
    pub(crate) clean_start: bool,
    /// The session outlives the connection.
    pub(crate) durable: bool,
    /// What is lost with the session.
    pub(crate) account: Option<AccountId>,
}

impl Oracle {
    /// A CONNECT is sent.
    pub(crate) fn connecting(&mut self, request: &Request<'_>) {
        if let (true, Some(account)) = (request.clean_start, request.account) {
            self.ending_session(account);
        }
        let known = self.sessions.entry(request.client.to_owned()).or_default();
        known.expected = if request.clean_start { Some(false) } else { known.exists };
        if known.expected == Some(false) {
            known.exists = None;
        }
    }

    /// A CONNACK came that accepts.
    pub(crate) fn connected(&mut self, request: &Request<'_>, present: bool) {
        if let (true, Some(account)) = (request.clean_start, request.account) {
            self.ended_session(account);
        }
        let known = self.sessions.entry(request.client.to_owned()).or_default();
        known.exists = Some(request.durable);
        match (known.expected, present) {
            (Some(true), false) => self.lost_session(request),
            (Some(false), true) => {
                self.figures.sessions_revived += 1;
                self.violation(format!("session revived: {}", request.client));
            }
            _ => {}
        }
    }

    fn lost_session(&mut self, request: &Request<'_>) {
        self.figures.sessions_lost += 1;
        self.violation(format!("session lost: {}", request.client));
        if let Some(account) = request.account {
            self.session_is_lost(account);
        }
    }
}
