use crate::json::{Document, Fate, MAX_NESTED_ARRAYS, MAX_OPENED_VALUES, Room, Unreadable};
use crate::{Path, Scale, compile_each};

/// Removes what the path leads to.
fn removed(path: &str, json: &str) -> Result<String, Unreadable> {
    let mut room = Room::default();
    let mut document = Document::parse(json, &mut room)?;
    document.edit(Path::parse(path).unwrap().steps(), &mut room, &mut |_, _| {
        Ok(Fate::Remove)
    })?;
    Ok(document.to_string())
}

fn parse(json: &str) -> Result<Document<'_>, Unreadable> {
    Document::parse(json, &mut Room::default())
}

fn check_removed(path: &str, json: &str, expected: &str) {
    assert_eq!(removed(path, json).as_deref(), Ok(expected), "{path} {json}");
}

#[test]
fn a_path_leads_through_objects_and_arrays() {
    check_removed("a.b", r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2}}"#);
    check_removed("a.b", r#"{"a":[{"b":1},{"c":2},3]}"#, r#"{"a":[{},{"c":2},3]}"#);
    check_removed("a.b", r#"{"a":[[[{"b":1}]]]}"#, r#"{"a":[[[{}]]]}"#);
    check_removed("b", r#"[{"b":1},{"b":2,"c":3}]"#, r#"[{},{"c":3}]"#);
    check_removed("a", r#"{"a":1,"b":2,"a":3}"#, r#"{"b":2}"#);
    check_removed("a", r#"{"\u0061":1}"#, "{}");
}

#[test]
fn names_are_written_as_they_were_and_stay_names() {
    check_removed(
        "a",
        r#"{"a":1,"x\"\\\n":2,"\u00e9\/":3,"é":4}"#,
        r#"{"x\"\\\n":2,"é/":3,"é":4}"#,
    );
    check_removed("b", r#"{"\u0062":1, "\u0063" : 2 }"#, r#"{"c":2}"#);
}

#[test]
fn what_is_not_one_json_value_is_no_document() {
    for text in [
        "",
        " ",
        "{",
        "{\"a\"}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":\"\n\"}",
        "{\"a\":1} x",
        "{} {}",
        "{a:1}",
        "[1",
        "\u{c}{}",
        "\u{a0}{}",
    ] {
        assert_eq!(parse(text).err(), Some(Unreadable::NotJson), "{text:?}");
    }
    for text in [" {\"a\" : 1 }\r\n", "\t[1 ]", " \"a\" ", "1"] {
        assert!(parse(text).is_ok(), "{text:?}");
    }
}

#[test]
fn a_star_stands_for_any_name_and_any_element() {
    check_removed(
        "*.b",
        r#"{"x":{"b":1},"y":{"b":2,"c":3},"z":4}"#,
        r#"{"x":{},"y":{"c":3},"z":4}"#,
    );
    check_removed("a.*", r#"{"a":[1,2],"b":3}"#, r#"{"a":[],"b":3}"#);
    check_removed("a.*", r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{}}"#);
    check_removed("a.*.b", r#"{"a":[{"b":1,"c":2}]}"#, r#"{"a":[{"c":2}]}"#);
}

#[test]
fn what_a_path_does_not_lead_to_stays_as_it_was() {
    for json in [r#"{"b":1.50,"c":[ 1 ]}"#, "17", "null", r#""a""#, r#"{"a":{"b":"x"}}"#] {
        check_removed("a.b.c", json, json);
    }
}

#[test]
fn arrays_that_are_nested_too_deep_are_an_error_only_where_a_path_leads_into_them() {
    let nested = |count: u32| {
        let depth = count as usize;
        format!("{}{{\"a\":1}}{}", "[".repeat(depth), "]".repeat(depth))
    };
    assert!(removed("a", &nested(MAX_NESTED_ARRAYS)).unwrap().contains("{}"));
    assert_eq!(removed("a", &nested(MAX_NESTED_ARRAYS + 1)), Err(Unreadable::TooDeep));
    let beside = format!(r#"{{"a":1,"b":{}}}"#, nested(10_000));
    assert!(removed("a", &beside).is_ok());
}

/// A name with half a surrogate pair is skipped as it is, and cannot be read: what lies beside it would stay.
#[test]
fn an_object_that_cannot_be_opened_is_an_error_where_a_path_leads_into_it() {
    for path in ["a.b", "a.*", "*.b"] {
        let hiding = r#"{"a":{"b":1,"\ud800":2}}"#;
        assert_eq!(removed(path, hiding), Err(Unreadable::NotJson), "{path}");
    }
    assert_eq!(removed("a", r#"{"a":1,"\udc00":2}"#), Err(Unreadable::NotJson));
    let beside = r#"{"a":1,"b":{"\ud800":"\ud800"}}"#;
    assert_eq!(removed("a", beside).as_deref(), Ok(r#"{"b":{"\ud800":"\ud800"}}"#));
}

#[test]
fn values_are_opened_up_to_a_bound() {
    let list = |values: usize, value: &str| format!("[{}]", vec![value; values].join(","));
    // The one around them is opened, too.
    let within = format!(r#"{{"a":{}}}"#, list(MAX_OPENED_VALUES - 1, "1"));
    assert!(removed("a.*", &within).is_ok());
    let beyond = format!(r#"{{"a":{}}}"#, list(MAX_OPENED_VALUES, "1"));
    assert_eq!(removed("a.*", &beyond), Err(Unreadable::TooMuch));
    assert!(removed("b.*", &beyond).is_ok(), "nobody looks there");
    let objects = list(MAX_OPENED_VALUES / 2 + 1, r#"{"a":1}"#);
    assert_eq!(removed("a", &objects), Err(Unreadable::TooMuch));
    let fields = vec![r#""a":1"#; MAX_OPENED_VALUES + 1].join(",");
    assert_eq!(removed("a", &format!("{{{fields}}}")), Err(Unreadable::TooMuch));
}

#[test]
fn scalars_are_read_as_they_are_written() {
    let scalar = |json: &'static str| parse(json).unwrap().scalar().map(|text| text.into_owned());
    assert_eq!(scalar(r#""a\u0062""#).as_deref(), Some("ab"));
    assert_eq!(scalar("1.50").as_deref(), Some("1.50"));
    assert_eq!(scalar("true").as_deref(), Some("true"));
    assert_eq!([scalar("null"), scalar("[1]"), scalar("{}")], [None, None, None]);
}

#[test]
fn a_path_without_a_name_is_refused() {
    assert_eq!(
        Path::parse("a..b").unwrap_err(),
        "\"a..b\" has an empty name, write names separated by single dots"
    );
}

#[test]
fn numbers_are_scaled_and_rounded() {
    let celsius = Scale::new(5.0 / 9.0, -160.0 / 9.0, Some(1)).unwrap();
    assert_eq!([32.0, 71.2, 212.0].map(|f| celsius.of(f)), [0.0, 21.8, 100.0]);
    assert_eq!(Scale::new(2.0, 0.0, Some(9)).unwrap().of(1e300), 2e300);
    assert_eq!(
        Scale::new(1.0, 0.0, Some(16)).unwrap_err(),
        "round = 16, write at most 15"
    );
}

#[test]
fn errors_name_their_entry() {
    let compile = |entry: u8| {
        if entry > 1 {
            Err("too large".to_owned())
        } else {
            Ok(entry)
        }
    };
    assert_eq!(compile_each("config.rules", vec![1, 1], compile), Ok(vec![1, 1]));
    assert_eq!(
        compile_each("config.rules", vec![1, 2], compile),
        Err("config.rules, entry 2: too large".to_owned())
    );
}
