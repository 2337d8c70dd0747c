//! Whatever a guest answers, once it has crossed the boundary: what is taken is something the broker can send, match and log, within its
//! bounds. (How it crosses the boundary is wasmtime's, and what a guest may do wrong there is in `broker/plugin-host/tests/lies.rs`.)
#![no_main]
#![allow(dead_code, unused_imports, unused_macros)]

#[path = "../../../broker/plugin-host/src/answer.rs"]
mod answer;
#[path = "../../../broker/plugin-host/src/printable.rs"]
mod printable;

/// The records without what wasmtime derives for them.
mod wire {
    /// As wasmtime's macro of this name, as far as answers are read.
    macro_rules! flags {
        ($name:ident { $($(#[$_:meta])* const $flag:ident;)* }) => {
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub(crate) struct $name(pub(crate) u8);
            flags!(@ $name 1; $($flag)*);
            impl std::ops::BitAnd for $name {
                type Output = Self;
                fn bitand(self, other: Self) -> Self {
                    Self(self.0 & other.0)
                }
            }
        };
        (@ $name:ident $bit:expr;) => {};
        (@ $name:ident $bit:expr; $flag:ident $($rest:ident)*) => {
            impl $name {
                pub(crate) const $flag: Self = Self($bit);
            }
            flags!(@ $name $bit * 2; $($rest)*);
        };
    }
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nervewire_codec::{Packet, PacketId, Publish, QoS, Version, decode, encode, topic};
use nervewire_core::hook::{AppMessage, Authentication, MAX_EMITTED_MESSAGES, Transformation};
use nervewire_core::policy::ClientRules;

const MAX_MESSAGE_BYTES: usize = 4_096;
const PACKET_BYTES: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    match input.byte() % 6 {
        0 => authentication(input.authentication()),
        1 => rules(input.list(2_048, Input::rule)),
        2 => _ = answer::verdict(input.verdict()),
        3 => transformation(input.transformation()),
        4 => tick(input.list(2_048, Input::message)),
        _ => findings(input.list(2_048, Input::finding)),
    }
});

fn authentication(answer: wire::Authentication) {
    match answer::authentication(answer) {
        Ok(Authentication::Allow(identity)) => {
            assert!(identity.attributes.len() <= answer::MAX_ATTRIBUTES);
            let bytes: usize = identity
                .attributes
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum();
            assert!(bytes <= answer::MAX_ATTRIBUTES_BYTES);
            assert!(
                identity
                    .username
                    .is_none_or(|name| name.len() <= usize::from(u16::MAX) && !name.contains('\0'))
            );
            if let Some(tenant) = identity.tenant {
                assert!(
                    !tenant.is_empty()
                        && tenant.len() <= answer::MAX_TENANT_BYTES
                        && !tenant.contains(['/', '+', '#', '\0'])
                );
                assert!(topic::validate_topic_name(&tenant).is_ok());
            }
        }
        Ok(Authentication::Challenge { data, .. }) => assert!(data.len() <= answer::MAX_BINARY_BYTES),
        Ok(Authentication::Deny(reason)) => assert!(reason.is_error()),
        Ok(Authentication::Abstain) | Err(_) => {}
    }
}

fn rules(list: Vec<wire::Rule>) {
    if let Ok(Some(rules)) = answer::rules(Some(list)) {
        assert!(rules.len() <= answer::MAX_RULES);
        // Filters are looked at here: one that is none makes this plugin's rules count as failed.
        let bad = rules
            .iter()
            .any(|rule| topic::validate_topic_filter(&rule.topic_filter).is_err());
        let (compiled, errors) = ClientRules::new(1, vec![Ok(Some(rules))]);
        assert!(!bad || !errors.is_empty(), "a filter that is none");
        assert_eq!(compiled.has_failed(), !errors.is_empty());
    }
}

fn transformation(answer: wire::Transformation) {
    // As one of a batch, which is parsed like one that was asked for by itself.
    let Ok(mut answers) = answer::transformations(0b10, vec![(0, answer)], MAX_MESSAGE_BYTES) else {
        return;
    };
    assert_eq!((answers.passed, answers.others.len()), (0b10, 1));
    match answers.others.swap_remove(0) {
        (0, Transformation::Replace(message)) => can_be_sent(&message),
        (0, Transformation::Emit(messages)) => {
            assert!(messages.len() <= MAX_EMITTED_MESSAGES);
            messages.iter().for_each(can_be_sent);
        }
        (0, Transformation::Reject(reason)) => assert!(reason.is_error()),
        (0, Transformation::Pass | Transformation::Drop) => {}
        (other, _) => panic!("at position {other}"),
    }
}

fn tick(answer: Vec<wire::Message>) {
    let all = answer.len();
    if let Ok((messages, over)) = answer::tick(answer, MAX_MESSAGE_BYTES) {
        assert!(messages.len() <= answer::MAX_TICK_MESSAGES);
        assert_eq!(messages.len() + over, all);
        messages.iter().for_each(can_be_sent);
    }
}

fn findings(answer: Vec<wire::Finding>) {
    if let Ok(findings) = answer::findings(answer) {
        assert!(findings.len() <= answer::MAX_FINDINGS);
        for finding in findings {
            assert!(!finding.client_id.is_empty() && finding.evidence.len() <= answer::MAX_EVIDENCE_BYTES);
            assert!(
                !finding.evidence.contains(|c: char| c.is_control() && c != '\t'),
                "{:?}",
                finding.evidence
            );
        }
    }
}

/// It is a PUBLISH that any client could read.
fn can_be_sent(message: &AppMessage) {
    assert!(topic::validate_topic_name(&message.topic).is_ok());
    assert!(message.topic.len() + message.payload.len() <= MAX_MESSAGE_BYTES);
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        topic: message.topic.clone(),
        packet_id: PacketId::new(1).filter(|_| message.qos != QoS::AtMostOnce),
        properties: message.properties.as_deref().cloned().map(Box::new),
        payload: message.payload.clone(),
    });
    let mut bytes = Vec::new();
    encode(&packet, Version::V5, &mut bytes).expect("it can be written");
    let read = decode(&Bytes::from(bytes), 0, Some(Version::V5), PACKET_BYTES);
    assert_eq!(read.expect("it is valid").expect("it is whole").0, packet);
}

