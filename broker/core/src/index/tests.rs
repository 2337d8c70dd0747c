use super::{Index, MAX_HOT_EXACT_SHAPES_PER_DEPTH, MAX_HOT_OPEN_SHAPES};
use nervewire_codec::topic;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn found(index: &Index<u32>, topic: &str) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    index.matches(topic, &mut |subscriber, value| found.push((subscriber, *value)));
    found.sort_unstable();
    found
}

/// One subscriber per filter, numbered in order; which of them does the topic find?
fn check(filters: &[&str], topic: &str, expected: &[u32]) {
    let mut index = Index::new();
    for (subscriber, filter) in (0..).zip(filters) {
        assert_eq!(index.insert(filter, subscriber, subscriber).replaced, None, "{filter}");
    }
    let expected: Vec<_> = expected.iter().map(|&n| (n, n)).collect();
    assert_eq!(found(&index, topic), expected, "{topic} among {filters:?}");
}

#[test]
fn finds_what_the_specification_says() {
    let sport = [
        "sport/tennis/player1/#",
        "sport/#",
        "#",
        "+/+",
        "/+",
        "+",
        "sport/+",
        "sport/+/player1",
    ];
    check(&sport, "sport/tennis/player1", &[0, 1, 2, 7]);
    check(&sport, "sport/tennis/player1/ranking", &[0, 1, 2]);
    check(&sport, "sport", &[1, 2, 5]);
    check(&sport, "sport/", &[1, 2, 3, 6]);
    check(&sport, "/finance", &[2, 3, 4]);
    let dollar = [
        "#",
        "+/monitor/Clients",
        "$SYS/#",
        "$SYS/monitor/+",
        "+",
        "$SYS/+/Clients",
    ];
    check(&dollar, "$SYS/monitor/Clients", &[2, 3, 5]);
    check(&dollar, "$SYS", &[2]);
    check(&["a/b", "b/a", "+/a", "a/+"], "a/b", &[0, 3]);
    check(&["/", "//", "+/+/", "#"], "//", &[1, 2, 3]);
    check(&["A", "a", "a ", "ä"], "ä", &[3]);
}

#[test]
fn replaces_and_removes_by_filter_and_subscriber() {
    let mut index = Index::new();
    for filter in ["a/b", "a/+"] {
        assert_eq!(index.insert(filter, 7, 1).replaced, None);
        assert_eq!(index.insert(filter, 7, 2).replaced, Some(1));
        assert_eq!(index.insert(filter, 8, 3).replaced, None);
    }
    assert_eq!((index.len(), index.filters()), (4, 2));
    assert_eq!(found(&index, "a/b"), [(7, 2), (7, 2), (8, 3), (8, 3)]);
    assert_eq!(index.remove("a/+", 9), None);
    assert_eq!(index.remove("a/#", 7), None);
    assert_eq!(index.remove("a/+", 7), Some(2));
    assert_eq!(index.remove("a/+", 7), None);
    assert_eq!(found(&index, "a/b"), [(7, 2), (8, 3), (8, 3)]);
    assert_eq!((index.len(), index.filters()), (3, 2));
}

#[test]
fn one_filter_holds_any_number_of_subscribers() {
    let mut index = Index::new();
    for subscriber in (0..20_000).rev() {
        assert_eq!(index.insert("room/+", subscriber, subscriber).replaced, None);
    }
    assert_eq!(index.insert("room/+", 4_711, 1).replaced, Some(4_711));
    assert_eq!(
        (index.len(), index.filters(), found(&index, "room/7").len()),
        (20_000, 1, 20_000)
    );
    for subscriber in 1..20_000 {
        assert!(index.remove("room/+", subscriber).is_some());
    }
    assert_eq!(found(&index, "room/7"), [(0, 0)]);
    assert_eq!(index.remove("room/+", 0), Some(0));
    assert_is_bare(&index);
}

/// Nothing is left, not even an empty table.
fn assert_is_bare(index: &Index<u32>) {
    assert!(index.is_empty());
    assert_eq!((index.len(), index.filters()), (0, 0));
    assert_eq!(index.shapes.live(), (0, 0, 0));
}

/// Every filter that has `+` where the bits say, over the levels a0/a1/...
fn filter_of(bits: usize, levels: usize, end: &str) -> String {
    let level = |at| {
        if bits >> at & 1 == 1 {
            "+".to_owned()
        } else {
            format!("a{at}")
        }
    };
    let levels: Vec<_> = (0..levels).map(level).collect();
    levels.join("/") + end
}

