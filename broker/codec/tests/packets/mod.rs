//! Arbitrary valid packets, and what a version leaves of them.
#![allow(dead_code)] // Each test file uses its part.

use bytes::Bytes;
use nervewire_codec::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, PacketType, Properties, PropertyId as Id, PropertyOwner,
    Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck,
    Unsubscribe, Utf8String, Version, Will, encode,
};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

pub(crate) fn encoded(packet: &Packet, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, version, &mut out).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
    out
}

pub(crate) fn text() -> impl Strategy<Value = Utf8String> {
    "[a-z0-9 /+#$äß€🦀]{0,12}".prop_map(utf8)
}

fn utf8(text: String) -> Utf8String {
    Utf8String::try_from(text).expect("valid")
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

pub(crate) fn topic_name() -> impl Strategy<Value = Utf8String> {
    "[a-z$ä]{1,4}(/[a-z€]{0,4}){0,4}".prop_map(utf8)
}

pub(crate) fn topic_filter() -> impl Strategy<Value = Utf8String> {
    let plain = "([a-z]{1,4}|\\+)(/[a-zä]{0,3}|/\\+){0,3}(/#)?";
    prop_oneof![4 => plain.prop_map(utf8), 1 => Just(utf8("#".into())), 1 => plain.prop_map(|f| utf8(format!("$share/group/{f}")))]
}

pub(crate) fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

pub(crate) fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<PacketId>()
}

fn reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    select(
        ReasonCode::ALL
            .iter()
            .copied()
            .filter(|code| code.allowed_in(packet))
            .collect::<Vec<_>>(),
    )
}

fn flag() -> impl Strategy<Value = Option<bool>> {
    weighted(0.3, any::<bool>())
}

fn number<T: Arbitrary>() -> impl Strategy<Value = Option<T>> {
    weighted(0.3, any::<T>())
}

fn all_properties() -> impl Strategy<Value = Properties> {
    let strings = vec(weighted(0.3, text()), 6);
    let others = (
        weighted(0.3, topic_name()),
        weighted(0.3, binary()),
        weighted(0.3, binary()),
    );
    let flags = vec(flag(), 7);
    let seconds = vec(number::<u32>(), 3);
    let shorts = (
        number::<u16>(),
        weighted(0.3, 1..=u16::MAX),
        number::<u16>(),
        weighted(0.3, 1..=u16::MAX),
    );
    let rest = (
        vec(1..=268_435_455u32, 0..3),
        vec((text(), text()), 0..3),
        weighted(0.3, 1..=u32::MAX),
        weighted(0.3, select(vec![QoS::AtMostOnce, QoS::AtLeastOnce])),
    );
    (strings, others, flags, seconds, shorts, rest).prop_map(|(strings, others, flags, seconds, shorts, rest)| {
        let mut strings = strings.into_iter();
        let mut string = || strings.next().flatten();
        let authentication_method = string();
        Properties {
            payload_format_indicator: flags[0],
            message_expiry_interval: seconds[0],
            content_type: string(),
            response_topic: others.0,
            correlation_data: others.1,
            subscription_identifiers: rest.0,
            session_expiry_interval: seconds[1],
            assigned_client_identifier: string(),
            server_keep_alive: shorts.0,
            authentication_data: authentication_method.as_ref().and(others.2),
            authentication_method,
            request_problem_information: flags[1],
            will_delay_interval: seconds[2],
            request_response_information: flags[2],
            response_information: string(),
            server_reference: string(),
            reason_string: string(),
            receive_maximum: shorts.1,
            topic_alias_maximum: shorts.2,
            topic_alias: shorts.3,
            maximum_qos: rest.3,
            retain_available: flags[3],
            user_properties: rest.1,
            maximum_packet_size: rest.2,
            wildcard_subscription_available: flags[4],
            subscription_identifier_available: flags[5],
            shared_subscription_available: flags[6],
        }
    })
}

