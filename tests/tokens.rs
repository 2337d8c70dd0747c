//! `builtin:jwt` and `builtin:webhook`: tokens by file and by URL, and a backend that speaks as EMQX's do.

#[path = "support/backend.rs"]
mod backend;
mod support;

use backend::{Answer, Asked, Backend};
use rcgen::SigningKey;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use support::*;

const NOT_AUTHORIZED: u8 = 0x87;

/// A key of P-256 made for one test.
struct EcKey {
    id: &'static str,
    pair: rcgen::KeyPair,
}

impl EcKey {
    fn new(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate().expect("a key of P-256");
        Self { id, pair }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": base64url(&point[1..33]), "y": base64url(&point[33..])})
    }

    fn token(&self, claims: &Value) -> String {
        let message = unsigned(&json!({"alg": "ES256", "kid": self.id}), claims);
        let der = self.pair.sign(message.as_bytes()).expect("a signature");
        format!("{message}.{}", base64url(&fixed(&der)))
    }
}

/// Two numbers in DER as RFC 7518 wants them: 32 bytes each.
fn fixed(der: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    let (r, rest) = der[4..].split_at(usize::from(der[3]));
    let s = &rest[2..];
    for (number, end) in [(r, 32), (s, 64)] {
        let number = &number[number.len().saturating_sub(32)..];
        out[end - number.len()..end].copy_from_slice(number);
    }
    out
}

