use super::*;

const HERE: &str = "192.0.2.7";

fn request(subject: Subject, until_unix_ms: Option<u64>) -> BanRequest {
    BanRequest {
        subject,
        until_unix_ms,
        reason: "because".to_owned(),
        by: "operator".to_owned(),
    }
}

fn bans(subjects: impl IntoIterator<Item = Subject>) -> Bans {
    let bans = Bans::default();
    for subject in subjects {
        bans.add(request(subject, None), 0).unwrap();
    }
    bans
}

fn suspect(address: &str) -> Suspect<'static> {
    Suspect {
        client_id: "c",
        username: Some("alice"),
        address: address.parse().unwrap(),
        tenant: None,
    }
}

fn network(address: &str, bits: u8) -> Subject {
    Subject::Network(address.parse().unwrap(), bits)
}

#[test]
fn a_client_is_under_the_ban_of_its_identifier_its_user_its_address_or_its_network() {
    for subject in [
        Subject::client_id("c", None),
        Subject::user("alice", None),
        Subject::Address(HERE.parse().unwrap()),
        network("192.0.2.0", 24),
        network("0.0.0.0", 0),
    ] {
        let bans = bans([subject.clone()]);
        assert_eq!(bans.of(&suspect(HERE), 1).map(|ban| ban.subject), Some(subject));
    }
    let others = bans([
        Subject::client_id("d", None),
        Subject::client_id("alice", None),
        Subject::user("c", None),
        Subject::Address("192.0.2.8".parse().unwrap()),
        network("192.0.3.0", 24),
        network("::", 0),
    ]);
    assert_eq!(others.of(&suspect(HERE), 1), None);
}

#[test]
fn a_name_of_a_tenant_is_banned_in_that_tenant_alone() {
    let bans = bans([Subject::user("alice", Some("acme"))]);
    assert_eq!(bans.of(&suspect(HERE), 1), None);
    let of = |tenant| Suspect {
        tenant: Some(tenant),
        ..suspect(HERE)
    };
    assert!(bans.of(&of("acme"), 1).is_some());
    assert_eq!(bans.of(&of("other"), 1), None);
}

#[test]
fn a_name_without_tenant_is_banned_in_all() {
    let bans = bans([Subject::client_id("c", None)]);
    let inside = Suspect {
        tenant: Some("acme"),
        ..suspect(HERE)
    };
    assert!(bans.of(&inside, 1).is_some());
}

#[test]
fn a_timed_ban_ends_by_itself() {
    let bans = Bans::default();
    bans.add(request(Subject::client_id("c", None), Some(1_000)), 0)
        .unwrap();
    assert!(bans.of(&suspect(HERE), 999).is_some());
    assert_eq!(bans.of(&suspect(HERE), 1_000), None);
    assert_eq!(bans.len(), 1);
    assert!(bans.all(1_000).is_empty());
    assert_eq!(bans.len(), 0, "it is forgotten");
}

#[test]
fn a_ban_that_is_over_already_is_refused() {
    let bans = Bans::default();
    let refused = bans.add(request(Subject::client_id("c", None), Some(1_000)), 1_000);
    assert_eq!(refused, Err(BanError::Over));
}

#[test]
fn names_and_reasons_are_bounded() {
    let bans = Bans::default();
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    for subject in [
        Subject::client_id("", None),
        Subject::user(&long, None),
        Subject::user("u", Some(&long)),
    ] {
        assert_eq!(bans.add(request(subject, None), 0), Err(BanError::Text));
    }
    let because = BanRequest {
        reason: long,
        ..request(Subject::client_id("c", None), None)
    };
    assert_eq!(bans.add(because, 0), Err(BanError::Text));
}

#[test]
fn a_lifted_ban_is_no_more() {
    let bans = bans([network("192.0.2.0", 24), network("192.0.2.0", 25)]);
    assert!(bans.lift(&network("192.0.2.99", 24), 1).is_some());
    assert!(
        bans.of(&suspect(HERE), 1).is_some(),
        "the smaller network is still banned"
    );
    assert!(bans.lift(&network("192.0.2.0", 25), 1).is_some());
    assert_eq!(bans.of(&suspect(HERE), 1), None);
    assert_eq!(bans.lift(&network("192.0.2.0", 25), 1), None);
}

#[test]
fn a_second_ban_of_a_subject_takes_the_place_of_the_first() {
    let bans = bans([Subject::client_id("c", None)]);
    bans.add(request(Subject::client_id("c", None), Some(10)), 1).unwrap();
    assert_eq!(bans.all(1).len(), 1);
    assert_eq!(bans.of(&suspect(HERE), 10), None);
}

#[test]
fn automatic_bans_leave_room_for_an_operator() {
    let bans = Bans::default();
    let automatic = |number: usize| BanRequest {
        by: AUTOMATIC.to_owned(),
        ..request(Subject::client_id(&number.to_string(), None), Some(1_000))
    };
    for number in 0..MAX_AUTOMATIC_BANS {
        bans.add(automatic(number), 0).unwrap();
    }
    assert_eq!(bans.add(automatic(MAX_AUTOMATIC_BANS), 0), Err(BanError::TooMany));
    assert_eq!(bans.over_bound(), 1);
    bans.add(request(Subject::client_id("by hand", None), None), 0).unwrap();
    // What has ended makes room.
    let later = BanRequest {
        until_unix_ms: Some(3_000),
        ..automatic(0)
    };
    bans.add(later, 2_000).unwrap();
    assert_eq!(bans.all(2_000).len(), 2);
}

#[test]
fn all_bans_together_are_bounded() {
    let bans = bans((0..MAX_BANS).map(|number| Subject::client_id(&number.to_string(), None)));
    let refused = bans.add(request(Subject::client_id("one more", None), None), 0);
    assert_eq!(refused, Err(BanError::TooMany));
    // A known one can still be changed.
    bans.add(request(Subject::client_id("1", None), Some(9)), 0).unwrap();
}
