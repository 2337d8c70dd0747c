//! The words that tests are written in.

use super::{Broker, C, home_shard};
use crate::handshake::{Accepted, SharedRates};
use crate::hook::{Certificate, Client, Quotas};
use bytes::Bytes;
use nervewire_codec::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscriptionOptions, Unsubscribe, Utf8String, Version, Will, decode, encode,
};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A client about to connect.
#[derive(Clone)]
pub(super) struct Who {
    connect: Connect,
    tenant: Option<Arc<str>>,
    username: Option<Arc<str>>,
    quotas: Quotas,
    certificate: Option<Arc<Certificate>>,
    assigned: bool,
}

/// A client of this version with a clean session that ends with its connection.
pub(super) fn client(version: Version, id: &str) -> Who {
    let connect = Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: text(id),
        will: None,
        username: None,
        password: None,
        properties: None,
    };
    Who {
        connect,
        tenant: None,
        username: None,
        quotas: Quotas::default(),
        certificate: None,
        assigned: false,
    }
}

pub(super) fn v5(id: &str) -> Who {
    client(Version::V5, id)
}

pub(super) fn v311(id: &str) -> Who {
    client(Version::V311, id)
}

impl Who {
    /// Takes up its session, which outlives its connection by an hour (3.1.1: for ever).
    pub(super) fn lasting(mut self) -> Self {
        self.connect.clean_start = false;
        match self.connect.version {
            Version::V5 => self.with(|p| p.session_expiry_interval = Some(3_600)),
            _ => self,
        }
    }

    pub(super) fn clean_start(mut self, clean: bool) -> Self {
        self.connect.clean_start = clean;
        self
    }

    pub(super) fn keep_alive(mut self, seconds: u16) -> Self {
        self.connect.keep_alive = seconds;
        self
    }

    pub(super) fn will(mut self, will: Will) -> Self {
        self.connect.will = Some(Box::new(will));
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Properties)) -> Self {
        change(self.connect.properties.get_or_insert_default());
        self
    }

    pub(super) fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    pub(super) fn username(mut self, username: &str) -> Self {
        self.username = Some(username.into());
        self
    }

    pub(super) fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// With a client certificate that is good until the end of this second.
    pub(super) fn certificate(mut self, not_after: i64) -> Self {
        self.certificate = Some(Arc::new(Certificate {
            subject: "CN=a".into(),
            issuer: "CN=ca".into(),
            common_name: Some("a".into()),
            alternative_names: Vec::new(),
            serial: "01".into(),
            fingerprint: String::new(),
            not_before: 0,
            not_after,
        }));
        self
    }

    pub(super) fn assigned(mut self) -> Self {
        self.assigned = true;
        self
    }

    pub(super) fn accepted(self) -> Accepted {
        let client = Client {
            client_id: Arc::from(self.connect.client_id.as_str()),
            username: self.username,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 50_000,
            listener: Arc::from("127.0.0.1:1883"),
            protocol: self.connect.version,
            certificate: self.certificate,
            attributes: Vec::new(),
            tenant: self.tenant,
        };
        Accepted {
            connect: self.connect,
            client: Arc::new(client),
            assigned: self.assigned,
            quotas: self.quotas,
            authentication_data: None,
            max_packet_bytes: u32::MAX,
            rates: SharedRates::default(),
        }
    }
}

pub(super) fn text(s: &str) -> Utf8String {
    Utf8String::try_from(s).expect("valid")
}

pub(super) fn qos(level: u8) -> QoS {
    QoS::from_bits(level).expect("0, 1 or 2")
}

pub(super) fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).expect("not 0")
}

pub(super) fn ack(packet_id: u16, reason: ReasonCode) -> Ack {
    Ack {
        packet_id: id(packet_id),
        reason,
        properties: None,
    }
}

