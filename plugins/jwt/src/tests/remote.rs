//! Keys behind a URL: fetched, rotated, not reachable.

use super::mint::{EcKey, NOW_S, hs256};
use super::{SECRET, WRONG, ask};
use crate::Jwt;
use nervewire_plugin_sdk::{prelude::*, testing};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const URL: &str = "https://id.example.com/jwks.json";

/// A key server: what it serves, or that it is down, and how often it was asked.
#[derive(Clone, Default)]
struct Server {
    set: Rc<RefCell<Option<Value>>>,
    asked: Rc<Cell<u32>>,
}

impl Server {
    fn start(keys: &[&EcKey]) -> Self {
        let server = Self::default();
        server.serve(keys);
        let (set, asked) = (server.set.clone(), server.asked.clone());
        testing::http(move |request| {
            assert_eq!((request.method.as_str(), request.url.as_str()), ("GET", URL));
            asked.set(asked.get() + 1);
            match &*set.borrow() {
                Some(set) => Ok(http::Response::new(200).with_json(set)),
                None => Err(http::Error::Timeout),
            }
        });
        server
    }

    fn serve(&self, keys: &[&EcKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.set.replace(Some(json!({"keys": keys})));
    }

    fn go_down(&self) {
        self.set.replace(None);
    }

    fn asked(&self) -> u32 {
        self.asked.get()
    }
}

fn load() -> Jwt {
    testing::set_clock_ms(NOW_S * 1000);
    let config = json!({"jwks_url": URL, "jwks_refresh_s": 300, "jwks_retry_s": 30, "jwks_max_age_s": 1000});
    testing::load(&config.to_string()).unwrap()
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW_S + 100_000})
}

#[track_caller]
fn lets_in(plugin: &mut Jwt, key: &EcKey) {
    let answer = ask(plugin, &key.token(&claims()));
    assert!(matches!(answer, Authentication::Allow(_)), "{answer:?}");
}

const UNAVAILABLE: Authentication = Authentication::Deny(Refusal::ServerUnavailable);

#[test]
fn keys_are_fetched_once_and_again_at_the_interval() {
    let old = EcKey::new("old", 1);
    let server = Server::start(&[&old]);
    let mut plugin = load();
    assert_eq!(server.asked(), 0);
    for _ in 0..3 {
        lets_in(&mut plugin, &old);
    }
    assert_eq!(server.asked(), 1);
    testing::advance(Duration::from_secs(300));
    lets_in(&mut plugin, &old);
    lets_in(&mut plugin, &old);
    assert_eq!(server.asked(), 2);
}

/// Ticks for so long, as often as the plugin wants.
fn tick_for(plugin: &mut Jwt, seconds: u32) {
    let every_ms = plugin.tick_milliseconds().unwrap();
    for _ in 0..seconds * 1000 / every_ms {
        assert!(testing::tick_after(plugin, Duration::from_millis(every_ms.into())).is_empty());
    }
}

#[test]
fn ticks_fetch_the_keys_before_they_are_due() {
    let (old, new) = (EcKey::new("old", 1), EcKey::new("new", 2));
    let server = Server::start(&[&old]);
    let mut plugin = load();
    assert_eq!(plugin.tick_milliseconds(), Some(60_000));
    tick_for(&mut plugin, 60);
    assert_eq!(server.asked(), 1, "before the first token");
    lets_in(&mut plugin, &old);
    tick_for(&mut plugin, 120);
    assert_eq!(server.asked(), 1, "they are not due soon");
    server.serve(&[&new]);
    tick_for(&mut plugin, 60);
    assert_eq!(server.asked(), 2);
    tick_for(&mut plugin, 900);
    assert_eq!(server.asked(), 7);
    testing::advance(Duration::from_secs(30));
    lets_in(&mut plugin, &new);
    assert_eq!(ask(&mut plugin, &old.token(&claims())), WRONG);
    assert_eq!(server.asked(), 8, "a token names a key that is not known");
    assert_eq!(ask(&mut plugin, &old.token(&claims())), WRONG);
    assert_eq!(server.asked(), 8, "not so soon again");
}

#[test]
fn keys_stay_where_ticks_cannot_fetch_them() {
    let (old, new) = (EcKey::new("old", 1), EcKey::new("new", 2));
    let server = Server::start(&[&old]);
    let mut plugin = load();
    tick_for(&mut plugin, 60);
    server.go_down();
    tick_for(&mut plugin, 900);
    assert_eq!(server.asked(), 14, "tried again at every tick once they are due soon");
    assert_eq!(testing::counter("jwks_fetches_failed"), 13);
    lets_in(&mut plugin, &old);
    server.serve(&[&new]);
    tick_for(&mut plugin, 60);
    lets_in(&mut plugin, &new);
}

