//! Where a token is looked for, and who the client then is.

use super::mint::{NOW_S, hs256};
use super::{SECRET, WRONG, ask, let_in, refused, with_secret};
use crate::Jwt;
use nervewire_plugin_sdk::{Property, prelude::*, testing};
use serde_json::json;

fn token() -> String {
    hs256(SECRET, &json!({"sub": "ann", "exp": NOW_S + 60}))
}

#[test]
fn what_is_no_token_is_left_to_others() {
    let mut plugin = with_secret("{}");
    for password in ["", "secret", "a.b.c", "eyJhbGciOiJIUzI1NiJ9", "eyJ.eyJ"] {
        assert_eq!(ask(&mut plugin, password), Authentication::Abstain, "{password}");
    }
    let nothing = plugin.authenticate(&testing::client("7"), &Credentials::default());
    assert_eq!(nothing, Authentication::Abstain);
    for malformed in ["eyJ.eyJ.eyJ", "eyJhbGciOiJIUzI1NiJ9..", "eyJhbGciOiJIUzI1NiJ9.e30."] {
        assert_eq!(ask(&mut plugin, malformed), WRONG, "{malformed}");
    }
    let long = format!("eyJ{}.{}.a", "a".repeat(20_000), "b");
    assert_eq!(ask(&mut plugin, &long), WRONG);
}

#[test]
fn a_token_may_be_the_user_name() {
    let mut plugin = with_secret(r#"{"from": "username"}"#);
    let client = testing::client("7");
    let as_username = plugin.authenticate(&client, &testing::credentials(&token(), ""));
    assert!(matches!(as_username, Authentication::Allow(_)));
    assert_eq!(ask(&mut plugin, &token()), Authentication::Abstain);
}

/// MQTT 5.0 section 4.12.
#[test]
fn a_token_may_be_the_data_of_an_authentication_method() {
    let mut plugin = with_secret("{}");
    let mut with = |method: &str, data: Option<&str>, reauthentication| {
        let credentials = Credentials {
            method: Some(method.to_owned()),
            data: data.map(|data| data.as_bytes().to_vec()),
            reauthentication,
            ..Credentials::default()
        };
        plugin.authenticate(&testing::client("7"), &credentials)
    };
    assert!(matches!(with("JWT", Some(&token()), false), Authentication::Allow(_)));
    assert!(matches!(with("JWT", Some(&token()), true), Authentication::Allow(_)));
    assert_eq!(with("JWT", Some("secret"), false), WRONG);
    assert_eq!(with("JWT", None, true), WRONG);
    assert_eq!(with("SCRAM-SHA-256", Some(&token()), false), Authentication::Abstain);
}

fn property(name: &str, value: &str) -> Property {
    Property::new(name, value)
}

#[test]
fn claims_become_attributes_user_name_and_tenant() {
    let config = r#"{
        "username_claim": "sub", "tenant_claim": "org.id",
        "attributes": {"dept": "org.dept", "role": "roles", "url": "http://x/y.z", "age": "age", "none": "nothing", "object": "org"}
    }"#;
    let mut plugin = with_secret(config);
    let identity = let_in(
        &mut plugin,
        json!({"sub": "ann", "org": {"id": "acme", "dept": "heat"}, "roles": ["a", 1, {}, "b"], "http://x/y.z": true, "age": 7}),
    );
    assert_eq!(identity.username.as_deref(), Some("ann"));
    assert_eq!(identity.tenant.as_deref(), Some("acme"));
    let expected = [
        property("age", "7"),
        property("dept", "heat"),
        property("role", "a"),
        property("role", "1"),
        property("role", "b"),
        property("url", "true"),
        property("jwt.exp", &(NOW_S + 3610).to_string()),
    ];
    assert_eq!(identity.attributes, expected);
}

#[test]
fn a_missing_user_name_or_tenant_refuses() {
    let exp = NOW_S + 60;
    let mut plugin = with_secret(r#"{"username_claim": "sub"}"#);
    for claims in [
        json!({"exp": exp}),
        json!({"exp": exp, "sub": ""}),
        json!({"exp": exp, "sub": "a\u{0}"}),
        json!({"exp": exp, "sub": {}}),
    ] {
        refused(&mut plugin, claims, "no sub");
    }
    let mut plugin = with_secret(r#"{"tenant_claim": "org"}"#);
    refused(&mut plugin, json!({"exp": exp}), "no org");
    for tenant in ["a/b", "+", "#", "$SYS"] {
        refused(&mut plugin, json!({"exp": exp, "org": tenant}), "no tenant");
    }
}

#[test]
fn too_much_in_a_token_refuses_it() {
    let mut plugin = with_secret(r#"{"attributes": {"a": "a", "b": "b", "c": "c"}}"#);
    let exp = NOW_S + 60;
    let list: Vec<u32> = (0..32).collect();
    refused(
        &mut plugin,
        json!({"exp": exp, "a": list, "b": list, "c": 1}),
        "at most 64",
    );
}

#[test]
fn the_plugins_own_attributes_cannot_be_configured_away() {
    for (config, words) in [
        (r#"{"attributes": {"jwt.exp": "x"}}"#, "the plugin's own"),
        (r#"{"attributes": {"claim.x": "x"}}"#, "the plugin's own"),
        (r#"{"attributes": {"": "x"}}"#, "needs a name"),
        (r#"{"jwks_url": "ftp://x"}"#, "https://"),
        (r#"{"jwks_retry_s": 0}"#, "jwks_retry_s"),
        (r#"{"jwks_max_age_s": 10}"#, "jwks_max_age_s"),
        (r#"{"exiry": "connect"}"#, "unknown field"),
        (
            r#"{"rules": [{"allow": "both", "deny": "both", "topics": ["a"]}]}"#,
            "either allow",
        ),
        (r#"{"rules": [{"allow": "both", "topics": []}]}"#, "topics is empty"),
        (
            r#"{"rules": [{"allow": "both", "topics": ["a/#/b"]}]}"#,
            "entry 1: `a/#/b` is no topic filter",
        ),
        (
            r#"{"rules": [{"allow": "both", "topics": ["${sub}"]}]}"#,
            "unknown name `${sub}`",
        ),
        (
            r#"{"rules": [{"allow": "both", "topics": ["a"], "max_qos": 3}]}"#,
            "max_qos",
        ),
    ] {
        let error = testing::load_with_files::<Jwt>(config, [("secret", SECRET)]).unwrap_err();
        assert!(error.contains(words), "{config}: {error}");
    }
}

#[test]
fn no_token_gets_into_the_log() {
    let mut plugin = with_secret("{}");
    let token = hs256("another secret", &json!({"sub": "ann", "exp": NOW_S + 60}));
    assert_eq!(ask(&mut plugin, &token), WRONG);
    let lines = testing::log_lines();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| !line.contains("eyJ")),
        "{lines:?}"
    );
}
