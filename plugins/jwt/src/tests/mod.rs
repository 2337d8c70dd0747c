mod authentication;
mod claims;
mod keys;
mod mint;
mod remote;
mod rights;
mod vectors;

use crate::Jwt;
use mint::{NOW_S, hs256};
use nervewire_plugin_sdk::{prelude::*, testing};
use serde_json::{Value, json};

/// 32 bytes.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const WRONG: Authentication = Authentication::Deny(Refusal::BadUserNameOrPassword);

/// A plugin with one secret.
fn with_secret(config: &str) -> Jwt {
    testing::set_clock_ms(NOW_S * 1000);
    testing::load_with_files(config, [("secret", SECRET)]).unwrap()
}

fn ask(plugin: &mut Jwt, token: &str) -> Authentication {
    plugin.authenticate(
        &testing::client("7").with_username("ann"),
        &testing::credentials("ann", token),
    )
}

/// The identity of a token with these claims and an `exp` in an hour.
#[track_caller]
fn let_in(plugin: &mut Jwt, claims: Value) -> Identity {
    let token = hs256(SECRET, &lasting(claims));
    match ask(plugin, &token) {
        Authentication::Allow(identity) => identity,
        other => panic!("{other:?}: {:?}", testing::log_lines()),
    }
}

#[track_caller]
fn refused(plugin: &mut Jwt, claims: Value, why: &str) {
    testing::log_lines();
    assert_eq!(ask(plugin, &hs256(SECRET, &claims)), WRONG, "{claims}");
    let lines = testing::log_lines();
    assert!(lines.iter().any(|line| line.contains(why)), "{why} in {lines:?}");
}

fn lasting(claims: Value) -> Value {
    let mut claims = claims;
    if claims.get("exp").is_none() {
        claims["exp"] = json!(NOW_S + 3600);
    }
    claims
}
