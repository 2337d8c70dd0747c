//! A certificate authority of its own for each test that needs TLS.

use super::{Broker, DEADLINE, Setup};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams, CertifiedIssuer,
    DnType, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
        Self::named("Test authority")
    }

    /// An authority of this name.
    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self {
            authority: CertifiedIssuer::self_signed(authority_params(name), key).expect("an authority"),
        }
    }

    /// The authority's certificate, PEM.
    pub(crate) fn authority(&self) -> String {
        self.authority.pem()
    }

    /// A certificate with this common name; the broker's also holds for `localhost` and 127.0.0.1.
    pub(crate) fn issue(&self, common_name: &str) -> Identity {
        self.issue_with(common_name, |_| ())
    }

    /// As [`Certificates::issue`], with something that is special about it.
    pub(crate) fn issue_with(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        issue_by(&self.authority, common_name, change)
    }

    /// An authority that this one has signed.
    pub(crate) fn intermediate(&self, name: &str, serial: u64) -> Self {
        let mut params = authority_params(name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        Self {
            authority: CertifiedIssuer::signed_by(params, key, &self.authority).expect("an authority"),
        }
    }

    /// Its revocation list, which names these serial numbers and is good for so many seconds; PEM.
    pub(crate) fn revokes(&self, serials: &[u64], valid_s: i64) -> String {
        self.revocation_list(serials, valid_s).pem().expect("PEM")
    }

    /// As [`Certificates::revokes`].
    pub(crate) fn revocation_list(&self, serials: &[u64], valid_s: i64) -> CertificateRevocationList {
        let now = SystemTime::now();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(3_600)).into(),
            next_update: moment(valid_s).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.authority).expect("a revocation list")
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

    /// A setup that requires certificates which the list `ca.crl` does not name.
    pub(crate) fn setup_with_list(&self, serials: &[u64]) -> Setup {
        self.setup("required").file("ca.crl", self.revokes(serials, 3_600)).listener(
            "tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", client_cert = \"required\", \
             identity = \"cn\", crl = [\"ca.crl\"] }",
        )
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

    /// What such a client is made of; it remembers sessions to resume.
    pub(crate) fn client_config(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        Arc::new(self.client_config_of(rustls::DEFAULT_VERSIONS, identity))
    }

    /// As [`Certificates::client_config`], with only these versions.
    pub(crate) fn client_config_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("add the authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("protocol versions").with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder
                    .with_client_auth_cert(chain.expect("PEM"), key)
                    .expect("client certificate")
            }
        }
    }
}

/// A TLS stream that asks for this name.
pub(crate) fn connect_with(
    broker: &Broker,
    config: Arc<ClientConfig>,
    name: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = TcpStream::connect(broker.address()).expect("connect");
    socket.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    StreamOwned::new(ClientConnection::new(config, name).expect("TLS client"), socket)
}

/// So many seconds from now, or before.
pub(crate) fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds < 0 {
        true => SystemTime::now() - distance,
        false => SystemTime::now() + distance,
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn issue_by(
    authority: &CertifiedIssuer<'static, KeyPair>,
    common_name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}
