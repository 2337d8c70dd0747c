use super::*;

#[test]
fn a_deny_wins_then_an_allow_then_the_default() {
    use Decision::{Abstain, Allow, Deny};
    let check = |decisions: &[Decision], by_deny: bool, by_allow: bool| {
        let fold = |default| fold_authorization(decisions.iter().copied(), default);
        assert_eq!(fold(DefaultDecision::Deny), by_deny, "{decisions:?}, default deny");
        assert_eq!(fold(DefaultDecision::Allow), by_allow, "{decisions:?}, default allow");
    };
    check(&[], false, true);
    check(&[Abstain], false, true);
    check(&[Abstain, Abstain], false, true);
    check(&[Allow], true, true);
    check(&[Abstain, Allow, Abstain], true, true);
    check(&[Deny], false, false);
    check(&[Allow, Deny], false, false);
    check(&[Deny, Allow], false, false);
    check(&[Allow, Abstain, Deny, Allow], false, false);
}

#[test]
fn nobody_is_asked_after_a_deny() {
    let mut asked = 0;
    let authorizers = [Decision::Abstain, Decision::Deny, Decision::Allow];
    fold_authorization(
        authorizers.iter().inspect(|_| asked += 1).copied(),
        DefaultDecision::Allow,
    );
    assert_eq!(asked, 2);
}

#[test]
fn a_fold_says_when_it_is_over() {
    let mut fold = AuthorizationFold::new();
    assert!(fold.hear(Decision::Allow).is_continue());
    assert!(fold.hear(Decision::Abstain).is_continue());
    assert!(fold.finish(DefaultDecision::Deny));
    assert!(fold.hear(Decision::Deny).is_break());
    assert!(fold.hear(Decision::Allow).is_break(), "a deny is not taken back");
    assert!(!fold.finish(DefaultDecision::Allow));
}

#[test]
fn the_first_authenticator_that_does_not_abstain_decides() {
    let check = |answer, on_failure, expected| assert_eq!(fold_authentication(answer, on_failure), expected);
    let allow = Authentication::Allow(Identity {
        username: Some("ann".into()),
        ..Identity::default()
    });
    let deny = Authentication::Deny(ReasonCode::Banned);
    let challenge = Authentication::Challenge {
        data: "nonce".into(),
        state: "1".into(),
    };
    for on_failure in [OnFailure::Deny, OnFailure::Skip] {
        for decided in [&allow, &deny, &challenge] {
            check(Ok(decided.clone()), on_failure, Some(decided.clone()));
        }
        check(Ok(Authentication::Abstain), on_failure, None);
    }
    check(
        Err(CallFailed),
        OnFailure::Deny,
        Some(Authentication::Deny(ReasonCode::NotAuthorized)),
    );
    check(Err(CallFailed), OnFailure::Skip, None);
}

#[test]
fn a_failed_call_counts_as_its_plugin_says() {
    assert_eq!(failed_decision(OnFailure::Deny), Decision::Deny);
    assert_eq!(failed_decision(OnFailure::Skip), Decision::Abstain);
    let reject = Transformation::Reject(ReasonCode::ImplementationSpecificError);
    assert_eq!(failed_transformation(OnFailure::Deny), reject);
    assert_eq!(failed_transformation(OnFailure::Skip), Transformation::Pass);
}

/// A client that showed what the letters say: u(ser name), p(assword), m(ethod), c(ertificate), i(dentity of it).
fn facts(shown: &str, peer: &str, loopback_listener: bool) -> ConnectFacts {
    ConnectFacts {
        has_username: shown.contains('u'),
        has_password: shown.contains('p'),
        has_method: shown.contains('m'),
        has_certificate: shown.contains('c'),
        certificate_identity: shown.contains('i').then(|| "device-1".into()),
        peer: peer.parse().unwrap(),
        loopback_listener,
    }
}

#[test]
fn a_client_that_nobody_knows_is_refused_unless_its_certificate_speaks_for_it() {
    let device = Authentication::Allow(Identity {
        username: Some("device-1".into()),
        ..Identity::default()
    });
    let bad_user = Authentication::Deny(ReasonCode::BadUserNameOrPassword);
    let not_authorized = Authentication::Deny(ReasonCode::NotAuthorized);
    let check = |shown: &str, expected: &Authentication| {
        for policy in [AnonymousPolicy::Deny, AnonymousPolicy::Loopback, AnonymousPolicy::Allow] {
            let answer = unanswered_authentication(&facts(shown, "127.0.0.1", true), policy);
            assert_eq!(answer, *expected, "{shown} under {policy:?}");
        }
    };
    check("u", &bad_user);
    check("up", &bad_user);
    check("uc", &bad_user);
    check("p", &not_authorized);
    check("c", &not_authorized);
    check("ci", &device);
    check("upci", &device);
    check("m", &not_authorized);
    check("mu", &not_authorized);
    check("mci", &not_authorized);
}

#[test]
fn anonymous_clients_are_let_in_as_configured() {
    let check = |policy, peer, loopback_listener, let_in| {
        let expected = match let_in {
            true => Authentication::Allow(Identity::default()),
            false => Authentication::Deny(ReasonCode::NotAuthorized),
        };
        let answer = unanswered_authentication(&facts("", peer, loopback_listener), policy);
        assert_eq!(answer, expected, "{policy:?}, {peer}, {loopback_listener}");
    };
    check(AnonymousPolicy::Deny, "127.0.0.1", true, false);
    check(AnonymousPolicy::Loopback, "127.0.0.1", true, true);
    check(AnonymousPolicy::Loopback, "127.8.0.1", true, true);
    check(AnonymousPolicy::Loopback, "::1", true, true);
    check(AnonymousPolicy::Loopback, "::ffff:127.0.0.1", true, true);
    check(AnonymousPolicy::Loopback, "127.0.0.1", false, false);
    check(AnonymousPolicy::Loopback, "10.0.0.1", true, false);
    check(AnonymousPolicy::Loopback, "::ffff:10.0.0.1", true, false);
    check(AnonymousPolicy::Allow, "10.0.0.1", false, true);
}
