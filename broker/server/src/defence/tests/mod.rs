use super::*;

fn limits() -> DefenceLimits {
    DefenceLimits {
        connect_rate_per_s: 100,
        failed_logins_per_minute: 5,
        failed_logins_per_hour: 20,
        failed_login_ban_s: 60,
        user_publish_rate_per_s: 7,
        ..DefenceLimits::default()
    }
}

fn defence() -> Defence {
    Defence::new(Clock::start(), limits())
}

fn ban(defence: &Defence, subject: Subject) -> Ban {
    let request = BanRequest {
        subject,
        until_unix_ms: None,
        reason: "because".to_owned(),
        by: "operator".to_owned(),
    };
    defence.ban(request).unwrap()
}

#[test]
fn a_banned_address_gets_no_connection_until_the_ban_is_lifted() {
    let defence = defence();
    let address = "192.0.2.1".parse().unwrap();
    assert!(defence.connection(address, 1).is_ok());
    let subject = ban(&defence, Subject::Network("192.0.0.0".parse().unwrap(), 16)).subject;
    assert_eq!(defence.connection(address, 1).err(), Some(Refused::Banned));
    assert!(defence.lift(&subject, None).is_some());
    assert!(defence.connection(address, 1).is_ok());
}

#[test]
fn bans_are_listed_and_found_by_whom_they_concern() {
    let defence = defence();
    let address = "192.0.2.1".parse().unwrap();
    assert!(defence.banned("c", Some("u"), address, None, 1).is_none());
    let made = ban(&defence, Subject::user("u", None));
    assert_eq!(defence.bans(), vec![made.clone()]);
    assert_eq!(defence.banned("c", Some("u"), address, Some("t"), 1), Some(made));
    assert!(defence.banned("c", None, address, None, 1).is_none());
}

#[test]
fn an_address_with_too_many_failed_logins_is_banned_for_a_while_and_its_victims_are_not() {
    let defence = defence();
    let (attacker, victim) = ("192.0.2.66".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let now = defence.clock.now();
    for _ in 0..21 {
        defence.login_failed(attacker, Some("alice"), "a", now);
    }
    assert_eq!(defence.connection(attacker, now).err(), Some(Refused::Banned));
    let bans = defence.bans();
    assert_eq!(bans.len(), 1);
    assert_eq!(bans[0].until_unix_ms, Some(now + 60_000));
    // The name is slowed and no more, and not where it is known.
    assert!(defence.connection(victim, now).is_ok());
    assert!(defence.login_wait_ms(victim, Some("alice"), now) > 0);
    defence.login_succeeded(victim, Some("alice"), "a", now);
    assert_eq!(defence.login_wait_ms(victim, Some("alice"), now), 0);
    assert!(defence.connection(attacker, now + 60_000).is_ok(), "the ban is over");
}

#[test]
fn all_addresses_together_connect_no_faster_than_the_common_rate() {
    let defence = defence();
    let now = defence.clock.now();
    let connect = |n: u32| defence.connection(IpAddr::V4((0x0a00_0000 + n).into()), now);
    let refused = (0..150).filter(|n| connect(*n).is_err()).count();
    assert_eq!(refused, 50);
    assert_eq!(defence.counters().connect_rate.load(Ordering::Relaxed), 50);
}

#[test]
fn other_limits_hold_from_the_next_connection_on() {
    let defence = defence();
    let now = defence.clock.now();
    let address = "192.0.2.1".parse().unwrap();
    let _first = defence.connection(address, now).unwrap();
    assert!(defence.connection(address, now).is_ok());
    defence.set_limits(DefenceLimits {
        connections_per_address: 1,
        ..limits()
    });
    assert_eq!(
        defence.connection(address, now).err(),
        Some(Refused::ConnectionsPerAddress)
    );
}
