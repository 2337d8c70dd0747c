//! What is told about strangers. An attack makes as many refusals as it likes: of each kind the first is a line at `info`, what
//! follows is a line at `debug` each and counted, and once a second the log says how many there were. So no kind costs more than a
//! line per second, and none hides another.

use crate::tls::Failure;
use nervewire_codec::ReasonCode;
use nervewire_core::time::Millis;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// A line about somebody who is not let in: at `info` where none of its kind was told within a second, else at `debug`.
macro_rules! tell {
    ($told:expr, $about:expr, $now:expr, $($line:tt)*) => {
        if $told.at_once($about, $now) {
            tracing::info!($($line)*)
        } else {
            tracing::debug!($($line)*)
        }
    };
}
pub(super) use tell;

/// The kinds. Their number is fixed, whatever strangers do.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    NoTrustedProxy,
    NoProxyHeader,
    Certificate,
    WebSocket,
    BrokenWebSocket,
    /// Its address has too many connections, or makes them too fast.
    Address,
    /// The system has no more descriptors or memory for it.
    Accept,
    Tls(Failure),
    Connect(ReasonCode),
}

impl About {
    fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::NoTrustedProxy,
            Self::NoProxyHeader,
            Self::Certificate,
            Self::WebSocket,
            Self::BrokenWebSocket,
            Self::Address,
            Self::Accept,
        ];
        let tls = Failure::ALL.into_iter().map(Self::Tls);
        let connect = ReasonCode::ALL.iter().copied().map(Self::Connect);
        others.into_iter().chain(tls).chain(connect)
    }

    fn place(self) -> usize {
        match self {
            Self::NoTrustedProxy => 0,
            Self::NoProxyHeader => 1,
            Self::Certificate => 2,
            Self::WebSocket => 3,
            Self::BrokenWebSocket => 4,
            Self::Address => 5,
            Self::Accept => 6,
            Self::Tls(failure) => OTHERS + failure as usize,
            Self::Connect(reason) => OTHERS + Failure::ALL.len() + reason as usize,
        }
    }

    /// Of a reason, as the lines of their own have it.
    fn words(self) -> Cow<'static, str> {
        match self {
            Self::NoTrustedProxy => "it comes from no trusted proxy",
            Self::NoProxyHeader => "no PROXY header",
            Self::Certificate => "the certificate is refused",
            Self::WebSocket => "WebSocket refused",
            Self::BrokenWebSocket => "WebSocket closed before CONNECT",
            Self::Address => "too many connections of an address",
            Self::Accept => "it cannot be accepted",
            Self::Tls(failure) => failure.label(),
            Self::Connect(reason) => return format!("{reason:?}").into(),
        }
        .into()
    }
}

const OTHERS: usize = 7;
const PLACES: usize = OTHERS + Failure::ALL.len() + u8::MAX as usize + 1;
const EVERY_MS: u64 = 1_000;

/// What was told of each kind, by all shards.
#[derive(Debug)]
pub(crate) struct Told([Kind; PLACES]);

#[derive(Debug, Default)]
struct Kind {
    /// When; 0: never.
    last_ms: AtomicU64,
    /// How many came since.
    more: AtomicU64,
}

impl Default for Told {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Kind::default()))
    }
}

impl Told {
    /// Whether one of this kind is told by itself. Else it is counted.
    pub(super) fn at_once(&self, about: About, now: Millis) -> bool {
        let Some(kind) = self.0.get(about.place()) else {
            return false;
        };
        // What was counted is told before.
        let at_once = kind.more.load(Ordering::Relaxed) == 0 && kind.take_turn(now);
        if !at_once {
            kind.more.fetch_add(1, Ordering::Relaxed);
        }
        at_once
    }

    /// Tells what was counted, of each kind once in a second.
    pub(crate) fn sum_up(&self, now: Millis) {
        for (about, more) in self.due(now) {
            tracing::info!(
                connections = more,
                reason = %about.words(),
                "more connections refused for the same reason; at `debug` each is told"
            );
        }
    }

    fn due(&self, now: Millis) -> impl Iterator<Item = (About, u64)> {
        About::all().filter_map(move |about| {
            let kind = self.0.get(about.place())?;
            let is_due = kind.more.load(Ordering::Relaxed) > 0 && kind.take_turn(now);
            is_due.then(|| (about, kind.more.swap(0, Ordering::Relaxed)))
        })
    }
}

impl Kind {
    fn take_turn(&self, now: Millis) -> bool {
        let is_due = |last: u64| (last == 0 || now >= last.saturating_add(EVERY_MS)).then_some(now.max(1));
        self.last_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const MALFORMED: About = About::Connect(ReasonCode::MalformedPacket);

    fn due(told: &Told, now: Millis) -> Vec<(String, u64)> {
        told.due(now)
            .map(|(about, more)| (about.words().into(), more))
            .collect()
    }

    #[test]
    fn a_kind_is_told_once_a_second_however_often_it_happens() {
        let told = Told::default();
        let mut lines = 0;
        let mut counted = 0;
        for now in 1..=10_000 {
            for _ in 0..10 {
                lines += u64::from(told.at_once(MALFORMED, now));
            }
            for (_, more) in due(&told, now) {
                lines += 1;
                counted += more;
            }
        }
        assert_eq!(lines, 10);
        assert_eq!(counted, 90_010 - 1, "all but the first, and those of the last second");
        assert_eq!(due(&told, 11_000), [("MalformedPacket".to_owned(), 9_990)]);
        assert_eq!(due(&told, 20_000), []);
        // After a quiet second one is told by itself again.
        assert!(told.at_once(MALFORMED, 20_000));
    }

    #[test]
    fn one_kind_hides_no_other() {
        let told = Told::default();
        assert!(told.at_once(MALFORMED, 5) && !told.at_once(MALFORMED, 6));
        assert!(told.at_once(About::Connect(ReasonCode::BadUserNameOrPassword), 6));
        assert!(told.at_once(About::Tls(Failure::NotTls), 6));
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let places: HashSet<_> = About::all().map(About::place).collect();
        assert_eq!(places.len(), About::all().count());
        assert!(places.iter().all(|place| *place < PLACES));
    }
}
