//! What a certificate says goes on to an HTTP backend: it arrives as it is, and never as more than a value.

use crate::backend::{Answer, Asked, Backend};
use crate::connect;
use crate::support::*;
use rcgen::{CertificateParams, DnType, DnValue, SanType};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A backend that leaves logins to the certificate, allows everything else, and remembers what it was asked.
fn remembering() -> (Backend, Arc<Mutex<Vec<Asked>>>) {
    let remembered: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let asked_before = remembered.clone();
    let backend = Backend::start(move |asked| {
        asked_before.lock().expect("no thread panicked").push(asked.clone());
        let result = if asked.path.starts_with("/auth") {
            "ignore"
        } else {
            "allow"
        };
        let answer = Answer::status(200).header("content-type", "application/json");
        Some(answer.body(json!({ "result": result }).to_string()))
    });
    (backend, remembered)
}

/// Every fact that has a placeholder goes into a path, a query, headers and JSON.
fn webhook(certificates: &Certificates, backend: &Backend, identity: &str) -> Broker {
    let url = backend.url();
    let endpoint = |path: &str, more: &str| {
        format!(
            r##"
url = "{url}/{path}/${{cert_common_name}}?subject=${{cert_subject}}&user=${{username}}"
headers = {{ "x-name" = "${{cert_common_name}}", "x-subject" = "${{cert_subject}}", "x-user" = "${{username}}" }}
body = {{ name = "${{cert_common_name}}", subject = "${{cert_subject}}", user = "${{username}}"{more} }}
timeout_ms = 10_000
"##
        )
    };
    let tables = format!(
        "[[plugin]]\nname = \"webhook\"\ncomponent = \"builtin:webhook\"\ngrants = [\"{url}\"]\n{PATIENT}\
         [plugin.config.authentication]{}[plugin.config.authorization]{}",
        endpoint("auth", ""),
        endpoint("acl", ", topic = \"${topic}\"")
    );
    certificates
        .setup("required")
        .listener(&format!(
            "tls = {{ cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", client_cert = \"required\", \
             identity = \"{identity}\" }}"
        ))
        .toml(&tables)
        .start()
}

fn named(name: DnValue, change: impl FnOnce(&mut CertificateParams)) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.distinguished_name.push(DnType::CommonName, name);
        change(params);
    }
}

/// Lets a client do one thing, and answers what the backend was asked about it: at its CONNECT, and at its PUBLISH.
fn ask(broker: &Broker, certificates: &Certificates, identity: &Identity, asked: &Mutex<Vec<Asked>>) -> [Asked; 2] {
    let (mut client, answer) =
        connect(broker, certificates, Some(identity), hello(Version::V5, "c")).expect("an answer");
    assert_eq!(answer.reason, ReasonCode::Success);
    client.publish("t", "x", QoS::AtLeastOnce);
    client.disconnect();
    let asked = std::mem::take(&mut *asked.lock().expect("no thread panicked"));
    asked.try_into().expect("two questions")
}

fn body(asked: &Asked) -> Value {
    serde_json::from_str(&asked.body).expect("JSON")
}

/// No header but those that a webhook sends, each once.
#[track_caller]
fn check_headers(asked: &Asked, expected: [&str; 3]) {
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let known = [
        "accept",
        "cache-control",
        "content-length",
        "content-type",
        "host",
        "x-name",
        "x-subject",
        "x-user",
    ];
    assert_eq!(names, known);
    for (name, value) in ["x-name", "x-subject", "x-user"].into_iter().zip(expected) {
        assert_eq!(asked.header(name), [value]);
    }
    assert_eq!(asked.method, "POST");
}

