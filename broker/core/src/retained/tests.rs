use super::*;
use crate::hook::AppMessage;
use nervewire_codec::{QoS, Utf8String, topic};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn message(topic: &str, payload: &str, expires_at: Option<Millis>) -> Arc<Message> {
    let topic = Utf8String::try_from(topic).unwrap();
    let payload = payload.to_owned().into();
    let app = AppMessage {
        topic,
        payload,
        qos: QoS::AtMostOnce,
        retain: true,
        properties: None,
    };
    Arc::new(Message {
        id: 0,
        app,
        expires_at,
        accepted_at: 0,
        publisher: None,
        tenant: None,
        source: None,
    })
}

fn unbounded() -> Retained {
    Retained::new(usize::MAX, usize::MAX)
}

fn found(retained: &Retained, filter: &str, now: Millis) -> Vec<String> {
    let mut found = Vec::new();
    retained.matching(filter, now, &mut |message| found.push(message.app.topic.to_string()));
    found.sort_unstable();
    found
}

#[test]
fn filters_find_what_they_match() {
    let topics = ["a", "a/b", "a/b/c", "a/", "/", "b/b", "$SYS/a", "$SYS", "a/$x"];
    let mut retained = unbounded();
    for topic in topics {
        assert_eq!(retained.set(message(topic, "x", None)), SetOutcome::Added);
    }
    let check = |filter, expected: &[&str]| assert_eq!(found(&retained, filter, 0), expected, "{filter}");
    check("a", &["a"]);
    check("a/b", &["a/b"]);
    check("b", &[]);
    check("a/b/c/d", &[]);
    check("#", &["/", "a", "a/", "a/$x", "a/b", "a/b/c", "b/b"]);
    check("+", &["a"]);
    check("a/#", &["a", "a/", "a/$x", "a/b", "a/b/c"]);
    check("a/+", &["a/", "a/$x", "a/b"]);
    check("+/b", &["a/b", "b/b"]);
    check("+/b/#", &["a/b", "a/b/c", "b/b"]);
    check("/+", &["/"]);
    check("+/+", &["/", "a/", "a/$x", "a/b", "b/b"]);
    check("$SYS/#", &["$SYS", "$SYS/a"]);
    check("$SYS/+", &["$SYS/a"]);
    check("c/#", &[]);
}

#[test]
fn the_last_message_of_a_topic_is_kept() {
    let mut retained = unbounded();
    assert_eq!(retained.set(message("a/b", "1", Some(10))), SetOutcome::Added);
    assert_eq!(retained.set(message("a/b", "22", None)), SetOutcome::Replaced);
    let mut payloads = Vec::new();
    retained.matching("a/+", 100, &mut |message| payloads.push(message.app.payload.clone()));
    assert_eq!(payloads, ["22"]);
    assert_eq!(
        retained.purge_expired(100, 10),
        0,
        "the expiry went with the message it was of"
    );
    assert!(!retained.remove("a"));
    assert!(retained.remove("a/b"));
    assert!(!retained.remove("a/b"));
    assert_is_bare(&retained);
}

/// Nothing is left, not even a level.
fn assert_is_bare(retained: &Retained) {
    assert!(retained.is_empty());
    assert_eq!(
        (
            retained.len(),
            retained.bytes(),
            retained.tree.nodes(),
            retained.expiries.len()
        ),
        (0, 0, 0, 0)
    );
}

#[test]
fn expired_messages_are_not_found_and_go_a_few_at_a_time() {
    let mut retained = unbounded();
    for n in 0..10 {
        retained.set(message(&format!("a/{n}"), "x", Some(100 + n)));
    }
    retained.set(message("a/forever", "x", None));
    assert_eq!(found(&retained, "a/#", 99).len(), 11);
    assert_eq!(found(&retained, "a/#", 104).len(), 6);
    assert_eq!(found(&retained, "a/4", 104).len(), 0);
    assert_eq!(found(&retained, "a/5", 104).len(), 1);
    assert_eq!(retained.len(), 11);
    assert_eq!(retained.purge_expired(104, 3), 3);
    assert_eq!(retained.purge_expired(104, 3), 2);
    assert_eq!(retained.purge_expired(104, 3), 0);
    assert_eq!((retained.len(), found(&retained, "a/#", 104).len()), (6, 6));
    assert_eq!(retained.purge_expired(Millis::MAX, 100), 5);
    assert_eq!(found(&retained, "#", Millis::MAX), ["a/forever"]);
}

