//! A certificate authority of its own for each test that needs TLS.

use super::{Broker, DEADLINE, Setup};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::net::TcpStream;
use std::sync::Arc;

/// Signs certificates for the broker and its clients.
pub(crate) struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            authority: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        }
    }

    /// The authority's certificate, PEM.
    pub(crate) fn authority(&self) -> String {
        self.authority.pem()
    }

    /// A certificate with this common name; the broker's also holds for `localhost` and 127.0.0.1.
    pub(crate) fn issue(&self, common_name: &str) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A setup whose listener speaks TLS with `client_cert` as configured; `ca.pem`, `server.pem` and `server.key` lie
    /// beside the configuration.
    pub(crate) fn setup(&self, client_cert: &str) -> Setup {
        let server = self.issue("broker");
        let client = match client_cert {
            "none" => String::new(),
            other => format!(", client_ca = \"ca.pem\", client_cert = \"{other}\", identity = \"cn\""),
        };
        Setup::new()
            .file("ca.pem", self.authority())
            .file("server.pem", server.certificate)
            .file("server.key", server.key)
            .listener(&format!(
                "tls = {{ cert = \"server.pem\", key = \"server.key\"{client} }}"
            ))
    }

    /// A TLS stream to the broker that trusts this authority. The handshake happens with the first bytes.
    pub(crate) fn connect(
        &self,
        broker: &Broker,
        identity: Option<&Identity>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let socket = TcpStream::connect(broker.address()).expect("connect");
        socket.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        self.over(socket, identity)
    }

    /// As [`Certificates::connect`], over a stream that is there already.
    pub(crate) fn over(
        &self,
        socket: TcpStream,
        identity: Option<&Identity>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(
            ClientConnection::new(self.client_config(identity), name).expect("TLS client"),
            socket,
        )
    }

    fn client_config(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("add the authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("protocol versions").with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .expect("client certificate")
            }
        })
    }
}