#[test]
fn more_shapes_than_are_probed_are_found_by_the_trie() {
    let mut index = Index::new();
    for bits in 0..256 {
        for (subscriber, end) in [(0, ""), (1, "/#"), (2, "/x"), (3, "/x/#")] {
            index.insert(&filter_of(bits, 8, end), subscriber * 1_000 + bits as u32, 0);
        }
    }
    let topic = filter_of(0, 8, "");
    assert_eq!(found(&index, &topic).len(), 512);
    assert_eq!(found(&index, &(topic.clone() + "/x")).len(), 768);
    assert_eq!(found(&index, &(topic.clone() + "/y")).len(), 256);
    assert_eq!(found(&index, "a0/a1").len(), 0);
    let (shapes, hot, prefixes) = index.shapes.live();
    let most_hot = 2 * MAX_HOT_EXACT_SHAPES_PER_DEPTH + MAX_HOT_OPEN_SHAPES;
    assert_eq!((shapes, hot), (4 * 256, most_hot));
    assert!(prefixes > 0);
    for bits in 0..256 {
        for (subscriber, end) in [(0, ""), (1, "/#"), (2, "/x"), (3, "/x/#")] {
            assert_eq!(
                index.remove(&filter_of(bits, 8, end), subscriber * 1_000 + bits as u32),
                Some(0)
            );
        }
    }
    assert_is_bare(&index);
}

#[test]
fn a_populous_shape_displaces_a_rare_one_from_the_hot_shapes() {
    let mut index = Index::new();
    let shapes = 2 * MAX_HOT_OPEN_SHAPES;
    for bits in 0..shapes {
        index.insert(&filter_of(bits, 7, "/#"), 0, 0);
    }
    let prefixes_before = index.shapes.live().2;
    for device in 0..1_000 {
        index.insert(&format!("fleet/{device}/+/+/+/+/+/#"), device, 1);
    }
    let (live, hot, prefixes) = index.shapes.live();
    assert_eq!(
        (live, hot),
        (shapes, MAX_HOT_OPEN_SHAPES),
        "the fleet's shape was among them"
    );
    assert!(
        prefixes <= prefixes_before + 8,
        "its thousand filters are not in the trie: {prefixes}"
    );
    assert_eq!(found(&index, "fleet/17/a/b/c/d/e/f"), [(0, 0), (17, 1)]);
    assert_eq!(found(&index, "a0/a1/a2/a3/a4/a5/a6").len(), shapes);
}

#[test]
fn filters_of_the_greatest_depth_are_found() {
    let deep = vec!["a"; topic::MAX_TOPIC_LEVELS].join("/");
    let all_plus = vec!["+"; topic::MAX_TOPIC_LEVELS].join("/");
    let last_plus = deep[..deep.len() - 1].to_owned() + "+";
    check(&[&deep, &all_plus, &last_plus, "a/#"], &deep, &[0, 1, 2, 3]);
}

#[test]
fn filters_of_every_length_are_found() {
    let mut index = Index::new();
    let filter = |length: usize| "é".repeat(length / 2) + &"a".repeat(length % 2) + "/+";
    for length in 0..100 {
        index.insert(&filter(length), length as u32, 0);
    }
    for length in 0..100 {
        let topic = filter(length).replace('+', "x");
        assert_eq!(found(&index, &topic), [(length as u32, 0)], "{topic}");
        assert_eq!(index.insert(&filter(length), length as u32, 0).replaced, Some(0));
    }
}

/// Of a storm: filters of several shapes, some of them long, and a topic that only the filter of this number matches.
fn stormy(n: u32) -> (String, String) {
    match n % 4 {
        0 => (format!("s/{n}"), format!("s/{n}")),
        1 => (format!("s/{n}/+"), format!("s/{n}/x")),
        2 => (format!("+/s/{n}/#"), format!("x/s/{n}/y")),
        _ => {
            let long = format!("a-level-of-more-than-sixteen-bytes/another-one-of-those/{n}");
            (format!("+/{long}"), format!("x/{long}"))
        }
    }
}

