//! `expect` of a case: checked when it is read, compared by what is written in it.

use super::cases::HookName;
use super::nouns::bytes;
use super::pairs::Pairs;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Reasons of a denied authentication.
pub(crate) const REFUSALS: &[&str] = &[
    "bad-user-name-or-password",
    "not-authorized",
    "banned",
    "server-unavailable",
    "server-busy",
    "bad-authentication-method",
    "quota-exceeded",
];
/// Reasons of a rejected message.
pub(crate) const REJECTIONS: &[&str] = &[
    "unspecified-error",
    "implementation-specific-error",
    "not-authorized",
    "topic-name-invalid",
    "quota-exceeded",
    "payload-format-invalid",
];

/// What a case expects, in the words of [`answers`](super::answers).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expectation(Value);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code)] // Only its shape is of interest.
struct IdentityPattern {
    username: Option<String>,
    tenant: Option<String>,
    attributes: Option<Pairs>,
    quotas: Option<QuotasPattern>,
    data: Option<String>,
    data_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code)]
struct QuotasPattern {
    publish_rate_per_second: Option<u32>,
    queue_messages: Option<u32>,
    queue_bytes: Option<u64>,
    subscriptions: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code)]
struct ChallengePattern {
    data: Option<String>,
    data_base64: Option<String>,
    state: Option<String>,
    state_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code)]
struct MessagePattern {
    topic: Option<String>,
    payload: Option<String>,
    payload_base64: Option<String>,
    qos: Option<u8>,
    retain: Option<bool>,
    payload_is_utf8: Option<bool>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data: Option<String>,
    correlation_data_base64: Option<String>,
    message_expiry_seconds: Option<u32>,
    user_properties: Option<Pairs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code)]
struct FindingPattern {
    client_id: Option<String>,
    response: Option<Value>,
    evidence: Option<String>,
}

impl Expectation {
    /// Checks that a plugin can answer this at all.
    ///
    /// # Errors
    /// What to write instead.
    pub(crate) fn parse(hook: HookName, written: Value) -> Result<Self, String> {
        let known = words(hook);
        let outcome = match &written {
            Value::String(word) if word == super::answers::FAILED => Some((word.as_str(), None)),
            Value::String(word) => Some((word.as_str(), None)),
            Value::Object(table) if table.len() == 1 => table.iter().next().map(|(word, v)| (word.as_str(), Some(v))),
            Value::Array(findings) if hook == HookName::Detect => {
                findings.iter().try_for_each(shape::<FindingPattern>)?;
                None
            }
            _ => return Err(format!("expect of {} is {known}", hook.name())),
        };
        if let (HookName::Detect, Value::Array(findings)) = (hook, &written) {
            findings.iter().try_for_each(response)?;
        }
        if let Some((word, details)) = outcome {
            check(hook, word, details).ok_or_else(|| format!("no expect of {}: write {known}", hook.name()))??;
        }
        Ok(Self(written))
    }

    /// Whether `got` has everything that is written.
    pub(crate) fn fits(&self, got: &Value) -> bool {
        match (&self.0, got) {
            // `"deny"`: whatever the reason; `"allow"`: whatever the identity.
            (Value::String(word), Value::Object(table)) => table.contains_key(word),
            (Value::Object(table), Value::String(word)) => {
                // `{ allow = {} }` is no more than `"allow"`.
                table.iter().all(|(name, details)| name == word && is_empty(details))
            }
            (expected, got) => contains(expected, got),
        }
    }

    pub(crate) fn json(&self) -> &Value {
        &self.0
    }
}

fn is_empty(details: &Value) -> bool {
    details.as_object().is_some_and(Map::is_empty)
}

/// What can be expected of a hook.
fn words(hook: HookName) -> &'static str {
    match hook {
        HookName::Authenticate => {
            "\"allow\", \"deny\", \"abstain\", \"failed\", { allow = { username, tenant, attributes, quotas, data } }, \
             { deny = \"bad-user-name-or-password\" } or { challenge = { data = \"..\" } }"
        }
        HookName::Authorize => "\"allow\", \"deny\", \"abstain\" or \"failed\"",
        HookName::Transform => {
            "\"pass\", \"drop\", \"failed\", { replace = { topic = \"..\" } }, { emit = [{ topic = \"..\" }] } or \
             { reject = \"payload-format-invalid\" }"
        }
        HookName::Tick => "\"none\", { emit = [{ topic = \"..\" }] } or \"failed\"",
        HookName::Detect => "[], [{ client_id = \"..\", response = \"alert\" }] or \"failed\"",
    }
}

