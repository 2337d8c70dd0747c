//! Re-authentication of connected clients (MQTT 5.0 section 4.12.1). The exchange before CONNACK is tested with the handshake.

use super::super::Answer;
use super::scene::{text, v5};
use super::script::{policy, rule};
use super::{Broker, C, each};
use crate::handshake::ChainOutcome;
use crate::hook::{Authentication, Effect, Identity, Quotas};
use nervewire_codec::{Auth, Packet, Properties, ReasonCode};

fn auth(reason: ReasonCode, method: &str, data: &str) -> Packet {
    let properties = Properties {
        authentication_method: Some(text(method)),
        authentication_data: Some(bytes::Bytes::copy_from_slice(data.as_bytes())),
        ..Properties::default()
    };
    Packet::Auth(Auth {
        reason,
        properties: Some(Box::new(properties)),
    })
}

fn again(method: &str) -> Packet {
    auth(ReasonCode::ReAuthenticate, method, "hello")
}

fn connected(b: &mut Broker) -> C {
    b.connect(v5("a").with(|p| p.authentication_method = Some(text("m"))))
}

fn answers(b: &mut Broker, answer: Authentication) {
    b.script = Box::new(move |call| match call {
        super::Call::Authenticate { .. } => Some(Answer::Authenticate(ChainOutcome {
            answer: answer.clone(),
            authenticator: 2,
            failed: false,
        })),
        super::Call::Rules { client, .. } => {
            let is_admin = client.username.as_deref() == Some("admin");
            let effect = if is_admin { Effect::Allow } else { Effect::Deny };
            Some(Answer::Rules(vec![Ok(Some(vec![rule(effect, "#")]))]))
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn the_method_of_connect_is_confirmed() {
    each(|b| {
        let (_, connack) = b.connect_for(v5("a").with(|p| p.authentication_method = Some(text("m"))));
        assert_eq!(connack.properties.unwrap().authentication_method, Some(text("m")));
    });
}

#[test]
fn a_client_authenticates_again_and_goes_on_with_its_new_identity() {
    each(|b| {
        b.set_policy(policy(1, 1, 0));
        let identity = Identity {
            username: Some("admin".into()),
            data: Some("done".into()),
            ..Identity::default()
        };
        answers(b, Authentication::Allow(identity));
        let c = connected(b);
        assert_eq!(b.publish(c, "t", 1, "x"), Some(ReasonCode::NotAuthorized));
        b.send(c, again("m"));
        assert_eq!(b.take(c), [auth(ReasonCode::Success, "m", "done")]);
        assert_eq!(
            b.publish(c, "t", 1, "x"),
            Some(ReasonCode::Success),
            "its rules are asked for again"
        );
    });
}

fn challenge() -> Authentication {
    Authentication::Challenge {
        data: "prove it".into(),
        state: "nonce".into(),
    }
}

#[test]
fn a_challenge_goes_back_to_the_authenticator_that_made_it() {
    each(|b| {
        answers(b, challenge());
        let c = connected(b);
        b.send(c, again("m"));
        assert_eq!(b.take(c), [auth(ReasonCode::ContinueAuthentication, "m", "prove it")]);
        b.send(c, Packet::PingReq);
        assert_eq!(b.take(c), [Packet::PingResp], "the client goes on meanwhile");
        b.send(c, auth(ReasonCode::ContinueAuthentication, "m", "proof"));
        let Some(super::Call::Authenticate { credentials, only, .. }) = b.calls.last() else {
            panic!("not asked")
        };
        assert_eq!((credentials.state.as_deref(), *only), (Some(&b"nonce"[..]), Some(2)));
        assert_eq!(credentials.data.as_deref(), Some(&b"proof"[..]));
        assert!(credentials.reauthentication);
    });
}

// [MQTT-4.12.1-2]
#[test]
fn a_refusal_ends_the_connection() {
    each(|b| {
        answers(b, Authentication::Deny(ReasonCode::NotAuthorized));
        let c = connected(b);
        b.send(c, again("m"));
        assert_eq!(b.farewell(c), Some(ReasonCode::NotAuthorized));
        answers(b, Authentication::Abstain);
        let c = connected(b);
        b.send(c, again("m"));
        assert_eq!(b.farewell(c), Some(ReasonCode::NotAuthorized));
    });
}

#[test]
fn a_reason_that_disconnect_cannot_carry_is_told_as_not_authorized() {
    each(|b| {
        answers(b, Authentication::Deny(ReasonCode::BadUserNameOrPassword));
        let c = connected(b);
        b.send(c, again("m"));
        assert_eq!(b.farewell(c), Some(ReasonCode::NotAuthorized));
    });
}

// [MQTT-4.12.1-1], [MQTT-4.12.0-7]
#[test]
fn another_method_or_a_wrong_turn_is_a_protocol_error() {
    each(|b| {
        let c = connected(b);
        b.send(c, again("other"));
        assert_eq!(b.farewell(c), Some(ReasonCode::ProtocolError));
        let c = connected(b);
        b.send(c, auth(ReasonCode::ContinueAuthentication, "m", ""));
        assert_eq!(b.farewell(c), Some(ReasonCode::ProtocolError));
        let c = b.connect(v5("a"));
        b.send(c, again("m"));
        assert_eq!(b.farewell(c), Some(ReasonCode::ProtocolError));
        answers(b, challenge());
        let c = connected(b);
        b.send(c, again("m"));
        b.take(c);
        b.send(c, again("m"));
        assert_eq!(
            b.farewell(c),
            Some(ReasonCode::ProtocolError),
            "the challenge waits for its answer"
        );
    });
}

#[test]
fn only_the_client_itself_waits_for_the_answer() {
    each(|b| {
        let (c, other) = (connected(b), b.connect(v5("b")));
        b.hold_calls();
        b.send(c, again("m"));
        b.send(c, Packet::PingReq);
        b.send(other, Packet::PingReq);
        assert_eq!((b.take(c).len(), b.take(other).len()), (0, 1));
        let outcome = ChainOutcome {
            answer: Authentication::Allow(Identity::default()),
            authenticator: 0,
            failed: false,
        };
        b.answer_held(Answer::Authenticate(outcome));
        assert!(matches!(b.take(c)[..], [Packet::Auth(_), Packet::PingResp]));
    });
}

#[test]
fn new_quotas_hold_at_once_and_the_tenant_stays() {
    each(|b| {
        let quotas = Quotas {
            publish_rate_per_s: Some(1),
            ..Quotas::default()
        };
        let identity = Identity {
            tenant: Some("other".into()),
            quotas,
            ..Identity::default()
        };
        answers(b, Authentication::Allow(identity));
        let c = connected(b);
        b.send(c, again("m"));
        b.take(c);
        for _ in 0..5 {
            b.send_later(c, Packet::Publish(super::scene::publish("t", 0, "x")));
        }
        b.settle();
        assert_eq!(b.total(|c| c.received_messages[0]), 2);
        let info: Vec<_> = b.shards.iter().flat_map(|shard| shard.session(None, "a")).collect();
        assert_eq!(info[0].client.tenant, None);
    });
}
