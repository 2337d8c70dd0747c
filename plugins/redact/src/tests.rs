use super::Redact;
use nervewire_plugin_sdk::{prelude::*, testing};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";

fn load(rules: &str) -> Result<Redact, String> {
    testing::load_with_files(&format!(r#"{{"rules": [{rules}]}}"#), [("key", KEY)])
}

fn redact(fields: &str, payload: &str) -> Transformation {
    let mut plugin = load(&format!(r#"{{"match": "t", "fields": [{fields}]}}"#)).unwrap();
    plugin.transform(&testing::client("7"), Message::new("t", payload))
}

fn check(fields: &str, payload: &str, expected: &str) {
    let expected = if payload == expected {
        Transformation::Pass
    } else {
        Transformation::Replace(Message::new("t", expected))
    };
    assert_eq!(redact(fields, payload), expected, "{fields} {payload}");
}

#[test]
fn fields_are_dropped_wherever_the_path_leads() {
    check(r#"{"drop": "a"}"#, r#"{"a":1,"b":2.50}"#, r#"{"b":2.50}"#);
    check(r#"{"drop": "a"}"#, r#"{"\u0061":1,"a":2}"#, "{}");
    check(r#"{"drop": "c.*.p"}"#, r#"{"c":[{"p":1,"n":2}]}"#, r#"{"c":[{"n":2}]}"#);
    check(
        r#"{"drop": "c.*.p"}"#,
        r#"{"c":{"x":{"p":1},"y":[3]}}"#,
        r#"{"c":{"x":{},"y":[3]}}"#,
    );
    check(r#"{"drop": "c"}"#, r#"[[{"c":[1]}]]"#, "[[{}]]");
    check(r#"{"drop": "a.b"}"#, r#"{"a":1}"#, r#"{"a":1}"#);
}

/// What `printf P-17 | openssl dgst -sha256 -hmac KEY` says.
#[test]
fn a_pseudonym_is_the_hmac_of_the_content() {
    let whole = "65f58200135ecd157c8849ff1ced6446";
    let Transformation::Replace(message) = redact(r#"{"hash": "id"}"#, r#"{"id":"P-17"}"#) else {
        panic!("unchanged");
    };
    assert_eq!(message.payload_str(), Some(format!(r#"{{"id":"{whole}"}}"#).as_str()));
}

#[test]
fn a_pseudonym_is_the_same_for_the_same_content_only() {
    let pseudonym = |payload: &str| match redact(r#"{"hash": "id", "characters": 64}"#, payload) {
        Transformation::Replace(message) => message.payload_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    let one = pseudonym(r#"{"id":"17"}"#);
    assert_eq!(one.len(), r#"{"id":""}"#.len() + 64);
    assert_eq!(pseudonym(r#"{"id":"\u0031\u0037"}"#), one);
    assert_eq!(pseudonym(r#"{"id":17}"#), one);
    assert_ne!(pseudonym(r#"{"id":"18"}"#), one);
    assert!(!one.contains("17\""));
}

#[test]
fn dates_become_coarse() {
    let date = |to: &str| format!(r#"{{"date": "d", "to": "{to}"}}"#);
    check(&date("year"), r#"{"d":"1984-05-17"}"#, r#"{"d":"1984"}"#);
    check(
        &date("month"),
        r#"{"d":"1984-05-17T08:15:00+02:00"}"#,
        r#"{"d":"1984-05"}"#,
    );
    check(&date("day"), r#"{"d":"1984-05-17 08:15"}"#, r#"{"d":"1984-05-17"}"#);
    check(&date("year"), r#"{"d":"19840517"}"#, r#"{"d":"1984"}"#);
    check(&date("day"), r#"{"d":"1984"}"#, r#"{"d":"1984"}"#);
    check(&date("year"), r#"{"d":["1984-05-17",null]}"#, r#"{"d":["1984",null]}"#);
}

#[test]
fn numbers_and_texts_become_coarse() {
    let round = |to: &str| format!(r#"{{"round": "n", "to": {to}}}"#);
    check(&round("5"), r#"{"n":72.4}"#, r#"{"n":70}"#);
    check(&round("0.1"), r#"{"n":0.3456}"#, r#"{"n":0.3}"#);
    check(&round("0.25"), r#"{"n":-1.1}"#, r#"{"n":-1}"#);
    check(&round("10"), r#"{"n":-4}"#, r#"{"n":0}"#);
    check(&round("10"), r#"{"n":[4,16]}"#, r#"{"n":[0,20]}"#);
    check(r#"{"keep": "z", "characters": 2}"#, r#"{"z":"80331"}"#, r#"{"z":"80"}"#);
    check(r#"{"keep": "z", "characters": 2}"#, r#"{"z":80331}"#, r#"{"z":"80"}"#);
    check(
        r#"{"keep": "z", "characters": 1}"#,
        r#"{"z":"Österreich"}"#,
        r#"{"z":"Ö"}"#,
    );
}

/// What cannot be made coarse must not pass as it is.
#[test]
fn a_field_of_another_kind_goes() {
    for (field, value) in [
        (r#"{"date": "x", "to": "year"}"#, r#""17.5.1984""#),
        (r#"{"date": "x", "to": "year"}"#, r#""1984-13-01""#),
        (r#"{"date": "x", "to": "year"}"#, "454032000"),
        (r#"{"round": "x", "to": 5}"#, r#""72.4""#),
        (r#"{"hash": "x"}"#, r#"{"id":17}"#),
        (r#"{"keep": "x", "characters": 2}"#, r#"{"id":17}"#),
    ] {
        check(field, &format!(r#"{{"x":{value},"y":1}}"#), r#"{"y":1}"#);
    }
    assert_eq!(testing::counter("unfit"), 6);
    check(r#"{"hash": "x"}"#, r#"{"x":null}"#, r#"{"x":null}"#);
    check(r#"{"hash": "x"}"#, r#"{"x":[{"a":1},[]]}"#, r#"{"x":[[]]}"#);
}

#[test]
fn what_is_not_touched_stays_to_the_last_digit() {
    check(
        r#"{"drop": "x"}"#,
        r#"{"z":1.10,"x":0,"n":123456789012345678901234567890.50,"a":{ "k" : 1E5, "\u00e9": "\u0041" }}"#,
        r#"{"z":1.10,"n":123456789012345678901234567890.50,"a":{ "k" : 1E5, "\u00e9": "\u0041" }}"#,
    );
}

#[test]
fn payloads_that_cannot_be_looked_through_are_rejected_or_pass() {
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let deep_end = format!(r#"{{"a":{deep}}}"#);
    let client = testing::client("7");
    let passing = || load(r#"{"match": "t", "on_invalid": "pass", "fields": [{"drop": "a"}]}"#).unwrap();
    let (many, hiding) = (format!(r#"[{}1]"#, "1,".repeat(100_000)), r#"{"b":1,"\ud800":{"a":1}}"#);
    let texts = [("name=ann", true), ("a {", true), ("\"{", true)];
    // What begins like JSON with fields in it is JSON to somebody.
    let readable = ["{", "\u{feff}{}", "{} {}", " [NaN]", &deep, &many, hiding].map(|payload| (payload, false));
    for (payload, may_pass) in texts.into_iter().chain(readable) {
        let message = || Message::new("t", payload);
        let mut reject = load(r#"{"match": "t", "fields": [{"drop": "a"}]}"#).unwrap();
        assert_eq!(
            reject.transform(&client, message()),
            Transformation::Reject(Rejection::PayloadFormatInvalid),
            "{payload}"
        );
        let expected = match may_pass {
            true => Transformation::Pass,
            false => Transformation::Reject(Rejection::PayloadFormatInvalid),
        };
        assert_eq!(passing().transform(&client, message()), expected, "{payload}");
    }
    let binary = Message::new("t", vec![0xff, b'{']);
    assert_eq!(passing().transform(&client, binary), Transformation::Pass);
    assert_eq!(
        redact(r#"{"hash": "a"}"#, &deep_end),
        Transformation::Reject(Rejection::PayloadFormatInvalid)
    );
    let growing = format!("[{}]", vec![r#"{"a":1}"#; 8_193].join(","));
    for (rule, taken) in [
        (r#"{"hash": "a", "characters": 64}"#, false),
        (r#"{"hash": "a", "characters": 63}"#, true),
    ] {
        let replaced = matches!(redact(rule, &growing), Transformation::Replace(_));
        assert_eq!(replaced, taken, "{rule}");
    }
    check(r#"{"drop": "a"}"#, "", "");
    assert_eq!(testing::counter("invalid"), 23);
}

#[test]
fn every_rule_that_matches_applies() {
    let mut plugin = load(
        r#"{"match": "a/#", "fields": [{"drop": "x"}]}, {"match": "+/b", "fields": [{"drop": "y"}]},
           {"match": "c", "fields": [{"drop": "z"}]}"#,
    )
    .unwrap();
    let message = Message::new("a/b", r#"{"x":1,"y":2,"z":3}"#)
        .qos(Qos::ExactlyOnce)
        .retained();
    let expected = Message {
        payload: br#"{"z":3}"#.to_vec(),
        ..message.clone()
    };
    let client = testing::client("7");
    assert_eq!(plugin.transform(&client, message), Transformation::Replace(expected));
    assert_eq!(
        plugin.transform(&client, Message::new("d", "no JSON")),
        Transformation::Pass
    );
}

#[test]
fn publishers_with_all_the_attributes_are_exempt() {
    let mut plugin =
        load(r#"{"match": "t", "unless_attributes": {"role": "raw", "site": "north"}, "fields": [{"drop": "x"}]}"#)
            .unwrap();
    let mut passes =
        |client: Client| plugin.transform(&client, Message::new("t", r#"{"x":1}"#)) == Transformation::Pass;
    let client = || testing::client("7").with_attribute("role", "raw");
    assert!(passes(client().with_attribute("site", "north")));
    assert!(!passes(client()));
    assert!(!passes(client().with_attribute("site", "south")));
}

fn check_refused(rule: &str, expected: &str) {
    let error = load(rule).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    check_refused(
        r##"{"match": "a/#/b", "fields": [{"drop": "a"}]}"##,
        "entry 1: match = `a/#/b` is no topic filter",
    );
    check_refused(r#"{"match": "a", "fields": []}"#, "changes nothing");
    check_refused(
        r#"{"match": "a", "fields": [{"drop": "a"}, {}]}"#,
        "fields, entry 2: write { drop =",
    );
    check_refused(
        r#"{"match": "a", "fields": [{"drop": "a", "hash": "b"}]}"#,
        "write { drop =",
    );
    check_refused(
        r#"{"match": "a", "fields": [{"date": "a", "to": 5}]}"#,
        "write { drop =",
    );
    check_refused(
        r#"{"match": "a", "fields": [{"round": "a", "to": "year"}]}"#,
        "write { drop =",
    );
    check_refused(
        r#"{"match": "a", "fields": [{"round": "a", "to": 0}]}"#,
        "to = 0, write a number over 0",
    );
    check_refused(
        r#"{"match": "a", "fields": [{"round": "a", "to": 1e-12}]}"#,
        "at most 9 digits",
    );
    check_refused(r#"{"match": "a", "fields": [{"drop": ".a"}]}"#, "has an empty name");
    check_refused(
        r#"{"match": "a", "fields": [{"hash": "a", "characters": 8}]}"#,
        "write 16 to 64",
    );
    check_refused(
        r#"{"match": "a", "fields": [{"drop": "a"}], "on_invalid": "tag"}"#,
        "unknown variant `tag`",
    );
}

#[test]
fn pseudonyms_without_a_good_key_are_refused() {
    let config = r#"{"rules": [{"match": "t", "fields": [{"hash": "id"}]}]}"#;
    let error = testing::load::<Redact>(config).unwrap_err();
    assert!(error.contains("files = { key = \"pseudonym.key\" }"), "{error}");
    let error = testing::load_with_files::<Redact>(config, [("key", "secret\n")]).unwrap_err();
    assert!(error.contains("at least 32 bytes, this one has 6"), "{error}");
    assert!(!format!("{:?}", load(r#"{"match": "t", "fields": [{"hash": "id"}]}"#).unwrap()).contains("0123"));
}
