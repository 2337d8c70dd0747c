use super::*;
use crate::hook::Identity;
use nervewire_codec::Disconnect;
use std::net::{IpAddr, Ipv4Addr};

fn peer() -> Peer {
    Peer {
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        port: 1,
        listener: "0.0.0.0:1883".into(),
        listener_is_loopback: false,
        certificate: None,
        certificate_name: None,
    }
}

fn handshake() -> Handshake {
    Handshake::new(peer(), AnonymousPolicy::Deny)
}

fn text(s: &str) -> Utf8String {
    Utf8String::try_from(s).unwrap()
}

fn connect(version: Version, id: &str) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: text(id),
        will: None,
        username: Some(text("name")),
        password: Some("secret".into()),
        properties: None,
    }
}

fn with_method(method: &str) -> Connect {
    let properties = Properties {
        authentication_method: Some(text(method)),
        authentication_data: Some("first".into()),
        ..Properties::default()
    };
    Connect {
        properties: Some(Box::new(properties)),
        ..connect(Version::V5, "a")
    }
}

fn feed(handshake: &mut Handshake, connect: Connect) -> Step {
    handshake.packet(Packet::Connect(Box::new(connect)), || 7)
}

fn answer(answer: Authentication) -> ChainOutcome {
    ChainOutcome {
        answer,
        authenticator: 3,
        failed: false,
    }
}

fn challenge() -> ChainOutcome {
    answer(Authentication::Challenge {
        data: "prove".into(),
        state: "nonce".into(),
    })
}

/// The reason of a refusal, and whether the client is told.
fn refusal(step: Step) -> (ReasonCode, bool) {
    match step {
        Step::Refuse(Some(Packet::ConnAck(connack)), reason) => {
            assert_eq!((connack.reason, connack.session_present), (reason, false));
            (reason, true)
        }
        Step::Refuse(None, reason) => (reason, false),
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn authenticators_see_credentials_and_the_accepted_client_carries_no_password() {
    let mut handshake = handshake();
    let Step::Authenticate {
        client,
        credentials,
        only: None,
    } = feed(&mut handshake, connect(Version::V311, "a"))
    else {
        panic!("nobody was asked")
    };
    assert_eq!((&*client.client_id, client.username.as_deref()), ("a", Some("name")));
    assert_eq!(credentials.password.as_deref(), Some(&b"secret"[..]));
    let identity = Identity {
        username: Some("other".into()),
        tenant: Some("t".into()),
        ..Identity::default()
    };
    let Step::Accept(accepted) = handshake.outcome(answer(Authentication::Allow(identity))) else {
        panic!("refused")
    };
    assert_eq!(accepted.connect.password, None);
    assert_eq!(
        (accepted.client.username.as_deref(), accepted.client.tenant.as_deref()),
        (Some("other"), Some("t"))
    );
    assert!(!accepted.assigned);
}

// [MQTT-3.1.3-6], [MQTT-3.1.3-8], [MQTT-3.1.3-7]
#[test]
fn an_empty_client_identifier_is_assigned_where_the_version_allows_it() {
    let check = |version, clean_start, assigned: bool| {
        let mut handshake = handshake();
        let step = feed(
            &mut handshake,
            Connect {
                clean_start,
                ..connect(version, "")
            },
        );
        if !assigned {
            assert_eq!(refusal(step), (ReasonCode::ClientIdentifierNotValid, true), "{version}");
            return;
        }
        assert!(matches!(step, Step::Authenticate { .. }));
        let allowed = handshake.outcome(answer(Authentication::Allow(Identity::default())));
        let Step::Accept(accepted) = allowed else {
            panic!("refused")
        };
        assert!(accepted.assigned);
        assert_eq!(&*accepted.client.client_id, "auto-00000000000000000000000000000007");
    };
    check(Version::V31, true, false);
    check(Version::V311, true, true);
    check(Version::V311, false, false);
    check(Version::V5, true, true);
    check(Version::V5, false, true);
}

#[test]
fn a_denial_is_told_with_its_reason() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut handshake = handshake();
        feed(&mut handshake, connect(version, "a"));
        let step = handshake.outcome(answer(Authentication::Deny(ReasonCode::BadUserNameOrPassword)));
        assert_eq!(refusal(step), (ReasonCode::BadUserNameOrPassword, true));
    }
}

#[test]
fn where_all_abstain_a_named_client_is_refused_as_for_a_wrong_password() {
    let check = |connect: Connect, anonymous, expected: Option<ReasonCode>| {
        let mut handshake = Handshake::new(peer(), anonymous);
        feed(&mut handshake, connect);
        let step = handshake.outcome(answer(Authentication::Abstain));
        match expected {
            Some(reason) => assert_eq!(refusal(step), (reason, true)),
            None => assert!(matches!(step, Step::Accept(_)), "{step:?}"),
        }
    };
    let nameless = || Connect {
        username: None,
        password: None,
        ..connect(Version::V5, "a")
    };
    check(
        connect(Version::V5, "a"),
        AnonymousPolicy::Allow,
        Some(ReasonCode::BadUserNameOrPassword),
    );
    check(nameless(), AnonymousPolicy::Allow, None);
    check(nameless(), AnonymousPolicy::Loopback, Some(ReasonCode::NotAuthorized));
    check(nameless(), AnonymousPolicy::Deny, Some(ReasonCode::NotAuthorized));
    check(
        Connect {
            username: None,
            ..with_method("m")
        },
        AnonymousPolicy::Allow,
        Some(ReasonCode::NotAuthorized),
    );
}

