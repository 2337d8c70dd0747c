use super::Throttle;
use crate::held::{Held, Period};
use nervewire_plugin_sdk::{prelude::*, testing};
use std::time::Duration;

const RULES: &str =
    r##""rules": [{"match": "car/+/position", "period_ms": 1000}, {"match": "car/#", "period_ms": 5000}]"##;

fn load(keys: &str) -> Throttle {
    if clock::now_ms() == 0 {
        testing::set_clock_ms(1_700_000_000_000);
    }
    testing::load(&format!("{{{RULES}{keys}}}")).unwrap()
}

fn send(plugin: &mut Throttle, message: Message) -> Transformation {
    plugin.transform(&testing::client("car"), message)
}

#[track_caller]
fn passes(plugin: &mut Throttle, topic: &str, payload: &str) {
    let message = Message::new(topic, payload);
    assert_eq!(send(plugin, message), Transformation::Pass, "{topic} {payload}");
}

#[track_caller]
fn is_held(plugin: &mut Throttle, topic: &str, payload: &str) {
    let message = Message::new(topic, payload);
    assert_eq!(send(plugin, message), Transformation::Drop, "{topic} {payload}");
}

/// Lets time pass, ticks, and expects these payloads.
#[track_caller]
fn after(plugin: &mut Throttle, milliseconds: u64, expected: &[&str]) {
    testing::advance(Duration::from_millis(milliseconds));
    let published = plugin.tick(clock::now_ms());
    let payloads: Vec<_> = published.iter().map(|message| message.payload_str().unwrap()).collect();
    assert_eq!(payloads, expected);
}

#[test]
fn the_first_passes_and_the_last_of_the_others_follows() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    is_held(&mut plugin, "car/1/position", "b");
    is_held(&mut plugin, "car/1/position", "c");
    after(&mut plugin, 999, &[]);
    is_held(&mut plugin, "car/1/position", "d");
    after(&mut plugin, 1, &["d"]);
    // What was published began a period, too.
    is_held(&mut plugin, "car/1/position", "e");
    after(&mut plugin, 1000, &["e"]);
    after(&mut plugin, 1000, &[]);
    passes(&mut plugin, "car/1/position", "f");
    assert_eq!(
        ["first", "held", "superseded", "published"].map(testing::counter),
        [2, 4, 2, 2]
    );
}

#[test]
fn topics_and_periods_are_apart() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    passes(&mut plugin, "car/2/position", "a");
    passes(&mut plugin, "car/1/fuel", "a");
    is_held(&mut plugin, "car/1/fuel", "fuel");
    is_held(&mut plugin, "car/2/position", "two");
    is_held(&mut plugin, "car/1/position", "one");
    passes(&mut plugin, "truck/1", "a");
    passes(&mut plugin, "truck/1", "b");
    after(&mut plugin, 1000, &["one", "two"]);
    after(&mut plugin, 4000, &["fuel"]);
}

#[test]
fn instances_share_what_they_hold() {
    let (mut one, mut other) = (load(""), load(""));
    passes(&mut one, "car/1/position", "a");
    is_held(&mut other, "car/1/position", "b");
    is_held(&mut one, "car/1/position", "c");
    let mut ticking = load("");
    after(&mut ticking, 1000, &["c"]);
    // The one that ticks may be another one the next time.
    is_held(&mut other, "car/1/position", "d");
    after(&mut other, 1000, &["d"]);
}

#[test]
fn a_message_is_published_as_it_came() {
    let mut plugin = load(r#", "qos0_only": false"#);
    let message = Message {
        correlation_data: Some(vec![0, 255]),
        response_topic: Some("r".to_owned()),
        ..Message::new("car/1/position", vec![0, 1, 255])
            .qos(Qos::ExactlyOnce)
            .retained()
            .content_type("x/y")
            .expires_after_seconds(60)
            .user_property("a", "b")
    };
    passes(&mut plugin, "car/1/position", "a");
    assert_eq!(send(&mut plugin, message.clone()), Transformation::Drop);
    testing::advance(Duration::from_secs(2));
    let expected = Message {
        message_expiry_seconds: Some(58),
        ..message
    };
    assert_eq!(plugin.tick(clock::now_ms()), [expected]);
}

#[test]
fn a_message_that_expires_while_it_is_held_is_not_published() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/fuel", "a");
    let message = Message::new("car/1/fuel", "b").expires_after_seconds(3);
    assert_eq!(send(&mut plugin, message), Transformation::Drop);
    after(&mut plugin, 5000, &[]);
    assert_eq!((testing::counter("expired"), testing::counter("published")), (1, 0));
}

