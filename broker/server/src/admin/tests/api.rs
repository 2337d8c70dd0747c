//! Who may ask, and what each path answers.

use std::sync::atomic::Ordering;

use super::super::backend::{NamedClient, PageRequest};
use super::{Fixture, JSON};

const KICK_OFFLINE: &str = "/v1/clients/meter/kick?tenant=acme";

#[test]
fn only_the_health_check_needs_no_token() {
    let f = Fixture::new(Some("s3cret"));
    let check = |path: &str, headers: &str, expected: u16| {
        let (status, answer) = f.get(path, headers);
        assert_eq!(status, expected, "{path} {headers:?}: {answer}");
        assert_eq!(status == 401, answer.contains("www-authenticate: Bearer"), "{answer}");
    };
    check("/healthz", "", 200);
    for path in [
        "/v1/status",
        "/v1/clients",
        "/v1/plugins",
        "/metrics",
        "/nothing",
        "/healthz/",
        "//healthz",
    ] {
        check(path, "", 401);
    }
    for path in ["/v1/status", "/v1/clients", "/v1/plugins", "/metrics"] {
        check(path, "Authorization: Bearer s3cret\r\n", 200);
    }
    check("/v1/status", "Authorization: bearer  s3cret \r\n", 200);
    check("/nothing", "Authorization: Bearer s3cret\r\n", 404);
    check("/v1/status", "Authorization: Bearer s3cre\r\n", 401);
    check("/v1/status", "Authorization: Bearer s3cret2\r\n", 401);
    check("/v1/status", "Authorization: Bearer \r\n", 401);
    check("/v1/status", "Authorization: Basic s3cret\r\n", 401);
    check(
        "/v1/status",
        "Authorization: Bearer s3cret\r\nAuthorization: Bearer x\r\n",
        401,
    );
}

#[test]
fn no_change_is_made_without_the_token() {
    let f = Fixture::new(Some("s3cret"));
    let (status, _) = f.ask("POST", KICK_OFFLINE, JSON, "");
    assert_eq!((status, f.backend.kicked.lock().unwrap().len()), (401, 0));
}

#[test]
fn alerts_are_as_many_as_are_asked_for() {
    let f = Fixture::new(None);
    let check = |path: &str, expected: u16, words: &str| {
        let (status, answer) = f.get(path, "");
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer.contains(words), "{path}: {answer}");
    };
    check("/v1/alerts", 200, "odd-2");
    check("/v1/alerts?limit=1", 200, "\"total\": 9");
    assert!(!f.get("/v1/alerts?limit=1", "").1.contains("odd-1"));
    check("/v1/alerts?limit=0", 400, "limit=0 is not a number from 1 to 100000");
    check("/v1/alerts?page=1", 400, "there are: limit");
}