fn jwks(keys: &[&EcKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

fn hour(claims: Value) -> Value {
    let mut claims = claims;
    claims["exp"] = json!(now_s() + 3600);
    claims
}

fn enter(broker: &Broker, id: &str, token: &str) -> Client {
    Client::connect(broker, login(Version::V5, id, "", token)).0
}

#[track_caller]
fn refused(broker: &Broker, token: &str) -> ReasonCode {
    let (mut client, answer) = Client::try_connect(broker, login(Version::V5, "c", "", token));
    assert_ne!(answer.reason, ReasonCode::Success, "{token}");
    client.expect_end();
    answer.reason
}

/// What a QoS 1 message to this topic is answered.
fn publish(client: &mut Client, topic: &str) -> u8 {
    client.deliver(message(topic, "x", QoS::AtLeastOnce))
}

/// 0x10: nobody has subscribed.
fn may_publish(client: &mut Client, topic: &str) -> bool {
    publish(client, topic) != NOT_AUTHORIZED
}

fn may_subscribe(client: &mut Client, topic: &str) -> bool {
    codes(
        &client
            .subscribe_with(vec![filter(topic, QoS::AtLeastOnce)], None)
            .reasons,
    ) == [1]
}

const JWT: &str = r##"
[[plugin]]
name = "jwt"
component = "builtin:jwt"
files = { secret = "secret", jwks = "jwks.json" }
config.username_claim = "sub"
config.attributes = { role = "role" }
config.leeway_s = 0
config.rules = [{ allow = "both", topics = ["org/${claim.org.id}/#"] }]
"##;

/// A broker that knows [`SECRET`] and this key.
fn broker(key: &EcKey, more: &str) -> Broker {
    Setup::new()
        .auth("anonymous = \"deny\"\ndefault = \"deny\"")
        .file("secret", SECRET)
        .file("jwks.json", jwks(&[key]))
        .toml(&format!(
            "{JWT}limits = {{ call_ms = 1000, authenticate_call_ms = 10_000 }}\n{more}"
        ))
        .start()
}

#[test]
fn tokens_by_file_let_in_and_carry_rights() {
    let key = EcKey::new("door");
    let broker = broker(&key, "");
    let claims = hour(json!({"sub": "ann", "role": "operator", "org": {"id": "acme"},
                             "acl": {"pub": ["own/${username}"], "sub": ["news/#"]}}));
    for (id, token) in [("h", hs256(&claims)), ("e", key.token(&claims))] {
        let mut client = enter(&broker, id, &token);
        let seen = get(&broker, &format!("/v1/clients/{id}")).json();
        assert_eq!(seen["username"], "ann");
        for (topic, allowed) in [
            ("org/acme/1", true),
            ("org/other/1", false),
            ("own/ann", true),
            ("own/bob", false),
        ] {
            assert_eq!(may_publish(&mut client, topic), allowed, "{topic}");
        }
        for (topic, allowed) in [
            ("news/+/x", true),
            ("org/acme/#", true),
            ("org/+/x", false),
            ("#", false),
        ] {
            assert_eq!(may_subscribe(&mut client, topic), allowed, "{topic}");
        }
    }
}

#[test]
fn tokens_that_do_not_hold_are_refused() {
    let key = EcKey::new("door");
    let broker = broker(&key, "");
    let claims = hour(json!({"sub": "ann"}));
    let good = key.token(&claims);
    let (message, signature) = good.rsplit_once('.').expect("a token");
    let payload = message.split_once('.').expect("a token").1;
    let none = base64url(br#"{"alg":"none"}"#);
    let confused = base64url(br#"{"alg":"HS256","kid":"door"}"#);
    for token in [
        format!("{none}.{payload}."),
        format!("{confused}.{payload}.{signature}"),
        format!("{message}.{}", base64url(&[7; 64])),
        EcKey::new("door").token(&claims),
        hs256(&json!({"sub": "ann", "exp": now_s() - 1})),
        hs256(&json!({"sub": "ann"})),
        hs256(&hour(json!({"sub": "ann", "nbf": now_s() + 600}))),
        hs256(&hour(json!({"sub": "ann", "aud": "web"}))),
        hs256(&hour(json!({"org": {"id": "acme"}}))),
    ] {
        assert_eq!(refused(&broker, &token), ReasonCode::BadUserNameOrPassword, "{token}");
    }
    // Nobody else takes what is no token.
    refused(&broker, "secret");
    drop(enter(&broker, "c", &good));
}

/// Publishing, subscribing and what is delivered; a client of the same broker with another token goes on.
#[test]
fn a_connected_client_does_not_outlive_its_token() {
    let broker = broker(&EcKey::new("door"), "");
    let mut lasting = enter(
        &broker,
        "lasting",
        &hs256(&hour(json!({"sub": "ann", "org": {"id": "acme"}}))),
    );
    let ends = json!({"sub": "bob", "org": {"id": "acme"}, "exp": now_s() + 8});
    let mut ending = enter(&broker, "ending", &hs256(&ends));
    ending.subscribe("org/acme/news", QoS::AtLeastOnce);
    lasting.publish("org/acme/news", "while it lasts", QoS::AtLeastOnce);
    ending.expect_payload("while it lasts");
    wait_for("the token is over", || {
        (!may_publish(&mut ending, "org/acme/1")).then_some(())
    });
    assert!(now_s() >= ends["exp"].as_u64().expect("a number"));
    assert!(!may_subscribe(&mut ending, "org/acme/2"));
    lasting.publish("org/acme/news", "afterwards", QoS::AtLeastOnce);
    ending.expect_idle();
    assert!(may_publish(&mut lasting, "org/acme/1"));
}

/// Section 4.12.1: a new token over the same connection.
#[test]
fn a_connected_client_brings_a_new_token() {
    let broker = broker(&EcKey::new("door"), "");
    let token = |org: &str| hs256(&hour(json!({"sub": "ann", "org": {"id": org}})));
    let properties = |token: &str| {
        let data = bytes::Bytes::copy_from_slice(token.as_bytes());
        props(|p| {
            p.authentication_method = Some(text("JWT"));
            p.authentication_data = Some(data);
        })
    };
    let connect = Connect {
        properties: properties(&token("acme")),
        ..hello(Version::V5, "c")
    };
    let mut client = Client::connect(&broker, connect).0;
    assert!(may_publish(&mut client, "org/acme/1"));
    assert!(!may_publish(&mut client, "org/other/1"));
    client.send(Packet::Auth(Auth {
        reason: ReasonCode::ReAuthenticate,
        properties: properties(&token("other")),
    }));
    assert_eq!(client.expect_auth().reason, ReasonCode::Success);
    assert!(may_publish(&mut client, "org/other/1"));
    assert!(!may_publish(&mut client, "org/acme/1"));
}

#[test]
fn a_key_file_is_replaced_while_clients_are_connected() {
    let (old, new) = (EcKey::new("old"), EcKey::new("new"));
    let broker = broker(&old, "");
    let claims = hour(json!({"sub": "ann", "org": {"id": "acme"}}));
    let mut connected = enter(&broker, "connected", &old.token(&claims));
    refused(&broker, &new.token(&claims));
    broker.replace_file("jwks.json", jwks(&[&new]));
    broker.reloaded();
    drop(enter(&broker, "c", &new.token(&claims)));
    refused(&broker, &old.token(&claims));
    assert!(may_publish(&mut connected, "org/acme/1"));
    broker.replace_file("jwks.json", "{}");
    let output = broker.reload();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && words.contains("not a JSON Web Key Set"),
        "{words}"
    );
    drop(enter(&broker, "c", &new.token(&claims)));
}

/// Serves what is in it; `None`: fails.
type Served = Arc<Mutex<Option<String>>>;

fn key_server(served: &Served) -> Backend {
    let served = served.clone();
    Backend::start(move |asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/jwks.json"));
        Some(match &*served.lock().expect("a set") {
            Some(set) => Answer::status(200)
                .header("content-type", "application/json")
                .body(set.as_str()),
            None => Answer::status(503),
        })
    })
}

/// It fetches the server's keys anew as often as it may.
fn broker_with_url(server: &Backend, more: &str) -> Broker {
    let plugin = format!(
        "[[plugin]]\nname = \"jwt\"\ncomponent = \"builtin:jwt\"\ngrants = [\"{url}\"]\nlimits = {{ http_calls = 1 }}\n\
         config = {{ jwks_url = \"{url}/jwks.json\", jwks_retry_s = 1, jwks_refresh_s = 1, username_claim = \"sub\" }}\n",
        url = server.url()
    );
    Setup::new()
        .auth("anonymous = \"deny\"\ndefault = \"allow\"")
        .toml(&format!("{more}{plugin}"))
        .start()
}

#[test]
fn keys_by_url_are_rotated_and_survive_the_urls_failure() {
    let (old, new) = (EcKey::new("old"), EcKey::new("new"));
    let served: Served = Arc::new(Mutex::new(Some(jwks(&[&old]))));
    let server = key_server(&served);
    // Who comes with an old token again and again is kept out for a while, and so is everybody with its address.
    let broker = broker_with_url(&server, "[limits]\nfailed_logins_per_minute = 0\n");
    let claims = hour(json!({"sub": "ann"}));
    drop(enter(&broker, "c", &old.token(&claims)));
    refused(&broker, &new.token(&claims));
    *served.lock().expect("a set") = Some(jwks(&[&new]));
    let enters = |token: String| {
        let (_client, answer) = Client::try_connect(&broker, login(Version::V5, "c", "", &token));
        answer.reason == ReasonCode::Success
    };
    wait_for("the new key", || enters(new.token(&claims)).then_some(()));
    wait_for("the old key is gone", || (!enters(old.token(&claims))).then_some(()));
    *served.lock().expect("a set") = None;
    let before = server.requests();
    wait_for("another fetch", || {
        assert!(enters(new.token(&claims)), "known keys are used on");
        (server.requests() > before).then_some(())
    });
    assert!(enters(new.token(&claims)));
}

/// A tick fetches them, so that no client waits for it; where it cannot, those that are known stay.
#[test]
fn keys_by_url_are_fetched_before_anybody_comes() {
    let key = EcKey::new("key");
    let served: Served = Arc::new(Mutex::new(Some(jwks(&[&key]))));
    let server = key_server(&served);
    let broker = broker_with_url(&server, "");
    wait_for("the first fetches", || (server.requests() >= 2).then_some(()));
    *served.lock().expect("a set") = None;
    let before = server.requests();
    wait_for("a fetch that fails", || (server.requests() > before).then_some(()));
    drop(enter(&broker, "c", &key.token(&hour(json!({"sub": "ann"})))));
}

#[test]
fn without_keys_nobody_is_let_in() {
    let key = EcKey::new("key");
    let served: Served = Arc::new(Mutex::new(None));
    let server = key_server(&served);
    let toml = format!(
        "[[plugin]]\nname = \"jwt\"\ncomponent = \"builtin:jwt\"\ngrants = [\"{url}\"]\n\
         config = {{ jwks_url = \"{url}/jwks.json\", jwks_retry_s = 1 }}\n",
        url = server.url()
    );
    let broker = Setup::new()
        .auth("anonymous = \"deny\"\ndefault = \"allow\"")
        .toml(&toml)
        .start();
    let token = key.token(&hour(json!({"sub": "ann"})));
    assert_eq!(refused(&broker, &token), ReasonCode::ServerUnavailable);
}

/// A backend as EMQX knows them: who is who, and what `ann` may do.
fn emqx_backend(asked: &Asked) -> Option<Answer> {
    let body: Value = serde_json::from_str(&asked.body).expect("JSON");
    let says = |body: Value| {
        Some(
            Answer::status(200)
                .header("content-type", "application/json; charset=utf-8")
                .body(body.to_string()),
        )
    };
    let user = body["username"].as_str().expect("a user name");
    match (asked.path.as_str(), user) {
        ("/auth", "ann") if body["password"] == "secret" => {
            says(json!({"result": "allow", "is_superuser": false, "client_attrs": {"site": "north"}}))
        }
        ("/auth", "nobody-special") => Some(Answer::status(204)),
        ("/auth", "root") => says(json!({"result": "allow", "is_superuser": true})),
        ("/auth", "listed") => says(json!({"result": "allow", "acl": [
            {"permission": "allow", "action": "all", "topic": "mine/${clientid}/#"}, {"permission": "deny", "action": "all", "topic": "t/#"}]})),
        ("/auth", "brief") => says(json!({"result": "allow", "is_superuser": true, "expire_at": now_s() + 8})),
        ("/auth", "stranger") => says(json!({"result": "ignore"})),
        ("/auth", "broken") => Some(Answer::status(500)),
        ("/auth", _) => says(json!({"result": "deny"})),
        ("/acl", "ann") => {
            assert_eq!((&body["site"], &body["clientid"]), (&json!("north"), &json!("c")));
            match (
                body["action"].as_str().expect("an action"),
                body["topic"].as_str().expect("a topic"),
            ) {
                ("publish", "t/204") => Some(Answer::status(204)),
                ("publish", "t/500") => Some(Answer::status(500)),
                ("publish", "t/1") | ("subscribe", "t/#") => says(json!({"result": "allow"})),
                _ => says(json!({"result": "deny"})),
            }
        }
        _ => says(json!({"result": "ignore"})),
    }
}

fn webhook(url: &str) -> String {
    format!(
        r##"
[[plugin]]
name = "webhook"
component = "builtin:webhook"
grants = ["{url}"]
[plugin.config.authentication]
url = "{url}/auth"
body = {{ username = "${{username}}", password = "${{password}}", clientid = "${{clientid}}" }}
timeout_ms = 2000
[plugin.config.authorization]
url = "{url}/acl"
body = {{ username = "${{username}}", clientid = "${{clientid}}", action = "${{action}}", topic = "${{topic}}", site = "${{client_attrs.site}}" }}
cache_ms = 60_000
timeout_ms = 2000
"##
    )
}

fn hooked(backend: &Backend) -> Broker {
    Setup::new()
        .auth("anonymous = \"deny\"\ndefault = \"deny\"")
        .toml(&webhook(&backend.url()))
        .start()
}

fn visit(broker: &Broker, user: &str, password: &str) -> (Client, ReasonCode) {
    let (client, answer) = Client::try_connect(broker, login(Version::V5, "c", user, password));
    (client, answer.reason)
}

#[test]
fn a_backend_that_was_written_for_emqx_decides() {
    let backend = Backend::start(emqx_backend);
    let broker = hooked(&backend);
    let (mut ann, reason) = visit(&broker, "ann", "secret");
    assert_eq!(reason, ReasonCode::Success);
    for (topic, allowed) in [("t/1", true), ("t/204", true), ("t/2", false), ("t/500", false)] {
        assert_eq!(may_publish(&mut ann, topic), allowed, "{topic}");
    }
    assert!(may_subscribe(&mut ann, "t/#"));
    assert!(!may_subscribe(&mut ann, "#"));
    ann.publish("t/1", "round trip", QoS::AtLeastOnce);
    ann.expect_payload("round trip");
    // An answer is kept as long as `cache_ms` says.
    let before = backend.requests();
    assert!(may_publish(&mut ann, "t/1") && !may_publish(&mut ann, "t/2"));
    assert_eq!(backend.requests(), before);
    for (user, password, reason) in [
        ("ann", "wrong", ReasonCode::NotAuthorized),
        ("mallory", "x", ReasonCode::NotAuthorized),
        ("nobody-special", "", ReasonCode::Success),
    ] {
        assert_eq!(visit(&broker, user, password).1, reason, "{user}");
    }
    // Left to the next authenticator, and there is none.
    for user in ["stranger", "broken"] {
        assert_ne!(visit(&broker, user, "x").1, ReasonCode::Success, "{user}");
    }
}

#[test]
fn superusers_and_lists_of_a_backend_hold() {
    let backend = Backend::start(emqx_backend);
    let broker = hooked(&backend);
    let (mut root, _) = visit(&broker, "root", "");
    let before = backend.requests();
    assert!(may_publish(&mut root, "anything") && may_subscribe(&mut root, "#"));
    assert_eq!(backend.requests(), before, "nobody was asked");
    let (mut listed, _) = visit(&broker, "listed", "");
    for (topic, allowed) in [("mine/c/1", true), ("t/1", false), ("other", false)] {
        assert_eq!(may_publish(&mut listed, topic), allowed, "{topic}");
    }
    let (mut brief, _) = visit(&broker, "brief", "");
    wait_for("its rights are over", || {
        (!may_publish(&mut brief, "anything")).then_some(())
    });
    assert!(!may_subscribe(&mut brief, "#"));
}

#[test]
fn a_backend_that_is_down_lets_nobody_in_and_allows_nothing() {
    let backend = Backend::start(emqx_backend);
    let broker = hooked(&backend);
    let (mut ann, _) = visit(&broker, "ann", "secret");
    assert!(may_publish(&mut ann, "t/1"));
    let address = backend.address();
    drop(backend);
    assert!(may_publish(&mut ann, "t/1"), "still in the cache");
    assert!(!may_publish(&mut ann, "t/204"));
    let other = login(Version::V5, "other", "ann", "secret");
    assert_eq!(
        Client::try_connect(&broker, other).1.reason,
        ReasonCode::ServerUnavailable
    );
    let _backend = Backend::start_at(address, emqx_backend);
    assert!(may_publish(&mut ann, "t/204"));
}

/// What is configured as `http://...` and not granted is not asked.
#[test]
fn a_backend_without_its_grant_is_not_asked() {
    let backend = Backend::start(emqx_backend);
    let other = Backend::start(emqx_backend);
    let toml = webhook(&backend.url()).replace(
        &format!("grants = [\"{}\"]", backend.url()),
        &format!("grants = [\"{}\"]", other.url()),
    );
    let broker = Setup::new()
        .auth("anonymous = \"deny\"\ndefault = \"deny\"")
        .toml(&toml)
        .start();
    assert_eq!(visit(&broker, "ann", "secret").1, ReasonCode::ServerUnavailable);
    assert_eq!((backend.requests(), other.requests()), (0, 0));
}
