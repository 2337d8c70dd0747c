//! Re-authentication of a connected client (MQTT 5.0 section 4.12.1).

use super::conn::Bucket;
use super::review::UNREVIEWED;
use super::{Answer, Call, ConnId, Shard, Waiter};
use crate::handshake::{ChainOutcome, auth_packet, identified};
use crate::hook::{Authentication, Credentials, Identity};
use crate::message::detached;
use crate::time::Millis;
use bytes::Bytes;
use nervewire_codec::{Auth, Connect, ReasonCode, Utf8String};
use std::sync::Arc;

/// A connection that was authenticated by a method, and may do so again.
#[derive(Debug)]
pub(super) struct Enhanced {
    method: Utf8String,
    username: Option<Utf8String>,
    /// Our challenge waits for its answer: the plugin's state, and which authenticator it was.
    challenge: Option<(Bytes, usize)>,
    /// Last time since CONNECT.
    pub(super) authenticated_at: Option<Millis>,
}

impl Enhanced {
    pub(super) fn of(connect: &Connect) -> Option<Box<Self>> {
        let method = connect.properties.as_deref()?.authentication_method.clone()?;
        let username = connect.username.as_ref().map(detached);
        Some(Box::new(Self {
            method: detached(&method),
            username,
            challenge: None,
            authenticated_at: None,
        }))
    }
}

impl Shard {
    /// AUTH from a connected client. Only it waits meanwhile.
    pub(super) fn reauthenticate(&mut self, now: Millis, id: ConnId, session: u32, auth: Auth) {
        let Some(client) = self.sessions.get(session as usize).map(|s| s.client.clone()) else {
            return;
        };
        let Some(conn) = self.conn_mut(id) else { return };
        let properties = auth.properties.unwrap_or_default();
        let Some(enhanced) = &mut conn.authentication else {
            // [MQTT-4.12.0-7]
            return self.protocol_error(now, id, ReasonCode::ProtocolError, "AUTH without a method at CONNECT");
        };
        let challenge = enhanced.challenge.take();
        let in_turn = match auth.reason {
            ReasonCode::ReAuthenticate => challenge.is_none(),
            ReasonCode::ContinueAuthentication => challenge.is_some(),
            _ => false,
        };
        // [MQTT-4.12.1-1]: the method stays that of CONNECT.
        if !in_turn || properties.authentication_method.as_ref() != Some(&enhanced.method) {
            return self.protocol_error(
                now,
                id,
                ReasonCode::ProtocolError,
                "AUTH out of turn or of another method",
            );
        }
        let (state, only) = challenge.unzip();
        let credentials = Credentials {
            username: enhanced.username.clone(),
            password: None,
            method: properties.authentication_method,
            data: properties.authentication_data,
            state,
            reauthentication: true,
        };
        conn.waiting = true;
        let serial = conn.serial;
        self.call(
            Waiter::Reauthenticate(id, serial),
            Call::Authenticate {
                client,
                credentials,
                only,
            },
        );
    }

    pub(super) fn reauthentication_answered(&mut self, now: Millis, id: ConnId, serial: u64, answer: Answer) {
        let Answer::Authenticate(ChainOutcome {
            answer, authenticator, ..
        }) = answer
        else {
            return;
        };
        let Some(conn) = self.same_conn(id, serial) else { return };
        let Some(enhanced) = &mut conn.authentication else {
            return;
        };
        let method = enhanced.method.clone();
        match answer {
            Authentication::Allow(identity) => {
                enhanced.authenticated_at = Some(now);
                self.reidentify(id, &identity);
                self.send(id, &auth_packet(ReasonCode::Success, method, identity.data));
            }
            Authentication::Challenge { data, state } => {
                enhanced.challenge = Some((state, authenticator));
                self.send(id, &auth_packet(ReasonCode::ContinueAuthentication, method, Some(data)));
            }
            // [MQTT-4.12.1-2]
            Authentication::Deny(reason) => return self.disconnect(now, id, reason, Some("re-authentication refused")),
            Authentication::Abstain => {
                return self.disconnect(
                    now,
                    id,
                    ReasonCode::NotAuthorized,
                    Some("nobody re-authenticates this client"),
                );
            }
        }
        self.resume(now, id);
    }

    /// The new identity holds from the next request on; a session never changes its tenant.
    fn reidentify(&mut self, id: ConnId, identity: &Identity) {
        let rate = identity
            .quotas
            .publish_rate_per_s
            .unwrap_or(self.config.publish_rate_per_s);
        if let Some(conn) = self.conn_mut(id) {
            conn.publish_bucket = Bucket::new(rate);
        }
        let Some(session) = self.conn(id).and_then(|conn| conn.session) else {
            return;
        };
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let tenant = s.client.tenant.clone();
        s.client = Arc::new(crate::hook::Client {
            tenant,
            ..identified(&s.client, identity)
        });
        s.set_quotas(identity.quotas);
        s.rules = None;
        s.verdicts.clear();
        s.suspensions.forget_review();
        s.reviewed = UNREVIEWED;
        self.within(None, |shard| shard.record_session(session));
    }
}