/// Quotes, ampersands, slashes and percent signs are part of a value wherever it stands.
#[test]
fn a_name_that_looks_like_more_is_a_name() {
    let certificates = Certificates::new();
    let (backend, asked) = remembering();
    let broker = webhook(&certificates, &backend, "cn");
    let name = "../a?b&c=d#e\",\"x\":\"y%0d%0aX-Admin: yes";
    let identity = certificates.issue(name);
    let subject = "CN=../a?b&c=d#e\\\"\\,\\\"x\\\":\\\"y%0d%0aX-Admin: yes";
    for (asked, (path, user)) in ask(&broker, &certificates, &identity, &asked)
        .iter()
        .zip([("/auth", ""), ("/acl", name)])
    {
        check_headers(asked, [name, subject, user]);
        let said = body(asked);
        assert_eq!(
            (&said["name"], &said["subject"], &said["user"]),
            (&json!(name), &json!(subject), &json!(user))
        );
        assert!(said.get("x").is_none());
        let encoded = "..%2Fa%3Fb%26c%3Dd%23e%22%2C%22x%22%3A%22y%250d%250aX-Admin%3A%20yes";
        assert!(
            asked.path.starts_with(&format!("{path}/{encoded}?subject=CN%3D..%2Fa")),
            "{}",
            asked.path
        );
        assert_eq!(asked.path.matches('&').count(), 1, "{}", asked.path);
    }
}

/// CR, LF, NUL and their relatives, in all the ways in which a certificate writes text: nobody is asked about it.
#[test]
fn a_name_with_control_characters_is_asked_about_by_nobody() {
    let certificates = Certificates::new();
    let (backend, _) = remembering();
    let broker = webhook(&certificates, &backend, "san");
    let mut refused = 0;
    for control in ["\r\n", "\n", "\r", "\0", "\t", "\u{7f}"] {
        let strange = format!("sensor{control}X-Admin: yes");
        let names = [
            DnValue::Utf8String(strange.clone()),
            DnValue::BmpString(strange.as_str().try_into().expect("BMP")),
            DnValue::Ia5String(strange.as_str().try_into().expect("IA5")),
        ];
        let other = [
            SanType::DnsName(strange.as_str().try_into().expect("IA5")),
            SanType::Rfc822Name(strange.as_str().try_into().expect("IA5")),
            SanType::URI(strange.as_str().try_into().expect("IA5")),
        ];
        let by_name = names.map(|name| certificates.issue_with("", named(name, |_| ())));
        let by_san = other.map(|san| certificates.issue_with("plain", |params| params.subject_alt_names = vec![san]));
        for identity in by_name.iter().chain(&by_san) {
            assert!(connect(&broker, &certificates, Some(identity), hello(Version::V5, "c")).is_none());
            refused += 1;
        }
    }
    wait_for("the counts", || {
        let counted = metric(
            &broker,
            "nervewire_tls_handshakes_failed_total",
            &[("reason", "bad_certificate")],
        );
        (counted == f64::from(refused)).then_some(())
    });
    assert_eq!(backend.requests(), 0);
}

/// What stands elsewhere in the subject is escaped, alternative names and fingerprints are user names.
#[test]
fn the_rest_of_a_certificate_arrives_without_control_characters() {
    let certificates = Certificates::new();
    let (backend, asked) = remembering();
    let of_unit = certificates.issue_with("Z\u{fc}rich", |params| {
        let unit = DnValue::Utf8String("a\r\nX-Admin: yes\0".to_owned());
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.subject_alt_names = vec![SanType::Rfc822Name("o'brien+x@example.com".try_into().expect("IA5"))];
    });
    let subject = "OU=a\\0D\\0AX-Admin: yes\\00,CN=Z\u{fc}rich";
    let broker = webhook(&certificates, &backend, "san");
    let [_, acl] = ask(&broker, &certificates, &of_unit, &asked);
    check_headers(&acl, ["Z\u{fc}rich", subject, "o'brien+x@example.com"]);
    assert_eq!(body(&acl)["subject"], subject);
    assert!(acl.path.contains("&user=o%27brien%2Bx%40example.com"), "{}", acl.path);
    let broker = webhook(&certificates, &backend, "fingerprint");
    let [_, acl] = ask(&broker, &certificates, &of_unit, &asked);
    let user = body(&acl)["user"].as_str().expect("a text").to_owned();
    assert!(
        user.len() == 64 && user.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{user}"
    );
    check_headers(&acl, ["Z\u{fc}rich", subject, &user]);
}
