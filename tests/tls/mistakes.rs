//! What is configured or connected wrongly is said in words.

use crate::connect;
use crate::support::*;
use rcgen::{DnType, DnValue, IsCa, SanType};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What `nervewire check` says about a listener with these keys in its `tls` table, without the directory.
fn check(setup: Setup, tls: &str) -> (bool, String) {
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:1883\"\ntls = {{ {tls} }}\n[broker]\ndata_dir = \"\"\ndurability = \"memory\"\n"
    );
    let setup = setup.file(CONFIGURATION, text);
    let output = nervewire()
        .args(["check", "--config"])
        .arg(setup.path(CONFIGURATION))
        .output()
        .expect("run nervewire");
    let words = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let directory = setup.path("");
    (
        output.status.success(),
        words.replace(&*directory.to_string_lossy(), ""),
    )
}

#[track_caller]
fn refused(setup: Setup, tls: &str, expected: &str) {
    let (ok, words) = check(setup, tls);
    assert!(!ok && words.contains(expected), "{words}");
}

fn files(certificates: &Certificates, server: &Identity) -> Setup {
    Setup::new()
        .file("ca.pem", certificates.authority())
        .file("server.pem", &server.certificate)
        .file("server.key", &server.key)
}

const PAIR: &str = "cert = \"server.pem\", key = \"server.key\"";
const CLIENTS: &str = "cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", client_cert = \"required\", crl = [\"ca.crl\"]";

/// Everything is found before a start, with the place of the key that names the file.
#[test]
fn check_finds_what_is_wrong_with_a_pair() {
    let certificates = Certificates::new();
    let server = certificates.issue("broker");
    let other = certificates.issue("other");
    let setup = || files(&certificates, &server);
    assert!(check(setup(), PAIR).0);
    refused(
        setup().file("server.key", &other.key),
        PAIR,
        "nervewire.toml:3:36: server.key has a private key that does not match the certificate in server.pem",
    );
    let encrypted = server.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    refused(
        setup().file("server.key", encrypted),
        PAIR,
        "3:36: server.key has an encrypted private key",
    );
    let expired = certificates.issue_with("broker", |params| {
        params.not_before = moment(-100).into();
        params.not_after = moment(-10).into();
    });
    refused(
        files(&certificates, &expired),
        PAIR,
        "3:16: server.pem has a certificate that expired at",
    );
    let early = certificates.issue_with("broker", |params| params.not_before = moment(1_000).into());
    refused(
        files(&certificates, &early),
        PAIR,
        "3:16: server.pem has a certificate that is not valid before",
    );
}

#[test]
fn check_finds_what_is_wrong_with_authorities_and_lists() {
    let (certificates, other) = (Certificates::new(), Certificates::named("Other"));
    let server = certificates.issue("broker");
    let setup = || files(&certificates, &server).file("ca.crl", certificates.revokes(&[1], 3_600));
    assert!(check(setup(), CLIENTS).0, "{}", check(setup(), CLIENTS).1);
    let der = certificates.revocation_list(&[1], 3_600);
    assert!(check(setup().file("ca.crl", der.der()), CLIENTS).0);
    refused(
        setup().file("ca.crl", server.certificate.clone()),
        CLIENTS,
        "ca.crl has no revocation list; write the path",
    );
    refused(
        setup().file("ca.crl", [0x30, 3, 1, 2, 3]),
        CLIENTS,
        "ca.crl has a revocation list that cannot be read",
    );
    refused(
        setup().file("ca.crl", other.revokes(&[], 3_600)),
        CLIENTS,
        "ca.crl has a revocation list of \"CN=Other\", which no authority of client_ca has signed",
    );
    // The same name, and another key.
    refused(
        setup().file("ca.crl", Certificates::new().revokes(&[], 3_600)),
        CLIENTS,
        "ca.crl has a revocation list of \"CN=Test authority\", which no authority of client_ca has signed",
    );
    refused(
        setup().file("ca.crl", certificates.revokes(&[], -60)),
        CLIENTS,
        "ca.crl has a revocation list whose nextUpdate passed at",
    );
    let both = format!("{}{}", certificates.authority(), other.authority());
    refused(
        setup().file("ca.pem", both),
        CLIENTS,
        "ca.pem has the authority \"CN=Other\", of which crl has no list, so that all of its clients would be refused",
    );
    let no_authority = certificates.issue_with("leaf", |params| params.is_ca = IsCa::ExplicitNoCa);
    refused(
        setup().file("ca.pem", no_authority.certificate),
        CLIENTS,
        "ca.pem has the certificate \"CN=leaf\", which is no authority",
    );
    refused(
        setup(),
        &CLIENTS.replace("required", "none"),
        "crl does nothing where clients are not asked for a certificate",
    );
}

