//! Connecting, losing the connection, connecting again: what all clients have in common.

use super::Turn;
use crate::link::Link;
use crate::oracle::{AccountId, Request};
use crate::support::{Ack, Connect, Disconnect, Packet, PacketId, Properties, ReasonCode, Version, Will, ack, hello};

/// Seconds that sessions outlive their connections: longer than any run.
const SESSION_EXPIRY_S: u32 = 86_400;

/// A client's connection and what its next CONNECT will ask for.
pub(crate) struct Session {
    pub(super) client: String,
    pub(super) version: Version,
    pub(super) account: Option<AccountId>,
    /// It asks for a session that outlives the connection.
    pub(super) durable: bool,
    /// Nothing of before is wanted, until a CONNACK says that it is gone.
    pub(super) clean_start: bool,
    pub(super) receive_maximum: Option<u16>,
    pub(super) will: Option<Box<Will>>,
    link: Link,
    connected: bool,
    next_packet_id: u16,
}

/// What a client has to look at.
pub(crate) enum Event {
    /// The session is there, or a new one.
    Connected {
        present: bool,
    },
    Packet(Packet),
}

impl Session {
    pub(super) fn new(client: &str, version: Version) -> Self {
        Self {
            client: client.to_owned(),
            version,
            account: None,
            durable: true,
            clean_start: false,
            receive_maximum: None,
            will: None,
            link: Link::default(),
            connected: false,
            next_packet_id: 0,
        }
    }

    /// The CONNACK has come, and the connection is not lost.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Not even connecting.
    pub(super) fn is_away(&self) -> bool {
        !self.link.is_open()
    }

    /// Sends CONNECT, where somebody listens.
    pub(super) fn connect(&mut self, turn: &mut Turn<'_>) {
        self.connected = false;
        if self.link.open(turn.address, turn.registry) {
            turn.oracle.connecting(&self.request());
            let packet = Packet::Connect(Box::new(self.connect_packet()));
            self.send(&packet);
        }
    }

    fn connect_packet(&self) -> Connect {
        let properties = Properties {
            session_expiry_interval: self.durable.then_some(SESSION_EXPIRY_S),
            receive_maximum: self.receive_maximum,
            ..Properties::default()
        };
        Connect {
            clean_start: self.clean_start,
            keep_alive: 0,
            will: self.will.clone(),
            properties: (self.version == Version::V5).then(|| Box::new(properties)),
            ..hello(self.version, &self.client)
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            client: &self.client,
            clean_start: self.clean_start,
            durable: self.durable,
            account: self.account,
        }
    }

    /// What came since the last time.
    pub(super) fn events(&mut self, turn: &mut Turn<'_>) -> Vec<Event> {
        let mut packets = Vec::new();
        self.link.receive(self.version, &mut packets);
        let events = packets
            .into_iter()
            .filter_map(|packet| self.event(packet, turn))
            .collect();
        self.connected &= self.link.is_open();
        events
    }

    fn event(&mut self, packet: Packet, turn: &mut Turn<'_>) -> Option<Event> {
        let Packet::ConnAck(answer) = packet else {
            return Some(Event::Packet(packet));
        };
        if answer.reason != ReasonCode::Success {
            let what = format!("{} was refused: {:?}", self.client, answer.reason);
            turn.oracle.violation(what);
            self.link.close();
            return None;
        }
        let present = answer.session_present;
        turn.oracle.connected(&self.request(), present);
        self.connected = true;
        // A session that ends with its connection is asked for anew each time.
        self.clean_start = !self.durable;
        Some(Event::Connected { present })
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        self.link.send(packet, self.version);
    }

    pub(super) fn flush(&mut self) {
        self.link.flush();
    }

    /// Closes without a word, as a network does.
    pub(super) fn lose(&mut self) {
        self.link.close();
        self.connected = false;
    }

    /// Says goodbye, and closes.
    pub(super) fn disconnect(&mut self) {
        let reason = ReasonCode::Success;
        self.send(&Packet::Disconnect(Disconnect {
            reason,
            properties: None,
        }));
        self.flush();
        self.lose();
    }

    /// An identifier that `used` does not have.
    pub(super) fn packet_id(&mut self, used: impl Fn(PacketId) -> bool) -> PacketId {
        loop {
            self.next_packet_id = self.next_packet_id.wrapping_add(1);
            match PacketId::new(self.next_packet_id) {
                Some(id) if !used(id) => return id,
                _ => {}
            }
        }
    }
}

/// Whether an acknowledgement says that the message was taken.
pub(super) fn is_success(answer: &Ack) -> bool {
    (answer.reason as u8) < 0x80
}

pub(super) fn puback(id: PacketId) -> Packet {
    Packet::PubAck(ack(id))
}

pub(super) fn pubrec(id: PacketId) -> Packet {
    Packet::PubRec(ack(id))
}

pub(super) fn pubrel(id: PacketId) -> Packet {
    Packet::PubRel(ack(id))
}

pub(super) fn pubcomp(id: PacketId) -> Packet {
    Packet::PubComp(ack(id))
}
