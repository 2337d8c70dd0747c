use super::*;

#[test]
fn topic_names_are_validated() {
    let check = |name: &str, expected: Result<(), TopicError>| {
        assert_eq!(validate_topic_name(name), expected, "{name:?}");
    };
    check("a", Ok(()));
    check("/", Ok(())); // two empty levels
    check("a//b/", Ok(()));
    check("$SYS/broker", Ok(()));
    check("sensor/größe/🦀", Ok(()));
    check("with space", Ok(()));
    check("", Err(TopicError::Empty)); // [MQTT-4.7.3-1]
    check("a/+", Err(TopicError::WildcardInName)); // [MQTT-3.3.2-2]
    check("a#", Err(TopicError::WildcardInName));
    check("a\0b", Err(TopicError::String(StringError::NullCharacter))); // [MQTT-4.7.3-2]
    check(&"x/".repeat(127), Ok(()));
    check(&"x/".repeat(128), Err(TopicError::TooManyLevels));
    check(&"x".repeat(65_535), Ok(()));
    check(&"x".repeat(65_536), Err(TopicError::String(StringError::TooLong))); // [MQTT-4.7.3-3]
}

#[test]
fn topic_filters_are_validated() {
    let check = |filter: &str, expected: Result<(), TopicError>| {
        assert_eq!(validate_topic_filter(filter), expected, "{filter:?}");
    };
    for valid in [
        "#",
        "+",
        "a/#",
        "a/+/b",
        "+/+",
        "/+",
        "+/",
        "a//#",
        "$SYS/#",
        "/",
        "$share",
        "$shared/a",
    ] {
        check(valid, Ok(()));
    }
    check("", Err(TopicError::Empty));
    check("#/a", Err(TopicError::MultiLevelNotLast)); // [MQTT-4.7.1-1]
    check("a/#/b", Err(TopicError::MultiLevelNotLast));
    check("#/", Err(TopicError::MultiLevelNotLast));
    check("a#", Err(TopicError::WildcardInsideLevel));
    check("a/#b", Err(TopicError::WildcardInsideLevel));
    check("a+", Err(TopicError::WildcardInsideLevel)); // [MQTT-4.7.1-2]
    check("++", Err(TopicError::WildcardInsideLevel));
    check("a/b+/c", Err(TopicError::WildcardInsideLevel));
    check("a\0", Err(TopicError::String(StringError::NullCharacter)));
    check(&"+/".repeat(127), Ok(()));
    check(&"+/".repeat(128), Err(TopicError::TooManyLevels));
}

#[test]
fn shared_filters_are_validated_and_split() {
    let check = |filter: &str, expected: Result<(), TopicError>| {
        assert_eq!(validate_topic_filter(filter), expected, "{filter:?}");
    };
    check("$share/g/a/+", Ok(()));
    check("$share/g//", Ok(()));
    check("$share/g/#", Ok(()));
    check("$share//a", Err(TopicError::ShareName)); // [MQTT-4.8.2-1]
    check("$share/", Err(TopicError::ShareName));
    check("$share/+/a", Err(TopicError::ShareName)); // [MQTT-4.8.2-2]
    check("$share/g#/a", Err(TopicError::ShareName));
    check("$share/g", Err(TopicError::SharedFilterMissing));
    check("$share/g/", Err(TopicError::SharedFilterMissing));
    check("$share/g/a#", Err(TopicError::WildcardInsideLevel));
    check("$share/g/#/a", Err(TopicError::MultiLevelNotLast));
    assert_eq!(
        SharedFilter::parse("$share/g/a/b"),
        Some(SharedFilter {
            group: "g",
            filter: "a/b"
        })
    );
    for other in ["a/b", "$share", "$share/g", "$share//a", "$SYS/share/a", "x/$share/g/a"] {
        assert_eq!(SharedFilter::parse(other), None, "{other:?}");
    }
}

#[test]
fn examples_of_the_specification_match() {
    let check = |filter: &str, topic: &str, expected: bool| {
        assert_eq!(matches(filter, topic), expected, "{filter:?} {topic:?}");
    };
    check("sport/tennis/player1/#", "sport/tennis/player1", true); // 4.7.1.2
    check("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
    check("sport/#", "sport", true);
    check("sport/tennis/+", "sport/tennis/player1", true); // 4.7.1.3
    check("sport/tennis/+", "sport/tennis/player1/ranking", false);
    check("sport/+", "sport", false);
    check("sport/+", "sport/", true);
    check("+/+", "/finance", true);
    check("/+", "/finance", true);
    check("+", "/finance", false);
    check("#", "$SYS/monitor", false); // [MQTT-4.7.2-1]
    check("+/monitor/Clients", "$SYS/monitor/Clients", false);
    check("$SYS/#", "$SYS/monitor", true);
    check("$SYS/monitor/+", "$SYS/monitor/Clients", true);
    check("ACCOUNTS", "Accounts", false); // [MQTT-4.7.3-4]
}

/// The definition of matching, without any care for speed.
fn naive_matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && levels(filter, topic),
            _ => false,
        }
    }
    let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    let hidden = topic[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#");
    !hidden && levels(&filter, &topic)
}

/// All strings of one to `depth` levels from `alphabet` that `valid` accepts.
fn enumerate(alphabet: &[&str], depth: usize, valid: impl Fn(&str) -> bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut longest: Vec<String> = alphabet.iter().map(|level| level.to_string()).collect();
    for _ in 0..depth {
        all.extend(longest.iter().filter(|s| valid(s)).cloned());
        longest = longest
            .iter()
            .flat_map(|s| alphabet.iter().map(move |level| format!("{s}/{level}")))
            .collect();
    }
    all
}

/// Filters of up to three levels, and topics one level deeper with a level that no filter names: whatever two such filters
/// disagree about, one of these topics shows it.
fn filters_and_topics() -> (Vec<String>, Vec<String>) {
    let filters = enumerate(&["a", "$b", "", "+", "#"], 3, |f| validate_topic_filter(f).is_ok());
    let topics = enumerate(&["a", "$b", "", "other", "$other"], 4, |t| {
        validate_topic_name(t).is_ok()
    });
    (filters, topics)
}

#[test]
fn matching_follows_its_definition() {
    let (filters, topics) = filters_and_topics();
    assert!(filters.len() > 60 && topics.len() > 700);
    for filter in &filters {
        for topic in &topics {
            assert_eq!(
                matches(filter, topic),
                naive_matches(filter, topic),
                "{filter:?} {topic:?}"
            );
        }
    }
}

#[test]
fn covering_and_overlapping_are_what_matching_makes_them() {
    let (filters, topics) = filters_and_topics();
    let selected: Vec<Vec<bool>> = filters
        .iter()
        .map(|filter| topics.iter().map(|topic| naive_matches(filter, topic)).collect())
        .collect();
    for (a, by_a) in filters.iter().zip(&selected) {
        for (b, by_b) in filters.iter().zip(&selected) {
            let mut pairs = by_a.iter().zip(by_b);
            assert_eq!(covers(a, b), pairs.clone().all(|(a, b)| *a || !b), "{a:?} covers {b:?}");
            assert_eq!(overlaps(a, b), pairs.any(|(a, b)| *a && *b), "{a:?} overlaps {b:?}");
        }
    }
}