/// Their acknowledgement would promise what nobody keeps. What was held before them must not come after them.
#[test]
fn qos_1_and_2_pass_and_take_the_place_of_what_is_held() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    is_held(&mut plugin, "car/1/position", "b");
    let important = Message::new("car/1/position", "c").qos(Qos::AtLeastOnce);
    assert_eq!(send(&mut plugin, important), Transformation::Pass);
    after(&mut plugin, 1000, &[]);
    assert_eq!((testing::counter("passed_qos"), testing::counter("superseded")), (1, 1));
}

/// A tick publishes in the common name space only.
#[test]
fn messages_of_tenants_pass() {
    let mut plugin = load("");
    let client = Client {
        tenant: Some("t".to_owned()),
        ..testing::client("car")
    };
    for _ in 0..3 {
        assert_eq!(
            plugin.transform(&client, Message::new("car/1/position", "a")),
            Transformation::Pass
        );
    }
    assert_eq!(testing::counter("passed_tenant"), 3);
    passes(&mut plugin, "car/1/position", "a");
    assert_eq!(testing::counter("first"), 1);
}

#[test]
fn without_ticks_messages_pass_again() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    is_held(&mut plugin, "car/1/position", "b");
    testing::advance(Duration::from_millis(2_999));
    is_held(&mut plugin, "car/1/position", "c");
    testing::advance(Duration::from_millis(1));
    passes(&mut plugin, "car/1/position", "d");
    is_held(&mut plugin, "car/1/position", "e");
    assert_eq!(testing::counter("passed_late"), 1);
    // And nothing old comes after the new, when ticks come back.
    after(&mut plugin, 0, &[]);
    after(&mut plugin, 1000, &["e"]);
}

#[test]
fn a_clock_that_is_put_back_holds_nothing_up() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    is_held(&mut plugin, "car/1/position", "b");
    testing::set_clock_ms(clock::now_ms() - 3_600_000);
    after(&mut plugin, 0, &["b"]);
    is_held(&mut plugin, "car/1/position", "c");
    after(&mut plugin, 1000, &["c"]);
}

#[test]
fn topics_over_the_bound_pass() {
    let mut plugin = load(r#", "max_topics": 2"#);
    passes(&mut plugin, "car/1/position", "a");
    passes(&mut plugin, "car/2/position", "a");
    for _ in 0..3 {
        passes(&mut plugin, "car/3/position", "a");
    }
    is_held(&mut plugin, "car/1/position", "b");
    assert_eq!(testing::counter("passed_topics"), 3);
    after(&mut plugin, 1000, &["b"]);
    passes(&mut plugin, "car/3/position", "a");
    is_held(&mut plugin, "car/3/position", "b");
}

#[test]
fn a_full_store_lets_messages_pass_and_never_an_old_one_after_a_new_one() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    is_held(&mut plugin, "car/1/position", "b");
    testing::set_kv_capacity_bytes(200);
    let large = "x".repeat(500);
    passes(&mut plugin, "car/1/position", &large);
    after(&mut plugin, 1000, &[]);
    testing::set_kv_capacity_bytes(0);
    passes(&mut plugin, "car/2/position", "a");
    passes(&mut plugin, "car/2/position", "b");
    testing::set_kv_capacity_bytes(1_000_000);
    passes(&mut plugin, "car/2/position", "c");
    testing::advance(Duration::from_secs(1));
    passes(&mut plugin, "car/2/position", "d");
    is_held(&mut plugin, "car/2/position", "e");
    after(&mut plugin, 1000, &["e"]);
    assert_eq!(testing::counter("passed_full"), 4);
}

