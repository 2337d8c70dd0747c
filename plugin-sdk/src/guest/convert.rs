//! Between the generated types and the ones plugin authors see. Strings and lists move, nothing is copied.

use crate::bindings::{authentication, authorization, host, transformation, types};
use crate::{
    Action, Actions, Authentication, Certificate, Client, Credentials, Decision, Effect, Identity, Message, Property,
    Protocol, Qos, Quotas, Refusal, Rejection, Request, Rule, Transformation, Verdict, kv, log,
};

/// Enumerations whose cases have the same names on both sides.
macro_rules! same_cases {
    ($($from:ty => $to:ty { $($case:ident),+ })+) => { $(
        impl From<$from> for $to {
            fn from(value: $from) -> Self {
                match value { $(<$from>::$case => Self::$case,)+ }
            }
        }
    )+ };
}

/// Records whose fields have the same names on both sides, those after `;` being lists.
macro_rules! same_fields {
    ($($from:ty => $to:ty { $($field:ident),*; $($list:ident),* })+) => { $(
        impl From<$from> for $to {
            fn from(value: $from) -> Self {
                Self {
                    $($field: value.$field.into(),)*
                    $($list: value.$list.into_iter().map(Into::into).collect(),)*
                }
            }
        }
    )+ };
}

same_cases! {
    types::Protocol => Protocol { Mqtt31, Mqtt311, Mqtt5 }
    types::Qos => Qos { AtMostOnce, AtLeastOnce, ExactlyOnce }
    Qos => types::Qos { AtMostOnce, AtLeastOnce, ExactlyOnce }
    authorization::Action => Action { Publish, Subscribe, Deliver }
    Effect => authorization::Effect { Allow, Deny, Ask }
    Decision => authorization::Decision { Allow, Deny, Abstain }
    host::kv::Error => kv::Error { Full, TooLarge, NotANumber }
    log::Level => host::log::Level { Error, Warn, Info, Debug, Trace }
    Refusal => authentication::Refusal {
        BadUserNameOrPassword, NotAuthorized, Banned, ServerUnavailable, ServerBusy, BadAuthenticationMethod,
        QuotaExceeded
    }
    Rejection => transformation::Rejection {
        UnspecifiedError, ImplementationSpecificError, NotAuthorized, TopicNameInvalid, QuotaExceeded,
        PayloadFormatInvalid
    }
}

same_fields! {
    types::Property => Property { name, value; }
    Property => types::Property { name, value; }
    types::Certificate => Certificate {
        subject, issuer, common_name, serial, fingerprint, not_before, not_after; alternative_names
    }
    types::Message => Message {
        topic, payload, qos, retain, payload_is_utf8, content_type, response_topic, correlation_data,
        message_expiry_seconds; user_properties
    }
    Message => types::Message {
        topic, payload, qos, retain, payload_is_utf8, content_type, response_topic, correlation_data,
        message_expiry_seconds; user_properties
    }
    authentication::Credentials => Credentials { username, password, method, data, state, reauthentication; }
    Quotas => authentication::Quotas { publish_rate_per_second, queue_messages, queue_bytes, subscriptions; }
    Identity => authentication::Identity { username, tenant, quotas, data; attributes }
    authorization::Request => Request { action, topic, qos, retain; }
    Rule => authorization::Rule { effect, actions, topic_filter, max_qos, retain; }
}

impl From<types::Client> for Client {
    fn from(client: types::Client) -> Self {
        Self {
            client_id: client.client_id,
            username: client.username,
            address: client.address,
            port: client.port,
            listener: client.listener,
            protocol: client.protocol.into(),
            certificate: client.certificate.map(Into::into),
            attributes: client.attributes.into_iter().map(Into::into).collect(),
            tenant: client.tenant,
        }
    }
}

impl From<Authentication> for authentication::Outcome {
    fn from(answer: Authentication) -> Self {
        match answer {
            Authentication::Allow(identity) => Self::Allow(identity.into()),
            Authentication::Deny(refusal) => Self::Deny(refusal.into()),
            Authentication::Challenge { data, state } => Self::Challenge(authentication::Challenge { data, state }),
            Authentication::Abstain => Self::Abstain,
        }
    }
}

impl From<Actions> for authorization::Actions {
    fn from(actions: Actions) -> Self {
        let named = [
            (actions.publish, Self::PUBLISH),
            (actions.subscribe, Self::SUBSCRIBE),
            (actions.deliver, Self::DELIVER),
        ];
        named
            .into_iter()
            .filter(|(is_meant, _)| *is_meant)
            .map(|(_, action)| action)
            .collect()
    }
}

impl From<Verdict> for authorization::Verdict {
    fn from(verdict: Verdict) -> Self {
        use authorization::Dependencies as D;
        let on = verdict.depends_on;
        let named = [(on.client, D::CLIENT), (on.user, D::USER), (on.topic, D::TOPIC)];
        Self {
            decision: verdict.decision.into(),
            cache_milliseconds: verdict.cache_milliseconds,
            depends_on: named
                .into_iter()
                .filter(|(is_meant, _)| *is_meant)
                .map(|(_, fact)| fact)
                .collect(),
        }
    }
}

impl From<Transformation> for transformation::Outcome {
    fn from(answer: Transformation) -> Self {
        match answer {
            Transformation::Pass => Self::Pass,
            Transformation::Replace(message) => Self::Replace(message.into()),
            Transformation::Emit(messages) => Self::Emit(messages.into_iter().map(Into::into).collect()),
            Transformation::Drop => Self::Drop,
            Transformation::Reject(rejection) => Self::Reject(rejection.into()),
        }
    }
}