/// The properties that `owner` may carry, `None` rather than empty, as a decoder gives them.
fn kept(mut p: Properties, owner: PropertyOwner) -> Option<Box<Properties>> {
    fn keep<T>(slot: &mut Option<T>, id: Id, owner: PropertyOwner) {
        if !id.allowed_in(owner) {
            *slot = None;
        }
    }
    keep(&mut p.payload_format_indicator, Id::PayloadFormatIndicator, owner);
    keep(&mut p.message_expiry_interval, Id::MessageExpiryInterval, owner);
    keep(&mut p.content_type, Id::ContentType, owner);
    keep(&mut p.response_topic, Id::ResponseTopic, owner);
    keep(&mut p.correlation_data, Id::CorrelationData, owner);
    keep(&mut p.session_expiry_interval, Id::SessionExpiryInterval, owner);
    keep(&mut p.assigned_client_identifier, Id::AssignedClientIdentifier, owner);
    keep(&mut p.server_keep_alive, Id::ServerKeepAlive, owner);
    keep(&mut p.authentication_method, Id::AuthenticationMethod, owner);
    keep(&mut p.authentication_data, Id::AuthenticationData, owner);
    keep(&mut p.request_problem_information, Id::RequestProblemInformation, owner);
    keep(&mut p.will_delay_interval, Id::WillDelayInterval, owner);
    keep(
        &mut p.request_response_information,
        Id::RequestResponseInformation,
        owner,
    );
    keep(&mut p.response_information, Id::ResponseInformation, owner);
    keep(&mut p.server_reference, Id::ServerReference, owner);
    keep(&mut p.reason_string, Id::ReasonString, owner);
    keep(&mut p.receive_maximum, Id::ReceiveMaximum, owner);
    keep(&mut p.topic_alias_maximum, Id::TopicAliasMaximum, owner);
    keep(&mut p.topic_alias, Id::TopicAlias, owner);
    keep(&mut p.maximum_qos, Id::MaximumQoS, owner);
    keep(&mut p.retain_available, Id::RetainAvailable, owner);
    keep(&mut p.maximum_packet_size, Id::MaximumPacketSize, owner);
    keep(
        &mut p.wildcard_subscription_available,
        Id::WildcardSubscriptionAvailable,
        owner,
    );
    keep(
        &mut p.subscription_identifier_available,
        Id::SubscriptionIdentifierAvailable,
        owner,
    );
    keep(
        &mut p.shared_subscription_available,
        Id::SharedSubscriptionAvailable,
        owner,
    );
    if !Id::SubscriptionIdentifier.allowed_in(owner) {
        p.subscription_identifiers.clear();
    } else if owner == PropertyOwner::Packet(PacketType::Subscribe) {
        p.subscription_identifiers.truncate(1);
    }
    (p != Properties::default()).then(|| Box::new(p))
}

fn properties_of(owner: PropertyOwner) -> impl Strategy<Value = Option<Box<Properties>>> {
    of(all_properties()).prop_map(move |p| p.and_then(|p| kept(p, owner)))
}

pub(crate) fn properties(packet: PacketType) -> impl Strategy<Value = Option<Box<Properties>>> {
    properties_of(PropertyOwner::Packet(packet))
}

fn will() -> impl Strategy<Value = Box<Will>> {
    (
        topic_name(),
        binary(),
        qos(),
        any::<bool>(),
        properties_of(PropertyOwner::Will),
    )
        .prop_map(|(topic, payload, qos, retain, properties)| {
            Box::new(Will {
                topic,
                payload,
                qos,
                retain,
                properties,
            })
        })
}

/// A CONNECT that its version allows.
pub(crate) fn connect() -> impl Strategy<Value = Connect> {
    let start = (
        select(VERSIONS.to_vec()),
        any::<bool>(),
        any::<u16>(),
        text(),
        of(will()),
    );
    (start, of(text()), of(binary()), properties(PacketType::Connect)).prop_map(
        |(start, username, password, properties)| {
            let (version, clean_start, keep_alive, client_id, will) = start;
            let v5 = version == Version::V5;
            let client_id = if client_id.is_empty() && !v5 {
                utf8("c".into())
            } else {
                client_id
            };
            let password = password.filter(|_| v5 || username.is_some());
            Connect {
                version,
                clean_start,
                keep_alive,
                client_id,
                will,
                username,
                password,
                properties,
            }
        },
    )
}

pub(crate) fn publish() -> impl Strategy<Value = Publish> {
    (
        any::<[bool; 3]>(),
        qos(),
        topic_name(),
        packet_id(),
        properties(PacketType::Publish),
        binary(),
    )
        .prop_map(
            |([dup, retain, by_alias], qos, topic, packet_id, properties, payload)| {
                let sure = qos != QoS::AtMostOnce;
                let aliased = by_alias && properties.as_ref().is_some_and(|p| p.topic_alias.is_some());
                let topic = if aliased { Utf8String::default() } else { topic };
                Publish {
                    dup: dup && sure,
                    qos,
                    retain,
                    topic,
                    packet_id: sure.then_some(packet_id),
                    properties,
                    payload,
                }
            },
        )
}

fn ack(packet: PacketType) -> impl Strategy<Value = Ack> {
    (packet_id(), reason(packet), properties(packet)).prop_map(|(packet_id, reason, properties)| Ack {
        packet_id,
        reason,
        properties,
    })
}

