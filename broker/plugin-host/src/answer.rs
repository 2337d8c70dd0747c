//! What a guest answered, parsed again: nothing in it is trusted, and what comes out satisfies the same rules as what clients send.

use crate::wire;
use bytes::Bytes;
use nervewire_codec::{Properties, QoS, ReasonCode, UserProperty, Utf8String, topic};
use nervewire_core::hook::{
    Actions, AppMessage, Authentication, Decision, Effect, Finding, Identity, MAX_EMITTED_MESSAGES, Quotas, Response,
    Rule, Transformation, Transformations, Verdict,
};
use std::sync::Arc;

/// Attributes of one identity.
pub const MAX_ATTRIBUTES: usize = 64;
/// Bytes of the names and values of one identity's attributes together.
pub const MAX_ATTRIBUTES_BYTES: usize = 16 * 1024;
/// Bytes of a tenant's name.
pub const MAX_TENANT_BYTES: usize = 256;
/// Bytes of Binary Data, whose length prefix has two bytes (MQTT 5.0 section 1.5.6), and of an authenticator's state.
pub const MAX_BINARY_BYTES: usize = 65_535;
/// Rules of one client.
pub const MAX_RULES: usize = 1024;
/// Messages of one tick.
pub const MAX_TICK_MESSAGES: usize = 16 * MAX_EMITTED_MESSAGES;
/// Findings of one call of `detect`.
pub const MAX_FINDINGS: usize = 1024;
/// Bytes of a finding's evidence; what is longer is cut off.
pub const MAX_EVIDENCE_BYTES: usize = 1024;
/// User properties of one message.
pub const MAX_USER_PROPERTIES: usize = 256;

