//! Connections end with the certificates of their clients.

use super::{ConnId, Shard};
use crate::certificates::{CertificateEnd, ends_at};
use crate::time::Millis;
use nervewire_codec::ReasonCode;

impl Shard {
    /// Ends a connection whose certificate does not count any more. Its session stays as if the connection had been lost, but
    /// its will goes nowhere: nobody vouches for whom it comes from.
    pub fn end_certificate(&mut self, now: Millis, id: ConnId, end: CertificateEnd) {
        if self.conn(id).is_none_or(|conn| conn.closing) {
            return;
        }
        let counted = CertificateEnd::ALL.iter().position(|known| *known == end);
        if let Some(counter) = counted.and_then(|at| self.counters.disconnects_certificate.get_mut(at)) {
            *counter += 1;
        }
        let session = self.conn(id).and_then(|conn| conn.session);
        if let Some(s) = session.and_then(|session| self.sessions.get_mut(session as usize)) {
            s.will = None;
        }
        self.counters.disconnects_server += 1;
        self.disconnect(now, id, ReasonCode::NotAuthorized, Some(end.words()));
    }

    /// Where the client came with a certificate, the connection ends with it.
    pub(super) fn watch_certificate_end(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let (session, serial) = (conn.session, conn.serial);
        let session = session.and_then(|session| self.sessions.get(session as usize));
        if let Some(certificate) = session.and_then(|s| s.client.certificate.as_deref()) {
            let at = ends_at(certificate.not_after);
            self.timers.certificate(at, id, serial);
        }
    }
}