fn subscribe_filter() -> impl Strategy<Value = SubscribeFilter> {
    let handling = select(vec![
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    (topic_filter(), qos(), any::<[bool; 2]>(), handling).prop_map(|(filter, qos, flags, retain_handling)| {
        let no_local = flags[0] && !filter.starts_with("$share/"); // [MQTT-3.8.3-4]
        let options = SubscriptionOptions {
            qos,
            no_local,
            retain_as_published: flags[1],
            retain_handling,
        };
        SubscribeFilter { filter, options }
    })
}

fn auth() -> impl Strategy<Value = Auth> {
    (reason(PacketType::Auth), text(), properties(PacketType::Auth)).prop_map(|(reason, method, properties)| {
        let mut properties = properties.unwrap_or_default();
        let bare = reason == ReasonCode::Success && method.is_empty();
        properties.authentication_method = Some(method);
        Auth {
            reason,
            properties: (!bare).then_some(properties),
        }
    })
}

fn connack() -> impl Strategy<Value = ConnAck> {
    (
        any::<bool>(),
        reason(PacketType::ConnAck),
        properties(PacketType::ConnAck),
    )
        .prop_map(|(present, reason, properties)| ConnAck {
            session_present: present && !reason.is_error(),
            reason,
            properties,
        })
}

/// Every packet type that 5.0 has.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let reasons = |packet| vec(reason(packet), 1..4);
    let id = packet_id;
    prop_oneof![
        2 => connect().prop_map(|p| Packet::Connect(Box::new(p))),
        2 => connack().prop_map(|p| Packet::ConnAck(Box::new(p))),
        4 => publish().prop_map(Packet::Publish),
        1 => ack(PacketType::PubAck).prop_map(Packet::PubAck),
        1 => ack(PacketType::PubRec).prop_map(Packet::PubRec),
        1 => ack(PacketType::PubRel).prop_map(Packet::PubRel),
        1 => ack(PacketType::PubComp).prop_map(Packet::PubComp),
        2 => (id(), properties(PacketType::Subscribe), vec(subscribe_filter(), 1..4))
            .prop_map(|(packet_id, properties, filters)| Packet::Subscribe(Subscribe { packet_id, properties, filters })),
        2 => (id(), properties(PacketType::SubAck), reasons(PacketType::SubAck))
            .prop_map(|(packet_id, properties, reasons)| Packet::SubAck(SubAck { packet_id, properties, reasons })),
        1 => (id(), properties(PacketType::Unsubscribe), vec(topic_filter(), 1..4))
            .prop_map(|(packet_id, properties, filters)| Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters })),
        1 => (id(), properties(PacketType::UnsubAck), reasons(PacketType::UnsubAck))
            .prop_map(|(packet_id, properties, reasons)| Packet::UnsubAck(UnsubAck { packet_id, properties, reasons })),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => (reason(PacketType::Disconnect), properties(PacketType::Disconnect))
            .prop_map(|(reason, properties)| Packet::Disconnect(Disconnect { reason, properties })),
        1 => auth().prop_map(Packet::Auth),
    ]
}

/// What a receiver of `version` gets of `packet`; `None` where the version cannot say it.
pub(crate) fn reduced(packet: &Packet, version: Version) -> Option<Packet> {
    let mut packet = packet.clone();
    match &mut packet {
        Packet::Connect(connect) if connect.version == Version::V5 => return Some(packet),
        Packet::Connect(connect) => {
            connect.properties = None;
            connect.will.iter_mut().for_each(|will| will.properties = None);
        }
        _ if version == Version::V5 => return Some(packet),
        Packet::ConnAck(connack) => {
            connack.properties = None;
            connack.session_present &= version == Version::V311;
            connack.reason = ReasonCode::from_return_code(connack.reason.connect_return_code(version))?;
        }
        Packet::Publish(publish) if publish.topic.is_empty() => return None,
        Packet::Publish(publish) => publish.properties = None,
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            *ack = Ack {
                packet_id: ack.packet_id,
                reason: ReasonCode::Success,
                properties: None,
            };
        }
        Packet::Subscribe(subscribe) => {
            subscribe.properties = None;
            for item in &mut subscribe.filters {
                item.options = SubscriptionOptions {
                    qos: item.options.qos,
                    ..SubscriptionOptions::default()
                };
            }
        }
        Packet::SubAck(suback) => {
            suback.properties = None;
            for reason in suback.reasons.iter_mut().filter(|reason| reason.is_error()) {
                *reason = ReasonCode::UnspecifiedError;
            }
        }
        Packet::Unsubscribe(unsubscribe) => unsubscribe.properties = None,
        Packet::UnsubAck(unsuback) => (unsuback.properties, unsuback.reasons) = (None, Vec::new()),
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(disconnect) if disconnect.reason != ReasonCode::Success => return None,
        Packet::Disconnect(disconnect) => disconnect.properties = None,
        Packet::Auth(_) => return None,
    }
    Some(packet)
}

/// Changes bytes of a packet: at each place, a value instead.
pub(crate) fn mutated(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (place, value) in changes {
        let at = place.index(bytes.len());
        bytes[at] = *value;
    }
    bytes
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let interesting = prop_oneof![
        any::<u8>(),
        0..=3u8,
        Just(0x7F),
        Just(0x80),
        Just(0xFF),
        Just(b'#'),
        Just(b'+')
    ];
    vec((any::<prop::sample::Index>(), interesting), 1..4)
}
