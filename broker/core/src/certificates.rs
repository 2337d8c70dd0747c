//! When a client's certificate stops counting: its time is over, its authority took it back, or nobody trusts that authority
//! any more. What can be said without looking at the certificate itself is said here.

use crate::hook::{Certificate, Client};
use crate::time::Millis;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// Why a certificate that was good does not count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateEnd {
    /// It, or an authority on its way to the root, is on a revocation list.
    Revoked,
    /// No authority of the listener signed it, or the listener has none.
    Untrusted,
    /// Its `not_after` has passed.
    Expired,
}

impl CertificateEnd {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 3] = [Self::Revoked, Self::Untrusted, Self::Expired];

    /// Its label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
        }
    }

    /// What the client is told, where it wants to know.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Revoked => "the client certificate was revoked",
            Self::Untrusted => "the authority of the client certificate is not trusted any more",
            Self::Expired => "the client certificate has expired",
        }
    }
}

/// What the revocation lists of one listener name. Where it has lists, every authority that it trusts has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedSerials {
    by_issuer: HashMap<String, HashSet<String>>,
}

impl RevokedSerials {
    /// Adds a list, by what [`crate::hook::Certificate`] calls `issuer` and `serial`.
    pub fn add(&mut self, issuer: &str, serials: impl IntoIterator<Item = String>) {
        let known = self.by_issuer.entry(issuer.to_owned()).or_default();
        known.extend(serials);
    }

    fn end_of(&self, certificate: &Certificate) -> Option<CertificateEnd> {
        if self.by_issuer.is_empty() {
            return None;
        }
        match self.by_issuer.get(&certificate.issuer) {
            None => Some(CertificateEnd::Untrusted),
            Some(serials) => serials.contains(&certificate.serial).then_some(CertificateEnd::Revoked),
        }
    }
}

/// The revocation lists of every listener that has some.
#[derive(Clone, Debug, Default)]
pub struct RevokedCertificates {
    by_listener: HashMap<Arc<str>, Arc<RevokedSerials>>,
}

impl RevokedCertificates {
    /// Those of a listener, by its `bind`.
    pub fn set(&mut self, listener: Arc<str>, serials: Arc<RevokedSerials>) {
        self.by_listener.insert(listener, serials);
    }

    /// Whether the certificate that a client came with has ended; it need not be connected any more. Authorities are told apart by
    /// their names, and only where the listener has lists: elsewhere one that only the client knows may stand between, and to tell
    /// takes the certificate itself.
    pub fn end_of(&self, client: &Client, now: Millis) -> Option<CertificateEnd> {
        let certificate = client.certificate.as_deref()?;
        let lists = self.by_listener.get(&*client.listener);
        let end = lists.and_then(|lists| lists.end_of(certificate));
        end.or_else(|| (ends_at(certificate.not_after) <= now).then_some(CertificateEnd::Expired))
    }
}

/// The first moment at which a certificate is too old: it is still good during the second that `not_after` names
/// (RFC 5280 section 4.1.2.5).
pub(crate) fn ends_at(not_after_s: i64) -> Millis {
    u64::try_from(not_after_s).map_or(0, |seconds| seconds.saturating_add(1).saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(serial: &str, not_after: i64) -> Client {
        let certificate = Certificate {
            subject: "CN=a".into(),
            issuer: "CN=ca".into(),
            common_name: Some("a".into()),
            alternative_names: Vec::new(),
            serial: serial.into(),
            fingerprint: String::new(),
            not_before: 0,
            not_after,
        };
        Client {
            listener: "l".into(),
            certificate: Some(Arc::new(certificate)),
            ..Client::unknown("c".into(), None)
        }
    }

    fn revoked(listener: &str, issuer: &str) -> RevokedCertificates {
        let mut serials = RevokedSerials::default();
        serials.add(issuer, ["01".into()]);
        serials.add(issuer, ["02".into()]);
        let mut revoked = RevokedCertificates::default();
        revoked.set(listener.into(), Arc::new(serials));
        revoked
    }

    #[test]
    fn a_certificate_is_revoked_by_the_list_of_its_issuer_on_its_listener() {
        let end = Some(CertificateEnd::Revoked);
        assert_eq!(revoked("l", "CN=ca").end_of(&client("01", 10), 0), end);
        assert_eq!(revoked("l", "CN=ca").end_of(&client("02", 10), 0), end);
        assert_eq!(revoked("l", "CN=ca").end_of(&client("03", 10), 0), None);
        assert_eq!(revoked("other", "CN=ca").end_of(&client("01", 10), 0), None);
    }

    #[test]
    fn an_authority_without_list_beside_one_with_a_list_is_not_trusted() {
        let mut revoked = revoked("l", "CN=other");
        assert_eq!(revoked.end_of(&client("01", 10), 0), Some(CertificateEnd::Untrusted));
        let mut nobody = RevokedSerials::default();
        nobody.add("CN=ca", []);
        revoked.set("l".into(), Arc::new(nobody));
        assert_eq!(revoked.end_of(&client("01", 10), 0), None);
        revoked.set("l".into(), Arc::default());
        assert_eq!(revoked.end_of(&client("01", 10), 0), None);
    }

    #[test]
    fn a_certificate_ends_after_its_last_second() {
        let none = RevokedCertificates::default();
        assert_eq!(none.end_of(&client("01", 10), 10_999), None);
        assert_eq!(none.end_of(&client("01", 10), 11_000), Some(CertificateEnd::Expired));
        assert_eq!(none.end_of(&client("01", -1), 0), Some(CertificateEnd::Expired));
        assert_eq!(none.end_of(&client("01", i64::MAX), u64::MAX - 1), None);
    }

    #[test]
    fn a_client_without_certificate_has_none_that_ends() {
        let nobody = Client::unknown("c".into(), None);
        assert_eq!(revoked("", "CN=ca").end_of(&nobody, u64::MAX), None);
    }
}