#[test]
fn a_name_that_was_pointed_at_loopback_is_refused() {
    let f = Fixture::new(None);
    let check = |head: &str, expected: u16| {
        let (status, answer) = f.send(&format!("GET {head}Connection: close\r\n\r\n"));
        assert_eq!(status, expected, "{head:?}: {answer}");
    };
    let port = f.address.port();
    check(&format!("/v1/status HTTP/1.1\r\nHost: localhost:{port}\r\n"), 200);
    check("/v1/status HTTP/1.1\r\nHost: LOCALHOST\r\n", 200);
    check("/v1/status HTTP/1.1\r\nHost: 127.0.0.1:9\r\n", 200);
    check("/v1/status HTTP/1.1\r\nHost: 127.8.8.8\r\n", 200);
    check("/v1/status HTTP/1.1\r\nHost: [::1]:8080\r\n", 200);
    check("/v1/status HTTP/1.1\r\nHost: evil.example\r\n", 403);
    check("/healthz HTTP/1.1\r\nHost: evil.example:8080\r\n", 403);
    check("/metrics HTTP/1.1\r\nHost: localhost.evil.example\r\n", 403);
    check("/v1/status HTTP/1.1\r\nHost: 192.0.2.1\r\n", 403);
    check("/v1/status HTTP/1.1\r\nHost: localhost@evil.example\r\n", 403);
    check("http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\n", 403);
    check("/v1/status HTTP/1.1\r\n", 400);
    check("/v1/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 400);
    check("/v1/status HTTP/1.1\r\nHost: a b\r\n", 400);
}

#[test]
fn changes_are_taken_only_as_json_and_never_from_a_web_page() {
    let f = Fixture::new(None);
    let check = |headers: &str, body: &str, expected: u16| {
        let (status, answer) = f.ask("POST", "/v1/reload", headers, body);
        assert_eq!(status, expected, "{headers:?} {body:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    };
    check(JSON, "", 200);
    check(JSON, "{}", 200);
    check("Content-Type: Application/JSON; charset=utf-8\r\n", "{}", 200);
    check("", "", 415);
    check("Content-Type: text/plain\r\n", "{}", 415);
    check("Content-Type: application/x-www-form-urlencoded\r\n", "", 415);
    check("Content-Type: application/jsonp\r\n", "", 415);
    check(&format!("{JSON}Origin: http://localhost:8080\r\n"), "{}", 403);
    check(&format!("{JSON}Origin: null\r\n"), "{}", 403);
    check(JSON, "{\"force\": true}", 400);
    check(JSON, "[", 400);
    check(JSON, &" ".repeat(5_000), 413);
    let (status, answer) = f.ask(
        "OPTIONS",
        "/v1/reload",
        &format!("{JSON}Origin: http://a.example\r\n"),
        "",
    );
    assert_eq!((status, answer.contains("access-control")), (405, false), "{answer}");
}

#[test]
fn client_identifiers_are_percent_encoded_in_paths() {
    let f = Fixture::new(None);
    let check = |path: &str, expected: u16| {
        let (status, answer) = f.get(path, "");
        assert_eq!(status, expected, "{path}: {answer}");
    };
    check("/v1/clients/room%2F1%20%C3%BC%252F", 200);
    check("/v1/clients/room/1", 404);
    check("/v1/clients/room%2F1", 404);
    check("/v1/clients/meter", 404);
    check("/v1/clients/meter?tenant=acme", 200);
    check("/v1/clients/m%65ter?tenant=%61cme", 200);
    check("/v1/clients/meter?tenant=acme&tenant=acme", 400);
    check("/v1/clients/meter?tenat=acme", 400);
    check("/v1/clients/%FF", 400);
    check("/v1/clients/meter?tenant=%FF", 400);
}

#[test]
fn a_kick_says_whether_somebody_was_disconnected() {
    let f = Fixture::new(None);
    let check = |path: &str, expected: u16| {
        let (status, answer) = f.ask("POST", path, JSON, "");
        assert_eq!(status, expected, "{path}: {answer}");
    };
    check("/v1/clients/room%2F1%20%C3%BC%252F/kick", 200);
    check(KICK_OFFLINE, 404);
    let key = |tenant: Option<&str>, id: &str| NamedClient {
        tenant: tenant.map(Into::into),
        client_id: id.into(),
    };
    assert_eq!(
        *f.backend.kicked.lock().unwrap(),
        [key(None, "room/1 ü%2F"), key(Some("acme"), "meter")]
    );
    let (status, answer) = f.get(KICK_OFFLINE, "");
    assert_eq!((status, answer.contains("POST")), (405, true), "{answer}");
}

#[test]
fn the_list_of_clients_has_bounded_pages() {
    let f = Fixture::new(None);
    let check = |query: &str, expected: Option<(u64, u64)>| {
        let (status, answer) = f.get(&format!("/v1/clients{query}"), "");
        let asked = f.backend.pages.lock().unwrap().pop();
        assert_eq!(
            asked,
            expected.map(|(page, limit)| PageRequest { page, limit }),
            "{query}: {answer}"
        );
        assert_eq!(status, if expected.is_some() { 200 } else { 400 });
    };
    check("", Some((1, 100)));
    check("?page=3&limit=1000", Some((3, 1000)));
    check("?limit=1001", None);
    check("?limit=0", None);
    check("?page=0", None);
    check("?page=x", None);
    check("?offset=5", None);
}

#[test]
fn a_sick_broker_fails_the_health_check() {
    let f = Fixture::new(None);
    assert_eq!(f.get("/healthz", "").0, 200);
    f.backend.unhealthy.store(true, Ordering::SeqCst);
    let (status, answer) = f.get("/healthz", "");
    assert_eq!((status, answer.contains("\"error\"")), (503, true), "{answer}");
}

#[test]
fn a_refused_reload_lists_what_is_wrong() {
    let f = Fixture::new(None);
    f.backend
        .findings
        .lock()
        .unwrap()
        .push("nw.toml:3:1: unknown key".into());
    let (status, answer) = f.ask("POST", "/v1/reload", JSON, "");
    assert_eq!(status, 422);
    assert!(answer.contains("\"nw.toml:3:1: unknown key\""), "{answer}");
}

#[test]
fn a_diff_is_of_a_plugin_in_shadow_mode_and_is_reset_by_post() {
    let f = Fixture::new(None);
    let (status, answer) = f.get("/v1/plugins/acl-next/diff", "");
    assert_eq!(status, 200);
    assert!(answer.contains("\"kind\": \"would_deny\""), "{answer}");
    let (status, answer) = f.get("/v1/plugins/acl/diff", "");
    assert_eq!(status, 404);
    assert!(answer.contains("no plugin \\\"acl\\\" is in shadow mode"), "{answer}");
    let reset = "/v1/plugins/acl-next/diff/reset";
    assert_eq!(f.get(reset, "").0, 405);
    assert_eq!(f.ask("POST", reset, JSON, "{}").0, 200);
    assert_eq!(f.ask("POST", "/v1/plugins/acl/diff/reset", JSON, "{}").0, 404);
}

#[test]
fn an_explanation_is_asked_for_in_json() {
    let f = Fixture::new(None);
    let check = |body: &str, expected: u16, part: &str| {
        let (status, answer) = f.ask("POST", "/v1/explain", JSON, body);
        assert_eq!(status, expected, "{body}: {answer}");
        assert!(answer.contains(part), "{body}: {answer}");
    };
    check(
        r#"{"client_id": "c", "action": "publish", "topic": "t"}"#,
        200,
        "\"topic\": \"t\"",
    );
    check(
        r#"{"client_id": "c", "action": "p", "topic": "t"}"#,
        400,
        "action is unknown",
    );
    check(r#"{"client_id": "c"}"#, 400, "missing field");
    check(
        r#"{"client_id": "c", "action": "publish", "topic": "t", "x": 1}"#,
        400,
        "unknown field",
    );
}
