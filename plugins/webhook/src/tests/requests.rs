//! What is sent.

use super::{backend, load, refused};
use nervewire_plugin_sdk::{Certificate, prelude::*, testing};
use serde_json::{Value, json};

const URL: &str = "http://auth:8080/auth";

fn client() -> Client {
    let certificate = Certificate {
        subject: "CN=dev,O=x".to_owned(),
        common_name: Some("dev".to_owned()),
        ..Certificate::default()
    };
    testing::client("c 1").with_certificate(certificate)
}

/// Asks about a client and answers what was sent.
fn sent(endpoint: Value, client: &Client, credentials: &Credentials) -> Option<http::Request> {
    let asked = backend(Ok(http::Response::new(204)));
    load(json!({"authentication": endpoint})).authenticate(client, credentials);
    asked.borrow_mut().pop()
}

#[test]
fn a_post_carries_json_with_every_placeholder() {
    let body = json!({
        "u": "${username}", "p": "${password}", "c": "${clientid}", "h": "${peerhost}:${peerport}",
        "s": "${cert_subject}", "n": "${cert_common_name}", "a": "${client_attrs.role}", "m": "${mountpoint}",
        "v": "${proto_name}/${proto_ver}", "$": "${$}{x}", "number": 7, "nested": {"${username}": ["${clientid}", null]},
    });
    let request = sent(
        json!({"url": URL, "body": body}),
        &client(),
        &testing::credentials("ann", "se\"cret"),
    )
    .unwrap();
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", URL));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/json"));
    let expected = json!({
        "u": "ann", "p": "se\"cret", "c": "c 1", "h": "192.0.2.1:49152", "s": "CN=dev,O=x", "n": "dev", "a": "", "m": "",
        "v": "MQTT/5", "$": "${x}", "number": 7, "nested": {"ann": ["c 1", null]},
    });
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), expected);
}

/// As in EMQX: a body of a GET is its query, behind the one in the URL.
#[test]
fn a_get_carries_its_body_as_a_query() {
    let endpoint = json!({"method": "get", "url": "http://auth:8080/auth?c=${clientid}&x=a%20b",
                          "body": {"username": "${username}", "p w": "${password}&1", "n": 5}});
    let request = sent(endpoint, &client(), &testing::credentials("a&b=ü", "x/?#")).unwrap();
    let url = "http://auth:8080/auth?c=c%201&x=a%20b&n=5&p%20w=x%2F%3F%23%261&username=a%26b%3D%C3%BC";
    assert_eq!((request.method.as_str(), request.url.as_str()), ("GET", url));
    assert!(request.body.is_empty());
    assert_eq!(request.header("content-type"), None);
}

#[test]
fn a_post_may_carry_a_form() {
    let endpoint = json!({"url": URL, "headers": {"Content-Type": "application/x-www-form-urlencoded", "X-Client": "${clientid}"},
                          "body": {"u": "${username}", "p": "${password}"}});
    let credentials = Credentials {
        password: Some(vec![0xff, b'&']),
        ..testing::credentials("ann", "")
    };
    let request = sent(endpoint, &client(), &credentials).unwrap();
    assert_eq!(request.body, b"p=%FF%26&u=ann");
    assert_eq!(
        request.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(request.header("x-client"), Some("c 1"));
}

#[test]
fn what_a_client_does_not_have_is_empty() {
    let endpoint =
        json!({"method": "get", "url": URL, "body": {"u": "${username}", "p": "${password}", "s": "${cert_subject}"}});
    let request = sent(endpoint, &testing::client("7"), &Credentials::default()).unwrap();
    assert_eq!(request.url, "http://auth:8080/auth?p=&s=&u=");
}

/// Request splitting, another path, another query.
#[test]
fn no_name_becomes_another_part_of_the_request() {
    let url = "http://auth:8080/users/${username}/auth?c=${clientid}";
    for name in ["a\r\nX: y", "a\0b", "a/b", "a?b#c", "%2e%2e", "a&admin=1", "…"] {
        let mut client = testing::client(name);
        client.client_id = name.to_owned();
        let request = sent(json!({"url": url}), &client, &testing::credentials(name, "")).unwrap();
        let rest = request.url.strip_prefix("http://auth:8080/users/").unwrap();
        let (user, query) = rest.split_once("/auth?c=").unwrap();
        assert_eq!(user, query);
        assert!(
            user.bytes().all(|b| b.is_ascii_alphanumeric() || b"%.-_~".contains(&b)),
            "{user}"
        );
    }
    for name in [".", ".."] {
        assert_eq!(
            sent(
                json!({"url": url}),
                &testing::client("7"),
                &testing::credentials(name, "")
            ),
            None,
            "{name}"
        );
    }
}

/// Refused without asking.
#[test]
fn what_cannot_be_written_is_not_asked() {
    let wrong = Authentication::Deny(Refusal::BadUserNameOrPassword);
    let with_header = json!({"authentication": {"url": URL, "headers": {"x-user": "${username}"}}});
    let in_json = json!({"authentication": {"url": URL, "body": {"p": "${password}"}}});
    let asked = backend(Ok(http::Response::new(204)));
    let client = testing::client("7");
    for name in ["a\r\nb: c", "a\nb", "a\0", "a\u{85}"] {
        let answer = load(with_header.clone()).authenticate(&client, &testing::credentials(name, ""));
        assert_eq!(answer, wrong, "{name:?}");
    }
    let credentials = Credentials {
        password: Some(vec![0xff]),
        ..testing::credentials("ann", "")
    };
    assert_eq!(load(in_json).authenticate(&client, &credentials), wrong);
    assert!(asked.borrow().is_empty());
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    refused(json!({}), "write [plugin.config.authentication]");
    refused(json!({"authentication": {}}), "missing field `url`");
    for (url, words) in [
        ("auth:8080", "http:// or https://"),
        ("http:///x", "is not a host"),
        ("http://${clientid}/x", "is not a host"),
        ("http://user@auth/x", "is not a host"),
        ("http://auth/x#y", "a fragment"),
        ("http://auth/a b", "white space"),
        ("http://auth/${topic}", "${topic} is not known here"),
        ("http://auth/${", "without its `}`"),
    ] {
        refused(json!({"authentication": {"url": url}}), words);
    }
    refused(
        json!({"authorization": {"url": URL, "body": {"p": "${password}"}}}),
        "${password} is not known here",
    );
    refused(
        json!({"authentication": {"url": URL, "method": "get", "body": {"a": {}}}}),
        "texts only",
    );
    refused(
        json!({"authentication": {"url": URL, "headers": {"content-type": "text/plain"}}}),
        "content-type \"text/plain\"",
    );
    refused(
        json!({"authentication": {"url": URL, "method": "get", "headers": {"Content-Type": "x"}}}),
        "a GET has no content",
    );
    refused(
        json!({"authentication": {"url": URL, "headers": {"Host": "x"}}}),
        "the broker's own",
    );
    refused(
        json!({"authentication": {"url": URL, "headers": {"a b": "x"}}}),
        "not the name of a header",
    );
    refused(
        json!({"authentication": {"url": URL, "headers": {"a": "x\r\ny"}}}),
        "control character",
    );
    refused(json!({"authentication": {"url": URL, "timeout_ms": 0}}), "timeout_ms");
    refused(json!({"authentication": {"url": URL, "cache_ms": 1}}), "cache_ms");
    refused(
        json!({"authorization": {"url": URL, "tenant_attribute": "t"}}),
        "tenant_attribute",
    );
    refused(
        json!({"authentication": {"url": URL, "on_unavailable": "allow"}}),
        "allow",
    );
}