/// `None`: the hook has no such outcome.
fn check(hook: HookName, word: &str, details: Option<&Value>) -> Option<Result<(), String>> {
    Some(match (hook, word, details) {
        (_, "failed", None) => Ok(()),
        (HookName::Authenticate, "allow" | "deny" | "abstain" | "challenge", None) => Ok(()),
        (HookName::Authenticate, "allow", Some(identity)) => shape::<IdentityPattern>(identity),
        (HookName::Authenticate, "challenge", Some(challenge)) => shape::<ChallengePattern>(challenge),
        (HookName::Authenticate, "deny", Some(reason)) => one_of(reason, REFUSALS),
        (HookName::Authorize, "allow" | "deny" | "abstain", None) => Ok(()),
        (HookName::Transform, "pass" | "drop" | "replace" | "emit" | "reject", None) => Ok(()),
        (HookName::Transform, "replace", Some(message)) => shape::<MessagePattern>(message),
        (HookName::Transform, "reject", Some(reason)) => one_of(reason, REJECTIONS),
        (HookName::Tick, "none" | "emit", None) => Ok(()),
        (HookName::Transform | HookName::Tick, "emit", Some(Value::Array(messages))) => {
            messages.iter().try_for_each(shape::<MessagePattern>)
        }
        _ => return None,
    })
}

fn shape<T: serde::de::DeserializeOwned>(value: &Value) -> Result<(), String> {
    T::deserialize(value)
        .map(|_| ())
        .map_err(|error| format!("in expect: {error}"))
}

/// What a finding may ask for.
fn response(finding: &Value) -> Result<(), String> {
    let known = "\"alert\", \"disconnect\", { throttle = 5 } or { ban = 60 }";
    let is_known = match finding.get("response") {
        None => true,
        Some(Value::String(word)) => ["alert", "disconnect", "throttle", "ban"].contains(&word.as_str()),
        Some(Value::Object(table)) => {
            let amount = table.get("throttle").or(table.get("ban"));
            table.len() == 1 && amount.is_some_and(Value::is_u64)
        }
        Some(_) => false,
    };
    match is_known {
        true => Ok(()),
        false => Err(format!("in expect: response is {known}")),
    }
}

fn one_of(reason: &Value, known: &[&str]) -> Result<(), String> {
    match reason.as_str().filter(|reason| known.contains(reason)) {
        Some(_) => Ok(()),
        None => Err(format!("no such reason: {reason}; write {}", known.join(", "))),
    }
}

/// Every field that is written must be there; lists must be as long.
fn contains(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Object(fields), Value::Object(_)) => fields.iter().all(|(name, value)| has(got, name, value)),
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len() && expected.iter().zip(got).all(|(expected, got)| contains(expected, got))
        }
        (Value::Number(expected), Value::Number(got)) => expected.as_f64() == got.as_f64(),
        _ => expected == got,
    }
}

