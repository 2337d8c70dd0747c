//! exp, nbf, iat, iss, aud and what else a token must say.

use super::mint::{NOW_S, hs256};
use super::{SECRET, WRONG, ask, let_in, refused, with_secret};
use nervewire_plugin_sdk::{prelude::*, testing};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn an_expired_token_is_refused() {
    let mut plugin = with_secret("{}");
    refused(&mut plugin, json!({}), "no exp");
    refused(&mut plugin, json!({"exp": NOW_S - 10}), "expired");
    refused(&mut plugin, json!({"exp": "tomorrow"}), "exp is no time");
    refused(&mut plugin, json!({"exp": -5}), "exp is no time");
    refused(&mut plugin, json!({"exp": 1e300}), "exp is no time");
    // Within the leeway, and with a fraction.
    let_in(&mut plugin, json!({"exp": NOW_S - 9}));
    let_in(&mut plugin, json!({"exp": NOW_S as f64 + 0.5}));
    let token = hs256(SECRET, &json!({"exp": NOW_S + 60}));
    assert!(matches!(ask(&mut plugin, &token), Authentication::Allow(_)));
    testing::advance(Duration::from_secs(70));
    assert_eq!(ask(&mut plugin, &token), WRONG);
}

#[test]
fn a_token_without_expiry_is_let_in_where_that_is_configured() {
    let mut plugin = with_secret(r#"{"require_exp": false}"#);
    let answer = ask(&mut plugin, &hs256(SECRET, &json!({"sub": "ann"})));
    let Authentication::Allow(identity) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(identity.attributes[0].name, "jwt.exp");
    assert_eq!(identity.attributes[0].value, "never");
    refused(&mut plugin, json!({"exp": 1}), "expired");
}

#[test]
fn a_token_from_the_future_is_refused() {
    let mut plugin = with_secret("{}");
    let exp = NOW_S + 3600;
    refused(&mut plugin, json!({"exp": exp, "nbf": NOW_S + 11}), "nbf");
    refused(&mut plugin, json!({"exp": exp, "iat": NOW_S + 11}), "iat");
    let_in(&mut plugin, json!({"nbf": NOW_S + 10, "iat": NOW_S + 10}));
    let mut strict = with_secret(r#"{"leeway_s": 0}"#);
    refused(&mut strict, json!({"exp": exp, "nbf": NOW_S + 1}), "nbf");
    refused(&mut strict, json!({"exp": NOW_S}), "expired");
}

#[test]
fn an_old_token_is_refused_where_an_age_is_configured() {
    let mut plugin = with_secret(r#"{"max_age_s": 60}"#);
    refused(&mut plugin, json!({"exp": NOW_S + 60}), "no iat");
    refused(
        &mut plugin,
        json!({"exp": NOW_S + 60, "iat": NOW_S - 71}),
        "too long ago",
    );
    let_in(&mut plugin, json!({"iat": NOW_S - 70}));
}

#[test]
fn another_issuer_is_refused_or_left_to_others() {
    let mut plugin = with_secret(r#"{"issuer": ["a", "b"]}"#);
    let_in(&mut plugin, json!({"iss": "b"}));
    refused(&mut plugin, json!({"iss": "c", "exp": NOW_S + 60}), "issuer");
    refused(&mut plugin, json!({"exp": NOW_S + 60}), "issuer");
    let mut plugin = with_secret(r#"{"issuer": "a", "other_issuer": "abstain"}"#);
    let_in(&mut plugin, json!({"iss": "a"}));
    assert_eq!(
        ask(&mut plugin, &hs256(SECRET, &json!({"iss": "c", "exp": NOW_S + 60}))),
        Authentication::Abstain
    );
    // Ours, and not verified.
    assert_eq!(
        ask(&mut plugin, &hs256("x", &json!({"iss": "a", "exp": NOW_S + 60}))),
        WRONG
    );
}

/// RFC 7519 section 4.1.3.
#[test]
fn a_token_for_another_audience_is_refused() {
    let exp = NOW_S + 60;
    let mut plugin = with_secret(r#"{"audience": "mqtt"}"#);
    let_in(&mut plugin, json!({"aud": "mqtt"}));
    let_in(&mut plugin, json!({"aud": ["web", "mqtt"]}));
    for aud in [json!("web"), json!([]), json!("mqtt2")] {
        refused(&mut plugin, json!({"exp": exp, "aud": aud}), "aud");
    }
    refused(&mut plugin, json!({"exp": exp, "aud": 5}), "aud");
    refused(&mut plugin, json!({"exp": exp}), "aud");
    let mut plugin = with_secret("{}");
    refused(&mut plugin, json!({"exp": exp, "aud": "mqtt"}), "write config.audience");
    let_in(&mut with_secret(r#"{"audience": []}"#), json!({"aud": "whoever"}));
}

#[test]
fn required_claims_must_be_what_is_required() {
    let config = r#"{"require": {"scope": "mqtt", "dev.id": "${client_id}", "sub": "${username}"}}"#;
    let mut plugin = with_secret(config);
    let good = json!({"scope": ["mail", "mqtt"], "dev": {"id": 7}, "sub": "ann"});
    let_in(&mut plugin, good.clone());
    for (claim, value) in [
        ("scope", json!("mail")),
        ("dev", json!({"id": 8})),
        ("sub", Value::Null),
    ] {
        let mut claims = good.clone();
        claims["exp"] = json!(NOW_S + 60);
        claims[claim] = value;
        refused(&mut plugin, claims, "not what is required");
    }
}

#[test]
fn the_client_identifier_can_be_bound() {
    let mut plugin = with_secret(r#"{"client_id_claim": "cid"}"#);
    let_in(&mut plugin, json!({"cid": "7"}));
    for claims in [json!({"cid": "8"}), json!({}), json!({"cid": ["7", "8"]})] {
        let mut claims = claims;
        claims["exp"] = json!(NOW_S + 60);
        refused(&mut plugin, claims, "not the client identifier");
    }
}