pub(super) fn publish(topic: &str, level: u8, payload: &str) -> Publish {
    Publish {
        dup: false,
        qos: qos(level),
        retain: false,
        topic: text(topic),
        packet_id: None,
        properties: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

pub(super) fn will(topic: &str, level: u8, payload: &str) -> Will {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Will {
        topic: text(topic),
        payload,
        qos: qos(level),
        retain: false,
        properties: None,
    }
}

pub(super) fn filter(filter: &str, level: u8) -> SubscribeFilter {
    let options = SubscriptionOptions {
        qos: qos(level),
        ..SubscriptionOptions::default()
    };
    SubscribeFilter {
        filter: text(filter),
        options,
    }
}

/// What the broker decodes of what a client of this version encodes.
pub(super) fn over_the_wire(packet: Packet, version: Version) -> Packet {
    let mut bytes = Vec::new();
    encode(&packet, version, &mut bytes).expect("a packet of this version");
    let decoded = decode(&Bytes::from(bytes), 0, Some(version), u32::MAX).expect("a valid packet");
    decoded.expect("a whole packet").0
}

/// The payloads of messages as text.
pub(super) fn payloads(messages: &[Publish]) -> Vec<String> {
    messages
        .iter()
        .map(|p| String::from_utf8(p.payload.to_vec()).expect("text"))
        .collect()
}

impl Broker {
    /// Connects and answers the CONNACK, which must be a success.
    pub(super) fn connect_for(&mut self, who: Who) -> (C, ConnAck) {
        let c = self.open(who);
        let connack = self.connack(c);
        assert_eq!(connack.reason, ReasonCode::Success);
        (c, connack)
    }

    pub(super) fn connect(&mut self, who: Who) -> C {
        self.connect_for(who).0
    }

    /// The CONNACK, which is the first packet.
    pub(super) fn connack(&mut self, c: C) -> ConnAck {
        match self.links[c].received.pop_front() {
            Some(Packet::ConnAck(connack)) => *connack,
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    pub(super) fn packet_id(&mut self, c: C) -> PacketId {
        let next = &mut self.links[c].next_packet_id;
        *next += 1;
        id(*next)
    }

    pub(super) fn subscribe(&mut self, c: C, topic: &str, level: u8) -> ReasonCode {
        self.subscribe_all(c, vec![filter(topic, level)], None)[0]
    }

    pub(super) fn subscribe_with(
        &mut self,
        c: C,
        topic: &str,
        level: u8,
        change: impl FnOnce(&mut SubscriptionOptions),
    ) -> ReasonCode {
        let mut filter = filter(topic, level);
        change(&mut filter.options);
        self.subscribe_all(c, vec![filter], None)[0]
    }

    pub(super) fn subscribe_all(
        &mut self,
        c: C,
        filters: Vec<SubscribeFilter>,
        identifier: Option<u32>,
    ) -> Vec<ReasonCode> {
        let packet_id = self.packet_id(c);
        let properties = identifier.map(|identifier| {
            Box::new(Properties {
                subscription_identifiers: vec![identifier],
                ..Properties::default()
            })
        });
        self.send(
            c,
            Packet::Subscribe(Subscribe {
                packet_id,
                properties,
                filters,
            }),
        );
        let found = self.pick(c, |packet| matches!(packet, Packet::SubAck(_)));
        match found.into_iter().next() {
            Some(Packet::SubAck(suback)) => suback.reasons,
            other => panic!("no SUBACK but {other:?}"),
        }
    }

    pub(super) fn unsubscribe(&mut self, c: C, topics: &[&str]) -> Vec<ReasonCode> {
        let packet_id = self.packet_id(c);
        let filters = topics.iter().map(|topic| text(topic)).collect();
        self.send(
            c,
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: None,
                filters,
            }),
        );
        match self.pick(c, |packet| matches!(packet, Packet::UnsubAck(_))).pop() {
            Some(Packet::UnsubAck(unsuback)) => unsuback.reasons,
            other => panic!("no UNSUBACK but {other:?}"),
        }
    }

    /// Publishes and answers the reason of PUBACK or PUBREC; `None`: none came.
    pub(super) fn publish(&mut self, c: C, topic: &str, level: u8, payload: &str) -> Option<ReasonCode> {
        self.publish_packet(c, publish(topic, level, payload))
    }

    pub(super) fn publish_with(
        &mut self,
        c: C,
        mut packet: Publish,
        change: impl FnOnce(&mut Properties),
    ) -> Option<ReasonCode> {
        change(packet.properties.get_or_insert_default());
        self.publish_packet(c, packet)
    }

    pub(super) fn publish_packet(&mut self, c: C, mut packet: Publish) -> Option<ReasonCode> {
        if packet.qos != QoS::AtMostOnce && packet.packet_id.is_none() {
            packet.packet_id = Some(self.packet_id(c));
        }
        self.send(c, Packet::Publish(packet));
        let acks = self.pick(c, |p| {
            matches!(p, Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_))
        });
        acks.first().map(|packet| match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => ack.reason,
            _ => ReasonCode::UnspecifiedError,
        })
    }

    pub(super) fn publish_retained(&mut self, c: C, topic: &str, level: u8, payload: &str) -> Option<ReasonCode> {
        self.publish_packet(
            c,
            Publish {
                retain: true,
                ..publish(topic, level, payload)
            },
        )
    }

    /// Takes the packets of one kind out of what a client received; the others stay.
    pub(super) fn pick(&mut self, c: C, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let (picked, rest) = self.take(c).into_iter().partition(|packet| wanted(packet));
        self.links[c].received.extend::<Vec<Packet>>(rest);
        picked
    }

    /// The messages that a client received and that were not taken yet.
    pub(super) fn messages(&mut self, c: C) -> Vec<Publish> {
        let is_message = |packet: &Packet| matches!(packet, Packet::Publish(_));
        let messages = self.pick(c, is_message).into_iter();
        messages
            .filter_map(|packet| {
                if let Packet::Publish(publish) = packet {
                    Some(publish)
                } else {
                    None
                }
            })
            .collect()
    }

    pub(super) fn payloads(&mut self, c: C) -> Vec<String> {
        payloads(&self.messages(c))
    }

    /// The client says goodbye.
    pub(super) fn disconnect(&mut self, c: C) {
        self.send(
            c,
            Packet::Disconnect(Disconnect {
                reason: ReasonCode::Success,
                properties: None,
            }),
        );
        assert!(!self.links[c].open, "the connection is closed after DISCONNECT");
    }

    /// The client says goodbye with a reason and perhaps another Session Expiry Interval.
    pub(super) fn disconnect_with(&mut self, c: C, reason: ReasonCode, expiry_s: Option<u32>) {
        let properties = expiry_s.map(|seconds| {
            Box::new(Properties {
                session_expiry_interval: Some(seconds),
                ..Properties::default()
            })
        });
        self.send(c, Packet::Disconnect(Disconnect { reason, properties }));
    }

    pub(super) fn is_open(&self, c: C) -> bool {
        self.links[c].open
    }

    /// The reason of the server's DISCONNECT; the connection must be closed.
    pub(super) fn farewell(&mut self, c: C) -> Option<ReasonCode> {
        assert!(!self.links[c].open, "still connected");
        let disconnects = self.pick(c, |packet| matches!(packet, Packet::Disconnect(_)));
        assert!(disconnects.len() <= 1, "{disconnects:?}");
        disconnects.first().map(|packet| match packet {
            Packet::Disconnect(disconnect) => disconnect.reason,
            _ => ReasonCode::UnspecifiedError,
        })
    }

    /// What is sent is not acknowledged by itself any more.
    pub(super) fn manual(&mut self, c: C) {
        self.links[c].acknowledges = false;
    }

    pub(super) fn sessions(&self) -> u64 {
        self.total(|c| c.sessions)
    }
}

#[test]
fn the_tests_cross_shards() {
    let homes = ["s", "pub", "a", "b", "c", "other"].map(|id| home_shard(None, id, 3));
    for shard in 0..3 {
        assert!(homes.contains(&shard), "{homes:?}");
    }
    assert_ne!(
        home_shard(None, "s", 3),
        home_shard(None, "pub", 3),
        "subscriber and publisher"
    );
}
