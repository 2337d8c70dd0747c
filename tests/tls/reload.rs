//! A renewal: new connections get the new certificate, whoever is connected stays.

use crate::connect;
use crate::support::*;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::Write;

/// The certificate that the broker shows.
pub(crate) fn shown(certificates: &Certificates, broker: &Broker, name: &str) -> Vec<u8> {
    let mut stream = connect_with(broker, certificates.client_config(None), name);
    stream.flush().expect("a handshake");
    let chain = stream.conn.peer_certificates().expect("a certificate");
    chain[0].to_vec()
}

fn der(identity: &Identity) -> Vec<u8> {
    CertificateDer::from_pem_slice(identity.certificate.as_bytes())
        .expect("PEM")
        .to_vec()
}

/// By the files alone, as certbot and cert-manager do it: first the certificate, then the key.
#[test]
fn a_renewed_pair_is_shown_to_new_connections_and_half_of_one_to_nobody() {
    let certificates = Certificates::new();
    let broker = certificates.setup("none").shards(2).start();
    let (mut client, _) = connect(&broker, &certificates, None, hello(Version::V5, "c")).expect("an answer");
    client.subscribe("t", QoS::AtLeastOnce);
    let before = shown(&certificates, &broker, "localhost");
    let renewed = certificates.issue("broker");

    broker.replace_file("server.pem", &renewed.certificate);
    wait_for("the refusal", || {
        (metric(&broker, "nervewire_reloads_total", &[("outcome", "refused")]) >= 1.0).then_some(())
    });
    broker.logs("server.key has a private key that does not match the certificate in");
    broker.logs("everything stays as it was");
    assert_eq!(
        shown(&certificates, &broker, "localhost"),
        before,
        "the old pair serves"
    );
    let status = broker.cli(&["status"]);
    let status = String::from_utf8(status.stdout).expect("UTF-8");
    assert!(status.contains("does not match the certificate"), "{status}");

    broker.replace_file("server.key", &renewed.key);
    wait_for("the new pair", || {
        (shown(&certificates, &broker, "localhost") == der(&renewed)).then_some(())
    });
    client.publish("t", "still here", QoS::AtLeastOnce);
    client.expect_payload("still here");
}

/// Authorities and lists are watched, too.
#[test]
fn every_file_of_the_table_is_watched() {
    let certificates = Certificates::new();
    let setup = certificates.setup_with_list(&[]);
    let broker = setup.start();
    let device = certificates.issue_with("d", |params| params.serial_number = Some(7.into()));
    connect(&broker, &certificates, Some(&device), hello(Version::V5, "d")).expect("an answer");
    broker.replace_file("ca.crl", certificates.revokes(&[7], 3_600));
    wait_for("the new list", || {
        connect(&broker, &certificates, Some(&device), hello(Version::V5, "d"))
            .is_none()
            .then_some(())
    });
}