#[test]
fn keys_of_files_need_no_tick() {
    testing::set_clock_ms(NOW_S * 1000);
    let file = json!({"keys": [EcKey::new("local", 1).jwk()]}).to_string();
    let plugin: Jwt = testing::load_with_files("{}", [("jwks", file.as_str())]).unwrap();
    assert_eq!(plugin.tick_milliseconds(), None);
}

#[test]
fn a_new_key_is_found_when_a_token_names_it_but_not_for_every_token() {
    let (old, new, unknown) = (EcKey::new("old", 1), EcKey::new("new", 2), EcKey::new("unknown", 3));
    let server = Server::start(&[&old]);
    let mut plugin = load();
    lets_in(&mut plugin, &old);
    server.serve(&[&new]);
    // Just asked: not again so soon.
    assert_eq!(ask(&mut plugin, &new.token(&claims())), WRONG);
    assert_eq!(server.asked(), 1);
    testing::advance(Duration::from_secs(30));
    lets_in(&mut plugin, &new);
    assert_eq!(server.asked(), 2);
    // Taken back.
    assert_eq!(ask(&mut plugin, &old.token(&claims())), WRONG);
    for _ in 0..50 {
        assert_eq!(ask(&mut plugin, &unknown.token(&claims())), WRONG);
    }
    assert_eq!(server.asked(), 2);
    assert!(testing::counter("jwks_fetches_held_back") >= 50);
}

#[test]
fn known_keys_are_used_while_the_url_fails_but_not_for_ever() {
    let key = EcKey::new("key", 1);
    let server = Server::start(&[&key]);
    let mut plugin = load();
    lets_in(&mut plugin, &key);
    server.go_down();
    for _ in 0..3 {
        testing::advance(Duration::from_secs(330));
        lets_in(&mut plugin, &key);
    }
    assert_eq!(server.asked(), 4);
    testing::advance(Duration::from_secs(11));
    assert_eq!(ask(&mut plugin, &key.token(&claims())), UNAVAILABLE);
    testing::advance(Duration::from_secs(30));
    server.serve(&[&key]);
    lets_in(&mut plugin, &key);
}

#[test]
fn without_keys_every_token_is_refused() {
    let key = EcKey::new("key", 1);
    let server = Server::start(&[&key]);
    server.go_down();
    let mut plugin = load();
    assert_eq!(ask(&mut plugin, &key.token(&claims())), UNAVAILABLE);
    assert_eq!(ask(&mut plugin, &key.token(&claims())), UNAVAILABLE);
    assert_eq!(server.asked(), 1);
    testing::advance(Duration::from_secs(30));
    server.serve(&[&key]);
    lets_in(&mut plugin, &key);
}

/// What anybody may fetch is no secret.
#[test]
fn secrets_of_a_url_are_not_taken() {
    let server = Server::start(&[]);
    let k = super::mint::base64url(SECRET.as_bytes());
    server.set.replace(Some(json!({"keys": [{"kty": "oct", "k": k}]})));
    let mut plugin = load();
    assert_eq!(ask(&mut plugin, &hs256(SECRET, &claims())), UNAVAILABLE);
}

#[test]
fn answers_that_are_no_keys_change_nothing() {
    let key = EcKey::new("key", 1);
    let bodies: [(u16, &str); 4] = [
        (500, "{\"keys\":[]}"),
        (200, "<html>"),
        (200, "{\"keys\":[]}"),
        (302, ""),
    ];
    for (status, body) in bodies {
        let server = Server::start(&[&key]);
        let mut plugin = load();
        lets_in(&mut plugin, &key);
        testing::http(move |_| Ok(http::Response::new(status).with_body(body)));
        testing::advance(Duration::from_secs(300));
        lets_in(&mut plugin, &key);
        assert_eq!(server.asked(), 1, "{status} {body}");
    }
}

#[test]
fn keys_of_files_need_no_url() {
    let (local, remote) = (EcKey::new("local", 1), EcKey::new("remote", 2));
    let server = Server::start(&[&remote]);
    testing::set_clock_ms(NOW_S * 1000);
    let file = json!({"keys": [local.jwk()]}).to_string();
    let config = json!({"jwks_url": URL}).to_string();
    let mut plugin: Jwt = testing::load_with_files(&config, [("jwks", file.as_str())]).unwrap();
    server.go_down();
    lets_in(&mut plugin, &local);
    assert_eq!(ask(&mut plugin, &remote.token(&claims())), UNAVAILABLE);
}
