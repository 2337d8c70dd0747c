use super::*;
use crate::defence::DefenceLimits;
use crate::driver::Clock;

fn defence() -> Defence {
    Defence::new(Clock::start(), DefenceLimits::default())
}

fn target(json: &str) -> BanTarget {
    serde_json::from_str(json).unwrap()
}

fn refused(json: &str) -> BanRefused {
    subject_of(&target(json)).expect_err(json)
}

#[test]
fn each_kind_of_subject_can_be_asked_for() {
    for (json, expected) in [
        (r#"{"client": "c"}"#, Subject::client_id("c", None)),
        (r#"{"client": "c", "tenant": "t"}"#, Subject::client_id("c", Some("t"))),
        (r#"{"user": "u"}"#, Subject::user("u", None)),
        (
            r#"{"address": "::ffff:192.0.2.1"}"#,
            Subject::Address("192.0.2.1".parse().unwrap()),
        ),
        (
            r#"{"network": "192.0.2.77/24"}"#,
            Subject::Network("192.0.2.0".parse().unwrap(), 24),
        ),
        (
            r#"{"network": "2001:db8::/32"}"#,
            Subject::Network("2001:db8::".parse().unwrap(), 32),
        ),
    ] {
        assert_eq!(subject_of(&target(json)).unwrap(), expected, "{json}");
    }
}

#[test]
fn what_is_no_subject_is_refused_with_words() {
    for json in [
        "{}",
        r#"{"client": "c", "user": "u"}"#,
        r#"{"address": "192.0.2.1", "tenant": "t"}"#,
        r#"{"address": "192.0.2"}"#,
        r#"{"address": "192.0.2.0/24"}"#,
        r#"{"network": "192.0.2.0"}"#,
        r#"{"network": "192.0.2.0/33"}"#,
        r#"{"network": "2001:db8::/129"}"#,
        r#"{"network": "a/b"}"#,
    ] {
        assert!(matches!(refused(json), BanRefused::Request(_)), "{json}");
    }
}

#[test]
fn a_ban_is_made_listed_and_lifted_once() {
    let defence = defence();
    let banned = defence
        .ban_as_asked(target(r#"{"user": "u", "seconds": 60, "reason": "spam"}"#), false)
        .unwrap();
    assert_eq!(
        (banned.ban.reason.as_str(), banned.ban.by.as_str()),
        ("spam", "admin API")
    );
    // One is rounded down, the other up.
    let seconds = banned.ban.until_unix_s.unwrap() - banned.ban.since_unix_s;
    assert!((60..=61).contains(&seconds), "{banned:?}");
    assert!(!banned.stored);
    assert_eq!(defence.list().bans, vec![banned.ban.clone()]);
    let lifted = defence.lift_as_asked(&target(r#"{"user": "u"}"#)).unwrap();
    assert_eq!(lifted.ban, banned.ban);
    let again = defence.lift_as_asked(&target(r#"{"user": "u"}"#));
    assert!(matches!(again, Err(BanRefused::NotFound(_))));
}

#[test]
fn an_end_that_is_none_is_refused() {
    for seconds in ["0", "18446744073709551615"] {
        let json = format!(r#"{{"client": "c", "seconds": {seconds}}}"#);
        assert!(matches!(
            defence().ban_as_asked(target(&json), false),
            Err(BanRefused::Request(_))
        ));
    }
    let with_reason = defence().lift_as_asked(&target(r#"{"client": "c", "reason": "x"}"#));
    assert!(matches!(with_reason, Err(BanRefused::Request(_))));
}
