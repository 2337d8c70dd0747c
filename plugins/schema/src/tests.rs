use super::Schema;
use nervewire_plugin_sdk::{Property, prelude::*, testing};

const UNITS: &str = r#"{
    "$id": "https://plant.example/units",
    "$defs": { "celsius": { "type": "number", "minimum": -90, "maximum": 60 } }
}"#;
const WELD: &str = r#"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["robot", "ampere"],
    "properties": {
        "robot": { "type": "string", "pattern": "^R[0-9]{1,3}$" },
        "ampere": { "type": "number", "exclusiveMinimum": 0, "maximum": 400 },
        "spots": { "type": "array", "items": { "$ref": "spot" }, "maxItems": 3, "uniqueItems": true },
        "gas": { "enum": ["argon", "mixed"] },
        "started": { "type": "string", "format": "date-time" }
    },
    "additionalProperties": false
}"#;
const SPOT: &str =
    r#"{ "type": "object", "required": ["x"], "properties": { "celsius": { "$ref": "units#/$defs/celsius" } } }"#;

fn load(config: &str) -> Result<Schema, String> {
    testing::load_with_files(config, [("weld", WELD), ("spot", SPOT), ("units", UNITS)])
}

fn with_rule(rule: &str) -> Schema {
    load(&format!(r#"{{"rules": [{rule}]}}"#)).unwrap()
}

fn transform(plugin: &mut Schema, payload: &str) -> Transformation {
    plugin.transform(&testing::client("7"), Message::new("t", payload))
}

/// Why a payload is invalid; empty: it is not.
fn reason(schema: &str, payload: &str) -> String {
    let mut plugin = with_rule(&format!(r#"{{"match": "t", "schema": {schema}, "on_invalid": "tag"}}"#));
    match transform(&mut plugin, payload) {
        Transformation::Pass => String::new(),
        Transformation::Replace(message) => message.user_properties[0].value.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_with_references_to_other_files_is_checked() {
    let mut plugin = with_rule(r#"{"match": "t", "file": "weld"}"#);
    let mut check = |payload: &str, valid: bool| {
        let expected = match valid {
            true => Transformation::Pass,
            false => Transformation::Reject(Rejection::PayloadFormatInvalid),
        };
        assert_eq!(transform(&mut plugin, payload), expected, "{payload}");
    };
    check(r#"{"robot":"R12","ampere":180.5}"#, true);
    check(
        r#"{"robot":"R12","ampere":180.5,"gas":"argon","spots":[{"x":1,"celsius":20}]}"#,
        true,
    );
    check(r#"{"robot":"R12","ampere":1,"started":"2024-05-17T08:15:00Z"}"#, true);
    check(r#"{"robot":"12","ampere":180.5}"#, false);
    check(r#"{"robot":"R12","ampere":0}"#, false);
    check(r#"{"robot":"R12"}"#, false);
    check(r#"{"robot":"R12","ampere":1,"more":1}"#, false);
    check(r#"{"robot":"R12","ampere":1,"gas":"air"}"#, false);
    check(r#"{"robot":"R12","ampere":1,"spots":[{"x":1,"celsius":61}]}"#, false);
    check(r#"{"robot":"R12","ampere":1,"spots":[{"x":1},{"x":1}]}"#, false);
    check(r#"{"robot":"R12","ampere":1,"started":"yesterday"}"#, false);
    check("R12", false);
    check("", false);
    assert_eq!((testing::counter("valid"), testing::counter("rejected")), (3, 10));
}

#[test]
fn reasons_say_where_and_what() {
    let schema =
        r#"{"type": "object", "required": ["a"], "properties": {"a": {"type": "array", "items": {"maximum": 5}}}}"#;
    assert_eq!(reason(schema, r#"{"a":[1]}"#), "");
    assert_eq!(reason(schema, r#"{"a":[1, 7]}"#), "/a/1: must be <=5, but got 7");
    assert_eq!(reason(schema, r#"{"a":"x"}"#), "/a: want array, but got string");
    assert_eq!(reason(schema, "{}"), ": missing properties 'a'");
    assert!(reason(schema, "{").starts_with("not JSON: EOF while parsing"));
    let long = reason(r#"{"const": 1}"#, &format!("{}{}", "[".repeat(200), "]".repeat(200)));
    assert!(long.starts_with("not JSON: recursion limit"), "{long}");
    let key = "ü\n".repeat(500);
    let cut = reason(r#"{"additionalProperties": false}"#, &format!("{{{key:?}:1}}"));
    assert!(cut.len() <= 256 && !cut.contains('\n'), "{cut}");
}

#[test]
fn keywords_of_draft_2020_12_are_known() {
    let rows = [
        (
            r#"{"prefixItems": [{"type": "string"}], "items": false}"#,
            r#"["a"]"#,
            r#"["a",1]"#,
        ),
        (r#"{"contains": {"const": 1}, "minContains": 2}"#, "[1,2,1]", "[1,2]"),
        (
            r#"{"dependentRequired": {"a": ["b"]}}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":1}"#,
        ),
        (
            r#"{"unevaluatedProperties": false, "allOf": [{"properties": {"a": true}}]}"#,
            r#"{"a":1}"#,
            r#"{"b":1}"#,
        ),
        (
            r#"{"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"multipleOf": 0.5}}"#,
            "1.5",
            "1.25",
        ),
        (r#"{"oneOf": [{"type": "null"}, {"type": "integer"}]}"#, "1.0", "1.5"),
        (r#"{"not": {"type": "string"}}"#, "1", r#""x""#),
        (r#"{"propertyNames": {"maxLength": 2}}"#, r#"{"ab":1}"#, r#"{"abc":1}"#),
        (
            r#"{"patternProperties": {"^n_": {"type": "number"}}}"#,
            r#"{"n_a":1}"#,
            r#"{"n_a":"1"}"#,
        ),
        (
            r##"{"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}"##,
            r#"{"next":{"next":{}}}"#,
            r#"{"next":{"next":1}}"#,
        ),
        ("false", "", "1"),
    ];
    for (schema, valid, invalid) in rows {
        if !valid.is_empty() {
            assert_eq!(reason(schema, valid), "", "{schema} {valid}");
        }
        assert_ne!(reason(schema, invalid), "", "{schema} {invalid}");
    }
}

#[test]
fn a_tag_is_the_plugins_word_alone() {
    let mut plugin = with_rule(r#"{"match": "t", "schema": {"type": "number"}, "on_invalid": "tag", "tag": "why"}"#);
    let message = |payload: &str| {
        Message::new("t", payload)
            .user_property("why", "forged")
            .user_property("x", "y")
    };
    let properties = |outcome: Transformation| match outcome {
        Transformation::Replace(message) => message.user_properties,
        other => panic!("{other:?}"),
    };
    let client = testing::client("7");
    assert_eq!(
        properties(plugin.transform(&client, message("1"))),
        [Property::new("x", "y")]
    );
    assert_eq!(
        properties(plugin.transform(&client, message("true"))),
        [
            Property::new("x", "y"),
            Property::new("why", ": want number, but got boolean")
        ]
    );
    assert_eq!(transform(&mut plugin, "1"), Transformation::Pass);
    assert_eq!((testing::counter("valid"), testing::counter("tagged")), (2, 1));
}

#[test]
fn clearing_a_retained_message_passes() {
    let mut plugin = with_rule(r#"{"match": "t", "file": "weld"}"#);
    let clearing = Message::new("t", "").retained();
    assert_eq!(plugin.transform(&testing::client("7"), clearing), Transformation::Pass);
}

#[test]
fn the_first_rule_that_matches_applies_and_others_pass() {
    let mut plugin = with_rule(r#"{"match": "a/+", "schema": true}, {"match": "a/#", "schema": false}"#);
    let mut passes =
        |topic: &str| plugin.transform(&testing::client("7"), Message::new(topic, "1")) == Transformation::Pass;
    assert!(passes("a/b") && passes("b"));
    assert!(!passes("a/b/c"));
}

/// A pattern that would take other engines longer than the universe is old.
#[test]
fn patterns_take_linear_time() {
    let payload = format!("{:?}", "a".repeat(50_000) + "b");
    assert_ne!(reason(r#"{"pattern": "^(a+)+$"}"#, &payload), "");
}

#[test]
fn formats_may_be_annotations_only() {
    let mut plugin = load(r#"{"formats": false, "rules": [{"match": "t", "schema": {"format": "ipv4"}}]}"#).unwrap();
    assert_eq!(transform(&mut plugin, r#""here""#), Transformation::Pass);
    assert_ne!(reason(r#"{"format": "ipv4"}"#, r#""here""#), "");
    assert_eq!(reason(r#"{"format": "ipv4"}"#, r#""192.0.2.1""#), "");
}

#[test]
fn a_reference_by_identifier_leads_to_the_file() {
    let schema = r#"{"$ref": "https://plant.example/units#/$defs/celsius"}"#;
    assert_eq!(reason(schema, "20"), "");
    assert_eq!(reason(schema, "99"), ": must be <=60, but got 99");
}

fn check_refused(rule: &str, expected: &str) {
    let error = load(&format!(r#"{{"rules": [{{"match": "ok", "schema": true}}, {rule}]}}"#)).unwrap_err();
    assert!(
        error.starts_with("config.rules, entry 2") && error.contains(expected),
        "{error}"
    );
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    check_refused(
        r##"{"match": "a/#/b", "schema": true}"##,
        "match = `a/#/b` is no topic filter",
    );
    check_refused(r#"{"match": "a"}"#, "write either schema = { ... } or file");
    check_refused(
        r#"{"match": "a", "schema": true, "file": "weld"}"#,
        "write either schema = { ... } or file",
    );
    check_refused(r#"{"match": "a", "file": "wel"}"#, "files = { wel = \"path\" }");
    check_refused(
        r#"{"match": "a", "schema": true, "tag": "x"}"#,
        "on_invalid = \"tag\" only",
    );
    check_refused(
        r#"{"match": "a", "schema": {"properties": {"x": {"type": "strin"}}}}"#,
        "schema is no schema: /properties/x/type:",
    );
    check_refused(
        r#"{"match": "a", "schema": 5}"#,
        "schema is no schema: : want boolean or object",
    );
    check_refused(
        r#"{"match": "a", "schema": {"$ref": "https://evil.example/x.json"}}"#,
        "leads to https://evil.example/x.json, which is not there: a plugin has no network",
    );
    check_refused(
        r#"{"match": "a", "schema": {"$ref": "file:///etc/passwd"}}"#,
        "leads to file:///etc/passwd",
    );
    check_refused(
        r#"{"match": "a", "schema": {"$ref": "spto"}}"#,
        "leads to spto, which is not there",
    );
    check_refused(
        r##"{"match": "a", "schema": {"$ref": "#/$defs/x"}}"##,
        "json-pointer in schema#/$defs/x not found",
    );
    check_refused(r#"{"match": "a", "schema": {"pattern": "(?=x)"}}"#, "pattern");
    check_refused(
        r#"{"match": "a", "schema": {"$schema": "https://x.example/draft"}}"#,
        "https://x.example/draft",
    );
}

#[test]
fn a_file_that_is_no_json_is_refused_by_its_name() {
    let error = testing::load_with_files::<Schema>(r#"{"rules": []}"#, [("weld", "{")]).unwrap_err();
    assert!(error.contains("file \"weld\" is not JSON: EOF"), "{error}");
    let config = r#"{"rules": [{"match": "a", "file": "weld"}]}"#;
    let error = testing::load_with_files::<Schema>(config, [("weld", r#"{"minimum": "5"}"#)]).unwrap_err();
    assert!(
        error.contains("file \"weld\" is no schema: /minimum: want number"),
        "{error}"
    );
}
