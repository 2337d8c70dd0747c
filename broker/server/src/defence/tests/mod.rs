use super::*;

fn defence() -> Defence {
    Defence::new(Clock::start())
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
    assert!(defence.lift(&subject).is_some());
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
