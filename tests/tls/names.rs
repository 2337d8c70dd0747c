//! SNI: which certificate a client is shown.

use crate::reload::shown;
use crate::support::*;
use rcgen::SanType;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

fn issue_for(certificates: &Certificates, names: &[&str]) -> Identity {
    let name = |name: &&str| SanType::DnsName((*name).try_into().expect("a name"));
    certificates.issue_with("broker", |params| {
        params.subject_alt_names = names.iter().map(name).collect()
    })
}

fn der(identity: &Identity) -> Vec<u8> {
    CertificateDer::from_pem_slice(identity.certificate.as_bytes())
        .expect("PEM")
        .to_vec()
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let certificates = Certificates::new();
    // The default is for all of them here, so that the client accepts it, whatever it asks for.
    let all = [
        "localhost",
        "a.example.com",
        "b.example.com",
        "c.example.com",
        "x.c.example.com",
        "example.com",
    ];
    let (default, one, wild) = (
        issue_for(&certificates, &all),
        issue_for(&certificates, &["a.example.com"]),
        issue_for(&certificates, &["*.example.com"]),
    );
    let broker = Setup::new()
        .file("server.pem", &default.certificate)
        .file("server.key", &default.key)
        .file("a.pem", &one.certificate)
        .file("a.key", &one.key)
        .file("wild.pem", &wild.certificate)
        .file("wild.key", &wild.key)
        .listener(
            "tls = { cert = \"server.pem\", key = \"server.key\", sni = [\
             { name = \"A.example.com\", cert = \"a.pem\", key = \"a.key\" }, \
             { name = \"*.example.com\", cert = \"wild.pem\", key = \"wild.key\" }] }",
        )
        .start();
    let check = |name, expected: &Identity| assert_eq!(shown(&certificates, &broker, name), der(expected), "{name}");
    check("a.example.com", &one);
    check("b.example.com", &wild);
    // `*` is one label, and not none.
    check("x.c.example.com", &default);
    check("example.com", &default);
    check("localhost", &default);
    // An address is no name, so none is asked for.
    let address = certificates.issue("broker");
    broker.replace_file("server.pem", &address.certificate);
    broker.replace_file("server.key", &address.key);
    broker.reloaded();
    check("127.0.0.1", &address);
    assert!(
        metric(
            &broker,
            "nervewire_tls_certificate_not_after_seconds",
            &[("name", "*.example.com")]
        ) > 1e9
    );
}
