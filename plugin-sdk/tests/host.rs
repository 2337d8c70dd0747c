//! The stand-in for the broker keeps the contract of wit/host.wit.

use nervewire_plugin_sdk::{clock, counters, kv, log, random, testing};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn values_are_kept_until_they_expire() {
    kv::set("a", "1", None).unwrap();
    kv::set("b", b"2", SECOND).unwrap();
    testing::advance(Duration::from_millis(999));
    assert_eq!(kv::get("b").as_deref(), Some(&b"2"[..]));
    testing::advance(Duration::from_millis(1));
    assert_eq!(kv::get("b"), None);
    assert_eq!(kv::get("a").as_deref(), Some(&b"1"[..]));
    kv::delete("a");
    assert_eq!(kv::get("a"), None);
}

#[test]
fn an_increment_keeps_the_expiry_of_the_first() {
    assert_eq!(kv::increment("n", 2, SECOND), Ok(2));
    testing::advance(SECOND / 2);
    assert_eq!(kv::increment("n", -5, SECOND), Ok(-3));
    testing::advance(SECOND / 2);
    assert_eq!(kv::get("n"), None);
    assert_eq!(kv::increment("n", 1, None), Ok(1));
}

#[test]
fn an_increment_of_something_else_is_refused() {
    kv::set("n", "one", None).unwrap();
    assert_eq!(kv::increment("n", 1, None), Err(kv::Error::NotANumber));
    kv::set("n", i64::MAX.to_string(), None).unwrap();
    assert_eq!(kv::increment("n", 1, None), Err(kv::Error::NotANumber));
    assert_eq!(kv::get("n"), Some(i64::MAX.to_string().into_bytes()));
}

#[test]
fn a_swap_happens_only_where_the_value_is_as_expected() {
    assert_eq!(kv::compare_and_swap("a", Some(b"1"), Some(b"2"), None), Ok(false));
    assert_eq!(kv::compare_and_swap("a", None, Some(b"1"), None), Ok(true));
    assert_eq!(kv::compare_and_swap("a", None, Some(b"2"), None), Ok(false));
    assert_eq!(kv::compare_and_swap("a", Some(b"1"), Some(b"2"), SECOND), Ok(true));
    assert_eq!(kv::get("a").as_deref(), Some(&b"2"[..]));
    assert_eq!(kv::compare_and_swap("a", Some(b"2"), None, None), Ok(true));
    assert_eq!(kv::get("a"), None);
}

#[test]
fn an_update_sees_what_is_there_and_says_what_is_there_now() {
    let append = |text: &str| {
        kv::update("a", SECOND, |current| {
            Some([current.unwrap_or_default(), text.into()].concat())
        })
    };
    assert_eq!(append("1"), Ok(Some(b"1".to_vec())));
    assert_eq!(append("2"), Ok(Some(b"12".to_vec())));
    testing::advance(SECOND);
    assert_eq!(append("3"), Ok(Some(b"3".to_vec())));
    assert_eq!(kv::update("a", None, |_| None), Ok(None));
    assert_eq!(kv::get("a"), None);
}

#[test]
fn an_update_is_made_again_on_what_another_instance_left_meanwhile() {
    let mut calls = 0;
    let updated = kv::update("a", None, |current| {
        calls += 1;
        if calls == 1 {
            kv::set("a", "theirs ", None).unwrap();
        }
        Some([current.unwrap_or_default(), b"ours".to_vec()].concat())
    });
    assert_eq!((updated, calls), (Ok(Some(b"theirs ours".to_vec())), 2));
}

#[test]
fn json_of_another_type_is_no_value_and_stays() {
    kv::set_json("a", &[1, 2], SECOND).unwrap();
    assert_eq!(kv::get_json::<Vec<u8>>("a"), Ok(Some(vec![1, 2])));
    assert_eq!(kv::get_json::<String>("a"), Err(kv::Error::NotJson));
    assert_eq!(
        kv::update_json("a", None, |_: Option<String>| None),
        Err(kv::Error::NotJson)
    );
    assert_eq!(kv::get("a").as_deref(), Some(&b"[1,2]"[..]));
    testing::advance(SECOND);
    assert_eq!(kv::get_json::<Vec<u8>>("a"), Ok(None));
}

#[test]
fn the_store_is_bounded_and_keeps_what_it_holds() {
    let (key, value) = ("k".repeat(1024), vec![0; 64 * 1024]);
    assert_eq!(kv::set(&key, &value, None), Ok(()));
    assert_eq!(kv::set(&(key + "k"), "", None), Err(kv::Error::TooLarge));
    assert_eq!(kv::set("a", vec![0; 64 * 1024 + 1], None), Err(kv::Error::TooLarge));
    testing::set_kv_capacity_bytes(64 * 1024 + 1024 + 3);
    assert_eq!(kv::set("ab", "1", SECOND), Ok(()));
    assert_eq!(kv::set("c", "", None), Err(kv::Error::Full));
    assert_eq!(kv::set("ab", "2", SECOND), Ok(()));
    assert_eq!(kv::get("ab").as_deref(), Some(&b"2"[..]));
    testing::advance(SECOND);
    assert_eq!(kv::set("c", "12", None), Ok(()));
}

#[test]
fn counters_take_64_valid_names() {
    for name in ["", "Upper", "with-dash", "ä", &"a".repeat(65)] {
        counters::add(name, 1);
        assert_eq!(testing::counter(name), 0, "{name}");
    }
    (0..70).for_each(|number| counters::add(&format!("c_{number}"), number));
    assert_eq!((testing::counter("c_63"), testing::counter("c_64")), (63, 0));
    counters::add("c_63", u64::MAX);
    assert_eq!(testing::counter("c_63"), u64::MAX);
}

#[test]
fn the_clock_stands_where_the_test_puts_it() {
    assert_eq!(clock::now_ms(), 0);
    testing::set_clock_ms(1_700_000_000_000);
    testing::advance(SECOND);
    assert_eq!(clock::now_ms(), 1_700_000_001_000);
}

#[test]
fn lines_are_kept_with_their_levels_until_they_are_looked_at() {
    log::error!("a {}", 1);
    log::trace!("b");
    let lines = testing::log_lines_with_levels();
    assert_eq!(
        lines,
        [
            (log::Level::Error, "a 1".to_owned()),
            (log::Level::Trace, "b".to_owned())
        ]
    );
    assert!(testing::log_lines().is_empty());
}

#[test]
fn random_bytes_differ_and_are_as_many_as_asked_for() {
    let (first, second) = (random::bytes(16), random::bytes(16));
    assert_eq!((first.len(), random::bytes(0).len()), (16, 0));
    assert_ne!(first, second);
}