fn has(got: &Value, name: &str, expected: &Value) -> bool {
    let plain = name.strip_suffix("_base64").unwrap_or(name);
    match (plain, expected) {
        ("payload" | "correlation_data" | "data" | "state", Value::String(text)) => {
            let (text, base64) = match plain == name {
                true => (Some(text.as_str()), None),
                false => (None, Some(text.as_str())),
            };
            let field = |name: &str| got.get(name).and_then(Value::as_str);
            let is = bytes(plain, field(plain), field(&format!("{plain}_base64")))
                .ok()
                .flatten();
            let expected = bytes(plain, text, base64);
            expected.is_ok_and(|expected| expected.unwrap_or_default() == is.unwrap_or_default())
        }
        ("attributes" | "user_properties", Value::Object(pairs)) => {
            let there = got.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            pairs
                .iter()
                .all(|(name, value)| there.iter().any(|pair| pair[0] == **name && pair[1] == *value))
        }
        ("attributes" | "user_properties", Value::Array(pairs)) if pairs.is_empty() => got.get(name).is_none(),
        // What is off is not written.
        ("payload_is_utf8", Value::Bool(false)) => got.get(name).is_none(),
        // A part of the words is enough: numbers in them are the plugin's business.
        ("evidence", Value::String(part)) => got
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|words| words.contains(part)),
        // `"throttle"`: however many.
        ("response", Value::String(word)) => got
            .get(name)
            .is_some_and(|got| got == expected || got.get(word).is_some()),
        _ => got.get(name).is_some_and(|got| contains(expected, got)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_fits(hook: HookName, expected: Value, got: &Value, fits: bool) {
        let expectation = Expectation::parse(hook, expected).unwrap();
        assert_eq!(expectation.fits(got), fits, "{expectation:?} {got}");
    }

    #[test]
    fn only_what_is_written_is_compared() {
        let got = json!({ "allow": { "tenant": "t", "attributes": [["a", "1"], ["b", "2"]], "data_base64": "AP8=" } });
        let check = |expected, fits| check_fits(HookName::Authenticate, expected, &got, fits);
        check(json!("allow"), true);
        check(json!("deny"), false);
        check(json!({ "allow": {} }), true);
        check(json!({ "allow": { "tenant": "t" } }), true);
        check(json!({ "allow": { "tenant": "u" } }), false);
        check(json!({ "allow": { "username": "x" } }), false);
        check(json!({ "allow": { "attributes": { "b": "2" } } }), true);
        check(json!({ "allow": { "attributes": { "b": "1" } } }), false);
        check(json!({ "allow": { "attributes": [["a", "1"]] } }), false);
        check(json!({ "allow": { "attributes": [["a", "1"], ["b", "2"]] } }), true);
        check(json!({ "allow": { "data_base64": "AP8=" } }), true);
        check(json!({ "allow": { "data": "x" } }), false);
    }

    #[test]
    fn an_answer_without_details_fits_a_word_and_an_empty_table() {
        let check = |expected, fits| check_fits(HookName::Authenticate, expected, &json!("allow"), fits);
        check(json!("allow"), true);
        check(json!({ "allow": {} }), true);
        check(json!({ "allow": { "tenant": "t" } }), false);
        check(json!("failed"), false);
    }

    #[test]
    fn emitted_messages_are_counted_and_compared_in_order() {
        let got =
            json!({ "emit": [{ "topic": "a", "payload": "1", "qos": 0 }, { "topic": "b", "payload": "", "qos": 1 }] });
        let check = |expected, fits| check_fits(HookName::Transform, expected, &got, fits);
        check(json!({ "emit": [{ "topic": "a" }, { "payload": "" }] }), true);
        check(json!({ "emit": [{ "topic": "a" }] }), false);
        check(json!({ "emit": [{ "topic": "b" }, { "topic": "a" }] }), false);
        check(json!({ "emit": [{ "payload_base64": "MQ==" }, {}] }), true);
        check(json!("emit"), true);
    }

    #[test]
    fn findings_are_counted_and_compared_in_order() {
        let got = json!([
            { "client_id": "a", "response": { "throttle": 5 }, "evidence": "900 messages" },
            { "client_id": "b", "response": "alert", "evidence": "" },
        ]);
        let check = |expected, fits| check_fits(HookName::Detect, expected, &got, fits);
        check(json!([{ "client_id": "a" }, { "client_id": "b" }]), true);
        check(json!([{ "client_id": "b" }, { "client_id": "a" }]), false);
        check(json!([{ "client_id": "a" }]), false);
        check(json!([]), false);
        check(json!([{ "response": "throttle" }, { "response": "alert" }]), true);
        check(json!([{ "response": { "throttle": 5 } }, {}]), true);
        check(json!([{ "response": { "throttle": 6 } }, {}]), false);
        check(json!([{ "evidence": "900" }, {}]), true);
        check(json!([{ "evidence": "901" }, {}]), false);
        check_fits(HookName::Detect, json!([]), &json!([]), true);
    }

    #[test]
    fn a_tick_says_something_or_nothing() {
        let got = json!({ "emit": [{ "topic": "a", "payload": "1" }] });
        check_fits(HookName::Tick, json!({ "emit": [{ "topic": "a" }] }), &got, true);
        check_fits(HookName::Tick, json!("none"), &got, false);
        check_fits(HookName::Tick, json!("none"), &json!("none"), true);
    }

    #[test]
    fn what_no_plugin_can_answer_is_refused() {
        let check = |hook, expected: Value, part: &str| {
            let error = Expectation::parse(hook, expected.clone()).unwrap_err();
            assert!(error.contains(part), "{expected}: {error}");
        };
        check(HookName::Authenticate, json!("allowed"), "\"abstain\"");
        check(
            HookName::Authenticate,
            json!({ "deny": "nope" }),
            "bad-user-name-or-password",
        );
        check(
            HookName::Authenticate,
            json!({ "allow": { "user": "x" } }),
            "`username`",
        );
        check(HookName::Authorize, json!({ "allow": {} }), "\"allow\", \"deny\"");
        check(HookName::Transform, json!("allow"), "\"pass\"");
        check(HookName::Transform, json!({ "replace": { "topics": "x" } }), "`topic`");
        check(
            HookName::Transform,
            json!({ "reject": "banned" }),
            "payload-format-invalid",
        );
        check(HookName::Tick, json!("pass"), "emit");
        check(HookName::Detect, json!([{ "client": "x" }]), "`client_id`");
        check(HookName::Detect, json!([{ "response": "kill" }]), "{ ban = 60 }");
        check(
            HookName::Detect,
            json!([{ "response": { "throttle": -1 } }]),
            "{ throttle = 5 }",
        );
        check(HookName::Detect, json!("alert"), "[]");
    }
}