// [MQTT-4.12.0-2], [MQTT-4.12.0-3]
#[test]
fn a_challenge_goes_to_the_client_and_its_answer_back_to_the_same_authenticator() {
    let mut handshake = handshake();
    feed(&mut handshake, with_method("m"));
    let Step::Send(Packet::Auth(auth)) = handshake.outcome(challenge()) else {
        panic!("no AUTH")
    };
    let properties = auth.properties.unwrap();
    assert_eq!(auth.reason, ReasonCode::ContinueAuthentication);
    assert_eq!(properties.authentication_method, Some(text("m")));
    assert_eq!(properties.authentication_data.as_deref(), Some(&b"prove"[..]));
    let reply = auth_packet(ReasonCode::ContinueAuthentication, text("m"), Some("proof".into()));
    let Step::Authenticate { credentials, only, .. } = handshake.packet(reply, || 0) else {
        panic!("nobody was asked")
    };
    assert_eq!(only, Some(3));
    assert_eq!(credentials.state.as_deref(), Some(&b"nonce"[..]));
    assert_eq!(credentials.data.as_deref(), Some(&b"proof"[..]));
    let identity = Identity {
        data: Some("welcome".into()),
        ..Identity::default()
    };
    let Step::Accept(accepted) = handshake.outcome(answer(Authentication::Allow(identity))) else {
        panic!("refused")
    };
    assert_eq!(accepted.authentication_data.as_deref(), Some(&b"welcome"[..]));
}

// [MQTT-4.12.0-5], [MQTT-4.12.0-6]
#[test]
fn an_exchange_goes_wrong_by_another_method_another_packet_or_none_at_all() {
    let challenged = || {
        let mut handshake = handshake();
        feed(&mut handshake, with_method("m"));
        handshake.outcome(challenge());
        handshake
    };
    let other = auth_packet(ReasonCode::ContinueAuthentication, text("other"), None);
    assert_eq!(
        refusal(challenged().packet(other, || 0)),
        (ReasonCode::ProtocolError, true)
    );
    let again = auth_packet(ReasonCode::ReAuthenticate, text("m"), None);
    assert_eq!(
        refusal(challenged().packet(again, || 0)),
        (ReasonCode::ProtocolError, true)
    );
    assert_eq!(
        refusal(challenged().packet(Packet::PingReq, || 0)),
        (ReasonCode::ProtocolError, true)
    );
    let goodbye = Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: None,
    });
    assert_eq!(
        refusal(challenged().packet(goodbye, || 0)),
        (ReasonCode::Success, false)
    );
    let mut plain = handshake();
    feed(&mut plain, connect(Version::V5, "a"));
    assert_eq!(
        refusal(plain.outcome(challenge())),
        (ReasonCode::NotAuthorized, true),
        "no method, no challenge"
    );
}

// [MQTT-3.1.0-1]
#[test]
fn the_first_packet_is_connect() {
    assert_eq!(
        refusal(handshake().packet(Packet::PingReq, || 0)),
        (ReasonCode::ProtocolError, false)
    );
}

#[test]
fn bytes_that_are_no_packet_are_told_where_the_version_is_known() {
    let too_large = DecodeError::PacketTooLarge {
        bytes: 9,
        limit_bytes: 8,
    };
    assert_eq!(
        refusal(handshake().malformed(&too_large, None)),
        (ReasonCode::PacketTooLarge, false)
    );
    let mut challenged = handshake();
    feed(&mut challenged, with_method("m"));
    challenged.outcome(challenge());
    assert_eq!(challenged.version(), Some(Version::V5));
    assert_eq!(
        refusal(challenged.malformed(&too_large, None)),
        (ReasonCode::PacketTooLarge, true)
    );
    let source = Bytes::from_static(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0]);
    let unknown = nervewire_codec::decode(&source, 0, None, 100).unwrap_err();
    assert_eq!(
        refusal(handshake().malformed(&unknown, None)),
        (ReasonCode::UnsupportedProtocolVersion, true)
    );
}

#[test]
fn a_certificate_name_lets_a_client_in_where_nobody_else_decides() {
    let certificate = Certificate {
        subject: "CN=device".into(),
        issuer: "CN=ca".into(),
        common_name: Some("device".into()),
        alternative_names: Vec::new(),
        serial: "1".into(),
        fingerprint: "00".into(),
        not_before: 0,
        not_after: 1,
    };
    let peer = Peer {
        certificate: Some(Arc::new(certificate)),
        certificate_name: Some("device".into()),
        ..peer()
    };
    let mut handshake = Handshake::new(peer, AnonymousPolicy::Deny);
    feed(
        &mut handshake,
        Connect {
            username: None,
            password: None,
            ..connect(Version::V5, "a")
        },
    );
    let Step::Accept(accepted) = handshake.outcome(answer(Authentication::Abstain)) else {
        panic!("refused")
    };
    assert_eq!(accepted.client.username.as_deref(), Some("device"));
    assert!(accepted.client.certificate.is_some());
}
