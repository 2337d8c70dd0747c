use super::*;
use crate::config::{CertificateIdentity, ClientCertificates};
use nervewire_core::hook::Certificate;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType, SerialNumber, date_time_ymd};
use std::fs;
use std::path::Path;

/// A self-signed certificate that `change` makes special, and its key.
pub(super) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(["broker.example".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// Settings over files with these texts; `client`: the authorities, and whether a certificate is required.
pub(super) fn write_files(cert: &str, key: &str, client: Option<(String, bool)>) -> (tempfile::TempDir, TlsSettings) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let client = client.map(|(authorities, required)| ClientCertificates {
        client_ca: write("ca", &authorities),
        crl: Vec::new(),
        required,
        identity: None,
    });
    let settings = TlsSettings {
        cert: write("cert", cert),
        key: write("key", key),
        sni: Vec::new(),
        client,
        resumption_bytes: 1_000_000,
    };
    (directory, settings)
}

/// What loading says about these texts of certificate, key and client authorities.
fn judge(cert: &str, key: &str, client_ca: Option<&str>) -> Result<Arc<Secured>, String> {
    let (directory, settings) = write_files(cert, key, client_ca.map(|text| (text.to_owned(), true)));
    load(&settings, directory.path())
}

/// What loading these settings says, without the directory.
pub(super) fn load(settings: &TlsSettings, directory: &Path) -> Result<Arc<Secured>, String> {
    Secured::load(settings, None).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n").replace(&format!("{}/", directory.display()), "")
    })
}

#[track_caller]
pub(super) fn check(judged: Result<Arc<Secured>, String>, expected: &str) {
    let error = judged.map(|_| ()).expect_err("this is refused");
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_pair_and_an_authority_are_accepted() {
    let (cert, key) = self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(judge(&cert.pem(), &key.serialize_pem(), None).is_ok());
    assert!(judge(&cert.pem(), &key.serialize_pem(), Some(&cert.pem())).is_ok());
}

#[test]
fn files_without_what_they_should_hold_are_refused() {
    let (cert, key) = self_signed(|_| ());
    let (cert, key) = (cert.pem(), key.serialize_pem());
    check(judge("", &key, None), "cert has no certificate");
    check(judge(&key, &key, None), "cert has no certificate");
    check(judge(&cert, &cert, None), "key has no private key");
    check(
        judge(&cert, &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), None),
        "key has an encrypted private key",
    );
    check(judge(&cert.replace("-----END", "-----"), &key, None), "cert is not PEM");
    check(
        judge(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            None,
        ),
        "cert has a certificate that cannot be read",
    );
    check(
        judge(
            &cert,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            None,
        ),
        "key has a private key that cannot be used",
    );
    check(judge(&cert, &key, Some("")), "ca has no certificate");
    check(
        judge(
            &cert,
            &key,
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
        "ca cannot be used to check clients",
    );
}

#[test]
fn a_missing_file_is_named() {
    let errors = Secured::load(
        &TlsSettings {
            cert: "no/such.pem".into(),
            key: "no/such.key".into(),
            sni: Vec::new(),
            client: None,
            resumption_bytes: 0,
        },
        None,
    )
    .unwrap_err();
    assert_eq!(
        errors.iter().map(TlsError::part).collect::<Vec<_>>(),
        [Part::Cert, Part::Key]
    );
    assert_eq!(
        errors[0].to_string(),
        "no/such.pem cannot be read: No such file or directory (os error 2); write the path of a readable PEM file"
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ((cert, _), (_, other)) = (self_signed(|_| ()), self_signed(|_| ()));
    check(
        judge(&cert.pem(), &other.serialize_pem(), None),
        "key has a private key that does not match the certificate in cert",
    );
}

#[test]
fn a_certificate_outside_its_time_is_refused() {
    let (expired, key) = self_signed(|params| params.not_after = date_time_ymd(2020, 1, 1));
    check(
        judge(&expired.pem(), &key.serialize_pem(), None),
        "cert has a certificate that expired at",
    );
    let (early, key) = self_signed(|params| params.not_before = date_time_ymd(4000, 1, 1));
    check(
        judge(&early.pem(), &key.serialize_pem(), None),
        "cert has a certificate that is not valid before",
    );
}

/// A certificate with all that plugins are told about.
fn certificate() -> Certificate {
    let (cert, _) = self_signed(|params| {
        params.distinguished_name.push(DnType::OrganizationName, "Ex, Inc.");
        params.distinguished_name.push(DnType::CommonName, "dev-7");
        params.subject_alt_names = vec![
            SanType::DnsName("dev-7.example".try_into().unwrap()),
            SanType::Rfc822Name("dev@example.org".try_into().unwrap()),
            SanType::URI("urn:dev:7".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 7].into()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ];
        params.serial_number = Some(SerialNumber::from(vec![0xab, 0x00, 0x0c]));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
    });
    certificate_facts(cert.der()).unwrap()
}

#[test]
fn the_facts_of_a_certificate() {
    let certificate = certificate();
    assert_eq!(certificate.subject, "O=Ex\\, Inc.,CN=dev-7");
    assert_eq!(certificate.issuer, certificate.subject);
    assert_eq!(certificate.common_name.as_deref(), Some("dev-7"));
    let names = [
        "dev-7.example",
        "dev@example.org",
        "urn:dev:7",
        "192.0.2.7",
        "2001:db8::7",
    ];
    assert_eq!(certificate.alternative_names, names);
    assert_eq!(certificate.serial, "ab000c");
    assert_eq!(
        (certificate.not_before, certificate.not_after),
        (1_577_836_800, 2_208_988_800)
    );
    assert_eq!(certificate.fingerprint.len(), 64);
}

#[test]
fn what_is_no_certificate_has_no_facts() {
    assert!(certificate_facts(b"").is_err());
    assert!(certificate_facts(&[0x30, 0x03, 1, 2, 3]).is_err());
}

#[test]
fn an_identity_is_the_chosen_part_of_the_certificate() {
    let certificate = certificate();
    let check = |identity, expected: &str| assert_eq!(identity_name(&certificate, identity).as_deref(), Some(expected));
    check(CertificateIdentity::CommonName, "dev-7");
    check(CertificateIdentity::AlternativeName, "dev-7.example");
    check(CertificateIdentity::Fingerprint, &certificate.fingerprint);
}

#[test]
fn names_that_are_no_user_names_identify_nobody() {
    let check = |common_name: Option<&str>| {
        let certificate = Certificate {
            common_name: common_name.map(str::to_owned),
            alternative_names: Vec::new(),
            ..certificate()
        };
        assert_eq!(identity_name(&certificate, CertificateIdentity::CommonName), None);
        assert_eq!(identity_name(&certificate, CertificateIdentity::AlternativeName), None);
    };
    check(None);
    check(Some(""));
    check(Some("a\0b"));
    check(Some("a\nb"));
}
