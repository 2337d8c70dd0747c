use super::*;
use crate::testing;

fn check_matches(filter: &str, topic: &str, expected: bool) {
    assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
}

#[test]
fn filters_match_as_the_specification_says() {
    check_matches("a/b", "a/b", true);
    check_matches("a/b", "a/b/c", false);
    check_matches("a/b/c", "a/b", false);
    check_matches("a/+/c", "a/b/c", true);
    check_matches("a/+/c", "a//c", true);
    check_matches("a/+", "a", false);
    check_matches("+", "/a", false);
    check_matches("+/+", "/a", true);
    check_matches("a/#", "a", true);
    check_matches("a/#", "a/b/c", true);
    check_matches("a/#", "ab", false);
    check_matches("#", "/", true);
    check_matches("#", "$SYS/a", false);
    check_matches("+/a", "$SYS/a", false);
    check_matches("$SYS/#", "$SYS/a", true);
    check_matches("a/+", "a/$b", true);
}

/// All that can be made of these levels, up to three of them.
fn joined(levels: &[&str]) -> Vec<String> {
    let one = levels.iter().map(|level| (*level).to_owned());
    let longer = |shorter: &[String]| -> Vec<String> {
        let with = |first: &String| {
            levels
                .iter()
                .map(move |level| format!("{first}/{level}"))
                .collect::<Vec<_>>()
        };
        shorter.iter().flat_map(with).collect()
    };
    let one: Vec<String> = one.collect();
    let two = longer(&one);
    let three = longer(&two);
    [one, two, three].concat()
}

/// What the wildcards stand for, level by level; `None`: it does not match.
fn captured_by_levels<'a>(filter: &str, topic: &'a str) -> Option<Vec<Capture<'a>>> {
    let mut captured = Vec::new();
    let mut rest = (!hidden(filter, topic)).then_some(topic);
    rest?;
    for level in filter.split('/') {
        if level == "#" {
            captured.push(Capture::Rest(rest));
            return Some(captured);
        }
        let (first, tail) = first_level(rest?);
        match level {
            "+" => captured.push(Capture::Level(first)),
            _ if level != first => return None,
            _ => {}
        }
        rest = tail;
    }
    rest.is_none().then_some(captured)
}

#[test]
fn what_matches_and_what_is_captured_is_what_levels_say() {
    let filters = joined(&["", "a", "aä", "$a", "+", "#"]);
    let topics = joined(&["", "a", "aä", "$a"]);
    let mut matching = 0;
    for filter in filters.iter().filter(|filter| is_valid_filter(filter)) {
        for topic in topics.iter().filter(|topic| is_valid_name(topic)) {
            let mut captured = Vec::new();
            let is_match = captures(filter, topic, |capture| captured.push(capture));
            let captured = is_match.then_some(captured);
            assert_eq!(captured, captured_by_levels(filter, topic), "{filter} {topic}");
            assert_eq!(matches(filter, topic), is_match, "{filter} {topic}");
            matching += usize::from(is_match);
        }
    }
    assert!(matching > 500, "{matching}");
}

fn check_covers(wide: &str, narrow: &str, expected: bool) {
    assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
}

#[test]
fn a_filter_covers_another_when_it_matches_all_the_other_matches() {
    check_covers("a/#", "a", true);
    check_covers("a/#", "a/#", true);
    check_covers("a/#", "a/+/c", true);
    check_covers("a/+", "a/b", true);
    check_covers("a/+", "a/+", true);
    check_covers("a/+", "a/#", false);
    check_covers("a/+/#", "a/#", false);
    check_covers("a/b", "a/+", false);
    check_covers("#", "+/a", true);
    check_covers("+/#", "#", true);
    check_covers("#", "$SYS/#", false);
    check_covers("+/a", "$SYS/a", false);
    check_covers("$SYS/#", "$SYS/a", true);
    check_covers("a", "a/#", false);
}

#[test]
fn filters_overlap_where_some_topic_matches_both() {
    let check = |one, other, expected| {
        assert_eq!(overlaps(one, other), expected, "{one} {other}");
        assert_eq!(overlaps(other, one), expected, "{other} {one}");
    };
    check("a/b", "a/b", true);
    check("a/b", "a/c", false);
    check("a/+", "+/b", true);
    check("a/#", "a", true);
    check("a/#", "+/b/c", true);
    check("a/#", "b/#", false);
    check("a/+", "a", false);
    check("#", "a/b", true);
    check("#", "$SYS/#", false);
    check("+/a", "$SYS/a", false);
    check("$SYS/#", "$SYS/+", true);
}