#[test]
fn storms_of_subscriptions_leave_those_that_stay_and_no_space() {
    const FILTERS: u32 = 40_000;
    let mut index = Index::new();
    for (kept_of, check_every) in [(100, 97), (FILTERS, 1_009), (3, 11)] {
        for n in 0..FILTERS {
            index.insert(&stormy(n).0, n, n);
        }
        assert_eq!((index.len(), index.filters()), (FILTERS as usize, FILTERS as usize));
        // An order that has nothing to do with that of the insertions.
        for n in (0..FILTERS).map(|n| n * 7_919 % FILTERS).filter(|n| n % kept_of != 0) {
            assert_eq!(index.remove(&stormy(n).0, n), Some(n));
        }
        for n in (0..FILTERS).step_by(check_every) {
            let expected = if n % kept_of == 0 { vec![(n, n)] } else { vec![] };
            assert_eq!(found(&index, &stormy(n).1), expected, "{n}");
        }
    }
    for n in (0..FILTERS).step_by(3) {
        assert_eq!(index.remove(&stormy(n).0, n), Some(n));
    }
    assert_is_bare(&index);
}

#[test]
fn a_filter_keeps_its_number_until_its_last_subscription_goes() {
    let mut index = Index::new();
    let first = index.insert("a/+", 1, 10).filter;
    for n in 0..5_000 {
        index.insert(&format!("a/+/{n}"), 1, n);
    }
    assert_eq!(index.insert("a/+", 2, 20).filter, first);
    index.remove("a/+", 1);
    assert_eq!(index.value_mut(first, 1), None);
    assert_eq!((index.text(first), index.get("a/+", 2)), ("a/+", Some(&20)));
    *index.value_mut(first, 2).expect("a subscription") = 21;
    assert_eq!(found(&index, "a/b"), [(2, 21)]);
    index.remove("a/+", 2);
    assert_eq!((index.text(first), index.get("a/+", 2)), ("", None));
}

fn level(wildcards: bool) -> impl Strategy<Value = &'static str> {
    let levels: &[&str] = if wildcards {
        &["a", "b", "", "$s", "+", "+", "é"]
    } else {
        &["a", "b", "", "$s", "é"]
    };
    prop::sample::select(levels.to_vec())
}

/// Neither topic names nor filters are empty.
fn not_empty(topic: String) -> String {
    if topic.is_empty() { "a".to_owned() } else { topic }
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(level(false), 1..6).prop_map(|levels| not_empty(levels.join("/")))
}

fn filters() -> impl Strategy<Value = String> {
    (prop::collection::vec(level(true), 0..6), any::<bool>()).prop_map(|(mut levels, open)| {
        if open || levels.is_empty() {
            levels.push("#");
        }
        not_empty(levels.join("/"))
    })
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String, u32, u32),
    Remove(String, u32),
    /// Removes one of those that are there.
    RemoveAny(prop::sample::Index),
    Match(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (filters(), 0..4u32, any::<u32>()).prop_map(|(filter, subscriber, value)| Step::Insert(filter, subscriber, value)),
        1 => (filters(), 0..4u32).prop_map(|(filter, subscriber)| Step::Remove(filter, subscriber)),
        2 => any::<prop::sample::Index>().prop_map(Step::RemoveAny),
        4 => topics().prop_map(Step::Match),
    ];
    prop::collection::vec(step, 1..400)
}

type Naive = BTreeMap<(String, u32), u32>;

fn naive_found(naive: &Naive, name: &str) -> Vec<(u32, u32)> {
    let matching = naive.iter().filter(|((filter, _), _)| topic::matches(filter, name));
    let mut found: Vec<_> = matching.map(|((_, subscriber), value)| (*subscriber, *value)).collect();
    found.sort_unstable();
    found
}

proptest! {
    #[test]
    fn answers_as_a_naive_matcher_does(steps in steps()) {
        let (mut index, mut naive) = (Index::new(), Naive::new());
        for step in steps {
            match step {
                Step::Insert(filter, subscriber, value) => {
                    let replaced = naive.insert((filter.clone(), subscriber), value);
                    prop_assert_eq!(index.insert(&filter, subscriber, value).replaced, replaced);
                }
                Step::Remove(filter, subscriber) => {
                    let removed = naive.remove(&(filter.clone(), subscriber));
                    prop_assert_eq!(index.remove(&filter, subscriber), removed);
                }
                Step::RemoveAny(at) if !naive.is_empty() => {
                    let (filter, subscriber) = at.get(&naive.keys().cloned().collect::<Vec<_>>()).clone();
                    let removed = naive.remove(&(filter.clone(), subscriber));
                    prop_assert_eq!(index.remove(&filter, subscriber), removed);
                }
                Step::RemoveAny(_) => {}
                Step::Match(topic) => prop_assert_eq!(found(&index, &topic), naive_found(&naive, &topic)),
            }
            prop_assert_eq!(index.len(), naive.len());
        }
        for (filter, subscriber) in naive.keys() {
            prop_assert!(index.remove(filter, *subscriber).is_some());
        }
        assert_is_bare(&index);
    }
}
