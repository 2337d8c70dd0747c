//! `mqtt-protocol-core` behind one face: parse a packet of a version, compare it field by field, build some of its own.

use mqtt_protocol_core::mqtt::Arc;
use mqtt_protocol_core::mqtt::packet::{
    GenericPacketTrait, Packet as PeerPacket, Property as P, SubEntry, v3_1_1 as v3, v5_0 as v5,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use nervewire_codec::{Ack, ConnAck, Connect, Packet, Properties, Publish, ReasonCode, SubscribeFilter, Version};
use std::fmt::Debug;

pub(crate) mod build;

pub(crate) struct Peer {
    packet: PeerPacket,
    bytes: Vec<u8>,
}

impl Peer {
    /// One whole packet. What the peer leaves unread counts as refused: its own receiver would treat it as another packet.
    pub(crate) fn parse(bytes: &[u8], version: Version) -> Result<Self, MqttError> {
        let (&first, rest) = bytes.split_first().expect("a packet");
        let length_bytes = rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let body = &rest[length_bytes..];
        let (packet, consumed) = match version {
            Version::V5 => parse_v5(first, body)?,
            _ => parse_v3(first, body)?,
        };
        if consumed != body.len() {
            return Err(MqttError::MalformedPacket);
        }
        Ok(Self {
            bytes: packet.to_continuous_buffer(),
            packet,
        })
    }

    /// The packet as the peer writes it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// # Panics
    /// Where the peer read something else than `ours` says.
    pub(crate) fn assert_fields(&self, ours: &Packet) {
        use PeerPacket as T;
        match (&self.packet, ours) {
            (T::V3_1_1Connect(theirs), Packet::Connect(ours)) => assert_v3_connect(theirs, ours),
            (T::V5_0Connect(theirs), Packet::Connect(ours)) => assert_v5_connect(theirs, ours),
            (T::V3_1_1Connack(theirs), Packet::ConnAck(ours)) => {
                let code = ours.reason.connect_return_code(Version::V311);
                same(
                    (theirs.session_present(), theirs.return_code() as u8),
                    (ours.session_present, code),
                );
            }
            (T::V5_0Connack(theirs), Packet::ConnAck(ours)) => {
                let ConnAck {
                    session_present,
                    reason,
                    properties,
                } = &**ours;
                same(
                    (theirs.session_present(), theirs.reason_code() as u8),
                    (*session_present, *reason as u8),
                );
                assert_properties(theirs.props(), properties.as_deref());
            }
            (T::V3_1_1Publish(theirs), Packet::Publish(ours)) => {
                let flags = (theirs.dup(), theirs.qos() as u8, theirs.retain());
                assert_publish(
                    flags,
                    theirs.topic_name(),
                    theirs.packet_id(),
                    theirs.payload().as_slice(),
                    ours,
                );
            }
            (T::V5_0Publish(theirs), Packet::Publish(ours)) => {
                let flags = (theirs.dup(), theirs.qos() as u8, theirs.retain());
                assert_publish(
                    flags,
                    theirs.topic_name(),
                    theirs.packet_id(),
                    theirs.payload().as_slice(),
                    ours,
                );
                assert_properties(theirs.props(), ours.properties.as_deref());
            }
            (T::V3_1_1Puback(theirs), Packet::PubAck(ours)) => same(theirs.packet_id(), ours.packet_id.get()),
            (T::V3_1_1Pubrec(theirs), Packet::PubRec(ours)) => same(theirs.packet_id(), ours.packet_id.get()),
            (T::V3_1_1Pubrel(theirs), Packet::PubRel(ours)) => same(theirs.packet_id(), ours.packet_id.get()),
            (T::V3_1_1Pubcomp(theirs), Packet::PubComp(ours)) => same(theirs.packet_id(), ours.packet_id.get()),
            (T::V5_0Puback(theirs), Packet::PubAck(ours)) => {
                assert_ack(
                    theirs.packet_id(),
                    theirs.reason_code().map(|code| code as u8),
                    theirs.props(),
                    ours,
                );
            }
            (T::V5_0Pubrec(theirs), Packet::PubRec(ours)) => {
                assert_ack(
                    theirs.packet_id(),
                    theirs.reason_code().map(|code| code as u8),
                    theirs.props(),
                    ours,
                );
            }
            (T::V5_0Pubrel(theirs), Packet::PubRel(ours)) => {
                assert_ack(
                    theirs.packet_id(),
                    theirs.reason_code().map(|code| code as u8),
                    theirs.props(),
                    ours,
                );
            }
            (T::V5_0Pubcomp(theirs), Packet::PubComp(ours)) => {
                assert_ack(
                    theirs.packet_id(),
                    theirs.reason_code().map(|code| code as u8),
                    theirs.props(),
                    ours,
                );
            }
            (T::V3_1_1Subscribe(theirs), Packet::Subscribe(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                assert_entries(theirs.entries(), &ours.filters);
            }
            (T::V5_0Subscribe(theirs), Packet::Subscribe(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                assert_entries(theirs.entries(), &ours.filters);
                assert_properties(theirs.props(), ours.properties.as_deref());
            }
            (T::V3_1_1Suback(theirs), Packet::SubAck(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                same(
                    theirs.return_codes().iter().map(|code| *code as u8).collect(),
                    codes(&ours.reasons),
                );
            }
            (T::V5_0Suback(theirs), Packet::SubAck(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                same(
                    theirs.reason_codes().iter().map(|code| *code as u8).collect(),
                    codes(&ours.reasons),
                );
                assert_properties(theirs.props(), ours.properties.as_deref());
            }
            (T::V3_1_1Unsubscribe(theirs), Packet::Unsubscribe(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                assert!(
                    theirs
                        .entries()
                        .iter()
                        .map(|entry| entry.as_str())
                        .eq(ours.filters.iter().map(|f| f.as_str()))
                );
            }
            (T::V5_0Unsubscribe(theirs), Packet::Unsubscribe(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                assert!(
                    theirs
                        .entries()
                        .iter()
                        .map(|entry| entry.as_str())
                        .eq(ours.filters.iter().map(|f| f.as_str()))
                );
                assert_properties(theirs.props(), ours.properties.as_deref());
            }
            (T::V3_1_1Unsuback(theirs), Packet::UnsubAck(ours)) => same(theirs.packet_id(), ours.packet_id.get()),
            (T::V5_0Unsuback(theirs), Packet::UnsubAck(ours)) => {
                same(theirs.packet_id(), ours.packet_id.get());
                same(
                    theirs.reason_codes().iter().map(|code| *code as u8).collect(),
                    codes(&ours.reasons),
                );
                assert_properties(theirs.props(), ours.properties.as_deref());
            }
            (T::V5_0Disconnect(theirs), Packet::Disconnect(ours)) => {
                same(theirs.reason_code().map_or(0, |code| code as u8), ours.reason as u8);
                assert_optional(theirs.props(), ours.properties.as_deref());
            }
            (T::V5_0Auth(theirs), Packet::Auth(ours)) => {
                same(theirs.reason_code().map_or(0, |code| code as u8), ours.reason as u8);
                assert_optional(theirs.props(), ours.properties.as_deref());
            }
            (T::V3_1_1Disconnect(_), Packet::Disconnect(_)) => {}
            (T::V3_1_1Pingreq(_) | T::V5_0Pingreq(_), Packet::PingReq) => {}
            (T::V3_1_1Pingresp(_) | T::V5_0Pingresp(_), Packet::PingResp) => {}
            (theirs, ours) => panic!("the peer read {theirs}, we {ours:?}"),
        }
    }
}

fn parse_v3(first: u8, body: &[u8]) -> Result<(PeerPacket, usize), MqttError> {
    fn whole<T: Into<PeerPacket>>((packet, len): (T, usize)) -> (PeerPacket, usize) {
        (packet.into(), len)
    }
    match first >> 4 {
        1 => v3::Connect::parse(body).map(whole),
        2 => v3::Connack::parse(body).map(whole),
        3 => v3::Publish::parse(first & 0x0F, Arc::from(body)).map(whole),
        4 => v3::Puback::parse(body).map(whole),
        5 => v3::Pubrec::parse(body).map(whole),
        6 => v3::Pubrel::parse(body).map(whole),
        7 => v3::Pubcomp::parse(body).map(whole),
        8 => v3::Subscribe::parse(body).map(whole),
        9 => v3::Suback::parse(body).map(whole),
        10 => v3::Unsubscribe::parse(body).map(whole),
        11 => v3::Unsuback::parse(body).map(whole),
        12 => v3::Pingreq::parse(body).map(whole),
        13 => v3::Pingresp::parse(body).map(whole),
        14 => v3::Disconnect::parse(body).map(whole),
        other => panic!("no packet type of 3.1.1: {other}"),
    }
}

fn parse_v5(first: u8, body: &[u8]) -> Result<(PeerPacket, usize), MqttError> {
    fn whole<T: Into<PeerPacket>>((packet, len): (T, usize)) -> (PeerPacket, usize) {
        (packet.into(), len)
    }
    match first >> 4 {
        1 => v5::Connect::parse(body).map(whole),
        2 => v5::Connack::parse(body).map(whole),
        3 => v5::Publish::parse(first & 0x0F, Arc::from(body)).map(whole),
        4 => v5::Puback::parse(body).map(whole),
        5 => v5::Pubrec::parse(body).map(whole),
        6 => v5::Pubrel::parse(body).map(whole),
        7 => v5::Pubcomp::parse(body).map(whole),
        8 => v5::Subscribe::parse(body).map(whole),
        9 => v5::Suback::parse(body).map(whole),
        10 => v5::Unsubscribe::parse(body).map(whole),
        11 => v5::Unsuback::parse(body).map(whole),
        12 => v5::Pingreq::parse(body).map(whole),
        13 => v5::Pingresp::parse(body).map(whole),
        14 => v5::Disconnect::parse(body).map(whole),
        15 => v5::Auth::parse(body).map(whole),
        other => panic!("no packet type of 5.0: {other}"),
    }
}

fn same<T: PartialEq + Debug>(theirs: T, ours: T) {
    assert_eq!(theirs, ours, "left: the peer");
}

fn codes(reasons: &[ReasonCode]) -> Vec<u8> {
    reasons.iter().map(|reason| *reason as u8).collect()
}

fn assert_publish(flags: (bool, u8, bool), topic: &str, packet_id: Option<u16>, payload: &[u8], ours: &Publish) {
    same(flags, (ours.dup, ours.qos as u8, ours.retain));
    same(topic, &ours.topic);
    same(packet_id, ours.packet_id.map(|id| id.get()));
    same(payload, &ours.payload);
}

fn assert_ack(packet_id: u16, code: Option<u8>, properties: &Option<Vec<P>>, ours: &Ack) {
    same(
        (packet_id, code.unwrap_or(0)),
        (ours.packet_id.get(), ours.reason as u8),
    );
    assert_optional(properties, ours.properties.as_deref());
}

fn assert_entries(theirs: &[SubEntry], ours: &[SubscribeFilter]) {
    same(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(ours) {
        same(theirs.topic_filter(), &ours.filter);
        let (theirs, ours) = (theirs.sub_opts(), ours.options);
        same(
            (theirs.qos() as u8, theirs.nl(), theirs.rap()),
            (ours.qos as u8, ours.no_local, ours.retain_as_published),
        );
        same(theirs.rh() as u8, ours.retain_handling as u8);
    }
}

fn assert_v3_connect(theirs: &v3::Connect, ours: &Connect) {
    let will = ours.will.as_deref();
    same(
        (theirs.clean_session(), theirs.keep_alive()),
        (ours.clean_start, ours.keep_alive),
    );
    same(theirs.client_id(), &ours.client_id);
    same(theirs.will_topic(), will.map(|will| will.topic.as_str()));
    same(theirs.will_payload(), will.map(|will| &will.payload[..]));
    same(
        (theirs.will_qos() as u8, theirs.will_retain()),
        will.map_or((0, false), |will| (will.qos as u8, will.retain)),
    );
    same(
        (theirs.user_name(), theirs.password()),
        (ours.username.as_deref(), ours.password.as_deref()),
    );
}

fn assert_v5_connect(theirs: &v5::Connect, ours: &Connect) {
    let will = ours.will.as_deref();
    same(
        (theirs.clean_start(), theirs.keep_alive()),
        (ours.clean_start, ours.keep_alive),
    );
    same(theirs.client_id(), &ours.client_id);
    same(theirs.will_topic(), will.map(|will| will.topic.as_str()));
    same(theirs.will_payload(), will.map(|will| &will.payload[..]));
    same(
        (theirs.will_qos() as u8, theirs.will_retain()),
        will.map_or((0, false), |will| (will.qos as u8, will.retain)),
    );
    same(
        (theirs.user_name(), theirs.password()),
        (ours.username.as_deref(), ours.password.as_deref()),
    );
    assert_properties(theirs.props(), ours.properties.as_deref());
    assert_properties(theirs.will_props(), will.and_then(|will| will.properties.as_deref()));
}

fn assert_optional(theirs: &Option<Vec<P>>, ours: Option<&Properties>) {
    assert_properties(theirs.as_deref().unwrap_or(&[]), ours);
}

fn assert_properties(theirs: &[P], ours: Option<&Properties>) {
    let ours = ours.cloned().unwrap_or_default();
    for property in theirs {
        assert!(agrees(property, &ours), "the peer read {property}, we {ours:?}");
    }
    let count = |wanted: fn(&P) -> bool| theirs.iter().filter(|p| wanted(p)).count();
    same(count(|p| matches!(p, P::UserProperty(_))), ours.user_properties.len());
    same(
        count(|p| matches!(p, P::SubscriptionIdentifier(_))),
        ours.subscription_identifiers.len(),
    );
}

fn agrees(p: &P, ours: &Properties) -> bool {
    match p {
        P::PayloadFormatIndicator(p) => Some(p.val()) == ours.payload_format_indicator.map(u8::from),
        P::MessageExpiryInterval(p) => Some(p.val()) == ours.message_expiry_interval,
        P::ContentType(p) => Some(p.val()) == ours.content_type.as_deref(),
        P::ResponseTopic(p) => Some(p.val()) == ours.response_topic.as_deref(),
        P::CorrelationData(p) => Some(p.val()) == ours.correlation_data.as_deref(),
        P::SubscriptionIdentifier(p) => ours.subscription_identifiers.contains(&p.val()),
        P::SessionExpiryInterval(p) => Some(p.val()) == ours.session_expiry_interval,
        P::AssignedClientIdentifier(p) => Some(p.val()) == ours.assigned_client_identifier.as_deref(),
        P::ServerKeepAlive(p) => Some(p.val()) == ours.server_keep_alive,
        P::AuthenticationMethod(p) => Some(p.val()) == ours.authentication_method.as_deref(),
        P::AuthenticationData(p) => Some(p.val()) == ours.authentication_data.as_deref(),
        P::RequestProblemInformation(p) => Some(p.val()) == ours.request_problem_information.map(u8::from),
        P::WillDelayInterval(p) => Some(p.val()) == ours.will_delay_interval,
        P::RequestResponseInformation(p) => Some(p.val()) == ours.request_response_information.map(u8::from),
        P::ResponseInformation(p) => Some(p.val()) == ours.response_information.as_deref(),
        P::ServerReference(p) => Some(p.val()) == ours.server_reference.as_deref(),
        P::ReasonString(p) => Some(p.val()) == ours.reason_string.as_deref(),
        P::ReceiveMaximum(p) => Some(p.val()) == ours.receive_maximum,
        P::TopicAliasMaximum(p) => Some(p.val()) == ours.topic_alias_maximum,
        P::TopicAlias(p) => Some(p.val()) == ours.topic_alias,
        P::MaximumQos(p) => Some(p.val()) == ours.maximum_qos.map(|qos| qos as u8),
        P::RetainAvailable(p) => Some(p.val()) == ours.retain_available.map(u8::from),
        P::UserProperty(p) => ours
            .user_properties
            .iter()
            .any(|(name, value)| name == p.key() && value == p.val()),
        P::MaximumPacketSize(p) => Some(p.val()) == ours.maximum_packet_size,
        P::WildcardSubscriptionAvailable(p) => Some(p.val()) == ours.wildcard_subscription_available.map(u8::from),
        P::SubscriptionIdentifierAvailable(p) => Some(p.val()) == ours.subscription_identifier_available.map(u8::from),
        P::SharedSubscriptionAvailable(p) => Some(p.val()) == ours.shared_subscription_available.map(u8::from),
    }
}
