//! Sessions that are resumed: cheaper, and no way around a revocation.

use crate::support::*;
use rcgen::SerialNumber;
use rustls::{ClientConfig, HandshakeKind};
use std::io::{Read, Write};
use std::sync::Arc;

/// Connects, exchanges a packet, so that a ticket has come, and says how the handshake went; `None`: refused.
fn visit(broker: &Broker, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let mut stream = connect_with(broker, config.clone(), "localhost");
    let mut bytes = Vec::new();
    let connect = Packet::Connect(Box::new(hello(Version::V5, "c")));
    nervewire_codec::encode(&connect, Version::V5, &mut bytes).expect("encode");
    stream.write_all(&bytes).and_then(|()| stream.flush()).ok()?;
    // CONNACK comes behind the tickets.
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).ok()?;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK with success");
    stream.conn.handshake_kind()
}

fn device(certificates: &Certificates, serial: u64) -> Identity {
    certificates.issue_with("d", |params| params.serial_number = Some(SerialNumber::from(serial)))
}

/// Of a client of TLS 1.2, and of one of 1.3.
fn configs(certificates: &Certificates, identity: &Identity) -> [Arc<ClientConfig>; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
        .map(|version| Arc::new(certificates.client_config_of(&[version], Some(identity))))
}

#[test]
fn sessions_are_resumed_with_both_versions() {
    let certificates = Certificates::new();
    // Whom nobody vouches for is refused: the identity comes with the session.
    let auth = "anonymous = \"deny\"\ndefault = \"allow\"";
    let broker = certificates.setup("required").auth(auth).start();
    for config in configs(&certificates, &device(&certificates, 7)) {
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Full));
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Resumed));
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Resumed));
    }
    assert_eq!(
        metric(&broker, "nervewire_tls_handshakes_total", &[("kind", "full")]),
        2.0
    );
    assert_eq!(
        metric(&broker, "nervewire_tls_handshakes_total", &[("kind", "resumed")]),
        4.0
    );
}

#[test]
fn a_reload_that_changes_nothing_of_tls_leaves_the_sessions() {
    let certificates = Certificates::new();
    let broker = certificates.setup("required").start();
    for config in configs(&certificates, &device(&certificates, 7)) {
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Full));
        broker.reloaded();
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn a_session_does_not_outlive_the_revocation_of_its_certificate() {
    let certificates = Certificates::new();
    for version in 0..2 {
        let broker = certificates.setup_with_list(&[]).start();
        let config = configs(&certificates, &device(&certificates, 7))[version].clone();
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Full));
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Resumed));
        broker.replace_file("ca.crl", certificates.revokes(&[7], 3_600));
        broker.reloaded();
        assert_eq!(visit(&broker, &config), None);
        assert_eq!(visit(&broker, &config), None);
    }
}

/// The list that the session began with counts no more, and neither does a certificate whose time is over.
#[test]
fn a_session_does_not_outlive_its_certificate() {
    let certificates = Certificates::new();
    let broker = certificates.setup("required").start();
    for version in 0..2 {
        let soon = certificates.issue_with("d", |params| params.not_after = moment(5).into());
        let config = configs(&certificates, &soon)[version].clone();
        assert_eq!(visit(&broker, &config), Some(HandshakeKind::Full));
        // Each visit leaves a session for the next, until there is none any more.
        wait_for("the end of the certificate", || {
            visit(&broker, &config).is_none().then_some(())
        });
    }
    assert!(
        metric(
            &broker,
            "nervewire_tls_handshakes_failed_total",
            &[("reason", "certificate_expired")]
        ) >= 1.0,
        "a resumed session was refused"
    );
}

#[test]
fn without_room_there_is_no_resumption() {
    let certificates = Certificates::new();
    let server = certificates.issue("broker");
    let broker = Setup::new()
        .file("server.pem", server.certificate)
        .file("server.key", server.key)
        .listener("tls = { cert = \"server.pem\", key = \"server.key\", resumption_bytes = 0 }")
        .start();
    let config = certificates.client_config(None);
    assert_eq!(visit(&broker, &config), Some(HandshakeKind::Full));
    assert_eq!(visit(&broker, &config), Some(HandshakeKind::Full));
}

#[test]
fn the_room_for_sessions_is_bounded_and_counted() {
    let certificates = Certificates::new();
    let server = certificates.issue("broker");
    let broker = Setup::new()
        .file("server.pem", server.certificate)
        .file("server.key", server.key)
        .listener("tls = { cert = \"server.pem\", key = \"server.key\", resumption_bytes = 1000 }")
        .start();
    for _ in 0..10 {
        assert_eq!(
            visit(&broker, &certificates.client_config(None)),
            Some(HandshakeKind::Full)
        );
    }
    assert!(metric(&broker, "nervewire_bounds_hit_total", &[("bound", "resumption_bytes")]) >= 1.0);
}
