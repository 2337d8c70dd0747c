use super::*;

fn limits() -> DefenceLimits {
    DefenceLimits {
        connections_per_address: 2,
        connect_rate_per_s_per_address: 0,
        failed_logins_per_minute: 3,
        failed_logins_per_hour: 10,
        ..DefenceLimits::default()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn enter(addresses: &Arc<Addresses>, text: &str, now: Millis) -> Result<AddressSlot, Refused> {
    addresses.enter(address(text), &limits(), now)
}

fn is_known(addresses: &Addresses, text: &str) -> bool {
    addresses.lock().by_key.contains_key(&AddressKey::of(address(text)))
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let addresses = Arc::new(Addresses::default());
    let first = enter(&addresses, "192.0.2.1", 1).unwrap();
    let _second = enter(&addresses, "::ffff:192.0.2.1", 1).unwrap();
    assert_eq!(
        enter(&addresses, "192.0.2.1", 1).err(),
        Some(Refused::ConnectionsPerAddress)
    );
    assert!(enter(&addresses, "192.0.2.2", 1).is_ok());
    drop(first);
    assert!(enter(&addresses, "192.0.2.1", 1).is_ok());
}

#[test]
fn nothing_is_left_of_an_address_without_connections_that_did_no_harm() {
    let addresses = Arc::new(Addresses::default());
    drop(enter(&addresses, "192.0.2.1", 1).unwrap());
    assert!(!is_known(&addresses, "192.0.2.1"));
    assert!(addresses.lock().remembered.is_empty());
}

#[test]
fn ipv6_addresses_count_by_their_64_bits_of_network() {
    let addresses = Arc::new(Addresses::default());
    let _first = enter(&addresses, "2001:db8::1", 1).unwrap();
    let _second = enter(&addresses, "2001:db8::ffff:1", 1).unwrap();
    assert!(enter(&addresses, "2001:db8::2", 1).is_err());
    assert!(enter(&addresses, "2001:db8:0:1::1", 1).is_ok());
}

#[test]
fn an_address_connects_no_faster_than_its_rate() {
    let addresses = Arc::new(Addresses::default());
    let limits = DefenceLimits {
        connections_per_address: 0,
        connect_rate_per_s_per_address: 5,
        ..limits()
    };
    let connects = |now| addresses.enter(address("192.0.2.1"), &limits, now);
    let first: Vec<_> = (0..8).map(|_| connects(1_000).map(drop)).collect();
    assert_eq!(first.iter().filter(|slot| slot.is_ok()).count(), 5);
    assert_eq!(first[7], Err(Refused::ConnectRatePerAddress));
    assert!(
        is_known(&addresses, "192.0.2.1"),
        "it is remembered without a connection"
    );
    assert!(connects(1_200).is_ok());
    assert!(connects(1_200).is_err());
    assert!(addresses.enter(address("192.0.2.2"), &limits, 1_200).is_ok());
}

#[test]
fn failed_logins_keep_an_address_out_for_ever_longer() {
    let addresses = Arc::new(Addresses::default());
    let fail = |now| addresses.failed(address("192.0.2.1"), &limits(), now);
    for _ in 0..3 {
        assert_eq!(fail(1_000), Consequence::None);
    }
    assert_eq!(fail(1_000), Consequence::KeptOut);
    assert_eq!(enter(&addresses, "192.0.2.1", 1_999).err(), Some(Refused::FailedLogins));
    assert!(enter(&addresses, "192.0.2.1", 2_000).is_ok());
    assert!(
        enter(&addresses, "192.0.2.2", 1_500).is_ok(),
        "others are not concerned"
    );
    assert_eq!(fail(2_000), Consequence::KeptOut);
    assert!(enter(&addresses, "192.0.2.1", 3_999).is_err());
    assert!(enter(&addresses, "192.0.2.1", 4_000).is_ok());
}

#[test]
fn an_address_that_fails_too_often_in_an_hour_is_to_be_banned_once() {
    let addresses = Arc::new(Addresses::default());
    let fail = |now| addresses.failed(address("192.0.2.1"), &limits(), now);
    let outcomes: Vec<_> = (0..11).map(|n| fail(n * 60_000)).collect();
    assert!(outcomes[..10].iter().all(|outcome| *outcome == Consequence::None));
    // Ten minutes have forgotten one or two of them.
    let more: Vec<_> = (0..4).map(|_| fail(660_000)).collect();
    assert_eq!(more.iter().filter(|outcome| **outcome == Consequence::Ban).count(), 1);
}

#[test]
fn few_failures_in_an_hour_never_lead_to_a_ban() {
    let addresses = Arc::new(Addresses::default());
    for n in 0..1_000 {
        let consequence = addresses.failed(address("192.0.2.1"), &limits(), n * 400_000);
        assert_eq!(consequence, Consequence::None);
    }
}

#[test]
fn many_addresses_do_not_push_out_one_that_has_failed_more_often() {
    let addresses = Arc::new(Addresses::default());
    for _ in 0..4 {
        addresses.failed(address("192.0.2.1"), &limits(), 1_000);
    }
    for n in 0..MAX_REMEMBERED_ADDRESSES as u32 + 20_000 {
        let other = IpAddr::V4((0x0a00_0000 + n).into());
        addresses.failed(other, &limits(), 1_000);
    }
    let remembered = addresses.lock().remembered.len();
    assert_eq!(remembered, MAX_REMEMBERED_ADDRESSES);
    assert_eq!(addresses.lock().by_key.len(), remembered);
    assert!(addresses.over_bound() >= 20_000);
    assert!(is_known(&addresses, "192.0.2.1"));
    assert!(enter(&addresses, "192.0.2.1", 1_500).is_err());
}

#[test]
fn what_is_an_hour_old_makes_room_first() {
    let addresses = Arc::new(Addresses::default());
    for n in 0..MAX_REMEMBERED_ADDRESSES as u32 {
        addresses.failed(IpAddr::V4((0x0a00_0000 + n).into()), &limits(), 1_000);
    }
    for n in 0..100 {
        addresses.failed(IpAddr::V4((0x0b00_0000 + n).into()), &limits(), 2 * HOUR_MS);
    }
    assert_eq!(addresses.over_bound(), 0);
}

#[test]
fn connections_of_an_address_share_a_bucket_as_long_as_there_are_any() {
    let addresses = Arc::new(Addresses::default());
    let slot = enter(&addresses, "192.0.2.1", 1).unwrap();
    let bucket = |rate| addresses.publishes(address("192.0.2.1"), rate);
    let (first, second) = (bucket(5).unwrap(), bucket(5).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert!(bucket(0).is_none());
    drop(slot);
    assert!(!is_known(&addresses, "192.0.2.1"));
}
