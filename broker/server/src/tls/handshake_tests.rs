//! Whole handshakes in memory: what the settings promise about certificates of clients.

use super::tests::{self_signed, write_files};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion};

/// A client that trusts `server` and shows `pair`.
fn client(
    server: &rcgen::Certificate,
    pair: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    version: &'static SupportedProtocolVersion,
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(server.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match pair {
        Some((cert, key)) => builder.with_client_auth_cert(vec![cert], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    ClientConnection::new(Arc::new(config), "broker.example".try_into().unwrap()).unwrap()
}

/// Carries bytes both ways until both sides are content or the server refuses.
fn shake_hands(server: &mut ServerConnection, client: &mut ClientConnection) -> Result<(), rustls::Error> {
    while server.wants_write() || client.wants_write() {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        let mut unread = &to_server[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        let mut unread = &to_client[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    Ok(())
}

/// The common name the server sees of a client with or without a certificate of `ca`, or that it refuses.
#[track_caller]
fn check(required: Option<bool>, shows: Shows, expected: Result<Option<&str>, ()>) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, foreign) = (authority("ours"), authority("foreign"));
    let pair = |issuer| {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "dev-7");
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, issuer).unwrap();
        (cert.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    };
    let (server_cert, server_key) = self_signed(|_| ());
    let (_directory, settings) = write_files(
        &server_cert.pem(),
        &server_key.serialize_pem(),
        required.map(|required| (ours.pem(), required)),
    );
    let secured = Secured::load(&settings, None).unwrap();
    for version in [&TLS12, &TLS13] {
        let pair = match shows {
            Shows::Nothing => None,
            Shows::Ours => Some(pair(&*ours)),
            Shows::Foreign => Some(pair(&*foreign)),
        };
        let mut server = ServerConnection::new(secured.config().clone()).unwrap();
        let shaken = shake_hands(&mut server, &mut client(&server_cert, pair, version));
        let name = shaken.map_err(|_| ()).map(|()| {
            let certificate = server.peer_certificates().and_then(<[_]>::first);
            certificate.and_then(|der| certificate_facts(der).unwrap().common_name)
        });
        assert_eq!(
            name.as_ref().map(Option::as_deref).map_err(|_| ()),
            expected,
            "{version:?}"
        );
    }
}

#[derive(Clone, Copy)]
enum Shows {
    Nothing,
    Ours,
    Foreign,
}

#[test]
fn certificates_of_clients_are_asked_for_and_verified_as_configured() {
    check(None, Shows::Nothing, Ok(None));
    check(None, Shows::Ours, Ok(None));
    check(Some(false), Shows::Nothing, Ok(None));
    check(Some(false), Shows::Ours, Ok(Some("dev-7")));
    check(Some(false), Shows::Foreign, Err(()));
    check(Some(true), Shows::Nothing, Err(()));
    check(Some(true), Shows::Ours, Ok(Some("dev-7")));
    check(Some(true), Shows::Foreign, Err(()));
}