fn captured<'a>(filter: &str, topic: &'a str) -> Option<Vec<Capture<'a>>> {
    let mut all = Vec::new();
    captures(filter, topic, |capture| all.push(capture)).then_some(all)
}

#[test]
fn wildcards_capture_what_they_stand_for() {
    use Capture::{Level, Rest};
    assert_eq!(
        captured("a/+/b/#", "a/1/b/2/3"),
        Some(vec![Level("1"), Rest(Some("2/3"))])
    );
    assert_eq!(captured("a/#", "a"), Some(vec![Rest(None)]));
    assert_eq!(captured("a/#", "a/"), Some(vec![Rest(Some(""))]));
    assert_eq!(captured("+/+", "/x"), Some(vec![Level(""), Level("x")]));
    assert_eq!(captured("a/+", "b/1"), None);
}

#[test]
fn names_and_filters_are_told_from_garbage() {
    for filter in ["#", "+", "a/#", "+/a/+", "/", "a//b", "$SYS/#"] {
        assert!(is_valid_filter(filter), "{filter}");
    }
    for filter in ["", "a#", "#/a", "a+/b", "a/+b", "a\0", "a/#/b"] {
        assert!(!is_valid_filter(filter), "{filter}");
    }
    assert!(is_valid_name("a/b") && !is_valid_name("a/+") && !is_valid_name(""));
    assert!(!is_valid_name(&"a".repeat(65_536)));
}

#[test]
fn names_that_would_widen_a_filter_are_not_substitutable() {
    for value in [
        "", "+", "#", "a/b", "/", "a+", "#a", "a\nb", "\u{0}", "\u{7f}", "\u{85}",
    ] {
        assert!(!substitutable(value), "{value:?}");
    }
    for value in ["a", "sensor-7", "ä", "a b", "$a", "${client_id}"] {
        assert!(substitutable(value), "{value:?}");
    }
}

fn check_template(template: &str, client_id: &str, expected: Option<&str>) {
    let client = testing::client(client_id)
        .with_attribute("site", "north")
        .with_attribute("path", "a/b");
    let parsed = Template::parse(template).unwrap();
    assert_eq!(
        parsed.for_client(&client).as_deref(),
        expected,
        "{template} {client_id}"
    );
    // Whether a topic matches does not depend on rendering being spared.
    for topic in TEMPLATED_TOPICS {
        let rendered = parsed.for_client(&client);
        let expected = rendered.is_some_and(|filter| matches(&filter, topic));
        assert_eq!(
            parsed.matches(&client, topic),
            expected,
            "{template} {client_id} {topic}"
        );
    }
}

const TEMPLATED_TOPICS: [&str; 14] = [
    "dev",
    "dev/",
    "dev/7",
    "dev/7/a/b",
    "dev/$SYS",
    "dev-7",
    "dev-7/a",
    "de",
    "north/77",
    "7",
    "a/7",
    "$SYS/a",
    "$lab/7",
    "",
];

#[test]
fn templates_render_safely_or_not_at_all() {
    check_template("dev/${client_id}/#", "7", Some("dev/7/#"));
    check_template("dev-${client_id}/#", "7", Some("dev-7/#"));
    check_template("${attr.site}/${client_id}${client_id}", "7", Some("north/77"));
    check_template("dev/${client_id}/#", "7/#", None);
    check_template("dev-${client_id}/#", "#", None);
    check_template("${client_id}/#", "$SYS", None);
    check_template("dev/${client_id}", "$SYS", Some("dev/$SYS"));
    check_template("$lab/${client_id}", "7", Some("$lab/7"));
    check_template("${username}/#", "7", None);
    check_template("${attr.none}/#", "7", None);
    check_template("${attr.path}/#", "7", None);
    check_template("${client_id}", "${username}", None);
    check_template("a/${client_id}", &"x".repeat(65_534), None);
    for wildcards in [
        "#",
        "dev/#",
        "dev/7/#",
        "+/7",
        "dev/+/#",
        "$SYS/#",
        "+/+",
        "dev/${client_id}",
        "+/${client_id}/#",
    ] {
        let rendered = wildcards.replace("${client_id}", "7");
        check_template(wildcards, "7", Some(&rendered));
    }
}

#[test]
fn templates_with_half_a_variable_are_refused() {
    for text in ["a/${client_id", "${}", "a/${}/b"] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
    assert_eq!(Template::parse("a/$/b").unwrap().variables().count(), 0);
}
