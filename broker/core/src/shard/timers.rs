//! What happens by itself: keep alive, delayed wills, session expiry, pauses, purging.

use super::conn::Conn;
use super::{ConnId, Feed, Notice, Shard};
use crate::certificates::CertificateEnd;
use crate::limits::PURGE_INTERVAL_MS;
use crate::time::Millis;
use nervewire_codec::ReasonCode;
use std::collections::BTreeSet;

/// Moments at which something is due. What an entry is about is looked at when it comes up; one whose reason has gone stays
/// until then, or until such entries are the majority.
#[derive(Debug)]
pub(super) struct Timers {
    due: BTreeSet<(Millis, Timer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    KeepAlive(ConnId, u64),
    Lifetime(ConnId, u64),
    Resume(ConnId, u64),
    SessionExpiry(u32, u64),
    Will(u32, u64),
    Takeover(ConnId, u64),
    Purge,
    Certificate(ConnId, u64),
}

impl Timers {
    pub(super) fn new(now: Millis) -> Self {
        let mut timers = Self { due: BTreeSet::new() };
        timers.push(now + PURGE_INTERVAL_MS, Timer::Purge);
        timers
    }

    pub(super) fn resume(&mut self, at: Millis, conn: ConnId, serial: u64) {
        self.push(at, Timer::Resume(conn, serial));
    }

    pub(super) fn session_expiry(&mut self, at: Millis, session: u32, serial: u64) {
        self.push(at, Timer::SessionExpiry(session, serial));
    }

    pub(super) fn certificate(&mut self, at: Millis, conn: ConnId, serial: u64) {
        self.push(at, Timer::Certificate(conn, serial));
    }

    pub(super) fn will(&mut self, at: Millis, session: u32, serial: u64) {
        self.push(at, Timer::Will(session, serial));
    }

    pub(super) fn takeover(&mut self, at: Millis, conn: ConnId, serial: u64) {
        self.push(at, Timer::Takeover(conn, serial));
    }

    fn push(&mut self, at: Millis, timer: Timer) {
        self.due.insert((at, timer));
    }

    fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        self.next().filter(|at| *at <= now)?;
        self.due.pop_first().map(|(_, timer)| timer)
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

impl Shard {
    /// When [`Shard::tick`] wants to be called next.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Does everything that is due.
    pub fn tick(&mut self, now: Millis) {
        self.forget_stale_timers();
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::KeepAlive(conn, serial) => self.check_keep_alive(now, conn, serial),
                Timer::Lifetime(conn, serial) => self.check_lifetime(now, conn, serial),
                Timer::Resume(conn, serial) => self.resume_after_pause(now, conn, serial),
                Timer::SessionExpiry(session, serial) => self.check_session_expiry(now, session, serial),
                Timer::Will(session, serial) => self.delayed_will(now, session, serial),
                Timer::Takeover(conn, serial) => self.takeover_due(now, conn, serial),
                Timer::Purge => self.purge(now),
                Timer::Certificate(conn, serial) => self.certificate_ended(now, conn, serial),
            }
        }
    }

    /// A connection has at most four timers, a session two. Whoever comes and goes for ever leaves no more than as many stale ones.
    fn forget_stale_timers(&mut self) {
        const SPARE_TIMERS: usize = 1_024;
        let live = 4 * self.conns.len() + 2 * self.sessions.len();
        if self.timers.len() <= 2 * live + SPARE_TIMERS {
            return;
        }
        let (conns, sessions) = (&self.conns, &self.sessions);
        let conn = |id: &ConnId, serial: &u64| conns.get(id.0 as usize).filter(|conn| conn.serial == *serial);
        let session = |slot: &u32, serial: &u64| sessions.get(*slot as usize).filter(|s| s.serial == *serial);
        self.timers.due.retain(|(at, timer)| match timer {
            Timer::KeepAlive(id, serial)
            | Timer::Lifetime(id, serial)
            | Timer::Certificate(id, serial)
            | Timer::Takeover(id, serial) => conn(id, serial).is_some(),
            Timer::Resume(id, serial) => conn(id, serial).is_some_and(|conn| conn.paused_until == Some(*at)),
            Timer::SessionExpiry(slot, serial) => session(slot, serial).is_some_and(|s| s.expires_at == Some(*at)),
            Timer::Will(slot, serial) => session(slot, serial).is_some_and(|s| s.will_at == Some(*at)),
            Timer::Purge => true,
        });
    }