/// Why an answer is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{0} answers to {1} questions")]
    Answers(usize, usize),
    #[error("{0} is no MQTT string: {1}")]
    Text(&'static str, nervewire_codec::StringError),
    #[error("{0} is no topic name")]
    Topic(&'static str),
    #[error("{0}: {1} are more than the {2} allowed")]
    TooMuch(&'static str, usize, usize),
    #[error("the message of {0} bytes is larger than the {1} allowed; raise limits.max_packet_bytes if it should be")]
    MessageTooLarge(usize, usize),
    #[error("the tenant is empty, too long, or contains `/`, `+`, `#` or a control character, or begins with `$`")]
    Tenant,
    #[error("an attribute has no name")]
    Nameless,
    #[error("a finding names no client")]
    Unnamed,
}

type Parsed<T> = Result<T, Invalid>;

pub(crate) fn authentication(answer: wire::Authentication) -> Parsed<Authentication> {
    Ok(match answer {
        wire::Authentication::Allow(identity) => Authentication::Allow(self::identity(identity)?),
        wire::Authentication::Deny(refusal) => Authentication::Deny(refusal_code(refusal)),
        wire::Authentication::Challenge(challenge) => Authentication::Challenge {
            data: binary("the challenge's data", challenge.data)?,
            state: binary("the challenge's state", challenge.state)?,
        },
        wire::Authentication::Abstain => Authentication::Abstain,
    })
}

fn identity(identity: wire::Identity) -> Parsed<Identity> {
    Ok(Identity {
        username: identity
            .username
            .map(|name| shared_text("the user name", name))
            .transpose()?,
        attributes: attributes(identity.attributes)?,
        tenant: identity.tenant.map(tenant).transpose()?,
        quotas: quotas(&identity.quotas),
        data: identity
            .data
            .map(|data| binary("authentication data", data))
            .transpose()?,
    })
}

fn attributes(list: Vec<wire::Property>) -> Parsed<Vec<(Arc<str>, Arc<str>)>> {
    bounded("attributes", list.len(), MAX_ATTRIBUTES)?;
    let bytes = list.iter().map(|p| p.name.len() + p.value.len()).sum();
    bounded("bytes of attributes", bytes, MAX_ATTRIBUTES_BYTES)?;
    list.into_iter().map(attribute).collect()
}

fn attribute(property: wire::Property) -> Parsed<(Arc<str>, Arc<str>)> {
    if property.name.is_empty() {
        return Err(Invalid::Nameless);
    }
    Ok((
        shared_text("an attribute", property.name)?,
        shared_text("an attribute", property.value)?,
    ))
}

/// A tenant becomes the first level of its topics, so it must be one level and no wildcard.
fn tenant(name: String) -> Parsed<Arc<str>> {
    let forbidden = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
    if name.is_empty() || name.len() > MAX_TENANT_BYTES || name.starts_with('$') || name.contains(forbidden) {
        return Err(Invalid::Tenant);
    }
    Ok(name.into())
}

fn quotas(quotas: &wire::Quotas) -> Quotas {
    Quotas {
        publish_rate_per_s: quotas.publish_rate_per_second,
        queue_messages: quotas.queue_messages,
        queue_bytes: quotas.queue_bytes,
        subscriptions: quotas.subscriptions,
    }
}

fn refusal_code(refusal: wire::Refusal) -> ReasonCode {
    match refusal {
        wire::Refusal::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
        wire::Refusal::NotAuthorized => ReasonCode::NotAuthorized,
        wire::Refusal::Banned => ReasonCode::Banned,
        wire::Refusal::ServerUnavailable => ReasonCode::ServerUnavailable,
        wire::Refusal::ServerBusy => ReasonCode::ServerBusy,
        wire::Refusal::BadAuthenticationMethod => ReasonCode::BadAuthenticationMethod,
        wire::Refusal::QuotaExceeded => ReasonCode::QuotaExceeded,
    }
}

/// The filters are judged where they are compiled: one that means nothing makes its rule match nothing.
pub(crate) fn rules(answer: Option<Vec<wire::Rule>>) -> Parsed<Option<Vec<Rule>>> {
    let Some(list) = answer else { return Ok(None) };
    bounded("rules", list.len(), MAX_RULES)?;
    list.into_iter().map(rule).collect::<Parsed<_>>().map(Some)
}

fn rule(rule: wire::Rule) -> Parsed<Rule> {
    bounded("bytes of a topic filter", rule.topic_filter.len(), MAX_BINARY_BYTES)?;
    let has = |action| rule.actions & action == action;
    let effect = match rule.effect {
        wire::Effect::Allow => Effect::Allow,
        wire::Effect::Deny => Effect::Deny,
        wire::Effect::Ask => Effect::Ask,
    };
    let actions = Actions {
        publish: has(wire::Actions::PUBLISH),
        subscribe: has(wire::Actions::SUBSCRIBE),
        deliver: has(wire::Actions::DELIVER),
    };
    Ok(Rule {
        effect,
        actions,
        topic_filter: rule.topic_filter,
        max_qos: qos(rule.max_qos),
        retain: rule.retain,
    })
}

pub(crate) fn verdict(verdict: wire::Verdict) -> Verdict {
    let depends_on = |dependency| verdict.depends_on & dependency == dependency;
    Verdict {
        decision: match verdict.decision {
            wire::Decision::Allow => Decision::Allow,
            wire::Decision::Deny => Decision::Deny,
            wire::Decision::Abstain => Decision::Abstain,
        },
        cache_ms: verdict.cache_milliseconds,
        depends_on_client: depends_on(wire::Dependencies::CLIENT),
        depends_on_user: depends_on(wire::Dependencies::USER),
        depends_on_topic: depends_on(wire::Dependencies::TOPIC),
    }
}

/// `max_message_bytes` bounds topic, payload and properties of each message together.
pub(crate) fn transformation(answer: wire::Transformation, max_message_bytes: usize) -> Parsed<Transformation> {
    Ok(match answer {
        wire::Transformation::Pass => Transformation::Pass,
        wire::Transformation::Replace(message) => Transformation::Replace(self::message(message, max_message_bytes)?),
        wire::Transformation::Emit(list) => {
            bounded("emitted messages", list.len(), MAX_EMITTED_MESSAGES)?;
            let messages = list
                .into_iter()
                .map(|message| self::message(message, max_message_bytes));
            Transformation::Emit(messages.collect::<Parsed<_>>()?)
        }
        wire::Transformation::Drop => Transformation::Drop,
        wire::Transformation::Reject(rejection) => Transformation::Reject(rejection_code(rejection)),
    })
}

/// Those of a batch: bit N of `passed` stands for one at position N that is `pass`, the others are there with their positions.
pub(crate) fn transformations(
    passed: u32,
    others: Vec<(usize, wire::Transformation)>,
    max_message_bytes: usize,
) -> Parsed<Transformations> {
    let parse = |(position, other)| Ok((position, transformation(other, max_message_bytes)?));
    Ok(Transformations {
        passed,
        others: others.into_iter().map(parse).collect::<Parsed<_>>()?,
    })
}

/// The messages of a tick, at most [`MAX_TICK_MESSAGES`], and how many were over that.
pub(crate) fn tick(mut answer: Vec<wire::Message>, max_message_bytes: usize) -> Parsed<(Vec<AppMessage>, usize)> {
    let over = answer.len().saturating_sub(MAX_TICK_MESSAGES);
    answer.truncate(MAX_TICK_MESSAGES);
    let messages = answer
        .into_iter()
        .map(|message| self::message(message, max_message_bytes));
    Ok((messages.collect::<Parsed<_>>()?, over))
}

pub(crate) fn findings(answer: Vec<wire::Finding>) -> Parsed<Vec<Finding>> {
    bounded("findings", answer.len(), MAX_FINDINGS)?;
    answer.into_iter().map(finding).collect()
}

fn finding(finding: wire::Finding) -> Parsed<Finding> {
    if finding.client_id.is_empty() {
        return Err(Invalid::Unnamed);
    }
    let mut evidence = crate::printable::printable(&finding.evidence);
    evidence.truncate(evidence.floor_char_boundary(MAX_EVIDENCE_BYTES));
    Ok(Finding {
        client_id: shared_text("the client identifier of a finding", finding.client_id)?,
        response: match finding.response {
            wire::Response::Alert => Response::Alert,
            wire::Response::Throttle(messages_per_s) => Response::Throttle(messages_per_s),
            wire::Response::Disconnect => Response::Disconnect,
            wire::Response::Ban(seconds) => Response::Ban(seconds),
        },
        evidence,
    })
}

fn rejection_code(rejection: wire::Rejection) -> ReasonCode {
    match rejection {
        wire::Rejection::UnspecifiedError => ReasonCode::UnspecifiedError,
        wire::Rejection::ImplementationSpecificError => ReasonCode::ImplementationSpecificError,
        wire::Rejection::NotAuthorized => ReasonCode::NotAuthorized,
        wire::Rejection::TopicNameInvalid => ReasonCode::TopicNameInvalid,
        wire::Rejection::QuotaExceeded => ReasonCode::QuotaExceeded,
        wire::Rejection::PayloadFormatInvalid => ReasonCode::PayloadFormatInvalid,
    }
}

fn message(message: wire::Message, max_message_bytes: usize) -> Parsed<AppMessage> {
    let bytes = message_bytes(&message);
    if bytes > max_message_bytes {
        return Err(Invalid::MessageTooLarge(bytes, max_message_bytes));
    }
    Ok(AppMessage {
        topic: topic_name("the topic", message.topic)?,
        qos: qos(message.qos),
        retain: message.retain,
        properties: properties(Fields {
            payload_is_utf8: message.payload_is_utf8,
            content_type: message.content_type,
            response_topic: message.response_topic,
            correlation_data: message.correlation_data,
            message_expiry_seconds: message.message_expiry_seconds,
            user_properties: message.user_properties,
        })?,
        payload: Bytes::from(message.payload),
    })
}

fn message_bytes(message: &wire::Message) -> usize {
    message.topic.len()
        + message.payload.len()
        + message.content_type.as_ref().map_or(0, String::len)
        + message.response_topic.as_ref().map_or(0, String::len)
        + message.correlation_data.as_ref().map_or(0, Vec::len)
        + message
            .user_properties
            .iter()
            .map(|p| p.name.len() + p.value.len())
            .sum::<usize>()
}

/// The part of a message that MQTT calls properties.
struct Fields {
    payload_is_utf8: bool,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data: Option<Vec<u8>>,
    message_expiry_seconds: Option<u32>,
    user_properties: Vec<wire::Property>,
}

fn properties(fields: Fields) -> Parsed<Option<Arc<Properties>>> {
    bounded("user properties", fields.user_properties.len(), MAX_USER_PROPERTIES)?;
    let properties = Properties {
        payload_format_indicator: fields.payload_is_utf8.then_some(true),
        message_expiry_interval: fields.message_expiry_seconds,
        content_type: fields
            .content_type
            .map(|content| text("the content type", content))
            .transpose()?,
        response_topic: fields
            .response_topic
            .map(|name| topic_name("the response topic", name))
            .transpose()?,
        correlation_data: fields
            .correlation_data
            .map(|data| binary("correlation data", data))
            .transpose()?,
        user_properties: fields
            .user_properties
            .into_iter()
            .map(user_property)
            .collect::<Parsed<_>>()?,
        ..Properties::default()
    };
    Ok((properties != Properties::default()).then(|| Arc::new(properties)))
}

fn user_property(property: wire::Property) -> Parsed<UserProperty> {
    Ok((
        text("a user property", property.name)?,
        text("a user property", property.value)?,
    ))
}

fn topic_name(what: &'static str, name: String) -> Parsed<Utf8String> {
    topic::validate_topic_name(&name).map_err(|_| Invalid::Topic(what))?;
    text(what, name)
}

fn text(what: &'static str, text: String) -> Parsed<Utf8String> {
    Utf8String::try_from(text).map_err(|error| Invalid::Text(what, error))
}

fn shared_text(what: &'static str, string: String) -> Parsed<Arc<str>> {
    text(what, string).map(|checked| checked.as_str().into())
}

fn binary(what: &'static str, data: Vec<u8>) -> Parsed<Bytes> {
    bounded(what, data.len(), MAX_BINARY_BYTES)?;
    Ok(Bytes::from(data))
}

fn bounded(what: &'static str, is: usize, max: usize) -> Parsed<()> {
    if is > max {
        Err(Invalid::TooMuch(what, is, max))
    } else {
        Ok(())
    }
}

fn qos(qos: wire::Qos) -> QoS {
    match qos {
        wire::Qos::AtMostOnce => QoS::AtMostOnce,
        wire::Qos::AtLeastOnce => QoS::AtLeastOnce,
        wire::Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_one_level_and_no_wildcard() {
        let check = |name: &str, valid| assert_eq!(tenant(name.to_owned()).is_ok(), valid, "{name:?}");
        check("acme", true);
        check("Größe 7", true);
        check("", false);
        check("a/b", false);
        check("a+", false);
        check("#", false);
        check("$SYS", false);
        check("a\nb", false);
        check(&"t".repeat(MAX_TENANT_BYTES), true);
        check(&"t".repeat(MAX_TENANT_BYTES + 1), false);
    }

    fn property(name: &str, value: usize) -> wire::Property {
        wire::Property {
            name: name.to_owned(),
            value: "v".repeat(value),
        }
    }

    #[test]
    fn attributes_have_names_and_bounds() {
        let check = |list, valid| assert_eq!(attributes(list).is_ok(), valid);
        check(vec![property("n", 0)], true);
        check(vec![property("", 1)], false);
        check(vec![property("a\0", 1)], false);
        check((0..MAX_ATTRIBUTES).map(|_| property("n", 1)).collect(), true);
        check((0..=MAX_ATTRIBUTES).map(|_| property("n", 1)).collect(), false);
        check(vec![property("n", MAX_ATTRIBUTES_BYTES)], false);
    }

    fn plain_message(payload: usize) -> wire::Message {
        wire::Message {
            topic: "a/b".to_owned(),
            payload: vec![0; payload],
            qos: wire::Qos::AtMostOnce,
            retain: false,
            payload_is_utf8: false,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            message_expiry_seconds: None,
            user_properties: Vec::new(),
        }
    }

    #[test]
    fn the_bound_of_a_message_is_about_all_of_it() {
        let check = |message: wire::Message, valid| assert_eq!(self::message(message, 100).is_ok(), valid);
        check(plain_message(97), true);
        check(plain_message(98), false);
        check(
            wire::Message {
                content_type: Some("x".repeat(98)),
                ..plain_message(0)
            },
            false,
        );
        check(
            wire::Message {
                user_properties: vec![property("n", 97)],
                ..plain_message(0)
            },
            false,
        );
    }

    #[test]
    fn a_message_without_properties_has_none() {
        assert_eq!(message(plain_message(1), 100).unwrap().properties, None);
        let answer = message(
            wire::Message {
                payload_is_utf8: true,
                ..plain_message(1)
            },
            100,
        )
        .unwrap();
        assert_eq!(answer.properties.unwrap().payload_format_indicator, Some(true));
    }

    #[test]
    fn a_tick_has_a_bound_and_what_is_over_it_is_counted() {
        let tick = |count| tick((0..count).map(|_| plain_message(1)).collect(), 100);
        assert_eq!(tick(0), Ok((Vec::new(), 0)));
        assert!(matches!(tick(MAX_TICK_MESSAGES), Ok((list, 0)) if list.len() == MAX_TICK_MESSAGES));
        assert!(matches!(tick(MAX_TICK_MESSAGES + 3), Ok((list, 3)) if list.len() == MAX_TICK_MESSAGES));
        assert!(super::tick(vec![plain_message(101)], 100).is_err());
    }

    #[test]
    fn findings_name_a_client_and_their_evidence_is_printable_and_bounded() {
        let find = |client_id: &str, evidence: String| {
            let finding = wire::Finding {
                client_id: client_id.to_owned(),
                response: wire::Response::Ban(60),
                evidence,
            };
            findings(vec![finding]).map(|mut list| list.remove(0))
        };
        let found = find("c", "one\ntwo\u{1b}[31m".to_owned()).unwrap();
        assert_eq!((&*found.client_id, found.response), ("c", Response::Ban(60)));
        assert!(!found.evidence.contains(char::is_control), "{:?}", found.evidence);
        assert_eq!(
            find("c", "ü".repeat(MAX_EVIDENCE_BYTES)).unwrap().evidence.len(),
            MAX_EVIDENCE_BYTES
        );
        assert!(find("", String::new()).is_err());
        assert!(find("a\0b", String::new()).is_err());
    }

    #[test]
    fn sixteen_messages_may_be_emitted() {
        let emit = |count| {
            transformation(
                wire::Transformation::Emit((0..count).map(|_| plain_message(1)).collect()),
                100,
            )
        };
        assert!(
            matches!(emit(MAX_EMITTED_MESSAGES), Ok(Transformation::Emit(list)) if list.len() == MAX_EMITTED_MESSAGES)
        );
        assert!(emit(MAX_EMITTED_MESSAGES + 1).is_err());
        assert_eq!(emit(0), Ok(Transformation::Emit(Vec::new())));
    }
}