/// What is left of the fuzzer's bytes; behind their end everything is 0.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([(); 4].map(|()| self.byte()))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte());
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        // Sometimes much longer than what the fuzzer wrote.
        match length {
            255 => taken.repeat(300),
            _ => taken.to_vec(),
        }
    }

    /// Lifting has made sure of UTF-8.
    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.byte() & 1 != 0).then(|| some(self))
    }

    /// As long as there are bytes, or as long as it says; the last one again and again.
    fn list<T>(&mut self, max: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % max;
        (0..count).map(|_| one(self)).collect()
    }

    fn qos(&mut self) -> wire::Qos {
        [wire::Qos::AtMostOnce, wire::Qos::AtLeastOnce, wire::Qos::ExactlyOnce][usize::from(self.byte()) % 3]
    }

    fn property(&mut self) -> wire::Property {
        wire::Property {
            name: self.text(),
            value: self.text(),
        }
    }

    fn authentication(&mut self) -> wire::Authentication {
        use wire::Refusal::*;
        let refusals = [
            BadUserNameOrPassword,
            NotAuthorized,
            Banned,
            ServerUnavailable,
            ServerBusy,
            BadAuthenticationMethod,
            QuotaExceeded,
        ];
        match self.byte() % 4 {
            0 => wire::Authentication::Allow(wire::Identity {
                username: self.option(Self::text),
                attributes: self.list(80, Self::property),
                tenant: self.option(Self::text),
                quotas: wire::Quotas {
                    publish_rate_per_second: self.option(Self::number),
                    queue_messages: self.option(Self::number),
                    queue_bytes: self.option(|input| u64::from(input.number())),
                    subscriptions: self.option(Self::number),
                },
                data: self.option(Self::bytes),
            }),
            1 => wire::Authentication::Deny(refusals[usize::from(self.byte()) % refusals.len()]),
            2 => wire::Authentication::Challenge(wire::Challenge {
                data: self.bytes(),
                state: self.bytes(),
            }),
            _ => wire::Authentication::Abstain,
        }
    }

    fn rule(&mut self) -> wire::Rule {
        wire::Rule {
            effect: [wire::Effect::Allow, wire::Effect::Deny, wire::Effect::Ask][usize::from(self.byte()) % 3],
            actions: wire::Actions(self.byte()),
            topic_filter: self.text(),
            max_qos: self.qos(),
            retain: self.option(|input| input.byte() & 1 != 0),
        }
    }

    fn verdict(&mut self) -> wire::Verdict {
        wire::Verdict {
            decision: [wire::Decision::Allow, wire::Decision::Deny, wire::Decision::Abstain]
                [usize::from(self.byte()) % 3],
            cache_milliseconds: self.number(),
            depends_on: wire::Dependencies(self.byte()),
        }
    }

    fn message(&mut self) -> wire::Message {
        wire::Message {
            topic: self.text(),
            payload: self.bytes(),
            qos: self.qos(),
            retain: self.byte() & 1 != 0,
            payload_is_utf8: self.byte() & 1 != 0,
            content_type: self.option(Self::text),
            response_topic: self.option(Self::text),
            correlation_data: self.option(Self::bytes),
            message_expiry_seconds: self.option(Self::number),
            user_properties: self.list(300, Self::property),
        }
    }

    fn transformation(&mut self) -> wire::Transformation {
        use wire::Rejection::*;
        let rejections = [
            UnspecifiedError,
            ImplementationSpecificError,
            NotAuthorized,
            TopicNameInvalid,
            QuotaExceeded,
            PayloadFormatInvalid,
        ];
        match self.byte() % 5 {
            0 => wire::Transformation::Pass,
            1 => wire::Transformation::Replace(self.message()),
            2 => wire::Transformation::Emit(self.list(20, Self::message)),
            3 => wire::Transformation::Drop,
            _ => wire::Transformation::Reject(rejections[usize::from(self.byte()) % rejections.len()]),
        }
    }

    fn finding(&mut self) -> wire::Finding {
        wire::Finding {
            client_id: self.text(),
            response: match self.byte() % 4 {
                0 => wire::Response::Alert,
                1 => wire::Response::Throttle(self.number()),
                2 => wire::Response::Disconnect,
                _ => wire::Response::Ban(self.number()),
            },
            evidence: self.text(),
        }
    }
}