#[test]
fn check_finds_what_is_wrong_with_names() {
    let certificates = Certificates::new();
    let server = certificates.issue("broker");
    let sni = |names: &[&str]| {
        let entry = |name: &&str| format!("{{ name = \"{name}\", cert = \"server.pem\", key = \"server.key\" }}");
        let entries: Vec<_> = names.iter().map(entry).collect();
        format!("{PAIR}, sni = [{}]", entries.join(", "))
    };
    let setup = || files(&certificates, &server);
    assert!(check(setup(), &sni(&["localhost"])).0);
    refused(
        setup(),
        &sni(&["a.example.com"]),
        "server.pem has a certificate that is not valid for \"a.example.com\", but for localhost, 127.0.0.1",
    );
    refused(
        setup(),
        &sni(&["localhost", "LocalHost"]),
        "localhost is in sni twice; remove one of the entries",
    );
    refused(setup(), &sni(&["127.0.0.1"]), "name \"127.0.0.1\" is no DNS name");
    refused(
        setup(),
        &sni(&["*.*.example.com"]),
        "name \"*.*.example.com\" is no DNS name",
    );
}

#[test]
fn a_certificate_that_expires_soon_is_warned_of() {
    let certificates = Certificates::new();
    let days = |days: i64| {
        let server = certificates.issue_with("broker", |params| params.not_after = moment(days * 86_400 + 60).into());
        files(&certificates, &server)
    };
    let words = "warning: listener 127.0.0.1:1883: the certificate in server.pem expires in 13 days: renew it";
    let (ok, said) = check(days(13), PAIR);
    assert!(ok && said.contains(words), "{said}");
    let (ok, said) = check(days(15), PAIR);
    assert!(ok && !said.contains("warning"), "{said}");
    let broker = days(13).listener(&format!("tls = {{ {PAIR} }}")).start();
    broker.logs("expires in 13 days: renew it");
}

#[test]
fn plain_mqtt_on_a_tls_listener_and_tls_on_a_plain_one_are_said_in_words() {
    let certificates = Certificates::new();
    let broker = certificates.setup("none").start();
    let mut stream = TcpStream::connect(broker.address()).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    let mut connect = Vec::new();
    let packet = Packet::Connect(Box::new(hello(Version::V5, "c")));
    nervewire_codec::encode(&packet, Version::V5, &mut connect).expect("encode");
    stream.write_all(&connect).expect("send");
    let _ = stream.read_to_end(&mut Vec::new()); // A reset is an end as well.
    broker.logs("a client speaks MQTT without TLS to a TLS listener");
    assert_eq!(
        metric(
            &broker,
            "nervewire_tls_handshakes_failed_total",
            &[("reason", "plain_mqtt")]
        ),
        1.0
    );

    let broker = Setup::new().start();
    let mut stream = certificates.connect(&broker, None);
    assert!(stream.write_all(b"x").and_then(|()| stream.flush()).is_err());
    broker.logs("a client speaks TLS to a listener without tls");
    assert_eq!(
        metric(
            &broker,
            "nervewire_tls_handshakes_failed_total",
            &[("reason", "tls_to_plain")]
        ),
        1.0
    );
}

/// CR and LF would be a header of their own in a request to a backend, or a line of their own in a log.
#[test]
fn control_characters_in_a_certificate_reach_nobody() {
    let certificates = Certificates::new();
    let broker = certificates.setup("required").env("NERVEWIRE_LOG", "debug").start();
    let strange = "sensor\r\nX-Admin: yes\0";
    let in_name = certificates.issue(strange);
    let in_san = certificates.issue_with("plain", |params| {
        params
            .subject_alt_names
            .push(SanType::Rfc822Name(strange.try_into().expect("IA5")));
    });
    for identity in [in_name, in_san] {
        assert!(connect(&broker, &certificates, Some(&identity), hello(Version::V5, "c")).is_none());
    }
    wait_for("the counts", || {
        let refused = metric(
            &broker,
            "nervewire_tls_handshakes_failed_total",
            &[("reason", "bad_certificate")],
        );
        (refused == 2.0).then_some(())
    });
    // Elsewhere in the subject they are escaped for whoever is told.
    let elsewhere = certificates.issue_with("fine", |params| {
        let unit = DnValue::Utf8String("a\r\nb".to_owned());
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    });
    let (_client, _) = connect(&broker, &certificates, Some(&elsewhere), hello(Version::V5, "c")).expect("an answer");
    broker.logs("it has a control character in a name");
    assert!(!broker.log().contains("X-Admin"), "{}", broker.log());
}
