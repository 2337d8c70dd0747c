//! What clients send.

use crate::client::{Link, numbered};
use crate::operations::Operations;
use crate::world::{CLIENTS, FILTERS, QOS, SHARED_TOPIC, TOPICS, World, text};
use bytes::Bytes;
use nervewire_codec::*;
use nervewire_core::fold::AnonymousPolicy;
use nervewire_core::handshake::{Accepted, ChainOutcome, Handshake, Peer, Step};
use nervewire_core::hook::Authentication;
use nervewire_core::shard::{ConnId, home_shard};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

impl World {
    pub(crate) fn connect(&mut self, operations: &mut Operations<'_>) {
        let client = operations.index(CLIENTS.len());
        let flags = operations.byte();
        let version = if flags & 1 == 0 { Version::V5 } else { Version::V311 };
        let properties = (version == Version::V5).then(|| {
            Box::new(Properties {
                session_expiry_interval: Some(operations.pick(&[0, 1, 60, u32::MAX])),
                receive_maximum: Some(operations.pick(&[1, 2, 65_535])),
                topic_alias_maximum: (flags & 2 != 0).then_some(2),
                ..Properties::default()
            })
        });
        let will = (flags & 4 != 0).then(|| {
            Box::new(Will {
                topic: text(operations.pick(&TOPICS[..4])),
                payload: self.number(),
                qos: operations.pick(&QOS),
                retain: false,
                properties: (version == Version::V5).then(|| {
                    Box::new(Properties {
                        will_delay_interval: Some(operations.pick(&[0, 1, 100])),
                        ..Properties::default()
                    })
                }),
            })
        });
        let connect = Connect {
            version,
            clean_start: flags & 8 != 0,
            keep_alive: operations.pick(&[0, 1, 60]),
            client_id: text(CLIENTS[client]),
            properties,
            will,
            username: None,
            password: None,
        };
        let Some(accepted) = let_in(connect) else { return };
        let home = usize::from(home_shard(None, CLIENTS[client], self.stations.len() as u16));
        let station = &mut self.stations[home];
        let mut numbers = (0..).map(ConnId);
        let id = numbers
            .find(|id| station.shard.output(*id).is_none() && !station.links.contains_key(id))
            .expect("a free number");
        station.links.insert(id, Link::new(client, version));
        station.shard.connect(self.now, id, accepted);
    }

    pub(crate) fn packet(
        &mut self,
        client: usize,
        version: Version,
        operations: &mut Operations<'_>,
    ) -> Option<Packet> {
        let is_5 = version == Version::V5;
        let packet_id = PacketId::new(1 + operations.index(6) as u16)?;
        let reason = if is_5 {
            operations.pick(&[ReasonCode::Success, ReasonCode::QuotaExceeded])
        } else {
            ReasonCode::Success
        };
        let ack = Ack {
            packet_id,
            reason,
            properties: None,
        };
        let kind = operations.byte() % 12;
        let unfinished = &mut self.clients[client].unfinished;
        Some(match kind {
            0 if let Some(again) = unfinished.get(&packet_id) => Packet::Publish(Publish {
                dup: true,
                ..again.clone()
            }),
            0..=3 => {
                let publish = self.publish(packet_id, is_5, operations);
                if publish.qos == QoS::ExactlyOnce {
                    // An identifier that is in use stands for the message it was used for first.
                    let unfinished = &mut self.clients[client].unfinished;
                    unfinished.entry(packet_id).or_insert_with(|| publish.clone());
                }
                Packet::Publish(publish)
            }
            4 => Packet::PubAck(ack),
            5 => Packet::PubRec(ack),
            6 => {
                unfinished.remove(&packet_id);
                Packet::PubRel(Ack {
                    reason: ReasonCode::Success,
                    ..ack
                })
            }
            7 => Packet::PubComp(Ack {
                reason: ReasonCode::Success,
                ..ack
            }),
            8 => Packet::Subscribe(Subscribe {
                packet_id,
                properties: None,
                filters: (0..1 + operations.index(3))
                    .map(|_| subscribe_filter(is_5, operations))
                    .collect(),
            }),
            9 => Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: None,
                filters: vec![text(operations.pick(&FILTERS))],
            }),
            10 => Packet::PingReq,
            _ => Packet::Disconnect(Disconnect {
                reason: if is_5 {
                    operations.pick(&[ReasonCode::Success, ReasonCode::DisconnectWithWillMessage])
                } else {
                    ReasonCode::Success
                },
                properties: None,
            }),
        })
    }

    fn publish(&mut self, packet_id: PacketId, is_5: bool, operations: &mut Operations<'_>) -> Publish {
        let qos = operations.pick(&QOS);
        let flags = operations.byte();
        let retain = flags & 1 != 0;
        let topic = operations.pick(&TOPICS);
        // What is retained, or shared, may come again by another way.
        let comes_once = !retain && topic != SHARED_TOPIC;
        let alias = (is_5 && flags & 6 == 6).then_some(1 + u16::from(flags & 8 != 0));
        Publish {
            dup: qos != QoS::AtMostOnce && flags & 16 != 0,
            qos,
            retain,
            topic: text(if alias.is_some() && flags & 32 != 0 { "" } else { topic }),
            packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
            properties: is_5.then(|| {
                Box::new(Properties {
                    topic_alias: alias,
                    message_expiry_interval: (flags & 64 != 0).then_some(1),
                    ..Properties::default()
                })
            }),
            // An alias may stand for the shared topic.
            payload: match comes_once && alias.is_none() {
                true => self.number(),
                false => Bytes::from(vec![b'x'; operations.index(256)]),
            },
        }
    }

    pub(crate) fn number(&mut self) -> Bytes {
        self.numbers += 1;
        numbered(self.numbers)
    }
}

fn subscribe_filter(is_5: bool, operations: &mut Operations<'_>) -> SubscribeFilter {
    let filter = operations.pick(&FILTERS);
    let flags = operations.byte();
    let options = SubscriptionOptions {
        qos: operations.pick(&QOS),
        // [MQTT-3.8.3-4]
        no_local: is_5 && flags & 1 != 0 && !filter.starts_with("$share/"),
        retain_as_published: is_5 && flags & 2 != 0,
        ..SubscriptionOptions::default()
    };
    SubscribeFilter {
        filter: text(filter),
        options,
    }
}

/// From a CONNECT to the client that was let in, by the real handshake.
fn let_in(connect: Connect) -> Option<Box<Accepted>> {
    let peer = Peer {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 1,
        listener: Arc::from("fuzzed"),
        listener_is_loopback: true,
        certificate: None,
        certificate_name: None,
    };
    let mut handshake = Handshake::new(peer, AnonymousPolicy::Allow);
    let abstained = ChainOutcome {
        answer: Authentication::Abstain,
        authenticator: 0,
        failed: false,
    };
    match handshake.packet(Packet::Connect(Box::new(connect)), || 1) {
        Step::Authenticate { .. } => match handshake.outcome(abstained) {
            Step::Accept(accepted) => Some(accepted),
            _ => None,
        },
        _ => None,
    }
}