#[test]
fn messages_that_no_entry_can_hold_pass() {
    let mut plugin = load("");
    passes(&mut plugin, "car/1/position", "a");
    passes(&mut plugin, "car/1/position", &"x".repeat(70_000));
    let long = format!("car/{}/position", "x".repeat(2_000));
    passes(&mut plugin, &long, "a");
    passes(&mut plugin, &long, "b");
    is_held(&mut plugin, "car/1/position", "b");
    after(&mut plugin, 1000, &["b"]);
}

/// An instance that trapped between two steps leaves a number without an entry.
#[test]
fn gaps_in_the_queue_hold_nobody_up() {
    let mut plugin = load("");
    kv::increment("queue/1000/tail", 3, None).unwrap();
    passes(&mut plugin, "car/1/position", "a");
    kv::increment("queue/1000/tail", 2_000, None).unwrap();
    is_held(&mut plugin, "car/1/position", "b");
    after(&mut plugin, 1000, &["b"]);
    is_held(&mut plugin, "car/1/position", "c");
    // So many are passed over in several ticks.
    testing::advance(Duration::from_millis(1000));
    let published: Vec<_> = (0..3).flat_map(|_| plugin.tick(clock::now_ms())).collect();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].payload_str(), Some("c"));
}

#[test]
fn a_tick_publishes_so_many_and_the_rest_the_next_time() {
    testing::set_kv_capacity_bytes(16_000_000);
    let mut plugin = load("");
    for car in 0..300 {
        let topic = format!("car/{car}/position");
        passes(&mut plugin, &topic, "a");
        is_held(&mut plugin, &topic, "b");
    }
    testing::advance(Duration::from_secs(1));
    let counts = [0; 3].map(|_| plugin.tick(clock::now_ms()).len());
    assert_eq!(counts, [256, 44, 0]);
}

/// Nothing is left behind of topics that have gone quiet, but three numbers.
#[test]
fn quiet_topics_cost_nothing() {
    let mut plugin = load("");
    for round in 0..50 {
        for car in 0..20 {
            passes(&mut plugin, &format!("car/{car}/position"), "a");
            is_held(&mut plugin, &format!("car/{car}/position"), "b");
        }
        testing::advance(Duration::from_millis(1000));
        assert_eq!(plugin.tick(clock::now_ms()).len(), 20, "{round}");
        testing::advance(Duration::from_millis(1000));
        assert_eq!(plugin.tick(clock::now_ms()).len(), 0);
    }
    testing::set_kv_capacity_bytes(50);
    let error = kv::set("x", "y".repeat(40), None);
    assert_eq!(error, Err(kv::Error::Full));
    testing::set_kv_capacity_bytes(120);
    assert_eq!(kv::set("x", "y".repeat(40), None), Ok(()));
}

#[test]
fn entries_are_read_back_as_they_were_written() {
    let held = Held {
        since_ms: 7,
        message: Message::new("t", "payload").qos(Qos::AtLeastOnce),
    };
    for period in [
        Period::until(9),
        Period {
            due_ms: 9,
            held: Some(held),
        },
    ] {
        let bytes = period.encode().unwrap();
        assert_eq!(Period::decode("t", &bytes), Some(period));
        assert_eq!(Period::decode("t", &bytes[1..]), None);
        assert_eq!(Period::decode("t", &[1, 200]), None);
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let check = |config: &str, expected: &str| {
        let error = testing::load::<Throttle>(config).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(
        r##"{"rules": [{"match": "a/#/b", "period_ms": 1000}]}"##,
        "match = `a/#/b` is no topic filter",
    );
    check(
        r#"{"rules": [{"match": "a", "period_ms": 10}]}"#,
        "entry 1: period_ms = 10, write 100 to 3600000",
    );
    check(
        r#"{"rules": [], "max_topics": 0}"#,
        "config.max_topics = 0, write 1 to 30000",
    );
    check(r#"{"rules": [], "max_topics": 40000}"#, "write 1 to 30000");
    check(
        r#"{"rules": [], "tick_ms": 5}"#,
        "config.tick_ms = 5, write 10 to 60000",
    );
    check(r#"{"rules": [], "qos": 0}"#, "unknown field `qos`");
}

#[test]
fn it_asks_for_its_ticks() {
    assert_eq!(load("").tick_milliseconds(), Some(100));
    assert_eq!(load(r#", "tick_ms": 50"#).tick_milliseconds(), Some(50));
}
