//! A client's end: what it has received, and what it must not receive twice.

use bytes::Bytes;
use nervewire_codec::{Packet, PacketId, Publish, QoS, Version, decode};
use std::collections::{BTreeMap, BTreeSet};

/// Larger than any packet that the broker makes of what is sent here.
const MAX_PACKET_BYTES: u32 = 1 << 20;

/// A client identifier, over all of its connections.
#[derive(Default)]
pub(crate) struct Client {
    /// Identifiers of QoS 2 messages that were received and not released: the same one again is the same message [MQTT-4.3.3-10].
    unreleased: BTreeSet<PacketId>,
    /// Numbers of messages that were received at QoS 2.
    received: BTreeSet<u32>,
    /// QoS 2 messages of its own that it has not released: they may be sent again, and are the same then [MQTT-4.3.3-7].
    pub(crate) unfinished: BTreeMap<PacketId, Publish>,
}

/// One connection of it, as long as it lasts.
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) version: Version,
    /// It may be fed.
    pub(crate) ready: bool,
    /// It takes nothing from its socket.
    pub(crate) is_stuck: bool,
    /// CONNACK came: it knows whether it still has a session.
    pub(crate) is_connected: bool,
    undecoded: Vec<u8>,
}

impl Link {
    pub(crate) fn new(client: usize, version: Version) -> Self {
        Self {
            client,
            version,
            ready: false,
            is_stuck: false,
            is_connected: false,
            undecoded: Vec::new(),
        }
    }

    /// Takes bytes from the broker: whole packets of its version, or the beginning of one.
    pub(crate) fn receive(&mut self, bytes: &[u8], client: &mut Client) {
        self.undecoded.extend_from_slice(bytes);
        let source = Bytes::from(std::mem::take(&mut self.undecoded));
        let mut at = 0;
        while let Some((packet, used)) =
            decode(&source, at, Some(self.version), MAX_PACKET_BYTES).expect("the broker writes valid packets")
        {
            at += used;
            self.is_connected |= matches!(packet, Packet::ConnAck(_));
            client.receive(&packet);
        }
        self.undecoded = source[at..].to_vec();
    }
}

impl Client {
    fn receive(&mut self, packet: &Packet) {
        match packet {
            // A refusal says nothing about the session.
            Packet::ConnAck(answer) if !answer.session_present && !answer.reason.is_error() => {
                self.unreleased.clear();
                self.unfinished.clear();
            }
            Packet::PubRec(ack) if ack.reason.is_error() => _ = self.unfinished.remove(&ack.packet_id),
            Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => self.receive_once(publish),
            Packet::PubRel(ack) => _ = self.unreleased.remove(&ack.packet_id),
            _ => {}
        }
    }

    /// Numbered messages come once, whatever their publisher and their receivers acknowledge.
    fn receive_once(&mut self, publish: &Publish) {
        let id = publish.packet_id.expect("QoS 2 has an identifier");
        if !self.unreleased.insert(id) {
            return;
        }
        if let Some(number) = number_of(&publish.payload) {
            assert!(self.received.insert(number), "message {number} came twice at QoS 2");
        }
    }
}

/// The payload of a message that comes once.
pub(crate) fn numbered(number: u32) -> Bytes {
    Bytes::copy_from_slice(&[b"once".as_slice(), &number.to_be_bytes()].concat())
}

fn number_of(payload: &[u8]) -> Option<u32> {
    let number = payload.strip_prefix(b"once")?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}
