//! What plugins answer, as JSON in the words of CASES.toml: what is printed, recorded and compared.

use super::nouns::{MessageText, readable};
use super::pairs::Pairs;
use nervewire_codec::ReasonCode;
use nervewire_core::hook::{
    AppMessage, Authentication, Decision, Effect, Finding, Identity, Quotas, Response, Rule, Transformation, Verdict,
};
use serde_json::{Map, Value, json};

/// A call that gave no answer.
pub(crate) const FAILED: &str = "failed";

pub(crate) fn authentication(answer: &Authentication) -> Value {
    match answer {
        Authentication::Allow(identity) => match self::identity(identity) {
            nothing if nothing.is_empty() => "allow".into(),
            fields => json!({ "allow": fields }),
        },
        Authentication::Deny(reason) => json!({ "deny": word(*reason) }),
        Authentication::Challenge { data, state } => {
            let mut fields = Map::new();
            put_bytes(&mut fields, "data", data);
            put_bytes(&mut fields, "state", state);
            json!({ "challenge": fields })
        }
        Authentication::Abstain => "abstain".into(),
    }
}

fn identity(identity: &Identity) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("username", identity.username.as_deref().map(Value::from));
    put("tenant", identity.tenant.as_deref().map(Value::from));
    let attributes = (!identity.attributes.is_empty()).then(|| json!(Pairs::of(&identity.attributes)));
    put("attributes", attributes);
    let quotas = quotas(&identity.quotas);
    put("quotas", (!quotas.is_empty()).then_some(Value::Object(quotas)));
    if let Some(data) = &identity.data {
        put_bytes(&mut fields, "data", data);
    }
    fields
}

fn quotas(quotas: &Quotas) -> Map<String, Value> {
    let rows = [
        ("publish_rate_per_second", quotas.publish_rate_per_s.map(u64::from)),
        ("queue_messages", quotas.queue_messages.map(u64::from)),
        ("queue_bytes", quotas.queue_bytes),
        ("subscriptions", quotas.subscriptions.map(u64::from)),
    ];
    let some = rows
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    some.collect()
}

fn put_bytes(fields: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let (name, value) = match readable(bytes) {
        (Some(text), _) => (name.to_owned(), text),
        (None, base64) => (format!("{name}_base64"), base64.unwrap_or_default()),
    };
    fields.insert(name, value.into());
}

pub(crate) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Abstain => "abstain",
    }
}

pub(crate) fn verdict(verdict: &Verdict) -> Value {
    let depends_on = [
        ("client", verdict.depends_on_client),
        ("user", verdict.depends_on_user),
        ("topic", verdict.depends_on_topic),
    ];
    let depends_on: Vec<&str> = depends_on
        .into_iter()
        .filter_map(|(name, does)| does.then_some(name))
        .collect();
    json!({ "decision": decision(verdict.decision), "cache_milliseconds": verdict.cache_ms, "depends_on": depends_on })
}

/// `null`: it wants to be asked.
pub(crate) fn rules(rules: Option<&[Rule]>) -> Value {
    rules.map_or(Value::Null, |rules| rules.iter().map(rule).collect())
}

fn rule(rule: &Rule) -> Value {
    let effect = match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Ask => "ask",
    };
    let actions = [
        ("publish", rule.actions.publish),
        ("subscribe", rule.actions.subscribe),
        ("deliver", rule.actions.deliver),
    ];
    let actions: Vec<&str> = actions
        .into_iter()
        .filter_map(|(name, is)| is.then_some(name))
        .collect();
    json!({
        "effect": effect, "actions": actions, "topic_filter": rule.topic_filter,
        "max_qos": rule.max_qos as u8, "retain": rule.retain,
    })
}

pub(crate) fn transformation(answer: &Transformation) -> Value {
    match answer {
        Transformation::Pass => "pass".into(),
        Transformation::Drop => "drop".into(),
        Transformation::Replace(message) => json!({ "replace": MessageText::of(message) }),
        Transformation::Emit(messages) => emit(messages),
        Transformation::Reject(reason) => json!({ "reject": word(*reason) }),
    }
}

/// Several messages: of a transform or a tick.
pub(crate) fn emit(messages: &[AppMessage]) -> Value {
    json!({ "emit": messages.iter().map(MessageText::of).collect::<Vec<_>>() })
}

/// Of a tick.
pub(crate) fn tick(messages: &[AppMessage]) -> Value {
    match messages {
        [] => "none".into(),
        messages => emit(messages),
    }
}

/// What a detector found.
pub(crate) fn findings(findings: &[Finding]) -> Value {
    findings.iter().map(finding).collect()
}

fn finding(finding: &Finding) -> Value {
    let response = match finding.response {
        Response::Alert => "alert".into(),
        Response::Throttle(messages_per_s) => json!({ "throttle": messages_per_s }),
        Response::Disconnect => "disconnect".into(),
        Response::Ban(seconds) => json!({ "ban": seconds }),
    };
    json!({ "client_id": &*finding.client_id, "response": response, "evidence": finding.evidence })
}

/// A reason code as the contract spells it: `not-authorized`.
fn word(reason: ReasonCode) -> String {
    reason.name().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_tools::expect::{REFUSALS, REJECTIONS};

    #[test]
    fn reason_codes_are_called_as_in_the_contract() {
        let all: Vec<String> = ReasonCode::ALL.iter().map(|reason| word(*reason)).collect();
        for name in REFUSALS.iter().chain(REJECTIONS) {
            assert!(all.iter().any(|word| word == name), "{name}");
        }
    }

    #[test]
    fn an_identity_says_only_what_it_changes() {
        assert_eq!(authentication(&Authentication::Allow(Identity::default())), "allow");
        let identity = Identity {
            tenant: Some("t".into()),
            attributes: vec![("role".into(), "admin".into())],
            quotas: Quotas {
                subscriptions: Some(3),
                ..Quotas::default()
            },
            ..Identity::default()
        };
        assert_eq!(
            authentication(&Authentication::Allow(identity)),
            json!({ "allow": { "tenant": "t", "attributes": [["role", "admin"]], "quotas": { "subscriptions": 3 } } })
        );
    }
}