    pub(super) fn start_keep_alive(&mut self, now: Millis, id: ConnId) {
        let Some(conn) = self.conn(id).filter(|conn| conn.keep_alive_ms > 0) else {
            return;
        };
        let timer = Timer::KeepAlive(id, conn.serial);
        let at = now + u64::from(conn.keep_alive_ms);
        self.timers.push(at, timer);
    }

    /// The connection ends when it has lasted as long as one may.
    pub(super) fn start_lifetime(&mut self, id: ConnId) {
        let lifetime_ms = u64::from(self.config.max_connection_s) * 1_000;
        if let Some(conn) = self.conn(id).filter(|_| lifetime_ms > 0) {
            let timer = Timer::Lifetime(id, conn.serial);
            let at = authenticated_at(conn) + lifetime_ms;
            self.timers.push(at, timer);
        }
    }

    /// Credentials have no end that the broker knows of: whoever must connect again must show them again.
    fn check_lifetime(&mut self, now: Millis, id: ConnId, serial: u64) {
        let lifetime_ms = u64::from(self.config.max_connection_s) * 1_000;
        let Some(conn) = self.same_conn(id, serial).filter(|_| lifetime_ms > 0) else {
            return;
        };
        let at = authenticated_at(conn) + lifetime_ms;
        if at > now {
            self.timers.push(at, Timer::Lifetime(id, serial));
            return;
        }
        self.counters.disconnects_server += 1;
        self.disconnect(now, id, ReasonCode::MaximumConnectTime, None);
    }

    /// Another length holds for those who are connected, too.
    pub(super) fn restart_lifetimes(&mut self) {
        let open = self.conns.iter().filter(|(_, conn)| conn.connected && !conn.closing);
        let open: Vec<ConnId> = open.map(|(slot, _)| ConnId(slot as u32)).collect();
        open.into_iter().for_each(|id| self.start_lifetime(id));
    }

    /// Looked at once per interval; packets only note their time, so a busy connection costs no timer.
    fn check_keep_alive(&mut self, now: Millis, id: ConnId, serial: u64) {
        let Some(conn) = self.same_conn(id, serial) else { return };
        // A client that we do not read cannot be silent.
        if conn.waiting || conn.paused_until.is_some() || conn.lanes.are_full() {
            conn.last_received = now;
        }
        let at = conn.last_received + u64::from(conn.keep_alive_ms);
        if at > now {
            self.timers.push(at, Timer::KeepAlive(id, serial));
            return;
        }
        self.counters.disconnects_keep_alive += 1;
        self.disconnect(now, id, ReasonCode::KeepAliveTimeout, None);
    }

    /// Once per connection: its certificate has expired.
    fn certificate_ended(&mut self, now: Millis, id: ConnId, serial: u64) {
        if self.same_conn(id, serial).is_some() {
            self.end_certificate(now, id, CertificateEnd::Expired);
        }
    }

    fn resume_after_pause(&mut self, now: Millis, id: ConnId, serial: u64) {
        let Some(conn) = self.same_conn(id, serial) else { return };
        if conn.paused_until.is_some_and(|until| until <= now) {
            conn.paused_until = None;
            conn.last_received = now;
            if conn.feed(now) == Feed::More {
                self.notices.push_back(Notice::Resume(id));
            }
        }
    }

    fn check_session_expiry(&mut self, now: Millis, session: u32, serial: u64) {
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        if s.serial == serial && s.conn.is_none() && s.expires_at.is_some_and(|at| at <= now) {
            self.end_session(now, session);
        }
    }

    fn delayed_will(&mut self, now: Millis, session: u32, serial: u64) {
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        if s.serial == serial && s.conn.is_none() && s.will_at.is_some_and(|at| at <= now) {
            self.will_due(now, session, serial);
        }
    }

    fn purge(&mut self, now: Millis) {
        self.purge_retained(now);
        self.purge_queues(now);
        self.retract_interest(now);
        self.end_throttles(now);
        self.timers.push(now + PURGE_INTERVAL_MS, Timer::Purge);
    }
}

/// When a client has shown its credentials last.
fn authenticated_at(conn: &Conn) -> Millis {
    let again = conn
        .authentication
        .as_ref()
        .and_then(|enhanced| enhanced.authenticated_at);
    again.unwrap_or(conn.connected_at)
}