#[test]
fn the_bound_in_messages_holds() {
    let mut retained = Retained::new(2, usize::MAX);
    let mut check = |topic, expected| assert_eq!(retained.set(message(topic, "x", None)), expected, "{topic}");
    check("a", SetOutcome::Added);
    check("b", SetOutcome::Added);
    check("c", SetOutcome::Full);
    check("a", SetOutcome::Replaced);
    assert!(retained.remove("b"));
    assert_eq!(retained.set(message("c", "x", None)), SetOutcome::Added);
    assert_eq!(found(&retained, "#", 0), ["a", "c"]);
}

#[test]
fn the_bound_in_bytes_holds() {
    let one = retained_bytes(&message("a", "0123456789", None));
    let mut retained = Retained::new(usize::MAX, 2 * one);
    assert_eq!(retained.set(message("a", "0123456789", None)), SetOutcome::Added);
    assert_eq!(retained.set(message("b", "0123456789", None)), SetOutcome::Added);
    assert_eq!(retained.bytes(), 2 * one);
    assert_eq!(retained.set(message("c", "", None)), SetOutcome::Full);
    assert_eq!(retained.set(message("b", "0123456789+", None)), SetOutcome::Full);
    assert_eq!(retained.set(message("b", "012345678", None)), SetOutcome::Replaced);
    assert_eq!(retained.bytes(), 2 * one - 1);
    assert_eq!(retained.set(message("a", "0123456789+", None)), SetOutcome::Replaced);
}

#[test]
fn a_deep_topic_is_accounted_with_its_levels() {
    let mut retained = unbounded();
    retained.set(message(&"/".repeat(100), "x", None));
    assert!(retained.bytes() > 101 * LEVEL_BYTES);
    assert_eq!(found(&retained, "#", 0).len(), 1);
    assert!(retained.remove(&"/".repeat(100)));
    assert_is_bare(&retained);
}

fn level(levels: &'static [&str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(levels)
}

/// Neither topic names nor filters are empty.
fn not_empty(topic: String) -> String {
    if topic.is_empty() { "a".to_owned() } else { topic }
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(level(&["a", "b", "", "$s", "é"]), 1..5).prop_map(|levels| not_empty(levels.join("/")))
}

fn filters() -> impl Strategy<Value = String> {
    (
        prop::collection::vec(level(&["a", "b", "", "$s", "+", "+"]), 0..5),
        any::<bool>(),
    )
        .prop_map(|(mut levels, open)| {
            levels.extend(open.then_some("#"));
            not_empty(levels.join("/"))
        })
}

#[derive(Clone, Debug)]
enum Step {
    Set(String, Option<Millis>),
    Remove(String),
    Purge(usize),
    Match(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (topics(), prop::option::of(0..400u64)).prop_map(|(topic, expires_at)| Step::Set(topic, expires_at)),
        2 => topics().prop_map(Step::Remove),
        1 => (0..5usize).prop_map(Step::Purge),
        4 => filters().prop_map(Step::Match),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn answers_as_a_naive_map_does(steps in steps()) {
        const MAX_MESSAGES: usize = 30;
        let mut retained = Retained::new(MAX_MESSAGES, usize::MAX);
        let mut naive: BTreeMap<String, Arc<Message>> = BTreeMap::new();
        for (now, step) in (0..).zip(steps) {
            match step {
                Step::Set(topic, expires_at) => {
                    let expected = match (naive.contains_key(&topic), naive.len() < MAX_MESSAGES) {
                        (true, _) => SetOutcome::Replaced,
                        (false, true) => SetOutcome::Added,
                        (false, false) => SetOutcome::Full,
                    };
                    let message = message(&topic, "x", expires_at);
                    prop_assert_eq!(retained.set(message.clone()), expected);
                    if expected != SetOutcome::Full {
                        naive.insert(topic, message);
                    }
                }
                Step::Remove(topic) => prop_assert_eq!(retained.remove(&topic), naive.remove(&topic).is_some()),
                Step::Purge(budget) => {
                    let expired = naive.values().filter(|message| message.is_expired(now)).count();
                    prop_assert_eq!(retained.purge_expired(now, budget), expired.min(budget));
                    naive.retain(|topic, _| retained.tree.find(topic).is_some());
                }
                Step::Match(filter) => {
                    let live = naive.iter().filter(|(_, message)| !message.is_expired(now));
                    let matching = live.map(|(topic, _)| topic.clone()).filter(|topic| topic::matches(&filter, topic));
                    prop_assert_eq!(found(&retained, &filter, now), matching.collect::<Vec<_>>(), "{}", filter);
                }
            }
            prop_assert_eq!(retained.len(), naive.len());
            prop_assert_eq!(retained.bytes(), naive.values().map(|message| retained_bytes(message)).sum::<usize>());
        }
        naive.keys().for_each(|topic| assert!(retained.remove(topic)));
        assert_is_bare(&retained);
    }
}
