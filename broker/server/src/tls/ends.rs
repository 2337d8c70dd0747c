//! What of a listener's TLS runs out, and when somebody should hear of it.

use std::path::{Path, PathBuf};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// Something with a last moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) what: What,
    pub(crate) file: PathBuf,
    /// Unix time in seconds.
    pub(crate) at_s: i64,
}

/// What runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The certificate that is shown for this name, "default" for the one of the `tls` table itself.
    Certificate(String),
    /// An authority of `client_ca`, by its name.
    Authority(String),
    /// A revocation list.
    List,
}

impl End {
    /// How long before the end somebody should hear of it.
    fn notice_s(&self) -> i64 {
        match self.what {
            What::Certificate(_) | What::Authority(_) => 14 * DAY_S,
            // A day is long for a list that is made every week, and all there is of one that is made every day.
            What::List => 12 * HOUR_S,
        }
    }

    /// A sentence for a person; `None`: there is time enough.
    pub(crate) fn warning(&self, now_s: i64) -> Option<String> {
        let left_s = self.at_s - now_s;
        if left_s > self.notice_s() {
            return None;
        }
        let file = self.file.display();
        Some(match (&self.what, left_s < 0) {
            (What::Certificate(_), false) => format!("the certificate in {file} expires {}: renew it", left(left_s)),
            (What::Certificate(_), true) => {
                format!("the certificate in {file} has expired: clients refuse it, renew it")
            }
            (What::Authority(name), false) => {
                format!("the authority {name:?} in {file} expires {}: replace it", left(left_s))
            }
            (What::Authority(name), true) => format!("the authority {name:?} in {file} has expired: replace it"),
            (What::List, false) => format!(
                "the revocation list in {file} is too old {}, clients with a certificate are refused then: fetch the next one",
                left(left_s)
            ),
            (What::List, true) => format!(
                "the revocation list in {file} is too old: clients with a certificate of its authority are refused, those \
                 that are connected stay; fetch the next one"
            ),
        })
    }

    /// The next moment at which there is something new to say.
    fn next_s(&self, now_s: i64) -> Option<i64> {
        [self.at_s - self.notice_s(), self.at_s + 1]
            .into_iter()
            .find(|moment| *moment > now_s)
    }
}

fn left(left_s: i64) -> String {
    match left_s {
        s if s >= 2 * DAY_S => format!("in {} days", s / DAY_S),
        s if s >= 2 * HOUR_S => format!("in {} hours", s / HOUR_S),
        s => format!("in {} minutes", s / 60),
    }
}

/// When a set of ends is to be looked at again: once a day, and when something begins to be urgent.
pub(crate) fn look_again_s<'a>(ends: impl Iterator<Item = &'a End>, now_s: i64) -> i64 {
    let next = ends.filter_map(|end| end.next_s(now_s)).min();
    next.unwrap_or(i64::MAX).min(now_s + DAY_S)
}

/// An end, from what the loader knows.
pub(super) fn end(what: What, file: &Path, at: x509_parser::prelude::ASN1Time) -> End {
    End {
        what,
        file: file.to_owned(),
        at_s: at.timestamp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(at_s: i64) -> End {
        End {
            what: What::Certificate("default".into()),
            file: "server.pem".into(),
            at_s,
        }
    }

    #[test]
    fn a_certificate_is_warned_of_in_its_last_fourteen_days_and_afterwards() {
        let now = 1_000_000_000;
        assert_eq!(certificate(now + 14 * DAY_S + 1).warning(now), None);
        let words = |at_s| certificate(at_s).warning(now).unwrap();
        assert_eq!(
            words(now + 14 * DAY_S),
            "the certificate in server.pem expires in 14 days: renew it"
        );
        assert_eq!(
            words(now + 90 * 60),
            "the certificate in server.pem expires in 90 minutes: renew it"
        );
        assert!(words(now - 1).contains("has expired"));
    }

    #[test]
    fn a_list_is_warned_of_in_its_last_hours() {
        let list = |at_s| End {
            what: What::List,
            file: "ca.crl".into(),
            at_s,
        };
        assert_eq!(list(13 * HOUR_S).warning(0), None);
        assert!(list(12 * HOUR_S).warning(0).unwrap().contains("too old in 12 hours"));
        assert!(list(-1).warning(0).unwrap().contains("is too old: clients"));
    }

    #[test]
    fn looked_at_again_daily_and_when_something_gets_urgent() {
        let ends = |at_s| [certificate(at_s)];
        assert_eq!(look_again_s(ends(100 * DAY_S).iter(), 0), DAY_S);
        assert_eq!(look_again_s(ends(14 * DAY_S + 5).iter(), 0), 5);
        assert_eq!(look_again_s(ends(10).iter(), 0), 11);
        assert_eq!(look_again_s([].iter(), 7), 7 + DAY_S);
    }
}
