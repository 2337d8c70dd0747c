//! What is counted and known of TLS, for `/metrics`.

use crate::admin::metrics::Labelled;
use std::collections::BTreeMap;

/// The numbers of TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TlsMetrics {
    /// Handshakes that succeeded, by kind.
    pub handshakes: Labelled,
    /// Handshakes that did not, by reason.
    pub failed: Labelled,
    /// Connections that ended with a client's certificate, by reason.
    pub disconnects: Labelled,
    /// When each certificate expires: listener, name, Unix time.
    pub not_after_s: Vec<(String, String, u64)>,
    /// When the first revocation list of a listener is too old, Unix time.
    pub next_update_s: BTreeMap<String, u64>,
}
